"""A list of pictures and ages in a CSV file: ``path,age[,identity,group,gender,race,...]``."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, overload

from agebench.datasets.age_rules import AgeRule, Sum, parse_sum
from agebench.datasets.base import SampleList, finished
from agebench.datasets.csv_table import CsvRow, read_csv_table
from agebench.datasets.listed import Listed, without_repeats
from agebench.datasets.names import shown
from agebench.errors import DatasetError, UsageError, suggestion
from agebench.protocols import DatasetSpec
from agebench.references import user_path
from agebench.types import Box, LabelKind, Problem, Sample

SPEC = DatasetSpec(name="csv", label_kind="unknown")

PATH_COLUMNS = ("path", "filename", "file", "image", "picture")
"""Headers of the column with the picture's path; the first that exists is used."""

BOX_COLUMNS = "x0,y0,x1,y1"
"""Headers of the columns with the labelled face's box; used if all four exist."""

Separator: TypeAlias = Literal["auto", "comma", "semicolon", "tab", "space", "bar"]

_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " ", "bar": "|"}


@dataclass(frozen=True, slots=True)
class _Columns:
    """The meaning of columns.

    Attributes:
        path: header of the picture's path.
        age: expressions of the age.
        identity: header of the person, "" for none.
        box: left, top, right and bottom of the labelled face; None if there are none.
        used: headers that do not become attributes.
    """

    path: str
    age: AgeRule
    identity: str
    box: tuple[Sum, Sum, Sum, Sum] | None

    @property
    def used(self) -> frozenset[str]:
        boxes = frozenset[str]().union(*(each.fields for each in self.box or ()))
        return self.age.fields | boxes | {self.path, self.identity}


def load(  # noqa: PLR0913 - each is an option that a reference may name
    root: Path,
    label_kind: LabelKind = "unknown",
    *,
    path: str | None = None,
    age: str | None = None,
    low: str | None = None,
    high: str | None = None,
    identity: str | None = None,
    box: str | None = None,
    images: str = "",
    separator: Separator = "auto",
) -> SampleList:
    """List the pictures that a CSV file names.

    The file is UTF-8 (with or without BOM), separated by commas, semicolons or tabs, with a header
    line.  ``age`` and one of `PATH_COLUMNS` are required; ``identity`` is the person; all other
    columns become attributes.  An age is a number of years or a range (see
    `names.parse_age_label`).  Paths are relative to the CSV file; absolute ones and ``..`` are
    allowed, since the list is the user's own.  A sample's name is its path relative to the file's
    folder, followed by ``#`` and the labelled face's box if there is one.

    Rows that can't be used are listed as problems with their line numbers.  If rows repeat a
    picture with the same age, the first is kept; if the ages differ, none is.

    Args:
        root: the file, or a folder with exactly one file named ``*.csv``.
        label_kind: how the ages were determined; only the user knows.
        path: header of the column with the picture's path.
        age: header of the column with the age, or an expression of columns: ``photo-birth``.
        low: the lowest completed year, if the table has ranges in two columns.
        high: the highest.
        identity: header of the column with the person.
        box: headers of the columns with the face's left, top, right and bottom in pixels, or
            expressions of columns: ``x,y,x+w,y+h``.
        images: the folder that paths are relative to, itself relative to the CSV file.
        separator: between the cells; detected by default.

    Raises:
        UsageError: an expression is invalid, or `box` does not have four.
        DatasetError: there is no such file, it is not a CSV file of this form, or contains no
            usable row.
    """
    file = _csv_file(root)
    paths = PATH_COLUMNS if path is None else (_heading(path),)
    needed = [paths, *([] if age or low or high else [("age", "low", "high")])]
    headings, rows = read_csv_table(
        file, needed, _SEPARATORS.get(separator), options="'csv path=HEADING age=HEADING'"
    )
    if identity is not None and _heading(identity) not in headings:
        hint = suggestion(_heading(identity), filter(None, headings))
        raise UsageError(f"option identity={identity!r}: {str(file)!r} has no such column: {hint}")
    columns = _Columns(
        next(name for name in paths if name in headings),
        AgeRule.of(headings, age=_heading(age), low=_heading(low), high=_heading(high)),
        _heading(identity or "identity"),
        _box_columns(box, headings),
    )
    folder = file.parent / user_path(images)
    if not folder.is_dir():
        raise DatasetError(f"option images={images!r}: expected a folder, found none at {folder}")
    problems: list[Problem] = []

    def usable() -> Iterator[Listed]:
        for row in rows:
            found = _sample(file.parent, folder, columns, row)
            if isinstance(found, Problem):
                problems.append(found)
            else:
                yield Listed(str(row.line), found)

    samples, repeats = without_repeats(usable())
    if not (samples or repeats or problems):
        raise DatasetError(
            f"data set 'csv' has no picture in {str(file)!r}: it has a header line and no rows"
        )
    spec = replace(SPEC, label_kind=label_kind, notes=_notes(columns))
    return finished(spec, file, samples, problems + repeats)


