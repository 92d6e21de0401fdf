"""The CSV file of predictions that `answers` reads."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agebench.datasets.csv_table import CsvRow, read_csv_table
from agebench.datasets.names import shown
from agebench.errors import UsageError, suggestion
from agebench.metrics.number_format import counted
from agebench.types import MAX_AGE_YEARS, Box
from agebench.util.checks import number_in
from agebench.util.files import is_sha256

PICTURE_COLUMNS = ("path", "image", "filename", "file", "picture", "img_name")
"""Headers of the picture's column; the first that exists is used."""

AGE_COLUMNS = ("age", "years", "predicted_years", "predicted_age", "p50")
"""Headers of the age's column; the first that exists is used."""

BOXES = (("x0", "y0", "x1", "y1"), ("box_left", "box_top", "box_right", "box_bottom"))
"""Headers of the face's box, edges in pixels of the upright picture."""

PERCENTILES: Mapping[int, tuple[str, str]] = {
    50: ("p25", "p75"),
    80: ("p10", "p90"),
    95: ("p2.5", "p97.5"),
}
"""The percentiles at the ends of the interval that contains a percentage of cases."""

SEEN = ("yes", "near", "no")
"""Values of the column "seen_in_training", as in a predictions.csv."""

_PERCENTILE = re.compile(r"p[0-9]{1,2}(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Answer:
    """One row.

    Attributes:
        line: its number in the file, from 1.
        picture: its path in the file.
        years: the age, 0 to `MAX_AGE_YEARS`.
        intervals: by the percentage of cases that they should contain, low and high in years.
        seconds: duration of the prediction; None if missing.
        box_xyxy: of the face; None if missing.
        seen: whether the program was trained on the same file ("yes"), on a "near" copy, or on
            neither ("no"); "" if missing.
        sha256: of the picture's file, 64 hex digits, if it was trained on; otherwise "".
    """

    line: int
    picture: str
    years: float
    intervals: Mapping[int, tuple[float, float]]
    seconds: float | None = None
    box_xyxy: Box | None = None
    seen: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class AnswerColumns:
    """The meaning of columns: headers in lower case.

    Attributes:
        picture: of the picture's path.
        age: of the age; "" to use the midpoint of low and high.
        level: percentage of cases between low and high; None if unknown.
        box: of the face's four sides; empty if there are none.
        estimator: the value of the column "estimator" in the rows to use; None for all.
    """

    picture: str
    age: str
    level: int | None
    box: tuple[str, ...]
    estimator: str | None


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """The content of a file.

    Attributes:
        answers: its rows with an age, in order.
        problems: errors in other rows, by line.
        without_age: number of rows with an empty age: the program gave none.
        notes: remarks on how it was read.
    """

    answers: tuple[Answer, ...]
    problems: tuple[str, ...]
    without_age: int
    notes: tuple[str, ...]


def read_answers_table(
    file: Path,
    picture: str | None = None,
    age: str | None = None,
    level: int | None = None,
    estimator: str | None = None,
) -> AnswerTable:
    """Read a file of answers.

    Args:
        file: CSV in UTF-8 with a header line; it must have a picture's path (`PICTURE_COLUMNS`) and
            an age (`AGE_COLUMNS`), or ``low`` and ``high``, whose midpoint is used.
        picture: header of the picture's column, if it is another.
        age: header of the age's column, if it is another.
        level: percentage of cases that are from ``low`` to ``high``: 50, 80 or 95.
        estimator: uses only rows with this name, in a file with such a column.

    Raises:
        DatasetError: the file can't be read or lacks a column.
        UsageError: an option does not match the file, or no row has an age.
    """
    if level is not None and level not in PERCENTILES:
        known = ", ".join(map(str, PERCENTILES))
        raise UsageError(f"option level={level} of 'answers': expected one of {known}")
    ages = AGE_COLUMNS if age is None else (age.lower(),)
    pictures = PICTURE_COLUMNS if picture is None else (picture.lower(),)
    headings, rows = read_csv_table(
        file,
        [pictures, ages if age else (*ages, "low")],
        options="'answers:FILE picture=HEADING age=HEADING'",
    )
    columns = AnswerColumns(
        next(name for name in pictures if name in headings),
        next((name for name in ages if name in headings), ""),
        level,
        next((names for names in BOXES if set(names) <= set(headings)), ()),
        estimator,
    )
    return _Reading(file, columns, headings).read(rows)


class _Reading:
    """Reads the rows of one file."""

    def __init__(self, file: Path, columns: AnswerColumns, headings: Collection[str]) -> None:
        self._file = file
        self._columns = columns
        self._headings = headings
        if not columns.age and "high" not in headings:
            raise UsageError(f"{str(file)!r} has no age: expected a column 'age', or low and high")
        if columns.estimator is not None and "estimator" not in headings:
            raise UsageError(
                f"option estimator={columns.estimator!r}: {str(file)!r} has no column 'estimator'"
            )

    def read(self, rows: Iterable[CsvRow]) -> AnswerTable:
        columns = self._columns
        answers: list[Answer] = []
        problems: list[str] = []
        without_age = 0
        others: set[str] = set()
        for row in rows:
            whose = row.cells.get("estimator", "")
            others.add(whose)
            if columns.estimator is not None and whose != columns.estimator:
                continue
            try:
                answer = self._answer(row)
            except ValueError as error:
                problems.append(f"line {row.line}: {error}")
                continue
            without_age += answer is None
            answers += [] if answer is None else [answer]
        self._require_one(others)
        if not answers:
            rows_without = f"{counted(without_age, 'row')} without an age" if without_age else ""
            why = problems[0] if problems else rows_without or "it has a header line and no rows"
            raise UsageError(f"{str(self._file)!r} contains no answer: {why}")
        return AnswerTable(tuple(answers), tuple(problems), without_age, self._notes())

    def _require_one(self, whose: set[str]) -> None:
        """Check that an estimator of several was chosen, and that the chosen one exists."""
        chosen = self._columns.estimator
        if chosen is None and len(whose) > 1:
            raise UsageError(
                f"{str(self._file)!r} contains the answers of {len(whose)} estimators "
                f"({', '.join(sorted(whose))}): choose one, such as estimator={min(whose)!r}"
            )
        if chosen is not None and chosen not in whose:
            raise UsageError(
                f"option estimator={chosen!r}: {str(self._file)!r} has no such rows: "
                f"{suggestion(chosen, whose)}"
            )

    def _answer(self, row: CsvRow) -> Answer | None:
        """Return the row's answer; None if it has no age.

        Raises:
            ValueError: the row is invalid.
        """
        columns, cells = self._columns, row.cells
        if row.surplus:
            raise ValueError(f"{row.surplus} more cells than headers")
        written = cells.get(columns.picture)
        if not written:
            raise ValueError("the picture's path is empty")
        ends = _interval(cells, "low", "high")
        if columns.age:
            years = _age(cells, columns.age)
        else:
            years = None if ends is None else (ends[0] + ends[1]) / 2
        if years is None:
            return None
        percentiles = {level: _interval(cells, *names) for level, names in PERCENTILES.items()}
        intervals = {level: pair for level, pair in percentiles.items() if pair is not None}
        if columns.level is not None and ends is not None:
            intervals[columns.level] = ends
        seconds, box = _seconds(cells), self._box(cells)
        return Answer(row.line, written, years, intervals, seconds, box, *_seen(cells))

    def _box(self, cells: Mapping[str, str]) -> Box | None:
        texts = [cells[name] for name in self._columns.box if name in cells]
        if not texts:
            return None
        sides = [_number("box", text) for text in texts]
        if len(sides) != 4 or sides[0] >= sides[2] or sides[1] >= sides[3]:
            raise ValueError(f"the face's box is incomplete or empty: {', '.join(texts)}")
        return (sides[0], sides[1], sides[2], sides[3])

    def _notes(self) -> tuple[str, ...]:
        notes = []
        has_ends = {"low", "high"} <= set(self._headings)
        if not self._columns.age:
            notes.append("ages are the midpoints of low and high")
        if has_ends and self._columns.level is None:
            notes.append(
                "the percentage of cases from low to high is unknown: give level=50, 80 or 95"
            )
        ends = {name for pair in PERCENTILES.values() for name in pair}
        unused = [
            name
            for name in self._headings
            if _PERCENTILE.fullmatch(name) and name not in ends and name != "p50"
        ]
        if unused:
            notes.append(f"percentiles that do not bound an interval: {', '.join(unused)}")
        return tuple(notes)


def _seen(cells: Mapping[str, str]) -> tuple[str, str]:
    """Return whether the picture was trained on, and if so its hash."""
    seen = cells.get("seen_in_training", "")
    if seen and seen not in SEEN:
        known = ", ".join(SEEN)
        raise ValueError(
            f"seen_in_training {shown(seen)}: expected one of {known}, or an empty cell"
        )
    if seen in ("", "no"):
        return seen, ""
    sha256 = cells.get("sha256", "").lower()
    if not is_sha256(sha256):
        raise ValueError(
            f"sha256 {shown(sha256)} of a picture that was trained on: expected 64 hex digits"
        )
    return seen, sha256


def _number(name: str, text: str) -> float:
    value = number_in(text)
    if not math.isfinite(value):
        raise ValueError(f"{name} {shown(text)} is not a number")
    return value


def _age(cells: Mapping[str, str], name: str) -> float | None:
    if name not in cells:
        return None
    years = _number(name, cells[name])
    if not 0.0 <= years <= MAX_AGE_YEARS:
        raise ValueError(f"{name} {years:g}: expected 0 to {MAX_AGE_YEARS:g} years")
    return years


def _interval(cells: Mapping[str, str], low: str, high: str) -> tuple[float, float] | None:
    ends = _age(cells, low), _age(cells, high)
    if ends[0] is None or ends[1] is None:
        return None
    if ends[0] > ends[1]:
        raise ValueError(f"{low} {ends[0]:g} is above {high} {ends[1]:g}")
    return ends[0], ends[1]


def _seconds(cells: Mapping[str, str]) -> float | None:
    if "seconds" not in cells:
        return None
    seconds = _number("seconds", cells["seconds"])
    if seconds < 0:
        raise ValueError(f"seconds {seconds:g} is negative")
    return seconds
