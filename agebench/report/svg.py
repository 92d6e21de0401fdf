"""SVG drawings with axes, lines, bands and marks; all text in them is escaped.

They are written without a plotting library, so that the page stays small and their text remains
text in the page's font, which can be searched, read aloud and printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from agebench.errors import inert
from agebench.types import Floats

WIDTH, HEIGHT = 400, 285
"""Size of a drawing in its own units; the page scales it to the available width."""

RIGHT = 14
"""Margin to the right of the axes if there are no names."""

_LEFT, _TOP, _BOTTOM = 52, 12, 46


def tag(element: str, *children: Markup | str, **attributes: object) -> Markup:
    """Return an element; text and attributes are escaped, `Markup` is not.

    Args:
        element: its name.
        children: its content.
        attributes: an underscore stands for a hyphen, except at the end, where it is dropped;
            floats are written with one decimal; an attribute that is None is left out.

    >>> str(tag("text", "a<b", x=1.25, text_anchor="end", class_="k"))
    '<text x="1.2" text-anchor="end" class="k">a&lt;b</text>'
    """
    parts = [
        f' {name.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for name, value in attributes.items()
        if value is not None
    ]
    inside = "".join(
        child if isinstance(child, Markup) else escape(inert(child)) for child in children
    )
    return Markup(f"<{element}{''.join(parts)}>{inside}</{element}>")  # noqa: S704 - escaped above


def _value(value: object) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:.1f}".removesuffix(".0")
    return inert(str(value))


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a drawing.

    Attributes:
        label: with the unit.
        low, high: its ends.
        ticks: values and their text.
        log: whether it is logarithmic.
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def place(self, values: Iterable[float] | Floats) -> Floats:
        """Return positions, 0 at `low` to 1 at `high`; values beyond are moved to the ends."""
        positions = np.asarray(values, np.float64)
        low, high = self.low, self.high
        if self.log:
            positions = np.log(np.maximum(positions, low))
            low, high = math.log(low), math.log(high)
        return np.asarray(np.clip((positions - low) / (high - low), 0.0, 1.0), np.float64)


def linear_axis(label: str, low: float, high: float, steps: int = 5) -> Axis:
    """Return an axis that contains `low` to `high`, with round ticks.

    >>> axis = linear_axis("years", 0, 23)
    >>> axis.high, [text for _, text in axis.ticks]
    (25.0, ['0', '5', '10', '15', '20', '25'])
    """
    if not high > low:
        high = low + 1.0
    rough = (high - low) / steps
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(step * number, 10) for number in range(first, last + 1)]
    return Axis(label, ticks[0], ticks[-1], tuple((tick, f"{tick:g}") for tick in ticks))


def percent_axis(label: str, high: float = 1.0) -> Axis:
    """Return an axis of fractions from 0 to at least `high`, with ticks in per cent."""
    axis = linear_axis(label, 0.0, min(1.0, max(high, 1e-3)) * 100)
    ticks = tuple((tick / 100, text) for tick, text in axis.ticks)
    return Axis(label, 0.0, axis.high / 100, ticks)


_LOG_TICKS: tuple[tuple[float, tuple[float, ...]], ...] = (
    (5, (1, 1.5, 2, 3, 4, 5, 6, 8)),
    (150, (1, 2, 5)),
    (math.inf, (1,)),
)
"""Ticks per power of ten, by the largest ratio of the axis's ends that they are used for."""


def log_axis(label: str, low: float, high: float) -> Axis:
    """Return a logarithmic axis that contains `low` to `high`, both above 0, with round ticks.

    >>> [text for _, text in log_axis("ms", 3, 180).ticks]
    ['2', '5', '10', '20', '50', '100', '200']
    """
    high = max(high, low * 1.01)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    factors = next(factors for ratio, factors in _LOG_TICKS if high / low < ratio)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    below = max(tick for tick in ticks if tick <= low * 1.0001)
    above = min((tick for tick in ticks if tick >= high * 0.9999), default=10.0 ** powers[-1] * 10)
    kept = [tick for tick in ticks if below <= tick <= above]
    return Axis(label, below, above, tuple((tick, f"{tick:g}") for tick in kept), log=True)


@dataclass(frozen=True, slots=True)
class Look:
    """The style of an estimator in all figures; colour, dashes and mark all differ."""

    colour: str
    dashes: str
    mark: str


