"""Names that stand beside lines and marks: of many estimators looks alone are hard to tell apart.

Where they go, as numbers; in the units of whatever is drawn on, with "up" along the second axis or
against it.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from agebench.errors import inert
from agebench.metrics.number_format import shortened

MANY = 10
"""From so many estimators on each has its name beside it."""

_WIDTHS_EM = {"il.,:;'|!jIft()[] -": 0.36, "mwMW@%…": 0.95}
_USUAL_EM, _CAPITAL_EM, _FULL_EM = 0.59, 0.72, 1.0
"""Widths of letters in a sans-serif type, on the large side."""

_RINGS = (0, 9, 18, 27, 40, 55, 72, 90, 115, 140)
"""How much further than next to its mark a name may go, tried in this order."""

_DIRECTIONS = 16


@dataclass(frozen=True, slots=True)
class Box:
    """What a label or mark covers: its middle and half its size."""

    x: float
    y: float
    half_width: float
    half_height: float

    def covers(self, other: Box) -> bool:
        """Say whether the two overlap."""
        return (
            abs(self.x - other.x) < self.half_width + other.half_width
            and abs(self.y - other.y) < self.half_height + other.half_height
        )

    def within(self, frame: Box) -> bool:
        """Say whether it lies in `frame` as a whole."""
        return (
            abs(self.x - frame.x) <= frame.half_width - self.half_width
            and abs(self.y - frame.y) <= frame.half_height - self.half_height
        )


def width_em(text: str) -> float:
    """Return about how wide a text is, in sizes of its type, rather too wide than too narrow.

    >>> width_em("ill") < width_em("abc") < width_em("ABC") < width_em("MWM")
    True
    """
    return sum(map(_letter_em, text))


def _letter_em(letter: str) -> float:
    for letters, width in _WIDTHS_EM.items():
        if letter in letters:
            return width
    if unicodedata.east_asian_width(letter) in "WF":
        return _FULL_EM
    return _CAPITAL_EM if letter.isupper() else _USUAL_EM


def short_names(labels: Sequence[str], most_em: float) -> list[str]:
    """Return names that fit into a width, each another one; the middle of a long name is left out.

    Args:
        labels: the whole names, each another one.
        most_em: how wide they may be, in sizes of their type.

    >>> short_names(["constant", "onnx:/a/long/path/model-1.onnx"], 8)
    ['constant', 'onnx:/…1.onnx']
    """
    names: list[str] = []
    for label in labels:
        names.append(next(name for name in _shorter(inert(label), most_em) if name not in names))
    return names


def _shorter(text: str, most_em: float) -> Iterator[str]:
    """Yield a text as long as it fits, then with a number behind it."""
    for number in itertools.count(1):
        behind = "" if number == 1 else f" ({number})"
        room = most_em - width_em(behind)
        for letters in range(len(text), 0, -1):
            name = shortened(text, letters)
            if width_em(name) <= room or letters < 3:
                yield name + behind
                break


def spread_out(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places at least `gap` apart between `low` and `high`, moved as little as can be.

    The sum of squared moves is least.  Where there is no room for all they reach beyond `high`.

    >>> spread_out([5.0, 5.0, 50.0], 10, 0, 100)
    [0.0, 10.0, 50.0]
    """
    wanted = np.asarray(places, np.float64)
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    # Two that are `gap` apart are equal once the steps are taken off: order is all that is asked.
    moved = isotonic_regression(wanted[order] - steps).x
    last = steps[-1] if len(steps) else 0.0
    found = np.empty_like(wanted)
    found[order] = np.clip(moved, low, max(low, high - last)) + steps
    return [float(place) for place in found]


def beside(
    mark_xy: tuple[float, float],
    half_size: tuple[float, float],
    frame: Box,
    taken: Collection[Box],
) -> Box | None:
    """Return where a label near a mark lies in `frame` and covers none of those `taken`.

    Args:
        mark_xy: the mark's middle.
        half_size: of the label, across and up.
        frame: what it must lie in.
        taken: marks and labels that are there.

    Returns:
        The nearest such place that was tried; None if there is none: a label that can't be read
        is better left out.
    """
    (x, y), (width, height) = mark_xy, half_size
    for ring in _RINGS:
        for step in range(_DIRECTIONS):
            turn = math.tau * step / _DIRECTIONS
            right, up = math.cos(turn), math.sin(turn)
            at = x + right * (width + 7 + ring), y + up * (height + 5 + ring)
            place = Box(*at, width, height)
            if place.within(frame) and not any(map(place.covers, taken)):
                return place
    return None


def nearest_edge(label: Box, x: float, y: float) -> tuple[float, float]:
    """Return the point of a label that is nearest to a mark, where a line to it ends."""
    across = min(max(x, label.x - label.half_width), label.x + label.half_width)
    up = min(max(y, label.y - label.half_height), label.y + label.half_height)
    return across, up
