"""Computations for the report's figures, as pure functions on arrays of ages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agebench.metrics.age_errors import ROUNDING_YEARS
from agebench.metrics.intervals import MINIMUM_PICTURES, Interval, mean_interval
from agebench.types import MAX_AGE_YEARS, Floats

AGE_STEP_YEARS = 5
SCORE_YEARS = 20.0
"""Largest error of the cumulative score curves."""

FEW_PICTURES = 1000
"""Number of pictures below which the cells of the density are 5 years wide instead of 2.5."""


@dataclass(frozen=True, slots=True)
class AgeCurve:
    """Mean absolute error by true age.

    Attributes:
        ages_years: middle of each step, shape (steps,), ascending.
        mae_years: NaN if the step has fewer than `MINIMUM_PICTURES` pictures.
        low_years, high_years: ends of the 95 % interval, NaN in the same steps.
    """

    ages_years: Floats
    mae_years: Floats
    low_years: Floats
    high_years: Floats


def age_curve(
    true_years: Floats,
    predicted_years: Floats,
    people: Sequence[str | None] | None = None,
    step_years: int = AGE_STEP_YEARS,
) -> AgeCurve:
    """Return the mean error for each step of true age, with its interval.

    Args:
        true_years: shape (n,), 0 to 120.
        predicted_years: shape (n,), finite.
        people: who each picture shows, as in `mean_interval`.
        step_years: width of a step.

    >>> curve = age_curve(np.full(20, 7.0), np.full(20, 9.0))
    >>> curve.ages_years.tolist(), curve.mae_years.tolist()
    ([7.5], [2.0])
    """
    errors = np.abs(predicted_years - true_years)
    steps = (true_years // step_years).astype(np.intp)
    numbers = range(int(steps.min()), int(steps.max()) + 1) if len(steps) else range(0)
    rows = []
    for number in numbers:
        inside = np.flatnonzero(steps == number)
        interval: Interval | None = None
        mean = np.nan
        if len(inside) >= MINIMUM_PICTURES:
            mean = float(errors[inside].mean())
            clusters = None if people is None else [people[row] for row in inside.tolist()]
            interval = mean_interval(errors[inside], clusters=clusters)
        low, high = (np.nan, np.nan) if interval is None else (interval.low, interval.high)
        rows.append((step_years * (number + 0.5), mean, low, high))
    table = np.asarray(rows, np.float64).reshape(-1, 4)
    return AgeCurve(*table.T)


def score_curve(
    true_years: Floats, predicted_years: Floats, limit_years: float = SCORE_YEARS
) -> tuple[Floats, Floats]:
    """Return the fraction of pictures with an error of at most k years, for k up to the limit.

    Returns:
        k in steps of a quarter of a year, and the fractions, 0 to 1; both of shape (m,).

    >>> years, fractions = score_curve(np.array([20.0, 30.0]), np.array([21.0, 30.0]))
    >>> fractions[years == 0].item(), fractions[years == 1].item()
    (0.5, 1.0)
    """
    errors = np.sort(np.abs(predicted_years - true_years))
    years = np.arange(0, limit_years + 0.125, 0.25)
    within = np.searchsorted(errors, years + ROUNDING_YEARS, side="right")
    return years, within / max(len(errors), 1)


@dataclass(frozen=True, slots=True)
class Density:
    """Number of pictures by true and predicted age.

    Attributes:
        counts: pictures per cell, shape (cells, cells), indexed by true age, then predicted age.
        step_years: width of a cell; the first one begins at 0.
    """

    counts: npt.NDArray[np.intp]
    step_years: float

    @property
    def end_years(self) -> float:
        """End of the last cell."""
        return len(self.counts) * self.step_years


def density(true_years: Floats, predicted_years: Floats) -> Density:
    """Count pictures in square cells of true and predicted age.

    >>> table = density(np.array([1.0, 1.0, 6.0]), np.array([1.0, 7.0, 6.0]))
    >>> table.step_years, table.counts.tolist()
    (5.0, [[1, 1], [0, 1]])
    """
    step = 5.0 if len(true_years) < FEW_PICTURES else 2.5
    top = max(float(true_years.max(initial=0.0)), float(predicted_years.max(initial=0.0)))
    cells = int(min(top, MAX_AGE_YEARS) // step) + 1
    places = [
        np.minimum((values // step).astype(np.intp), cells - 1)
        for values in (true_years, predicted_years)
    ]
    flat = np.bincount(places[0] * cells + places[1], minlength=cells * cells)
    return Density(flat.reshape(cells, cells).astype(np.intp), step)


def worst(true_years: Floats, predicted_years: Floats, count: int) -> list[int]:
    """Return the indices of the `count` largest errors, largest first; ties in their order.

    Args:
        true_years: shape (n,), NaN if not known.
        predicted_years: shape (n,), NaN if there is none.
        count: maximum number of indices.

    >>> worst(np.array([20.0, np.nan, 30.0]), np.array([25.0, 3.0, 60.0]), 5)
    [2, 0]
    """
    errors = np.nan_to_num(np.abs(predicted_years - true_years), nan=-1.0)
    order = np.argsort(-errors, kind="stable")[:count]
    return [row for row in order.tolist() if errors[row] >= 0]


def front(costs: Sequence[float], errors: Sequence[float]) -> list[int]:
    """Return the indices of the Pareto front: no other is better in both; by increasing cost.

    >>> front([1, 2, 3, 3], [9, 5, 7, 4])
    [0, 1, 3]
    """
    best = np.inf
    kept = []
    for place in sorted(range(len(costs)), key=lambda at: (costs[at], errors[at])):
        if errors[place] < best:
            best = errors[place]
            kept.append(place)
    return kept
