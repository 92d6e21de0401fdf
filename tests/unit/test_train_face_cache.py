"""Views cut from windows against the harness's own crops; geometry under jitter and mirroring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agebench.datasets.base import SampleList
from agebench.protocols import DatasetSpec, DetectorSpec
from agebench.types import (
    FIVE_POINTS,
    Crops,
    CropSpec,
    Face,
    FaceFrame,
    Image,
    Sample,
    ViewSpec,
)
from agebench.vision.crops import cut_crops
from agebench.vision.frames import TEMPLATE_5, canonical_frame, frame_to_image
from agebench.vision.opencv import cv2

torch = pytest.importorskip("torch", reason="training needs PyTorch (pip install agebench[train])")

from agebench.train.augment import draw_plan, jittered  # noqa: E402 - only where torch is there
from agebench.train.batches import Batches, plain_views, prefetched, scaled  # noqa: E402
from agebench.train.face_cache import TrainingFaces, cache_face, gather_faces, padded  # noqa: E402
from agebench.train.sections import AugmentSettings, FilterSettings, no_augmentation  # noqa: E402

CPU = torch.device("cpu")
SPEC = DetectorSpec("made-up", FIVE_POINTS)
REGIONS = ("face", "box", "chip", "eyes", "eye_left", "eye_right", "mouth", "original")
VIEWS = CropSpec({name: ViewSpec(name, (32, 32), align=True, max_outside=0.6) for name in REGIONS})


def _noise(height: int, width: int, seed: int) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def _smooth(height: int, width: int, seed: int = 0) -> Image:
    picture = cv2.resize(_noise(8, 8, seed), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(picture, np.uint8)


def _face(x: float, y: float, height: float, roll: float = 0.0, astray: float = 0.0) -> Face:
    """A face with five points where a frame has them, or up to `astray` pixels beside."""
    frame = FaceFrame((x, y), height, roll)
    points = np.array(frame_to_image(frame, TEMPLATE_5))
    points = points + np.random.default_rng(1).uniform(-astray, astray, points.shape)
    box = (x - 0.38 * height, y - height / 2, x + 0.38 * height, y + height / 2)
    return Face(box, 1.0, tuple((float(a), float(b)) for a, b in points), FIVE_POINTS)


def _mirrored(face: Face, width: int) -> Face:
    flipped = [(width - 1 - x, y) for x, y in face.landmarks_xy]
    left, top, right, bottom = face.box_xyxy
    return Face(
        (width - 1 - right, top, width - 1 - left, bottom),
        1.0,
        tuple(flipped[index] for index in (1, 0, 2, 4, 3)),
        FIVE_POINTS,
    )


class _Known:
    """Answers with the faces it was given, one picture after the other."""

    spec = SPEC

    def __init__(self, faces: Sequence[Face]) -> None:
        self._faces = iter(faces)

    def detect(self, image_bgr: Image, /) -> list[Face]:
        return [next(self._faces)]


def _gather(
    folder: Path,
    pictures: Sequence[tuple[Image, Face]],
    crop: CropSpec = VIEWS,
    longest_px: int = 256,
) -> TrainingFaces:
    samples = []
    for index, (image, _) in enumerate(pictures):
        path = folder / f"{index:03d}.png"
        cv2.imwrite(str(path), image)
        samples.append(Sample(path, path.name, 30.0 + index))
    dataset = SampleList(DatasetSpec("made-up", "unknown"), tuple(samples))
    detector = _Known([face for _, face in pictures])
    return gather_faces(dataset, detector, crop, longest_px=longest_px, workers=0)


def _plain(faces: TrainingFaces, crop: CropSpec = VIEWS, *, mirrored: bool = False) -> Any:
    (batch,) = plain_views(faces, crop, CPU, 100, mirrored=mirrored)
    return batch


def _crops(pictures: Sequence[tuple[Image, Face]], crop: CropSpec = VIEWS) -> Crops:
    return Crops.join(
        [cut_crops(image, [canonical_frame(face, SPEC)], crop) for image, face in pictures]
    )


def _off(got: Any, expected: Any) -> float:
    """Mean absolute difference in gray levels between (3, h, w) and (h, w, 3)."""
    return float(np.abs(got.numpy().transpose(1, 2, 0) - expected.astype(np.float64)).mean())


PICTURES = [
    (_smooth(220, 200), _face(100, 110, 140)),
    (_smooth(260, 300, 1), _face(150, 130, 150, 0.5)),
    (_smooth(260, 300, 2), _face(150, 130, 110, -1.2)),
    (_smooth(200, 200, 3), _face(45, 60, 120, 0.2)),  # over the left border
    (_smooth(200, 240, 4), _face(205, 150, 130, -0.1)),  # over the right and lower ones
    (_smooth(200, 200, 5), _face(100, 100, 120, 0.1, astray=6)),
    (_smooth(640, 500, 6), _face(250, 320, 420, 0.15)),  # its window is shrunk
    (_smooth(40, 44, 7), _face(20, 20, 26)),  # and this one enlarged
    (_smooth(901, 333, 8), _face(160, 300, 310, 0.3)),
    (_smooth(200, 200, 9), _face(12, 100, 150)),  # its left eye is not in the picture
]


def test_views_are_those_of_the_harness(tmp_path: Path) -> None:
    batch, crops = _plain(_gather(tmp_path, PICTURES)), _crops(PICTURES)
    offs = []
    for name in REGIONS:
        assert batch.present[name][:, 0].bool().tolist() == crops.present[name].tolist()
        rows = np.flatnonzero(crops.present[name])
        offs += [_off(batch.pixels[name][row], crops.views[name][row]) for row in rows]
    assert max(offs) < 2.0
    assert np.mean(offs) < 0.6
    assert not all(flags.all() for flags in crops.present.values())  # some are missing


def test_fine_detail_is_averaged_as_in_the_harness(tmp_path: Path) -> None:
    """Noise has a spread of 74 levels: taking single pixels would be off by more than 30."""
    pictures = [
        (_noise(side, side, side), _face(side / 2, side / 2, 0.9 * side)) for side in (80, 150, 250)
    ]
    batch, crops = _plain(_gather(tmp_path, pictures)), _crops(pictures)
    for name in ("face", "chip", "eyes", "original"):
        for row in range(3):
            # Halving starts at other pixels of the window than of the picture's part.
            assert _off(batch.pixels[name][row], crops.views[name][row]) < 25
            spread = batch.pixels[name][row].std().item()
            assert spread == pytest.approx(crops.views[name][row].std(), rel=0.35)


@pytest.mark.parametrize("margin", [0.0, 0.4, 0.8])
def test_windows_reach_as_far_as_margins_do(tmp_path: Path, margin: float) -> None:
    views = CropSpec(
        {name: ViewSpec(name, (32, 32), margin=margin, align=True) for name in ("face", "original")}
    )
    pictures = [
        (_smooth(300, 320), _face(160, 150, 100, 0.3)),
        (_smooth(300, 320, 1), _face(150, 160, 110)),
    ]
    batch, crops = _plain(_gather(tmp_path, pictures, views), views), _crops(pictures, views)
    for name in views.views:
        for row in range(2):
            assert _off(batch.pixels[name][row], crops.views[name][row]) < 1.5


def test_mirrored_views_are_the_views_of_the_mirrored_picture(tmp_path: Path) -> None:
    flipped = [
        (np.ascontiguousarray(image[:, ::-1]), _mirrored(face, image.shape[1]))
        for image, face in PICTURES
    ]
    ours = _plain(_gather(tmp_path, PICTURES), mirrored=True)
    (tmp_path / "flipped").mkdir()
    theirs = _plain(_gather(tmp_path / "flipped", flipped))
    crops = _crops(flipped)
    for name in REGIONS:
        there = ours.present[name][:, 0].bool()
        assert there.tolist() == crops.present[name].tolist()
        assert torch.equal(ours.present[name], theirs.present[name])
        assert (ours.pixels[name] - theirs.pixels[name])[there].abs().mean() < 1.0
    # The left eye of the mirror image is the right one's mirror image.
    straight = _plain(_gather(tmp_path, PICTURES))
    there = ours.present["eye_left"][:, 0].bool()
    assert torch.equal(ours.present["eye_left"], straight.present["eye_right"])
    assert not torch.equal(ours.present["eye_left"], straight.present["eye_left"])
    eyes = straight.pixels["eye_right"].flip(3)
    assert (ours.pixels["eye_left"] - eyes)[there].abs().max() < 0.05


def test_a_missing_view_has_pixels_of_one_level(tmp_path: Path) -> None:
    faces = _gather(tmp_path, [(_smooth(200, 200), _face(5, 100, 150)), PICTURES[0]])
    batch = _plain(faces)
    assert batch.present["eye_left"][:, 0].tolist() == [0, 1]
    assert batch.pixels["eye_left"][0].unique().numel() == 1


def _with_points(image: Image, face: Face) -> list[Image]:
    """The picture, black, with a bright spot on one of the points each."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    spots = []
    for x, y in face.landmarks_xy:
        spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 2.5**2))
        spots.append(np.repeat(spot[:, :, None], 3, axis=2).round().astype(np.uint8))
    return spots


