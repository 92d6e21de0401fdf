"""How far off an estimator is: pure functions on arrays of true and predicted ages.

Errors are predicted minus true, in years; a positive bias means that people are taken for older
than they are.  Nothing is rounded or clipped here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType
from typing import Annotated, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from agebench.metrics.age_classes import class_of_age
from agebench.metrics.intervals import (
    LEVEL,
    MINIMUM_PICTURES,
    Interval,
    YearsInterval,
    mean_interval,
    people_in,
)
from agebench.types import AgeBins, Floats
from agebench.util.arrays import Bools, ages, finite_floats, same_length
from agebench.util.typed_records import (
    AtMost,
    By,
    Count,
    Share,
    SignedYears,
    Text,
    Years,
    keyed,
)

CS_YEARS = (1, 3, 5, 10)
"""The k of the cumulative scores CS@k in a summary."""

MOST_DECADES = 1000
"""That a file may list."""

Scores: TypeAlias = Annotated[
    Mapping[int, float | None], By(keyed({k: str(k) for k in CS_YEARS}, Share | None))
]


def signed_errors(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> Floats:
    """Return predicted minus true age.

    Args:
        true_years: shape (n,), finite; n may be 0.
        predicted_years: the same.

    Returns:
        Years, shape (n,).

    Raises:
        ValueError: not one-dimensional, not finite, or of different lengths.

    >>> signed_errors([20, 30], [25, 27])
    array([ 5., -3.])
    """
    true = finite_floats("true_years", true_years)
    predicted = finite_floats("predicted_years", predicted_years)
    same_length(true_years=true, predicted_years=predicted)
    return np.asarray(predicted - true, dtype=np.float64)


def absolute_errors(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> Floats:
    """Return how far off each age is, either way; arguments as in `signed_errors`.

    >>> absolute_errors([20, 30], [25, 27])
    array([5., 3.])
    """
    return np.abs(signed_errors(true_years, predicted_years))


def _errors_of_any(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> Floats:
    """Signed errors, at least one."""
    errors = signed_errors(true_years, predicted_years)
    if not len(errors):
        raise ValueError("expected at least one age, got none")
    return errors


def mae(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> float:
    """Return the mean absolute error in years.

    Args:
        true_years: shape (n,), finite, n from 1.
        predicted_years: the same.

    Raises:
        ValueError: as `signed_errors`, or there are no ages.

    >>> mae([20, 30], [25, 27])
    4.0
    """
    return float(np.abs(_errors_of_any(true_years, predicted_years)).mean())


def rmse(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> float:
    """Return the root of the mean squared error in years; arguments as in `mae`.

    >>> rmse([20, 30], [21, 37])
    5.0
    """
    return float(np.sqrt(np.mean(_errors_of_any(true_years, predicted_years) ** 2)))


def median_absolute_error(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> float:
    """Return the median absolute error in years; arguments as in `mae`.

    Of an even number of errors it is the mean of the middle two.

    >>> median_absolute_error([20, 20, 20], [21, 60, 18])
    2.0
    """
    return float(np.median(np.abs(_errors_of_any(true_years, predicted_years))))


def signed_bias(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> float:
    """Return the mean of predicted minus true, in years; arguments as in `mae`.

    >>> signed_bias([20, 30], [25, 27])
    1.0
    """
    return float(_errors_of_any(true_years, predicted_years).mean())


LEAST_ANSWERED = 0.5
"""Share of the pictures, among those that any estimator gave an age for, that an estimator must
give an age for in order to be ranked: one that answers next to nothing would else decide which
pictures all others are judged on."""


def common_pictures(answered: Bools, least: float = LEAST_ANSWERED) -> tuple[Bools, Bools]:
    """Return who is ranked, and on which pictures: those that all who are ranked gave an age for.

    Args:
        answered: whether each estimator gave an age for each picture, shape (estimators, pictures).
        least: share of the pictures with any age that an estimator needs to be ranked; whatever
            it is, one without any age is not.

    Returns:
        Flags of shape (estimators,) and (pictures,); without anybody ranked no picture is common.

    >>> answered = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]], np.bool_)
    >>> ranked, common = common_pictures(answered)
    >>> ranked.tolist(), common.tolist()
    ([True, True, False], [True, True, True, False])
    """
    counts = answered.sum(axis=1)
    ranked = (counts > 0) & (counts >= least * answered.any(axis=0).sum())
    if not ranked.any():
        return ranked, np.zeros(answered.shape[1], np.bool_)
    return ranked, np.asarray(answered[ranked].all(axis=0))


def cumulative_score(
    true_years: npt.ArrayLike, predicted_years: npt.ArrayLike, years: float
) -> float:
    """Return CS@k: the share (0 to 1) of ages that are at most k years off.

    Args:
        true_years: shape (n,), finite, n from 1.
        predicted_years: the same.
        years: k, finite, from 0; an error of exactly k counts as within.

    Raises:
        ValueError: as `mae`, or `years` is negative or not finite.

    >>> cumulative_score([20, 30, 40], [25, 27, 60], years=5)
    0.6666666666666666
    """
    if not (np.isfinite(years) and years >= 0):
        raise ValueError(f"years: expected a number from 0, got {years}")
    return float(np.mean(np.abs(_errors_of_any(true_years, predicted_years)) <= years))


@dataclass(frozen=True, slots=True)
class DecadeError:
    """The error over the people of one decade of true age.

    Attributes:
        decade: "0-9", "10-19", ..., of completed years.
        n: number of pictures, at least 1.
        mae_years: mean absolute error; None with fewer pictures than a part needs.
        bias_years: mean of predicted minus true; None likewise.
        mae_interval: interval of `mae_years`; None also with too few people.
        people: number of people in the pictures; None where they are not known.
    """

    decade: Text
    n: Count
    mae_years: Years | None
    bias_years: SignedYears | None
    mae_interval: YearsInterval | None = None
    people: Count | None = None


class PartError(NamedTuple):
    """The error over a part of the pictures; attributes as in `DecadeError`."""

    n: int
    mae_years: float | None
    bias_years: float | None
    mae_interval: Interval | None
    people: int | None


def part_error(
    errors_years: Floats,
    clusters: Sequence[Hashable] | None,
    *,
    minimum: int = MINIMUM_PICTURES,
    level: float = LEVEL,
) -> PartError:
    """Return the figures of a part of the pictures, if it is large enough for any.

    Args:
        errors_years: predicted minus true, shape (n,).
        clusters: who each picture shows, as in `mean_interval`.
        minimum: pictures that a part needs to get figures.
        level: confidence of the interval.
    """
    n, people = len(errors_years), people_in(clusters)
    if n < max(1, minimum):
        return PartError(n, None, None, None, people)
    sizes = np.abs(errors_years)
    interval = mean_interval(sizes, clusters=clusters, level=level)
    return PartError(n, float(sizes.mean()), float(errors_years.mean()), interval, people)


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of errors in years: how it is computed, and how it is shown wherever it is.

    Attributes:
        name: in gates, in the names of the ranking's columns and in model cards, such as "rmse".
        key: the field of `ErrorFigures`, result.json and report.csv, such as "rmse_years".
        compute: from true and predicted ages, as `mae` is.
        title: above a column.
        words: in a sentence.
        hint: what it means, for a reader who points at the title.
        signed: may be below 0, and is shown with its sign; the best one is the nearest to 0.
        decimals: that are shown.
        in_terminal: place of its column in the terminal where not all have room: columns of lower
            numbers are left out first; 0 for no column.
        in_card: whether a model card's front matter, which model hubs read, states it.
    """

    name: str
    key: str
    compute: Callable[[npt.ArrayLike, npt.ArrayLike], float]
    title: str
    words: str
    hint: str
    signed: bool = False
    decimals: int = 2
    in_terminal: int = 0
    in_card: bool = False


