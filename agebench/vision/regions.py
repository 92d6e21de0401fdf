"""The parts of a face that a view can show, each a rectangle derived from one canonical frame.

Positions are those of the landmarks if they were detected, otherwise from the frame's proportions;
sizes are always fractions of the frame's height, which five points determine more reliably than
two. Drawn by benchmarks/regions.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from agebench.errors import UsageError, suggestion
from agebench.types import CropSpec, FaceFrame, Floats, Point
from agebench.vision.frames import FRAME_ASPECT, TEMPLATE_5, frame_points, frame_to_image


@dataclass(frozen=True, slots=True)
class Patch:
    """A rectangle in the picture: centre, width, height in pixels, and its clockwise roll."""

    center_xy: Point
    width: float
    height: float
    roll_rad: float = 0.0


RegionRule: TypeAlias = Callable[[FaceFrame, tuple[int, int]], Patch]
"""From a frame and the picture's (height, width) to a region's rectangle."""

CHIP_SIDE = 0.9025
"""Side of a UTKFace chip in frame heights (benchmarks/frames.py: a frame is 1.108 chips high)."""

CHIP_DOWN = 0.0912
"""Distance of a chip's centre below the frame's, in frame heights (0.101 chips)."""

ARCFACE_SIDE = 112
"""Side of ArcFace's crops, pixels."""

ARCFACE_5: Floats = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
"""Eyes, nose tip and mouth corners in these crops, pixels (x, y).

Source: Deng et al., "ArcFace", CVPR 2019, insightface/utils/face_align.py.
"""

_LEFT_EYE, _RIGHT_EYE, _NOSE, _MOUTH_LEFT, _MOUTH_RIGHT = range(5)


def _part(
    frame: FaceFrame, points: tuple[int, ...], size: tuple[float, float], up: float = 0.0
) -> Patch:
    """Return a rectangle around the mean of some of the five points.

    Args:
        frame: the face's frame.
        points: indices of the points.
        size: width and height, in frame heights.
        up: distance of the centre above the points, in frame heights.
    """
    known = frame.points_xy or _expected_points(frame)
    x, y = (sum(known[point][axis] for point in points) / len(points) for axis in (0, 1))
    rise = up * frame.height
    center = (x + rise * math.sin(frame.roll_rad), y - rise * math.cos(frame.roll_rad))
    return Patch(center, size[0] * frame.height, size[1] * frame.height, frame.roll_rad)


@lru_cache(maxsize=16)
def _expected_points(frame: FaceFrame) -> tuple[Point, ...]:
    """Return the five points by the frame's proportions; several views of one face need them."""
    return tuple(frame_to_image(frame, TEMPLATE_5))


def _face(frame: FaceFrame, _size_hw: tuple[int, int]) -> Patch:
    return Patch(frame.center_xy, frame.height * FRAME_ASPECT, frame.height, frame.roll_rad)


def _chip(frame: FaceFrame, _size_hw: tuple[int, int]) -> Patch:
    """The square that an aligned UTKFace chip shows, so that no border has to be filled in there.

    Its place in the frame is the inverse of that of detector `aligned` for those chips.
    """
    down = CHIP_DOWN * frame.height
    x, y = frame.center_xy
    center = (x - down * math.sin(frame.roll_rad), y + down * math.cos(frame.roll_rad))
    side = CHIP_SIDE * frame.height
    return Patch(center, side, side, frame.roll_rad)


def _box(frame: FaceFrame, size_hw: tuple[int, int]) -> Patch:
    """The detector's box; the face if no detector was used."""
    if frame.box_xyxy is None:
        return _face(frame, size_hw)
    left, top, right, bottom = frame.box_xyxy
    return Patch(((left + right) / 2, (top + bottom) / 2), right - left, bottom - top)


def _original(_frame: FaceFrame, size_hw: tuple[int, int]) -> Patch:
    height, width = size_hw
    return Patch(((width - 1) / 2, (height - 1) / 2), float(width), float(height))


