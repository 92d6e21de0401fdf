"""Landmark schemes: which of a scheme's points give the five that everything here is built on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from agebench.errors import UsageError, suggestion
from agebench.types import (
    FGNET_68_POINTS,
    FIVE_POINTS,
    IBUG_49_POINTS,
    IBUG_68_POINTS,
    Floats,
    Point,
)

FiveOf: TypeAlias = tuple[tuple[int, ...], ...]

FIVE_OF: Mapping[str, FiveOf] = MappingProxyType(
    {
        FIVE_POINTS: ((0,), (1,), (2,), (3,), (4,)),
        # FG-NET's own order: the pupils are 31 and 36, the nose tip is the last point.
        FGNET_68_POINTS: ((31,), (36,), (67,), (48,), (54,)),
        # Sagonas et al. 2013: six points around each eye, whose mean stands for the pupil.
        IBUG_68_POINTS: (tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,)),
        # The same without the 17 of the jaw and the two inner mouth corners.
        IBUG_49_POINTS: (tuple(range(19, 25)), tuple(range(25, 31)), (13,), (31,), (37,)),
    }
)
"""Per scheme the indices (0-based) whose mean is each of: left eye, right eye, nose tip, left and
right mouth corner; left and right as seen in the picture."""


def to_five_points(points_xy: tuple[Point, ...] | Floats, scheme: str) -> Floats:
    """Reduce a scheme's points to the five, float64 (5, 2).

    Raises:
        UsageError: the scheme is unknown.
    """
    if scheme not in FIVE_OF:
        raise UsageError(f"unknown landmark scheme {scheme!r}: {suggestion(scheme, FIVE_OF)}")
    points = np.asarray(points_xy, dtype=np.float64)
    return np.array([points[list(members)].mean(axis=0) for members in FIVE_OF[scheme]])
