"""Intervals and paired tests for recompute.py, with numpy alone.

Who a picture shows is given as a number per picture (`people`); None where nobody is known, so that
every picture counts for itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.intp]

FEWEST_PEOPLE = 10
"""Minimum number of people for an interval or a test."""

NORMAL = 1.959963984540054
"""What a standard normal value exceeds in 2.5 % of all cases."""

LARGEST_ERROR = 120.0
"""Years; no end of an interval is further from 0."""

OWN_SWAPS = 10_000
ROUNDING = 1e-9


@functools.cache
def student_t(freedom: int) -> float:
    """Return what Student's t exceeds in 2.5 % of all cases, by summing up its density."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    low, high = 1.9, 13.0
    for _ in range(60):
        middle = (low + high) / 2
        at = np.linspace(0.0, middle, 20_001)
        density = (
            scale / math.sqrt(freedom * math.pi) * (1 + at**2 / freedom) ** (-(freedom + 1) / 2)
        )
        # Simpson's rule: 1, 4, 2, 4, ..., 1 thirds of a step.
        weights = np.resize([2.0, 4.0], len(at))
        weights[[0, -1]] = 1.0
        if float(weights @ density) * (at[1] - at[0]) / 3 < 0.475:
            low = middle
        else:
            high = middle
    return low


def numbered(people: Ints | None, count: int) -> Ints:
    """Return 0, 1, ... for each person among these pictures; each picture one where not known."""
    if people is None:
        return np.arange(count)
    return np.unique(people, return_inverse=True)[1].astype(np.intp)


def jackknife_error(values: Floats, who: Ints) -> float:
    """Return the standard error of a mean: each person is left out in turn."""
    counts = np.bincount(who).astype(float)
    sums = np.bincount(who, weights=values)
    left = (values.sum() - sums) / (len(values) - counts)
    people = len(counts)
    return math.sqrt((people - 1) / people * float(((left - left.mean()) ** 2).sum()))


def mean_interval(values: Floats, people: Ints | None, *, positive: bool) -> list[float] | None:
    """Return the interval of a mean; about its logarithm where it can't be below 0."""
    who = numbered(people, len(values))
    number = len(np.unique(who))
    if number < FEWEST_PEOPLE:
        return None
    middle = float(values.mean())
    reach = student_t(number - 1) * jackknife_error(values, who)
    factor = math.exp(reach / middle) if middle and positive else 1.0
    ends = (middle / factor, middle * factor) if positive else (middle - reach, middle + reach)
    return [min(max(end, -LARGEST_ERROR), LARGEST_ERROR) for end in ends]


def wilson(rate: float, trials: float) -> list[float]:
    """Return the score interval of a proportion of `trials`."""
    square = NORMAL**2
    middle = (rate + square / (2 * trials)) / (1 + square / trials)
    reach = math.sqrt(rate * (1 - rate) / trials + square / (4 * trials**2)) * NORMAL
    reach /= 1 + square / trials
    low = 0.0 if rate == 0 else middle - reach
    high = 1.0 if rate == 1 else middle + reach
    return [max(0.0, low), min(1.0, high)]


def proportion_interval(happened: Floats, people: Ints | None) -> list[float] | None:
    """Return the interval of a proportion; with people, of as many chances as they are worth."""
    who = numbered(people, len(happened))
    number = len(np.unique(who))
    if number < FEWEST_PEOPLE:
        return None
    rate = float(happened.mean())
    if people is None:
        return wilson(rate, number)
    pictures = len(happened)
    trials = float(number)
    if 0 < rate < 1:
        off = np.bincount(who, weights=happened - rate)
        by_people = number / (number - 1) * float((off**2).sum()) / pictures**2
        trials = pictures / max(1.0, by_people / (rate * (1 - rate) / pictures))
    trials *= (NORMAL / student_t(number - 1)) ** 2
    return wilson(rate, trials)


def swaps_of(people: int, permutations: int) -> tuple[int, bool]:
    """Return how many swaps are tried, and whether these are all."""
    if people <= 40 and 2**people <= permutations:
        return 2**people, True
    return permutations, False


def swap_p(off: Floats, people: Ints | None, permutations: int) -> tuple[float, float]:
    """Return the p-value of a paired test, and what another draw of swaps may make of it.

    Swapping two estimators on all pictures of a person turns the sign of that person's sum.  All
    ways are tried where there are no more of them than `permutations`; else random ones of our own.
    """
    sums = np.bincount(numbered(people, len(off)), weights=off)
    needed = abs(float(sums.sum())) - ROUNDING * float(np.abs(off).sum())
    number, every = swaps_of(len(sums), permutations)
    reached = 0
    if every:
        ways = np.arange(number)[:, None] >> np.arange(len(sums)) & 1
        reached = int((np.abs((1 - 2 * ways) @ sums) >= needed).sum())
        return reached / number, 0.0
    generator = np.random.default_rng(20_000)
    for _ in range(OWN_SWAPS // 1000):
        signs = 1.0 - 2.0 * generator.integers(0, 2, (1000, len(sums)))
        reached += int((np.abs(signs @ sums) >= needed).sum())
    p = (reached + 1) / (OWN_SWAPS + 1)
    spread = math.sqrt(p * (1 - p) * (1 / OWN_SWAPS + 1 / number))
    return p, 5 * spread + 5 / number


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number."""
    found, largest = dict[int, float](), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        found[at] = largest
    return [found[at] for at in range(len(p_values))]


def verdict(pair: dict[str, Any], level: float) -> str:
    """Return what a pair's figures allow to say."""
    limit = 1 - level - ROUNDING
    if pair["p_adjusted"] is None or pair["smallest_p"] >= limit:
        return "no verdict"
    if pair["p_adjusted"] >= limit or not pair["difference_years"]:
        return "no difference shown"
    return "first better" if pair["difference_years"] < 0 else "second better"
