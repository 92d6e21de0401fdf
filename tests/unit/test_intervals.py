"""Intervals against scipy, against a plain loop, and against what they promise."""

from __future__ import annotations

from collections.abc import Hashable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agebench.metrics.intervals import (
    Interval,
    cluster_codes,
    ends_of,
    jackknife_error,
    mean_interval,
    people_in,
    student_interval,
    sums_and_counts,
)
from agebench.types import Floats
from agebench.util.record_fields import Years


def _skewed(n: int, seed: int) -> Floats:
    return np.random.default_rng(seed).gamma(1.5, 4.0, n)


def _ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return interval.low, interval.high


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_of_differences_of_pictures_alone_it_is_scipys_t_interval(level: float) -> None:
    values = _skewed(120, seed=5) - 4.0
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    found = mean_interval(values, positive=False, level=level)
    assert _ends(found) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("positive", [True, False])
def test_each_person_is_left_out_in_turn(positive: bool) -> None:
    generator = np.random.default_rng(3)
    sizes = generator.integers(1, 15, 25)
    people = [f"p{value}" for value, size in enumerate(sizes) for _ in range(size)]
    means = generator.normal(8, 3, 25)
    drawn = [generator.normal(*one) for one in zip(means, np.ones(25), sizes, strict=True)]
    values = np.abs(np.concatenate(drawn))
    left = [values[[one != who for one in people]].mean() for who in sorted(set(people))]
    error = np.sqrt(24 * np.var(left))  # 24/25 of the sum of squares
    reach = stats.t.ppf(0.975, 24) * error
    mean = values.mean()
    expected = (
        (mean * np.exp(-reach / mean), mean * np.exp(reach / mean))
        if positive
        else (mean - reach, mean + reach)
    )
    found = _ends(mean_interval(values, clusters=people, positive=positive))
    assert found == pytest.approx(expected)
    alone = _ends(mean_interval(values, positive=positive))
    assert alone[1] - alone[0] < 0.7 * (found[1] - found[0])  # else they could not be told apart


def test_errors_of_nothing_have_an_interval_of_nothing_and_none_is_below_it() -> None:
    assert _ends(mean_interval([0.0] * 12)) == (0.0, 0.0)
    low, _ = _ends(mean_interval([0.0] * 30 + [100.0]))
    assert low > 0
    with pytest.raises(ValueError, match="expected none below 0, got -1"):
        mean_interval([-1.0] * 12)


def test_clusters_of_one_are_no_clusters() -> None:
    values = _skewed(40, seed=1)
    alone: list[list[Hashable]] = [[None] * 40, list(range(40)), [f"p{i}" for i in range(40)]]
    for clusters in alone:
        assert mean_interval(values, clusters=clusters) == mean_interval(values)


def test_none_members_are_people_of_their_own_beside_named_ones() -> None:
    assert cluster_codes([None, "a", None, 0, "a", (True, 0)]).tolist() == [0, 1, 2, 3, 1, 4]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 120), st.sampled_from("abcde")), min_size=1), st.randoms())
def test_the_order_of_the_pictures_does_not_matter(
    pairs: list[tuple[float, str]], random: Random
) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    for with_people in (True, False):
        first, second = (
            mean_interval(
                [value for value, _ in rows],
                clusters=[person for _, person in rows] if with_people else None,
            )
            for rows in (pairs, shuffled)
        )
        assert first == second


def test_too_few_have_no_interval() -> None:
    assert mean_interval([]) is None
    assert mean_interval([], clusters=[]) is None
    assert mean_interval([3.0]) is None
    values, nine = [3.0] * 12, [f"p{n % 9}" for n in range(11)]
    assert mean_interval(values, clusters=["ann"] * 12) is None
    assert mean_interval(values, clusters=[*nine, "p0"]) is None
    assert mean_interval(values, clusters=[*nine, None]) is not None
    assert mean_interval(values[:9]) is None


def _coverage(people: int, pictures: int, clustered: bool, runs: int = 400) -> float:
    """Fraction of runs whose interval holds the true mean, 0, of person plus picture effects."""
    generator = np.random.default_rng(11)
    clusters = np.repeat(np.arange(people), pictures).tolist() if clustered else None
    held = 0
    for _ in range(runs):
        values = generator.normal(size=(people, 1)) + generator.normal(size=(people, pictures))
        low, high = _ends(mean_interval(values.ravel(), clusters=clusters, positive=False))
        held += low <= 0.0 <= high
    return held / runs


def test_about_95_in_100_intervals_hold_the_truth() -> None:
    # The standard error of a coverage of 0.95 over 400 runs is 0.011.
    assert 0.91 <= _coverage(people=80, pictures=1, clustered=False) <= 0.985
    assert 0.91 <= _coverage(people=10, pictures=8, clustered=True) <= 0.985