def _middle(pixels: Any) -> tuple[float, float]:
    """Centre of mass (x, y) of a bright spot, pixels."""
    weight = pixels.mean(0).numpy().astype(np.float64)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return float((weight * columns).sum() / weight.sum()), float(
        (weight * rows).sum() / weight.sum()
    )


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scale", [1.0, 0.75])
def test_a_point_lands_where_the_drawn_jitter_says_in_every_view(
    tmp_path: Path, flip: float, scale: float
) -> None:
    image, face = np.zeros((260, 280, 3), np.uint8), _face(140, 130, 130, 0.25)
    crop = CropSpec(
        {name: ViewSpec(name, (96, 96), align=True) for name in ("face", "chip", "mouth")}
    )
    faces = _gather(tmp_path, [(spot, face) for spot in _with_points(image, face)], crop)
    jitter = replace(no_augmentation(), flip=flip, rotation_deg=8, scale=0.15, shift=0.02)
    batches = Batches(faces, crop, jitter, 3, CPU)
    gathered = batches.gather(5, np.arange(5), slice(None))
    views, plan = batches.views(gathered, scale), gathered.plan
    assert plan.flipped.all() == bool(flip)
    assert np.abs(plan.angles).min() > 0
    frame = canonical_frame(face, SPEC)
    center = np.array(faces.centers_xy[0], np.float64)
    offset = np.array(frame.center_xy) - center  # of the window in the picture
    offs = []
    for name, points in (("face", range(5)), ("chip", range(5)), ("mouth", (3, 4))):
        side = scaled((96, 96), scale)[0]
        for point in points:
            # Where the crop's pixel lies in the picture, by the definition of the crop alone.
            x, y = _middle(views.pixels[name][point])
            x, y = ((value + 0.5) / side - 0.5 for value in (x, y))  # shares from the middle
            reference = cut_crops_place(crop.views[name], frame, (-x if flip else x, y))
            away = np.array(reference) - np.array(frame.center_xy)
            angle, size = plan.angles[point], plan.scales[point]
            turned = size * np.array(
                [
                    math.cos(angle) * away[0] - math.sin(angle) * away[1],
                    math.sin(angle) * away[0] + math.cos(angle) * away[1],
                ]
            )
            landed = np.array(frame.center_xy) + turned + plan.shifts[point] * frame.height
            offs.append(landed - np.array(face.landmarks_xy[point]))
    assert np.abs(offs).max() < 0.05
    assert offset == pytest.approx(np.round(offset), abs=1e-3)


