"""A table as values: the page, Markdown, LaTeX and CSV are written from the same one."""

from __future__ import annotations

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
class Cell:
    """A cell.

    Attributes:
        text: what is shown.
        value: what it is sorted by; None for its text.
        kind: CSS class, one that the page's style knows.
        key: drawing in front of the text, on the page alone.
    """

    text: str
    value: float | str | None = None
    kind: str = ""
    key: Markup = NO_KEY


@dataclass(frozen=True, slots=True)
class Grid:
    """A table.

    Attributes:
        caption: what it is of.
        columns: from left to right.
        rows: every one with as many cells.
        sortable: can be sorted on the page by clicking on a column.

    Raises:
        ValueError: a row has another number of cells.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"expected {len(self.columns)} cells, got {len(row)}")
