"""Accuracy if labels are age classes, or ranges of years."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agebench.metrics.age_classes import class_of_age
from agebench.metrics.intervals import people_in
from agebench.types import AgeBins, Floats
from agebench.util.arrays import Bools, finite_floats, same_length
from agebench.util.record_fields import Count, Fraction


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Accuracy of predicted classes.

    Attributes:
        n: pictures whose true age is in a class; the fractions are of these.
        n_in_gap: pictures whose true age is in no class; not counted.
        n_unclassified: of the `n`, those without a predicted class; they count as wrong.
        exact: fraction (0 to 1) whose class was right; None with `n` = 0.
        one_off: fraction whose class was right or next to it; None with `n` = 0.
        people: number of people in the `n` pictures; None if not known.
    """

    n: Count
    n_in_gap: Count
    n_unclassified: Count
    exact: Fraction | None
    one_off: Fraction | None
    people: Count | None = None


def class_accuracy(
    true_years: npt.ArrayLike,
    predicted_class: npt.ArrayLike,
    bins: AgeBins,
    clusters: Sequence[Hashable] | None = None,
) -> ClassAccuracy:
    """Return exact and one-off class accuracy.

    Args:
        true_years: shape (n,), 0 to `MAX_AGE_YEARS`; n may be 0.
        predicted_class: indices into `bins`, whole numbers of shape (n,); -1 for no class.
        bins: classes that ascend without overlap; adjacent means next in order, even across a gap.
        clusters: who each picture shows; they are only counted.

    Raises:
        ValueError: a shape, length or value is not as above.

    >>> from agebench.metrics.age_classes import ADIENCE_CLASSES
    >>> class_accuracy([1, 5, 3], [0, 0, 0], ADIENCE_CLASSES)
    ClassAccuracy(n=2, n_in_gap=1, n_unclassified=0, exact=0.5, one_off=1.0, people=None)
    """
    true = class_of_age(true_years, bins)
    predicted = finite_floats("predicted_class", predicted_class)
    same_length(true_years=true, predicted_class=predicted)
    wrong = (predicted != np.floor(predicted)) | (predicted < -1) | (predicted >= len(bins))
    if np.any(wrong):
        index = int(np.argmax(wrong))
        raise ValueError(
            f"predicted_class: expected whole numbers from -1 to {len(bins) - 1}, "
            f"got {predicted[index]:g} at [{index}]"
        )
    scored = true >= 0
    n, in_gap = int(scored.sum()), int((~scored).sum())
    if not n:
        return ClassAccuracy(0, in_gap, 0, None, None)
    # A missing class is -1, which must not count as adjacent to class 0.
    found = predicted[scored] >= 0
    steps = np.abs(predicted[scored] - true[scored])
    exact, one_off = (float(np.mean(found & (steps <= reach))) for reach in (0, 1))
    who = None if clusters is None else [clusters[row] for row in np.flatnonzero(scored).tolist()]
    return ClassAccuracy(n, in_gap, int((~found).sum()), exact, one_off, people_in(who))


def _ranges(ranges_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return checked ranges of shape (n, 2) and as many predicted ages."""
    values = np.asarray(ranges_years)
    ranges = finite_floats("ranges_years", values if values.size else np.empty((0, 2)), ndim=2)
    predicted = finite_floats("predicted_years", predicted_years)
    if ranges.shape[1] != 2:
        raise ValueError(f"ranges_years: expected shape (n, 2), got {ranges.shape}")
    same_length(ranges_years=ranges, predicted_years=predicted)
    wrong = ~((ranges[:, 0] >= 0) & (ranges[:, 0] <= ranges[:, 1]))
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise ValueError(
            f"ranges_years: expected 0 <= first <= last, got {ranges[row].tolist()} at [{row}]"
        )
    return ranges, predicted


def range_hit(ranges_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> Bools:
    """Return whether each predicted age is in the range given by its label.

    Args:
        ranges_years: first and last completed year, shape (n, 2): (20, 29) is 20.0 to below 30.
        predicted_years: shape (n,), finite.

    Returns:
        Shape (n,); its mean is the hit rate.

    Raises:
        ValueError: a shape, length or value is not as above.

    >>> range_hit([(20, 29), (20, 29), (20, 29)], [20, 29.9, 30]).tolist()
    [True, True, False]
    """
    ranges, predicted = _ranges(ranges_years, predicted_years)
    return np.asarray((predicted >= ranges[:, 0]) & (predicted < ranges[:, 1] + 1), np.bool_)


def distance_to_range(ranges_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> Floats:
    """Return the smallest absolute error, in years, over all labels that the range stands for.

    A range from 20 to 29 stands for the labels 20 to 29, and the error against each is what it is
    in the mean absolute error: 19 and 30 are one year away, and for a range of one year the
    distance is the absolute error.  A prediction between the last label and the end of its year
    (29.5) is a hit, being 29 in completed years, and yet half a year away, as from the label 29.

    Args, Raises: as `range_hit`.

    Returns:
        Years, shape (n,).

    >>> distance_to_range([(20, 29), (20, 29), (20, 29)], [18, 25, 31])
    array([2., 0., 2.])
    """
    ranges, predicted = _ranges(ranges_years, predicted_years)
    outside = np.maximum(ranges[:, 0] - predicted, predicted - ranges[:, 1])
    return np.asarray(np.maximum(outside, 0.0), dtype=np.float64)
