"""What the matplotlib figures have in common: widths, styles of estimators, the legend."""

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
"""Widths of one and two columns in Nature; those of the IEEE's journals are 89 and 181 mm."""

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
    """Return matplotlib's style of an estimator's lines, with the page's colour and dashes."""
    if not look.dashes:
        return {"color": look.colour, "linestyle": "-"}
    # The page's dashes are in units of its drawings, matplotlib's in line widths.
    lengths = tuple(float(part) / 2 for part in look.dashes.split())
    return {"color": look.colour, "linestyle": (0, lengths)}


def mark_style(look: Look, *, hollow: bool = False) -> dict[str, Any]:
    """Return matplotlib's style of an estimator's marks; hollow if it gets no verdict."""
    return {
        "marker": _MARKERS[look.mark],
        "markersize": _MARK_SIZE,
        "markeredgecolor": look.colour,
        "markerfacecolor": "white" if hollow else look.colour,
    }


def name_of(label: str, letters: int = 36) -> str:
    """Return an estimator's or group's name, shortened to fit into a figure."""
    return shortened(inert(label), letters)


def log_milliseconds(axes: Axes) -> None:
    """Make the x axis a logarithmic one of times, with round numbers as ticks."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")


def legend_below(figure: Figure, axes: Axes) -> float:
    """Put the legend of `axes` below a figure.

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
    """Return the figure's height as a fraction of its width, with a legend below the axes."""
    return aspect + legend_below(figure, axes) / figure.get_figwidth()


def panels(figure: Figure, count: int, across: int = 3) -> list[Axes]:
    """Return `count` axes, arranged in rows of at most `across`."""
    columns = min(across, count)
    grid = figure.subplots(-(-count // columns), columns, squeeze=False)
    found: Sequence[Axes] = grid.ravel().tolist()
    for unused in found[count:]:
        unused.set_axis_off()
    return list(found[:count])
