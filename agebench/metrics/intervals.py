"""Intervals of a mean, over pictures or over the people in them.

Pictures of one person are not independent: an estimator that is wrong about a person is wrong in
most of that person's pictures.  If identities are known, the jackknife leaves out people, not
pictures.

The standard error is the jackknife's (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993,
chapter 11), the most accurate one for clustered data with few clusters (MacKinnon, Nielsen & Webb,
The Stata Journal 23, 2023, 942-982), and the interval has the width of Student's t with one degree
of freedom less than there are people.  A percentile bootstrap covers less with few people:
benchmarks/statistics_validity.py compares both.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from agebench.types import MAX_AGE_YEARS, Floats
from agebench.util.arrays import Ints, finite_floats
from agebench.util.record_fields import By, Fraction, Positive, SignedYears, Years
from agebench.util.typed_records import decoder

LEVEL = 0.95

MINIMUM_PEOPLE = 10
"""People (pictures, where people are not known) below which no interval is given and nothing is
tested: with fewer, the width of an interval is dominated by Student's t (see
docs/statistics.md)."""

MINIMUM_PICTURES = 20
"""Pictures that a part of a set, such as a decade, needs before any figure is given for it."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, in the unit of its figure.

    Attributes:
        low, high: its ends; `low` <= `high`.
        level: the confidence, above 0 and below 1.
    """

    low: float
    high: float
    level: float = LEVEL

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends, the lower first."""
        return self.low, self.high

    def of_errors(self) -> Interval:
        """Return the part of it that mean errors in years can be in, 120 at most.

        A few people with very large errors can take the formula's ends beyond that.

        >>> Interval(-30.0, 511.3).of_errors().ends
        (-30.0, 120.0)
        """
        low, high = (min(max(end, -MAX_AGE_YEARS), MAX_AGE_YEARS) for end in self.ends)
        return Interval(low, high, self.level)

    def to_plain(self) -> list[float]:
        """Return it as written to files, which `ends_of` reads."""
        return list(self.ends)

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"expected low <= high, got {self.low} and {self.high}")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"expected a level above 0 and below 1, got {self.level}")


def ends_of(kind: Any) -> By:
    """Return a reader for intervals as written to files: two ends, each of type `kind`."""
    decode = decoder(tuple[kind, kind])

    def read(value: Any) -> Interval:
        first, second = decode(value)
        return Interval(min(first, second), max(first, second))

    return By(read)


YearsInterval: TypeAlias = Annotated[Interval, ends_of(Years)]
SignedYearsInterval: TypeAlias = Annotated[Interval, ends_of(SignedYears)]
ProportionInterval: TypeAlias = Annotated[Interval, ends_of(Fraction)]
RatioInterval: TypeAlias = Annotated[Interval, ends_of(Positive)]


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
        # The index identifies a None; as a pair it can't be equal to a name.
        keys = [(True, at) if key is None else (False, key) for at, key in enumerate(clusters)]
        found = [codes.setdefault(key, len(codes)) for key in keys]
    except TypeError as error:
        raise ValueError(
            f"clusters: expected hashable members, got one that is not: {error}"
        ) from error
    return np.asarray(found, dtype=np.intp)


def people_in(clusters: Sequence[Hashable] | None) -> int | None:
    """Return how many people there are; None if no identity is known.

    >>> people_in(["ann", None, "ann", None]), people_in([None, None]), people_in(None)
    (3, None, None)
    """
    if clusters is None or all(member is None for member in clusters):
        return None
    return len(set(cluster_codes(clusters).tolist()))


def sums_and_counts(values: Floats, clusters: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Return sum and number of values per cluster, in an order independent of the input's.

    Args:
        values: shape (n,).
        clusters: who each value belongs to, as in `mean_interval`.

    Raises:
        ValueError: `clusters` and `values` differ in length.
    """
    if clusters is None:
        return np.sort(values), np.ones(len(values))
    if len(clusters) != len(values):
        raise ValueError(f"clusters: expected {len(values)} members, got {len(clusters)}")
    order = np.argsort(values, kind="stable")
    codes = cluster_codes(clusters)[order]
    sums = np.bincount(codes, weights=values[order]).astype(np.float64)
    counts = np.bincount(codes).astype(np.float64)
    # Codes depend on the order of the input, so clusters are sorted by their values.
    by_size = np.lexsort((counts, sums))
    return sums[by_size], counts[by_size]


def jackknife_error(sums: Floats, counts: Floats) -> float:
    """Return the jackknife standard error of the mean: each cluster is left out in turn.

    Args:
        sums: of the values of each cluster, shape (clusters,), from 2.
        counts: how many values each has, shape (clusters,).

    >>> round(jackknife_error(np.array([1.0, 2.0, 6.0]), np.ones(3)), 6)  # s / sqrt(n)
    1.527525
    """
    clusters = len(sums)
    without = (sums.sum() - sums) / (counts.sum() - counts)
    spread = float(np.sum((without - without.mean()) ** 2))
    return math.sqrt((clusters - 1) / clusters * spread)


def student_interval(
    mean: float, error: float, clusters: int, *, positive: bool, level: float = LEVEL
) -> Interval:
    """Return the interval of Student's t around a mean.

    Args:
        mean: of the values.
        error: its standard error.
        clusters: number of clusters, from 2.
        positive: the values can't be below 0, such as absolute errors.  The interval is then
            symmetric about the mean's logarithm: with a few large errors the distribution of the
            mean is skewed, that of its logarithm less so.
        level: confidence, above 0 and below 1.
    """
    from scipy.special import stdtrit

    reach = float(stdtrit(clusters - 1, (1 + level) / 2)) * error
    if not positive:
        return Interval(mean - reach, mean + reach, level)
    if mean == 0:
        return Interval(0.0, 0.0, level)
    return Interval(mean * math.exp(-reach / mean), mean * math.exp(reach / mean), level)


def mean_interval(
    values: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    positive: bool = True,
    level: float = LEVEL,
) -> Interval | None:
    """Return the interval of the mean of errors in years.

    Args:
        values: shape (n,), finite; for a mean absolute error, the absolute errors.
        clusters: who each value belongs to; each None is a separate cluster.  Without it, every
            value is one.
        positive: as in `student_interval`; false for differences.
        level: confidence, above 0 and below 1.

    Returns:
        The interval, or None with fewer than `MINIMUM_PEOPLE` clusters.

    Raises:
        ValueError: a shape, length or value is not as above, or a value is negative with
            `positive`.

    >>> mean_interval([4.0] * 9)
    >>> mean_interval([4.0] * 10)
    Interval(low=4.0, high=4.0, level=0.95)
    """
    numbers = finite_floats("values", values)
    if not 0.0 < level < 1.0:
        raise ValueError(f"level: expected above 0 and below 1, got {level}")
    if positive and np.any(numbers < 0):
        raise ValueError(f"values: expected none below 0, got {numbers.min()}")
    sums, counts = sums_and_counts(numbers, clusters)
    if len(sums) < MINIMUM_PEOPLE:
        return None
    mean, error = float(sums.sum() / counts.sum()), jackknife_error(sums, counts)
    found = student_interval(mean, error, len(sums), positive=positive, level=level)
    return found.of_errors()
