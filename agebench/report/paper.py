"""Tables in print, which can't be scrolled: wide ones with a column per estimator are split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from agebench.report.direct_labels import width_em
from agebench.report.grid import Cell, Column, Grid

_SHEET_PX = 680
"""Usable width of an A4 sheet within its margins, in CSS pixels of 1/96 inch (182 mm are 688)."""

_TYPE_PX, _PADDING_PX = 10, 10
"""Font size and padding of tables in print (report.css): 7.5 points, and 0.3 rem on both sides."""

_BOLD = 1.08
"""Width of bold letters relative to regular ones."""

_LONGEST_WORD_EM = 7.0
"""Longer words in a heading are broken."""

_NAME_PX = 192
"""Fixed width of a column of names: 12 rem."""


def sheets(grid: Grid) -> Sequence[Grid]:
    """Return the parts of a table that is too wide for a sheet of paper; empty if it fits.

    Each part repeats the leading columns, which describe the rows.
    """
    heads = grid.heads
    widths = [_width_px(grid, at) for at in range(len(grid.columns))]
    if not heads or sum(widths) <= _SHEET_PX:
        return ()
    room = _SHEET_PX - sum(widths[:heads])
    parts: list[list[int]] = [[]]
    used = 0.0
    for at in range(heads, len(widths)):
        if parts[-1] and used + widths[at] > room:
            parts.append([])
            used = 0.0
        parts[-1].append(at)
        used += widths[at]
    first = list(range(heads))
    return [
        _part(grid, [*first, *columns], f" ({number} of {len(parts)})")
        for number, columns in enumerate(parts, start=1)
    ]


def _part(grid: Grid, kept: Sequence[int], which: str) -> Grid:
    return replace(
        grid,
        caption=grid.caption + which,
        columns=[grid.columns[at] for at in kept],
        rows=[[row[at] for at in kept] for row in grid.rows],
        sortable=False,
        heads=0,
    )


def _width_px(grid: Grid, at: int) -> float:
    cells: list[Cell] = [row[at] for row in grid.rows]
    widest = max((_unbroken_em(cell) for cell in cells), default=0.0)
    width = max(_title_em(grid.columns[at]), widest * _BOLD) * _TYPE_PX + _PADDING_PX
    return max(width, _NAME_PX) if any(cell.kind == "name" for cell in cells) else width


def _unbroken_em(cell: Cell) -> float:
    """Return the width of the longest part of a cell that has no line break.

    Names may be broken anywhere, pairs and rates at spaces, other cells not at all.
    """
    if cell.kind == "name":
        return 0.0
    wraps = {"pair", "rate"} & set(cell.kind.split())
    parts = re.split(" ", cell.text) if wraps else [cell.text]
    return max(map(width_em, parts))


def _title_em(column: Column) -> float:
    """Return the width of a heading, which is broken between words and, in print, in long words."""
    longest = max(map(width_em, re.split(r"[ -]", column.title)))
    return min(longest * _BOLD, _LONGEST_WORD_EM)