def _notes(columns: _Columns) -> tuple[str, ...]:
    """Return remarks on options and columns that differ from the default."""
    notes = []
    if columns.path not in PATH_COLUMNS:
        notes.append(f"paths are those of column {columns.path}")
    ends = (("age", columns.age.age), ("low", columns.age.low), ("high", columns.age.high))
    ages = [f"{name} = {each.text}" for name, each in ends if each and each.text != name]
    if ages:
        notes.append(f"ages: {', '.join(ages)}")
    if columns.box is not None:
        from agebench.vision.faces import MIN_LABEL_IOU

        notes.append(
            "labels are of faces with boxes: the detector's face of the largest IoU is scored, of "
            f"at least {MIN_LABEL_IOU:g}; others are counted as missed"
        )
    return tuple(notes)


@overload
def _heading(text: str) -> str: ...
@overload
def _heading(text: None) -> None: ...
def _heading(text: str | None) -> str | None:
    """Return an option in lower case, as headers are compared."""
    return None if text is None else text.strip().lower()


def _box_columns(box: str | None, headings: Collection[str]) -> tuple[Sum, Sum, Sum, Sum] | None:
    if box is None and not set(BOX_COLUMNS.split(",")) <= set(headings):
        return None
    texts = (box or BOX_COLUMNS).split(",")
    if len(texts) != 4:
        raise UsageError(
            f"option box={box!r}: expected the columns of left, top, right and bottom, such as "
            f"{BOX_COLUMNS} or x,y,x+w,y+h"
        )
    left, top, right, bottom = (parse_sum(_heading(each), headings, "box") for each in texts)
    return left, top, right, bottom


def _csv_file(root: Path) -> Path:
    wanted = "data set 'csv' needs a CSV file, or a folder with exactly one"
    try:
        if root.is_file():
            return root
        if not root.is_dir():
            what = "is not a regular file" if os.path.lexists(root) else "does not exist"
            raise DatasetError(f"{wanted}, but {str(root)!r} {what}: check the path")
        named = sorted(entry for entry in root.iterdir() if entry.suffix.lower() == ".csv")
        files = [entry for entry in named if entry.is_file()]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{wanted}, but {str(root)!r} can't be read: {error}") from error
    if not files:
        raise DatasetError(f"{wanted}, but {str(root)!r} has none: give the folder or path of one")
    if len(files) > 1:
        listed = ", ".join(file.name for file in files[:5])
        raise DatasetError(
            f"{wanted}, but {str(root)!r} has {len(files)} ({listed}): name one of the files"
        )
    return files[0]


def _sample(base: Path, folder: Path, columns: _Columns, row: CsvRow) -> Sample | Problem:
    written = row.cells.get(columns.path, "")

    def problem(reason: str) -> Problem:
        # A row without a path is identified by its line.
        return (
            Problem(written, f"line {row.line}: {reason}")
            if written
            else Problem(f"line {row.line}", reason)
        )

    if row.surplus:
        return problem(f"{row.surplus} more cells than headers: quote cells with a separator")
    if not written:
        return problem("no picture path")
    label = columns.age.label(row.cells)
    if isinstance(label, Problem):
        return problem(label.reason)
    path = _picture(folder, written)
    if reason := _why_no_file(path, folder):
        return problem(reason)
    try:
        box = None if columns.box is None else _box(columns.box, row)
    except ValueError as error:
        return problem(str(error))
    place = "" if box is None else "#" + ",".join(f"{side:g}" for side in box)
    return Sample(
        path=path,
        name=_name(base, path) + place,
        age_years=label.age_years,
        age_range=label.age_range,
        identity=row.cells.get(columns.identity),
        attributes={name: cell for name, cell in row.cells.items() if name not in columns.used},
        box_xyxy=box,
    )


def _picture(folder: Path, written: str) -> Path:
    r"""Return the path of a picture; lists made on Windows separate folders by ``\``."""
    path = folder / written
    if "\\" in written and not os.path.lexists(path):
        return folder / written.replace("\\", "/")
    return path


def _why_no_file(path: Path, folder: Path) -> str:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"no file of that name in the folder {shown(str(folder))}"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"it can't be reached: {reason}"
    return "" if stat.S_ISREG(mode) else "not a regular file: not opened"


def _box(sums: tuple[Sum, Sum, Sum, Sum], row: CsvRow) -> Box:
    """Return the row's box.

    Raises:
        ValueError: a number is missing, or the box is empty, as for a face that is not visible.
    """
    left, top, right, bottom = (each.value(row.cells, {}) for each in sums)
    if not (left < right and top < bottom):
        sides = ", ".join(f"{side:g}" for side in (left, top, right, bottom))
        raise ValueError(f"the face's box is empty: {sides}")
    return left, top, right, bottom


def _name(folder: Path, path: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive there is no relative path
        return path.as_posix()
