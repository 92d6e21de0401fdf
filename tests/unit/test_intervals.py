"""The bootstrap against scipy, against a plain loop, and against what it promises."""

from __future__ import annotations

from collections.abc import Hashable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agebench import intervals
from agebench.intervals import Interval, bootstrap_mean, cluster_codes, percentile_interval
from agebench.types import Floats


def _skewed(n: int, seed: int) -> Floats:
    return np.random.default_rng(seed).gamma(1.5, 4.0, n)


def _ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return interval.low, interval.high


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_it_agrees_with_scipys_percentile_bootstrap(level: float) -> None:
    values = _skewed(120, seed=5)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20_000,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    low, high = _ends(bootstrap_mean(values, replicates=20_000, level=level))
    spread = values.std() / np.sqrt(len(values))
    assert low == pytest.approx(theirs.low, abs=0.06 * spread)
    assert high == pytest.approx(theirs.high, abs=0.06 * spread)


def test_clusters_agree_with_a_loop_that_copies_whole_people() -> None:
    generator = np.random.default_rng(3)
    sizes = generator.integers(1, 15, 25)
    people = [value for value, size in enumerate(sizes) for _ in range(size)]
    values = np.concatenate([generator.normal(generator.normal(8, 3), 1.0, size) for size in sizes])
    by_person = [values[np.asarray(people) == person] for person in range(len(sizes))]
    means = [
        np.concatenate([by_person[i] for i in generator.integers(0, 25, 25)]).mean()
        for _ in range(6000)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    width = high - low
    got = _ends(bootstrap_mean(values, clusters=people, replicates=6000))
    assert got == pytest.approx((low, high), abs=0.05 * width)
    plain_low, plain_high = _ends(bootstrap_mean(values, replicates=6000))
    assert plain_high - plain_low < 0.7 * width  # else this case could not tell them apart


def test_clusters_of_one_are_no_clusters() -> None:
    values = _skewed(40, seed=1)
    alone: list[list[Hashable]] = [[None] * 40, list(range(40)), [f"p{i}" for i in range(40)]]
    for clusters in alone:
        assert bootstrap_mean(values, clusters=clusters) == bootstrap_mean(values)


def test_none_members_are_people_of_their_own_beside_named_ones() -> None:
    assert cluster_codes([None, "a", None, 0, "a", (True, 0)]).tolist() == [0, 1, 2, 3, 1, 4]


def test_it_is_the_same_on_every_run_and_differs_by_seed() -> None:
    values = _skewed(50, seed=2)
    assert bootstrap_mean(values, seed=7) == bootstrap_mean(values, seed=7)
    assert bootstrap_mean(values, seed=7) != bootstrap_mean(values, seed=8)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 120), st.sampled_from("abcde")), min_size=1), st.randoms())
def test_the_order_of_the_pictures_does_not_matter(
    pairs: list[tuple[float, str]], random: Random
) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    for with_people in (True, False):
        first, second = (
            bootstrap_mean(
                [value for value, _ in rows],
                clusters=[person for _, person in rows] if with_people else None,
                replicates=20,
            )
            for rows in (pairs, shuffled)
        )
        assert first == second


def test_chunks_do_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    values = _skewed(31, seed=4)
    whole = bootstrap_mean(values, replicates=101)
    monkeypatch.setattr(intervals, "_DRAWS_AT_ONCE", 70)
    assert bootstrap_mean(values, replicates=101) == whole


def test_too_little_to_resample_has_no_interval() -> None:
    assert bootstrap_mean([]) is None
    assert bootstrap_mean([], clusters=[]) is None
    assert bootstrap_mean([3.0]) is None
    values, nine = [3.0] * 12, [f"p{n % 9}" for n in range(11)]
    assert bootstrap_mean(values, clusters=["ann"] * 12) is None
    assert bootstrap_mean(values, clusters=[*nine, "p0"]) is None
    assert bootstrap_mean(values, clusters=[*nine, None]) is not None
    assert bootstrap_mean(values[:9]) is None


def _coverage(people: int, pictures: int, clustered: bool, runs: int = 200) -> float:
    """Share of runs whose interval holds the true mean, 0, of person plus picture effects."""
    generator = np.random.default_rng(11)
    clusters = np.repeat(np.arange(people), pictures).tolist() if clustered else None
    held = 0
    for run in range(runs):
        values = generator.normal(size=(people, 1)) + generator.normal(size=(people, pictures))
        low, high = _ends(
            bootstrap_mean(values.ravel(), clusters=clusters, replicates=300, seed=run)
        )
        held += low <= 0.0 <= high
    return held / runs


def test_about_95_in_100_intervals_hold_the_truth() -> None:
    # The standard error of a coverage of 0.95 over 200 runs is 0.015.
    assert 0.88 <= _coverage(people=80, pictures=1, clustered=False) <= 0.99
    assert 0.88 <= _coverage(people=50, pictures=8, clustered=True) <= 0.99


def test_ignoring_who_is_who_would_promise_too_much() -> None:
    assert _coverage(people=50, pictures=8, clustered=False) < 0.8


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"replicates": 0}, "replicates: expected at least 1, got 0"),
        ({"level": 1.0}, "level"),
        ({"level": 0.0}, "level"),
        ({"level": float("nan")}, "level"),
        ({"clusters": ["a"]}, "clusters: expected 3 members, got 1"),
        ({"clusters": ["a", ["b"], "c"]}, "hashable"),
    ],
)
def test_wrong_arguments_are_named(keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bootstrap_mean([1.0, 2.0, 3.0], **keywords)


def test_an_interval_is_checked_when_made() -> None:
    with pytest.raises(ValueError, match="low <= high"):
        Interval(2.0, 1.0)
    with pytest.raises(ValueError, match="low <= high"):
        Interval(float("nan"), 1.0)
    with pytest.raises(ValueError, match="level"):
        Interval(1.0, 2.0, 95.0)


@pytest.mark.parametrize("clusters", [2, 12, 82, 10_000])
def test_percentiles_lie_as_far_out_as_student_t(clusters: int) -> None:
    replicates = np.random.default_rng(0).normal(size=4000)
    share = stats.norm.cdf(np.sqrt(clusters / (clusters - 1)) * stats.t.ppf(0.025, clusters - 1))
    found = percentile_interval(replicates, clusters)
    expected = np.quantile(replicates, [share, 1 - share])
    assert [found.low, found.high] == pytest.approx(expected)