def test_ignoring_who_is_who_would_promise_too_much() -> None:
    assert _coverage(people=50, pictures=8, clustered=False) < 0.8


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"level": 1.0}, "level"),
        ({"level": 0.0}, "level"),
        ({"level": float("nan")}, "level"),
        ({"clusters": ["a"]}, "clusters: expected 3 members, got 1"),
        ({"clusters": ["a", ["b"], "c"]}, "hashable"),
    ],
)
def test_wrong_arguments_are_named(keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mean_interval([1.0, 2.0, 3.0], **keywords)


def test_an_interval_is_checked_when_made() -> None:
    with pytest.raises(ValueError, match="low <= high"):
        Interval(2.0, 1.0)
    with pytest.raises(ValueError, match="low <= high"):
        Interval(float("nan"), 1.0)
    with pytest.raises(ValueError, match="level"):
        Interval(1.0, 2.0, 95.0)


def test_people_are_counted_where_any_is_named() -> None:
    assert people_in(["ann", None, "ann", "bob"]) == 3
    assert people_in([None, None]) is people_in(None) is people_in([]) is None


def test_sums_and_counts_by_hand() -> None:
    values = np.array([3.0, 1.0, 2.0, 5.0, 4.0])
    sums, counts = sums_and_counts(values, ["b", "a", "b", None, "a"])
    # By sum, then by count: of two clusters with the sum 5 the smaller comes first.
    assert (sums.tolist(), counts.tolist()) == ([5.0, 5.0, 5.0], [1.0, 2.0, 2.0])
    sums, counts = sums_and_counts(values, None)
    assert (sums.tolist(), counts.tolist()) == ([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5)
    for length in (4, 6):
        with pytest.raises(ValueError, match=f"^clusters: expected 5 members, got {length}$"):
            sums_and_counts(values, ["a"] * length)


def test_the_jackknifes_error_of_single_values_is_that_of_the_mean() -> None:
    values = _skewed(17, seed=2)
    assert jackknife_error(values, np.ones(17)) == pytest.approx(stats.sem(values))
    # Two people with means of 2 and 5: each is left out in turn, so that half of 3 is left.
    assert jackknife_error(np.array([4.0, 15.0]), np.array([2.0, 3.0])) == pytest.approx(1.5)


@pytest.mark.parametrize("clusters", [2, 11])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_students_interval_is_scipys(clusters: int, level: float) -> None:
    theirs = stats.t.interval(level, clusters - 1, 3.0, 0.5)
    ours = student_interval(3.0, 0.5, clusters, positive=False, level=level)
    assert ours.ends == pytest.approx(theirs)
    assert ours.level == level
    # Of values above zero: the same around the logarithm, with the relative error.
    low, high = stats.t.interval(level, clusters - 1, np.log(3.0), 0.5 / 3.0)
    ours = student_interval(3.0, 0.5, clusters, positive=True, level=level)
    assert ours.ends == pytest.approx((np.exp(low), np.exp(high)))
    assert ours.level == level


def test_the_interval_of_a_mean_of_zero_keeps_its_level() -> None:
    assert student_interval(0.0, 0.0, 10, positive=True, level=0.8) == Interval(0.0, 0.0, 0.8)
    assert student_interval(0.0, 1.0, 10, positive=True) == Interval(0.0, 0.0, 0.95)
    assert student_interval(1.0, 1.0, 10, positive=True).level == 0.95


def test_the_default_of_a_mean_is_a_positive_one_of_95_per_cent() -> None:
    values = _skewed(30, seed=4)
    found = mean_interval(values)
    assert found == mean_interval(values, positive=True, level=0.95)
    assert found != mean_interval(values, positive=False)
    assert found is not None
    assert found.level == 0.95


def test_what_is_wrong_with_values_is_said() -> None:
    for values, said in (
        ([1.0, np.nan], r"^values: expected finite numbers, got nan at \[1\]"),
        ([[1.0]], r"^values: expected 1 dimension"),
        ([0.0, -2.5, -3.0], r"^values: expected none below 0, got -3.0$"),
    ):
        with pytest.raises(ValueError, match=said):
            mean_interval(values)
    for level in (0.0, 1.0):
        with pytest.raises(
            ValueError, match=rf"^level: expected above 0 and below 1, got {level}$"
        ):
            mean_interval([1.0], level=level)
        with pytest.raises(ValueError, match=rf"level above 0 and below 1, got {level}$"):
            Interval(1.0, 2.0, level)
    with pytest.raises(ValueError, match=r"low <= high, got 2.0 and 1.0$"):
        Interval(2.0, 1.0)
    with pytest.raises(ValueError, match=r"^clusters: expected hashable members, .*'list'"):
        cluster_codes([["a"]])  # type: ignore[list-item]  # on purpose


def test_an_interval_is_written_as_its_ends_and_read_in_either_order() -> None:
    interval = Interval(1.0, 2.5)
    assert (interval.ends, interval.to_plain()) == ((1.0, 2.5), [1.0, 2.5])
    assert Interval(3.0, 3.0).ends == (3.0, 3.0)
    read = ends_of(Years).decode
    assert read([1.0, 2.5]) == read([2.5, 1.0]) == interval
