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

from agebench.metrics.intervals import Interval, cluster_codes, mean_interval, people_in
from agebench.types import Floats


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
