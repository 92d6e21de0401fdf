"""Crops on a device are those of the host, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agebench.errors import UsageError
from agebench.types import CropSpec, FaceFrame, ViewSpec
from agebench.vision.crops import cut_crops
from tests.unit.scripts import load_script

torch = pytest.importorskip("torch")
torch_crops = load_script("benchmarks.gpu_crops")

SPEC = CropSpec(
    {
        "face": ViewSpec("chip", size_hw=(48, 48)),
        "eyes": ViewSpec("eyes", size_hw=(24, 48)),
        "upright": ViewSpec("face", size_hw=(20, 30), margin=0.3, align=False),
        "clipped": ViewSpec("face", size_hw=(32, 32), margin_px=20.0, border="clip"),
        "strict": ViewSpec("mouth", size_hw=(16, 24), max_outside=0.1),
    }
)


def _frames(height: float, count: int, side: int) -> list[FaceFrame]:
    rng = np.random.default_rng(3)
    centers, rolls = rng.uniform(0.2 * side, 0.8 * side, (count, 2)), rng.normal(0, 0.5, count)
    return [
        FaceFrame((float(x), float(y)), height * (1 + k / count), float(roll))
        for k, ((x, y), roll) in enumerate(zip(centers, rolls, strict=True))
    ]


@pytest.mark.parametrize(("height", "why"), [(40.0, "enlarged"), (170.0, "halved")])
def test_the_same_pixels_as_on_the_host(height: float, why: str) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (6, 301, 277, 3), dtype=np.uint8)
    frames = _frames(height, 6, 277)
    found = torch_crops.cut_on_device(torch.from_numpy(pictures), frames, SPEC)
    for name in SPEC.views:
        for face, (picture, frame) in enumerate(zip(pictures, frames, strict=True)):
            host = cut_crops(picture, [frame], SPEC)
            assert bool(found.present[name][face]) == bool(host.present[name][0]), (why, name, face)
            cut = found.views[name][face].permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(cut, host.views[name][0], f"{why} {name} {face}")


def test_a_face_outside_is_missing_and_black() -> None:
    pictures = torch.full((2, 50, 50, 3), 200, dtype=torch.uint8)
    frames = [FaceFrame((25.0, 25.0), 30.0), FaceFrame((400.0, 25.0), 30.0, math.pi / 8)]
    found = torch_crops.cut_on_device(pictures, frames, SPEC)
    assert found.present["face"].tolist() == [True, False]
    assert found.views["face"][1].max() == 0


def test_black_borders_are_refused() -> None:
    spec = CropSpec({"face": ViewSpec("face", size_hw=(8, 8), border="constant")})
    with pytest.raises(UsageError, match="constant"):
        torch_crops.cut_on_device(
            torch.zeros((1, 9, 9, 3), dtype=torch.uint8), [FaceFrame((4.0, 4.0), 5.0)], spec
        )
