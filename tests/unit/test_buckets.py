"""Age classes: hand-computed cases and slow second implementations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agebench.errors import UsageError
from agebench.metrics.age_classes import (
    ADIENCE_CLASSES,
    YEARS_RULES,
    class_of_age,
    class_probabilities,
    expectation,
    median,
    nearest_class,
    top2_expectation,
    years_from_classes,
)
from agebench.types import AgeBins, Floats

YEARS_1_TO_100 = AgeBins.single_years(1, 100)


def _rows(rows: int, bins: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).dirichlet(np.full(bins, 0.3), size=rows)


def test_adience_classes_are_the_published_ones() -> None:
    published = ("0-2", "4-6", "8-12", "15-20", "25-32", "38-43", "48-53", "60-100")
    assert ADIENCE_CLASSES.labels == published
    assert ADIENCE_CLASSES.midpoints.tolist() == [1, 5, 10, 17.5, 28.5, 40.5, 50.5, 80]


@pytest.mark.parametrize("age", [3, 7, 13, 22, 35, 45, 55, 101, 120])
def test_ages_in_gaps_have_no_class(age: int) -> None:
    assert class_of_age([age, age + 0.0], ADIENCE_CLASSES).tolist() == [-1, -1]


def test_class_of_age_goes_by_completed_years_at_every_edge() -> None:
    for index, (low, high) in enumerate(
        zip(ADIENCE_CLASSES.lows, ADIENCE_CLASSES.highs, strict=True)
    ):
        inside = class_of_age([low, high, math.nextafter(high + 1, 0)], ADIENCE_CLASSES)
        assert inside.tolist() == [index] * 3
        assert class_of_age([high + 1], ADIENCE_CLASSES).tolist() == [-1]
        if low:
            assert class_of_age([math.nextafter(low, 0)], ADIENCE_CLASSES).tolist() == [-1]


@given(st.lists(st.floats(0, 120), max_size=30))
def test_class_of_age_agrees_with_a_search_by_hand(ages: list[float]) -> None:
    pairs = list(zip(ADIENCE_CLASSES.lows, ADIENCE_CLASSES.highs, strict=True))
    slow = [
        next((i for i, (low, high) in enumerate(pairs) if low <= int(age) <= high), -1)
        for age in ages
    ]
    assert class_of_age(ages, ADIENCE_CLASSES).tolist() == slow


@given(st.floats(0, 120))
def test_nearest_class_is_the_class_itself_or_the_nearest_gap_side(age: float) -> None:
    nearest = int(nearest_class([age], ADIENCE_CLASSES)[0])
    own = int(class_of_age([age], ADIENCE_CLASSES)[0])
    assert own in (-1, nearest)
    years = [
        range(a, b + 1) for a, b in zip(ADIENCE_CLASSES.lows, ADIENCE_CLASSES.highs, strict=True)
    ]
    distances = [min(abs(int(age) - year) for year in part) for part in years]
    assert nearest == distances.index(min(distances))


def test_a_tie_goes_to_the_younger_class() -> None:
    assert nearest_class([3, 7, 35, 22], ADIENCE_CLASSES).tolist() == [0, 1, 4, 3]
    # Its own class is nearer than the one next to it.
    assert nearest_class([3, 4], AgeBins((0, 4), (3, 6))).tolist() == [0, 1]


@pytest.mark.parametrize(
    "bins",
    [AgeBins((0, 2), (2, 5)), AgeBins((10, 0), (20, 5)), AgeBins((0, 5, 8), (4, 9, 10))],
)
def test_overlapping_or_unordered_bins_are_refused(bins: AgeBins) -> None:
    for call in (
        lambda: class_of_age([1], bins),
        lambda: nearest_class([1], bins),
        lambda: median([[0.5, 0.5, 0.0][: len(bins)]], bins),
        lambda: class_probabilities([[1.0]], AgeBins((0,), (3,)), bins),
    ):
        with pytest.raises(ValueError, match="ascend without overlap"):
            call()


def test_years_by_each_rule_by_hand() -> None:
    rows = [[0.6, 0.4, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0.3, 0, 0.3, 0.4]]
    by_midpoint = years_from_classes(rows, ADIENCE_CLASSES)
    assert by_midpoint.tolist() == [1.0, 80.0]
    by_mean = years_from_classes(rows, ADIENCE_CLASSES, "expectation")
    # 0.6*1 + 0.4*5 = 2.6; 0.3*28.5 + 0.3*50.5 + 0.4*80 = 8.55 + 15.15 + 32 = 55.7
    assert by_mean == pytest.approx([2.6, 55.7])


def test_a_fitted_table_takes_the_place_of_the_midpoints() -> None:
    table = [0.5, 5.5, 9, 18, 30, 41, 51, 66]
    row = [[0, 0, 0, 0, 0, 0, 0.25, 0.75]]
    assert years_from_classes(row, ADIENCE_CLASSES, "midpoint", table).tolist() == [66.0]
    expected = 0.25 * 51 + 0.75 * 66
    assert years_from_classes(row, ADIENCE_CLASSES, "expectation", table) == pytest.approx(
        [expected]
    )


@pytest.mark.parametrize(
    "table", [[1, 2, 3], [1, 2, 3, 4, 5, 6, 7, math.nan], [1, 2, 3, 4, 5, 6, 7, 121]]
)
def test_a_wrong_table_is_refused(table: list[float]) -> None:
    with pytest.raises(ValueError, match="years per class"):
        years_from_classes(_rows(1, 8), ADIENCE_CLASSES, "midpoint", table)


def test_an_unknown_rule_is_a_usage_error_with_a_near_match() -> None:
    misspelt: Any = "expectatoin"
    with pytest.raises(UsageError, match="did you mean 'expectation'"):
        years_from_classes(_rows(1, 8), ADIENCE_CLASSES, misspelt)


def test_top2_agrees_with_a_loop_over_the_sorted_row() -> None:
    rows = _rows(50, 100)
    years = np.arange(1, 101)
    for row, got in zip(rows, top2_expectation(rows, years), strict=True):
        (p, a), (q, b) = sorted(zip(row, years, strict=True), reverse=True)[:2]
        assert got == pytest.approx((p * a + q * b) / (p + q))


def test_top2_differs_from_the_full_mean_and_handles_its_edges() -> None:
    row = [[0.5, 0.1, 0.4]]
    assert top2_expectation(row, [10, 50, 20]) == pytest.approx([(5 + 8) / 0.9])
    assert expectation(row, [10, 50, 20]) == pytest.approx([18.0])
    assert top2_expectation([[0.0, 1.0, 0.0]], [10, 50, 20]).tolist() == [50.0]
    # Three alike: the two youngest.
    assert top2_expectation([[1 / 3] * 3], [10, 20, 60]) == pytest.approx([15.0])
    assert top2_expectation([[1.0]], [33]).tolist() == [33.0]
    # Of many that are equal it is the youngest two.
    equal = np.random.default_rng(0).integers(1, 3, (20, 100)).astype(float)
    equal /= equal.sum(axis=1, keepdims=True)
    first = [np.flatnonzero(row == row.max())[:2].mean() for row in equal]
    assert top2_expectation(equal, np.arange(100)) == pytest.approx(first)


def test_median_agrees_with_a_loop_and_takes_an_exact_half() -> None:
    rows = _rows(50, 100, seed=1)
    slow = []
    for row in rows:
        total = 0.0
        for year, share in zip(range(1, 101), row, strict=True):
            total += float(share)
            if total > 0.499:
                # All but one half: the rest of the way to the next year.
                slow.append(year + max(0.0, 0.5 - total) / 0.001)
                break
    assert median(rows, YEARS_1_TO_100) == pytest.approx(slow, abs=1e-4)
    plain = np.array(slow) == np.round(slow)
    assert 0.5 < plain.mean() < 1
    assert median([[0.5, 0.0, 0.5]], AgeBins.single_years(7, 9)).tolist() == [7.0]
    # These four make one half, and 0.49999999999999994 when summed in floats.
    row = [0.2, 0.15, 0.1, 0.05, 0.5]
    assert np.cumsum(row)[3] < 0.5
    assert median([row], AgeBins.single_years(0, 4)).tolist() == [3.0]
    assert median([[0.2, 0.8]], AgeBins((0, 10), (9, 19))).tolist() == [14.5]


def test_rounding_moves_a_median_a_little_and_never_by_a_whole_bin() -> None:
    bins = AgeBins.single_years(30, 32)
    shares = [[0.5 + off, 0.3 - off, 0.2] for off in (1e-6, 0.0, -1e-6, -5e-4, -1e-3, -2e-3)]
    assert median(shares, bins) == pytest.approx([30, 30, 30.001, 30.5, 31, 31], abs=1e-5)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([0.5, 0.5], r"2 dimension"),
        ([[0.5, 0.4]], "sum to 1"),
        ([[0.0, 0.0]], "sum to 1"),
        ([[1.5, -0.5]], "none below 0"),
        ([[math.nan, 1.0]], "finite"),
        ([[0.2, 0.3, 0.5]], r"expected shape \(n, 2\), got \(1, 3\)"),
    ],
)
def test_what_is_no_distribution_is_refused(rows: Any, said: str) -> None:
    bins = AgeBins((0, 10), (9, 19))
    for call in (
        lambda: expectation(rows, bins.midpoints),
        lambda: top2_expectation(rows, bins.midpoints),
        lambda: median(rows, bins),
        lambda: years_from_classes(rows, bins),
        lambda: class_probabilities(rows, bins, bins),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_no_rows_give_no_ages() -> None:
    none = np.empty((0, 8))
    assert class_of_age([], ADIENCE_CLASSES).shape == (0,)
    assert nearest_class([], ADIENCE_CLASSES).shape == (0,)
    assert years_from_classes(none, ADIENCE_CLASSES).shape == (0,)
    assert median(none, ADIENCE_CLASSES).shape == (0,)
    assert top2_expectation(none, ADIENCE_CLASSES.midpoints).shape == (0,)
    assert class_probabilities(none, ADIENCE_CLASSES, ADIENCE_CLASSES).dropped.shape == (0,)


def test_a_rounded_row_is_rescaled_so_that_it_does_not_shift_the_age() -> None:
    exact = np.array([[0.25, 0.75]])
    assert expectation(exact * 1.0009, [20, 100]) == pytest.approx([80.0], abs=1e-12)


def test_a_batch_gives_what_its_rows_give_one_by_one() -> None:
    rows = _rows(20, 8, seed=2).astype(np.float32)
    for rule in YEARS_RULES:
        batch = years_from_classes(rows, ADIENCE_CLASSES, rule)
        single = [years_from_classes(row[None], ADIENCE_CLASSES, rule)[0] for row in rows]
        assert batch == pytest.approx(single, abs=1e-12)


def test_years_are_summed_into_classes_as_a_loop_does() -> None:
    rows = _rows(20, 100, seed=3)
    shares = class_probabilities(rows, YEARS_1_TO_100, ADIENCE_CLASSES)
    for row, got, dropped in zip(rows, shares.probabilities, shares.dropped, strict=True):
        mass, gap = np.zeros(8), 0.0
        for year, share in zip(range(1, 101), row, strict=True):
            index = int(class_of_age([year], ADIENCE_CLASSES)[0])
            if index < 0:
                gap += share
            else:
                mass[index] += share
        assert got == pytest.approx(mass / mass.sum())
        assert dropped == pytest.approx(gap)


def test_a_wide_bin_is_spread_evenly_over_its_years() -> None:
    # Years 0-9: three in 0-2, three in 4-6, two in 8-12; 3 and 7 are dropped.
    shares = class_probabilities([[1.0]], AgeBins((0,), (9,)), ADIENCE_CLASSES)
    assert shares.dropped == pytest.approx([0.2])
    assert shares.probabilities[0, :3] == pytest.approx([3 / 8, 3 / 8, 2 / 8])


def test_a_row_that_lies_in_the_gaps_alone_has_no_class() -> None:
    rows = np.zeros((2, 100))
    rows[0, 3 - 1] = 1.0
    rows[1, 30 - 1] = 1.0
    shares = class_probabilities(rows, YEARS_1_TO_100, ADIENCE_CLASSES)
    assert np.isnan(shares.probabilities[0]).all()
    assert shares.dropped.tolist() == [1.0, 0.0]
    assert shares.most_probable.tolist() == [-1, 4]


def test_nothing_is_dropped_of_what_lies_in_the_classes() -> None:
    rows = _rows(1000, 8, seed=4)
    shares = class_probabilities(rows, ADIENCE_CLASSES, ADIENCE_CLASSES)
    assert shares.dropped == pytest.approx(np.zeros(1000), abs=1e-12)
    assert (shares.dropped >= 0).all()
    assert shares.probabilities == pytest.approx(rows)


def test_a_row_in_the_gaps_gives_no_warning() -> None:
    with np.errstate(all="raise"):
        shares = class_probabilities([[1.0]], AgeBins((3,), (3,)), ADIENCE_CLASSES)
    assert np.isnan(shares.probabilities).all()


def test_the_argument_and_the_place_of_what_is_wrong_are_named() -> None:
    bins = AgeBins((0, 10), (9, 19))
    for rows, said in (
        ([[0.5, math.nan]], r"^probabilities: expected finite numbers, got nan at \[0, 1\]"),
        ([[0.5, 0.5], [1.5, -0.5]], r"^probabilities: expected none below 0, got -0.5$"),
        ([[0.5, 0.5], [0.5, 0.25]], r"^probabilities: .*sum to 1, got 0.75 \[1\]$"),
        ([[0.5, 0.25, 0.25]], r"^probabilities: expected shape \(n, 2\), got \(1, 3\)$"),
    ):
        with pytest.raises(ValueError, match=said):
            median(rows, bins)
    for years, said in (
        ([1.0, 121.0], r"^years per class: expected ages .*got 121.0 at \[1\]"),
        ([1.0, 2.0, 3.0], r"^years per class: expected shape \(2,\), got \(3,\)$"),
    ):
        with pytest.raises(ValueError, match=said):
            years_from_classes([[0.5, 0.5]], bins, "midpoint", years)
    for call in (class_of_age, nearest_class):
        with pytest.raises(ValueError, match=r"^age_years: expected ages .*got -1.0 at \[1\]"):
            call([3.0, -1.0], bins)