def cut_crops_place(
    view: ViewSpec, frame: FaceFrame, shares: tuple[float, float]
) -> tuple[float, float]:
    """From shares of a crop's sides, from its middle, to a place in the picture."""
    middle, size = {
        "face": ((0.0, 0.0), (0.76, 1.0)),
        "chip": ((0.0, 0.0912), (0.9025, 0.9025)),
        "mouth": ((0.0, 0.252), (0.54, 0.36)),
    }[view.region]
    across, down = middle[0] + shares[0] * size[0], middle[1] + shares[1] * size[1]
    cos, sin = math.cos(frame.roll_rad), math.sin(frame.roll_rad)
    x, y = frame.center_xy
    return (
        x + frame.height * (cos * across - sin * down),
        y + frame.height * (sin * across + cos * down),
    )


def test_jitter_turns_about_the_face() -> None:
    settings = replace(no_augmentation(), rotation_deg=20, scale=0.3)
    plan = draw_plan(settings, ("face",), 50, (1,))
    centers = np.random.default_rng(0).uniform(0, 100, (50, 2))
    # Crops whose pixel (0, 0) is the face's centre.
    matrices = np.tile([[1.0, 0, 0], [0, 1, 0]], (50, 1, 1))
    matrices[:, :, 2] = centers
    turned = jittered(matrices, plan, centers, np.ones(50))
    assert turned[:, :, 2] == pytest.approx(centers)
    assert np.linalg.det(turned[:, :, :2]) == pytest.approx(plan.scales**2)


