"""Whole comparisons on real photographs, against figures measured independently.

hse-mobilenet with another 5-landmark YOLO, the largest face's box grown by 10 % a side, and
expectation over the two most probable ages: 7.1 years on these FG-NET pictures, 6.5 on UTKFace.
A value far from these means a wrong crop, mean or channel order.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from agebench import CompareSettings, compare
from agebench.harness.results import CompareResult

pytestmark = [pytest.mark.shared, pytest.mark.slow]

FAST = {"latency_images": 0, "threads": 2}

FGNET_PICTURES = 251
# Detector: (most pictures that may be missed, lowest and highest MAE of hse-mobilenet).
DETECTORS = {
    "yolov8-face": (5, 6.6, 7.7),
    "yunet": (3, 6.6, 7.7),
    "yoloface-500k": (12, 6.4, 8.2),
    "haar": (40, 6.4, 8.5),
    "aligned layout=tight": (0, 7.0, 14.0),
}


def _mae(result: CompareResult, name: str) -> float:
    value = next(item.mae_years for item in result.estimators if item.name.startswith(name))
    assert value is not None
    return value


@pytest.mark.parametrize("detector", DETECTORS)
def test_fgnet_with_each_detector(
    detector: str,
    shared_dir: Path,
    shared_weights: Path,
    tmp_path: Path,
) -> None:
    estimators = ["hse-mobilenet", "constant"]
    root = shared_dir / "data" / "fgnet"
    result = compare(
        estimators,
        "fgnet",
        root=root,
        detector=detector,
        out=tmp_path,
        settings=CompareSettings(**FAST),  # type: ignore[arg-type]  # numbers all
    )
    most_missed, lowest, highest = DETECTORS[detector]
    assert len(result.records) == FGNET_PICTURES
    assert FGNET_PICTURES - result.common <= most_missed
    assert lowest < _mae(result, "hse-mobilenet") < highest
    assert _mae(result, "hse-mobilenet") < _mae(result, "constant")
    with (tmp_path / "predictions.csv").open(newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == len(estimators) * FGNET_PICTURES


def test_utkface_chips(shared_dir: Path, shared_weights: Path) -> None:
    result = compare(
        ["hse-mobilenet", "constant"],
        "utkface",
        root=shared_dir / "data" / "utkface",
        detector="aligned",
        settings=CompareSettings(sample=2000, seed=1, **FAST),  # type: ignore[arg-type]  # numbers all
    )
    assert result.common == 2000
    assert 5.6 < _mae(result, "hse-mobilenet") < 7.0
    assert _mae(result, "hse-mobilenet") < _mae(result, "constant") - 5
