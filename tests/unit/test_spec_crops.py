"""Crops by name, in spec files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage.transform import SimilarityTransform, warp

from agebench.errors import UsageError
from agebench.estimators.crop_names import CROPS
from agebench.estimators.spec_checks import stretch_note
from agebench.estimators.spec_schema import Crop, read_spec
from agebench.types import FaceFrame, Image, ViewSpec
from agebench.vision.crops import cut_patch, view_patch
from agebench.vision.frames import frame_from_points
from agebench.vision.regions import ARCFACE_5

POINTS = np.array([(60.0, 70.0), (103.0, 82.0), (77.0, 101.0), (52.0, 113.0), (88.0, 124.0)])

SPEC = """
name = "net"
[files]
model = "net.onnx"
[crop]
{crop}
[input]
channel_order = "bgr"
mean = [0, 0, 0]
[output]
kind = "years"
"""


def _crop(folder: Path, crop: str) -> Crop:
    path = folder / "model.toml"
    path.write_text(SPEC.format(crop=crop))
    return read_spec(path).crop


def _frame() -> FaceFrame:
    frame = frame_from_points(POINTS)
    assert frame is not None
    return frame


def test_arcface_crops_are_those_of_a_similarity_transform() -> None:
    """As InsightFace makes them: `estimate` of scikit-image, then a warp."""
    view = Crop(size=(112, 112), name="arcface-112").view()
    patch = view_patch(view, _frame(), (200, 200))
    theirs = SimilarityTransform.from_estimate(ARCFACE_5, POINTS)  # from the crop to the picture
    assert patch.width == pytest.approx(112 * theirs.scale)
    assert patch.roll_rad == pytest.approx(theirs.rotation)
    assert patch.center_xy == pytest.approx(theirs([[55.5, 55.5]])[0].tolist())
    random = np.random.default_rng(3)
    coarse = random.integers(0, 256, (20, 20, 3), np.uint8)
    image: Image = np.repeat(np.repeat(coarse, 10, axis=0), 10, axis=1)
    ours = cut_patch(image, patch, (112, 112))
    expected = warp(  # type: ignore[no-untyped-call]
        image, theirs, output_shape=(112, 112), preserve_range=True
    )
    inner = slice(8, -8)
    assert np.abs(ours[inner, inner] - expected[inner, inner]).mean() < 2.0


@pytest.mark.parametrize("name", sorted(set(CROPS) - {"face", "adience", "original"}))
def test_named_crops_but_the_faces_are_square(name: str) -> None:
    patch = view_patch(Crop(size=(64, 64), name=name).view(), _frame(), (200, 200))
    assert patch.width == pytest.approx(patch.height)


def test_what_the_names_stand_for(tmp_path: Path) -> None:
    frame = FaceFrame((100.0, 100.0), 60.0, 0.2)
    square = _crop(tmp_path, 'name = "square"\ntimes = 1.5\nsize = [96, 96]').view()
    patch = view_patch(square, frame, (200, 200))
    assert [patch.width, patch.height, patch.roll_rad] == pytest.approx([90, 90, 0])
    insightface = Crop(size=(96, 96), name="insightface").view()
    assert insightface == replace(square, border="constant")
    chip = view_patch(Crop(size=(64, 64), name="dlib-chip").view(), frame, (200, 200))
    assert chip.roll_rad == 0.2
    assert chip.width == pytest.approx(60 * 0.9025)
    upright = Crop(size=(64, 64), name="dlib-chip", align=False).view()
    assert upright == Crop(size=(64, 64), name="chip").view()
    adience = _crop(tmp_path, 'name = "adience"\nsize = [227, 227]').view()
    assert adience == ViewSpec("face", (227, 227), margin_px=20, border="clip")
    assert Crop(size=(8, 8)).view() == ViewSpec("face", (8, 8))


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        ('name = "dlibchip"', "crop: unknown name 'dlibchip': did you mean 'dlib-chip'"),
        ('name = "chip"\nregion = "chip"', "crop: give a name or a region, not both"),
        ("times = 1.5\nmargin = 0.2", "crop: give times or margin, not both"),
        ("times = 0", "crop: times must be above 0"),
    ],
)
def test_wrong_crops_name_the_key(tmp_path: Path, crop: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _crop(tmp_path, f"size = [8, 8]\n{crop}")


def test_a_view_of_another_aspect_than_the_input_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "model.toml"
    path.write_text(SPEC.format(crop="size = [64, 64]"))
    said = stretch_note(read_spec(path))
    assert said.startswith("the view 'face' is 0.76 times as wide as high")
    assert "1.32 times too wide (if the model's authors do the same, write stretch = true" in said
    assert math.isclose(1 / 0.76, 1.32, abs_tol=0.005)
    for crop in (
        "size = [84, 64]",
        'size = [64, 64]\nname = "chip"',
        'size=[9, 9]\nname="original"',
        "size = [64, 64]\nstretch = true",
    ):
        path.write_text(SPEC.format(crop=crop))
        assert stretch_note(read_spec(path)) == "", crop