# Okabe & Ito, "Color Universal Design", 2008, without yellow, which is too light in print.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a8548a", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("", "7 3", "2 3", "10 3 2 3", "14 4")
_MARKS = {
    "circle": "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1 -1 0Z",
    "square": "M-.9-.9H.9V.9H-.9Z",
    "triangle": "M0-1.15L1.1 .85H-1.1Z",
    "diamond": "M0-1.25L1.15 0L0 1.25L-1.15 0Z",
    "wedge": "M0 1.15L1.1-.85H-1.1Z",
    "plus": "M-.35-1.1H.35V-.35H1.1V.35H.35V1.1H-.35V.35H-1.1V-.35H-.35Z",
}


BASELINE_LOOK = Look("#767676", "2 3", "plus")
"""Style of the baseline in every report."""


def look(position: int) -> Look:
    """Return the style of the estimator at `position`; 210 of them differ."""
    marks = tuple(_MARKS)
    return Look(
        _COLOURS[position % len(_COLOURS)],
        _DASHES[position % len(_DASHES)],
        marks[position % len(marks)],
    )


def mark(style: Look, x: float, y: float, size: float = 4.5, *, hollow: bool = False) -> Markup:
    """Return the mark of an estimator at a position; hollow if it gets no verdict."""
    place = f"translate({x:.1f} {y:.1f}) scale({size:g})"
    if not hollow:
        return tag("path", d=_MARKS[style.mark], transform=place, fill=style.colour)
    # The stroke width is scaled with the mark.
    return tag(
        "path",
        d=_MARKS[style.mark],
        transform=place,
        class_="hollow",
        stroke=style.colour,
        stroke_width=f"{1.6 / size:.2f}",
    )


def key(style: Look) -> Markup:
    """Return a short line with its mark, for the legend."""
    line = tag(
        "path", d="M1 8H35", stroke=style.colour, stroke_width=2, stroke_dasharray=style.dashes
    )
    inside = line + mark(style, 18, 8)
    return tag("svg", inside, class_="key", viewBox="0 0 36 16", aria_hidden="true")


