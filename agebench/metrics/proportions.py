"""Intervals of a proportion."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from agebench.metrics.intervals import LEVEL, MINIMUM_PEOPLE, Interval
from agebench.util.arrays import Bools, Ints, same_length


def wilson_interval(successes: float, trials: float, level: float = LEVEL) -> Interval | None:
    """Return the score interval of a proportion (Wilson, JASA 22, 1927, 209-212).

    It stays between 0 and 1, and is valid for proportions of 0 and 1 too.

    Args:
        successes: number of successes, 0 to `trials`; an effective number may be fractional.
        trials: number of independent trials, from 0.
        level: confidence, above 0 and below 1.

    Returns:
        The interval, or None without trials.

    Raises:
        ValueError: a number is not as above.

    >>> wilson_interval(0, 0)
    >>> interval = wilson_interval(1, 10)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.0179, 0.4042)
    """
    if not (0 <= successes <= trials and math.isfinite(trials)):
        raise ValueError(f"expected successes from 0 to {trials} trials, got {successes}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level: expected above 0 and below 1, got {level}")
    if trials == 0:
        return None
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate, widened = successes / trials, 1 + z * z / trials
    middle = (rate + z * z / (2 * trials)) / widened
    spread = z * math.sqrt(rate * (1 - rate) / trials + (z / (2 * trials)) ** 2) / widened
    # At a proportion of exactly 0 or 1 that end is exact; the formula would round.
    low = 0.0 if rate == 0 else max(0.0, middle - spread)
    high = 1.0 if rate == 1 else min(1.0, middle + spread)
    return Interval(low, high, level)


def effective_trials(happened: Bools, codes: Ints) -> float:
    """Return the effective number of independent trials of pictures that are grouped by person.

    This is the number of pictures divided by the design effect: the variance of the proportion over
    people divided by that over pictures, at least 1 (Korn & Graubard, Survey Methodology 24, 1998,
    193-201).  For a proportion of 0 or 1 that variance is unknown, and each person counts once.

    Args:
        happened: shape (n,), n from 1.
        codes: the person of each, as `intervals.cluster_codes` gives them, shape (n,).

    >>> effective_trials(np.array([True, True, False, False]), np.array([0, 0, 1, 1]))
    1.0
    """
    n = same_length(happened=happened, codes=codes)
    totals = np.bincount(codes, weights=happened)
    counts = np.bincount(codes).astype(np.float64)
    totals, counts = totals[counts > 0], counts[counts > 0]
    people, rate = len(counts), float(happened.mean())
    if rate in (0.0, 1.0) or people < 2:
        return float(people)
    by_people = people / (people - 1) * float(np.sum((totals - rate * counts) ** 2)) / n**2
    effect = by_people / (rate * (1 - rate) / n)
    return n / max(1.0, effect)


def proportion_interval(
    happened: Bools, codes: Ints | None = None, level: float = LEVEL
) -> Interval | None:
    """Return the Wilson interval of a proportion, over pictures or over the people in them.

    With people, the interval uses `effective_trials`, reduced for the uncertainty of the estimated
    variance: by the squared ratio of the normal quantile to that of Student's t with one degree of
    freedom less than people (Korn & Graubard; such intervals are evaluated by Franco et al.,
    Journal of Survey Statistics and Methodology 7, 2019, 334-364).

    Args:
        happened: shape (n,); n may be 0.
        codes: as in `effective_trials`; None for independent pictures.
        level: confidence, above 0 and below 1.

    Returns:
        The interval; None with fewer than `MINIMUM_PEOPLE` people (pictures, if people are not
        given).
    """
    people = len(happened if codes is None else np.unique(codes))
    if people < MINIMUM_PEOPLE:
        return None
    if codes is None:
        return wilson_interval(int(happened.sum()), people, level)
    from scipy.special import stdtrit

    tail = (1 + level) / 2
    unsure = (NormalDist().inv_cdf(tail) / float(stdtrit(people - 1, tail))) ** 2
    trials = effective_trials(happened, codes) * unsure
    return wilson_interval(float(happened.mean()) * trials, trials, level)
