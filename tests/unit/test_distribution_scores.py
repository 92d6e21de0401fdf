"""The few numbers kept of each distribution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agebench.harness.distributions import DISTRIBUTION_FIELDS, score_predictions
from agebench.harness.records import ImageRecord, Outcome
from agebench.metrics.calibration import LEVELS, score_distributions
from agebench.types import AgeBins, AgePrediction, Sample

BINS = AgeBins.single_years(0, 100)
SHARES = np.random.default_rng(0).dirichlet(np.ones(101), 3)


def _record(age: float | None, sha256: str = "") -> ImageRecord:
    bounds = (20, 30) if age is None else None
    return ImageRecord(Sample(Path("a.png"), "a.png", age, bounds), sha256=sha256)


def test_the_fields_are_those_of_an_outcome() -> None:
    assert set(DISTRIBUTION_FIELDS) <= set(Outcome.__dataclass_fields__)


def test_each_prediction_has_its_own_scores_whoever_it_is_asked_with() -> None:
    records = [_record(30.0), _record(40.5), _record(None)]
    predictions = [
        AgePrediction(30.0, SHARES[0]),
        AgePrediction(30.0),
        AgePrediction(30.0, SHARES[2]),
    ]
    first, none, third = score_predictions(predictions, records, BINS)
    expected = score_distributions(SHARES[:1], BINS, [30.0])
    assert none == {}
    assert first["nll"] == pytest.approx(expected.nll[0])
    assert first["crps_years"] == pytest.approx(expected.crps_years[0])
    assert first["pit"] == pytest.approx(expected.pit[0])
    for level in LEVELS:
        ends = first[f"interval_{100 * level:.0f}"]
        assert ends == pytest.approx(tuple(expected.intervals[level][0]))
    assert (third["nll"], third["crps_years"], third["pit"]) == (None, None, None)
    assert third["interval_80"][0] < third["interval_80"][1]
    (alone,) = score_predictions(predictions[:1], records[:1], BINS)
    assert alone == first


def test_without_bins_or_distributions_there_is_nothing() -> None:
    assert score_predictions([AgePrediction(3.0, SHARES[0])], [_record(3.0)], None) == [{}]
    assert score_predictions([AgePrediction(3.0)], [_record(3.0)], BINS) == [{}]
    assert score_predictions([], [], BINS) == []


def test_the_pit_depends_on_the_pictures_bytes_alone() -> None:
    shares = np.eye(101)[30]
    hashes = ["00" * 32, "80" * 32, "ff" * 32, "80" * 32]
    records = [_record(30.0, key) for key in hashes]
    found = score_predictions([AgePrediction(30.0, shares)] * 4, records, BINS)
    assert [item["pit"] for item in found] == pytest.approx([0.0, 0.5, 1.0, 0.5], abs=1e-2)
    assert found[1] == found[3]
