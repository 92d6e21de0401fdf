"""Frozen values refuse what they must not hold, and keep what they hold."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agebench.protocols import DatasetSpec, DetectorSpec
from agebench.types import (
    FIVE_POINTS,
    AgeBins,
    AgePrediction,
    Crops,
    CropSpec,
    Face,
    FaceFrame,
    Sample,
    ViewSpec,
    WeightsFile,
    plain,
)

NAN, INF = math.nan, math.inf
POINTS = tuple((float(number), 1.0) for number in range(5))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Face((0, 0, NAN, 1), 0.5),
        lambda: Face((0, 0, INF, 1), 0.5),
        lambda: Face((0, 0, 0, 1), 0.5),
        lambda: Face((2, 0, 1, 1), 0.5),
        lambda: Face((0, 0, 1, 1), 1.01),
        lambda: Face((0, 0, 1, 1), NAN),
        lambda: Face((0, 0, 1, 1), 0.5, POINTS),
        lambda: Face((0, 0, 1, 1), 0.5, POINTS[:4], FIVE_POINTS),
        lambda: Face((0, 0, 1, 1), 0.5, ((NAN, 0.0), *POINTS[1:]), FIVE_POINTS),
        lambda: FaceFrame((0, 0), 0),
        lambda: FaceFrame((0, NAN), 1),
        lambda: FaceFrame((0, 0), INF),
        lambda: FaceFrame((0, 0), 1, NAN),
        lambda: ViewSpec(size_hw=(0, 5)),
        lambda: ViewSpec(margin=-0.5),
        lambda: ViewSpec(margin=NAN),
        lambda: ViewSpec(margin_px=INF),
        lambda: ViewSpec(align=True, border="clip"),
        lambda: CropSpec({}),
        lambda: AgeBins((), ()),
        lambda: AgeBins((1,), ()),
        lambda: AgeBins((3,), (2,)),
        lambda: AgeBins((-1,), (2,)),
        lambda: AgePrediction(NAN),
        lambda: AgePrediction(-0.1),
        lambda: AgePrediction(120.1),
        lambda: AgePrediction(3, np.array([0.5, 0.4])),
        lambda: AgePrediction(3, np.array([1.5, -0.5])),
        lambda: AgePrediction(3, np.array([NAN, 1.0])),
        lambda: AgePrediction(3, np.array([[1.0]])),
        lambda: AgePrediction(3, np.array([])),
        lambda: Sample(Path("a"), "a", NAN),
        lambda: Sample(Path("a"), "a", 121.0),
        lambda: Sample(Path("a"), "a", None, (5, 4)),
        lambda: Sample(Path("a"), "a", None, (-1, 4)),
    ],
)
def test_impossible_values_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each constructor words it in its own way
        make()


def test_values_at_the_bounds_are_taken() -> None:
    assert AgePrediction(0.0).years == 0
    assert AgePrediction(120.0).years == 120
    assert Sample(Path("a"), "a", 0.0, (0, 120)).age_years == 0
    assert Face((-1, -1, 0, 0), 1.0).area == 1
    assert Face((0, 0, 3, 2), 0.0, POINTS, FIVE_POINTS).area == 6


def test_paths_of_samples_may_be_text() -> None:
    sample = Sample("pics/x.jpg", "a", 30.0, landmarks_path="x.pts")  # type: ignore[arg-type]
    assert sample == Sample(Path("pics/x.jpg"), "a", 30.0, landmarks_path=Path("x.pts"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Sample(3, "a", 30.0), "expected the path of a file, got 3"),  # type: ignore[arg-type]
        (lambda: Sample(Path("a"), "a", "30"), "age must be a number of years, got '30'"),  # type: ignore[arg-type]
        (
            lambda: DatasetSpec("mine", "foo"),  # type: ignore[arg-type]
            "label_kind must be one of birth-age, apparent, dex-estimated, unknown, got 'foo'",
        ),
    ],
)
def test_values_of_another_kind_are_refused_in_a_sentence(
    make: Callable[[], Any], said: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        make()


def test_boxes_and_landmarks_may_be_arrays() -> None:
    box, points = np.array([0.0, 0.0, 3.0, 2.0]), np.array(POINTS)
    face = Face(box, 0.5, points, FIVE_POINTS)  # type: ignore[arg-type]  # as detectors give them
    assert face == Face((0, 0, 3, 2), 0.5, POINTS, FIVE_POINTS)
    with pytest.raises(ValueError, match="landmarks need a landmark_scheme"):
        Face((0, 0, 3, 2), 0.5, points)  # type: ignore[arg-type]


def test_nothing_can_be_changed() -> None:
    face = Face((0, 0, 1, 1), 0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        face.score = 1.0  # type: ignore[misc]  # the very point
    attributes = {"gender": "female"}
    sample = Sample(Path("a"), "a", 3.0, attributes=attributes)
    attributes["gender"] = "male"
    assert sample.attributes == {"gender": "female"}
    shares = np.array([0.5, 0.5])
    prediction = AgePrediction(3.0, shares)
    shares[0] = 9
    assert prediction.probabilities is not None
    assert prediction.probabilities.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="read-only"):
        prediction.probabilities[0] = 1


def _crops(n: int, start: int = 0) -> Crops:
    pixels = (
        np.zeros((n, 2, 3, 3), np.uint8)
        + np.arange(start, start + n, dtype=np.uint8)[:, None, None, None]
    )
    return Crops(
        {"face": pixels},
        {"face": np.arange(start, start + n) % 2 == 0},
        {"face": np.arange(start, start + n) / 10},
    )


def test_values_travel_between_processes_and_can_be_copied() -> None:
    sample = Sample(Path("a.jpg"), "a.jpg", 3.0, attributes={"gender": "female"})
    crop = CropSpec({"face": ViewSpec("face", size_hw=(2, 2))})
    for value in (sample, crop, DetectorSpec(name="d", settings={"share": 0.5})):
        for same in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):  # noqa: S301 - ours
            assert same == value
    with pytest.raises(TypeError, match="item assignment"):
        copy.deepcopy(sample).attributes["gender"] = "male"  # type: ignore[index]


def test_crops_are_taken_and_joined_in_order() -> None:
    crops = _crops(4)
    assert len(crops) == 4
    taken = crops.take(np.array([3, 0]))
    assert taken.views["face"][:, 0, 0, 0].tolist() == [3, 0]
    assert taken.present["face"].tolist() == [False, True]
    assert taken.outside["face"].tolist() == [0.3, 0.0]
    joined = Crops.join([_crops(2), _crops(0), _crops(3, start=2)])
    assert joined.views["face"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert len(crops.take(slice(0, 0))) == 0
    with pytest.raises(ValueError, match="nothing to join"):
        Crops.join([])


@pytest.mark.parametrize(
    ("pixels", "flags", "said"),
    [
        (np.zeros((2, 4, 4), np.uint8), 2, "must be uint8"),
        (np.zeros((2, 4, 4, 1), np.uint8), 2, "must be uint8"),
        (np.zeros((2, 4, 4, 3), np.float32), 2, "must be uint8"),
        (np.zeros((2, 4, 4, 3), np.uint8), 3, "same number of faces"),
    ],
)
def test_crops_of_other_shapes_are_refused(pixels: Any, flags: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Crops({"a": pixels}, {"a": np.ones(flags, np.bool_)}, {"a": np.zeros(flags)})


def test_bins() -> None:
    bins = AgeBins((0, 4, 7), (2, 6, 7))
    assert bins.labels == ("0-2", "4-6", "7")
    assert bins.midpoints.tolist() == [1, 5, 7]
    assert AgeBins.single_years(1, 100).midpoints.tolist() == list(range(1, 101))


def test_plain_is_what_json_can_hold() -> None:
    spec = CropSpec({"face": ViewSpec("face", (2, 3))})
    assert plain(spec)["views"]["face"]["size_hw"] == [2, 3]
    assert plain({1: (Path("a/b"), np.float64(1.5), np.array([1, 2]))}) == {
        "1": ["a/b", 1.5, [1, 2]]
    }
    assert plain([WeightsFile("f", "0" * 64)])[0]["published"] is False
    assert type(plain(np.int64(3))) is int
