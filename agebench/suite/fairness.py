"""Error, bias and false adults by group."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from agebench.metrics.age_thresholds import ThresholdRates, threshold_rates
from agebench.metrics.intervals import MINIMUM_PICTURES, Interval, mean_interval
from agebench.suite.board import BoardCell, BoardSet
from agebench.util.arrays import Bools

ADULT_YEARS = 18


@dataclass(frozen=True, slots=True)
class GroupError:
    """One group of a set, for one model.

    Attributes:
        name: of the group.
        n: its pictures with an age.
        error_years: mean absolute error; None with fewer than `MINIMUM_PICTURES` pictures.
        interval: of this error.
        bias_years: mean signed error.
        false_adults: rates at a threshold of 18 without a buffer; None for labels that are ranges.
        people: who its pictures show, as far as known.
    """

    name: str
    n: int
    error_years: float | None
    interval: Interval | None
    bias_years: float | None
    false_adults: ThresholdRates | None
    people: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Fairness:
    """One attribute of a set, for one model.

    Attributes:
        attribute: such as "gender".
        groups: sorted by name, those with figures first.
        worst, best: groups of the largest and the smallest error; None with fewer than two.
        gap_years: difference of these two errors.
        gap_interval: its 95 % interval, for these two groups; None if one of them has none, or a
            person is in both.
    """

    attribute: str
    groups: tuple[GroupError, ...]
    worst: GroupError | None
    best: GroupError | None
    gap_years: float | None
    gap_interval: Interval | None


def fairness(pictures: BoardSet, cell: BoardCell) -> list[Fairness]:
    """Return a model's errors by each attribute with groups in the set.

    They are over the pictures that the model gave an age for.
    """
    errors = pictures.signed_errors(cell.years)
    found = []
    for attribute, (names, codes) in pictures.groups.items():
        groups = [
            _group(name, pictures, cell, errors, np.asarray(codes == at))
            for at, name in enumerate(names)
        ]
        known = [group for group in groups if group.error_years is not None]
        worst = best = gap = interval = None
        if len(known) > 1:
            worst, best = max(known, key=_error), min(known, key=_error)
            gap, interval = _error(worst) - _error(best), _gap_interval(worst, best)
        found.append(Fairness(attribute, tuple(groups), worst, best, gap, interval))
    return found


def _error(group: GroupError) -> float:
    return group.error_years or 0.0


def _group(
    name: str,
    pictures: BoardSet,
    cell: BoardCell,
    errors: np.ndarray[tuple[int], np.dtype[np.float64]],
    inside: Bools,
) -> GroupError:
    places = np.flatnonzero(inside & np.isfinite(errors))
    if len(places) < MINIMUM_PICTURES:
        return GroupError(name, len(places), None, None, None, None)
    absolute, people = np.abs(errors[places]), pictures.clusters(places)
    rates = None
    if not pictures.of_ranges:
        (rates,) = threshold_rates(
            pictures.true_years[places],
            cell.years[places],
            clusters=people,
            thresholds_years=[ADULT_YEARS],
            buffers_years=[0],
        )
    return GroupError(
        name,
        len(places),
        float(absolute.mean()),
        mean_interval(absolute, clusters=people),
        float(errors[places].mean()),
        rates,
        frozenset(who for who in people or () if who is not None),
    )


def _gap_interval(worst: GroupError, best: GroupError) -> Interval | None:
    """Return the interval of the difference of two groups' errors.

    It is computed from the ends of their intervals, for independent means (method of variance
    estimates recovery: Zou & Donner, Statistics in Medicine 27, 2008, 1693-1702).  It applies to
    these two groups; as they were selected as the farthest apart, their gap is biased upwards,
    which the interval does not include.  If a person is in both, as with glasses or decades, the
    means are not independent, and there is none.
    """
    if worst.interval is None or best.interval is None or worst.people & best.people:
        return None
    gap = _error(worst) - _error(best)
    down = math.hypot(_error(worst) - worst.interval.low, best.interval.high - _error(best))
    up = math.hypot(worst.interval.high - _error(worst), _error(best) - best.interval.low)
    return Interval(gap - down, gap + up)
