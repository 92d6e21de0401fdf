"""Is one estimator better than another?  Paired tests on the same pictures.

All tests use the absolute errors of several estimators on the same pictures.  If the people in the
pictures are known, people are left out and swapped, not pictures; see `intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from agebench.metrics.intervals import (
    LEVEL,
    MINIMUM_PEOPLE,
    Interval,
    cluster_codes,
    jackknife_error,
    student_interval,
)
from agebench.types import Floats
from agebench.util.arrays import Bools, Ints, finite_floats, one_blas_thread

PERMUTATIONS = 9999
"""Minimum number of random swaps of a test: the smallest p-value is then 1/10,000."""

_FLIPS_AT_ONCE = 10_000
"""Number of swaps in memory at a time."""

_ROUNDING = 1e-9
"""Sums this close to each other, relative to the sum of the errors, are ties."""

_SIGNS = 1.0 - 2.0 * (np.arange(256)[:, None] >> np.arange(8) & 1)
"""All ways of giving eight numbers a sign, shape (256, 8)."""


def is_significant(p_value: float | None, level: float = LEVEL) -> bool:
    """Return whether a p-value is below 1 - `level`, which is a little above 0.05 in floats.

    >>> is_significant(0.0499), is_significant(0.05), is_significant(None)
    (True, False, False)
    """
    return p_value is not None and round(p_value, 9) < round(1 - level, 9)


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Two estimators on the pictures that both gave an age for.

    Attributes:
        first, second: their columns.
        n: number of these pictures.
        people: number of people in them; of pictures if people are not known.
        difference_years: MAE of the first minus that of the second; negative: the first is better.
            None with no picture.
        interval: of the difference; None with fewer than `MINIMUM_PEOPLE`
            people, as all that follow.
        p_value: of the sign-flip test.
        p_adjusted: the same after Holm's correction for the number of pairs tested.
        swaps: number of ways of swapping that were tried.
        all_swaps: whether these are all possible ways.
        smallest_p: the smallest possible value of `p_adjusted`, whatever the errors: if it is not
            below the significance level, no difference can be shown.
    """

    first: int
    second: int
    n: int
    people: int
    difference_years: float | None
    interval: Interval | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    swaps: int | None = None
    all_swaps: bool | None = None
    smallest_p: float | None = None

    def better(self, level: float = LEVEL) -> int | None:
        """Return the column that is shown to be better; None if no difference is shown.

        >>> PairedComparison(2, 5, n=90, people=90, difference_years=0.5, p_adjusted=0.01).better()
        5
        """
        if not (is_significant(self.p_adjusted, level) and self.difference_years):
            return None
        return self.first if self.difference_years < 0 else self.second


