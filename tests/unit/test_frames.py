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

from agebench.errors import UsageError
from agebench.protocols import BoxToFrame, DetectorSpec
from agebench.types import (
    FGNET_68_POINTS,
    FIVE_POINTS,
    IBUG_49_POINTS,
    IBUG_68_POINTS,
    Face,
    FaceFrame,
    Floats,
    Point,
)
from agebench.vision.frames import (
    FRAME_ASPECT,
    TEMPLATE_5,
    box_iou,
    canonical_frame,
    face_from_landmarks,
    five_points,
    frame_box,
    frame_from_box,
    frame_from_points,
    frame_points,
    frame_to_image,
    to_five_points,
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
    for apart in ((5, 5, 6, 6), (5, 0, 6, 2), (0, 5, 2, 6)):
        assert box_iou((0, 0, 2, 2), apart) == 0
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


@pytest.mark.parametrize(("scheme", "first_eye"), [(IBUG_68_POINTS, 36), (IBUG_49_POINTS, 19)])
def test_the_points_around_an_eye_stand_for_its_pupil(scheme: str, first_eye: int) -> None:
    count = 68 if scheme == IBUG_68_POINTS else 49
    points = tuple((float(index), float(index) ** 2) for index in range(count))
    five = to_five_points(points, scheme)
    for eye in (0, 1):
        of_eye = np.arange(6) + first_eye + 6 * eye
        assert five[eye].tolist() == pytest.approx([of_eye.mean(), (of_eye**2).mean()])
    others = [30, 48, 54] if count == 68 else [13, 31, 37]
    assert five[2:].tolist() == [[index, index**2] for index in others]


def test_an_unknown_scheme_is_named_and_its_points_are_not_used() -> None:
    with pytest.raises(UsageError, match=r"'5-pionts'.*did you mean '5-point'"):
        to_five_points(TEMPLATE_5, "5-pionts")
    face = Face((70, 60, 130, 140), 0.9, _points(TEMPLATE_5 * 80 + 100), "third-party")
    assert five_points(face) is None
    assert canonical_frame(face, SPEC).found_by == "box"


def test_a_frame_keeps_its_points_as_plain_numbers() -> None:
    points = _moved(50, 60, 40, 0.3)
    frame = frame_from_points(points)
    assert frame is not None
    assert frame.points_xy == _points(points)
    assert all(type(number) is float for point in frame.points_xy for number in point)
    assert math.atan2(math.sin(frame.roll_rad), math.cos(frame.roll_rad)) == frame.roll_rad


def test_a_frame_may_be_small_but_not_a_point() -> None:
    assert frame_from_points(_moved(0, 0, 2e-6, 0)) is not None
    assert frame_from_points(_moved(0, 0, 0.5e-6, 0)) is None


def test_boxes_of_no_area_have_no_overlap() -> None:
    assert box_iou((1, 1, 1, 1), (1, 1, 1, 1)) == 0
    assert box_iou((0, 0, 4, 0), (0, 0, 4, 4)) == 0
    # 12 wide, 2 of them shared; 5 high, 3 of them shared: 6 / (2 * 60 - 6).
    assert box_iou((0, 0, 12, 5), (10, 2, 22, 7)) == pytest.approx(6 / 114)


@pytest.mark.parametrize(("shift", "found_by"), [(0.53, "landmarks"), (0.54, "box")])
def test_landmarks_are_believed_down_to_the_stated_agreement(shift: float, found_by: str) -> None:
    # Boxes of one size, shifted by s of their height: IoU = (1 - s) / (1 + s) = 0.3 at s = 0.538.
    frame = FaceFrame((100.0, 100.0 + 80 * shift), 80.0)
    box = frame_box(FaceFrame((100.0, 100.0), 80.0))
    points = tuple(frame_to_image(frame, TEMPLATE_5))
    assert canonical_frame(Face(box, 0.9, points, FIVE_POINTS), SPEC).found_by == found_by


def test_annotated_landmarks_make_a_face() -> None:
    points = _points(_moved(100, 90, 60, 0.2))
    face = face_from_landmarks(points, FIVE_POINTS)
    assert face is not None
    assert face.box_xyxy == pytest.approx(frame_box(FaceFrame((100, 90), 60)))
    assert (face.score, face.landmarks_xy, face.landmark_scheme) == (1.0, points, FIVE_POINTS)
    assert face_from_landmarks(((3.0, 3.0),) * 5, FIVE_POINTS) is None


def test_points_turn_clockwise_with_the_frame() -> None:
    # A quarter turn takes right to down and down to left; y points down.
    frame = FaceFrame((10.0, 20.0), 4.0, math.pi / 2)
    assert np.array(frame_to_image(frame, np.array([(1.0, 0.0), (0.0, 1.0)]))) == pytest.approx(
        np.array([(10.0, 24.0), (6.0, 20.0)])
    )
    assert frame_points(frame).dtype == np.float64
