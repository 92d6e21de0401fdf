"""Calibration: an estimator's predicted distributions compared with the true ages.

A distribution is over completed years of age.  A bin's probability is spread evenly over its
completed years, as in `age_classes.class_probabilities`; the true value is the completed years of
the true age.  Each picture's scores are plain numbers, so no distribution has to be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from agebench.metrics.intervals import LEVEL, ProportionInterval
from agebench.metrics.proportions import proportion_interval
from agebench.types import MAX_AGE_YEARS, AgeBins, Floats
from agebench.util.arrays import Bools, Ints, finite_floats, same_length
from agebench.util.record_fields import Fraction

LEVELS = (0.5, 0.8, 0.95)
"""Levels of the central intervals."""

LEAST_PROBABILITY = 1e-6
"""Smallest probability of the true year that is used, so that one zero (a year in a gap between
classes) does not make the mean infinite: no picture's NLL is above 13.8."""

PIT_BINS = 10

_YEARS = int(MAX_AGE_YEARS) + 1


@dataclass(frozen=True, slots=True, eq=False)
class DistributionScores:
    """Scores of n distributions against the true ages; NaN where the true age is not known.

    Attributes:
        nll: -log of the probability of the true completed year, natural; at most
            ``-log(LEAST_PROBABILITY)``; shape (n,).
        crps_years: ranked probability score, years, shape (n,); for a distribution concentrated on
            one year it is the absolute error.
        pit: probability below the true year plus a fraction of that of the year itself, 0 to 1,
            shape (n,).
        intervals: by level, lower and upper end of the central interval in years, shape (n, 2).
    """

    nll: Floats
    crps_years: Floats
    pit: Floats
    intervals: Mapping[float, Floats]

    def __post_init__(self) -> None:
        object.__setattr__(self, "intervals", MappingProxyType(dict(self.intervals)))


@lru_cache(maxsize=32)
def _spread(bins: AgeBins) -> Floats:
    """Return each bin's weight in each year 0 to 120, shape (bins, 121); rows sum to 1."""
    spread = np.zeros((len(bins), _YEARS))
    for row, (low, high) in enumerate(zip(bins.lows, bins.highs, strict=True)):
        first, last = min(low, _YEARS - 1), min(high, _YEARS - 1)
        spread[row, first : last + 1] = 1.0 / (last - first + 1)
    spread.flags.writeable = False
    return spread


def year_probabilities(probabilities: npt.ArrayLike, bins: AgeBins) -> Floats:
    """Spread distributions over bins evenly over their completed years.

    Args:
        probabilities: shape (n, bins), not negative, rows summing to about 1; rescaled.
        bins: any; years above `MAX_AGE_YEARS` count as that.

    Returns:
        Shape (n, 121): the probability of each completed year from 0.

    Raises:
        ValueError: shapes or values other than the above.

    >>> year_probabilities([[0.5, 0.5]], AgeBins((0, 4), (1, 4)))[0, :6].tolist()
    [0.25, 0.25, 0.0, 0.0, 0.5, 0.0]
    """
    weights = finite_floats("probabilities", probabilities, ndim=2)
    totals = weights.sum(axis=1, keepdims=True)
    if weights.shape[1] != len(bins) or np.any(weights < 0) or np.any(totals <= 0):
        raise ValueError(
            f"probabilities: expected shape (n, {len(bins)}), none negative and no row of zeros, "
            f"got shape {weights.shape}"
        )
    by_year: Floats = (weights / totals) @ _spread(bins)
    return by_year


def central_interval(cumulative: Floats, level: float) -> Floats:
    """Return the ends between which the middle `level` of each distribution lies.

    A completed year y stands for y - 0.5 to y + 0.5 here, with its probability spread evenly, so
    that on average the interval for labels in whole years is neither too wide nor too narrow.

    Args:
        cumulative: probability up to and including each completed year, shape (n, 121).
        level: above 0 and below 1.

    Returns:
        Years, 0 to `MAX_AGE_YEARS`, shape (n, 2).
    """
    ends = np.empty((len(cumulative), 2))
    rows = np.arange(len(cumulative))
    for side, quantile in enumerate(((1 - level) / 2, (1 + level) / 2)):
        # Sums of floats may end just below 1; the last year is used then.
        year = np.minimum((cumulative < quantile).sum(axis=1), cumulative.shape[1] - 1)
        below = np.where(year > 0, cumulative[rows, np.maximum(year - 1, 0)], 0.0)
        here = np.maximum(cumulative[rows, year] - below, np.finfo(np.float64).tiny)
        ends[:, side] = year - 0.5 + (quantile - below) / here
    return np.clip(ends, 0.0, MAX_AGE_YEARS)


