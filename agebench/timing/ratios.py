"""Ratios of times, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np

from agebench.metrics.intervals import Interval, RatioInterval, ends_of
from agebench.types import Floats, plain
from agebench.util.record_fields import Between, FromOne, Milliseconds, Positive, Text

LEVEL = 0.95

BLOCKS = 6
"""Number of blocks of consecutive rounds that a measurement is divided into.  Each block gives one
number, so that a disturbance of many rounds (another process, a processor's clock) is one
observation and not many."""

MIN_ROUNDS_PER_BLOCK = 2
"""With fewer, there is no verdict."""

MAX_SELF_DIFFERENCE = 1.25
"""If one estimator may differ from itself by a larger ratio, no estimator is called faster."""

MIN_RATIO_OF_ONE_LOAD = 1.1
"""Smallest ratio called faster if each model was loaded once: two copies of one file, loaded one
after the other, have differed by 8 % for as long as they stayed in memory."""

Times: TypeAlias = Sequence[float] | Floats
"""Milliseconds, one value per round."""

Verdict: TypeAlias = Literal["first faster", "second faster", "no difference shown", "no verdict"]


@dataclass(frozen=True, slots=True)
class Control:
    """One estimator measured twice, as if it were two, to see how much it differs from itself.

    Attributes:
        name: of the estimator.
        batch: faces per call.
        ratio: time of its second copy divided by its own.
        interval: of the ratio, at 95 %; None with too few rounds.
        samples_ms: of the second copy, by round.
    """

    name: Text
    batch: FromOne
    ratio: Positive
    interval: Annotated[Interval, ends_of(Annotated[float, Between(1e-9, 1e12)])] | None
    samples_ms: tuple[Milliseconds, ...]

    @property
    def noise_floor(self) -> float | None:
        """Ratio up to which it may differ from itself; smaller ratios are not called faster."""
        if self.interval is None:
            return None
        return max(self.interval.high, 1 / self.interval.low)

    def to_plain(self) -> dict[str, Any]:
        """Return it as JSON-compatible values."""
        return {
            "name": self.name,
            "batch": self.batch,
            "ratio": self.ratio,
            "interval": plain(self.interval),
            "noise_floor": self.noise_floor,
            "samples_ms": list(self.samples_ms),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two estimators at one batch size.

    Attributes:
        batch: faces per call.
        first, second: their names.
        ratio: time of the second divided by that of the first: above 1, the first is faster. The
            geometric mean over the blocks.
        interval: of the ratio; None with too few rounds.
        verdict: a difference only if the interval excludes 1 and the ratio exceeds the noise floor;
            "no verdict" if nothing could be shown.
        reason: why there is no verdict; "" if there is one.
    """

    batch: FromOne
    first: Text
    second: Text
    ratio: Positive
    interval: RatioInterval | None
    verdict: Verdict
    reason: str = ""


def block_sizes(rounds: int) -> tuple[int, ...]:
    """Return the number of rounds in each block, as equal as possible.

    >>> block_sizes(60), block_sizes(8), block_sizes(2)
    ((10, 10, 10, 10, 10, 10), (2, 2, 1, 1, 1, 1), (1, 1))
    """
    sizes = (rounds // BLOCKS + (at < rounds % BLOCKS) for at in range(BLOCKS))
    return tuple(size for size in sizes if size)


def block_logarithms(
    first_ms: Times,
    second_ms: Times,
    sizes: Sequence[int] | None = None,
) -> Floats:
    """Return for each block the median over its rounds of the logarithm of second over first.

    Args:
        first_ms: positive milliseconds, one per round.
        second_ms: those of the other in the same rounds.
        sizes: rounds in each block; from `block_sizes` if not given.

    Raises:
        ValueError: the lengths differ, or a time is not above 0.
    """
    first, second = (np.asarray(values, np.float64) for values in (first_ms, second_ms))
    if first.shape != second.shape:
        raise ValueError(f"expected equal numbers of rounds, got {len(first)} and {len(second)}")
    if not (len(first) and np.all(first > 0) and np.all(second > 0)):
        raise ValueError("expected times above 0")
    block_rounds = block_sizes(len(first)) if sizes is None else tuple(sizes)
    if sum(block_rounds) != len(first) or min(block_rounds) < 1:
        raise ValueError(f"expected blocks of {len(first)} rounds in total, got {block_rounds}")
    logarithms = np.log(second) - np.log(first)
    ends = np.cumsum([0, *block_rounds]).tolist()
    return np.array([np.median(logarithms[start:end]) for start, end in pairwise(ends)])


def ratio_interval(
    first_ms: Times,
    second_ms: Times,
    *,
    level: float = LEVEL,
    sizes: Sequence[int] | None = None,
) -> Interval | None:
    """Return the interval of the ratio of the second's times to the first's.

    Times are compared round by round, so that whatever slows down a whole round cancels out.
    Remaining disturbances last longer than a round, so rounds are not independent observations, but
    the median logarithms of a few long blocks are: the interval is that of Student's t over these
    (the method of batch means; Law, "Simulation Modeling and Analysis", 5th edition, 2015, section
    9.5.3).

    Args:
        first_ms: positive milliseconds, one per round.
        second_ms: those of the other in the same rounds.
        level: confidence, above 0 and below 1.
        sizes: rounds in each block; from `block_sizes` if not given.

    Returns:
        The interval; None with fewer than `BLOCKS` blocks of `MIN_ROUNDS_PER_BLOCK` rounds.

    Raises:
        ValueError: the lengths differ, or a time is not above 0.

    >>> interval = ratio_interval([2.0] * 20, [3.0] * 20)
    >>> round(interval.low, 6), round(interval.high, 6)
    (1.5, 1.5)
    >>> ratio_interval([2.0] * 11, [3.0] * 11) is None
    True
    """
    logarithms = block_logarithms(first_ms, second_ms, sizes)
    block_rounds = block_sizes(len(first_ms)) if sizes is None else sizes
    if len(block_rounds) < BLOCKS or min(block_rounds) < MIN_ROUNDS_PER_BLOCK:
        return None
    from scipy.special import stdtrit

    blocks = len(logarithms)
    reach = float(stdtrit(blocks - 1, (1 + level) / 2)) / math.sqrt(blocks)
    middle, width = float(logarithms.mean()), reach * float(logarithms.std(ddof=1))
    return Interval(math.exp(middle - width), math.exp(middle + width), level)


def measure_control(
    name: str,
    batch: int,
    first_ms: Times,
    second_ms: Sequence[float],
    sizes: Sequence[int] | None = None,
) -> Control:
    """Compare an estimator with its second copy; arguments as in `ratio_interval`."""
    return Control(
        name,
        batch,
        _ratio(first_ms, second_ms, sizes),
        ratio_interval(first_ms, second_ms, sizes=sizes),
        tuple(second_ms),
    )


def _ratio(
    first_ms: Times,
    second_ms: Times,
    sizes: Sequence[int] | None,
) -> float:
    return math.exp(float(block_logarithms(first_ms, second_ms, sizes).mean()))


def statement_level(number: int) -> float:
    """Return the level of each of `number` intervals that should hold jointly (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(1, number)


def compare_speeds(
    samples_ms: Sequence[tuple[str, Times]],
    batch: int,
    control: Control | None,
    *,
    number: int,
    sizes: Sequence[int] | None = None,
    busy: str = "",
    minimum_ratio: float = 1.0,
) -> list[Comparison]:
    """Compare all pairs of estimators at one batch size.

    Args:
        samples_ms: for each estimator its name and its milliseconds by round.
        batch: faces per call.
        control: one of them measured twice in the same rounds; without it nothing is called faster.
        number: of statements that should hold jointly, including those at other batch sizes.
        sizes: rounds in each block.
        busy: why the machine was too busy for a verdict; "" if it was not.
        minimum_ratio: below which nothing is called faster, whatever the control.
    """
    level, why_not = statement_level(number), busy or _control_fails(control)
    if control is not None and control.noise_floor is not None:
        minimum_ratio = max(minimum_ratio, control.noise_floor)
    found = []
    for (first, first_ms), (second, second_ms) in combinations(samples_ms, 2):
        ratio = _ratio(first_ms, second_ms, sizes)
        interval = ratio_interval(first_ms, second_ms, level=level, sizes=sizes)
        verdict: Verdict = "no difference shown"
        reason = "too few rounds" if interval is None else why_not
        if reason or interval is None:
            verdict = "no verdict"
        elif interval.low > 1 and ratio > minimum_ratio:
            verdict = "first faster"
        elif interval.high < 1 and 1 / ratio > minimum_ratio:
            verdict = "second faster"
        found.append(Comparison(batch, first, second, ratio, interval, verdict, reason))
    return found


def _control_fails(control: Control | None) -> str:
    if control is None or control.noise_floor is None:
        return "no estimator was measured twice on enough pictures"
    if control.noise_floor > MAX_SELF_DIFFERENCE:
        return (
            f"the times are too scattered: {control.name} may differ from itself by "
            f"{100 * (control.noise_floor - 1):.0f} %"
        )
    return ""
