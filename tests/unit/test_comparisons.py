"""Paired tests against scipy and against counting by hand."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pytest
from scipy.stats import permutation_test, ttest_rel
from threadpoolctl import threadpool_info, threadpool_limits

from agebench.metrics import paired_tests
from agebench.metrics.intervals import mean_interval
from agebench.metrics.paired_tests import (
    PairedComparison,
    compare_pairs,
    holm,
    needed_permutations,
    sign_flip_p_values,
)
from agebench.types import Floats
from agebench.util.arrays import one_blas_thread, one_numpy_thread


def _errors(n: int, columns: int = 2, seed: int = 0) -> Floats:
    generator = np.random.default_rng(seed)
    shared = generator.normal(0, 4, (n, 1))
    shift = np.linspace(0, 1, columns)
    return np.asarray(np.abs(shared + generator.normal(shift, 4, (n, columns))))


def _scipy_p(errors: Floats, permutations: int) -> float:
    found = permutation_test(
        (errors[:, 0], errors[:, 1]),
        lambda first, second, axis: np.mean(first - second, axis=axis),
        permutation_type="samples",
        n_resamples=permutations,
        vectorized=True,
        rng=np.random.default_rng(5),
    )
    return float(found.pvalue)


@pytest.mark.parametrize("n", [2, 5, 9, 12])
def test_all_swaps_of_few_pictures_give_scipys_exact_p(n: int) -> None:
    errors = _errors(n, seed=n)
    assert sign_flip_p_values(errors)[0, 1] == pytest.approx(_scipy_p(errors, 10_000), abs=1e-12)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_swaps_of_many_pictures_agree_with_scipy(seed: int) -> None:
    errors = _errors(157, seed=seed)
    ours, theirs = sign_flip_p_values(errors)[0, 1], _scipy_p(errors, 9999)
    assert ours == pytest.approx(theirs, abs=4 * np.sqrt(2 * theirs * (1 - theirs) / 9999) + 1e-3)


def test_people_are_swapped_whole() -> None:
    errors = _errors(30, seed=4)
    people = [f"person {row % 7}" for row in range(30)]
    differences = errors[:, 0] - errors[:, 1]
    sums = np.array([sum(differences[row::7]) for row in range(7)])
    swapped = [abs(np.dot(signs, sums)) for signs in product((1, -1), repeat=7)]
    expected = np.mean(np.array(swapped) >= abs(sums.sum()) - 1e-9)
    assert sign_flip_p_values(errors, clusters=people)[0, 1] == expected
    assert sign_flip_p_values(errors)[0, 1] != expected


@pytest.mark.parametrize("people", [7, 8, 9, 13, 14, 17])
def test_every_row_takes_part_in_random_swaps(people: int) -> None:
    # One row alone carries the difference: it flips every second time and never lowers the sum.
    errors = np.zeros((people, 2))
    errors[-1, 0] = 1.0
    assert sign_flip_p_values(errors, permutations=100)[0, 1] == 1.0
    # With all rows alike only all + or all - reach the sum.
    errors[:, 0] = 1.0
    p_value = sign_flip_p_values(errors, permutations=2**people)[0, 1]
    assert p_value == 2 / 2**people


def test_equal_estimators_do_not_differ() -> None:
    errors = np.repeat(_errors(100, 1), 3, axis=1) * 0.1
    for pair in compare_pairs(errors, permutations=99):
        assert (pair.difference_years, pair.p_value, pair.p_adjusted) == (0.0, 1.0, 1.0)
        assert pair.interval is not None
        assert pair.interval.low == pair.interval.high == 0.0


def test_the_p_value_is_never_zero() -> None:
    errors = np.column_stack([np.zeros(500), np.ones(500)])
    assert sign_flip_p_values(errors, permutations=999)[0, 1] == 1 / 1000


def test_the_interval_is_scipys_of_paired_differences() -> None:
    errors = _errors(200, seed=8)
    (pair,) = compare_pairs(errors, permutations=9)
    theirs = ttest_rel(errors[:, 0], errors[:, 1]).confidence_interval(0.95)
    assert pair.interval is not None
    assert [pair.interval.low, pair.interval.high] == pytest.approx([theirs.low, theirs.high])


def test_people_are_left_out_whole() -> None:
    errors = _errors(60, seed=9)
    people = [f"p{row // 2 % 17}" for row in range(60)]
    (pair,) = compare_pairs(errors, clusters=people, permutations=9)
    expected = mean_interval(errors[:, 0] - errors[:, 1], clusters=people, positive=False)
    assert pair.people == 17
    assert pair.interval is not None
    assert expected is not None
    assert [pair.interval.low, pair.interval.high] == pytest.approx([expected.low, expected.high])


def test_the_order_of_the_pictures_does_not_matter() -> None:
    errors = _errors(60, 3)
    people = [f"p{row // 4}" for row in range(60)]
    order = np.random.default_rng(0).permutation(60)
    for clusters in (None, people):
        moved = None if clusters is None else [clusters[row] for row in order]
        first = compare_pairs(errors, clusters=clusters, permutations=50)
        second = compare_pairs(errors[order], clusters=moved, permutations=50)
        for one, other in zip(first, second, strict=True):
            assert one.p_value == other.p_value
            assert one.interval is not None
            assert other.interval is not None
            assert one.interval.low == pytest.approx(other.interval.low, abs=1e-12)


def test_pairs_come_in_order_with_their_difference() -> None:
    errors = np.array([[1.0, 2.0, 6.0], [3.0, 2.0, 6.0]])
    pairs = compare_pairs(errors, permutations=5)
    assert [(pair.first, pair.second, pair.difference_years) for pair in pairs] == [
        (0, 1, 0.0),
        (0, 2, -4.0),
        (1, 2, -4.0),
    ]


@pytest.mark.parametrize("clusters", [None, [f"p{row % 9}" for row in range(20)]])
def test_nine_people_are_no_sample(clusters: list[str] | None) -> None:
    rows = 9 if clusters is None else 20
    (pair,) = compare_pairs([[1.0, 2.0]] * rows, clusters=clusters)
    assert (pair.n, pair.people, pair.difference_years) == (rows, 9, -1.0)
    assert (pair.interval, pair.p_value, pair.p_adjusted) == (None, None, None)
    assert (pair.swaps, pair.all_swaps, pair.smallest_p) == (None, None, None)


def test_ten_people_swap_in_all_ways_and_more_in_random_ones() -> None:
    (few,) = compare_pairs([[1.0, 2.0]] * 10)
    assert (few.swaps, few.all_swaps, few.p_value, few.smallest_p) == (1024, True, 2**-9, 2**-9)
    (many,) = compare_pairs([[1.0, 2.0]] * 30, permutations=199)
    assert (many.swaps, many.all_swaps, many.p_value, many.smallest_p) == (
        199,
        False,
        1 / 200,
        1 / 200,
    )


def test_of_many_contenders_the_better_one_is_found() -> None:
    # Among 40 there are 780 pairs: with 9,999 swaps the least p, adjusted, would be 0.078.
    errors = _errors(60, 40)
    errors[:, 0] *= 0.01
    pairs = compare_pairs(errors)
    assert {(pair.swaps, pair.all_swaps) for pair in pairs} == {(78_000, False)}
    assert pairs[0].smallest_p == pytest.approx(780 / 78_001)
    first = [pair.p_adjusted for pair in pairs if pair.first == 0]
    assert all(p_value is not None and p_value < 0.05 for p_value in first)


def test_swaps_are_counted_the_same_however_many_are_held_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few, many = _errors(12, 3), _errors(40, 3)
    whole = [sign_flip_p_values(errors, permutations=5000) for errors in (few, many)]
    monkeypatch.setattr(paired_tests, "_FLIPS_AT_ONCE", 700)
    assert np.array_equal(sign_flip_p_values(few, permutations=5000), whole[0])
    parts = sign_flip_p_values(many, permutations=5000)
    assert parts == pytest.approx(whole[1], abs=0.03)


def test_each_pair_is_compared_on_the_pictures_that_both_have() -> None:
    errors = _errors(60, 4)
    people = [f"p{row // 3}" for row in range(60)]
    gaps = errors.copy()
    gaps[2:, 3] = np.nan  # answers two pictures of one person
    gaps[:15, 2] = np.nan
    found = {(pair.first, pair.second): pair for pair in _compare(gaps, people)}
    (alone,) = _compare(errors[:, :2], people)
    assert found[0, 1].n == alone.n == 60
    assert (found[0, 1].difference_years, found[0, 1].interval, found[0, 1].p_value) == (
        alone.difference_years,
        alone.interval,
        alone.p_value,
    )
    (part,) = _compare(errors[15:][:, [1, 2]], people[15:])
    assert (found[1, 2].n, found[1, 2].people) == (45, 15)
    assert (found[1, 2].interval, found[1, 2].p_value) == (part.interval, part.p_value)
    assert (found[0, 3].n, found[0, 3].people, found[0, 3].p_value) == (2, 1, None)
    assert (found[2, 3].n, found[2, 3].difference_years) == (0, None)
    # Only the three that could be tested are corrected for.
    p_values = [found[pair].p_value for pair in ((0, 1), (0, 2), (1, 2))]
    adjusted = [found[pair].p_adjusted for pair in ((0, 1), (0, 2), (1, 2))]
    assert adjusted == holm([value for value in p_values if value is not None])


def _compare(errors: Floats, people: list[str]) -> tuple[PairedComparison, ...]:
    return compare_pairs(errors, clusters=people, permutations=300)


def test_matrix_products_keep_to_one_thread() -> None:
    seen = set()
    with one_blas_thread():
        seen = {item["num_threads"] for item in threadpool_info() if item["user_api"] == "blas"}
    assert seen == {1}


def _blas_threads() -> dict[str, int]:
    found = (item for item in threadpool_info() if item["user_api"] == "blas")
    return {item["filepath"]: item["num_threads"] for item in found}


def test_products_for_each_picture_keep_to_one_thread() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = _blas_threads()
        with one_numpy_thread():
            assert 1 in _blas_threads().values()
        assert _blas_threads() == before
    assert set(before.values()) == {2}


def test_holm_by_hand_and_in_any_order() -> None:
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    # 4 * 0.01; 3 * 0.02; 2 * 0.03 = 0.06 (not below the one before); 0.9
    assert holm([0.03, 0.9, 0.01, 0.02]) == pytest.approx([0.06, 0.9, 0.04, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


@pytest.mark.parametrize(
    "errors", [[[1.0, np.inf]], [1.0, 2.0], [], [[]], np.zeros((0, 2)), [["a", "b"]]]
)
def test_what_is_no_table_of_errors_is_refused(errors: object) -> None:
    with pytest.raises(ValueError, match="errors"):
        compare_pairs(errors)  # type: ignore[arg-type]  # wrong on purpose


def test_lengths_and_numbers_are_checked() -> None:
    for compare in (sign_flip_p_values, compare_pairs):
        with pytest.raises(ValueError, match=r"^clusters: expected 1 members, got 2$"):
            compare([[1.0, 2.0]], clusters=["a", "b"])
        with pytest.raises(ValueError, match=r"^clusters: expected 2 members, got 1$"):
            compare([[1.0, 2.0], [1.0, 2.0]], clusters=["a"])
    with pytest.raises(ValueError, match=r"^permutations: expected at least 1, got 0$"):
        sign_flip_p_values([[1.0, 2.0]], permutations=0)
    assert sign_flip_p_values([[1.0, 2.0]], permutations=1)[0, 1] in (0.5, 1.0)


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([[1.0, np.inf]], r"^errors: expected finite numbers, got inf at \[0, 1\]"),
        (np.zeros((0, 2)), r"^errors: .*at least one picture and column, got \(0, 2\)"),
        (np.zeros((2, 0)), r"^errors: .*at least one picture and column, got \(2, 0\)"),
        ([1.0, 2.0], r"^errors: expected 2 dimension"),
    ],
)
def test_what_is_wrong_with_a_table_of_errors_is_said(errors: Floats, said: str) -> None:
    for compare in (sign_flip_p_values, compare_pairs):
        with pytest.raises(ValueError, match=said):
            compare(errors)
    with pytest.raises(ValueError, match=r"^errors: expected an array of numbers: "):
        compare_pairs([["a", "b"]])


def test_a_seed_gives_the_same_p_values_in_every_version() -> None:
    errors = _errors(40, 3)
    people = [f"p{row % 21}" for row in range(40)]
    for clusters, seed, expected in (
        (False, 0, [0.687, 0.083, 0.226]),
        (False, 7, [0.666, 0.071, 0.188]),
        (True, 0, [0.7, 0.036, 0.191]),
    ):
        found = sign_flip_p_values(
            errors, clusters=people if clusters else None, permutations=999, seed=seed
        )
        assert np.array_equal(found, found.T)
        assert found.diagonal().tolist() == [1.0, 1.0, 1.0]
        assert [found[0, 1], found[0, 2], found[1, 2]] == expected
        pairs = compare_pairs(
            errors, clusters=people if clusters else None, permutations=999, seed=seed
        )
        assert [pair.p_value for pair in pairs] == expected
    default = sign_flip_p_values(errors)
    assert np.array_equal(default, sign_flip_p_values(errors, permutations=9999, seed=0))
    assert [pair.p_value for pair in compare_pairs(errors)] == [
        default[0, 1],
        default[0, 2],
        default[1, 2],
    ]


def test_the_level_decides_the_interval_and_the_least_number_of_swaps() -> None:
    errors = _errors(40, 3)
    pairs = compare_pairs(errors, permutations=50, level=0.8)
    for pair in pairs:
        theirs = ttest_rel(errors[:, pair.first], errors[:, pair.second]).confidence_interval(0.8)
        assert pair.interval is not None
        assert pair.interval.ends == pytest.approx((theirs.low, theirs.high))
        assert pair.interval.level == 0.8
        assert (pair.swaps, pair.smallest_p) == (75, 3 / 76)  # 5 * 3 / 0.2
    assert compare_pairs(errors, permutations=76, level=0.8)[0].swaps == 76


def test_the_number_of_swaps_that_many_pairs_need() -> None:
    # The smallest p-value times the number of pairs is a fifth of the significance level.
    assert [needed_permutations(pairs) for pairs in (0, 1, 2, 780)] == [0, 100, 200, 78_000]
    assert [needed_permutations(3, level) for level in (0.9, 0.99, 0.7)] == [150, 1500, 50]
    assert needed_permutations(1, 0.97) == 167  # 166.7, rounded up


@pytest.mark.parametrize(
    ("permutations", "tried", "all_ways"), [(1024, 1024, True), (1023, 1023, False)]
)
def test_all_ways_are_tried_if_there_are_as_many_as_wanted(
    permutations: int, tried: int, all_ways: bool
) -> None:
    (pair,) = compare_pairs(_errors(10), permutations=permutations)
    assert (pair.swaps, pair.all_swaps) == (tried, all_ways)


def test_rounding_does_not_hide_a_tie() -> None:
    # All differences are equal in size but not in floats: 0.3 - 0.2 is not 0.2 - 0.1.
    errors = [[0.3, 0.2], [0.2, 0.1], [0.4, 0.3], [0.1, 0.0]]
    assert sign_flip_p_values(errors)[0, 1] == 2 / 16
    # Nor does it make one: the second is larger by a ten-thousandth of the errors.
    errors = [[1.0, 0.0], [1.0001, 0.0], [0.0, 1.0]]
    assert sign_flip_p_values(errors)[0, 1] == 6 / 8
    assert sign_flip_p_values([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0001]])[0, 1] == 1.0


@pytest.mark.parametrize(
    ("difference", "p_adjusted", "level", "better"),
    [
        (-0.5, 0.049, 0.95, 2),
        (0.5, 0.049, 0.95, 5),
        (0.5, 0.05, 0.95, None),  # 1 - 0.95 is a little more than 0.05 in floats
        (0.5, 0.25, 0.75, None),  # it must be below the significance level
        (0.5, 0.09, 0.9, 5),
        (0.0, 0.001, 0.95, None),
        (None, 0.001, 0.95, None),
        (0.5, None, 0.95, None),
    ],
)
def test_who_is_shown_to_be_better(
    difference: float | None, p_adjusted: float | None, level: float, better: int | None
) -> None:
    pair = PairedComparison(2, 5, 90, 90, difference, p_adjusted=p_adjusted)
    assert pair.better(level) == better
    if level == 0.95:
        assert pair.better() == better


def test_pairs_without_common_pictures_have_no_difference_and_give_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (pair,) = compare_pairs([[1.0, np.nan], [np.nan, 2.0]])
    assert (pair.n, pair.people, pair.difference_years) == (0, 0, None)


def test_the_smallest_adjusted_p_value_is_at_most_one() -> None:
    # 2 / 1024, the smallest of ten people, times 780 pairs would be 1.5.
    assert {pair.smallest_p for pair in compare_pairs(_errors(10, 40))} == {1.0}
    assert compare_pairs(_errors(10, 3))[0].smallest_p == 6 / 1024


def test_a_pair_of_few_people_is_corrected_after_those_that_can_have_a_smaller_p() -> None:
    # One of eight answers for ten pictures: in seven of the 28 pairs p is 2 / 1024 at best.
    errors = _errors(40, 8) + 50.0 * np.arange(8)
    errors[10:, 7] = np.nan
    for pair in compare_pairs(errors):
        expected = 7 * 2 / 1024 if pair.second == 7 else 28 / 10_000
        assert pair.smallest_p == pytest.approx(expected)
        assert pair.p_adjusted == pair.smallest_p
        assert pair.better() == pair.first
