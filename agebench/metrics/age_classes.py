"""Age classes, and rules that convert a distribution over classes to an age in years.

Ages are on the scale of labels: completed years, so that a class 25-32 has its midpoint at 28.5
and the class of a single year at that year.  A true age falls into a class by its completed years
(32.9 is still in 25-32).  Distributions are arrays of shape (n, bins) whose rows sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from agebench.errors import UsageError, suggestion
from agebench.types import MAX_AGE_YEARS, AgeBins, Floats
from agebench.util.arrays import Ints, ages, finite_floats, same_length

ADIENCE_CLASSES = AgeBins((0, 4, 8, 15, 25, 38, 48, 60), (2, 6, 12, 20, 32, 43, 53, 100))
"""The eight classes of Levi & Hassner, "Age and Gender Classification using Convolutional Neural
Networks", CVPR Workshops 2015, in the order of the network's outputs.  They leave gaps: 3, 7,
13-14, 21-24, 33-37, 44-47, 54-59 and everything above 100 are in no class."""

YearsRule: TypeAlias = Literal["midpoint", "expectation"]
YEARS_RULES: tuple[YearsRule, ...] = ("midpoint", "expectation")

SUM_TOLERANCE = 1e-3
"""How far from 1 a row of probabilities may sum, as in `AgePrediction`, in half precision too; rows
are then rescaled."""

TIE = 1e-9
"""A cumulative probability this close to one half counts as one half, as sums of floats are
rounded."""

MEDIAN_RAMP = 1e-3
"""A median goes from a bin to the next as the former's cumulative probability falls this far below
one half, not at once: float32 sums differ by 1e-6 between runtimes, which is 0.001 of a bin then.
"""


def _ordered(bins: AgeBins) -> tuple[Ints, Ints]:
    """Return lows and highs as arrays, of bins that must ascend without overlap."""
    lows, highs = np.asarray(bins.lows), np.asarray(bins.highs)
    if np.any(lows[1:] <= highs[:-1]):
        raise ValueError(f"expected bins that ascend without overlap, got {bins.labels}")
    return lows, highs


def _distribution(probabilities: npt.ArrayLike, bins: int) -> Floats:
    """Rows of probabilities over `bins` bins, rescaled to sum to exactly 1."""
    values = finite_floats("probabilities", probabilities, ndim=2)
    if values.shape[1] != bins:
        raise ValueError(f"probabilities: expected shape (n, {bins}), got {values.shape}")
    if np.any(values < 0):
        raise ValueError(f"probabilities: expected none below 0, got {values.min()}")
    totals = values.sum(axis=1, keepdims=True)
    wrong = np.abs(totals[:, 0] - 1.0) > SUM_TOLERANCE
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise ValueError(
            f"probabilities: expected rows that sum to 1, got {totals[row, 0]} [{row}]"
        )
    rescaled: Floats = values / totals
    return rescaled


def _class_years(years: npt.ArrayLike, bins: int) -> Floats:
    """Return one valid age per bin."""
    values = ages("years per class", years)
    if values.shape != (bins,):
        raise ValueError(f"years per class: expected shape ({bins},), got {values.shape}")
    return values


def class_of_age(age_years: npt.ArrayLike, bins: AgeBins) -> Ints:
    """Return the class that each age's completed years lie in, -1 if there is none.

    Args:
        age_years: ages in years, shape (n,), 0 to `MAX_AGE_YEARS`.
        bins: classes that ascend without overlap; gaps between them are allowed.

    Returns:
        Indices into `bins`, shape (n,).

    Raises:
        ValueError: an age is out of range or not finite, or the bins overlap.

    >>> class_of_age([2.99, 3.0, 32.5, 100], ADIENCE_CLASSES).tolist()
    [0, -1, 4, 7]
    """
    lows, highs = _ordered(bins)
    completed = np.floor(ages("age_years", age_years))
    below = np.searchsorted(lows, completed, side="right") - 1
    inside = (below >= 0) & (completed <= highs[below])
    return np.where(inside, below, -1)


def nearest_class(age_years: npt.ArrayLike, bins: AgeBins) -> Ints:
    """Return the class whose nearest year is closest to each age's completed years.

    A tie goes to the younger class: 3 is one year from 0-2 and from 4-6, and gets 0-2.

    Args, Raises: as `class_of_age`.

    Returns:
        Indices into `bins`, shape (n,), never -1.

    >>> nearest_class([3, 7.9, 22, 23, 120], ADIENCE_CLASSES).tolist()
    [0, 1, 3, 4, 7]
    """
    lows, highs = _ordered(bins)
    completed = np.floor(ages("age_years", age_years))[:, None]
    distance = np.maximum(np.maximum(lows - completed, completed - highs), 0.0)
    nearest: Ints = np.argmin(distance, axis=1)
    return nearest


def expectation(probabilities: npt.ArrayLike, years: npt.ArrayLike) -> Floats:
    """Return the mean age of each distribution.

    Args:
        probabilities: shape (n, bins), not negative; rows within `SUM_TOLERANCE` of 1, rescaled.
        years: the age that each bin stands for, shape (bins,), 0 to `MAX_AGE_YEARS`.

    Returns:
        Years, shape (n,).

    Raises:
        ValueError: a shape or value is not as above.

    >>> expectation([[0.5, 0.25, 0.25]], [10, 20, 40])
    array([20.])
    """
    values = np.atleast_1d(np.asarray(years))
    distribution = _distribution(probabilities, len(values))
    mean: Floats = distribution @ _class_years(years, len(values))
    return mean


def top2_expectation(probabilities: npt.ArrayLike, years: npt.ArrayLike) -> Floats:
    """Return the mean age over the two most probable bins, rescaled to sum to 1.

    This is the decoding of HSE_FaceRec_tf (`facial_analysis.py`, with the years 1 to 100).  Of
    equally probable bins the younger counts as the more probable; a single bin is returned as it
    is.

    Args, Returns, Raises: as `expectation`.

    >>> top2_expectation([[0.1, 0.3, 0.6]], [10, 20, 40]).round(6)
    array([33.333333])
    """
    values = np.atleast_1d(np.asarray(years))
    distribution = _distribution(probabilities, len(values))
    of_bin = _class_years(years, len(values))
    best = np.argsort(-distribution, kind="stable")[:, :2]
    kept = np.take_along_axis(distribution, best, axis=1)
    mean: Floats = (kept * of_bin[best]).sum(axis=1) / kept.sum(axis=1)
    return mean


def median(probabilities: npt.ArrayLike, bins: AgeBins) -> Floats:
    """Return the midpoint of the first bin at which the cumulative probability reaches one half.

    There is no interpolation inside the bin, except where a bin nearly reaches one half
    (`MEDIAN_RAMP`): there the result changes linearly to that of the next bin, so that rounding in
    a runtime changes it slightly and never by a whole bin.

    Args:
        probabilities: shape (n, bins), as in `expectation`.
        bins: classes that ascend without overlap.

    Returns:
        Years, shape (n,).

    Raises:
        ValueError: a shape or value is not as above.

    >>> median([[0.4, 0.1, 0.5]], AgeBins.single_years(20, 22))
    array([21.])
    """
    _ordered(bins)
    short = 0.5 - TIE - np.cumsum(_distribution(probabilities, len(bins)), axis=1)
    steps = np.clip(short[:, :-1] / MEDIAN_RAMP, 0.0, 1.0)
    years: Floats = bins.midpoints[0] + steps @ np.diff(bins.midpoints)
    return years


def years_from_classes(
    probabilities: npt.ArrayLike,
    bins: AgeBins,
    rule: YearsRule = "midpoint",
    years_by_class: npt.ArrayLike | None = None,
) -> Floats:
    """Turn class probabilities into years by a named rule.

    Args:
        probabilities: shape (n, classes), as in `expectation`.
        bins: the classes.
        rule: "midpoint", the years of the most probable class (the first of equals); or
            "expectation", the mean of all classes' years weighted by their probabilities.
        years_by_class: the years that each class stands for, shape (classes,), such as a table
            fitted on a training part; None for the classes' midpoints.

    Returns:
        Years, shape (n,).

    Raises:
        UsageError: there is no such rule.
        ValueError: a shape or value is not as above.

    >>> probabilities = [[0, 0, 0, 0.25, 0.75, 0, 0, 0]]
    >>> years_from_classes(probabilities, ADIENCE_CLASSES)
    array([28.5])
    >>> years_from_classes(probabilities, ADIENCE_CLASSES, "expectation")
    array([25.75])
    """
    if rule not in YEARS_RULES:
        hint = suggestion(str(rule), YEARS_RULES)
        raise UsageError(f"unknown rule {rule!r} for the years of a class: {hint}")
    years = _class_years(bins.midpoints if years_by_class is None else years_by_class, len(bins))
    if rule == "expectation":
        return expectation(probabilities, years)
    best = np.argmax(_distribution(probabilities, len(bins)), axis=1)
    chosen: Floats = years[best]
    return chosen


def fit_class_years(
    probabilities: npt.ArrayLike, true_years: npt.ArrayLike, bins: AgeBins, rule: YearsRule
) -> Floats:
    """Return the years that each class should stand for, fitted on pictures with known ages.

    With "midpoint" it is the median true age of the pictures for which the class is the most
    probable: no other age has a smaller mean absolute error.  A class that is never the most
    probable keeps its midpoint.  With "expectation" it is the least-squares solution of
    ``probabilities @ years = true_years`` with years from 0 to `MAX_AGE_YEARS`, where each class
    counts as one more picture of its midpoint, so that the years of a rarely predicted class do not
    diverge.

    Call it only with a training part: a fit on the scored pictures would bias the results.

    Args:
        probabilities: shape (n, classes), as in `expectation`; n from 1.
        true_years: shape (n,), 0 to `MAX_AGE_YEARS`.
        bins: the classes.
        rule: the rule of `years_from_classes` that will use the result.

    Returns:
        Years, shape (classes,), for `years_by_class` of `years_from_classes`.

    Raises:
        UsageError: there is no such rule.
        ValueError: a shape or value is not as above.

    >>> two = AgeBins((0, 20), (10, 30))
    >>> fit_class_years([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]], [3, 4, 9], two, "midpoint")
    array([ 4., 25.])
    """
    if rule not in YEARS_RULES:
        hint = suggestion(str(rule), YEARS_RULES)
        raise UsageError(f"unknown rule {rule!r} for the years of a class: {hint}")
    distribution = _distribution(probabilities, len(bins))
    true = ages("true_years", true_years)
    if same_length(probabilities=distribution, true_years=true) == 0:
        raise ValueError("true_years: expected at least one age to fit to, got none")
    if rule == "midpoint":
        best = np.argmax(distribution, axis=1)
        years = bins.midpoints
        for index in np.unique(best).tolist():
            years[index] = np.median(true[best == index])
        return years
    from scipy.optimize import lsq_linear

    rows = np.concatenate([distribution, np.eye(len(bins))])
    wanted = np.concatenate([true, bins.midpoints])
    fitted = lsq_linear(rows, wanted, bounds=(0.0, MAX_AGE_YEARS), method="bvls")
    return np.clip(fitted.x, 0.0, MAX_AGE_YEARS)


@dataclass(frozen=True, slots=True, eq=False)
class ClassProbabilities:
    """A distribution summed into classes.

    Attributes:
        probabilities: shape (n, classes); each row rescaled to sum to 1 over the classes alone,
            or all NaN if nothing of it lies in any class.
        dropped: shape (n,), the fraction (0 to 1) that lay in the gaps, before rescaling.
    """

    probabilities: Floats
    dropped: Floats

    @property
    def most_probable(self) -> Ints:
        """Index of the most probable class (the first of equals), -1 for a row of NaN."""
        nothing = np.isnan(self.probabilities).any(axis=1)
        best = np.argmax(np.nan_to_num(self.probabilities), axis=1)
        return np.where(nothing, -1, best).astype(np.intp)


def class_probabilities(
    probabilities: npt.ArrayLike, from_bins: AgeBins, to_bins: AgeBins
) -> ClassProbabilities:
    """Sum a fine distribution, such as one per year of age, into classes.

    A bin's probability is spread evenly over its completed years; each year goes to the class
    that contains it.  The probability in gaps is dropped and returned separately, and the rest
    rescaled.

    Args:
        probabilities: shape (n, from_bins), as in `expectation`.
        from_bins: the bins they are over.
        to_bins: the target classes, which ascend without overlap.

    Raises:
        ValueError: a shape or value is not as above.

    >>> found = class_probabilities([[0.2, 0.2, 0.6]], AgeBins.single_years(2, 4), ADIENCE_CLASSES)
    >>> found.probabilities[0, :2].round(6).tolist(), found.dropped.round(6).tolist()
    ([0.25, 0.75], [0.2])
    """
    from_lows, from_highs = (np.asarray(side) for side in (from_bins.lows, from_bins.highs))
    lows, highs = _ordered(to_bins)
    first = np.maximum(from_lows[:, None], lows)
    last = np.minimum(from_highs[:, None], highs)
    overlap = np.maximum(last - first + 1, 0) / (from_highs - from_lows + 1)[:, None]
    mass = _distribution(probabilities, len(from_bins)) @ overlap
    kept = mass.sum(axis=1)
    scaled = np.full(mass.shape, np.nan)
    np.divide(mass, kept[:, None], out=scaled, where=kept[:, None] > 0)
    return ClassProbabilities(scaled, np.maximum(1.0 - kept, 0.0))
