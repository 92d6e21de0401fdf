"""Names of estimators next to their lines and marks in the matplotlib figures.

They are placed once a figure has its final size and layout, since overlaps depend on these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from agebench.report.direct_labels import Box, place_label, spread_out
from agebench.report.drawn_names import Named

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from agebench.report.chart_figure import ShownFigure

SIZE_PT = 5.5
_GAP_PT, _ASIDE_PT, _MARK_PT = 7.5, 9.0, 3.5
"""Distance between two names, distance from the axes to the names, and half the size of a mark."""


def name_lines(figure: ShownFigure, axes: Axes, ends: Sequence[Named]) -> None:
    """Write names to the right of the axes, each with a thin line from the end of its line."""
    if ends:
        figure.finishing.append(lambda: _name_lines(axes, ends))


def name_marks(figure: ShownFigure, axes: Axes, marks: Sequence[Named]) -> None:
    """Write names next to marks, without covering marks or other names."""
    if marks:
        figure.finishing.append(lambda: _name_marks(axes, marks))


def _name_lines(axes: Axes, ends: Sequence[Named]) -> None:
    from matplotlib.transforms import ScaledTranslation

    frame = _frame(axes)
    top, height = frame.y + frame.half_height, 2 * frame.half_height
    # From the top down, as on the page: if two lines end at the same place, the first is on top.
    rows = spread_out([top - y for _, y in _places(axes, ends)], _GAP_PT, 0, height)
    aside = ScaledTranslation(_ASIDE_PT / 72, 0, axes.figure.dpi_scale_trans)
    for end, row in zip(ends, rows, strict=True):
        # As a fraction of the height, since the names make the axes narrower, but not lower.
        axes.annotate(
            end.name,
            (end.x, end.y),
            (1.0, 1 - row / height),
            textcoords=axes.transAxes + aside,
            horizontalalignment="left",
            **_style(end, (0.0, 0.5)),
        )


def _name_marks(axes: Axes, marks: Sequence[Named]) -> None:
    from matplotlib.text import Text

    frame, places = _frame(axes), _places(axes, marks)
    taken = [Box(x, y, _MARK_PT, _MARK_PT) for x, y in places]
    for marked, (x, y) in zip(marks, places, strict=True):
        name = axes.annotate(
            marked.name,
            (marked.x, marked.y),
            (0, 0),
            textcoords="offset points",
            horizontalalignment="center",
            **_style(marked, (0.5, 0.5)),
        )
        extent = Text.get_window_extent(name)  # without the line to its mark
        scale = 72 / axes.figure.dpi / 2
        label = place_label((x, y), (extent.width * scale, extent.height * scale), frame, taken)
        if label is None:
            name.remove()
        else:
            taken.append(label)
            name.set_position((label.x - x, label.y - y))


def _style(named: Named, start: tuple[float, float]) -> dict[str, Any]:
    """Return the style of a name; its line begins at `start`, as fractions of width and height.

    A white outline makes it legible on top of lines.
    """
    from matplotlib.patheffects import withStroke

    thin = {"arrowstyle": "-", "color": named.style.colour, "linewidth": 0.5}
    return {
        "fontsize": SIZE_PT,
        "verticalalignment": "center",
        "path_effects": [withStroke(linewidth=1.2, foreground="white")],
        "arrowprops": {**thin, "shrinkA": 0.0, "shrinkB": 0.0, "relpos": start},
        "annotation_clip": False,
    }


def _places(axes: Axes, named: Iterable[Named]) -> list[tuple[float, float]]:
    """Return positions on the figure, in points."""
    places = axes.transData.transform([(item.x, item.y) for item in named]) * 72 / axes.figure.dpi
    return [(float(x), float(y)) for x, y in places]


def _frame(axes: Axes) -> Box:
    box = axes.get_window_extent()
    scale = 72 / axes.figure.dpi
    middle = (box.x0 + box.x1) / 2 * scale, (box.y0 + box.y1) / 2 * scale
    return Box(*middle, box.width * scale / 2, box.height * scale / 2)
