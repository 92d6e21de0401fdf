"""The canonical frame: found again after any similarity transform."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from agebench.protocols import BoxToFrame, DetectorSpec
from agebench.types import FGNET_68_POINTS, FIVE_POINTS, Face, FaceFrame, Floats, Point
from agebench.vision.frames import (
    FRAME_ASPECT,
    TEMPLATE_5,
    box_iou,
    canonical_frame,
    five_points,
    frame_box,
    frame_from_box,
    frame_from_points,
    frame_points,
    frame_to_image,
)

SPEC = DetectorSpec("any", FIVE_POINTS)


def _moved(x: float, y: float, height: float, roll: float) -> Floats:
    """The template after a similarity transform by an independent implementation."""
    move: Any = SimilarityTransform
    return np.asarray(move(scale=height, rotation=roll, translation=(x, y))(TEMPLATE_5))


_PLACES = st.floats(-5_000, 5_000)
_HEIGHTS = st.floats(1.0, 5_000)
_ROLLS = st.floats(-math.pi + 1e-6, math.pi)


def _points(array: Floats) -> tuple[Point, ...]:
    return tuple((float(x), float(y)) for x, y in array)


@given(_PLACES, _PLACES, _HEIGHTS, _ROLLS)
def test_a_moved_template_gives_back_its_frame(
    x: float, y: float, height: float, roll: float
) -> None:
    frame = frame_from_points(_moved(x, y, height, roll))
    assert frame is not None
    assert frame.center_xy == pytest.approx((x, y), abs=1e-6)
    assert frame.height == pytest.approx(height, rel=1e-9)
    turn = (frame.roll_rad - roll + math.pi) % (2 * math.pi) - math.pi
    assert turn == pytest.approx(0, abs=1e-9)
    assert frame.found_by == "landmarks"


@given(_PLACES, _PLACES, _HEIGHTS, _ROLLS)
def test_points_of_the_frame_go_to_the_picture(
    x: float, y: float, height: float, roll: float
) -> None:
    got = np.array(frame_to_image(FaceFrame((x, y), height, roll), TEMPLATE_5))
    assert np.allclose(got, _moved(x, y, height, roll), atol=1e-6)


@given(st.integers(0, 2**32 - 1), _HEIGHTS, st.floats(-3, 3))
def test_noisy_points_give_the_least_squares_fit(seed: int, height: float, roll: float) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.02 * height, (5, 2))
    points = _moved(50, 60, height, roll) + noise
    # Linear least squares over (a, b, tx, ty): x' = a x - b y + tx, y' = b x + a y + ty.
    x, y = TEMPLATE_5.T
    one, none = np.ones(5), np.zeros(5)
    system = np.vstack([np.column_stack([x, -y, one, none]), np.column_stack([y, x, none, one])])
    a, b, tx, ty = np.linalg.lstsq(system, points.T.ravel(), rcond=None)[0]
    frame = frame_from_points(points)
    assert frame is not None
    assert frame.height == pytest.approx(math.hypot(a, b), rel=1e-7)
    assert frame.center_xy == pytest.approx((tx, ty), abs=1e-6 * height)
    assert math.sin(frame.roll_rad - math.atan2(b, a)) == pytest.approx(0, abs=1e-7)


def test_roll_is_clockwise_in_the_picture() -> None:
    # The image-right eye lower than the left one: the head leans clockwise.
    down = _moved(0, 0, 100, math.radians(20))
    assert down[1, 1] > down[0, 1]
    frame = frame_from_points(down)
    assert frame is not None
    assert math.degrees(frame.roll_rad) == pytest.approx(20)


def test_coinciding_points_give_none() -> None:
    assert frame_from_points(np.full((5, 2), 7.0)) is None


def test_box_to_frame_by_hand() -> None:
    spec = DetectorSpec("x", box_to_frame=BoxToFrame(dx=0.1, dy=-0.2, height=1.5))
    frame = frame_from_box((10, 20, 30, 60), spec)  # 20 wide, 40 high, centre (20, 40)
    assert frame == FaceFrame((22.0, 32.0), 60.0, 0.0, "box")
    laid = frame_from_box((0, 0, 4, 4), DetectorSpec("x", layout=True))
    assert laid.found_by == "layout"


def test_frame_box_has_the_frames_shape() -> None:
    left, top, right, bottom = frame_box(FaceFrame((100, 50), 40, 0.3))
    assert (right - left, bottom - top) == pytest.approx((40 * FRAME_ASPECT, 40))
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((100, 50))


def test_intersection_over_union_by_hand() -> None:
    assert box_iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert box_iou((0, 0, 2, 2), (2, 0, 4, 2)) == 0
    assert box_iou((0, 0, 2, 2), (5, 5, 6, 6)) == 0
    assert box_iou((0, 0, 2, 2), (0, 0, 2, 2)) == 1


def test_landmarks_that_fit_the_box_are_used() -> None:
    frame = FaceFrame((100, 100), 80, 0.4)
    points = tuple(frame_to_image(frame, TEMPLATE_5))
    got = canonical_frame(Face(frame_box(frame), 0.9, points, FIVE_POINTS), SPEC)
    assert got.found_by == "landmarks"
    assert got.center_xy == pytest.approx((100, 100))
    assert got.height == pytest.approx(80)
    assert got.box_xyxy == frame_box(frame)


@pytest.mark.parametrize("wild", [np.full((5, 2), 3.0), TEMPLATE_5 * 10, TEMPLATE_5 * 80 + 900])
def test_landmarks_that_contradict_the_box_are_not_believed(wild: Floats) -> None:
    face = Face((70, 60, 130, 140), 0.9, _points(wild), FIVE_POINTS)
    expected = replace(frame_from_box(face.box_xyxy, SPEC), box_xyxy=face.box_xyxy)
    assert canonical_frame(face, SPEC) == expected


def test_without_landmarks_the_box_decides() -> None:
    face = Face((70, 60, 130, 140), 0.9)
    assert five_points(face) is None
    expected = FaceFrame((100, 100), 80, 0.0, "box", box_xyxy=(70, 60, 130, 140))
    assert canonical_frame(face, SPEC) == expected


def test_fgnet_points_are_reduced_by_their_own_order() -> None:
    points = tuple((float(index), 0.5) for index in range(68))
    five = five_points(Face((0, 0, 1, 1), 1.0, points, FGNET_68_POINTS))
    assert five is not None
    assert five[:, 0].tolist() == [31, 36, 67, 48, 54]


def test_the_points_of_a_frame_are_those_found_or_those_of_the_template() -> None:
    found = ((1.0, 2.0), (30.5, 2.0), (16.0, 20.0), (5.0, 30.0), (28.0, 30.0))
    frame = FaceFrame((50.0, 40.0), 60.0)
    assert frame_points(replace(frame, points_xy=found)).tolist() == [list(xy) for xy in found]
    expected = frame_to_image(frame, TEMPLATE_5)
    np.testing.assert_allclose(frame_points(frame), expected)
