"""Split files: our own, written and read, and the lists that others have published.

Our own is a CSV file ``image,part,sha256,reason`` below one comment line that holds the rest as
JSON; or, with the suffix .json, one JSON object.  Both give the same `Split` back.

Read are also:

* a CSV file with a column for the name (`NAME_COLUMNS`) and one for the part (`PART_COLUMNS`);
* a file that lists one part, whose file name says which (``utk_train.csv``, ``test.txt``): CSV
  with a column for the name, or plain text with one name per line;
* a folder of such files.  The published CORAL lists (utk_train.csv, utk_valid.csv, utk_test.csv;
  columns file and age) are one.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from agebench.datasets.csv_table import read_table
from agebench.datasets.names import shown
from agebench.datasets.splits import UNUSED, Split
from agebench.errors import DatasetError
from agebench.files import write_whole
from agebench.protocols import Dataset
from agebench.types import LABEL_KINDS, Problem, plain

FORMAT = "agebench-split"
FORMAT_VERSION = 1
COLUMNS = ("image", "part", "sha256", "reason")
NAME_COLUMNS = ("image", "name", "file", "filename", "path", "image_path")
PART_COLUMNS = ("part", "split", "set", "subset", "fold", "partition")

LARGEST_BYTES = 500_000_000
"""Larger lists are refused: a list of a million names has about 100 MB."""

_SYNONYMS = {"training": "train", "valid": "val", "validation": "val", "dev": "val"}
_SYNONYMS |= {"testing": "test"}
_PART_OF_FILE = re.compile(
    r"(?:^|[_. -])(train(?:ing)?|val(?:id(?:ation)?)?|dev|test(?:ing)?|fold[_-]?[0-9]{1,3})$"
)
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
    """Write a split file that `read_split` gives back; .json writes JSON, all else CSV.

    Raises:
        AgebenchError: the file can't be written.
    """
    target = Path(path)
    if target.suffix.lower() == ".json":
        pictures = [dict(zip(COLUMNS, row, strict=True)) for row in _rows(split)]
        content = {"format": FORMAT, **_head(split), "pictures": pictures}
        write_whole(target, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return
    text = io.StringIO(newline="")
    text.write(_HEADER + json.dumps(_head(split), ensure_ascii=False) + "\n")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(_rows(split))
    write_whole(target, text.getvalue())


def read_split(path: str | Path) -> Split:
    """Read a split file or a published list; see the module for the forms.

    The names are those of the list: `align` maps them to a data set's.

    Raises:
        DatasetError: there is nothing at `path`, it is none of the forms, one picture is in two
            parts, or a file of our own was changed after it was written.
    """
    source = Path(path)
    try:
        if source.is_dir():
            return _read_folder(source)
        if not source.is_file():
            raise DatasetError(f"there is no split file at {str(source)!r}: check the path")
        if source.stat().st_size > LARGEST_BYTES:
            raise DatasetError(
                f"{str(source)!r} has more than {LARGEST_BYTES:,} bytes: no list of names"
            )
        with source.open("rb") as stream:
            start = stream.read(len(_HEADER))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{str(source)!r} can't be read: {error}") from error
    if source.suffix.lower() == ".json":
        return _from_json(source)
    if start == _HEADER.encode():
        return _from_csv(source)
    return _list(source.stem, [source])


def _read_folder(folder: Path) -> Split:
    named = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in (".csv", ".txt"))
    files = [entry for entry in named if entry.is_file() and _part_of(entry)]
    if not files:
        raise DatasetError(
            f"{str(folder)!r} holds no list of a part: expected files named like train.csv, "
            "utk_valid.csv or test.txt"
        )
    return _list(folder.resolve().name, files)


def _part_of(file: Path) -> str:
    """Return the part that a file's name tells, or ""."""
    match = _PART_OF_FILE.search(file.stem.lower())
    if not match:
        return ""
    word = match[1]
    if word.startswith("fold"):
        return f"fold-{int(re.sub('[^0-9]', '', word))}"
    return _SYNONYMS.get(word, word)