def _aligned(frame: FaceFrame, size_hw: tuple[int, int]) -> Patch:
    """The face aligned by its eyes only, which are mapped exactly to the template's places."""
    if not frame.points_xy:
        return _face(frame, size_hw)
    left, right = frame_points(frame)[[_LEFT_EYE, _RIGHT_EYE]]
    along = right - left
    template: Floats = TEMPLATE_5[_RIGHT_EYE] - TEMPLATE_5[_LEFT_EYE]
    height = float(np.linalg.norm(along) / np.linalg.norm(template))
    if height < 1e-6:
        return _face(frame, size_hw)
    by_eyes = FaceFrame((0.0, 0.0), height, math.atan2(float(along[1]), float(along[0])))
    eyes_x, eyes_y = frame_to_image(
        by_eyes, TEMPLATE_5[[_LEFT_EYE, _RIGHT_EYE]].mean(axis=0)[None]
    )[0]
    middle = (left + right) / 2
    center = (float(middle[0] - eyes_x), float(middle[1] - eyes_y))
    return Patch(center, height * FRAME_ASPECT, height, by_eyes.roll_rad)


def _eyes(frame: FaceFrame, _size_hw: tuple[int, int]) -> Patch:
    return _part(frame, (_LEFT_EYE, _RIGHT_EYE), (0.74, 0.37), up=0.05)


def _eye_left(frame: FaceFrame, _size_hw: tuple[int, int]) -> Patch:
    return _part(frame, (_LEFT_EYE,), (0.34, 0.34), up=0.04)


def _eye_right(frame: FaceFrame, _size_hw: tuple[int, int]) -> Patch:
    return _part(frame, (_RIGHT_EYE,), (0.34, 0.34), up=0.04)


def _mouth(frame: FaceFrame, _size_hw: tuple[int, int]) -> Patch:
    return _part(frame, (_MOUTH_LEFT, _MOUTH_RIGHT), (0.54, 0.36))


def _nose(frame: FaceFrame, _size_hw: tuple[int, int]) -> Patch:
    return _part(frame, (_NOSE,), (0.36, 0.36), up=0.04)


def _forehead(frame: FaceFrame, _size_hw: tuple[int, int]) -> Patch:
    return _part(frame, (_LEFT_EYE, _RIGHT_EYE), (0.66, 0.30), up=0.30)


def _square(frame: FaceFrame, _size_hw: tuple[int, int]) -> Patch:
    """A square around the face whose side is the longer one, as in many programs."""
    side = frame.height * max(FRAME_ASPECT, 1.0)
    return Patch(frame.center_xy, side, side, frame.roll_rad)


def _arcface(frame: FaceFrame, _size_hw: tuple[int, int]) -> Patch:
    """The square that maps the five points to ArcFace's, by least squares."""
    points = frame_points(frame)
    target = points[:, 0] + 1j * points[:, 1]
    source = ARCFACE_5[:, 0] + 1j * ARCFACE_5[:, 1]
    centred = source - source.mean()
    factor = complex(np.vdot(centred, target - target.mean()) / np.vdot(centred, centred).real)
    if abs(factor) < 1e-6:  # the points coincide
        return _square(frame, _size_hw)
    middle = complex(target.mean()) + factor * ((1 + 1j) * (ARCFACE_SIDE - 1) / 2 - source.mean())
    side = abs(factor) * ARCFACE_SIDE
    return Patch((middle.real, middle.imag), side, side, math.atan2(factor.imag, factor.real))


MIRRORED_REGIONS = MappingProxyType({"eye_left": "eye_right", "eye_right": "eye_left"})
"""The region that is the mirror image of another one; the others are symmetric."""

REGIONS: Mapping[str, RegionRule] = MappingProxyType(
    {
        "original": _original,
        "box": _box,
        "face": _face,
        "aligned": _aligned,
        "chip": _chip,
        "square": _square,
        "arcface-112": _arcface,
        "eyes": _eyes,
        "eye_left": _eye_left,
        "eye_right": _eye_right,
        "mouth": _mouth,
        "nose": _nose,
        "forehead": _forehead,
    }
)
"""Every region by name.  Left and right are the picture's; "eyes" includes the brows and
the frown between them."""


def require_regions(name: str, crop: CropSpec) -> None:
    """Refuse views of an estimator, called `name`, that can't be cut from any picture.

    Raises:
        UsageError: one has an unknown region.
    """
    for view in crop.views.values():
        if view.region not in REGIONS:
            hint = suggestion(view.region, REGIONS)
            raise UsageError(f"{name}: unknown region {view.region!r}: {hint}")
