"""Names next to lines and marks, since many estimators are hard to tell apart by style alone.

The functions here compute positions, in the units of whatever is drawn on; "up" may be along the
second axis or against it.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from agebench.errors import inert
from agebench.metrics.number_format import shortened

MANY = 10
"""Number of estimators from which on names are written next to lines and marks."""

_WIDTHS_EM = {"il.,:;'|!jIft()[] -": 0.36, "mwMW@%…": 0.95}
_USUAL_EM, _CAPITAL_EM, _FULL_EM = 0.59, 0.72, 1.0
"""Widths of letters in a sans-serif font, rounded up."""

_RINGS = (0, 9, 18, 27, 40, 55, 72, 90, 115, 140)
"""Additional distances of a name from its mark, tried in this order."""

_DIRECTIONS = 16


@dataclass(frozen=True, slots=True)
class Box:
    """The area of a label or mark: its centre and half its size."""

    x: float
    y: float
    half_width: float
    half_height: float

    def overlaps(self, other: Box) -> bool:
        """Return whether the two overlap."""
        return (
            abs(self.x - other.x) < self.half_width + other.half_width
            and abs(self.y - other.y) < self.half_height + other.half_height
        )

    def within(self, frame: Box) -> bool:
        """Return whether it lies entirely in `frame`."""
        return (
            abs(self.x - frame.x) <= frame.half_width - self.half_width
            and abs(self.y - frame.y) <= frame.half_height - self.half_height
        )


def width_em(text: str) -> float:
    """Return the approximate width of a text in em, rather too large than too small.

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
    """Return unique names that fit into a width; the middle of a long name is left out.

    Args:
        labels: the full names, which are unique.
        most_em: the available width, in em.

    >>> short_names(["constant", "onnx:/a/long/path/model-1.onnx"], 8)
    ['constant', 'onnx:/…1.onnx']
    """
    names: list[str] = []
    for label in labels:
        names.append(next(name for name in _shorter(inert(label), most_em) if name not in names))
    return names


def _shorter(text: str, most_em: float) -> Iterator[str]:
    """Yield a text, shortened to fit, then the same with numbers appended."""
    for number in itertools.count(1):
        suffix = "" if number == 1 else f" ({number})"
        room = most_em - width_em(suffix)
        for letters in range(len(text), 0, -1):
            name = shortened(text, letters)
            if width_em(name) <= room or letters < 3:
                yield name + suffix
                break


def spread_out(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions at least `gap` apart between `low` and `high`, moved as little as possible.

    The sum of squared moves is minimal.  If there is not enough room, they extend beyond `high`.

    >>> spread_out([5.0, 5.0, 50.0], 10, 0, 100)
    [0.0, 10.0, 50.0]
    """
    # Only many estimators need it, and scipy takes as long to import as a small report to write.
    from scipy.optimize import isotonic_regression

    positions = np.asarray(places, np.float64)
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(positions))
    # With the steps subtracted, positions `gap` apart are equal, so only order is required.
    moved = isotonic_regression(positions[order] - steps).x
    last = steps[-1] if len(steps) else 0.0
    found = np.empty_like(positions)
    found[order] = np.clip(moved, low, max(low, high - last)) + steps
    return [float(place) for place in found]


def place_label(
    mark_xy: tuple[float, float],
    half_size: tuple[float, float],
    frame: Box,
    taken: Collection[Box],
) -> Box | None:
    """Return a position for a label near a mark, inside `frame` and without overlaps.

    Args:
        mark_xy: centre of the mark.
        half_size: half the label's width and height.
        frame: the area that it must lie in.
        taken: areas of existing marks and labels.

    Returns:
        The nearest free position that was tried; None if there is none, as an illegible label is
        better left out.
    """
    (x, y), (width, height) = mark_xy, half_size
    for ring in _RINGS:
        for step in range(_DIRECTIONS):
            turn = math.tau * step / _DIRECTIONS
            right, up = math.cos(turn), math.sin(turn)
            at = x + right * (width + 7 + ring), y + up * (height + 5 + ring)
            place = Box(*at, width, height)
            if place.within(frame) and not any(map(place.overlaps, taken)):
                return place
    return None


def nearest_edge(label: Box, x: float, y: float) -> tuple[float, float]:
    """Return the point of a label nearest to a mark, where the line to it ends."""
    across = min(max(x, label.x - label.half_width), label.x + label.half_width)
    up = min(max(y, label.y - label.half_height), label.y + label.half_height)
    return across, up
