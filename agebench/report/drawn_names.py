"""Names of estimators next to their lines and marks in the page's drawings."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass

import numpy as np

from agebench.report.direct_labels import Box, nearest_edge, place_label, spread_out, width_em
from agebench.report.svg import RIGHT, Drawing, Look, mark, tag
from agebench.types import Floats

NAME_SIZE = 11
"""Font size, in units of the drawing."""

ROOM = 130
"""Width to the right of the axes for the names of lines, in units of the drawing."""

_GAP, _LEADER, _KEY = 13.5, 12, 9
"""Distance between two names, distance from the axes to the names, and width of a name's mark."""

NAME_EM = (ROOM - _LEADER - _KEY) / NAME_SIZE
"""Maximum width of a name, in em."""


@dataclass(frozen=True, slots=True)
class Named:
    """A name with the point that it belongs to.

    Attributes:
        name: short enough to fit.
        style: of its estimator.
        x, y: the end of its line, or its mark, in the units of the axes.
    """

    name: str
    style: Look
    x: float
    y: float


def line_end(name: str, style: Look, xs: Floats, ys: Floats) -> Named:
    """Return the name of a line at its last point that is not NaN; there must be one."""
    last = int(np.flatnonzero(np.isfinite(ys))[-1])
    return Named(name, style, float(xs[last]), float(ys[last]))


def name_lines(drawing: Drawing, ends: Sequence[Named]) -> None:
    """Write names to the right of the axes, each with a thin line from the end of its line."""
    _, top, right, bottom = drawing.frame
    xs, ys = _places(drawing, ends)
    rows = spread_out(ys, _GAP, top + 2, bottom - 2)
    for end, x, y, row in zip(ends, xs, ys, rows, strict=True):
        at = right + _LEADER
        path = f"M{x:.1f} {y:.1f}L{right + 2:.1f} {y:.1f}L{at - 2:.1f} {row:.1f}"
        drawing.add(tag("path", d=path, stroke=end.style.colour, class_="leader"))
        drawing.add(mark(end.style, at + _KEY / 2 - 2, row, 3))
        drawing.write(at + _KEY - 3, row + 3.5, end.name, kind="end")


def name_marks(drawing: Drawing, marks: Sequence[Named], taken: Sequence[Box] = ()) -> list[Box]:
    """Write names next to marks, without covering marks or other names.

    Args:
        drawing: to write on.
        marks: that get names.
        taken: other areas that must not be covered.

    Returns:
        All areas that are taken afterwards.
    """
    left, top, right, bottom = drawing.frame
    frame = Box((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)
    xs, ys = _places(drawing, marks)
    covered = [*taken, *(Box(x, y, 5, 5) for x, y in zip(xs, ys, strict=True))]
    for marked, x, y in zip(marks, xs, ys, strict=True):
        half = width_em(marked.name) * NAME_SIZE / 2, _GAP / 2
        label = place_label((x, y), half, frame, covered)
        if label is None:
            continue
        covered.append(label)
        to = nearest_edge(label, x, y)
        path = f"M{x:.1f} {y:.1f}L{to[0]:.1f} {to[1]:.1f}"
        drawing.add(tag("path", d=path, stroke=marked.style.colour, class_="leader"))
        drawing.write(label.x, label.y + 3.5, marked.name, anchor="middle", kind="end")
    return covered


def right_margin(names: Sized) -> int:
    """Return the width that a drawing needs to the right of its axes for these names of lines."""
    return ROOM if len(names) else RIGHT


def figure_height(names: Sized, minimum: int) -> int:
    """Return the height that a drawing needs for these names of lines below each other."""
    return max(minimum, round(_GAP * len(names)) + 64)


def _places(drawing: Drawing, named: Sequence[Named]) -> tuple[list[float], list[float]]:
    xs, ys = drawing.x([item.x for item in named]), drawing.y([item.y for item in named])
    return xs.tolist(), ys.tolist()
