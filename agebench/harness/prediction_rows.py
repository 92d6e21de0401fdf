"""predictions.csv: one row per picture and estimator, enough to recompute every error.

docs/result-schema.md explains the columns; benchmarks/recompute.py reads nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from agebench.harness.loading import Contender
from agebench.harness.records import ImageRecord, Outcome
from agebench.harness.scores import Score, age_for_class
from agebench.metrics.age_classes import class_of_age
from agebench.types import AgeBins, Sample
from agebench.util.arrays import Bools
from agebench.util.files import csv_line

INTERVALS = (50, 80, 95)

CSV_COLUMNS = (
    "picture",
    "estimator",
    "true_years",
    "true_range",
    "predicted_years",
    "status",
    "reason",
    "identity",
    "faces",
    "box_left",
    "box_top",
    "box_right",
    "box_bottom",
    "detector_score",
    "frame_from",
    "outside",
    "sha256",
    "common",
    "seen_in_training",
    "class_index",
    "class_years",
    "true_class_index",
    "nll",
    "crps_years",
    "pit",
    *(f"interval_{level}_{end}" for level in INTERVALS for end in ("low", "high")),
    "landmark_scheme",
    "landmarks_xy",
    "attributes",
)


class Scored(Protocol):
    """The part of `agebench.harness.results.EstimatorResult` that rows need."""

    @property
    def contender(self) -> Contender:
        """Name and estimator."""
        ...

    @property
    def score(self) -> Score | None:
        """Its figures."""
        ...


def prediction_lines(
    records: Iterable[ImageRecord], estimators: Sequence[Scored], common: Bools
) -> Iterator[str]:
    """Yield the lines of a table with one row per picture and available estimator, header first.

    Args:
        records: of all pictures.
        estimators: available ones come first.
        common: which pictures every ranked estimator gave an age for, shape (pictures,).
    """
    runnable = [item for item in estimators if item.contender.estimator is not None]
    rows = [_Rows(index, item) for index, item in enumerate(runnable)]
    yield csv_line(CSV_COLUMNS)
    for record, shared in zip(records, common.tolist(), strict=True):
        for row in rows:
            yield csv_line(row.cells(record, "yes" if shared else "no"))


class _Rows:
    """The rows of one estimator."""

    def __init__(self, index: int, item: Scored) -> None:
        self._index = index
        self._name = item.contender.name
        estimator = item.contender.estimator
        self._classes = None if estimator is None else estimator.spec.classes
        seen = None if item.score is None else item.score.seen_in_training
        self._seen = None if seen is None else frozenset(seen)
        near = None if item.score is None else item.score.near_copies
        self._near = frozenset(() if near is None else near.names)

    def cells(self, record: ImageRecord, common: str) -> list[object]:
        sample, outcome = record.sample, record.outcomes.get(self._index)
        return [
            *self._prediction(record, outcome),
            common,
            self._trained_on(record),
            *_class_cells(sample, outcome, self._classes),
            *_distribution_cells(outcome),
            record.landmark_scheme,
            " ".join(repr(float(value)) for point in record.landmarks_xy for value in point),
            json.dumps(dict(sample.attributes), sort_keys=True) if sample.attributes else "",
        ]

    def _prediction(self, record: ImageRecord, outcome: Outcome | None) -> list[object]:
        sample = record.sample
        bounds = "" if sample.age_range is None else f"{sample.age_range[0]}-{sample.age_range[1]}"
        return [
            sample.name,
            self._name,
            sample.age_years,
            bounds,
            None if outcome is None else outcome.years,
            record.status_of(self._index),
            record.reason or (outcome.reason if outcome else ""),
            sample.identity,
            record.faces,
            *(record.box_xyxy or ("", "", "", "")),
            record.score,
            record.frame_from,
            None if outcome is None else outcome.outside,
            record.sha256,
        ]

    def _trained_on(self, record: ImageRecord) -> str:
        if self._seen is None or record.status_of(self._index) != "ok":
            return ""
        if record.sample.name in self._seen:
            return "yes"
        return "near" if record.sample.name in self._near else "no"


def _class_cells(
    sample: Sample, outcome: Outcome | None, classes: AgeBins | None
) -> tuple[object, object, object]:
    """Return the predicted class and its years, and the class of the true age; -1 for a gap."""
    if classes is None:
        return None, None, None
    predicted = None if outcome is None else outcome.class_index
    years = None if predicted is None else f"{classes.lows[predicted]}-{classes.highs[predicted]}"
    age = age_for_class(sample, classes)
    return predicted, years, None if age is None else int(class_of_age([age], classes)[0])


def _distribution_cells(outcome: Outcome | None) -> list[object]:
    if outcome is None:
        return [None] * (3 + 2 * len(INTERVALS))
    ends = (outcome.interval_50, outcome.interval_80, outcome.interval_95)
    figures = (outcome.nll, outcome.crps_years, outcome.pit)
    return [*figures, *(end for pair in ends for end in pair or (None, None))]
