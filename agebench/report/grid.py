"""A table as values: the page, Markdown, LaTeX and CSV are written from the same one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

NO_KEY = Markup("")


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        title: what stands above it.
        numeric: set to the right, in figures of one width.
        hint: what it means, in a sentence.
    """

    title: str
    numeric: bool = True
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence at a cell.

    Attributes:
        text: the sentence, without a full stop.
        severe: the cell's row is not to be believed.
    """

    text: str
    severe: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell.

    Attributes:
        text: what is shown.
        value: what it is sorted by; None for its text.
        kind: CSS class, one that the page's style knows.
        key: drawing in front of the text, on the page alone.
        notes: what has to stand at it: below it on the page, elsewhere below the table.
    """

    text: str
    value: float | str | None = None
    kind: str = ""
    key: Markup = NO_KEY
    notes: Sequence[Note] = ()


def figure_cell(text: str, value: float | None) -> Cell:
    """Return a cell that is sorted by its figure; one without comes after all others."""
    return Cell(text, math.inf if value is None else value)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table.

    Attributes:
        caption: what it is of.
        columns: from left to right.
        rows: every one with as many cells.
        sortable: can be sorted on the page by clicking on a column.
        heads: how many of the first columns say what a row is of, where each other one is of
            another estimator: on paper the table may be parted between these.  0: it never is.

    Raises:
        ValueError: a row has another number of cells.
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
        """All notes of its cells in their order, each once: the first is called a, then b, ..."""
        found = (note.text for row in self.rows for cell in row for note in cell.notes)
        return tuple(dict.fromkeys(found))
