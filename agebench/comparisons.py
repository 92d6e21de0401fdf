"""Is one estimator better than another?  Paired tests on the same pictures.

All work on the absolute errors of several estimators over the same pictures.  Where the people in
the pictures are known, people are resampled and swapped, not pictures; see `intervals`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from agebench.arrays import Ints, finite_floats
from agebench.intervals import LEVEL, REPLICATES, Interval, cluster_codes, percentile_interval
from agebench.types import Floats

PERMUTATIONS = 9999
"""Random swaps of a test: the smallest p-value is then 1/10,000."""

_ROUNDING = 1e-9
"""Sums this near to each other, relative to the errors' own sum, are ties."""

_SIGNS = 1.0 - 2.0 * (np.arange(256)[:, None] >> np.arange(8) & 1)
"""All ways of giving eight numbers a sign, shape (256, 8)."""


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Two estimators on the same pictures.

    Attributes:
        first, second: their columns.
        n: number of pictures.
        difference_years: MAE of the first minus that of the second; negative: the first is better.
        interval: bootstrap interval of the difference; None with fewer than two people.
        p_value: of the sign-flip test; None likewise.
        p_adjusted: the same after Holm's correction for the number of pairs.
    """

    first: int
    second: int
    n: int
    difference_years: float
    interval: Interval | None
    p_value: float | None
    p_adjusted: float | None


def _cluster_sums(errors: Floats, clusters: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Sums of each column and number of rows per cluster: shapes (clusters, columns), (clusters,).

    They come in an order that the order of the pictures can't change.
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


def bootstrap_column_means(
    errors: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Floats:
    """Return the mean of each column over the same resamples of the rows.

    Args:
        errors: shape (n, columns), finite, n from 1.
        clusters: who each row belongs to, as in `intervals.bootstrap_mean`.
        replicates: number of resamples, from 1.
        seed: of the random numbers.

    Returns:
        Shape (replicates, columns).  The difference of two columns is the paired bootstrap of the
        difference of their means.

    Raises:
        ValueError: shapes, lengths or values other than the above.
    """
    sums, counts = _cluster_sums(_columns(errors), clusters)
    generator = np.random.default_rng(seed)
    people = len(sums)
    means = np.empty((replicates, sums.shape[1]))
    for row in range(replicates):
        drawn = generator.integers(0, people, people, dtype=np.int32)
        weights = np.bincount(drawn, minlength=people).astype(np.float64)
        means[row] = weights @ sums / (weights @ counts)
    return means


def _flipped_sums(sums: Floats, permutations: int, seed: int) -> tuple[Floats, bool]:
    """Sums of the rows with random signs, shape (number, columns); and whether they are all ways.

    Eight rows take their signs together, from one random byte.
    """
    rows = len(sums)
    exact = rows <= 40 and 2**rows <= permutations
    number = 2**rows if exact else permutations
    ways = np.arange(number)
    generator = np.random.default_rng(seed)
    totals = np.zeros((number, sums.shape[1]))
    for start in range(0, rows, 8):
        block = sums[start : start + 8]
        table = _SIGNS[:, : len(block)] @ block
        if exact:
            chosen = (ways >> start & 255) % 2 ** len(block)
        else:
            chosen = generator.integers(0, 256, number, dtype=np.uint8).astype(np.intp)
        totals += table[chosen]
    return totals, exact


def sign_flip_p_values(
    errors: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Floats:
    """Return the two-sided p-value of the paired permutation test for every two columns.

    If two estimators were equally good, swapping their errors on a picture (on all pictures of a
    person) would change nothing but by chance: the difference of the sums is compared with those
    under random swaps, or under all of them where there are few.  With random swaps the p-value
    is (as large + 1) / (permutations + 1) (Phipson & Smyth, Statistical Applications in Genetics
    and Molecular Biology 9, 2010), which is never 0.

    Args:
        errors: shape (n, columns), finite, n from 1.
        clusters: who each row belongs to, as in `intervals.bootstrap_mean`.
        permutations: number of random swaps, from 1.
        seed: of the random numbers.

    Returns:
        Shape (columns, columns), symmetric, 1 on the diagonal.

    Raises:
        ValueError: shapes, lengths or values other than the above.

    >>> sign_flip_p_values([[1, 4], [2, 6], [1, 8], [3, 4]]).tolist()
    [[1.0, 0.125], [0.125, 1.0]]
    """
    if permutations < 1:
        raise ValueError(f"permutations: expected at least 1, got {permutations}")
    sums, _ = _cluster_sums(_columns(errors), clusters)
    flipped, exact = _flipped_sums(sums, permutations, seed)
    columns = sums.shape[1]
    p_values = np.ones((columns, columns))
    for first, second in combinations(range(columns), 2):
        differences = sums[:, first] - sums[:, second]
        slack = _ROUNDING * float(np.abs(sums[:, [first, second]]).sum())
        reached = np.abs(flipped[:, first] - flipped[:, second]) >= abs(differences.sum()) - slack
        count = int(reached.sum())
        p_value = count / len(reached) if exact else (count + 1) / (len(reached) + 1)
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


def compare_pairs(
    errors: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    replicates: int = REPLICATES,
    permutations: int = PERMUTATIONS,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[PairedComparison, ...]:
    """Compare every two columns of absolute errors.

    Args:
        errors: absolute errors in years, shape (n, estimators), over the same pictures.
        clusters: who each picture shows, as in `intervals.bootstrap_mean`.
        replicates: of the bootstrap.
        permutations: of the test.
        level: confidence of the intervals.
        seed: of both.

    Returns:
        One entry per pair, in the order of the columns.

    Raises:
        ValueError: shapes, lengths or values other than the above.
    """
    values = _columns(errors)
    pairs = list(combinations(range(values.shape[1]), 2))
    means = values.mean(axis=0)
    people = len(values) if clusters is None else len(set(cluster_codes(clusters).tolist()))
    if people < 2 or not pairs:
        return tuple(
            PairedComparison(i, j, len(values), float(means[i] - means[j]), None, None, None)
            for i, j in pairs
        )
    resampled = bootstrap_column_means(values, clusters=clusters, replicates=replicates, seed=seed)
    table = sign_flip_p_values(values, clusters=clusters, permutations=permutations, seed=seed)
    p_values = [float(table[pair]) for pair in pairs]
    found = []
    for (i, j), p_value, adjusted in zip(pairs, p_values, holm(p_values), strict=True):
        interval = percentile_interval(resampled[:, i] - resampled[:, j], people, level)
        difference = float(means[i] - means[j])
        found.append(PairedComparison(i, j, len(values), difference, interval, p_value, adjusted))
    return tuple(found)
