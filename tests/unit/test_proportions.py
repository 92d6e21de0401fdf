"""Intervals of shares against scipy, and what people are worth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binomtest

from agebench.metrics.proportions import effective_trials, proportion_interval, wilson_interval


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (0, 40), (1, 10), (7, 9), (40, 40)])
def test_wilson_is_scipys(successes: int, trials: int, level: float) -> None:
    ours = wilson_interval(successes, trials, level)
    theirs = binomtest(successes, trials).proportion_ci(level, "wilson")
    assert ours is not None
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    # At the ends the figure is exact, and never beyond.
    assert (ours.low == 0.0) == (successes == 0)
    assert (ours.high == 1.0) == (successes == trials)


@pytest.mark.parametrize(
    ("successes", "trials", "level"),
    [(-1, 3, 0.95), (4, 3, 0.95), (1, float("inf"), 0.95), (float("nan"), 3, 0.95), (1, 3, 1.0)],
)
def test_impossible_numbers_are_refused(successes: float, trials: float, level: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        wilson_interval(successes, trials, level)


def test_what_is_wrong_with_a_proportion_is_said() -> None:
    with pytest.raises(ValueError, match=r"successes from 0 to 3 trials, got 4$"):
        wilson_interval(4, 3)
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match=rf"^level: .*above 0 and below 1, got {level}$"):
            wilson_interval(1, 3, level)
    with pytest.raises(ValueError, match="happened: 2, codes: 3"):
        effective_trials(np.array([True, False]), np.arange(3))


def test_the_level_is_that_of_the_interval() -> None:
    happened, codes = np.arange(60) % 3 == 0, np.arange(60) // 4
    for level in (0.5, 0.95):
        for found in (
            wilson_interval(20, 60, level),
            proportion_interval(happened, None, level),
            proportion_interval(happened, codes, level),
        ):
            assert found is not None
            assert found.level == level
    default = proportion_interval(happened, codes)
    assert default == proportion_interval(happened, codes, 0.95)
    assert proportion_interval(happened) == wilson_interval(20, 60) == wilson_interval(20, 60, 0.95)
    assert wilson_interval(0, 0) is None


def test_the_interval_over_people_by_hand() -> None:
    # Twelve people with one to four pictures; the design effect from its definition.
    generator = np.random.default_rng(2)
    codes = np.repeat(np.arange(12), [1, 2, 3, 4] * 3)
    happened = generator.random(30) < np.linspace(0.1, 0.9, 12)[codes]
    rate = happened.mean()
    residuals = [np.sum(happened[codes == person] - rate) for person in range(12)]
    by_people = 12 / 11 * np.sum(np.square(residuals)) / 30**2
    effect = by_people / (rate * (1 - rate) / 30)
    assert effect > 1
    assert effective_trials(happened, codes) == pytest.approx(30 / effect)
    for level in (0.8, 0.95):
        tail = (1 + level) / 2
        trials = 30 / effect * (stats.norm.ppf(tail) / stats.t.ppf(tail, 11)) ** 2
        expected = wilson_interval(rate * trials, trials, level)
        found = proportion_interval(happened, codes, level)
        assert expected is not None
        assert found is not None
        assert found.ends == pytest.approx(expected.ends)


def test_pictures_that_differ_within_people_count_no_more_than_their_number() -> None:
    # Each person has one of either: the variance over people is zero, the effect counts as 1.
    happened, codes = np.tile([True, False], 6), np.repeat(np.arange(6), 2)
    assert effective_trials(happened, codes) == 12.0
    assert effective_trials(np.array([True, False]), np.array([4, 4])) == 1.0
    # Two people, one with two of two and one with none of two: 2 * (1 + 1) / 16 against 1 / 16.
    assert effective_trials(np.array([True, True, False, False]), np.array([0, 0, 1, 1])) == 1.0
    # With one of three and none of one: 2 * 2 * 0.25**2 / 16 against 3 / 64, which is less.
    assert effective_trials(np.array([True, False, False, False]), np.array([0, 0, 0, 1])) == 4.0


def test_pictures_that_agree_within_people_count_once_per_person() -> None:
    happened = np.repeat([True, False, True, False, False, True], 50)
    codes = np.repeat(np.arange(6), 50)
    # Six people with all pictures alike: about six chances, less the one of the estimated mean.
    assert effective_trials(happened, codes) == pytest.approx(5.0)


def test_independent_pictures_keep_their_number() -> None:
    generator = np.random.default_rng(1)
    happened = generator.random(20_000) < 0.3
    codes = np.arange(20_000)
    assert effective_trials(happened, codes) == pytest.approx(20_000, rel=1e-3)
    people = generator.integers(0, 2000, 20_000)
    assert effective_trials(happened, people) == pytest.approx(20_000, rel=0.1)


@pytest.mark.parametrize("value", [True, False])
def test_where_nothing_varies_each_person_counts_once(value: bool) -> None:
    happened, codes = np.full(100, value), np.repeat(np.arange(10), 10)
    assert effective_trials(happened, codes) == 10
    trials = 10 * (1.959964 / 2.262157) ** 2  # the quantiles of the normal and of t with 9
    expected = wilson_interval(trials * value, trials)
    got = proportion_interval(happened, codes)
    assert expected is not None
    assert got is not None
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_codes_may_leave_numbers_out() -> None:
    happened = np.array([True, False, True, True])
    assert effective_trials(happened, np.array([7, 7, 2, 3])) == effective_trials(
        happened, np.array([0, 0, 1, 2])
    )


def test_one_person_has_no_interval() -> None:
    happened = np.array([True, False] * 5)
    assert proportion_interval(happened, np.full(10, 3)) is None
    assert proportion_interval(happened, np.arange(10) % 9) is None
    assert proportion_interval(happened, np.arange(10)) is not None
    assert proportion_interval(happened) == wilson_interval(5, 10)
    assert proportion_interval(happened[:9]) is None
    assert proportion_interval(np.zeros(0, np.bool_), np.zeros(0, np.intp)) is None


def test_of_few_people_the_intervals_hold_what_they_promise() -> None:
    """Ten people with ten pictures each, who differ: 95 % of the intervals hold the truth."""
    generator = np.random.default_rng(5)
    codes = np.repeat(np.arange(10), 10)
    held = 0
    for _ in range(1000):
        of_person = generator.beta(1.0, 3.0, 10)  # 25 % on average
        interval = proportion_interval(generator.random(100) < of_person[codes], codes)
        assert interval is not None
        held += interval.low <= 0.25 <= interval.high
    assert held >= 930
