"""Tables as values, from which the page, Markdown, LaTeX and terminal output are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from agebench.metrics.intervals import Interval
from agebench.metrics.number_format import bounds

NO_KEY = Markup("")


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        title: its heading.
        numeric: whether it is right-aligned, with tabular digits.
        hint: explanation of the heading.
    """

    title: str
    numeric: bool = True
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A note on a cell.

    Attributes:
        text: the note, without a full stop.
        severe: whether the row's figures must not be relied on.
    """

    text: str
    severe: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell.

    Attributes:
        text: its content.
        value: sort key; None for the text.
        kind: CSS class of the page's style sheet.
        key: drawing in front of the text, on the page only.
        notes: shown below the text on the page, and below the table elsewhere.
    """

    text: str
    value: float | str | None = None
    kind: str = ""
    key: Markup = NO_KEY
    notes: Sequence[Note] = ()


def figure_cell(text: str, value: float | None) -> Cell:
    """Return a cell that is sorted by its value; one without a value comes last."""
    return Cell(text, math.inf if value is None else value)


def interval_cell(interval: Interval | None, missing: str = "") -> Cell:
    """Return a cell with the ends of an interval, which is sorted by the lower one."""
    return figure_cell(bounds(interval) or missing, None if interval is None else interval.low)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table.

    Attributes:
        caption: its title.
        columns: from left to right.
        rows: each with one cell per column.
        sortable: whether it can be sorted on the page by clicking on a heading.
        heads: number of leading columns that describe the row, if every further column is for an
            estimator: in print the table may be split between these.  0 if it must not be split.

    Raises:
        ValueError: a row has a different number of cells.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False
    heads: int = 0

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"expected {len(self.columns)} cells, got {len(row)}")

    @property
    def notes(self) -> Sequence[str]:
        """All notes of its cells in their order, each once; they are lettered a, b, ..."""
        found = (note.text for row in self.rows for cell in row for note in cell.notes)
        return tuple(dict.fromkeys(found))