def _cluster_sums(errors: Floats, clusters: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Return column sums and row counts per cluster: shapes (clusters, columns), (clusters,).

    Their order does not depend on the order of the pictures.
    """
    if clusters is None:
        sums, counts = errors, np.ones(len(errors))
    else:
        if len(clusters) != len(errors):
            raise ValueError(f"clusters: expected {len(errors)} members, got {len(clusters)}")
        codes: Ints = cluster_codes(clusters)
        order = np.lexsort((*errors.T, codes))
        columns = [np.bincount(codes[order], weights=column[order]) for column in errors.T]
        sums, counts = np.stack(columns, axis=1), np.bincount(codes).astype(np.float64)
    order = np.lexsort((*sums.T, counts))
    return np.ascontiguousarray(sums[order]), counts[order]


def _columns(errors: npt.ArrayLike) -> Floats:
    values = finite_floats("errors", errors, ndim=2)
    if not values.size:
        raise ValueError(f"errors: expected at least one picture and column, got {values.shape}")
    return values


def _columns_with_gaps(errors: npt.ArrayLike) -> tuple[Floats, Bools]:
    """Return the errors, and where they are not NaN."""
    try:
        values = np.asarray(errors, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"errors: expected an array of numbers: {error}") from error
    there = ~np.isnan(values)
    _columns(np.where(there, values, 0.0))
    return values, there


def _swaps(people: int, permutations: int) -> tuple[int, bool]:
    """Return how many ways of swapping people are tried, and whether these are all."""
    exact = people < permutations.bit_length()  # 2**people <= permutations
    return (2**people if exact else permutations), exact


def _flipped_sums(sums: Floats, permutations: int, seed: int) -> Iterator[Floats]:
    """Yield sums of the rows with random signs, shape (some, columns); all ways if there are few.

    Eight rows at a time get their signs from one random byte.
    """
    rows = len(sums)
    number, exact = _swaps(rows, permutations)
    generator = np.random.default_rng(seed)
    for begin in range(0, number, _FLIPS_AT_ONCE):
        ways = np.arange(begin, min(number, begin + _FLIPS_AT_ONCE))
        totals = np.zeros((len(ways), sums.shape[1]))
        for start in range(0, rows, 8):
            block = sums[start : start + 8]
            table = _SIGNS[:, : len(block)] @ block
            if exact:
                chosen = ways >> start & 255
            else:
                chosen = generator.integers(0, 256, len(ways), dtype=np.uint8).astype(np.intp)
            totals += table[chosen]
        yield totals


def _pair_p_values(
    sums: Floats, pairs: Sequence[tuple[int, int]], permutations: int, seed: int
) -> list[float]:
    """The two-sided p-value of each pair of columns; see `sign_flip_p_values`."""
    number, exact = _swaps(len(sums), permutations)
    slack = _ROUNDING * np.abs(sums).sum(axis=0)
    counts = [0] * len(pairs)
    with one_blas_thread():
        for flipped in _flipped_sums(sums, permutations, seed):
            for at, (first, second) in enumerate(pairs):
                needed = abs((sums[:, first] - sums[:, second]).sum())
                needed -= slack[first] + slack[second]
                reached = np.abs(flipped[:, first] - flipped[:, second]) >= needed
                counts[at] += int(reached.sum())
    return [count / number if exact else (count + 1) / (number + 1) for count in counts]


def sign_flip_p_values(
    errors: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Floats:
    """Return the two-sided p-value of the paired permutation test for every two columns.

    If two estimators were equally good, swapping their errors on a picture (on all pictures of a
    person) would have only random effects: the difference of the sums is compared with those under
    random swaps, or under all swaps if there are few.  With random swaps the p-value is (number as
    large + 1) / (permutations + 1) (Phipson & Smyth, Statistical Applications in Genetics and
    Molecular Biology 9, 2010), which is never 0.

    Args:
        errors: shape (n, columns), finite, n from 1.
        clusters: who each row belongs to, as in `intervals.mean_interval`.
        permutations: number of random swaps, from 1.
        seed: of the random numbers.

    Returns:
        Shape (columns, columns), symmetric, 1 on the diagonal.

    Raises:
        ValueError: a shape, length or value is not as above.

    >>> sign_flip_p_values([[1, 4], [2, 6], [1, 8], [3, 4]]).tolist()
    [[1.0, 0.125], [0.125, 1.0]]
    """
    if permutations < 1:
        raise ValueError(f"permutations: expected at least 1, got {permutations}")
    sums, _ = _cluster_sums(_columns(errors), clusters)
    columns = sums.shape[1]
    pairs = list(combinations(range(columns), 2))
    p_values = np.ones((columns, columns))
    found = _pair_p_values(sums, pairs, permutations, seed)
    for (first, second), p_value in zip(pairs, found, strict=True):
        p_values[first, second] = p_values[second, first] = p_value
    return p_values


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm, Scandinavian Journal of Statistics 6, 1979, 65-70).

    The chance of any false finding among them stays at the level that they are compared with.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def needed_permutations(pairs: int, level: float = LEVEL) -> int:
    """Return how many random swaps are needed to be able to show a difference among so many pairs.

    The smallest p-value is one over the number of swaps, and Holm's correction multiplies it by the
    number of pairs: the product must be at most a fifth of 1 - `level`.

    >>> needed_permutations(1), needed_permutations(528)
    (100, 52800)
    """
    return math.ceil(round(5 * pairs / (1 - level), 6))


@dataclass(frozen=True, slots=True, eq=False)
class _SamePictures:
    """Pairs of columns that have the same pictures in common."""

    rows: Bools
    pairs: list[tuple[int, int]]
    clusters: Sequence[Hashable] | None
    people: int

    @property
    def tested(self) -> bool:
        return self.people >= MINIMUM_PEOPLE


def _by_pictures(there: Bools, clusters: Sequence[Hashable] | None) -> tuple[_SamePictures, ...]:
    rows_of: dict[bytes, Bools] = {}
    pairs_of: dict[bytes, list[tuple[int, int]]] = {}
    for first, second in combinations(range(there.shape[1]), 2):
        both = there[:, first] & there[:, second]
        rows_of.setdefault(both.tobytes(), both)
        pairs_of.setdefault(both.tobytes(), []).append((first, second))
    found = []
    for key, rows in rows_of.items():
        chosen = None
        if clusters is not None:
            chosen = [clusters[row] for row in np.flatnonzero(rows).tolist()]
        people = int(rows.sum()) if chosen is None else len(set(cluster_codes(chosen).tolist()))
        found.append(_SamePictures(rows, pairs_of[key], chosen, people))
    return tuple(found)


def compare_pairs(
    errors: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    permutations: int = PERMUTATIONS,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[PairedComparison, ...]:
    """Compare all pairs of columns of absolute errors, each on the rows that both have.

    Args:
        errors: absolute errors in years, shape (n, estimators); NaN where an estimator gave no age.
        clusters: who each picture shows, as in `intervals.mean_interval`.
        permutations: of the test; more are used if there are many pairs, see `needed_permutations`.
        level: confidence of the intervals.
        seed: of the swaps.

    Returns:
        One entry per pair, in the order of the columns.

    Raises:
        ValueError: a shape, length or value is not as above.
    """
    values, there = _columns_with_gaps(errors)
    if clusters is not None and len(clusters) != len(values):
        raise ValueError(f"clusters: expected {len(values)} members, got {len(clusters)}")
    groups = _by_pictures(there, clusters)
    tested = sum(len(group.pairs) for group in groups if group.tested)
    swaps = max(permutations, needed_permutations(tested, level))
    found = [pair for group in groups for pair in _compare_group(values, group, swaps, level, seed)]
    found.sort(key=lambda pair: (pair.first, pair.second))
    return tuple(_adjusted(found))


def _compare_group(
    values: Floats,
    group: _SamePictures,
    permutations: int,
    level: float,
    seed: int,
) -> Iterator[PairedComparison]:
    """Compare pairs on the pictures they have in common, without adjusting p-values."""
    n = int(group.rows.sum())
    columns = sorted({column for pair in group.pairs for column in pair})
    part = values[group.rows][:, columns]
    # The mean of the differences would differ from the difference of the stated MAEs by rounding.
    means = part.mean(axis=0) if n else np.zeros(len(columns))
    pairs = [(columns.index(first), columns.index(second)) for first, second in group.pairs]
    if not group.tested:
        for (first, second), (i, j) in zip(group.pairs, pairs, strict=True):
            difference = float(means[i] - means[j]) if n else None
            yield PairedComparison(first, second, n, group.people, difference)
        return
    sums, counts = _cluster_sums(part, group.clusters)
    p_values = _pair_p_values(sums, pairs, permutations, seed)
    swaps, exact = _swaps(group.people, permutations)
    for (first, second), (i, j), p_value in zip(group.pairs, pairs, p_values, strict=True):
        yield PairedComparison(
            first,
            second,
            n,
            group.people,
            float(means[i] - means[j]),
            student_interval(
                float(means[i] - means[j]),
                jackknife_error(sums[:, i] - sums[:, j], counts),
                group.people,
                positive=False,
                level=level,
            ).of_errors(),
            p_value,
            swaps=swaps,
            all_swaps=exact,
            smallest_p=2 / swaps if exact else 1 / (swaps + 1),
        )


def _adjusted(pairs: Sequence[PairedComparison]) -> Iterator[PairedComparison]:
    """Add the p-values after Holm's correction, and their smallest possible values."""
    p_values = [pair.p_value for pair in pairs if pair.p_value is not None]
    # A pair's smallest depends on those of the others, which may have more people.
    smallest = [pair.smallest_p for pair in pairs if pair.smallest_p is not None]
    corrected = zip(holm(p_values), holm(smallest), strict=True)
    for pair in pairs:
        if pair.p_value is None:
            yield pair
        else:
            p_adjusted, smallest_p = next(corrected)
            yield replace(pair, p_adjusted=p_adjusted, smallest_p=smallest_p)
