"""Crops against slicing, area averaging, and an independent interpolation."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import map_coordinates

from agebench.errors import UsageError
from agebench.types import CropSpec, FaceFrame, Image, ViewSpec
from agebench.vision import crops
from agebench.vision.crops import cut_crops, cut_patch, view_patch
from agebench.vision.frames import FRAME_ASPECT
from agebench.vision.opencv import cv2
from agebench.vision.regions import Patch

FIXED_POINT = 2.0
"""OpenCV's warp knows places to 1/32 of a pixel: levels of 256 that this may cost on `_smooth`."""


def _noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def _smooth(height: int, width: int) -> Image:
    picture = cv2.resize(_noise(6, 8), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(picture, np.uint8)


def _reference(image: Image, patch: Patch, size_hw: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Bilinear values at the centres of the crop's pixels, written down from the definition."""
    height, width = size_hw
    rows, columns = np.mgrid[:height, :width]
    right = ((columns + 0.5) / width - 0.5) * patch.width
    down = ((rows + 0.5) / height - 0.5) * patch.height
    cos, sin = math.cos(patch.roll_rad), math.sin(patch.roll_rad)
    x = patch.center_xy[0] + cos * right - sin * down
    y = patch.center_xy[1] + sin * right + cos * down
    planes = [
        map_coordinates(image[:, :, channel].astype(float), [y, x], order=1, mode="nearest")
        for channel in range(3)
    ]
    return np.stack(planes, axis=2)


def _frame(x: float, y: float, height: float, roll: float = 0.0) -> FaceFrame:
    return FaceFrame((x, y), height, roll)


def _one(image: Image, view: ViewSpec, frame: FaceFrame | None = None) -> tuple[Image, bool, float]:
    frame = frame or _frame(10, 10, 10)
    crops = cut_crops(image, [frame], CropSpec({"v": view}))
    return crops.views["v"][0], bool(crops.present["v"][0]), float(crops.outside["v"][0])


@pytest.mark.parametrize(("left", "top", "width", "height"), [(0, 0, 7, 5), (13, 4, 20, 31)])
def test_a_crop_at_its_own_size_is_a_slice(left: int, top: int, width: int, height: int) -> None:
    image = _noise(40, 50)
    patch = Patch((left + (width - 1) / 2, top + (height - 1) / 2), width, height)
    got = cut_patch(image, patch, (height, width))
    assert np.array_equal(got, image[top : top + height, left : left + width])


def test_the_whole_picture_at_its_own_size_is_itself() -> None:
    image = _noise(40, 50)
    got, present, outside = _one(image, ViewSpec("original", (40, 50)))
    assert np.array_equal(got, image)
    assert (present, outside) == (True, 0.0)


@pytest.mark.parametrize("times", [2, 4, 8])
def test_shrinking_by_powers_of_two_is_area_averaging(times: int) -> None:
    image = _smooth(64, 96)
    got, _, _ = _one(image, ViewSpec("original", (64 // times, 96 // times)))
    expected = cv2.resize(image, (96 // times, 64 // times), interpolation=cv2.INTER_AREA)
    # Halving several times rounds several times.
    limit = 0 if times == 2 else 1
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= limit


def test_halving_noise_is_exact() -> None:
    image = _noise(64, 96)
    got, _, _ = _one(image, ViewSpec("original", (32, 48)))
    assert np.array_equal(got, cv2.resize(image, (48, 32), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize(
    ("patch", "size_hw"),
    [
        (Patch((60.3, 41.8), 30.0, 40.0, 0.5), (40, 30)),
        (Patch((60.0, 40.0), 30.0, 40.0, -2.2), (56, 56)),
        (Patch((55.5, 44.4), 45.0, 21.0, math.pi / 2), (30, 60)),
        (Patch((60.0, 40.0), 50.0, 50.0, 0.1), (30, 31)),
        (Patch((3.0, 75.0), 30.0, 40.0, 0.7), (40, 30)),
        (Patch((118.7, 2.0), 33.0, 20.0), (64, 64)),
    ],
)
def test_turned_crops_against_another_interpolation(patch: Patch, size_hw: tuple[int, int]) -> None:
    image = _smooth(80, 120)
    got = cut_patch(image, patch, size_hw).astype(float)
    difference = np.abs(got - _reference(image, patch, size_hw))
    assert difference.max() <= FIXED_POINT
    assert difference.mean() < 0.5


def test_large_turned_crops_against_an_averaged_picture() -> None:
    image = _smooth(300, 400)
    patch = Patch((200.0, 150.0), 180.0, 200.0, 0.35)
    got = cut_patch(image, patch, (40, 36)).astype(float)
    # Mean of 5x5 places in each of the crop's pixels.
    fine = _reference(image, patch, (200, 180)).reshape(40, 5, 36, 5, 3).mean(axis=(1, 3))
    assert np.abs(got - fine).mean() < 1.0


def test_nothing_aliases() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    got, _, _ = _one(stripes, ViewSpec("original", (32, 32)))
    assert got.min() >= 127
    assert got.max() <= 128


def test_upright_views_leave_the_lean_out() -> None:
    frame = _frame(30, 30, 20, roll=0.7)
    assert view_patch(ViewSpec("face"), frame, (60, 60)).roll_rad == 0
    assert view_patch(ViewSpec("face", align=True), frame, (60, 60)).roll_rad == 0.7


def test_margins_by_hand() -> None:
    patch = view_patch(ViewSpec("face", margin=0.25, margin_px=3), _frame(30, 30, 20), (60, 60))
    assert patch.height == pytest.approx(20 * 1.5 + 6)
    assert patch.width == pytest.approx(20 * FRAME_ASPECT * 1.5 + 6)
    assert patch.center_xy == (30, 30)


def test_unknown_regions_are_named() -> None:
    with pytest.raises(UsageError, match=r"unknown region 'fcae'.*did you mean"):
        _one(_noise(5, 5), ViewSpec("fcae"))


@pytest.mark.parametrize(
    ("x", "y", "height", "roll"),
    [
        (30, 20, 10, 0.0),
        (2, 3, 20, 0.0),
        (58, 39, 30, 0.0),
        (30, 20, 200, 0.0),
        (2, 3, 20, 0.6),
        (59, 20, 25, -1.1),
        (30, 20, 120, 0.8),
        (-2, 20, 12, 0.3),
    ],
)
def test_share_outside_against_a_count_of_places(
    x: float, y: float, height: float, roll: float
) -> None:
    view = ViewSpec("face", (8, 8), align=True)
    _, _, outside = _one(_noise(40, 60), view, _frame(x, y, height, roll))
    count = 1_200
    steps = (np.arange(count) + 0.5) / count - 0.5
    right, down = np.meshgrid(steps * height * FRAME_ASPECT, steps * height)
    px = x + math.cos(roll) * right - math.sin(roll) * down
    py = y + math.sin(roll) * right + math.cos(roll) * down
    inside = (px >= -0.5) & (px <= 59.5) & (py >= -0.5) & (py <= 39.5)
    assert outside == pytest.approx(1 - inside.mean(), abs=2e-3)


def test_border_rules() -> None:
    image = np.full((20, 20, 3), 200, np.uint8)
    image[:, 0] = 50
    frame = _frame(-0.5, 9.5, 10)  # the left half lies outside
    sides = {}
    for border in ("replicate", "constant", "clip"):
        view = ViewSpec("face", (10, 8), border=border)
        pixels, present, outside = _one(image, view, frame)
        assert present
        assert outside == pytest.approx(0.5)
        sides[border] = (int(pixels[5, 0, 0]), int(pixels[5, -1, 0]))
    assert sides["replicate"] == (50, 200)
    assert sides["constant"] == (0, 200)
    assert sides["clip"][1] == 200
    # Clipped: 4 columns of the picture, the first of them the dark one, spread over 8.
    assert 50 <= sides["clip"][0] <= 60


@pytest.mark.parametrize("roll", [0.0, 0.3])
def test_a_view_within_the_picture_is_all_there(roll: float) -> None:
    image, rng = np.zeros((1000, 1000, 3), np.uint8), np.random.default_rng(0)
    view = ViewSpec("face", (8, 8), align=True, max_outside=0.0)
    for x, y, height in rng.uniform((400, 400, 50), (600, 600, 300), (200, 3)):
        _, present, outside = _one(image, view, _frame(x, y, height, roll))
        assert present
        assert outside == 0


@pytest.mark.parametrize("roll", [0.0, 0.4])
def test_black_is_put_only_beyond_the_picture(roll: float) -> None:
    image = np.full((1000, 1001, 3), 255, np.uint8)
    view = ViewSpec("face", (16, 16), align=True, border="constant")
    for height in range(100, 700, 7):
        pixels, _, outside = _one(image, view, _frame(500.3, 499.7, height, roll))
        assert outside == 0
        assert pixels.min() == 255
    edge = ViewSpec("original", (16, 16), border="constant")
    assert _one(image, edge)[0].min() == 255


@pytest.mark.parametrize("replicate", [True, False])
@pytest.mark.parametrize("roll", [0.0, 0.5])
def test_what_halving_drops_is_not_missed(
    replicate: bool, roll: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, rng = _noise(1000, 1001), np.random.default_rng(1)
    window_of = crops.window_of

    def to_the_end(
        patch: Patch, crop_hw: tuple[int, int], picture_hw: tuple[int, int]
    ) -> tuple[int, int, int, int]:
        left, top, _, _ = window_of(patch, crop_hw, picture_hw)
        return left, top, picture_hw[1], picture_hw[0]

    for x, y, width, height in rng.uniform((430, 430, 300, 300), (570, 570, 400, 400), (20, 4)):
        patch = Patch((x, y), width, height, roll)
        cut = cut_patch(image, patch, (32, 32), replicate=replicate)
        with monkeypatch.context() as patched:
            patched.setattr(crops, "window_of", to_the_end)
            assert np.array_equal(cut, cut_patch(image, patch, (32, 32), replicate=replicate))


def test_clipping_is_slicing_and_resizing() -> None:
    image = _noise(40, 60)
    frame = _frame(4.5, 3.5, 20)
    got, _, _ = _one(image, ViewSpec("face", (28, 24), border="clip"), frame)
    # Edges at 4.5 +- 7.6 and 3.5 +- 10; pixel i begins at i - 0.5.
    part = image[0:14, 0:12]
    expected = cv2.resize(part, (24, 28), interpolation=cv2.INTER_LINEAR)
    # The last row and column blend with the picture's next pixels, which a slice does not know.
    assert np.abs(got.astype(int) - expected.astype(int))[:-1, :-1].max() <= 4


@pytest.mark.parametrize("size_hw", [(641, 640), (640, 641), (639, 643), (1, 1)])
def test_a_whole_picture_that_is_clipped_is_whole(size_hw: tuple[int, int]) -> None:
    """Its edges lie on half pixels, which Python's own rounding takes to the even side."""
    image = _noise(*size_hw)
    view = ViewSpec("original", size_hw, border="clip", align=False)
    got, _, outside = _one(image, view, _frame(0, 0, 1))
    assert np.array_equal(got, image)
    assert outside == 0


@pytest.mark.parametrize(
    "frame",
    [
        _frame(500, 10, 20),
        _frame(10, -500, 20),
        _frame(10, 10, 1.2),
        _frame(1e9, 1e9, 3.0),
        _frame(500, 10, 20, 0.5),
    ],
)
def test_regions_that_cannot_be_had_are_missing(frame: FaceFrame) -> None:
    for border in ("replicate", "clip"):
        view = ViewSpec("face", (6, 6), border=border)
        pixels, present, _ = _one(_noise(40, 40), view, frame)
        assert not present
        assert not pixels.any()


def test_too_little_inside_is_missing_if_the_view_says_so() -> None:
    frame = _frame(-0.5, 9.5, 10)
    assert _one(_noise(20, 20), ViewSpec("face", (4, 4), max_outside=0.51), frame)[1]
    assert not _one(_noise(20, 20), ViewSpec("face", (4, 4), max_outside=0.49), frame)[1]


@pytest.mark.parametrize("shape", [(2, 40_000), (40_000, 2), (33_000, 3), (3, 70_001)])
def test_pictures_longer_than_opencv_warps(shape: tuple[int, int]) -> None:
    height, width = shape
    ramp = np.linspace(0, 255, max(shape)).astype(np.uint8)
    line = ramp[None, :, None] if width > height else ramp[:, None, None]
    image = np.ascontiguousarray(np.broadcast_to(line, (height, width, 3)))
    got, present, _ = _one(image, ViewSpec("original", (8, 8)))
    assert present
    along = got[4, :, 0] if width > height else got[:, 4, 0]
    expected = (np.arange(8) + 0.5) / 8 * 255
    assert np.abs(along - expected).max() <= 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2)])
def test_tiny_pictures(shape: tuple[int, int]) -> None:
    got, present, outside = _one(_noise(*shape), ViewSpec("original", (9, 9)))
    assert (present, outside, got.shape) == (True, 0.0, (9, 9, 3))


def test_huge_and_far_frames_do_not_break() -> None:
    image = _noise(30, 30)
    for height in (1e3, 1e6, 1e9, 1e12, 1e150):
        for roll in (0.0, 0.3):
            pixels, _, outside = _one(
                image, ViewSpec("face", (5, 5), align=True), _frame(15, 15, height, roll)
            )
            assert pixels.shape == (5, 5, 3)
            assert 0 <= outside <= 1


def test_several_faces_keep_their_order_and_none_gives_none() -> None:
    image = _noise(60, 60)
    spec = CropSpec({"face": ViewSpec("face", (6, 5)), "all": ViewSpec("original", (3, 4))})
    frames = [_frame(20, 20, 10), _frame(900, 20, 10), _frame(40, 40, 12)]
    crops = cut_crops(image, frames, spec)
    assert crops.present["face"].tolist() == [True, False, True]
    assert crops.present["all"].tolist() == [True, True, True]
    for index, frame in enumerate(frames):
        single = cut_crops(image, [frame], spec)
        assert np.array_equal(single.views["face"][0], crops.views["face"][index])
    empty = cut_crops(image, [], spec)
    assert len(empty) == 0
    assert empty.views["face"].shape == (0, 6, 5, 3)


def test_the_picture_is_left_as_it_was_and_any_layout_is_taken() -> None:
    image = _noise(60, 60)
    before = image.copy()
    view = ViewSpec("face", (7, 7), align=True)
    expected, _, _ = _one(image, view, _frame(30, 30, 25, 0.2))
    assert np.array_equal(image, before)
    image.flags.writeable = False
    assert np.array_equal(_one(image, view, _frame(30, 30, 25, 0.2))[0], expected)
    turned = np.asfortranarray(before)
    assert np.array_equal(_one(turned, view, _frame(30, 30, 25, 0.2))[0], expected)


def _as_in_opencvs_tutorial(image: Image, box: tuple[int, int, int, int], padding: int) -> Image:
    """The crop of OpenCV's tutorial on age and gender (learnopencv.com, AgeGender.py)."""
    face = image[
        max(0, box[1] - padding) : min(box[3] + padding, image.shape[0] - 1),
        max(0, box[0] - padding) : min(box[2] + padding, image.shape[1] - 1),
    ]
    return np.asarray(cv2.resize(face, (30, 20)), np.uint8)


@pytest.mark.parametrize(
    "box",
    [
        (10, 8, 31, 40),
        (0, 0, 5, 7),
        (-6, -3, 12, 20),
        (50, 30, 64, 48),  # to the edges, whose last row and column the tutorial leaves out
        (60, 45, 80, 90),
        (-30, -30, 200, 200),  # shrunk in one step
    ],
)
@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("fraction", [0.0, 0.4, 0.99])
def test_a_sliced_box_is_the_tutorials_crop(
    box: tuple[int, int, int, int], padding: int, fraction: float
) -> None:
    image = _noise(48, 64)
    # Boxes of the tutorial are cut to integers, and count from the edge of the first pixel.
    left, top, right, bottom = (edge + (fraction if edge > 0 else 0.0) - 0.5 for edge in box)
    frame = FaceFrame((30.0, 20.0), 9.0, box_xyxy=(left, top, right, bottom))
    view = ViewSpec("box", (20, 30), margin_px=padding, border="slice")
    got, present, _ = _one(image, view, frame)
    assert present
    assert np.array_equal(got, _as_in_opencvs_tutorial(image, box, padding))


def test_a_sliced_box_without_pixels_is_missing() -> None:
    view = ViewSpec("box", (20, 30), border="slice")
    for box in ((63.0, 3.0, 80.0, 9.0), (3.0, 47.0, 9.0, 60.0), (10.0, 10.0, 10.9, 20.0)):
        frame = FaceFrame((30.0, 20.0), 9.0, box_xyxy=tuple(edge - 0.5 for edge in box))  # type: ignore[arg-type]  # four
        pixels, present, _ = _one(_noise(48, 64), view, frame)
        assert not present
        assert not pixels.any()


def test_without_a_detectors_box_the_frames_own_is_sliced() -> None:
    image, frame = _noise(48, 64), _frame(30.0, 20.0, 20.0)
    view = ViewSpec("box", (20, 30), border="slice")
    got, _, _ = _one(image, view, frame)
    # 30 -+ 7.6 and 20 -+ 10 from pixel centres: 22.9 to 38.1 and 10.5 to 30.5 from the edge.
    assert np.array_equal(got, _as_in_opencvs_tutorial(image, (22, 10, 38, 30), 0))


@pytest.mark.parametrize("roll", [0.0, 0.6])
def test_a_places_matrix_is_the_similarity_of_its_corners(roll: float) -> None:
    view = ViewSpec("face", (40, 24), align=True)
    place = crops.place_view(view, _frame(50.0, 60.0, 40.0, roll), (120, 100))
    matrix = place.matrix((40, 24))
    assert matrix.shape == (2, 3)
    middle = matrix @ [11.5, 19.5, 1.0]  # the centre between the pixels 0 to 23 and 0 to 39
    assert middle == pytest.approx([50.0, 60.0])
    half = np.array([FRAME_ASPECT * 40.0, 40.0]) / 2
    turn = np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    # Corners lie half a pixel outside of the first and last pixels' centres.
    for corner, side in (
        ((-0.5, -0.5), (-1, -1)),
        ((23.5, -0.5), (1, -1)),
        ((-0.5, 39.5), (-1, 1)),
    ):
        expected = [50.0, 60.0] + turn @ (half * side)
        assert matrix @ [*corner, 1.0] == pytest.approx(expected)


def test_equal_specs_share_their_crops() -> None:
    image, frames = _noise(60, 60), [_frame(20, 20, 10), _frame(40, 40, 12)]
    one, other = (CropSpec({"v": ViewSpec("face", (6, width))}) for width in (5, 9))
    same = CropSpec({"v": ViewSpec("face", (6, 5))})
    cut = crops.cut_shared(image, frames, [one, other, same])
    assert cut[0] is cut[2]
    for found, spec in zip(cut, (one, other, same), strict=True):
        assert np.array_equal(found.views["v"], cut_crops(image, frames, spec).views["v"])


def test_a_clipped_view_inside_the_picture_is_rounded_to_whole_pixels() -> None:
    image = _noise(50, 70)
    # Edges at 30.2 -+ 7.6 and 20.3 -+ 10, and a pixel ends half a pixel after its centre.
    view = ViewSpec("face", (20, 15), border="clip")
    got, present, _ = _one(image, view, _frame(30.2, 20.3, 20))
    assert present
    assert np.array_equal(got, image[10:30, 23:38])


@pytest.mark.parametrize(("x", "y"), [(-0.2 - 7.6, 20.0), (20.0, -0.2 - 10.0)])
def test_a_clipped_view_of_less_than_half_a_pixel_is_missing(x: float, y: float) -> None:
    view = ViewSpec("face", (6, 6), border="clip")
    pixels, present, outside = _one(_noise(40, 40), view, _frame(x, y, 20))
    assert not present
    assert not pixels.any()
    assert 0.9 < outside < 1


def test_a_sliced_box_is_missing_if_too_much_of_it_is_outside() -> None:
    frame = FaceFrame((30.0, 20.0), 9.0, box_xyxy=(-10.5, 4.5, 9.5, 24.5))  # half of it
    for limit, expected in ((0.51, True), (0.49, False)):
        view = ViewSpec("box", (20, 30), border="slice", max_outside=limit)
        pixels, present, outside = _one(_noise(48, 64), view, frame)
        assert (present, bool(pixels.any())) == (expected, expected)
        assert outside == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [(1, 30), (30, 1)])
def test_a_slice_leaves_nothing_of_a_single_row_or_column(shape: tuple[int, int]) -> None:
    frame = FaceFrame((3.0, 3.0), 9.0, box_xyxy=(-0.5, -0.5, shape[1] - 0.5, shape[0] - 0.5))
    assert not _one(_noise(*shape), ViewSpec("box", (5, 5), border="slice"), frame)[1]


@pytest.mark.parametrize("shape", [(65, 96), (64, 97), (65, 97)])
def test_halving_an_odd_picture_adds_no_black_and_drops_what_is_repeated(
    shape: tuple[int, int],
) -> None:
    white = np.full((*shape, 3), 255, np.uint8)
    half = (shape[0] // 2, shape[1] // 2)
    for border in ("constant", "replicate"):
        got, _, _ = _one(white, ViewSpec("original", half, border=border))
        assert got.min() == 255
    # An odd last row or column counts with "constant", and not with "replicate".
    edged = np.zeros((*shape, 3), np.uint8)
    edged[64:], edged[:, 96:] = 255, 255
    assert _one(edged, ViewSpec("original", half, border="constant"))[0].max() > 0
    assert _one(edged, ViewSpec("original", half, border="replicate"))[0].max() == 0


def test_the_side_that_shrinks_less_decides() -> None:
    assert crops.shrink_factor(Patch((0.0, 0.0), 90.0, 40.0), (10, 20)) == 4.0
    assert crops.shrink_factor(Patch((0.0, 0.0), 40.0, 90.0), (10, 20)) == 2.0


@pytest.mark.parametrize(
    ("roll", "picture_hw", "window"),
    [
        # 20 by 30 around (50.2, 60.7): two more pixels on each side, at the end one for the
        # pixel itself and one that halving may drop.
        (0.0, (200, 200), (38, 43, 65, 80)),
        (math.pi / 2, (200, 200), (33, 48, 70, 75)),
        # sqrt(0.5) * (20 + 30) / 2 + 2 = 19.68 to each side
        (-math.pi / 4, (200, 200), (30, 41, 72, 83)),
        (0.0, (70, 60), (38, 43, 60, 70)),
    ],
)
def test_a_patch_needs_its_window(
    roll: float, picture_hw: tuple[int, int], window: tuple[int, int, int, int]
) -> None:
    patch = Patch((50.2, 60.7), 20.0, 30.0, roll)
    assert crops.window_of(patch, (30, 20), picture_hw) == window
    assert crops.window_of(Patch((1.0, 2.0), 20.0, 30.0), (30, 20), (90, 90))[:2] == (0, 0)


@pytest.mark.parametrize(("stripe", "side"), [(1, 250), (2, 450), (2, 400)])
def test_stripes_do_not_alias_at_factors_between_powers_of_two(stripe: int, side: int) -> None:
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[:, np.arange(side) // stripe % 2 == 0] = 255
    got, _, _ = _one(stripes, ViewSpec("original", (100, 100)))
    assert got[:, 1:-1].min() >= 127
    assert got[:, 1:-1].max() <= 128


def test_a_region_smaller_than_a_pixel_is_missing_where_it_is() -> None:
    frame = _frame(10.0, 12.0, 1.2)  # 0.9 wide
    place = crops.place_view(ViewSpec("face"), frame, (40, 40))
    assert place == crops.ViewPlace(Patch((10.0, 12.0), 1.2 * FRAME_ASPECT, 1.2), 0.0, True)
