"""Copies of a picture look alike to the hash and the pixels; other pictures do not."""

from __future__ import annotations

import numpy as np
import pytest

from agebench.types import Image
from agebench.vision.opencv import cv2
from agebench.vision.similarity import (
    coarse_looks,
    detail_correlation,
    detail_looks,
    picture_hashes,
    thumbnail,
    without_frame,
)
from tests.unit.blobs import blobs as picture


def upright(image: Image) -> int:
    return picture_hashes(image)[0]


def detail(first: Image, second: Image) -> float:
    return detail_correlation(thumbnail(first), thumbnail(second))


def shifted(image: Image, dx: float, dy: float, degrees: float) -> Image:
    turn = cv2.getRotationMatrix2D((100, 100), degrees, 1.0)
    turn[:, 2] += np.array([dx, dy])
    return np.asarray(cv2.warpAffine(image, turn, (200, 200)), np.uint8)


def test_the_hash_moves_little_under_brightness_and_size() -> None:
    image = picture(1)
    dark = np.asarray(image * 0.6 + 10, np.uint8)
    small = np.asarray(cv2.resize(image, (77, 91), interpolation=cv2.INTER_AREA), np.uint8)
    assert (upright(image) ^ upright(dark)).bit_count() <= 2
    assert (upright(image) ^ upright(small)).bit_count() <= 4
    assert (upright(image) ^ upright(picture(2))).bit_count() > 14


def test_the_hash_in_a_mirror_is_that_of_the_mirrored_picture() -> None:
    image = picture(1)
    turned = np.ascontiguousarray(image[:, ::-1])
    assert picture_hashes(turned) == picture_hashes(image)[::-1]
    assert (picture_hashes(image)[0] ^ picture_hashes(image)[1]).bit_count() > 14


def test_coarse_looks_correlate_as_numpy_says() -> None:
    thumbnails = np.stack([thumbnail(picture(seed)) for seed in (1, 2, 3)])
    looks = coarse_looks(thumbnails).reshape(3, -1)
    coarse = thumbnails.reshape(3, 16, 4, 16, 4).mean((2, 4)).reshape(3, -1)
    assert looks @ looks.T == pytest.approx(np.corrcoef(coarse), abs=1e-5)


def test_detail_looks_tell_copies_from_others() -> None:
    image = picture(1)
    others = (np.asarray(image * 0.6 + 10, np.uint8), picture(2))
    looks = detail_looks(np.stack([thumbnail(one) for one in (image, *others)]))
    copy, other = np.corrcoef(looks.reshape(3, -1).astype(float))[0, 1:]
    assert copy > 0.98
    assert other < 0.3


def test_a_flat_picture_is_like_nothing_not_even_itself() -> None:
    flat = np.full((200, 200, 3), 90, np.uint8)
    assert detail(flat, flat) == 0.0
    assert not coarse_looks(thumbnail(flat)[None]).any()
    assert not detail_looks(thumbnail(flat)[None]).any()


def test_a_copy_that_was_cut_differently_is_aligned() -> None:
    image = picture(5)
    moved = shifted(image, 1.5, -1.0, 0.7)
    plain = np.corrcoef(thumbnail(image).ravel(), thumbnail(moved).ravel())[0, 1]
    assert detail(image, moved) > 0.9 > plain


@pytest.mark.parametrize("move", [(1.5, -1.0, 0.7), (3.0, 2.0, -2.0), (0.0, 4.0, 1.0)])
def test_the_quick_way_finds_the_copies_and_tells_how_alike_they_are(
    move: tuple[float, float, float],
) -> None:
    """What is refused at half the size is not a copy; what passes is aligned as closely as ever."""
    image = picture(5)
    pair = thumbnail(image), thumbnail(shifted(image, *move))
    whole = detail_correlation(*pair, worth_aligning=0.3)
    assert whole > 0.9
    assert detail_correlation(*pair, worth_aligning=0.3, quick=True) == pytest.approx(
        whole, abs=0.1
    )
    other = thumbnail(picture(6))
    assert detail_correlation(pair[0], other, worth_aligning=-1, quick=True) < 0.8


def test_brightness_does_not_count_and_other_detail_does() -> None:
    image = picture(5)
    assert detail(image, np.asarray(image * 0.5 + 60, np.uint8)) > 0.95
    assert detail(image, picture(6)) < 0.7
    assert detail(image, np.ascontiguousarray(image[:, ::-1])) < 0.7


def test_the_same_light_over_other_detail_is_no_copy() -> None:
    """As two people before one backdrop: the coarse picture agrees, what is finer does not."""
    coarse = cv2.GaussianBlur(picture(7), (0, 0), 20).astype(np.float32) * 2 - 128
    first, second = (coarse + (picture(seed).astype(np.float32) - 128) * 0.3 for seed in (8, 9))
    a, b = (np.clip(values, 0, 255).astype(np.uint8) for values in (first, second))
    looks = coarse_looks(np.stack([thumbnail(a), thumbnail(b)]))
    assert (looks[0] * looks[1]).sum() > 0.5
    assert detail(a, b) < 0.8


def framed(image: Image, level: int, width: int) -> Image:
    return np.pad(image, ((width, width), (width, width), (0, 0)), constant_values=level)


@pytest.mark.parametrize("level", [0, 255])
def test_a_frame_in_common_makes_no_copies_and_hides_none(level: int) -> None:
    first, second = framed(picture(1), level, 80), framed(picture(2), level, 80)
    assert detail(first, second) < 0.7
    assert (upright(first) ^ upright(second)).bit_count() > 14
    assert detail(first, picture(1)) > 0.95


def test_only_plain_lines_at_the_sides_are_cut_off() -> None:
    image = picture(1, 40)
    image[10:14] = 128
    assert np.array_equal(without_frame(framed(image, 7, 5)), image)
    flat = np.full((9, 8, 3), 3, np.uint8)
    assert np.array_equal(without_frame(flat), flat)


def test_the_frame_is_what_is_plain_line_by_line() -> None:
    """Against each line's darkest and brightest pixel, with frames at some of the four sides."""
    rng = np.random.default_rng(0)
    for case in range(48):
        sides = [int(rng.integers(1, 6)) if case >> side & 1 else 0 for side in range(4)]
        top, bottom, left, right = sides
        image = np.pad(
            picture(case, 33), ((top, bottom), (left, right), (0, 0)), constant_values=case
        )
        if case % 3 == 0:  # noise that is still plain, or just not
            image[0] = rng.integers(0, 16 + case % 2 * 3, image[0].shape[:1])[:, None]
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(int)
        rows = [at for at, row in enumerate(gray) if row.max() - row.min() > 16]
        columns = [at for at, column in enumerate(gray.T) if column.max() - column.min() > 16]
        kept = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.testing.assert_array_equal(without_frame(image), kept)


def test_a_mask_in_common_makes_no_copies() -> None:
    oval = np.zeros((200, 200), np.uint8)
    cv2.ellipse(oval, (100, 100), (75, 95), 0, 0, 360, 255, -1)
    masked = [np.where(oval[:, :, None] > 0, picture(seed), 0).astype(np.uint8) for seed in (1, 2)]
    assert detail(masked[0], masked[1]) < 0.7
    assert detail(masked[0], np.asarray(masked[0] * 0.8, np.uint8)) > 0.95


def test_a_mark_in_a_corner_of_a_copy_does_not_hide_it() -> None:
    image = picture(1)
    marked = image.copy()
    marked[-40:, -40:] = picture(2)[-40:, -40:]
    assert detail(image, marked) > 0.9
    assert detail(image, picture(2)) < 0.7
