"""What augmentation does to pixels, against OpenCV and hand-made cases; what is drawn repeats."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agebench.train.sections import (
    LOW_RESOLUTIONS,
    PROBABILITIES,
    STRENGTHS,
    AugmentSettings,
    FilterSettings,
    no_augmentation,
)
from agebench.types import Image
from agebench.vision.opencv import cv2

torch = pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

from agebench.train.augment import (  # noqa: E402 - only where torch is there  # noqa: E402
    FILTERS,
    AugmentPlan,
    FilterCache,
    add_noise,
    choose_filters,
    draw_plan,
    erase,
    lower_resolution,
    recolour,
    warp,
)

OFF = no_augmentation()
LUMA = np.array([0.114, 0.587, 0.299])


def _plan(settings: AugmentSettings, count: int = 400, seed: int = 0) -> AugmentPlan:
    return draw_plan(settings, ("face", "mouth"), count, (seed,))


def _pixels(count: int = 4, low: float = 0, high: float = 255) -> Any:
    values = np.random.default_rng(0).uniform(low, high, (count, 3, 6, 5))
    return torch.from_numpy(values.astype(np.float32))


def _coloured(settings: AugmentSettings, pixels: Any) -> Any:
    return recolour(pixels, torch.from_numpy(_plan(settings, len(pixels)).colours))


def _fields(plan: AugmentPlan) -> dict[str, Any]:
    values = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
    erased = values.pop("erased")
    return {**values, **erased}


def test_without_augmentation_nothing_happens() -> None:
    plan = _plan(OFF)
    assert not plan.flipped.any()
    assert not plan.angles.any()
    assert not plan.shifts.any()
    assert not plan.noise.any()
    assert (plan.scales == 1).all()
    assert (plan.low_resolution == -1).all()
    assert not any(boxes.any() for boxes in plan.erased.values())
    pixels = _pixels(3)
    assert torch.allclose(_coloured(OFF, pixels), pixels, atol=1e-3)


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    everything: dict[str, Any] = dict.fromkeys(PROBABILITIES, 0.3)
    settings = AugmentSettings(**everything)
    one, same, other = (_fields(_plan(settings, 50, seed)) for seed in (1, 1, 2))
    for name, values in one.items():
        assert np.array_equal(values, same[name])
        assert not np.array_equal(values, other[name])


def test_every_number_is_named_as_a_probability_or_a_strength() -> None:
    numbers = {
        item.name for item in dataclasses.fields(AugmentSettings) if isinstance(item.default, float)
    }
    assert {*PROBABILITIES, *STRENGTHS} == numbers - {"noise_levels"}
    off = no_augmentation()
    assert not any(getattr(off, name) for name in (*PROBABILITIES, *STRENGTHS))


def test_a_share_of_a_plan_is_its_rows() -> None:
    plan = _plan(AugmentSettings(), 20)
    part = plan.shard(slice(5, 12))
    assert len(part) == 7
    assert list(part.erased) == ["face", "mouth"]
    for name, values in _fields(plan).items():
        assert np.array_equal(_fields(part)[name], values[5:12])


def test_how_often_and_how_far() -> None:
    plan = _plan(AugmentSettings(rotation_deg=8, scale=0.2, shift=0.03), 4000)
    assert plan.flipped.mean() == pytest.approx(0.5, abs=0.03)
    assert np.degrees(plan.angles).std() == pytest.approx(8, rel=0.05)
    assert np.abs(np.degrees(plan.angles)).max() < 24.001
    assert (plan.scales.min(), plan.scales.max()) == pytest.approx((1 / 1.2, 1.2), abs=0.005)
    assert plan.shifts.std() == pytest.approx(0.03, rel=0.05)
    assert (plan.low_resolution >= 0).mean() == pytest.approx(0.15, abs=0.02)
    assert set(plan.low_resolution) == {-1, *range(len(LOW_RESOLUTIONS))}
    assert (plan.noise > 0).mean() == pytest.approx(0.1, abs=0.02)
    assert plan.noise.max() <= 12
    for boxes in plan.erased.values():
        erased = boxes[boxes[:, 2] > 0]
        assert len(erased) / 4000 == pytest.approx(0.15, abs=0.02)
        sides = erased[:, 2:] - erased[:, :2]
        areas = sides.prod(axis=1)
        assert 0.0199 < areas.min() < 0.03
        assert 0.18 < areas.max() < 0.2001
        assert erased.min() >= 0
        assert erased.max() <= 1
    assert not np.array_equal(plan.erased["face"], plan.erased["mouth"])


def test_gray_is_that_of_bt_601() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    gray = _coloured(replace(OFF, gray=1.0), pixels)[0]
    expected = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    for channel in gray:
        assert np.abs(channel.numpy() - expected).max() < 0.51


def test_turning_the_hue_keeps_the_luma() -> None:
    pixels = _pixels(50, 110, 140)  # so that nothing is clipped
    for settings in (replace(OFF, hue_deg=170.0), replace(OFF, saturation=0.5)):
        turned = _coloured(settings, pixels)
        weights = torch.from_numpy(LUMA).float()[:, None, None]
        luma, before = (turned * weights).sum(1), (pixels * weights).sum(1)
        assert (luma - before).abs().max() < 0.05
        assert (turned - pixels).abs().mean() > 0.5
    grays = torch.full((50, 3, 2, 2), 99.0)
    assert torch.allclose(_coloured(replace(OFF, hue_deg=170.0), grays), grays, atol=0.05)


def test_brightness_and_contrast_are_about_middle_gray() -> None:
    plan = _plan(replace(OFF, contrast=0.5))
    grays = torch.full((400, 3, 1, 1), 127.5)
    assert torch.allclose(recolour(grays, torch.from_numpy(plan.colours)), grays, atol=1e-2)
    factors = plan.colours[:, :, :3].sum(axis=2)[:, 0]
    assert (factors.min(), factors.max()) == pytest.approx((1 / 1.5, 1.5), abs=0.02)
    brighter = _coloured(replace(OFF, brightness=0.2), torch.full((400, 3, 1, 1), 100.0)) - 100
    assert (brighter.min(), brighter.max()) == pytest.approx((-51, 51), abs=1)


@pytest.mark.parametrize("space", ["rgb", "yuv"])
def test_a_single_channel_is_shown_three_times(space: Any) -> None:
    settings = replace(OFF, single_channel=1.0, channel_space=space)
    picture = np.random.default_rng(0).integers(60, 200, (6, 5, 3)).astype(np.uint8)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    shown = _coloured(settings, pixels.repeat(60, 1, 1, 1))
    assert torch.allclose(shown, shown[:, :1].expand_as(shown), atol=1e-3)
    planes = picture if space == "rgb" else cv2.cvtColor(picture, cv2.COLOR_BGR2YUV)
    chosen = []
    for row in shown[:, 0].numpy():
        off = [np.abs(row - planes[:, :, channel]).max() for channel in range(3)]
        chosen.append(int(np.argmin(off)))
        assert min(off) < (0.01 if space == "rgb" else 1.6)
    assert set(chosen) == {0, 1, 2}


def test_colours_stay_in_their_range() -> None:
    wild = replace(OFF, brightness=1.0, contrast=3.0, saturation=3.0, hue_deg=180.0)
    coloured = _coloured(wild, _pixels(100))
    assert coloured.min() >= 0
    assert coloured.max() <= 255


def test_low_resolution_blurs_the_rows_that_were_drawn() -> None:
    board = (np.indices((40, 40)).sum(axis=0) % 2 * 200.0).astype(np.float32)
    pixels = torch.from_numpy(np.tile(board, (4, 3, 1, 1)))
    levels = np.array([-1, 0, 2, 4])
    before = pixels.clone()
    lowered = lower_resolution(pixels, levels, frame_px=80.0)
    assert torch.equal(lowered[0], before[0])
    assert torch.equal(lowered[3], before[3])  # 80 pixels it has anyway
    assert lowered[1].std() < 1  # every pixel of it is an average of both fields
    assert lowered[2].std() < 1
    assert lowered[1].mean() == pytest.approx(100, abs=1)
    step = torch.zeros(2, 3, 40, 40)
    step[:, :, :, 20:] = 200
    wide = lower_resolution(step, np.array([0, 3]), frame_px=80.0)
    between = ((wide > 5) & (wide < 195)).sum(dim=(1, 2, 3))
    assert between[0] > between[1] > 0


def test_noise_hangs_on_the_rows_key_alone() -> None:
    flat = torch.full((3, 3, 40, 40), 127.0)
    noisy = add_noise(flat.clone(), np.array([0.0, 5.0, 10.0]), np.array([1, 2, 3]))
    assert torch.equal(noisy[0], flat[0])
    assert noisy[1].std().item() == pytest.approx(5, rel=0.05)
    assert noisy[2].std().item() == pytest.approx(10, rel=0.05)
    alone = add_noise(flat[:1].clone(), np.array([10.0]), np.array([3]))
    assert torch.equal(alone[0], noisy[2])


def test_a_rectangle_is_erased_and_nothing_else() -> None:
    pixels = _pixels(2)
    before = pixels.clone()
    erased = erase(pixels, np.array([[0.2, 0.5, 0.6, 1.0], [0, 0, 0, 0]]))
    assert torch.equal(erased[1], before[1])
    inside = torch.zeros(6, 5, dtype=torch.bool)
    inside[3:6, 1:3] = True
    assert (erased[0][:, inside] == 127.5).all()
    assert torch.equal(erased[0][:, ~inside], before[0][:, ~inside])


def test_warp_repeats_the_border_and_moves_by_pixels() -> None:
    source = torch.arange(12.0).reshape(1, 1, 3, 4).expand(1, 3, 3, 4)
    moved = warp(source, torch.tensor([[[1.0, 0, 1], [0, 1, -1]]]), (3, 4))
    assert moved[0, 0].tolist() == pytest.approx(
        np.array([[1, 2, 3, 3], [1, 2, 3, 3], [5, 6, 7, 7]]), abs=1e-4
    )
    assert warp(source[:, :, :1, :1], torch.eye(2, 3)[None], (2, 2)).tolist() == [
        [[[0, 0]] * 2] * 3
    ]


PICTURE: Image = np.asarray(
    cv2.resize(np.random.default_rng(0).integers(60, 160, (6, 6, 3)).astype(np.uint8), (64, 48)),
    np.uint8,
)


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_filters_keep_the_form_and_leave_their_input(name: str) -> None:
    before = PICTURE.copy()
    filtered = FILTERS[name](PICTURE)
    assert np.array_equal(PICTURE, before)
    assert filtered.shape == PICTURE.shape
    assert filtered.dtype == np.uint8
    assert not np.array_equal(filtered, PICTURE)
    one = FILTERS[name](np.full((1, 1, 3), 7, np.uint8))
    assert one.shape == (1, 1, 3)


def test_what_filters_are_for() -> None:
    def luma(picture: Image) -> Any:
        return cv2.cvtColor(picture, cv2.COLOR_BGR2YUV)[:, :, 0].astype(int)

    assert np.ptp(luma(FILTERS["equalise"](PICTURE))) > 240 > np.ptp(luma(PICTURE))
    noise = np.random.default_rng(0).normal(0, 5, PICTURE.shape)
    noisy = (PICTURE + noise).clip(0, 255).astype(np.uint8)
    for name in ("bilateral", "non_local_means", "blur"):
        cleaned = FILTERS[name](noisy).astype(float)
        assert np.abs(cleaned - PICTURE).mean() < np.abs(noisy.astype(float) - PICTURE).mean()


def test_filters_are_drawn_in_their_shares() -> None:
    settings = FilterSettings(equalise=0.1, jpeg=0.3, blur=0.2)
    chosen = choose_filters(settings, 10_000, (1, 2))
    for name, share in (("equalise", 0.1), ("jpeg", 0.3), ("blur", 0.2), ("", 0.4), ("clahe", 0)):
        assert chosen.count(name) / 10_000 == pytest.approx(share, abs=0.015)
    assert choose_filters(settings, 10_000, (1, 2)) == chosen
    assert choose_filters(settings, 10_000, (1, 3)) != chosen
    assert set(choose_filters(FilterSettings(), 50, (0,))) == {""}
    assert set(choose_filters(FilterSettings(clahe=1.0), 50, (0,))) == {"clahe"}


def test_slow_filters_are_kept_up_to_the_limit() -> None:
    cache = FilterCache(limit_bytes=PICTURE.nbytes)
    first = cache.apply("bilateral", 3, PICTURE)
    assert cache.apply("bilateral", 3, PICTURE) is first
    second = cache.apply("bilateral", 4, PICTURE)
    assert np.array_equal(second, first)
    assert cache.apply("bilateral", 4, PICTURE) is not second  # no room
    assert cache.apply("jpeg", 3, PICTURE) is not cache.apply("jpeg", 3, PICTURE)
