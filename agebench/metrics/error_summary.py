"""All error figures of one estimator, including those by decade of true age, and of any part."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt

from agebench.metrics.age_errors import (
    CS_YEARS,
    METRICS,
    ErrorFigures,
    absolute_errors,
    cumulative_score,
    signed_errors,
)
from agebench.metrics.intervals import (
    LEVEL,
    MINIMUM_PICTURES,
    Interval,
    YearsInterval,
    mean_interval,
    people_in,
)
from agebench.types import Floats
from agebench.util.arrays import ages
from agebench.util.record_fields import AtMost, Count, SignedYears, Text, Years

MOST_DECADES = 1000
"""Most decades that a file may list."""


@dataclass(frozen=True, slots=True)
class DecadeError:
    """The error over the people of one decade of true age.

    Attributes:
        decade: "0-9", "10-19", ..., of completed years.
        n: number of pictures, at least 1.
        mae_years: mean absolute error; None with fewer pictures than a part needs.
        bias_years: mean of predicted minus true; None likewise.
        mae_interval: interval of `mae_years`; None also with too few people.
        people: number of people in the pictures; None if not known.
    """

    decade: Text
    n: Count
    mae_years: Years | None
    bias_years: SignedYears | None
    mae_interval: YearsInterval | None = None
    people: Count | None = None


class PartFigures(NamedTuple):
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
) -> PartFigures:
    """Return the figures of a part of the pictures; they are None if it is too small.

    Args:
        errors_years: predicted minus true, shape (n,).
        clusters: who each picture shows, as in `mean_interval`.
        minimum: pictures that a part needs to get figures.
        level: confidence of the interval.
    """
    n, people = len(errors_years), people_in(clusters)
    if n < max(1, minimum):
        return PartFigures(n, None, None, None, people)
    sizes = np.abs(errors_years)
    interval = mean_interval(sizes, clusters=clusters, level=level)
    return PartFigures(n, float(sizes.mean()), float(errors_years.mean()), interval, people)


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
        ValueError: a shape, length or value is not as above.

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
class ErrorSummary(ErrorFigures):
    """All errors of one estimator over one set of pictures.

    Attributes:
        by_decade: the error by decade of true age; empty with `n` = 0.
        people: number of people in the pictures; None if not known.
    """

    by_decade: Annotated[tuple[DecadeError, ...], AtMost(MOST_DECADES)]
    people: Count | None = None


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
        ValueError: a shape, length or value is not as there.

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
