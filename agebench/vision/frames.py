"""From a detector's face to the canonical face frame.

The frame has a fixed shape: `FRAME_ASPECT` wide for a height of 1, from forehead to chin, with the
face's roll.  If five landmarks are known, it is the least-squares similarity transform (Umeyama
1991) of `TEMPLATE_5`; otherwise it is derived from the detector's box by proportions measured per
detector (benchmarks/frames.py), upright.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from agebench.errors import UsageError, suggestion
from agebench.protocols import DetectorSpec
from agebench.types import (
    FGNET_68_POINTS,
    FIVE_POINTS,
    IBUG_49_POINTS,
    IBUG_68_POINTS,
    Box,
    Face,
    FaceFrame,
    Floats,
    Point,
)

FRAME_ASPECT = 0.76
"""Width over height of the frame: the median of yolov8-face's boxes on FG-NET."""

TEMPLATE_5: Floats = np.array(
    [(-0.179, -0.100), (0.179, -0.100), (0.0, 0.100), (-0.152, 0.252), (0.152, 0.252)]
)
"""Eyes, nose tip and mouth corners in the frame, in frame heights from its centre.

Medians of yolov8-face's landmarks in its own boxes on FG-NET subjects 1-20, made symmetric.
"""

MIN_AGREEMENT = 0.3
"""Smallest IoU of the landmarks' frame with the box's frame; below, the landmarks are ignored."""

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
    points = np.asarray(points_xy)
    return np.array([points[list(members)].mean(axis=0) for members in FIVE_OF[scheme]])


def five_points(face: Face) -> Floats | None:
    """Return the face's five points as float64 (5, 2).

    None without landmarks, or with those of an unknown third-party scheme.
    """
    if face.landmark_scheme not in FIVE_OF:
        return None
    return to_five_points(face.landmarks_xy, face.landmark_scheme)


def frame_from_points(points_xy: Floats) -> FaceFrame | None:
    """Fit the frame to five points (5, 2); None if they coincide."""
    template = TEMPLATE_5 - TEMPLATE_5.mean(axis=0)
    centred = points_xy - points_xy.mean(axis=0)
    # Similarity transforms of the plane are products of complex numbers.
    source = template[:, 0] + 1j * template[:, 1]
    target = centred[:, 0] + 1j * centred[:, 1]
    factor = complex(np.vdot(source, target) / np.vdot(source, source).real)
    if not abs(factor) > 1e-6:
        return None
    offset = factor * complex(*TEMPLATE_5.mean(axis=0))
    center = complex(*points_xy.mean(axis=0)) - offset
    return FaceFrame(
        (center.real, center.imag),
        abs(factor),
        math.atan2(factor.imag, factor.real),
        "landmarks",
        tuple((float(x), float(y)) for x, y in points_xy),
    )


def frame_from_box(box_xyxy: Box, spec: DetectorSpec) -> FaceFrame:
    """Return the upright frame of a detector's box."""
    left, top, right, bottom = box_xyxy
    width, height = right - left, bottom - top
    to_frame = spec.box_to_frame
    center = (
        (left + right) / 2 + to_frame.dx * width,
        (top + bottom) / 2 + to_frame.dy * height,
    )
    return FaceFrame(center, height * to_frame.height, 0.0, "layout" if spec.layout else "box")


def frame_box(frame: FaceFrame) -> Box:
    """Return the frame as an upright rectangle, ignoring its roll."""
    x, y = frame.center_xy
    half_height = frame.height / 2
    half_width = half_height * FRAME_ASPECT
    return (x - half_width, y - half_height, x + half_width, y + half_height)


def box_iou(first: Box, second: Box) -> float:
    """Return intersection over union of two boxes.

    >>> box_iou((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def canonical_frame(face: Face, spec: DetectorSpec) -> FaceFrame:
    """Map a detector's face to the canonical frame; `found_by` of the result says what it is from.

    Landmarks that contradict the box are ignored: detectors misplace points on faces that fill the
    picture, with high scores.
    """
    frame = frame_from_box(face.box_xyxy, spec)
    points = five_points(face)
    by_points = None if points is None else frame_from_points(points)
    if by_points is not None and box_iou(frame_box(by_points), frame_box(frame)) >= MIN_AGREEMENT:
        frame = by_points
    return replace(frame, box_xyxy=face.box_xyxy)


def frame_to_image(frame: FaceFrame, points_hw: Floats) -> list[Point]:
    """Map points from frame heights around the frame's centre to the picture, pixels."""
    cos, sin = math.cos(frame.roll_rad), math.sin(frame.roll_rad)
    turn = np.array([[cos, sin], [-sin, cos]]) * frame.height
    mapped = points_hw @ turn + np.asarray(frame.center_xy)
    return [(float(x), float(y)) for x, y in mapped]


def frame_points(frame: FaceFrame) -> Floats:
    """Return the five points in the picture, float64 (5, 2): detected, or by proportions."""
    if frame.points_xy:
        return np.asarray(frame.points_xy, dtype=np.float64)
    return np.asarray(frame_to_image(frame, TEMPLATE_5), dtype=np.float64)


def face_from_landmarks(points_xy: tuple[Point, ...], scheme: str) -> Face | None:
    """Make a face from a picture's annotated landmarks; None if no frame fits them."""
    frame = frame_from_points(to_five_points(points_xy, scheme))
    if frame is None:
        return None
    return Face(frame_box(frame), 1.0, points_xy, scheme)
