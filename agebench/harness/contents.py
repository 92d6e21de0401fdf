"""A result file as typed records: what each field is, and what it must be to be read.

Every reader of result.json has its figures from here.  What is not among these fields is left
alone, and fields with a default may be missing: results of before they were added are still read.
docs/result-schema.md says what the fields mean.

What a comparison was of is in `contents_setup`, what was computed of it in `contents_statistics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from agebench.harness.contents_setup import (
    MOST_ESTIMATORS,
    Dataset,
    Detector,
    Environment,
    Settings,
    Spec,
    Texts,
)
from agebench.harness.contents_statistics import Analysis, Timing
from agebench.harness.part_scores import PartError
from agebench.harness.results import READABLE_VERSIONS
from agebench.harness.scores import RangeScore
from agebench.metrics.error_summary import ErrorSummary
from agebench.metrics.label_accuracy import ClassAccuracy
from agebench.types import MAX_AGE_YEARS
from agebench.util.typed_records import (
    AtMost,
    Between,
    By,
    Count,
    Milliseconds,
    Number,
    Share,
    StructureError,
    Text,
    Years,
    checked,
    decoder,
    one_of,
    require_fields,
)

Times: TypeAlias = tuple[Milliseconds, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """All times of one stage."""

    n: Count
    samples_ms: Times


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
        require_fields(value, _OF_AVAILABLE, not_null=("errors", "spec"))
    return found


_LabelYears: TypeAlias = Annotated[int, Between(0, int(MAX_AGE_YEARS))]
_TWO_YEARS = decoder(tuple[_LabelYears, _LabelYears])


def _age_range(value: Any) -> tuple[int, int]:
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
