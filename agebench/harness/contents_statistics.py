"""Of a result file as typed records: its statistics beyond plain errors, and who is faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

from agebench.harness.contents_setup import MOST_ESTIMATORS, MOST_PARTS, Seed
from agebench.metrics.age_thresholds import ThresholdRates
from agebench.metrics.calibration import Coverage
from agebench.metrics.intervals import (
    SignedYearsInterval,
    YearsInterval,
)
from agebench.metrics.label_accuracy import ClassAccuracy
from agebench.timing.ratios import Comparison, Control
from agebench.util.record_fields import (
    AtMost,
    By,
    Count,
    Fraction,
    Number,
    Positive,
    SignedYears,
    Text,
    Years,
)
from agebench.util.typed_records import decoder

Verdict: TypeAlias = Literal["first better", "second better", "no difference shown", "no verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The test between two estimators."""

    first: Text
    second: Text
    n: Count
    people: Count | None = None
    difference_years: SignedYears | None
    interval: SignedYearsInterval | None
    p_value: Fraction | None
    p_adjusted: Fraction | None
    swaps: Count | None = None
    all_swaps: bool | None = None
    smallest_p: Fraction | None = None
    verdict: Verdict
    reason: str = ""

    def to_plain(self) -> dict[str, Any]:
        """Return it as written to files, where `reason` is left out if there is none."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        if not self.reason:
            del found["reason"]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One estimator's error on one group of pictures."""

    attribute: str
    value: str
    n: Count
    mae_years: Years | None
    bias_years: SignedYears | None
    mae_interval: YearsInterval | None
    people: Count | None = None


_TEN_COUNTS = decoder(tuple[Count, Count, Count, Count, Count, Count, Count, Count, Count, Count])


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How well an estimator's distributions fit."""

    n: Count
    people: Count | None = None
    coverage: tuple[Coverage, ...]
    nll: Number | None
    crps_years: Years | None
    pit_counts: Annotated[Sequence[int], By(_TEN_COUNTS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class WithMisses:
    """The error if pictures without a predicted age count too."""

    n: Count
    mae_years: Years | None
    missed: Count
    people: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """The statistics of one estimator."""

    unranked_reason: str | None = None
    with_misses: WithMisses | None
    groups: Annotated[tuple[Group, ...], AtMost(MOST_PARTS)]
    calibration: Calibration | None
    age_thresholds: Annotated[tuple[ThresholdRates, ...], AtMost(MOST_PARTS)]
    buckets: ClassAccuracy | None


Baseline = TypedDict("Baseline", {"years": Number, "from": str})
"""The age that stands in for a missing one, and where it comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisMethod:
    """How the statistics were computed; files of version 1 say `replicates`, not `intervals`."""

    permutations: Count | None = None
    level: Fraction = 0.95
    minimum_n: Count | None = None
    minimum_people: Count = 2
    least_answered: Fraction | None = None
    seed: Seed | None = None
    intervals: str | None = None
    correction: str | None = None
    clustered: bool = False
    baseline: Baseline | None = None
    replicates: Count | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return it as written to files."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("replicates", "intervals"):
            if found[name] is None:
                del found[name]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """All statistics of a result beyond its plain errors."""

    settings: AnalysisMethod
    pairs: Annotated[tuple[Pair, ...], AtMost(MOST_ESTIMATORS**2)]
    estimators: Mapping[str, Analysed]


_Loads: TypeAlias = tuple[Positive, Positive, Positive]


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """The load of the machine while times were taken; missing in old sweeps."""

    load_average_before: _Loads | None = None
    load_average_after: _Loads | None = None
    others_processors: Positive | None = None
    too_busy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing(Busy):
    """Comparisons of times, and the load of the machine meanwhile."""

    comparisons: tuple[Comparison, ...]
    control: Control | None
    load_average_before: _Loads | None
    load_average_after: _Loads | None
    others_processors: Positive | None
    too_busy: str