def test_a_share_of_a_batch_is_that_part_of_the_whole(tmp_path: Path) -> None:
    faces = _gather(tmp_path, PICTURES)
    settings = AugmentSettings(filters=FilterSettings(jpeg=0.3, bilateral=0.3))
    rows = np.array([4, 0, 0, 7, 2, 8, 1, 3])
    batches = Batches(faces, VIEWS, settings, 9, CPU)
    whole = batches.views(batches.gather(2, rows, slice(None)))
    parts = [batches.views(batches.gather(2, rows, part)) for part in (slice(0, 4), slice(4, 8))]
    for name in REGIONS:
        joined = torch.cat([part.pixels[name] for part in parts])
        assert torch.allclose(joined, whole.pixels[name], atol=2e-2)
        assert torch.equal(torch.cat([part.present[name] for part in parts]), whole.present[name])
    ages = torch.cat([part.targets.ages for part in parts])
    assert ages.tolist() == whole.targets.ages.tolist() == (30 + rows).tolist()
    again = Batches(faces, VIEWS, settings, 9, CPU)
    same = again.views(again.gather(2, rows, slice(None)))
    other = again.views(again.gather(3, rows, slice(None)))
    assert torch.equal(same.pixels["face"], whole.pixels["face"])
    assert not torch.equal(other.pixels["face"], whole.pixels["face"])
    assert not torch.equal(whole.pixels["face"][1], whole.pixels["face"][2])  # drawn per row


def test_augmenting_changes_no_window(tmp_path: Path) -> None:
    faces = _gather(tmp_path, PICTURES[:3])
    before = faces.pixels_bgr.copy(), {n: p.copy() for n, p in faces.originals.items()}
    filters = FilterSettings(equalise=0.5, blur=0.5)
    batches = Batches(faces, VIEWS, AugmentSettings(erase=1.0, filters=filters), 0, CPU)
    for step in range(3):
        batches.views(batches.gather(step, np.arange(3), slice(None)))
    assert np.array_equal(faces.pixels_bgr, before[0])
    assert np.array_equal(faces.originals["original"], before[1]["original"])


def test_smaller_crops_do_not_alias_either(tmp_path: Path) -> None:
    """A crop of half the side averages over four times as many pixels of noise."""
    crop = CropSpec({"face": ViewSpec("face", (128, 128))})
    faces = _gather(tmp_path, [(_noise(200, 200, 5), _face(100, 100, 190))], crop)
    batches = Batches(faces, crop, no_augmentation(), 0, CPU)
    gathered = batches.gather(0, np.arange(1), slice(None))
    full, half, quarter = (
        batches.views(gathered, scale).pixels["face"].std().item() for scale in (1.0, 0.5, 0.25)
    )
    assert half < 0.75 * full
    assert quarter < 0.75 * half


