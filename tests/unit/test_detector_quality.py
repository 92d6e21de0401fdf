"""The matching rule of benchmarks/detector_quality.py, on cases counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np
import pytest

from tests.unit.scripts import load_script


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    return load_script("benchmarks.detector_quality")


def counts(
    quality: ModuleType,
    found: Sequence[Sequence[float]],
    true: Sequence[Sequence[float]],
    invalid: list[bool] | None = None,
) -> tuple[int, int, int]:
    truth = quality.Truth(
        np.array(true, float).reshape(-1, 4), np.array(invalid or [False] * len(true), bool)
    )
    result = quality.match(np.array(found, float).reshape(-1, 4), truth, 20)
    return result.faces, result.found, result.false_alarms


def test_every_kind_of_outcome_is_counted_once(quality: ModuleType) -> None:
    true = [[0, 0, 30, 30], [100, 0, 130, 40], [200, 0, 210, 10], [300, 0, 340, 40]]
    found = [
        [0, 0, 30, 28],  # the first face
        [1, 0, 31, 30],  # the same face again: a false alarm
        [200, 0, 210, 11],  # a face below the threshold: neither
        [300, 0, 340, 40],  # an invalid one: neither
        [300, 2, 340, 40],  # and once more: still neither
        [400, 0, 430, 25],  # nothing there: a false alarm
        [400, 0, 430, 19],  # nothing there, but below the threshold
        [100, 0, 130, 19],  # IoU with the second face 19/40: not found, and too small to be false
    ]
    assert counts(quality, found, true, [False, False, False, True]) == (2, 1, 2)


def test_a_detection_takes_the_box_that_it_overlaps_most(quality: ModuleType) -> None:
    true = [[0, 0, 40, 40], [6, 0, 46, 40]]
    found = [[5, 0, 45, 40], [0, 0, 40, 40]]
    assert counts(quality, found, true) == (2, 2, 0)


def test_a_counted_box_goes_before_an_invalid_one(quality: ModuleType) -> None:
    true = [[0, 0, 40, 40], [2, 0, 42, 40]]
    assert counts(quality, [[0, 0, 40, 40]], true, [True, False]) == (1, 1, 0)


def test_nothing_found_and_nothing_there(quality: ModuleType) -> None:
    assert counts(quality, [], [[0, 0, 30, 30]]) == (1, 0, 0)
    assert counts(quality, [[0, 0, 30, 30]], []) == (0, 0, 1)
    empty = quality.Counts()
    assert (empty.recall, empty.precision) == (0.0, 0.0)


def test_rates_add_up_over_pictures(quality: ModuleType) -> None:
    total = quality.Counts(4, 3, 1) + quality.Counts(6, 1, 1)
    assert total.recall == pytest.approx(0.4)
    assert total.precision == pytest.approx(4 / 6)
