"""`agebench.write_report`: a page, tables and figures from result files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from agebench.errors import UsageError
from agebench.harness.reading import ResultFile
from agebench.harness.results import CompareResult
from agebench.protocols import ProgressStep
from agebench.references import user_path
from agebench.report import writing
from agebench.report.gallery import why_no_thumbnails
from agebench.report.joining import Joined, join
from agebench.report.reading import SweepFile, read_files
from agebench.util.progress import shown_progress


@dataclass(frozen=True, slots=True)
class Report:
    """The files written by `write_report`.

    Attributes:
        joined: the joined results.
        files: page and tables, in the order of the formats.
        figures: files of the figures; empty if none were requested.
        not_shown: why requested pictures are not shown; "" otherwise.
    """

    joined: Joined
    files: tuple[Path, ...]
    figures: tuple[Path, ...]
    not_shown: str = ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks on the joined results, in sentences."""
        return tuple(self.joined.remarks)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON-compatible values: summary, tests and changes."""
        return writing.as_json(self.joined)


def write_report(
    results: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    formats: Sequence[str] = ("html",),
    columns: Sequence[str] | None = None,
    thumbnails: str | Path | None = None,
    figures: str | Path | None = None,
    progress: ProgressStep | None = None,
) -> Report:
    """Write a report of a result.json, or of several on the same pictures.

    For two results that have an estimator in common it states what changed.  A bench.json of
    ``agebench bench`` adds its batch sweep to the page.

    Args:
        results: result files, or their folders.
        out: folder to write into; None for that of the first result.
        formats: some of "html", "md", "tex" and "csv".
        columns: of the ranking in "md" and "tex", such as "mae", "interval" and "bias"; None for
            the default ones.
        thumbnails: folder of the data set's pictures, to show the worst; None shows none.
        figures: folder for all figures as SVG, PDF and PNG, which needs matplotlib; None draws
            none.
        progress: called with (stage, done, total).  None draws bars in a notebook and on a
            terminal; `agebench.no_progress` draws none.

    Raises:
        UsageError: an unknown format or column, or no result.
        AgebenchError: a file is not a result, or of other pictures, or `out` can't be written.

    >>> from agebench import write_report
    >>> write_report("no/such.json")
    Traceback (most recent call last):
        ...
    agebench.errors.UsageError: ...
    """
    paths = _paths(results)
    wanted = writing.read_formats(",".join(formats))
    kept = None if columns is None else writing.read_columns(",".join(columns), wanted)
    files, sweeps = read_files(paths)
    with shown_progress(progress) as step:
        return report_of(
            files,
            sweeps,
            None if out is None else user_path(out),
            formats=wanted,
            columns=kept,
            thumbnails=None if thumbnails is None else user_path(thumbnails),
            figures=None if figures is None else user_path(figures),
            progress=step,
        )


def _paths(results: object) -> list[Path]:
    """Return the paths of result files, from one or several."""
    several = isinstance(results, Iterable) and not isinstance(results, str)
    listed: list[Any] = list(cast("Iterable[Any]", results)) if several else [results]
    if not listed:
        raise UsageError("no result was given: expected the path of a result.json, or several")
    if any(isinstance(one, CompareResult) for one in listed):
        raise UsageError(
            "expected paths of result files, got a CompareResult: use result.report(path), or "
            "result.save(folder) and the folder"
        )
    return [user_path(one) for one in listed]


def report_of(
    files: Sequence[ResultFile],
    sweeps: Sequence[SweepFile],
    out: Path | None,
    *,
    formats: Sequence[str],
    columns: Sequence[str] | None,
    thumbnails: Path | None,
    figures: Path | None,
    progress: ProgressStep,
) -> Report:
    """Write the report of parsed files; as `write_report`."""
    if not files:
        raise UsageError("expected a result of 'agebench compare', got results of 'bench' alone")
    if sweeps and "html" not in formats:
        names = ", ".join(str(sweep.path) for sweep in sweeps)
        raise UsageError(
            "batch sweeps are only shown on the page: add html to the formats (--format) for "
            f"{names}"
        )
    joined = join(list(files))
    folder = files[0].path.parent if out is None else out
    written = writing.write_report(joined, folder, formats, thumbnails, sweeps, columns=columns)
    drawn: list[Path] = []
    if figures is not None:
        from agebench.report.figure_files import write_figures

        drawn = write_figures(joined, figures, progress)
    terms = joined.dataset.name, joined.dataset.licence
    not_shown = "" if thumbnails is None else why_no_thumbnails(*terms)
    return Report(joined, tuple(written), tuple(drawn), not_shown)
