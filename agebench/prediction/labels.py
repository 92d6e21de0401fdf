"""Places labels without overlap: pure geometry, tested without a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from agebench.types import Box, Floats
from agebench.util.arrays import Bools

RINGS = 14
"""Largest distance of a label from its face, in label heights."""

FOREHEAD = 0.25
"""Fraction of a face's box above the eyes, which a label may cover if it must cover something."""


def place_labels(
    boxes_xyxy: Sequence[Box], sizes_wh: Sequence[tuple[float, float]], canvas_wh: tuple[int, int]
) -> list[Box | None]:
    """Find a place for each face's label, inside the canvas and without overlapping labels.

    Labels are above, below or beside their boxes, outside of all faces if possible; otherwise
    further away, and at worst where they hide least, as on the face's own forehead.  Large faces
    choose first.

    Args:
        boxes_xyxy: the faces, pixels.
        sizes_wh: width and height of each one's label, pixels.
        canvas_wh: width and height of the picture.

    Returns:
        Left, top, right, bottom of each label; None where there is no place for it.

    >>> place_labels([(10, 30, 30, 60)], [(20, 10)], (100, 100))
    [(10.0, 20.0, 30.0, 30.0)]
    """
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    order = np.argsort(-(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), kind="stable")
    placed: list[Box | None] = [None] * len(boxes)
    taken = np.empty((0, 4))
    for index in order:
        found = _place(boxes, index, sizes_wh[index], canvas_wh, taken)
        if found is not None:
            left, top, right, bottom = (float(edge) for edge in found)
            placed[index] = (left, top, right, bottom)
            taken = np.vstack([taken, found])
    return placed


def _place(
    faces: Floats,
    index: int,
    size_wh: tuple[float, float],
    canvas_wh: tuple[int, int],
    taken: Floats,
) -> Floats | None:
    box = faces[index]
    for places in _candidates(box, size_wh):
        inside = _inside(places, canvas_wh)
        free = places[inside & ~_touches(places, taken)]
        clear = free[~_touches(free, faces)]
        if len(clear):
            return np.asarray(clear[0])
    # Every place is on a face: of the nearest ones without another label, that which hides least.
    features = faces.copy()
    features[index, 1] += FOREHEAD * (box[3] - box[1])
    for places in _candidates(box, size_wh):
        moved = _moved_inside(places, canvas_wh)
        free = moved[_inside(moved, canvas_wh) & ~_touches(moved, taken)]
        if len(free):
            return np.asarray(free[np.argmin(_hidden(free, features))])
    return None


def _candidates(box: Floats, size_wh: tuple[float, float]) -> Iterator[Floats]:
    """Yield places beside the box and on its forehead, then in rings around it, each (n, 4)."""
    left, top, right, bottom = box
    width, height = size_wh
    for ring in range(RINGS + 1):
        gap = ring * height
        across = np.unique([left, right - width, (left + right - width) / 2])
        across = np.concatenate([across, left + np.arange(-ring, ring + 1) * width / 2])
        down = np.concatenate([[top, bottom - height], top + np.arange(-ring, ring + 1) * height])
        corners = [(x, y) for y in (top - height - gap, bottom + gap) for x in across]
        corners.append((left, top))
        corners += [(x, y) for x in (right + gap, left - width - gap) for y in down]
        starts = np.asarray(corners)
        yield np.concatenate([starts, starts + np.array([width, height])], axis=1)


def _inside(places: Floats, canvas_wh: tuple[int, int]) -> Bools:
    width, height = canvas_wh
    low = (places[:, 0] >= 0) & (places[:, 1] >= 0)
    return np.asarray(low & (places[:, 2] <= width) & (places[:, 3] <= height))


def _moved_inside(places: Floats, canvas_wh: tuple[int, int]) -> Floats:
    sizes = places[:, 2:] - places[:, :2]
    starts = np.clip(places[:, :2], 0.0, np.asarray(canvas_wh) - sizes)
    return np.concatenate([starts, starts + sizes], axis=1)


def _touches(places: Floats, others: Floats) -> Bools:
    """Return for each place whether it overlaps any of the others."""
    return np.asarray(_hidden(places, others) > 0)


def _hidden(places: Floats, others: Floats) -> Floats:
    """Return the area of the others that each place covers."""
    low = np.maximum(places[:, None, :2], others[None, :, :2])
    high = np.minimum(places[:, None, 2:], others[None, :, 2:])
    shared = np.maximum(high - low, 0.0)
    return np.asarray((shared[..., 0] * shared[..., 1]).sum(axis=1))