METRICS = (
    Metric(
        "mae",
        "mae_years",
        mae,
        "MAE",
        "mean error",
        "mean absolute error, years, on the common pictures",
        in_terminal=9,
        in_card=True,
    ),
    Metric(
        "rmse",
        "rmse_years",
        rmse,
        "RMSE",
        "RMSE",
        "root of the mean squared error, years",
        in_card=True,
    ),
    Metric(
        "median",
        "median_years",
        median_absolute_error,
        "median",
        "median error",
        "median absolute error, years",
    ),
    Metric(
        "bias",
        "bias_years",
        signed_bias,
        "bias",
        "bias",
        "mean of predicted minus true, years",
        signed=True,
        in_terminal=6,
        in_card=True,
    ),
)
"""All figures in years of `ErrorFigures`, the one that estimators are ranked by first.

Results, reports, gates, model cards and the leaderboard's files have those of this table.
"""


def mae_by_decade(
    true_years: npt.ArrayLike,
    predicted_years: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    minimum: int = MINIMUM_PICTURES,
    level: float = LEVEL,
) -> tuple[DecadeError, ...]:
    """Return the error for each decade of true age that has pictures, youngest first.

    Args:
        true_years: shape (n,), 0 to `MAX_AGE_YEARS`; n may be 0.
        predicted_years: shape (n,), finite.
        clusters: identity of each picture's person, as in `mean_interval`.
        minimum: pictures that a decade needs to get figures.
        level: confidence of the intervals.

    Raises:
        ValueError: shapes, lengths or values other than the above.

    >>> parts = mae_by_decade([9.9, 10, 19], [9.9, 12, 23], minimum=2)
    >>> [(part.decade, part.n, part.mae_years) for part in parts]
    [('0-9', 1, None), ('10-19', 2, 3.0)]
    """
    errors = signed_errors(true_years, predicted_years)
    decades = (ages("true_years", true_years) // 10).astype(np.intp)
    if clusters is not None and len(clusters) != len(errors):
        raise ValueError(f"clusters: expected {len(errors)} members, got {len(clusters)}")
    parts = []
    for decade in np.unique(decades).tolist():
        rows = np.flatnonzero(decades == decade)
        who = None if clusters is None else [clusters[row] for row in rows.tolist()]
        part = part_error(errors[rows], who, minimum=minimum, level=level)
        label = f"{10 * decade}-{10 * decade + 9}"
        parts.append(DecadeError(label, *part))
    return tuple(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFigures:
    """The error figures of one estimator over one set of pictures.

    With `n` = 0 every figure is None: an estimator that failed on all pictures still has a row.  A
    figure that is added to `METRICS` is a field at the end, None by default: results of before do
    not have it.

    Attributes:
        n: number of pictures scored.
        mae_years: mean absolute error.
        mae_interval: its interval; None with too few people, see `mean_interval`.
        rmse_years: root of the mean squared error.
        median_years: median absolute error.
        bias_years: mean of predicted minus true.
        cs: share (0 to 1) of pictures at most k years off, by k.
    """

    n: Count
    mae_years: Years | None
    mae_interval: YearsInterval | None
    rmse_years: Years | None
    median_years: Years | None
    bias_years: SignedYears | None
    cs: Scores

    def __post_init__(self) -> None:
        object.__setattr__(self, "cs", MappingProxyType(dict(self.cs)))

    def figure(self, metric: Metric) -> float | None:
        """Return one of `METRICS`, in years."""
        value: float | None = getattr(self, metric.key)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSummary(ErrorFigures):
    """All errors of one estimator over one set of pictures.

    Attributes:
        by_decade: the error by decade of true age; empty with `n` = 0.
        people: number of people in the pictures; None where they are not known.
    """

    by_decade: Annotated[tuple[DecadeError, ...], AtMost(MOST_DECADES)]
    people: Count | None = None


LATER_FIGURES = frozenset(
    field.name for field in fields(ErrorFigures) if field.default is not MISSING
)
"""Those that results of before they were added do not have."""


def summarise(
    true_years: npt.ArrayLike,
    predicted_years: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    minimum: int = MINIMUM_PICTURES,
    level: float = LEVEL,
) -> ErrorSummary:
    """Return all error figures at once; arguments as in `mae_by_decade`.

    Raises:
        ValueError: shapes, lengths or values other than those.

    >>> summary = summarise([20, 30], [25, 27], clusters=["ann", "bob"])
    >>> summary.mae_years, summary.bias_years, dict(summary.cs)
    (4.0, 1.0, {1: 0.0, 3: 0.5, 5: 1.0, 10: 1.0})
    >>> summarise([], []).mae_years is None
    True
    """
    by_decade = mae_by_decade(
        true_years,
        predicted_years,
        clusters=clusters,
        minimum=minimum,
        level=level,
    )
    errors = absolute_errors(true_years, predicted_years)
    interval = mean_interval(errors, clusters=clusters, level=level)
    if not len(errors):
        return ErrorSummary(
            n=0,
            mae_interval=None,
            cs=dict.fromkeys(CS_YEARS),
            by_decade=(),
            **dict.fromkeys(metric.key for metric in METRICS),
        )
    return ErrorSummary(
        n=len(errors),
        mae_interval=interval,
        cs={k: cumulative_score(true_years, predicted_years, k) for k in CS_YEARS},
        by_decade=by_decade,
        people=people_in(clusters),
        **{metric.key: metric.compute(true_years, predicted_years) for metric in METRICS},
    )


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """How often the class was right.

    Attributes:
        n: pictures whose true age is in a class; the shares are of these.
        n_in_gap: pictures whose true age is in no class: neither right nor wrong.
        n_unclassified: of the `n`, those for which no class was given; they count as wrong.
        exact: share (0 to 1) whose class was right; None with `n` = 0.
        one_off: share whose class was right or next to it; None with `n` = 0.
        people: number of people in the `n` pictures; None where they are not known.
    """

    n: Count
    n_in_gap: Count
    n_unclassified: Count
    exact: Share | None
    one_off: Share | None
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
        bins: classes that go upwards without overlap; "next to" is by their order, over gaps too.
        clusters: who each picture shows; only counted.

    Raises:
        ValueError: shapes, lengths or values other than the above.

    >>> from agebench.metrics.age_classes import ADIENCE_CLASSES
    >>> class_accuracy([1, 5, 3], [0, 0, 0], ADIENCE_CLASSES)
    ClassAccuracy(n=2, n_in_gap=1, n_unclassified=0, exact=0.5, one_off=1.0, people=None)
    """
    true = class_of_age(true_years, bins)
    given = finite_floats("predicted_class", predicted_class)
    same_length(true_years=true, predicted_class=given)
    wrong = (given != np.floor(given)) | (given < -1) | (given >= len(bins))
    if np.any(wrong):
        index = int(np.argmax(wrong))
        raise ValueError(
            f"predicted_class: expected whole numbers from -1 to {len(bins) - 1}, "
            f"got {given[index]:g} at [{index}]"
        )
    scored = true >= 0
    n, in_gap = int(scored.sum()), int((~scored).sum())
    if not n:
        return ClassAccuracy(0, in_gap, 0, None, None)
    # A missing class is -1, which must not pass for the neighbour of class 0.
    found = given[scored] >= 0
    steps = np.abs(given[scored] - true[scored])
    exact, one_off = (float(np.mean(found & (steps <= reach))) for reach in (0, 1))
    who = None if clusters is None else [clusters[row] for row in np.flatnonzero(scored).tolist()]
    return ClassAccuracy(n, in_gap, int((~found).sum()), exact, one_off, people_in(who))


def _ranges(ranges_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Ranges of shape (n, 2) and as many predicted ages."""
    given = np.asarray(ranges_years)
    ranges = finite_floats("ranges_years", given if given.size else np.empty((0, 2)), ndim=2)
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
    """Return whether each predicted age lies in the range that its label allows.

    Args:
        ranges_years: first and last completed year, shape (n, 2): (20, 29) is 20.0 to below 30.
        predicted_years: shape (n,), finite.

    Returns:
        Shape (n,); its mean is the hit rate.

    Raises:
        ValueError: shapes, lengths or values other than the above.

    >>> range_hit([(20, 29), (20, 29), (20, 29)], [20, 29.9, 30]).tolist()
    [True, True, False]
    """
    ranges, predicted = _ranges(ranges_years, predicted_years)
    return np.asarray((predicted >= ranges[:, 0]) & (predicted < ranges[:, 1] + 1), np.bool_)


def distance_to_range(ranges_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> Floats:
    """Return the least absolute error, in years, over all labels that the range stands for.

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
