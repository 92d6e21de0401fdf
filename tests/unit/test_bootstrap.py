"""The balanced bootstrap: probabilities by hand, frequencies of draws, and odd training sets."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agebench.errors import UsageError
from agebench.train.bootstrap import (
    BalancedBootstrap,
    BootstrapSettings,
    group_probabilities,
    lds_probabilities,
    middle_ages,
)

EIGHTY_TWENTY = [30.0] * 80 + [65.0] * 20


def _share_of_old(**wanted: Any) -> float:
    bootstrap = BalancedBootstrap(EIGHTY_TWENTY, BootstrapSettings(size=20_000, **wanted))
    return float(np.mean(bootstrap.draw(0) >= 80))


@pytest.mark.parametrize(
    ("balance", "expected"), [(0.0, 0.2), (0.5, math.sqrt(0.2)), (1.0, 0.5), (0.25, 0.2**0.75)]
)
def test_the_balance_lies_between_the_natural_shares_and_equal_ones(
    balance: float, expected: float
) -> None:
    other = {0.0: 0.8, 0.5: math.sqrt(0.8), 1.0: 0.5, 0.25: 0.8**0.75}[balance]
    wanted = expected / (expected + other)
    assert group_probabilities([80, 20], balance)[1] == pytest.approx(wanted)
    assert _share_of_old(balance=balance) == pytest.approx(wanted, abs=0.015)


def test_within_a_group_all_are_alike() -> None:
    bootstrap = BalancedBootstrap(EIGHTY_TWENTY, BootstrapSettings(balance=0.7))
    assert len(set(bootstrap.probabilities[:80].tolist())) == 1
    assert len(set(bootstrap.probabilities[80:].tolist())) == 1
    assert bootstrap.probabilities.sum() == pytest.approx(1.0)


def test_a_draw_depends_on_seed_and_round_alone() -> None:
    first = BalancedBootstrap(EIGHTY_TWENTY, BootstrapSettings(seed=7))
    second = BalancedBootstrap(EIGHTY_TWENTY, BootstrapSettings(seed=7))
    backwards = [second.draw(index) for index in (3, 2, 1, 0)][::-1]
    for one, two in zip((first.draw(index) for index in range(4)), backwards, strict=True):
        assert one.tolist() == two.tolist()
    draws = [first.draw(index).tolist() for index in range(4)]
    assert all(one != two for one, two in itertools.combinations(draws, 2))
    other = BalancedBootstrap(EIGHTY_TWENTY, BootstrapSettings(seed=8))
    assert other.draw(0).tolist() != draws[0]


@pytest.mark.parametrize(("size", "expected"), [(1.0, 100), (0.25, 25), (2.5, 250), (37, 37)])
def test_the_size_is_a_share_or_a_number(size: float, expected: int) -> None:
    drawn = BalancedBootstrap(EIGHTY_TWENTY, BootstrapSettings(size=size)).draw(0)
    assert drawn.shape == (expected,)
    assert drawn.dtype == np.intp


def test_without_replacement_none_comes_twice_and_the_rare_come_sooner() -> None:
    chosen = BootstrapSettings(size=30, replacement=False, balance=1.0)
    bootstrap = BalancedBootstrap(EIGHTY_TWENTY, chosen)
    old, places = 0, []
    for index in range(200):
        drawn = bootstrap.draw(index)
        assert len(np.unique(drawn)) == 30
        old += int(np.sum(drawn >= 80))
        places += np.flatnonzero(drawn >= 80).tolist()
    # As drawing one after the other with numpy's own weights would have it.
    generator = np.random.default_rng(1)
    weights = bootstrap.probabilities
    theirs = [
        np.sum(generator.choice(100, 30, replace=False, p=weights) >= 80) for _ in range(2000)
    ]
    assert old / 200 == pytest.approx(np.mean(theirs), abs=0.5)
    # And the order tells nothing: early places hold no more of the rare.
    assert np.mean(places) == pytest.approx(14.5, abs=0.7)


def test_the_whole_set_without_replacement_is_each_picture_once() -> None:
    bootstrap = BalancedBootstrap(EIGHTY_TWENTY, BootstrapSettings(replacement=False))
    drawn = bootstrap.draw(5)
    assert sorted(drawn.tolist()) == list(range(100))
    assert drawn.tolist() != sorted(drawn.tolist())


def test_groups_are_decades_or_edges_and_only_those_that_are_there() -> None:
    ages = [0, 9.9, 10, 19, 20, 64, 65, 116]
    decades = BalancedBootstrap(ages, BootstrapSettings())
    assert decades.labels == ("0-9", "10-19", "20-29", "60-69", "110-119")
    edges = BalancedBootstrap(ages, BootstrapSettings(groups=(10, 20, 65)))
    assert edges.labels == ("0-9", "10-19", "20-64", "65+")
    assert BalancedBootstrap(ages, BootstrapSettings(groups=())).labels == ("all",)
    assert BalancedBootstrap([120.0], BootstrapSettings()).labels == ("120+",)
    drawn = edges.summary(np.array([0, 1, 1, 7]))
    assert drawn.counts == {"0-9": 3, "10-19": 0, "20-64": 0, "65+": 1}


def test_balance_one_gives_each_group_that_is_there_the_same() -> None:
    ages = [5] * 70 + [25] * 25 + [95] * 5
    bootstrap = BalancedBootstrap(ages, BootstrapSettings(balance=1.0, size=30_000))
    counts = bootstrap.summary(bootstrap.draw(0)).counts
    assert list(counts) == ["0-9", "20-29", "90-99"]
    assert all(count == pytest.approx(10_000, rel=0.05) for count in counts.values())


def test_the_summary_says_what_was_drawn() -> None:
    bootstrap = BalancedBootstrap([10, 20, 30, 40], BootstrapSettings(groups=(25,)))
    told = bootstrap.summary([0, 0, 1, 3])
    assert (told.size, dict(told.counts)) == (4, {"0-24": 3, "25+": 1})
    assert (told.unique_fraction, told.covered_fraction, told.mean_age_years) == (0.75, 0.75, 20.0)


def test_a_bootstrap_as_large_as_the_set_covers_about_63_percent() -> None:
    bootstrap = BalancedBootstrap(np.full(20_000, 30.0), BootstrapSettings())
    told = bootstrap.summary(bootstrap.draw(0))
    assert told.covered_fraction == pytest.approx(1 - math.exp(-1), abs=0.01)


def _smoothed_by_hand(ages: list[int], sigma: float) -> list[float]:
    reach = int(4 * sigma + 0.5)
    kernel = [math.exp(-(step**2) / (2 * sigma**2)) for step in range(-reach, reach + 1)]
    total = sum(kernel)
    return [
        sum(kernel[other - age + reach] / total for other in ages if abs(other - age) <= reach)
        for age in ages
    ]


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_lds_is_one_over_the_smoothed_count(balance: float) -> None:
    ages = [0] * 3 + [30] * 50 + [31] * 2 + [33] * 20 + [70] * 2 + [120]
    weights = np.array(_smoothed_by_hand(ages, 2.0)) ** -balance
    expected = weights / weights.sum()
    assert lds_probabilities(ages, 2.0, balance) == pytest.approx(expected, rel=1e-9)
    chosen = BootstrapSettings(method="lds", balance=balance)
    assert BalancedBootstrap(ages, chosen).probabilities == pytest.approx(expected, rel=1e-9)


def test_lds_knows_that_neighbours_are_alike() -> None:
    ages = [30] * 50 + [31] * 2 + [70] * 2
    weights = lds_probabilities(ages, 2.0, 1.0)
    assert weights[52] > 5 * weights[50]


def test_ranges_count_by_their_middle() -> None:
    ranges = [[25, 32], [60, 80], [4, 6]]
    assert middle_ages(ranges).tolist() == [28.5, 70.0, 5.0]
    bootstrap = BalancedBootstrap(ranges, BootstrapSettings())
    assert bootstrap.labels == ("0-9", "20-29", "70-79")


@settings(max_examples=60, deadline=None)
@given(
    ages=st.lists(st.floats(0, 120), min_size=1, max_size=60),
    balance=st.floats(0, 1),
    method=st.sampled_from(["groups", "lds"]),
    groups=st.sampled_from(["decades", (), (18,), (3.5, 60, 119)]),
    replacement=st.booleans(),
)
def test_any_training_set_gives_a_distribution_and_draws(
    ages: list[float], balance: float, method: Any, groups: Any, replacement: bool
) -> None:
    chosen = BootstrapSettings(
        groups=groups, balance=balance, method=method, replacement=replacement, size=0.5
    )
    bootstrap = BalancedBootstrap(ages, chosen)
    assert bootstrap.probabilities.sum() == pytest.approx(1.0)
    assert np.all(bootstrap.probabilities > 0)
    drawn = bootstrap.draw(3)
    assert len(drawn) == bootstrap.size
    assert sum(bootstrap.summary(drawn).counts.values()) == len(drawn)


def test_what_can_not_be_drawn_from_is_refused() -> None:
    with pytest.raises(UsageError, match="no pictures"):
        BalancedBootstrap([], BootstrapSettings())
    with pytest.raises(UsageError, match=r"5 .*without replacement.* 3"):
        BalancedBootstrap([1, 2, 3], BootstrapSettings(size=5, replacement=False))
    with pytest.raises(ValueError, match=r"got nan at \[1\]"):
        BalancedBootstrap([1, math.nan], BootstrapSettings())
    with pytest.raises(ValueError, match=r"got 32.0 to 25.0 \[0\]"):
        BalancedBootstrap([[32, 25]], BootstrapSettings())
    with pytest.raises(ValueError, match="0 to 120"):
        BalancedBootstrap([130], BootstrapSettings())
    bootstrap = BalancedBootstrap([1, 2], BootstrapSettings())
    with pytest.raises(ValueError, match="epoch_index"):
        bootstrap.draw(-1)
    for wrong in ([], [0, 2], [-1], [0.5]):
        with pytest.raises(ValueError, match="indices"):
            bootstrap.summary(wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"groups": "years"}, "'decades' or a list of ages"),
        ({"groups": (40, 20)}, "ascending"),
        ({"groups": (0, 20)}, "and above 0"),
        ({"groups": (20, math.nan)}, "finite"),
        ({"groups": (20, "x")}, "numbers"),
        ({"groups": 20}, "'decades' or a list of ages"),
        ({"balance": 1.5}, "from 0 to 1"),
        ({"balance": math.nan}, "from 0 to 1"),
        ({"size": 1}, "write 1.0"),
        ({"size": 0.0}, "fraction as size must be above 0"),
        ({"size": 1e18}, "at most 1000"),
        ({"size": 10**18}, "at most 1,000,000,000"),
        ({"size": math.inf}, "fraction as size must be above 0"),
        ({"size": True}, "a number of pictures"),
        ({"size": 1.5, "replacement": False}, "at most 1"),
        ({"method": "ldss"}, "did you mean 'lds'"),
        ({"lds_sigma_years": 0.0}, "above 0"),
        ({"seed": -1}, "from 0"),
        ({"seed": 1.5}, "integer"),
    ],
)
def test_settings_are_checked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BootstrapSettings(**wrong)


def test_groups_from_a_settings_file_may_be_a_list() -> None:
    listed: Any = [18, 40]
    assert BootstrapSettings(groups=listed) == BootstrapSettings(groups=(18.0, 40.0))