def test_crops_of_another_size_than_gathered_are_refused(tmp_path: Path) -> None:
    faces = _gather(tmp_path, PICTURES[:1])
    view = replace(VIEWS.views["eyes"], size_hw=(32, 64))
    crop = CropSpec({"face": VIEWS.views["face"], "eyes": view})
    with pytest.raises(ValueError, match=r"'eyes' has crops of \(32, 64\).*for \(32, 32\)"):
        Batches(faces, crop, no_augmentation(), 0, CPU)


def test_filters_see_the_window_without_what_fills_it_up(tmp_path: Path) -> None:
    filters = FilterSettings(equalise=1.0)
    pictures = [(_smooth(40, 44, 7), _face(20, 20, 26)), PICTURES[1]]
    (tmp_path / "alone").mkdir()
    both, alone = (
        _gather(folder, given)
        for folder, given in ((tmp_path, pictures), (tmp_path / "alone", pictures[:1]))
    )
    shown = []
    for faces in (both, alone):
        batches = Batches(faces, VIEWS, replace(no_augmentation(), filters=filters), 0, CPU)
        shown.append(batches.gather(0, np.arange(1), slice(None)).pixels_bgr[0])
    height, width = both.sizes_hw[0]
    assert max(height, width) < both.pixels_bgr.shape[1]
    assert np.array_equal(shown[0][:height, :width], shown[1][:height, :width])
    assert np.array_equal(shown[0], padded(shown[0][:height, :width], both.pixels_bgr.shape[1]))


def test_what_can_not_be_used_is_listed(tmp_path: Path) -> None:
    class Blind:
        spec = SPEC

        def detect(self, image_bgr: Image, /) -> list[Face]:
            if image_bgr[0, 0, 0] == 1:
                raise RuntimeError("upset")
            return [] if image_bgr[0, 0, 0] == 0 else [_face(10, 10, 8), _face(16, 16, 20)]

    good = tmp_path / "good.png"
    cv2.imwrite(str(good), np.full((32, 32, 3), 9, np.uint8))
    cv2.imwrite(str(tmp_path / "dark.png"), np.zeros((32, 32, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "a-upsetting.png"), np.ones((32, 32, 3), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"none")
    samples = (
        Sample(tmp_path / "a-upsetting.png", "a-upsetting.png", 3.0),
        Sample(tmp_path / "broken.png", "broken.png", 3.0),
        Sample(tmp_path / "dark.png", "dark.png", 3.0),
        Sample(good, "good.png", None, (25, 32)),
        Sample(good, "unlabelled.png", None),
    )
    steps: list[tuple[str, int, int]] = []
    faces = gather_faces(
        SampleList(DatasetSpec("made-up", "unknown"), samples),
        Blind(),
        VIEWS,
        progress=lambda *step: steps.append(step),
        stage="reading",
    )
    assert faces.names == ("good.png",)
    assert (faces.lows.tolist(), faces.highs.tolist()) == ([25], [32])
    assert faces.ages.tolist() == [28.5]
    assert faces.heights.tolist() == pytest.approx([20])  # of several the largest
    assert (
        faces.problems[0].reason == "the detector failed: detector 'made-up': RuntimeError: upset"
    )
    assert [problem.name for problem in faces.problems] == [
        "a-upsetting.png",
        "broken.png",
        "dark.png",
        "unlabelled.png",
    ]
    assert steps == [("reading", done, 5) for done in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize("face", [_face(-30, -30, 20), _face(300, 20, 40), _face(20, 20, 2)])
def test_windows_of_hostile_faces_have_pixels(face: Face) -> None:
    window = cache_face(_noise(50, 50, 0), canonical_frame(face, SPEC), 256)
    assert min(window.pixels_bgr.shape[:2]) >= 1


def test_batches_are_gathered_ahead_in_order_and_errors_arrive() -> None:
    def gather(step: int) -> Any:
        if step == 6:
            raise ValueError("six")
        return step

    steps = prefetched(gather, range(10))
    assert [next(steps) for _ in range(6)] == list(range(6))  # type: ignore[comparison-overlap]  # gather gives numbers here
    with pytest.raises(ValueError, match="six"):
        next(steps)
    broken_off = prefetched(gather, range(6))
    next(broken_off)
    broken_off.close()  # type: ignore[attr-defined]  # it is a generator
