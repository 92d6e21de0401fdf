"""A result file as typed records: what each field is, and what it must be to be read.

Every reader of result.json has its figures from here.  What is not among these fields is left
alone, and fields with a default may be missing: results of before they were added are still read.
docs/result-schema.md says what the fields mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from agebench.harness.part_scores import PartError
from agebench.harness.results import READABLE_VERSIONS
from agebench.harness.scores import RangeScore
from agebench.metrics.age_thresholds import AgeGate
from agebench.metrics.error_summary import ErrorSummary
from agebench.metrics.intervals import (
    Interval,
    RatioInterval,
    ShareInterval,
    SignedYearsInterval,
    YearsInterval,
    ends_of,
)
from agebench.metrics.label_accuracy import ClassAccuracy
from agebench.types import LABEL_KINDS, MAX_AGE_YEARS
from agebench.util.typed_records import (
    AtMost,
    Between,
    By,
    Count,
    Milliseconds,
    Number,
    Positive,
    Share,
    SignedYears,
    StructureError,
    Text,
    Years,
    checked,
    decoder,
    one_of,
)

MOST_ESTIMATORS = 200
"""Of one file: every one has its row in a dozen tables, and a pair with each other."""

MOST_PARTS = 1000
"""Groups, gates and decades of one estimator."""

Settings: TypeAlias = Mapping[str, Any]
Texts: TypeAlias = tuple[str, ...]
Times: TypeAlias = tuple[Milliseconds, ...]
FromOne: TypeAlias = Annotated[int, Between(1, 10**12)]
LabelKind: TypeAlias = Annotated[str, By(one_of(LABEL_KINDS))]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """A model file."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What ran a model."""

    runtime: str
    device: str
    detail: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What data and models may be used for, where they are from, and what is to be known."""

    licence: str
    source: str
    citation: str
    notes: Texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The machine, and versions."""

    python: str
    system: str
    processor: str
    cores: Count
    memory_bytes: Annotated[int, Between(0, 10**18)]
    opencv_threads: Count
    packages: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The part of a protocol that was scored."""

    protocol: str
    part: str
    fingerprint: str
    parameters: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A file that was left out while the data set was listed."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicDataset(Terms):
    """A data set, as the files of a leaderboard have it too."""

    name: Text
    label_kind: LabelKind
    aligned: bool
    protocol: str
    subset: str
    split: Split | None
    content_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(PublicDataset):
    """A data set."""

    root: str | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDetections:
    """Pictures whose faces were found by an earlier run, and by this one."""

    used: Count
    found: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Terms):
    """What detectors and estimators have in common."""

    name: Text
    weights: tuple[WeightsFile, ...]
    runtime: Runtime
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector(Model):
    """What found the faces."""

    reference: Text
    chosen_because: str
    runtime_proven: bool = True
    kept_detections: KeptDetections | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """All times of one stage."""

    n: Count
    samples_ms: Times


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A crop."""

    region: str
    size_hw: tuple[Count, Count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """What an estimator sees."""

    views: Mapping[str, View]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec(Model):
    """What an estimator is."""

    crop: Crop
    decode: str
    channel_order: str
    trained_on: str
    label_kind: str
    trained_sets: Texts = ()
    detector: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearCopies:
    """Scored pictures of which an estimator was trained on a near copy."""

    count: Count
    images: Texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Scored pictures that an estimator was trained on."""

    what: str
    count: Count
    images: Texts = ()
    near_copies: NearCopies | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """One estimator; one that was not available has no spec, no counts and no errors."""

    name: Text
    available: bool
    unavailable_reason: str
    spec: Spec | None
    latency: Mapping[str, Stage]
    scored: Count = 0
    missed: Count = 0
    failed: Count = 0
    clipped: Count = 0
    errors: ErrorSummary | None = None
    own_errors: ErrorSummary | None = None
    classes: ClassAccuracy | None = None
    ranges: RangeScore | None = None
    seen_in_training: Seen | None = None
    unseen_errors: PartError | None = None
    unclipped_errors: PartError | None = None
    runtime_proven: bool = True
    contamination: str | None = None


_OF_AVAILABLE = (
    *("scored", "missed", "failed", "clipped", "errors", "classes", "ranges"),
    *("seen_in_training", "spec"),
)


def _read_estimator(value: Any) -> Estimator:
    """Read one; of one that was available, what it needs to have."""
    found: Estimator = decoder(Estimator)(value)
    if found.available:
        for name in _OF_AVAILABLE:
            if name not in value:
                raise StructureError(f"an object with the field {name!r}", value)
        for name in ("errors", "spec"):
            if value[name] is None:
                error = StructureError("an object", None)
                error.place.append(f".{name}")
                raise error
    return found


_TWO_YEARS = decoder(tuple[Annotated[int, Between(0, int(MAX_AGE_YEARS))], ...])


def _age_range(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise StructureError("a list of 2", value)
    first, last = _TWO_YEARS(value)
    if first > last:
        raise StructureError("a range of ages upwards", value)
    return first, last


Ends: TypeAlias = tuple[Number, Number]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What one estimator said of one picture."""

    status: Text
    years: Years | None
    reason: str = ""
    class_index: Annotated[int, Between(-1, 32767)] | None = None
    outside: Share = 0.0
    nll: Number | None = None
    crps_years: Number | None = None
    pit: Number | None = None
    interval_50: Ends | None = None
    interval_80: Ends | None = None
    interval_95: Ends | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture."""

    image: Text
    sha256: str
    true_years: Years | None
    identity: str | None
    attributes: Mapping[str, str]
    status: Text
    faces: Count
    box_xyxy: tuple[Number, Number, Number, Number] | None
    predictions: Mapping[str, Prediction]
    reason: str = ""
    true_range: Annotated[tuple[int, int], By(_age_range)] | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """How many there are."""

    total: Count
    common_subset: Count
    several_faces: Count
    taken_over: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What result.json holds.

    The pictures are checked and left as they are: there may be very many, and most readers take
    columns of numbers from them (`agebench.harness.columns`).
    """

    schema_version: Annotated[int, By(one_of(READABLE_VERSIONS))]
    created: str
    command: Texts
    environment: Environment
    dataset: Dataset
    detector: Detector
    settings: Settings
    pictures: Pictures
    shared_latency: Mapping[str, Stage]
    estimators: Annotated[
        tuple[Annotated[Estimator, By(_read_estimator)], ...], AtMost(MOST_ESTIMATORS)
    ]
    images: tuple[Annotated[Mapping[str, Any], checked(Picture)], ...]
    predictions_sha256: str | None = None
    analysis: Analysis | None = None
    timing: Timing | None = None
