"""From records to figures: every estimator scored on the same pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agebench.bench.near_copies import NearCopies
from agebench.bench.records import ImageRecord
from agebench.buckets import class_of_age
from agebench.datasets.training_hashes import TrainingHashes
from agebench.intervals import people_in
from agebench.metrics import (
    ClassAccuracy,
    ErrorSummary,
    class_accuracy,
    common_pictures,
    distance_to_range,
    range_hit,
    summarise,
)
from agebench.types import AgeBins, Sample

CLIPPED_SHARE = 0.05
"""A crop with more than this share outside the picture is counted as clipped."""


@dataclass(frozen=True, slots=True)
class RangeScore:
    """Against labels that are age ranges: share inside, and mean years to the range."""

    n: int
    hit_rate: float
    distance_years: float
    people: int | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """The figures of one estimator.

    Attributes:
        errors: over the common subset, the pictures that every ranked estimator gave an age for;
            empty for one that gave an age for too few pictures to be ranked.
        own_errors: over all pictures that this estimator gave an age for.
        scored: number of pictures with an age.
        missed: number of pictures without a face.
        failed: number of pictures that could not be read, or that detector or estimator failed on.
        clipped: scored pictures of which a crop lies more than `CLIPPED_SHARE` outside.
        classes: class accuracy over the common subset, where a label that is a range counts if it
            lies in one class; None for estimators without classes.
        ranges: against range labels; None where the data set has none.
        seen_in_training: names of the scored pictures that it was trained on; None where it does
            not know.
        near_copies: the scored pictures of which it was trained on a near copy, but not on the same
            bytes; None where what its training pictures look like is not known.
    """

    errors: ErrorSummary
    own_errors: ErrorSummary
    scored: int
    missed: int
    failed: int
    clipped: int
    classes: ClassAccuracy | None
    ranges: RangeScore | None
    seen_in_training: tuple[str, ...] | None = None
    near_copies: NearCopies | None = None

    @property
    def known_from_training(self) -> frozenset[str]:
        """Names of the scored pictures that it was trained on, or on near copies of."""
        near = () if self.near_copies is None else self.near_copies.names
        return frozenset((*(self.seen_in_training or ()), *near))


def common_subset(records: Sequence[ImageRecord], estimators: int) -> list[ImageRecord]:
    """Return the pictures that every ranked estimator gave an age for.

    One that gave an age for few of them does not shrink the subset; see
    `agebench.metrics.common_pictures`.
    """
    answered = np.array(
        [[record.status_of(index) == "ok" for record in records] for index in range(estimators)]
    ).reshape(estimators, len(records))
    _, common = common_pictures(answered)
    return [records[row] for row in np.flatnonzero(common).tolist()]


def _everywhere(records: Sequence[ImageRecord], index: int) -> bool:
    """Whether the estimator gave an age for all of them: one that stands apart did not."""
    return all(record.status_of(index) == "ok" for record in records)


def _identities(records: Sequence[ImageRecord]) -> list[str | None] | None:
    identities = [record.sample.identity for record in records]
    return identities if any(name is not None for name in identities) else None


def _errors(records: Sequence[ImageRecord], index: int) -> ErrorSummary:
    scored = [
        record
        for record in records
        if record.status_of(index) == "ok" and record.sample.age_years is not None
    ]
    true = [record.sample.age_years or 0.0 for record in scored]
    predicted = [record.outcomes[index].years or 0.0 for record in scored]
    return summarise(true, predicted, clusters=_identities(scored))


def age_for_class(sample: Sample, classes: AgeBins) -> float | None:
    """Return an age of the sample's true class; None where a range fits in no one class."""
    if sample.age_years is not None or sample.age_range is None:
        return sample.age_years
    first, last = class_of_age(sample.age_range, classes).tolist()
    return float(sample.age_range[0]) if first == last >= 0 else None


def _classes(
    records: Sequence[ImageRecord], index: int, classes: AgeBins | None
) -> ClassAccuracy | None:
    if classes is None:
        return None
    true, given, people = [], [], []
    for record in records:
        outcome = record.outcomes.get(index)
        age = age_for_class(record.sample, classes)
        if age is not None and outcome is not None and outcome.status == "ok":
            true.append(age)
            given.append(-1 if outcome.class_index is None else outcome.class_index)
            people.append(record.sample.identity)
    return class_accuracy(true, given, classes, people)


def _ranges(records: Sequence[ImageRecord], index: int) -> RangeScore | None:
    scored = [
        record
        for record in records
        if record.sample.age_range is not None and record.status_of(index) == "ok"
    ]
    if not scored:
        return None
    ranges = np.array([record.sample.age_range for record in scored], dtype=np.float64)
    years = np.array([record.outcomes[index].years for record in scored], dtype=np.float64)
    hits, distances = range_hit(ranges, years), distance_to_range(ranges, years)
    people = people_in([record.sample.identity for record in scored])
    return RangeScore(len(scored), float(hits.mean()), float(distances.mean()), people)


def _seen(
    records: Sequence[ImageRecord], index: int, trained: TrainingHashes | None
) -> tuple[str, ...] | None:
    if trained is None:
        return None
    return tuple(
        record.sample.name
        for record in records
        if record.status_of(index) == "ok" and trained.contains(record.sha256)
    )


def _scored_only(records: Sequence[ImageRecord], index: int, near: NearCopies) -> NearCopies:
    scored = {record.sample.name for record in records if record.status_of(index) == "ok"}
    return replace(near, names=tuple(name for name in near.names if name in scored))


def score_estimator(
    records: Sequence[ImageRecord],
    common: Sequence[ImageRecord],
    index: int,
    classes: AgeBins | None,
    trained: TrainingHashes | None = None,
    near: NearCopies | None = None,
) -> Score:
    """Compute all figures of the estimator at position `index`.

    Pictures that it was `trained` on are scored, and listed in `Score.seen_in_training`.
    """
    counts = Counter(record.status_of(index) for record in records)
    clipped = sum(
        record.outcomes[index].outside > CLIPPED_SHARE
        for record in records
        if record.status_of(index) == "ok"
    )
    ranked = common if _everywhere(common, index) else ()
    return Score(
        errors=_errors(ranked, index),
        own_errors=_errors(records, index),
        scored=counts["ok"],
        missed=counts["no_face"],
        failed=sum(n for status, n in counts.items() if status not in ("ok", "no_face")),
        clipped=clipped,
        classes=_classes(ranked, index, classes),
        ranges=_ranges(ranked, index),
        seen_in_training=_seen(records, index, trained),
        near_copies=None if near is None else _scored_only(records, index, near),
    )