def score_distributions(
    probabilities: npt.ArrayLike,
    bins: AgeBins,
    true_years: npt.ArrayLike,
    jitter: npt.ArrayLike | None = None,
) -> DistributionScores:
    """Score distributions against true ages, one by one.

    NLL and CRPS are proper scores: the expected score is best for the true distribution (Gneiting &
    Raftery, JASA 102, 2007, 359-378).  The CRPS is the integral over all ages of (cumulative
    probability - [true <= age])^2, where the cumulative probability rises at whole years: for a
    label in whole years this is the sum over years, and for a distribution concentrated on one year
    it is the absolute error, whatever the label.

    Args:
        probabilities: shape (n, bins), as in `year_probabilities`.
        bins: the bins they are over.
        true_years: shape (n,), 0 to `MAX_AGE_YEARS`; NaN where not known.
        jitter: the fraction of the true year's probability that counts as below it, 0 to 1, shape
            (n,).  With uniform random numbers the PIT of a calibrated estimator is uniform too
            (Czado, Gneiting & Held, Biometrics 65, 2009, 1254-1261); one half if not given.

    Raises:
        ValueError: shapes or values other than the above.

    >>> scores = score_distributions([[0.5, 0.5]], AgeBins.single_years(20, 21), [20])
    >>> scores.nll.round(4).tolist(), scores.crps_years.tolist(), scores.pit.tolist()
    ([0.6931], [0.25], [0.25])
    >>> scores.intervals[0.5].tolist()
    [[20.0, 21.0]]
    """
    by_year = year_probabilities(probabilities, bins)
    true = np.asarray(true_years, dtype=np.float64)
    known = ~np.isnan(true)
    if np.any((true[known] < 0) | (true[known] > MAX_AGE_YEARS)):
        raise ValueError(f"true_years: expected ages from 0 to {MAX_AGE_YEARS:g}, or NaN")
    shift = np.full(len(by_year), 0.5) if jitter is None else finite_floats("jitter", jitter)
    same_length(probabilities=by_year, true_years=true, jitter=shift)
    cumulative = np.cumsum(by_year, axis=1)
    age = np.nan_to_num(true)
    rows, year = np.arange(len(true)), np.floor(age).astype(np.intp)
    at_true = by_year[rows, year]
    nll = np.abs(np.log(np.maximum(at_true, LEAST_PROBABILITY)))
    # The fraction of each year before the true age; the rest is after it.
    before = np.clip(age[:, None] - np.arange(_YEARS), 0.0, 1.0)
    crps = np.sum(before * cumulative**2 + (1 - before) * (1 - cumulative) ** 2, axis=1)
    pit = np.minimum(cumulative[rows, year] - (1 - shift) * at_true, 1.0)
    return DistributionScores(
        nll=np.where(known, nll, np.nan),
        crps_years=np.where(known, crps, np.nan),
        pit=np.where(known, pit, np.nan),
        intervals={level: central_interval(cumulative, level) for level in LEVELS},
    )


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often the true age was in the central intervals of one level.

    Attributes:
        level: the nominal coverage.
        fraction: of the true ages inside the intervals.
        interval: its confidence interval; None with fewer than `MINIMUM_PEOPLE`.
    """

    level: Fraction
    fraction: Fraction
    interval: ProportionInterval | None


def covered(intervals_years: Floats, true_years: Floats) -> Bools:
    """Return whether the completed years of each age lie in its interval, ends included."""
    years = np.floor(true_years)
    return np.asarray((intervals_years[:, 0] <= years) & (years <= intervals_years[:, 1]))


def coverage(
    intervals_years: npt.ArrayLike,
    true_years: npt.ArrayLike,
    level: float,
    codes: Ints | None = None,
    *,
    confidence: float = LEVEL,
) -> Coverage:
    """Return how often the true age was inside the intervals.

    Args:
        intervals_years: shape (n, 2), low and high, n from 1.
        true_years: shape (n,).
        level: the nominal coverage of the intervals.
        codes: who each picture shows, as in `proportions.proportion_interval`.
        confidence: of the interval of the proportion.

    Raises:
        ValueError: shapes or values other than the above.

    >>> coverage([[20, 30], [20, 30]], [25, 31], 0.5).fraction
    0.5
    """
    ends = finite_floats("intervals_years", intervals_years, ndim=2)
    true = finite_floats("true_years", true_years)
    if same_length(intervals_years=ends, true_years=true) == 0 or ends.shape[1] != 2:
        raise ValueError(f"intervals_years: expected shape (n, 2), n from 1, got {ends.shape}")
    inside = covered(ends, true)
    return Coverage(level, float(inside.mean()), proportion_interval(inside, codes, confidence))


def pit_counts(pit: npt.ArrayLike) -> list[int]:
    """Return how many PIT values are in each tenth from 0 to 1; 1 itself is in the last.

    >>> pit_counts([0.0, 0.05, 0.5, 1.0])
    [2, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    """
    values = finite_floats("pit", pit)
    if np.any((values < 0) | (values > 1)):
        raise ValueError("pit: expected numbers from 0 to 1")
    places = np.minimum((values * PIT_BINS).astype(np.intp), PIT_BINS - 1)
    return [int(count) for count in np.bincount(places, minlength=PIT_BINS)]
