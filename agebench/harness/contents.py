"""A result file as typed records: the fields, their types and their limits.

All readers of result.json use these records.  Other fields are ignored, and fields with a default
may be missing, so that results written before they existed can be read.  docs/result-schema.md
explains the fields.

The setup of a comparison is in `contents_setup`, its pictures are in `contents_pictures`, and the
statistics are in `contents_statistics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from agebench.harness.contents_pictures import Picture
from agebench.harness.contents_setup import (
    MOST_ESTIMATORS,
    Dataset,
    Detector,
    Environment,
    RunSettings,
    Spec,
    Texts,
)
from agebench.harness.contents_statistics import Analysis, Timing
from agebench.harness.part_scores import PartError
from agebench.harness.results import READABLE_VERSIONS
from agebench.harness.scores import RangeScore
from agebench.metrics.error_summary import ErrorSummary
from agebench.metrics.label_accuracy import ClassAccuracy
from agebench.timing.latency import StageTimes
from agebench.util.record_fields import AtMost, By, Count, Text, one_of
from agebench.util.typed_records import decoder, require_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class NearCount:
    """Number of scored pictures that have a near copy among an estimator's training pictures."""

    count: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class NearCopies(NearCount):
    """Scored pictures that have a near copy among an estimator's training pictures."""

    pictures: Texts


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenCount:
    """Number of scored pictures that an estimator was trained on."""

    what: str
    count: Count
    near_copies: NearCount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(SeenCount):
    """Scored pictures that an estimator was trained on."""

    pictures: Texts = ()
    near_copies: NearCopies | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """One estimator; an unavailable one has no spec, counts or errors."""

    name: Text
    available: bool
    unavailable_reason: str
    spec: Spec | None
    latency: Mapping[str, StageTimes]
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
    """Read an estimator, requiring more fields of an available one."""
    found: Estimator = decoder(Estimator)(value)
    if found.available:
        require_fields(value, _OF_AVAILABLE, not_null=("errors", "spec"))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Numbers of pictures."""

    total: Count
    common_subset: Count
    several_faces: Count
    taken_over: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The content of result.json.

    Most readers convert the pictures to columns of numbers (`agebench.harness.columns`).
    """

    schema_version: Annotated[int, By(one_of(READABLE_VERSIONS))]
    created: str
    command: Texts
    environment: Environment
    dataset: Dataset
    detector: Detector
    settings: RunSettings
    counts: Counts
    shared_latency: Mapping[str, StageTimes]
    estimators: Annotated[
        tuple[Annotated[Estimator, By(_read_estimator)], ...], AtMost(MOST_ESTIMATORS)
    ]
    pictures: Annotated[Sequence[Picture], By(decoder(tuple[Picture, ...]))]
    predictions_sha256: str | None = None
    analysis: Analysis | None = None
    timing: Timing | None = None
