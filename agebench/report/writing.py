"""Writing the files of a report in its formats."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from agebench.errors import UsageError, suggestion
from agebench.harness.reading import ResultFile
from agebench.report import page, tables
from agebench.report.changes import changes
from agebench.report.formats import FORMATS
from agebench.report.gallery import check_root
from agebench.report.joining import Joined, join
from agebench.report.reading import SweepFile
from agebench.report.rows_ranking import RANKING_COLUMNS
from agebench.types import plain
from agebench.util.files import check_target, make_folder, write_whole

REPORT_NAME = "report"


def read_formats(text: str) -> tuple[str, ...]:
    """Read comma-separated formats; each once, in the order given.

    Raises:
        UsageError: there is none, or one is unknown.

    >>> read_formats("html, csv")
    ('html', 'csv')
    """
    return _read_names(text, "format", FORMATS)


def read_columns(text: str, formats: Sequence[str]) -> tuple[str, ...]:
    """Read comma-separated names of the ranking's columns; each once, in the order given.

    Raises:
        UsageError: there is none, one is unknown, or no format has such a table.

    >>> read_columns("mae, bias", ["tex"])
    ('mae', 'bias')
    """
    if not {"md", "tex"} & set(formats):
        raise UsageError(
            "columns (--columns) are for tables in md and tex: add one to the formats (--format)"
        )
    return _read_names(text, "column", RANKING_COLUMNS)


def _read_names(text: str, what: str, known: Collection[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))
    for name in names:
        if name not in known:
            raise UsageError(f"unknown {what} {name!r}: {suggestion(name, known)}")
    if not names:
        raise UsageError(f"expected a {what}, got none: {suggestion('', known)}")
    return names


def prepare_target(folder: Path, formats: Sequence[str], name: str = REPORT_NAME) -> None:
    """Create the folder, and check that every file can be written into it.

    Raises:
        AgebenchError: a file can't be written.
    """
    make_folder(folder, f"the folder {str(folder)!r}")
    for kind in formats:
        check_target(folder / f"{name}.{kind}")


def write_report(
    joined: Joined,
    folder: str | Path,
    formats: Sequence[str] = ("html",),
    thumbnails: str | Path | None = None,
    sweeps: Sequence[SweepFile] = (),
    name: str = REPORT_NAME,
    columns: Sequence[str] | None = None,
) -> list[Path]:
    """Write a report; each file is written completely or not at all.

    Args:
        joined: the results.
        folder: to write into; created if missing.
        formats: some of `FORMATS`.
        thumbnails: folder of the pictures, to show the worst; None for no thumbnails.
        sweeps: files of `agebench bench`, for the page.
        name: of the files, without the suffix.
        columns: of the ranking in Markdown and LaTeX, some of `RANKING_COLUMNS`; None for all.

    Returns:
        The files, in the order of the formats.

    Raises:
        UsageError: a format is unknown, or `thumbnails` is not a folder.
        AgebenchError: a file can't be written.
    """
    target = Path(folder)
    root = None if thumbnails is None else Path(thumbnails)
    if root is not None:
        check_root(root)
    kinds = read_formats(",".join(formats))
    prepare_target(target, kinds, name)
    written = []
    for kind in kinds:
        path = target / f"{name}.{kind}"
        if kind == "html":
            text = page.render(joined, root, sweeps)
        else:
            text = _TABLES[kind](joined, columns)
        write_whole(path, text)
        written.append(path)
    return written


def report_on(result: ResultFile) -> Path:
    """Write the page of a result next to it; return its path.

    Raises:
        AgebenchError: the page can't be written.
    """
    (path,) = write_report(join([result]), result.path.parent)
    return path


_TABLES: Mapping[str, Callable[[Joined, Sequence[str] | None], str]] = {
    "md": tables.as_markdown,
    "tex": tables.as_latex,
    "csv": lambda joined, _: tables.as_csv(joined),
}


def as_json(joined: Joined) -> dict[str, Any]:
    """Return the figures of a report as JSON-compatible values: summary, tests and changes."""
    return {
        "dataset": joined.dataset.name,
        "protocol": joined.dataset.protocol,
        "common_subset": int(joined.common.sum()),
        "results": [str(result.path) for result in joined.results],
        "remarks": list(joined.remarks),
        "estimators": tables.summary(joined),
        "analysis": plain(joined.analysis),
        "changes": plain(changes(joined)),
    }
