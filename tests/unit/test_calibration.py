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
from agebench.metrics.proportions import proportion_interval
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
    with pytest.raises(ValueError, match=r"^intervals_years: .*\(n, 2\), n from 1, got \(0, 2\)"):
        coverage(np.zeros((0, 2)), [], 0.5)
    with pytest.raises(ValueError, match=r"^intervals_years: .*\(n, 2\), n from 1, got \(1, 3\)"):
        coverage([[1, 2, 3]], [2], 0.5)
    with pytest.raises(ValueError, match=r"^intervals_years: .*finite"):
        coverage([[1, np.nan]], [2], 0.5)
    with pytest.raises(ValueError, match=r"^true_years: .*finite"):
        coverage([[1, 2]], [np.nan], 0.5)
    with pytest.raises(ValueError, match="intervals_years: 2, true_years: 1"):
        coverage([[1, 2], [1, 2]], [2], 0.5)
    with pytest.raises(ValueError, match=r"^pit: .*finite"):
        pit_counts([np.nan])
    for outside in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"^pit: .*from 0 to 1$"):
            pit_counts([0.5, outside])


def test_wrong_arguments_are_named() -> None:
    bins = AgeBins.single_years(20, 21)
    with pytest.raises(ValueError, match=r"^probabilities: .*finite"):
        year_probabilities([[0.5, np.inf]], bins)
    for wrong in ([[1.5, -0.5]], [[0.0, 0.0]], [[1.0]]):
        with pytest.raises(ValueError, match=r"^probabilities: expected shape \(n, 2\)"):
            year_probabilities(wrong, bins)
    with pytest.raises(ValueError, match=r"^jitter: .*finite"):
        score_distributions([[0.5, 0.5]], bins, [20], [np.nan])
    with pytest.raises(ValueError, match="probabilities: 2, true_years: 1, jitter: 1"):
        score_distributions([[0.5, 0.5]] * 2, bins, [20], [0.5])
    with pytest.raises(ValueError, match="probabilities: 1, true_years: 1, jitter: 2"):
        score_distributions([[0.5, 0.5]], bins, [20], [0.5, 0.5])


def test_rows_are_rescaled() -> None:
    by_year = year_probabilities([[6.0, 2.0], [0.5, 0.5]], AgeBins((0, 4), (1, 4)))
    assert by_year[:, :5].tolist() == [[0.375, 0.375, 0, 0, 0.25], [0.25, 0.25, 0, 0, 0.5]]


def test_the_largest_age_is_scored_too() -> None:
    scores = score_distributions(np.eye(121)[-1:], YEARS, [120.0], [1.0])
    assert (scores.nll.tolist(), scores.crps_years.tolist()) == ([0.0], [0.0])
    assert scores.pit.tolist() == [1.0]


@pytest.mark.parametrize(
    ("shares", "level", "low", "high"),
    [
        ({0: 1.0}, 0.5, 0.0, 0.25),  # -0.5 to 0.5, of which a quarter is left out on either side
        ({120: 1.0}, 0.5, 119.75, 120.0),
        ({10: 1.0}, 0.8, 9.6, 10.4),
        ({20: 0.25, 23: 0.5, 26: 0.25}, 0.5, 20.5, 23.5),  # where a gap begins
        ({20: 0.5, 21: 0.5}, 0.5, 20.0, 21.0),
    ],
)
def test_interval_ends_by_hand(
    shares: dict[int, float], level: float, low: float, high: float
) -> None:
    row = np.zeros(121)
    row[list(shares)] = list(shares.values())
    assert central_interval(np.cumsum(row)[None], level)[0] == pytest.approx([low, high])


def test_a_sum_just_below_one_ends_with_the_last_year() -> None:
    row = np.zeros(121)
    row[-10:] = 0.1
    cumulative = np.cumsum(row)[None]
    level = np.nextafter(1.0, 0.0)
    assert cumulative[0, -1] < (1 + level) / 2
    assert central_interval(cumulative, level)[0] == pytest.approx([110.5, 120.0])


def test_ends_of_intervals_are_inside_and_ages_count_by_completed_years() -> None:
    found = coverage([[20, 30]] * 4, [19.9, 20.0, 30.9, 31.0], 0.8)
    assert (found.level, found.fraction, found.interval) == (0.8, 0.5, None)
    assert pit_counts([0.25]) == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]


def test_coverage_has_the_interval_of_a_proportion_over_people() -> None:
    true = np.tile([25.0, 40.0, 25.0], 20)
    people = np.repeat(np.arange(12), 5)
    found = coverage([[20, 30]] * 60, true, 0.5, people, confidence=0.8)
    assert found.fraction == pytest.approx(2 / 3)
    assert found.interval == proportion_interval(true < 30, people, 0.8)
    assert found.interval != coverage([[20, 30]] * 60, true, 0.5, confidence=0.8).interval
