"""Bootstrap intervals of a mean, over pictures or over the people in them.

Pictures of one person are not independent: an estimator that is wrong about somebody is wrong in
most of that person's pictures.  Where identities are known, people are resampled, not pictures.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agebench.arrays import Ints, finite_floats
from agebench.types import Floats

REPLICATES = 2000
LEVEL = 0.95

MINIMUM_PEOPLE = 10
"""People (pictures, where people are not known) below which no interval is given and nothing is
tested: intervals over fewer miss the truth too often (docs/statistics.md says how often)."""

MINIMUM_PICTURES = 20
"""Pictures that a part of a set, such as a decade, needs before any figure is given for it."""

_DRAWS_AT_ONCE = 2_000_000
"""Draws held in memory together: 8 MB of indices, 16 MB each of sums and counts."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, in the unit of what it is about.

    Attributes:
        low, high: its ends; `low` <= `high`.
        level: the confidence, above 0 and below 1.
    """

    low: float
    high: float
    level: float = LEVEL

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"expected low <= high, got {self.low} and {self.high}")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"expected a level above 0 and below 1, got {self.level}")


def cluster_codes(clusters: Sequence[Hashable]) -> Ints:
    """Number the clusters 0, 1, ... by first appearance; each None is a cluster of its own.

    Returns:
        One number per member, shape (n,).

    Raises:
        ValueError: a member can't be hashed.

    >>> cluster_codes(["ann", None, "ann", None]).tolist()
    [0, 1, 0, 2]
    """
    codes: dict[Hashable, int] = {}
    try:
        # The place stands for a None; wrapping it in a pair keeps it apart from every name.
        keys = [(True, at) if key is None else (False, key) for at, key in enumerate(clusters)]
        found = [codes.setdefault(key, len(codes)) for key in keys]
    except TypeError as error:
        raise ValueError(
            f"clusters: expected hashable members, got one that is not: {error}"
        ) from error
    return np.asarray(found, dtype=np.intp)


def people_in(clusters: Sequence[Hashable] | None) -> int | None:
    """Return how many people there are; None where nobody is known.

    >>> people_in(["ann", None, "ann", None]), people_in([None, None]), people_in(None)
    (3, None, None)
    """
    if clusters is None or all(member is None for member in clusters):
        return None
    return len(set(cluster_codes(clusters).tolist()))


def _sums_and_counts(values: Floats, clusters: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Sum and number of values per cluster, in an order that the input's order can't change."""
    if clusters is None:
        return np.sort(values), np.ones(len(values))
    if len(clusters) != len(values):
        raise ValueError(f"clusters: expected {len(values)} members, got {len(clusters)}")
    order = np.argsort(values, kind="stable")
    codes = cluster_codes(clusters)[order]
    sums = np.bincount(codes, weights=values[order]).astype(np.float64)
    counts = np.bincount(codes).astype(np.float64)
    # Codes go by first appearance, so equal values would let the input's order through here.
    by_size = np.lexsort((counts, sums))
    return sums[by_size], counts[by_size]


def _replicate_means(sums: Floats, counts: Floats, replicates: int, seed: int) -> Floats:
    """Mean of each resample of clusters, shape (replicates,)."""
    generator = np.random.default_rng(seed)
    clusters = len(sums)
    alike = bool(np.all(counts == counts[0]))
    means = np.empty(replicates)
    step = max(1, _DRAWS_AT_ONCE // clusters)
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        # Drawing places with replacement is the multinomial weighting, and far faster.
        drawn = generator.integers(0, clusters, (rows, clusters), dtype=np.int32)
        total = sums[drawn].sum(axis=1)
        number = counts[0] * clusters if alike else counts[drawn].sum(axis=1)
        means[start : start + rows] = total / number
    return means


def percentile_interval(replicates: Floats, clusters: int, level: float = LEVEL) -> Interval:
    """Return the interval between two percentiles of bootstrap replicates.

    Resamples of few clusters vary too little, so the percentiles lie a little further out than
    the level says: as far as Student's t is wider than the normal distribution (Hesterberg, "What
    Teachers Should Know About the Bootstrap", The American Statistician 69, 2015, 371-386).

    Args:
        replicates: a figure computed on each resample, shape (replicates,).
        clusters: how many were resampled, from 2.
        level: confidence, above 0 and below 1.

    >>> few = percentile_interval(np.arange(1001.0), clusters=10)
    >>> round(few.low, 1), round(few.high, 1)
    (8.6, 991.4)
    """
    from scipy.special import ndtr, stdtrit

    wide = math.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, (1 - level) / 2)
    outside = float(ndtr(wide))
    low, high = np.quantile(replicates, [outside, 1 - outside])
    return Interval(float(low), float(high), level)


def bootstrap_mean(
    values: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    replicates: int = REPLICATES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval | None:
    """Return the percentile bootstrap interval of the mean of `values`.

    Each replicate draws as many clusters as there are, with replacement, and takes the sum of
    their values over the number of their values (Efron & Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13).  The same values, clusters and seed give the same interval, in
    whatever order they come.

    Args:
        values: shape (n,), finite; for a mean absolute error, the absolute errors.
        clusters: who each value belongs to; None members are clusters of their own.  Without it,
            every value is one.
        replicates: number of resamples, from 1.
        level: confidence, above 0 and below 1.
        seed: of the random numbers, from 0.

    Returns:
        The interval, or None where there are fewer than `MINIMUM_PEOPLE` clusters.

    Raises:
        ValueError: shapes, lengths or values other than the above.

    >>> bootstrap_mean([4.0] * 9)
    >>> bootstrap_mean([4.0] * 10)
    Interval(low=4.0, high=4.0, level=0.95)
    """
    numbers = finite_floats("values", values)
    if replicates < 1:
        raise ValueError(f"replicates: expected at least 1, got {replicates}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level: expected above 0 and below 1, got {level}")
    sums, counts = _sums_and_counts(numbers, clusters)
    if len(sums) < MINIMUM_PEOPLE:
        return None
    means = _replicate_means(sums, counts, replicates, seed)
    return percentile_interval(means, len(sums), level)
