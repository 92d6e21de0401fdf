"""Of a result file as typed records: its statistics beyond plain errors, and who is faster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from agebench.harness.contents_setup import MOST_ESTIMATORS, MOST_PARTS
from agebench.metrics.age_thresholds import AgeGate
from agebench.metrics.intervals import (
    Interval,
    RatioInterval,
    ShareInterval,
    SignedYearsInterval,
    YearsInterval,
    ends_of,
)
from agebench.metrics.label_accuracy import ClassAccuracy
from agebench.util.typed_records import (
    AtMost,
    Between,
    Count,
    Number,
    Positive,
    Share,
    SignedYears,
    Text,
    Years,
)

FromOne: TypeAlias = Annotated[int, Between(1, 10**12)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The test between two estimators."""

    first: Text
    second: Text
    n: Count
    difference_years: SignedYears | None
    interval: SignedYearsInterval | None
    p_value: Share | None
    p_adjusted: Share | None
    verdict: Literal["first better", "second better", "no difference shown", "no verdict"]
    reason: str = ""
    swaps: Count | None = None
    all_swaps: bool | None = None
    smallest_p: Share | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group of pictures, for one estimator."""

    attribute: str
    value: str
    n: Count
    mae_years: Years | None
    mae_interval: YearsInterval | None
    bias_years: SignedYears | None
    people: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of the truth the central intervals of a level held."""

    level: Share
    share: Share | None
    interval: ShareInterval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How well an estimator's distributions fit."""

    n: Count
    coverage: tuple[Coverage, ...]
    nll: Number | None
    crps_years: Years | None
    pit_counts: tuple[Count, Count, Count, Count, Count, Count, Count, Count, Count, Count]


@dataclass(frozen=True, slots=True, kw_only=True)
class WithMisses:
    """The error where a picture without an age counts, too."""

    n: Count
    mae_years: Years | None
    missed: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """What the analysis says of one estimator."""

    with_misses: WithMisses | None
    groups: Annotated[tuple[Group, ...], AtMost(MOST_PARTS)]
    calibration: Calibration | None
    gates: Annotated[tuple[AgeGate, ...], AtMost(MOST_PARTS)]
    buckets: ClassAccuracy | None
    apart: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisSettings:
    """How the statistics were computed, as far as sentences say it."""

    level: Share = 0.95
    replicates: Count | None = None
    permutations: Count | None = None
    minimum_n: Count | None = None
    minimum_people: Any = 2
    clustered: Any = False
    floor: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """All statistics of a result beyond its plain errors."""

    settings: AnalysisSettings
    pairs: Annotated[tuple[Pair, ...], AtMost(MOST_ESTIMATORS**2)]
    estimators: Mapping[str, Analysed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times as long the second of two takes."""

    batch: FromOne
    first: Text
    second: Text
    ratio: Positive
    interval: RatioInterval | None
    verdict: Literal["first faster", "second faster", "no difference shown", "no verdict"]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRatio:
    """What one estimator differs from itself."""

    name: Text
    ratio: Positive
    interval: Annotated[Interval, ends_of(Annotated[float, Between(1e-9, 1e12)])] | None


_Loads: TypeAlias = tuple[Positive, Positive, Positive]


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """What else ran while times were taken; sweeps of before it was measured do not have it."""

    load_average_before: _Loads | None = None
    load_average_after: _Loads | None = None
    others_processors: Positive | None = None
    too_busy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing(Busy):
    """Who is faster, and what else ran meanwhile."""

    comparisons: tuple[Ratio, ...]
    control: ControlRatio | None
    load_average_before: _Loads | None
    load_average_after: _Loads | None
    others_processors: Positive | None
    too_busy: str
