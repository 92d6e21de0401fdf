"""Split files: agebench's own, written and read, and lists published by others.

agebench's own is a CSV file ``picture,part,sha256,reason`` below one comment line that holds the
rest as JSON; or, with the suffix .json, one JSON object.  Both give the same `Split` back.  The CSV
file may have been saved by a spreadsheet, with a BOM and semicolons.

Lists that others have published are read by `split_lists`.
"""

from __future__ import annotations

import csv
import io
import json
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

from agebench.datasets.csv_table import DELIMITERS
from agebench.datasets.names import shown
from agebench.errors import DatasetError, UsageError
from agebench.splits.parts import UNUSED, Split
from agebench.splits.published_lists import read_folder, read_list, read_text
from agebench.types import LABEL_KINDS, Problem, plain
from agebench.util.files import csv_line, write_whole
from agebench.util.regular_files import open_regular

FORMAT = "agebench-split"
FORMAT_VERSION = 1
COLUMNS = ("picture", "part", "sha256", "reason")
_FORMER_NAME = "image"
"""Former name of the first column."""
LARGEST_BYTES = 500_000_000
"""Larger lists are refused: a list of a million names has about 100 MB."""

_HEADER = f"# {FORMAT} "


def _head(split: Split) -> dict[str, Any]:
    return {
        "version": FORMAT_VERSION,
        "protocol": split.protocol,
        "dataset": split.dataset,
        "label_kind": split.label_kind,
        "parameters": plain(split.parameters),
        "fingerprint": split.fingerprint,
    }


def _rows(split: Split) -> list[tuple[str, str, str, str]]:
    rows = [(name, part, split.sha256.get(name, ""), "") for name, part in split.parts.items()]
    rows += [
        (item.name, UNUSED, split.sha256.get(item.name, ""), item.reason) for item in split.unused
    ]
    return sorted(rows)


def write_split(split: Split, path: str | Path) -> None:
    """Write a split file that `read_split` gives back, as JSON or CSV by the name's ending.

    Raises:
        UsageError: the name ends otherwise.
        AgebenchError: the file can't be written.
    """
    target = Path(path)
    if target.suffix.lower() not in {".csv", ".json"}:
        raise UsageError(f"a split file is called .csv or .json, got {target.name!r}")
    if target.suffix.lower() == ".json":
        pictures = [dict(zip(COLUMNS, row, strict=True)) for row in _rows(split)]
        content = {"format": FORMAT, **_head(split), "pictures": pictures}
        write_whole(target, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return
    head = _HEADER + json.dumps(_head(split), ensure_ascii=False) + "\n"
    write_whole(target, head + "".join(map(csv_line, [COLUMNS, *_rows(split)])))


def read_split(path: str | Path) -> Split:
    """Read a split file or a published list; see the module for the forms.

    The names are those of the list: `align.align` maps them to a data set's.

    Raises:
        DatasetError: there is nothing at `path`, it is none of the forms, one picture is in two
            parts, or a file of our own was changed after it was written.
    """
    source = Path(path)
    try:
        if source.is_dir():
            return read_folder(source)
        if not source.is_file():
            raise DatasetError(f"there is no split file at {str(source)!r}: check the path")
        if source.stat().st_size > LARGEST_BYTES:
            raise DatasetError(
                f"{str(source)!r} has more than {LARGEST_BYTES:,} bytes: not a list of names"
            )
        with open_regular(source) as stream:
            start = stream.read(len(BOM_UTF8) + len(_HEADER) + 1)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{str(source)!r} can't be read: {error}") from error
    if source.suffix.lower() == ".json":
        return _from_json(source)
    if start.removeprefix(BOM_UTF8).removeprefix(b'"').startswith(_HEADER.encode()):
        return _from_csv(source)
    return read_list(source.stem, [source])


def _from_csv(file: Path) -> Split:
    first, _, rest = read_text(file).partition("\n")
    mark = max(DELIMITERS, key=rest.partition("\n")[0].count)
    if not first.startswith(_HEADER) or mark != ",":
        # A spreadsheet takes the commas of JSON for those between cells.
        first = ",".join(_table(file, first, mark)[0])
    head = _json(file, first.removeprefix(_HEADER))
    rows = _table(file, rest, mark)
    if not rows or tuple(rows[0]) not in (COLUMNS, (_FORMER_NAME, *COLUMNS[1:])):
        raise DatasetError(f"{str(file)!r} must have the columns {','.join(COLUMNS)}")
    return _own(file, head, rows[1:])


def _table(file: Path, text: str, mark: str) -> list[list[str]]:
    """Return the rows that are not empty, without the empty cells that spreadsheets append."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True))
    except csv.Error as error:
        raise DatasetError(f"{str(file)!r} is not valid CSV ({error}): write it again") from error
    for row in rows:
        while len(row) > len(COLUMNS) and not row[-1]:
            row.pop()
    return [row for row in rows if any(row)]


def _from_json(file: Path) -> Split:
    content = _json(file, read_text(file))
    pictures = content.pop("pictures", None)
    if content.pop("format", None) != FORMAT or not isinstance(pictures, list):
        raise DatasetError(
            f"{str(file)!r} is not a split file: expected a JSON object with the format {FORMAT!r} "
            "and a list of pictures"
        )
    return _own(file, content, [_cells(item) for item in pictures])


def _cells(item: Any) -> list[Any]:
    """Return the content of a row of the CSV file; empty if it is not an object."""
    if not isinstance(item, dict):
        return []
    name, *others = COLUMNS
    return [item.get(name, item.get(_FORMER_NAME, "")), *(item.get(one, "") for one in others)]


def _json(file: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{str(file)!r} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{str(file)!r} must hold a JSON object, got {type(content).__name__}")
    return content


def _own(file: Path, head: dict[str, Any], rows: list[list[Any]]) -> Split:
    """Return the split of one of agebench's own files, after checking its fingerprint."""
    try:
        split = _make(head, rows)
    except (TypeError, ValueError) as error:
        raise DatasetError(
            f"{str(file)!r} is not a split file of version {FORMAT_VERSION}: {error}; write it "
            "again"
        ) from error
    if split.fingerprint != head.get("fingerprint"):
        raise DatasetError(
            f"{str(file)!r} was changed after it was written: its fingerprint does not match; "
            "write it again, or remove its first line to use it as a list"
        )
    return split


def _make(head: dict[str, Any], rows: list[list[Any]]) -> Split:
    parts: dict[str, str] = {}
    unused: dict[str, str] = {}
    sha256: dict[str, str] = {}
    for row in rows:
        if len(row) != len(COLUMNS) or not all(isinstance(cell, str) for cell in row):
            raise ValueError(f"expected {len(COLUMNS)} strings per picture, got {row!r:.200}")
        name, part, digest, reason = row
        if name in parts or name in unused:
            raise ValueError(f"{shown(name)} is listed twice")
        if part == UNUSED:
            unused[name] = reason
        else:
            parts[name] = part
        if digest:
            sha256[name] = digest
    parameters, kind = head.get("parameters"), head.get("label_kind")
    if head.get("version") != FORMAT_VERSION or not isinstance(parameters, dict):
        raise ValueError("its header lacks a version or parameters")
    if kind not in LABEL_KINDS:
        raise ValueError(f"unknown label kind {kind!r}")
    return Split(
        protocol=str(head.get("protocol")),
        parts=parts,
        unused=tuple(Problem(name, reason) for name, reason in unused.items()),
        dataset=str(head.get("dataset", "")),
        label_kind=kind,
        parameters=parameters,
        sha256=sha256,
    )
