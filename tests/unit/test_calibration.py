"""Calibration figures against scikit-learn, scoringrules, scipy and counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scoringrules
from scipy import integrate
from sklearn.metrics import log_loss

from agebench.metrics.age_classes import ADIENCE_CLASSES
from agebench.metrics.calibration import (
    LEAST_PROBABILITY,
    LEVELS,
    central_interval,
    coverage,
    pit_counts,
    score_distributions,
    year_probabilities,
)
from agebench.types import AgeBins, Floats

YEARS = AgeBins.single_years(0, 120)


def _random(n: int, bins: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).dirichlet(np.full(bins, 0.3), n)


def _normal(centers: Floats, spread: float) -> Floats:
    shares = np.exp(-(((np.arange(121) - centers[:, None]) / spread) ** 2) / 2)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def test_crps_is_scoringrules_ranked_probability_score() -> None:
    shares, true = _random(40, 121), np.random.default_rng(1).integers(0, 121, 40)
    # Its categories count from 1.
    expected = scoringrules.rps_score(true + 1, shares)
    assert score_distributions(shares, YEARS, true).crps_years == pytest.approx(expected)


def test_crps_is_the_expected_distance_less_half_the_spread() -> None:
    shares, true = _random(20, 8, seed=2), np.random.default_rng(3).uniform(0, 100, 20)
    ages = np.arange(121.0)
    by_year = year_probabilities(shares, ADIENCE_CLASSES)
    # The label as it is, a fraction of a year included: the same truth as in the mean error.
    distance = (by_year * np.abs(ages - true[:, None])).sum(axis=1)
    spread = np.einsum("ni,nj,ij->n", by_year, by_year, np.abs(ages[:, None] - ages))
    scores = score_distributions(shares, ADIENCE_CLASSES, true)
    assert scores.crps_years == pytest.approx(distance - spread / 2)


def test_a_sure_distribution_has_its_absolute_error_as_crps() -> None:
    shares = np.eye(121)[[30, 40]]
    assert score_distributions(shares, YEARS, [37.0, 40.0]).crps_years.tolist() == [7.0, 0.0]
    assert score_distributions(shares, YEARS, [29.5, 40.75]).crps_years == pytest.approx(
        [0.5, 0.75]
    )


def test_nll_is_scikit_learns_log_loss() -> None:
    shares = _normal(np.random.default_rng(4).uniform(5, 90, 50), 8.0)
    true = np.random.default_rng(5).integers(0, 100, 50)
    expected = [
        log_loss([age], row[None, :], labels=np.arange(121))
        for age, row in zip(true, shares, strict=True)
    ]
    floored = np.minimum(expected, -np.log(LEAST_PROBABILITY))
    assert score_distributions(shares, YEARS, true).nll == pytest.approx(floored)
    assert np.any(floored < expected)
    assert np.any(floored == expected)


def test_nll_of_a_class_is_spread_over_its_years() -> None:
    shares = np.eye(8)[[4, 4, 4]]
    nll = score_distributions(shares, ADIENCE_CLASSES, [25.0, 32.9, 33.0]).nll
    # 25-32 are eight completed years; 33 is in a gap.
    assert nll == pytest.approx([np.log(8), np.log(8), -np.log(LEAST_PROBABILITY)])


def test_pit_is_even_for_who_says_what_is_so() -> None:
    generator = np.random.default_rng(6)
    shares = _normal(generator.uniform(20, 80, 20_000), 3.0)
    true = [generator.choice(121, p=row) for row in shares]
    scores = score_distributions(shares, YEARS, true, generator.random(20_000))
    counts = np.array(pit_counts(scores.pit))
    assert np.abs(counts - 2000).max() < 4 * np.sqrt(2000)
    for level in LEVELS:
        held = coverage(scores.intervals[level], true, level)
        assert held.fraction == pytest.approx(level, abs=0.02)
        assert held.interval is not None
        assert held.interval.low <= held.fraction <= held.interval.high


def test_who_is_too_sure_is_found_out() -> None:
    generator = np.random.default_rng(7)
    centers = generator.uniform(30, 70, 4000)
    true = np.clip(np.round(generator.normal(centers, 10.0)), 0, 120)
    scores = score_distributions(_normal(centers, 3.0), YEARS, true)
    counts = pit_counts(scores.pit)
    assert coverage(scores.intervals[0.8], true, 0.8).fraction < 0.4
    assert min(counts[0], counts[-1]) > 3 * max(counts[2:8])


def test_pit_by_hand() -> None:
    shares = [[0.2, 0.5, 0.3]]
    bins = AgeBins.single_years(20, 22)
    assert score_distributions(shares, bins, [21]).pit == pytest.approx([0.45])
    for jitter, expected in ((0.0, 0.2), (1.0, 0.7)):
        assert score_distributions(shares, bins, [21.8], [jitter]).pit == pytest.approx([expected])


def test_interval_ends_are_the_quantiles_of_an_even_density() -> None:
    shares = _random(15, 8, seed=8)
    by_year = year_probabilities(shares, ADIENCE_CLASSES)
    for level in LEVELS:
        ends = central_interval(np.cumsum(by_year, axis=1), level)
        for row, (low, high) in zip(by_year, ends, strict=True):
            for end, quantile in ((low, (1 - level) / 2), (high, (1 + level) / 2)):
                if end == 0.0:
                    continue  # clipped: the year 0 reaches down to -0.5
                edges = np.arange(-0.5, 121.5)
                heights = dict(zip(edges[:-1].tolist(), row, strict=True))
                below, _ = integrate.quad(
                    lambda x, h=heights: h[float(np.floor(x + 0.5)) - 0.5],
                    -0.5,
                    end,
                    points=edges[edges < end],
                    limit=400,
                )
                assert below == pytest.approx(quantile, abs=1e-6)


def test_an_unknown_age_gives_intervals_alone() -> None:
    scores = score_distributions(_random(2, 121), YEARS, [np.nan, 30.0])
    for column in (scores.nll, scores.crps_years, scores.pit):
        assert np.isnan(column).tolist() == [True, False]
    assert np.isfinite(scores.intervals[0.5]).all()


def test_bins_of_any_width_are_spread_evenly_and_none_is_lost() -> None:
    bins = AgeBins((0, 110, 118, 500), (9, 115, 200, 999))
    by_year = year_probabilities([[0.1, 0.6, 0.3, 0.0], [0.0, 0.0, 0.0, 1.0]], bins)
    assert by_year.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert by_year[0, 3] == pytest.approx(0.01)
    assert by_year[0, 112] == pytest.approx(0.1)
    assert by_year[1, 120] == 1.0


@pytest.mark.parametrize(
    ("shares", "true"),
    [
        ([[0.5, 0.5]], [30.0]),
        (np.zeros((1, 121)), [30.0]),
        (-np.eye(121)[:1], [30.0]),
        (np.full((1, 121), np.nan), [30.0]),
        (np.eye(121)[:1], [121.0]),
        (np.eye(121)[:1], [-1.0]),
        (np.eye(121)[:2], [3.0]),
    ],
)
def test_what_is_no_distribution_or_age_is_refused(shares: Floats, true: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        score_distributions(shares, YEARS, true)


def test_coverage_and_counts_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="intervals_years"):
        coverage(np.zeros((0, 2)), [], 0.5)
    with pytest.raises(ValueError, match="pit"):
        pit_counts([1.5])
