"""IMDB-WIKI: celebrities from two sites, with dates of birth and years of the photographs."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agebench.datasets.age_rules import MID_YEAR, date_in_years, year_of
from agebench.datasets.base import SampleList, finished, list_files, require_folder
from agebench.datasets.csv_table import read_csv_table
from agebench.datasets.listed import Listed, by_ending, path_ending, the_only, without_repeats
from agebench.datasets.names import shown
from agebench.errors import DatasetError
from agebench.protocols import DatasetSpec
from agebench.types import MAX_AGE_YEARS, Box, Problem, Sample

SPEC = DatasetSpec(
    name="imdb-wiki",
    label_kind="birth-age",
    licence="academic research only",
    source="https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/",
    citation=(
        "Rothe, Timofte, Van Gool: Deep Expectation of Real and Apparent Age from a Single Image "
        "Without Facial Landmarks, IJCV 126 (2018)"
    ),
)

TABLES = ("imdb.mat", "wiki.mat", "imdb.csv", "wiki.csv", "meta.csv")
"""Files that may contain the labels; the first that exists is used."""

MATLAB_DAYS_AHEAD = 366
"""Matlab counts days from the year 0, Python from the year 1."""

MAX_TABLE_BYTES = 500_000_000

_NAMED = re.compile(r"_([0-9]{4}-[0-9]{1,2}-[0-9]{1,2})_([0-9]{4})\.[A-Za-z]{3,4}\Z")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?")
_GENDERS = {0.0: "female", 1.0: "male"}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One row of either table; NaN if a number is unknown."""

    place: str
    path: str
    born: dt.date | None
    taken: float
    gender: float = math.nan
    person: str = ""
    face_score: float = math.nan
    second_score: float = math.nan
    box_xyxy: Box | None = None


def age_in_name(name: str) -> int | None:
    """Return the age in a name such as ``nm0000001_rm124825600_1899-5-10_1968.jpg``.

    The photograph is assumed to be of the first of July of its year, as by the set's authors.

    >>> age_in_name("01/nm0000001_rm124825600_1899-5-10_1968.jpg"), age_in_name("a.jpg")
    (69, None)
    """
    match = _NAMED.search(name)
    if match is None:
        return None
    try:
        return math.floor(int(match[2]) + MID_YEAR - date_in_years("birth", match[1]))
    except ValueError:
        return None


def load(
    root: Path,
    pictures: Literal["auto", "crops", "originals"] = "auto",
    clean: bool = True,
) -> SampleList:
    """List the pictures of ``imdb_crop``, ``wiki_crop``, ``imdb`` or ``wiki`` by their table.

    The table is ``imdb.mat`` or ``wiki.mat``, or a CSV of the same columns (``full_path``, ``dob``
    as Matlab's day number or a date, ``photo_taken``).  The age is in completed years on the first
    of July of the photograph's year.

    Args:
        root: the folder with the table and the folders 00 to 99.
        pictures: "crops" for those cut around one face, "originals" for whole pictures with the
            face at the table's box; "auto" decides by the word "crop" in the folder's name.
        clean: omit pictures in which the authors' detector found no face (`face_score` is
            infinite), or a second one, because it is unknown whose age it is.

    Raises:
        DatasetError: `root` is not a folder, or contains no table or no usable picture.
    """
    require_folder(root, SPEC.name, f"{TABLES[0]} or {TABLES[1]} and the folders 00 to 99")
    table = next((root / name for name in TABLES if (root / name).is_file()), None)
    if table is None:
        raise DatasetError(
            f"data set {SPEC.name!r} needs one of {', '.join(TABLES)} in {str(root)!r}, which are "
            "in the picture archives; to use the names alone, give --dataset names with "
            "pattern={}_{birth:date}_{photo:year} age=photo-birth"
        )
    whole = pictures == "originals" or (pictures == "auto" and "crop" not in root.resolve().name)
    files, problems = list_files(root)
    found = by_ending(files, 2)
    boxed: Counter[bool] = Counter()

    def usable() -> Iterator[Listed]:
        for entry in _from_matlab(table) if table.suffix == ".mat" else _from_csv(table):
            ending = path_ending(entry.path, 2)
            file = the_only(found, ending) if entry.path else "no picture path"
            sample = file if isinstance(file, str) else _sample(entry, file.path, file.name, clean)
            if isinstance(sample, str):
                problems.append(Problem(entry.path or f"row {entry.place}", sample))
                continue
            box = sample.box_xyxy if whole else None
            boxed[box is not None] += 1
            yield Listed(entry.place, replace(sample, box_xyxy=box))

    samples, repeats = without_repeats(usable())
    kind = _kind_of_pictures(whole, boxed)
    notes = (f"labels from {table.name}", kind, f"ages on the first of July; clean={clean}")
    return finished(replace(SPEC, notes=notes), root, samples, problems + repeats)


def _kind_of_pictures(whole: bool, boxed: Mapping[bool, int]) -> str:
    if not whole:
        return "pictures cut around a face"
    if not boxed[False]:
        return "whole pictures, the face by the table's box"
    return (
        f"whole pictures, the face by the table's box for {boxed[True]} of {sum(boxed.values())}; "
        "for the others, the largest face, which may not be the labelled one"
    )


