"""What the matplotlib pictures share: widths, looks of estimators, the list of who is who."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from agebench.errors import inert
from agebench.metrics.number_format import shortened
from agebench.report.svg import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Columns: TypeAlias = Literal[1, 2]

WIDTHS_INCHES: Mapping[int, float] = MappingProxyType({1: 89 / 25.4, 2: 183 / 25.4})
"""One and two columns of a journal's page, as Nature has them; IEEE's are 89 and 181 mm."""

_MARKERS = {
    "circle": "o",
    "square": "s",
    "triangle": "^",
    "diamond": "D",
    "wedge": "v",
    "plus": "P",
}
_MARK_SIZE = 5.0


def line_style(look: Look) -> dict[str, Any]:
    """Return how matplotlib draws an estimator's lines: colour and dashes of the page."""
    if not look.dashes:
        return {"color": look.colour, "linestyle": "-"}
    # The page's dashes are in units of its drawings, matplotlib's in widths of the line.
    lengths = tuple(float(part) / 2 for part in look.dashes.split())
    return {"color": look.colour, "linestyle": (0, lengths)}


def mark_style(look: Look, *, hollow: bool = False) -> dict[str, Any]:
    """Return how matplotlib draws an estimator's marks; hollow ones are of no verdict."""
    return {
        "marker": _MARKERS[look.mark],
        "markersize": _MARK_SIZE,
        "markeredgecolor": look.colour,
        "markerfacecolor": "white" if hollow else look.colour,
    }


def name_of(label: str, letters: int = 36) -> str:
    """Return an estimator's or group's name as a figure has room for."""
    return shortened(inert(label), letters)


def log_milliseconds(axes: Axes) -> None:
    """Make the axis across one of times, with round numbers at it."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")


def legend_below(figure: Figure, axes: Axes) -> float:
    """Put the list of who is who below a figure, by the handles of `axes`.

    Returns:
        Its height in inches.
    """
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return 0.0
    longest = max(map(len, labels))
    across = max(1, int(figure.get_figwidth() / (0.5 + 0.055 * longest)))
    figure.legend(handles, labels, loc="outside lower center", ncols=across, handlelength=3.2)
    return 0.1 + 0.155 * -(-len(labels) // across)


def aspect_with_legend(figure: Figure, axes: Axes, aspect: float) -> float:
    """Return the height as a fraction of the width, with a legend below the axes."""
    return aspect + legend_below(figure, axes) / figure.get_figwidth()


def panels(figure: Figure, count: int, across: int = 3) -> list[Axes]:
    """Return so many axes in rows."""
    columns = min(across, count)
    grid = figure.subplots(-(-count // columns), columns, squeeze=False)
    found: Sequence[Axes] = grid.ravel().tolist()
    for unused in found[count:]:
        unused.set_axis_off()
    return list(found[:count])