class Drawing:
    """A drawing with axes.

    Args:
        across: the horizontal axis.
        up: the vertical axis; None for rows without a scale.
        height: in the drawing's units.
        grid: whether there are grid lines.
        right: margin to the right of the axes, in the drawing's units.
    """

    def __init__(
        self,
        across: Axis,
        up: Axis | None,
        *,
        height: int = HEIGHT,
        grid: bool = True,
        right: int = RIGHT,
    ) -> None:
        self.across, self.up, self.height = across, up, height
        self._left = _LEFT if up is not None else RIGHT
        self._right = WIDTH - right
        self._parts: list[Markup] = []
        self._frame(grid=grid)

    def x(self, values: Iterable[float] | Floats) -> Floats:
        """Return horizontal positions, in the drawing's units from the left."""
        return self._left + (self._right - self._left) * self.across.place(values)

    def y(self, values: Iterable[float] | Floats) -> Floats:
        """Return vertical positions, in the drawing's units from the top."""
        assert self.up is not None  # noqa: S101 - rows are positioned by their number
        inner = self.height - _TOP - _BOTTOM
        return self.height - _BOTTOM - inner * self.up.place(values)

    @property
    def frame(self) -> tuple[float, float, float, float]:
        """The area of the axes, in the drawing's units: left, top, right and bottom."""
        return self._left, _TOP, self._right, self.height - _BOTTOM

    def add(self, *parts: Markup) -> None:
        """Add elements on top of the existing ones."""
        self._parts.extend(parts)

    def line(self, xs: Sequence[float] | Floats, ys: Sequence[float] | Floats, style: Look) -> None:
        """Draw a line, with gaps where `ys` is NaN."""
        path = _path(self.x(xs), self.y(ys))
        if path:
            self.add(
                tag(
                    "path",
                    d=path,
                    class_="line",
                    stroke=style.colour,
                    stroke_dasharray=style.dashes or None,
                )
            )

    def band(
        self,
        xs: Sequence[float] | Floats,
        lows: Sequence[float] | Floats,
        highs: Sequence[float] | Floats,
        style: Look,
    ) -> None:
        """Fill the area between two lines where neither is NaN."""
        good = np.isfinite(np.asarray(lows)) & np.isfinite(np.asarray(highs))
        across, low, high = self.x(xs), self.y(lows), self.y(highs)
        for run in _runs(good):
            points = [*zip(across[run], low[run], strict=True)]
            points += [*zip(across[run], high[run], strict=True)][::-1]
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z"
            self.add(tag("path", d=path, fill=style.colour, class_="band"))

    def marks(
        self, xs: Sequence[float] | Floats, ys: Sequence[float] | Floats, style: Look
    ) -> None:
        """Draw the estimator's mark at every point that is not NaN."""
        good = np.isfinite(np.asarray(xs)) & np.isfinite(np.asarray(ys))
        for x, y in zip(self.x(xs)[good].tolist(), self.y(ys)[good].tolist(), strict=True):
            self.add(mark(style, x, y))

    def whiskers(
        self,
        xs: Sequence[float] | Floats,
        lows: Sequence[float] | Floats,
        highs: Sequence[float] | Floats,
        style: Look,
    ) -> None:
        """Draw a vertical error bar for each interval that is not NaN."""
        good = np.isfinite(np.asarray(lows)) & np.isfinite(np.asarray(highs))
        parts = (values[good].tolist() for values in (self.x(xs), self.y(lows), self.y(highs)))
        for x, low, high in zip(*parts, strict=True):
            path = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"
            self.add(tag("path", d=path, stroke=style.colour, class_="whisker"))

    def spread(self, low: float, high: float, y: float, style: Look) -> None:
        """Draw a horizontal line from one value to another."""
        left, right = self.x([low, high]).tolist()
        path = f"M{left:.1f} {float(self.y([y])[0]):.1f}H{right:.1f}"
        self.add(tag("path", d=path, stroke=style.colour, class_="whisker"))

    def steps(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Connect points by steps, such as those of `agebench.report.measures.front`.

        Each step is horizontal first, then vertical.
        """
        (x, *later), (y, *below) = self.x(xs).tolist(), self.y(ys).tolist()
        path = f"M{x:.1f} {y:.1f}" + "".join(
            f"H{x:.1f}V{y:.1f}" for x, y in zip(later, below, strict=True)
        )
        self.add(tag("path", d=path, class_="front"))

    def write(
        self, x: float, y: float, text: str, *, anchor: str = "start", kind: str = "note"
    ) -> None:
        """Write text at a position in the drawing's units."""
        self.add(tag("text", text, x=x, y=y, text_anchor=anchor, class_=kind))

    def svg(self, alternative: str) -> Markup:
        """Return the drawing; `alternative` describes what it shows for screen readers."""
        view = f"0 0 {WIDTH} {self.height}"
        inside = Markup("").join(self._parts)
        return tag("svg", inside, class_="plot", viewBox=view, role="img", aria_label=alternative)

    def _frame(self, *, grid: bool) -> None:
        bottom = self.height - _BOTTOM
        ticks = self.across.ticks
        for x, (_, text) in zip(self.x([at for at, _ in ticks]).tolist(), ticks, strict=True):
            if grid:
                self.add(tag("path", d=f"M{x:.1f} {_TOP}V{bottom}", class_="grid"))
            self.add(tag("path", d=f"M{x:.1f} {bottom}v4", class_="axis"))
            self.write(x, bottom + 19, text, anchor="middle", kind="tick")
        middle = (self._left + self._right) / 2
        self.write(middle, self.height - 9, self.across.label, anchor="middle", kind="label")
        self.add(tag("path", d=f"M{self._left} {bottom}H{self._right}", class_="axis"))
        if self.up is not None:
            self._upright(self.up, bottom, grid=grid)

    def _upright(self, up: Axis, bottom: int, *, grid: bool) -> None:
        for y, (_, text) in zip(self.y([at for at, _ in up.ticks]).tolist(), up.ticks, strict=True):
            if grid:
                self.add(tag("path", d=f"M{_LEFT} {y:.1f}H{self._right}", class_="grid"))
            self.write(_LEFT - 7, y + 4, text, anchor="end", kind="tick")
        self.add(tag("path", d=f"M{_LEFT} {_TOP}V{bottom}", class_="axis"))
        middle = (_TOP + bottom) / 2
        turned = f"translate(13 {middle:.1f}) rotate(-90)"
        self.add(tag("text", up.label, transform=turned, text_anchor="middle", class_="label"))


def _runs(good: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[slice]:
    """Return runs of at least two neighbouring true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]])))
    pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return [slice(start, end) for start, end in pairs if end - start > 1]


def _path(xs: Floats, ys: Floats) -> str:
    good = np.isfinite(xs) & np.isfinite(ys)
    lines = (
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs[run], ys[run], strict=True))
        for run in _runs(good)
    )
    return "".join(lines)