def _sample(entry: _Entry, path: Path, name: str, clean: bool) -> Sample | str:
    """Return the sample, or the reason why the row has none."""
    if entry.born is None:
        return "the date of birth is not known"
    if not (math.isfinite(entry.taken) and entry.taken == int(entry.taken)):
        return "the year of the photograph is not known"
    years = math.floor(entry.taken + MID_YEAR - year_of(entry.born))
    if not 0 <= years <= MAX_AGE_YEARS:
        return f"born {entry.born}, taken {entry.taken:g}: {years} years is not a possible age"
    if clean and math.isinf(entry.face_score):
        return "its makers found no face in it"
    if clean and math.isfinite(entry.second_score):
        return "its makers found a second face in it: it is unknown whose age this is"
    attributes = {"gender": _GENDERS[entry.gender]} if entry.gender in _GENDERS else {}
    if math.isfinite(entry.face_score):
        attributes["face_score"] = f"{entry.face_score:g}"
    return Sample(
        path,
        name,
        float(years),
        identity=entry.person or None,
        attributes=attributes,
        box_xyxy=entry.box_xyxy,
    )


def _from_matlab(table: Path) -> Iterator[_Entry]:
    """Read the authors' own table: a struct named like its file, of one row per field."""
    from scipy.io import loadmat

    try:
        if table.stat().st_size > MAX_TABLE_BYTES:
            raise DatasetError(f"{str(table)!r} has more than {MAX_TABLE_BYTES:,} bytes")
        content = loadmat(str(table), simplify_cells=True)
        fields: dict[str, Any] = dict(content[table.stem])
        columns = {name: np.atleast_1d(np.asarray(fields[name])) for name in _NEEDED}
        rows = len(columns["full_path"])
        for name in _OPTIONAL:
            columns[name] = np.atleast_1d(np.asarray(fields.get(name, [math.nan] * rows)))
        if any(len(column) != rows for column in columns.values()):
            raise ValueError("its fields are of different lengths")
    except DatasetError:
        raise
    except Exception as error:  # scipy's reader raises many kinds for other files
        raise DatasetError(
            f"{str(table)!r} is not the table of IMDB-WIKI: expected a Matlab file with the struct "
            f"{table.stem!r} and its fields {', '.join(_NEEDED)} ({type(error).__name__}: {error})"
        ) from error
    boxes = _boxes(fields.get("face_location"), rows)
    for row in range(rows):
        yield _Entry(
            place=str(row + 1),
            path=_text(columns["full_path"][row]),
            born=_born(str(columns["dob"][row])),
            taken=_number(columns["photo_taken"][row]),
            gender=_number(columns["gender"][row]),
            person=_text(columns["celeb_id"][row]) or _text(columns["name"][row]),
            face_score=_number(columns["face_score"][row]),
            second_score=_number(columns["second_face_score"][row]),
            box_xyxy=boxes[row],
        )


_NEEDED = ("full_path", "dob", "photo_taken")
_OPTIONAL = ("gender", "name", "celeb_id", "face_score", "second_face_score")


def _boxes(locations: Any, rows: int) -> list[Box | None]:
    """Return left, top, right, bottom, which Matlab counts from 1."""
    if locations is None or len(locations) != rows:
        return [None] * rows
    return [_box(np.ravel(np.asarray(location)).tolist()) for location in locations]


def _box(sides: Sequence[float | str]) -> Box | None:
    """Return a face's position, counted from 0; None if it is missing."""
    values = [_number(side) for side in sides]
    if not (len(values) == 4 and values[0] < values[2] and values[1] < values[3]):
        return None
    left, top, right, bottom = (value - 1.0 for value in values)
    return left, top, right, bottom


def _from_csv(table: Path) -> Iterator[_Entry]:
    _headings, rows = read_csv_table(table, [("full_path", "path"), ("dob",), ("photo_taken",)])
    for row in rows:
        cells = row.cells
        yield _Entry(
            place=str(row.line),
            path=cells.get("full_path", cells.get("path", "")).strip("[]'\" "),
            born=_born(cells.get("dob", "")),
            taken=_number(cells.get("photo_taken")),
            gender=_number(cells.get("gender")),
            person=cells.get("celeb_id", cells.get("name", "")).strip("[]'\" "),
            face_score=_number(cells.get("face_score")),
            second_score=_number(cells.get("second_face_score")),
            box_xyxy=_box(_NUMBER.findall(cells.get("face_location", ""))),
        )


def _born(text: str) -> dt.date | None:
    """Read a date, or Matlab's number of the day."""
    try:
        if "-" in text.strip()[1:]:
            return dt.date.fromisoformat(text.strip()[:10])
        return dt.date.fromordinal(int(float(text)) - MATLAB_DAYS_AHEAD)
    except (ValueError, OverflowError):
        return None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _text(value: Any) -> str:
    """Return a cell as text; a number such as 7.0 as "7", NaN as ""."""
    if isinstance(value, str):
        return value.strip()
    number = _number(value)
    return "" if math.isnan(number) else shown(f"{number:g}").strip("'")
