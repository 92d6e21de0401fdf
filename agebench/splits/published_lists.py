"""Lists of the pictures of each part, as others have published them.

* A CSV file with a column for the name (`NAME_COLUMNS`) and one for the part (`PART_COLUMNS`).
* A file that lists one part, whose file name says which (``utk_train.csv``, ``test.txt``): CSV
  with a column for the name, or plain text with one name per line.
* A folder of such files.  The published CORAL lists (utk_train.csv, utk_valid.csv, utk_test.csv;
  columns file and age) are one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from agebench.datasets.csv_table import read_csv_table
from agebench.datasets.names import shown
from agebench.errors import DatasetError
from agebench.splits.parts import Split
from agebench.util.regular_files import read_regular

NAME_COLUMNS = ("image", "name", "file", "filename", "path", "image_path", "picture")
PART_COLUMNS = ("part", "split", "set", "subset", "fold", "partition")

_SYNONYMS = {"training": "train", "valid": "val", "validation": "val", "dev": "val"}
_SYNONYMS |= {"testing": "test", **{part: part for part in ("train", "val", "test")}}
_PART_OF_FILE = re.compile(
    r"(?:^|[_. -])(train(?:ing)?|val(?:id(?:ation)?)?|dev|test(?:ing)?|fold[_-]?[0-9]{1,3})$"
)


def read_folder(folder: Path) -> Split:
    """Read the lists in a folder, one file per part; errors as `read_list`."""
    named = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in (".csv", ".txt"))
    files = [entry for entry in named if entry.is_file() and _part_of(entry)]
    if not files:
        raise DatasetError(
            f"{str(folder)!r} holds no list of a part: expected files named like train.csv, "
            "utk_valid.csv or test.txt"
        )
    return read_list(folder.resolve().name, files)


def _part_of(file: Path) -> str:
    """Return the part that a file's name tells, or ""."""
    match = _PART_OF_FILE.search(file.stem.lower())
    if not match:
        return ""
    name = match[1]
    if name.startswith("fold"):
        return f"fold-{int(re.sub('[^0-9]', '', name))}"
    return _SYNONYMS.get(name, name)


def read_list(protocol: str, files: list[Path]) -> Split:
    """Join the lists of several files.

    Raises:
        DatasetError: a file can't be read or does not say which part it lists, no name is listed,
            or one is in two parts.
    """
    where: dict[str, tuple[str, str]] = {}
    for file in files:
        for line, name, part in _entries(file):
            place = f"{file.name} line {line}"
            before, first_place = where.setdefault(name, (part, place))
            if before != part:
                raise DatasetError(
                    f"{shown(name)} is in two parts, {before!r} ({first_place}) and {part!r} "
                    f"({place}): a picture can be in only one part; correct the list"
                )
    if not where:
        raise DatasetError(f"{', '.join(str(file) for file in files)}: no name is listed")
    parts = {name: part for name, (part, _) in sorted(where.items())}
    try:
        return Split(f"list {protocol}", parts, parameters={"list": protocol})
    except ValueError as error:
        raise DatasetError(f"{str(files[0])!r} is not a list of parts: {error}") from error


def _entries(file: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, name and part."""
    own_part = _part_of(file)
    headings = _first_line(file)
    if any(column in headings for column in NAME_COLUMNS):
        has_part = any(column in headings for column in PART_COLUMNS)
        needed = (NAME_COLUMNS, PART_COLUMNS) if has_part else (NAME_COLUMNS,)
        found, rows = read_csv_table(file, needed)
        name_column = next(column for column in NAME_COLUMNS if column in found)
        part_column = next((column for column in PART_COLUMNS if column in found), "")
        for row in rows:
            name, part = row.cells.get(name_column, ""), row.cells.get(part_column, "")
            part = _tidy(part) if has_part else own_part
            if name:
                if not part:
                    raise DatasetError(
                        f"{str(file)!r} line {row.line} gives no part: expected one for each name"
                    )
                yield row.line, name, part
        return
    if not own_part:
        raise DatasetError(
            f"{str(file)!r} does not say which part it lists: expected columns for name and part "
            "(such as image,part), or a file named like train.csv or utk_test.txt"
        )
    for number, line in enumerate(_lines(file), start=1):
        if line.strip() and not line.startswith("#"):
            yield number, line.strip(), own_part


def _tidy(part: str) -> str:
    """Return a part in our words: "valid" is "val", a bare number is a fold."""
    name = part.lower()
    return f"fold-{int(name)}" if re.fullmatch(r"[0-9]{1,3}", name) else _SYNONYMS.get(name, part)


def _first_line(file: Path) -> list[str]:
    line = next((line for line in _lines(file) if line.strip()), "")
    return [cell.strip().strip('"').lower() for cell in re.split("[,;\t]", line)]


def _lines(file: Path) -> list[str]:
    return read_text(file).splitlines()


def read_text(file: Path) -> str:
    """Return a file's text.

    Raises:
        DatasetError: it can't be read or is not text in UTF-8.
    """
    try:
        text = read_regular(file).decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{str(file)!r} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{str(file)!r} must be a list of names in UTF-8: save it so") from error
    if "\0" in text:
        raise DatasetError(f"{str(file)!r} holds zero bytes, so it is not a list of names")
    return text
