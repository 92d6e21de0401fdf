"""The same face, harder to see: each change against what it is meant to do, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from agebench.errors import UsageError
from agebench.harness.settings import CompareSettings
from agebench.types import CropSpec, FaceFrame, Image, ViewSpec
from agebench.vision.crops import cut_crops
from agebench.vision.frames import FRAME_ASPECT, TEMPLATE_5, frame_from_points, frame_to_image
from agebench.vision.variants import COVER_GRAY, KINDS, parse_variant

PLAIN = FaceFrame((60.0, 50.0), 64.0, 0.0, "box", box_xyxy=(36.0, 18.0, 84.0, 82.0))
POINTS = replace(
    PLAIN,
    found_by="landmarks",
    points_xy=tuple(frame_to_image(PLAIN, TEMPLATE_5)),
)


@pytest.fixture
def picture() -> Image:
    return np.random.default_rng(3).integers(0, 256, (100, 120, 3)).astype(np.uint8)


def _changed(text: str, image: Image, frame: FaceFrame = POINTS) -> tuple[Image, FaceFrame]:
    return parse_variant(text).apply(image, frame, "a.jpg", 0)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_size_stays_and_the_picture_itself_is_not_written_to(name: str, picture: Image) -> None:
    kind = KINDS[name]
    text = f"{name}={min(kind.high, max(kind.low, 8.0)):g}" if kind.unit else name
    before = picture.copy()
    changed, frame = _changed(text, picture)
    assert changed.shape == picture.shape
    assert changed.dtype == np.uint8
    assert (picture == before).all()
    assert frame.height == POINTS.height
    again, _ = _changed(text, picture)
    assert (changed == again).all()  # the same name and seed, the same picture


def test_no_more_detail_than_a_face_so_high(picture: Image) -> None:
    changed, frame = _changed("face-px=32", picture)
    assert frame == POINTS
    # 2 to 1: every two by two pixels became one, so each row is a mixture of 50 and not of 100.
    rows = changed[..., 0].astype(np.float64)
    assert np.linalg.matrix_rank(rows - rows.mean(axis=0), tol=60.0) <= 60
    assert np.std(rows) < 0.6 * np.std(picture[..., 0])
    flat = np.full_like(picture, 77)
    assert (_changed("face-px=32", flat)[0] == flat).all()
    assert _changed("face-px=96", picture)[0] is picture  # it is smaller than that already


def test_blur_is_relative_to_the_face() -> None:
    point = np.zeros((101, 101, 3), np.uint8)
    point[50, 50] = 255
    small, large = (
        _changed("blur=5", point, replace(PLAIN, height=height))[0].astype(np.float64)
        for height in (40.0, 80.0)
    )
    # A Gaussian's middle is 255 / (2 pi sigma^2); sigma is 2 and 4 pixels.
    assert small[50, 50, 0] == pytest.approx(255 / (2 * math.pi * 4), abs=1.5)
    assert large[50, 50, 0] == pytest.approx(255 / (2 * math.pi * 16), abs=1.5)


def test_gray_has_no_colour_and_light_scales(picture: Image) -> None:
    gray, _ = _changed("gray", picture)
    assert (gray[..., 0] == gray[..., 1]).all()
    assert (gray[..., 1] == gray[..., 2]).all()
    blue, green, red = (picture[..., at].astype(np.float64) for at in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601
    assert np.abs(gray[..., 0] - luma).max() <= 1.0
    dark, _ = _changed("light=50", picture)
    assert np.abs(dark - picture / 2.0).max() <= 0.5


def test_jpeg_is_worse_at_lower_quality(picture: Image) -> None:
    smooth = np.repeat(np.repeat(picture[:25, :30], 4, axis=0), 4, axis=1)
    off = [
        np.abs(_changed(f"jpeg={quality}", smooth)[0].astype(int) - smooth).mean()
        for quality in (90, 50, 10)
    ]
    assert off == sorted(off)
    assert off[0] < off[2]


def test_a_turned_face_keeps_its_landmarks_on_it(picture: Image) -> None:
    changed, frame = _changed("roll=30", picture)
    by_points = frame_from_points(np.asarray(frame.points_xy))
    assert by_points is not None
    assert by_points.roll_rad == pytest.approx(math.radians(30), abs=1e-6)
    assert by_points.center_xy == pytest.approx(POINTS.center_xy, abs=1e-6)
    assert frame.roll_rad == pytest.approx(math.radians(30))
    # Cut upright by the landmarks, the turned face is the face as it was.
    aligned = CropSpec({"face": ViewSpec("face", (32, 24), align=True)})
    first = cut_crops(_smooth(picture), [POINTS], aligned).views["face"][0]
    second = cut_crops(_changed("roll=30", _smooth(picture))[0], [frame], aligned).views["face"][0]
    assert np.abs(first.astype(int) - second).mean() < 3.0
    # Without landmarks nobody knows, and the face leans in the crop.
    assert _changed("roll=30", picture, PLAIN)[1].roll_rad == 0.0
    assert changed.shape == picture.shape


def _smooth(image: Image) -> Image:
    return _changed("blur=10", image)[0]


def test_a_shift_is_of_the_faces_own_size_to_all_sides_alike(picture: Image) -> None:
    moves = set()
    for at in range(40):
        same, frame = parse_variant("shift=10").apply(picture, POINTS, f"{at}.jpg", 0)
        assert same is picture
        dx, dy = np.subtract(frame.center_xy, POINTS.center_xy).tolist()
        assert abs(dx) == pytest.approx(0.1 * 64 * FRAME_ASPECT)
        assert abs(dy) == pytest.approx(6.4)
        assert np.subtract(frame.points_xy[0], POINTS.points_xy[0]) == pytest.approx([dx, dy])
        assert frame.box_xyxy is not None
        assert POINTS.box_xyxy is not None
        assert np.subtract(frame.box_xyxy, POINTS.box_xyxy) == pytest.approx([dx, dy, dx, dy])
        moves.add((dx > 0, dy > 0))
    assert len(moves) == 4


def test_eyes_and_mouth_are_covered_and_nothing_else(picture: Image) -> None:
    for region, point, other in (("eyes", 0, 3), ("mouth", 3, 0)):
        covered, frame = _changed(f"cover-{region}", picture)
        x, y = (round(value) for value in POINTS.points_xy[point])
        assert (covered[y, x] == COVER_GRAY).all()
        assert frame == POINTS
        x, y = (round(value) for value in POINTS.points_xy[other])
        assert (covered[y, x] == picture[y, x]).all()
        changed = (covered != picture).any(axis=2).mean()
        assert 0.05 < changed < 0.15


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grey", "did you mean 'gray'"),
        ("gray=3", "expected gray"),
        ("jpeg", "expected jpeg=STRENGTH, 1 to 100 quality"),
        ("jpeg=0", "1 to 100"),
        ("jpeg=nan", "1 to 100"),
        ("jpeg=95.7", "1 to 100 quality, an integer"),
        ("roll=much", "-180 to 180 degrees"),
    ],
)
def test_what_is_no_variant_is_refused(text: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        parse_variant(text)
    with pytest.raises(UsageError, match=expected):
        CompareSettings(variant=text)