def _list(protocol: str, files: list[Path]) -> Split:
    """Join the lists of several files."""
    where: dict[str, tuple[str, str]] = {}
    for file in files:
        for line, name, part in _entries(file):
            place = f"{file.name} line {line}"
            before, first_place = where.setdefault(name, (part, place))
            if before != part:
                raise DatasetError(
                    f"{shown(name)} is in two parts, {before!r} ({first_place}) and {part!r} "
                    f"({place}): a picture can be in one only; mend the list"
                )
    if not where:
        raise DatasetError(f"{', '.join(str(file) for file in files)}: no name is listed")
    parts = {name: part for name, (part, _) in sorted(where.items())}
    try:
        return Split(f"list {protocol}", parts, parameters={"version": FORMAT_VERSION})
    except ValueError as error:
        raise DatasetError(f"{str(files[0])!r} is no list of parts: {error}") from error


def _entries(file: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, name and part."""
    own_part = _part_of(file)
    headings = _first_line(file)
    if any(column in headings for column in NAME_COLUMNS):
        has_part = any(column in headings for column in PART_COLUMNS)
        needed = (NAME_COLUMNS, PART_COLUMNS) if has_part else (NAME_COLUMNS,)
        found, rows = read_table(file, needed)
        name_column = next(column for column in NAME_COLUMNS if column in found)
        part_column = next((column for column in PART_COLUMNS if column in found), "")
        for row in rows:
            name, part = row.cells.get(name_column, ""), row.cells.get(part_column, "")
            part = _tidy(part) if has_part else own_part
            if name:
                if not part:
                    _no_part(file, row.line)
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


def _no_part(file: Path, line: int) -> NoReturn:
    raise DatasetError(f"{str(file)!r} line {line} gives no part: expected one for each name")


def _tidy(part: str) -> str:
    """Return a part in our words: "valid" is "val", a bare number is a fold."""
    word = part.lower()
    return f"fold-{int(word)}" if re.fullmatch(r"[0-9]{1,3}", word) else _SYNONYMS.get(word, part)


def _first_line(file: Path) -> list[str]:
    line = next((line for line in _lines(file) if line.strip()), "")
    return [cell.strip().strip('"').lower() for cell in re.split("[,;\t]", line)]


def _lines(file: Path) -> list[str]:
    return _text(file).splitlines()


def _text(file: Path) -> str:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{str(file)!r} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{str(file)!r} must be a list of names in UTF-8: save it so") from error
    if "\0" in text:
        raise DatasetError(f"{str(file)!r} holds zero bytes, so it is no list of names")
    return text


def _from_csv(file: Path) -> Split:
    first, _, rest = _text(file).partition("\n")
    head = _json(file, first.removeprefix(_HEADER))
    try:
        rows = list(csv.reader(io.StringIO(rest, newline=""), strict=True))
    except csv.Error as error:
        raise DatasetError(f"{str(file)!r} is no valid CSV ({error}): write it again") from error
    if not rows or tuple(rows[0]) != COLUMNS:
        raise DatasetError(f"{str(file)!r} must have the columns {','.join(COLUMNS)}")
    return _own(file, head, [row for row in rows[1:] if row])


def _from_json(file: Path) -> Split:
    content = _json(file, _text(file))
    pictures = content.pop("pictures", None)
    if content.pop("format", None) != FORMAT or not isinstance(pictures, list):
        raise DatasetError(
            f"{str(file)!r} is no split file: expected a JSON object with the format {FORMAT!r} "
            "and a list of pictures"
        )
    rows = [
        [item.get(column, "") for column in COLUMNS] if isinstance(item, dict) else []
        for item in pictures
    ]
    return _own(file, content, rows)


def _json(file: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{str(file)!r} is no valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{str(file)!r} must hold a JSON object, got {type(content).__name__}")
    return content


def _own(file: Path, head: dict[str, Any], rows: list[list[Any]]) -> Split:
    """Make the split of one of our own files, and check that it is what was written."""
    broken = f"{str(file)!r} is no split file of this version, or was changed by hand"
    parts: dict[str, str] = {}
    unused: list[Problem] = []
    sha256: dict[str, str] = {}
    for row in rows:
        if len(row) != len(COLUMNS) or not all(isinstance(cell, str) for cell in row):
            raise DatasetError(f"{broken}: expected {len(COLUMNS)} texts per picture, got {row!r}")
        name, part, digest, reason = row
        if name in parts:
            raise DatasetError(f"{broken}: {shown(name)} is listed twice")
        if part == UNUSED:
            unused.append(Problem(name, reason))
        else:
            parts[name] = part
        if digest:
            sha256[name] = digest
    parameters, kind = head.get("parameters"), head.get("label_kind")
    if (
        head.get("version") != FORMAT_VERSION
        or not isinstance(parameters, dict)
        or kind not in LABEL_KINDS
    ):
        raise DatasetError(f"{broken}: its head must have version, parameters and label_kind")
    try:
        split = Split(
            protocol=str(head.get("protocol")),
            parts=parts,
            unused=tuple(unused),
            dataset=str(head.get("dataset", "")),
            label_kind=kind,
            parameters=parameters,
            sha256=sha256,
        )
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{broken}: {error}") from error
    if split.fingerprint != head.get("fingerprint"):
        raise DatasetError(f"{broken}: its fingerprint does not fit; write it again")
    return split


def align(split: Split, dataset: Dataset) -> Split:
    """Return a read-in split in the data set's own names, with all that does not fit listed.

    A listed name is a sample's name with folders added in front, or with some left out where
    only one sample fits.  What the data set lacks, and what it has in no part, is in
    `Split.unused`.

    Raises:
        DatasetError: no listed name is in the data set, two listed names are one picture of it
            and in different parts, or the split is of another data set.
    """
    if split.dataset and split.dataset != dataset.spec.name:
        raise DatasetError(
            f"the split {split.protocol!r} is of the data set {split.dataset!r}, got "
            f"{dataset.spec.name!r}: give the one that it was made from"
        )
    find = _resolver(dataset)
    parts: dict[str, str] = {}
    listed_as: dict[str, str] = {}
    unused = {problem.name: problem.reason for problem in split.unused}
    for written, part in split.parts.items():
        name = find(written)
        if name is None:
            unused[written] = f"listed in {part!r}, but not (or not only once) in the data set"
            continue
        if parts.setdefault(name, part) != part:
            raise DatasetError(
                f"{shown(name)} is listed twice, as {shown(listed_as[name])} in {parts[name]!r} and "
                f"as {shown(written)} in {part!r}: a picture can be in one part only"
            )
        listed_as[name] = written
    if not parts:
        example = next(iter(split.parts))
        raise DatasetError(
            f"none of the {len(split.parts)} names of {split.protocol!r} is in data set "
            f"{dataset.spec.name!r}, such as {shown(example)}: check that both are of the same data"
        )
    for sample in dataset.samples:
        if sample.name not in parts:
            unused.setdefault(sample.name, f"in no part of {split.protocol!r}")
    return replace(
        split,
        parts=dict(sorted(parts.items())),
        unused=tuple(Problem(name, unused[name]) for name in sorted(unused) if name not in parts),
        dataset=dataset.spec.name,
        label_kind=dataset.spec.label_kind,
        sha256={
            name: split.sha256[written]
            for name, written in sorted(listed_as.items())
            if written in split.sha256
        },
    )


def _tails(name: str) -> list[str]:
    """Return the name without its first folder, without its first two, ..., the longest first."""
    steps = name.split("/")
    return ["/".join(steps[start:]) for start in range(1, len(steps))]


def _resolver(dataset: Dataset) -> Callable[[str], str | None]:
    """Return what finds the sample that a listed name means, or None."""
    names = {sample.name for sample in dataset.samples}
    by_tail: dict[str, str | None] = {}
    for name in names:
        for tail in _tails(name):
            by_tail[tail] = None if tail in by_tail else name

    def find(written: str) -> str | None:
        name = written.replace("\\", "/").removeprefix("./")
        if name in names:
            return name
        longer = next((tail for tail in _tails(name) if tail in names), None)
        return longer or by_tail.get(name)

    return find
