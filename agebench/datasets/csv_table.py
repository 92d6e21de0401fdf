"""Reads CSV files in common variants: BOM, CRLF, commas, semicolons or tabs; with line numbers."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agebench.datasets.names import shown
from agebench.datasets.suffixes import is_picture
from agebench.errors import DatasetError
from agebench.modelfiles.downloads import stub_in
from agebench.util.regular_files import read_regular

DELIMITERS = (",", ";", "\t")
_SEPARATOR_LINE = re.compile(r"sep=([^\r\n])\r?\n", re.IGNORECASE)
LARGEST_BYTES = 500_000_000
"""Larger lists are refused: one of a million names has about 100 MB."""


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row.

    Attributes:
        line: number of its first line, from 1.
        cells: by header (lower case, trimmed), trimmed; without empty cells and columns without a
            header, such as an index.
        surplus: number of cells beyond the headers.
    """

    line: int
    cells: Mapping[str, str]
    surplus: int = 0


def read_csv_table(
    file: Path,
    needed: Sequence[Collection[str]],
    delimiter: str | None = None,
    *,
    options: str = "",
) -> tuple[list[str], Iterator[CsvRow]]:
    """Read the headers, and the rows one by one.

    Args:
        file: an existing file, in UTF-8.
        needed: possible headers of each required column.
        delimiter: between the cells; None to detect one of `DELIMITERS`.
        options: an example of those that name the columns, for errors.

    Returns:
        The headers in lower case, and the rows without empty ones.

    Raises:
        DatasetError: the file can't be read, is not UTF-8, lacks a required column or has a
            duplicate header; or, from the iterator, its quotes are broken.
    """
    content, first_line, named = _content(file)
    delimiter = delimiter or named
    # The separator is the one that makes the needed columns appear: csv.Sniffer guesses from
    # frequencies and is misled by short lists and by cells such as "(25, 32)".
    for mark in DELIMITERS if delimiter is None else (delimiter,):
        headings = _headings(file, first_line, mark)
        if all(any(name in headings for name in names) for names in needed):
            break
    else:
        columns = " and ".join(" or ".join(map(repr, names)) for names in needed)
        raise DatasetError(
            f"the first line of {str(file)!r} must name the columns {columns}, got "
            f"{shown(first_line)}: add or rename them{options and f', or name yours: {options}'}"
        )
    twice = sorted(name for name, count in Counter(headings).items() if name and count > 1)
    if twice:
        raise DatasetError(f"{str(file)!r} has the column {twice[0]!r} twice: rename one")
    return headings, _rows(file, content, mark, headings)


def _headings(file: Path, line: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error as error:  # a cell that is too long for the csv module
        raise DatasetError(
            f"the first line of {str(file)!r} has no column names ({error}): is it a CSV file?"
        ) from error
    return [cell.strip().lower() for cell in cells]


def _content(file: Path) -> tuple[bytes, str, str | None]:
    """Return the bytes of a list, which are UTF-8, its first line, and the separator it names.

    Spreadsheets take a separator from a line such as ``sep=;`` before the headings: it is emptied.
    """
    try:
        if file.exists() and not file.is_file():
            raise DatasetError(f"{str(file)!r} is not a regular file: not opened")
        if file.exists() and file.stat().st_size > LARGEST_BYTES:
            raise DatasetError(
                f"{str(file)!r} has more than {LARGEST_BYTES:,} bytes, too many for a list of "
                "pictures"
            )
        content = read_regular(file)
        if content and (stub := stub_in(content, "a CSV file")):
            raise DatasetError(f"{str(file)!r} is {stub}: download the file itself")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{str(file)!r} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        if is_picture(file.name):
            raise DatasetError(
                f"{str(file)!r} is a picture: give a CSV file that names pictures and ages"
            ) from error
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"{str(file)!r} must be UTF-8, but line {line} is not: save it as 'CSV UTF-8'"
        ) from error
    if "\0" in text:
        raise DatasetError(
            f"{str(file)!r} contains NUL bytes, so it is not CSV: save it as 'CSV UTF-8'"
        )
    named = _SEPARATOR_LINE.match(text)
    if named:
        content = content[content.index(b"\n") :]
        text = text[named.end() :]
    first_line = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    return content, first_line, named and named[1]


def _rows(file: Path, content: bytes, delimiter: str, headings: list[str]) -> Iterator[CsvRow]:
    # Decoded in pieces: as one string a list takes four times its size.
    lines = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    # strict: a quote that is not closed would silently swallow the following rows.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    past_headings = False
    line = 1
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DatasetError(
                f"{str(file)!r} is not valid CSV from line {line} on ({error}): fix its quotes"
            ) from error
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if not past_headings:
            past_headings = True
            continue
        named = zip(headings, (cell.strip() for cell in cells), strict=False)
        surplus = sum(bool(cell.strip()) for cell in cells[len(headings) :])
        yield CsvRow(line, {name: cell for name, cell in named if name and cell}, surplus)
