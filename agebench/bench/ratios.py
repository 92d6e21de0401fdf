"""How many times as fast: the ratio of two medians, with an interval that says if it is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from agebench.intervals import Interval
from agebench.types import Floats

REPLICATES = 5000
LEVEL = 0.95
MIN_ROUNDS = 10
"""With fewer rounds nothing is said: a bootstrap of a handful of values promises too much."""

_ROWS_AT_ONCE = 500

Verdict: TypeAlias = Literal["first faster", "second faster", "no difference shown"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two estimators at one batch size.

    Attributes:
        batch: faces per call.
        first, second: their names.
        ratio: median of the second over median of the first: above 1, the first is faster.
        interval: of the ratio; None with fewer than `MIN_ROUNDS` rounds.
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


def _blocks(n: int, rows: int, generator: np.random.Generator) -> npt.NDArray[np.intp]:
    """Draw rounds in runs of n^(1/3) neighbours, wrapping around: shape (rows, n)."""
    length = max(1, round(n ** (1 / 3)))
    starts = generator.integers(0, n, (rows, -(-n // length)))
    places = (starts[:, :, None] + np.arange(length)) % n
    return places.reshape(rows, -1)[:, :n]


def ratio_interval(
    first_ms: Sequence[float],
    second_ms: Sequence[float],
    *,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval | None:
    """Return the bootstrap interval of median(second) / median(first).

    Both are resampled by the same rounds, so that what slowed a whole round down cancels out, and
    in blocks of neighbouring rounds, since such disturbances last longer than one (circular block
    bootstrap: Politis & Romano, 1992).

    Args:
        first_ms: positive milliseconds, one per round.
        second_ms: those of the other in the same rounds.
        level: confidence, above 0 and below 1.
        replicates: number of resamples.
        seed: of the random numbers.

    Returns:
        The percentile interval; None with fewer than `MIN_ROUNDS` rounds.

    Raises:
        ValueError: the lengths differ, or a time is not above 0.

    >>> ratio_interval([2.0] * 20, [3.0] * 20)
    Interval(low=1.5, high=1.5, level=0.95)
    """
    first, second = (np.asarray(values, np.float64) for values in (first_ms, second_ms))
    if first.shape != second.shape:
        raise ValueError(f"expected as many rounds of both, got {len(first)} and {len(second)}")
    if not (np.all(first > 0) and np.all(second > 0)):
        raise ValueError("expected times above 0")
    if len(first) < MIN_ROUNDS:
        return None
    generator = np.random.default_rng(seed)
    ratios: list[Floats] = []
    for start in range(0, replicates, _ROWS_AT_ONCE):
        rows = _blocks(len(first), min(_ROWS_AT_ONCE, replicates - start), generator)
        ratios.append(np.median(second[rows], axis=1) / np.median(first[rows], axis=1))
    low, high = np.quantile(np.concatenate(ratios), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def compare_pairs(
    samples_ms: Sequence[tuple[str, Sequence[Sequence[float]]]],
    batches: Sequence[int],
    seed: int = 0,
    number: int | None = None,
) -> list[Comparison]:
    """Compare every two estimators at each batch size.

    The intervals are wide enough to hold together: each has the level 1 - 5 % / their number
    (Bonferroni), so that one wrong "faster" among all is at most as likely as 5 %.

    Args:
        samples_ms: per estimator its name, and per batch size its milliseconds by round.
        batches: the batch sizes, in the order of the samples.
        seed: of the bootstrap.
        number: of intervals that are to hold together, those of other calls among them; the ones
            of this call if not given.
    """
    pairs = list(combinations(samples_ms, 2))
    level = 1 - (1 - LEVEL) / max(1, len(pairs) * len(batches) if number is None else number)
    return [
        _compare(batch, (first[0], first[1][at]), (second[0], second[1][at]), level, seed)
        for at, batch in enumerate(batches)
        for first, second in pairs
    ]


def _compare(
    batch: int,
    first: tuple[str, Sequence[float]],
    second: tuple[str, Sequence[float]],
    level: float,
    seed: int,
) -> Comparison:
    ratio = float(np.median(second[1]) / np.median(first[1]))
    interval = ratio_interval(first[1], second[1], level=level, seed=seed)
    verdict: Verdict = "no difference shown"
    if interval is not None and interval.low > 1:
        verdict = "first faster"
    elif interval is not None and interval.high < 1:
        verdict = "second faster"
    return Comparison(batch, first[0], second[0], ratio, interval, verdict)
