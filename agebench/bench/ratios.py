"""How many times as fast: a median of ratios, with an interval that says if it is one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np

from agebench.intervals import Interval
from agebench.types import Floats

LEVEL = 0.95

Verdict: TypeAlias = Literal["first faster", "second faster", "no difference shown"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two estimators at one batch size.

    Attributes:
        batch: faces per call.
        first, second: their names.
        ratio: how many times as long the second takes, round by round: above 1, the first is
            faster.  The median over runs of neighbouring rounds.
        interval: of the ratio; None with too few rounds.
        verdict: a difference only where the interval leaves 1 out.
    """

    batch: int
    first: str
    second: str
    ratio: float
    interval: Interval | None
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        bounds = None if self.interval is None else [self.interval.low, self.interval.high]
        return {
            "batch": self.batch,
            "first": self.first,
            "second": self.second,
            "ratio": self.ratio,
            "interval": bounds,
            "verdict": self.verdict,
        }


def _run_ratios(first_ms: Sequence[float], second_ms: Sequence[float]) -> Floats:
    """Return second over first, by runs of n^(1/3) neighbouring rounds, rising: their mean logs."""
    first, second = (np.asarray(values, np.float64) for values in (first_ms, second_ms))
    if first.shape != second.shape:
        raise ValueError(f"expected as many rounds of both, got {len(first)} and {len(second)}")
    if not (len(first) and np.all(first > 0) and np.all(second > 0)):
        raise ValueError("expected times above 0")
    length = max(1, int(math.cbrt(len(first)) + 1e-9))
    runs = len(first) // length
    logs = (np.log(second) - np.log(first))[: runs * length]
    return np.sort(np.exp(logs.reshape(runs, length).mean(axis=1)))


def ratio_interval(
    first_ms: Sequence[float], second_ms: Sequence[float], *, level: float = LEVEL
) -> Interval | None:
    """Return the interval of how many times as long the second takes.

    Rounds are compared pairwise, so that what slowed a whole round down cancels out, and in runs
    of neighbouring rounds, since such disturbances last longer than one.  Of the runs' ratios it
    is the interval of the sign test for their median (Conover, Practical Nonparametric
    Statistics, 1999, section 3.2): between two of them, so many from the ends that no more than
    1 - `level` lies outside, whatever the times' distribution.

    Args:
        first_ms: positive milliseconds, one per round.
        second_ms: those of the other in the same rounds.
        level: confidence, above 0 and below 1.

    Returns:
        The interval; None where there are too few rounds for this level.

    Raises:
        ValueError: the lengths differ, or a time is not above 0.

    >>> interval = ratio_interval([2.0] * 20, [3.0] * 20)
    >>> round(interval.low, 6), round(interval.high, 6)
    (1.5, 1.5)
    >>> ratio_interval([2.0] * 11, [3.0] * 11) is None
    True
    """
    ratios = _run_ratios(first_ms, second_ms)
    from scipy.special import bdtr

    ends = bdtr(np.arange(len(ratios)), len(ratios), 0.5)
    outside = int(np.count_nonzero(ends < (1 - level) / 2))
    if outside < 1:
        return None
    return Interval(float(ratios[outside - 1]), float(ratios[-outside]), level)


def compare_pairs(
    samples_ms: Sequence[tuple[str, Sequence[Sequence[float]]]],
    batches: Sequence[int],
    number: int | None = None,
) -> list[Comparison]:
    """Compare every two estimators at each batch size.

    The intervals are wide enough to hold together: each has the level 1 - 5 % / their number
    (Bonferroni), so that one wrong "faster" among all is at most as likely as 5 %.

    Args:
        samples_ms: per estimator its name, and per batch size its milliseconds by round.
        batches: the batch sizes, in the order of the samples.
        number: of intervals that are to hold together, those of other calls among them; the ones
            of this call if not given.
    """
    pairs = list(combinations(samples_ms, 2))
    level = 1 - (1 - LEVEL) / max(1, len(pairs) * len(batches) if number is None else number)
    return [
        _compare(batch, (first[0], first[1][at]), (second[0], second[1][at]), level)
        for at, batch in enumerate(batches)
        for first, second in pairs
    ]


def _compare(
    batch: int,
    first: tuple[str, Sequence[float]],
    second: tuple[str, Sequence[float]],
    level: float,
) -> Comparison:
    ratio = float(np.median(_run_ratios(first[1], second[1])))
    interval = ratio_interval(first[1], second[1], level=level)
    verdict: Verdict = "no difference shown"
    if interval is not None and interval.low > 1:
        verdict = "first faster"
    elif interval is not None and interval.high < 1:
        verdict = "second faster"
    return Comparison(batch, first[0], second[0], ratio, interval, verdict)
