"""The result of a comparison, and how it is written down.

``result.json`` holds everything, unrounded; docs/result-schema.md describes it and
``result.schema.json`` beside this file checks it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agebench.bench.latency import Latency, StageTimes, stages_json
from agebench.bench.loading import Contender, reads_back_its_runtime
from agebench.bench.part_scores import PartError, PartScores
from agebench.bench.prediction_rows import predictions_csv
from agebench.bench.records import ImageRecord
from agebench.bench.scores import Score
from agebench.bench.timing import Timing
from agebench.errors import AgebenchError
from agebench.files import gone_if_empty, write_together
from agebench.locks import alone_in
from agebench.metrics import ErrorSummary
from agebench.places import without_home
from agebench.types import plain

SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, SCHEMA_VERSION)
"""Older files are read as they are; docs/result-schema.md says what changed."""
RESULT_FILE = "result.json"
PREDICTIONS_FILE = "predictions.csv"


@dataclass(frozen=True, slots=True)
class EstimatorResult:
    """One estimator's part of the result.

    Attributes:
        contender: name and estimator.
        score: None where it was unavailable.
        latency: times by stage; empty where nothing was timed.
        parts: its error over the pictures that it has not seen, and over those not clipped.
        contamination: why nothing is decided for or against it; "" where nothing speaks for that.
    """

    contender: Contender
    score: Score | None
    latency: Mapping[str, StageTimes]
    parts: PartScores = field(default_factory=PartScores)
    contamination: str = ""

    @property
    def name(self) -> str:
        """What it is called in the result."""
        return self.contender.name

    @property
    def mae_years(self) -> float | None:
        """Mean absolute error over the common subset; None where there is none."""
        return None if self.score is None else self.score.errors.mae_years


@dataclass(frozen=True, slots=True)
class CompareResult:
    """All figures of one comparison.

    Attributes:
        estimators: in the order given.
        records: one per picture, in the order of their names.
        common: number of pictures that every estimator gave an age for.
        latency: of the stages that all share; None where timing was left out.
        about: how it was made: versions, machine, command, data set, detector, settings.
        analysis: what `agebench.bench.analysis.analyse` found; None before it has been asked.
        timing: who is faster; None where timing was left out.
    """

    estimators: tuple[EstimatorResult, ...]
    records: Sequence[ImageRecord]
    common: int
    latency: Latency | None
    about: Mapping[str, Any]
    analysis: Mapping[str, Any] | None = None
    timing: Timing | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the whole result as what JSON can hold; see docs/result-schema.md."""
        shared = {} if self.latency is None else self.latency.shared
        return {
            "schema_version": SCHEMA_VERSION,
            **plain(self.about),
            "pictures": {
                "total": len(self.records),
                "common_subset": self.common,
                "several_faces": sum(record.faces > 1 for record in self.records),
            },
            "shared_latency": stages_json(shared),
            "timing": None if self.timing is None else self.timing.to_json(),
            "estimators": [_estimator_json(item) for item in self.estimators],
            "analysis": self.analysis,
            "images": [_image_json(record, self.estimators) for record in self.records],
        }

    def save(self, folder: str | Path) -> Path:
        """Write result.json and predictions.csv into `folder`; return the former's path.

        Each file appears whole or not at all, and the result holds the hash of the table.

        Raises:
            AgebenchError: the folder can't be written to.
        """
        target = Path(folder)
        table = predictions_csv(self.records, self.estimators)
        content = self.to_json()
        content["predictions_sha256"] = hashlib.sha256(table.encode()).hexdigest()
        try:
            text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise AgebenchError(
                f"{RESULT_FILE} not written: a setting or figure is no finite number ({error})"
            ) from error
        # A path that is no valid Unicode is written as escapes, which JSON reads back.
        whole = (text + "\n").encode("utf-8", "backslashreplace")
        write_together([(target / PREDICTIONS_FILE, table), (target / RESULT_FILE, whole)])
        return target / RESULT_FILE


def _errors_json(errors: ErrorSummary) -> dict[str, Any]:
    interval = errors.mae_interval
    content: dict[str, Any] = plain(errors)
    content["mae_interval"] = None if interval is None else [interval.low, interval.high]
    for part, decade in zip(content["by_decade"], errors.by_decade, strict=True):
        bounds = decade.mae_interval
        part["mae_interval"] = None if bounds is None else [bounds.low, bounds.high]
    return content


def _part_json(part: PartError | None) -> dict[str, Any] | None:
    if part is None:
        return None
    interval = part.mae_interval
    ends = None if interval is None else [interval.low, interval.high]
    return {
        "n": part.n,
        "people": part.people,
        "mae_years": part.mae_years,
        "mae_interval": ends,
    }


def _estimator_json(item: EstimatorResult) -> dict[str, Any]:
    estimator, score = item.contender.estimator, item.score
    content: dict[str, Any] = {
        "name": item.name,
        "available": estimator is not None,
        "unavailable_reason": without_home(item.contender.reason),
        "mae_years": item.mae_years,
        "spec": None if estimator is None else plain(estimator.spec),
        "latency": stages_json(item.latency),
    }
    if score is not None:
        content |= {
            "scored": score.scored,
            "missed": score.missed,
            "failed": score.failed,
            "clipped": score.clipped,
            "errors": _errors_json(score.errors),
            "own_errors": _errors_json(score.own_errors),
            "classes": plain(score.classes),
            "ranges": plain(score.ranges),
            "seen_in_training": _seen_json(item),
            "contamination": item.contamination or None,
            "unseen_errors": _part_json(item.parts.unseen),
            "unclipped_errors": _part_json(item.parts.unclipped),
            "runtime_proven": reads_back_its_runtime(estimator),
        }
    return content


def _seen_json(item: EstimatorResult) -> dict[str, Any] | None:
    """Scored pictures that the estimator was trained on; None where it does not know."""
    trained, score = item.contender.trained, item.score
    if trained is None or score is None or score.seen_in_training is None:
        return None
    seen = list(score.seen_in_training)
    near = score.near_copies
    copies = None
    if near is not None:
        copies = {
            "count": len(near.names),
            "images": list(near.names),
            "compared_by_pixels": near.by_pixels,
        }
    return {"what": trained.what, "count": len(seen), "images": seen, "near_copies": copies}


def _image_json(record: ImageRecord, estimators: Sequence[EstimatorResult]) -> dict[str, Any]:
    sample = record.sample
    return {
        "image": sample.name,
        "sha256": record.sha256,
        "true_years": sample.age_years,
        "true_range": plain(sample.age_range),
        "identity": sample.identity,
        "attributes": plain(sample.attributes),
        "status": record.status,
        "reason": record.reason,
        "faces": record.faces,
        "box_xyxy": plain(record.box_xyxy),
        "detector_score": record.score,
        "landmarks_xy": plain(record.landmarks_xy),
        "landmark_scheme": record.landmark_scheme,
        "frame_from": record.frame_from,
        "predictions": {
            estimators[index].name: plain(outcome)
            for index, outcome in sorted(record.outcomes.items())
        },
    }


@contextmanager
def output_folder(out: str | Path | None) -> Iterator[None]:
    """Prepare a folder for what is made inside; on failure it goes again if it is new and empty.

    Raises:
        AgebenchError: it can't be made or written to, or another run is at work in it.
    """
    with gone_if_empty(out), ExitStack() as stack:
        if out is not None:
            prepare_folder(Path(out))
            stack.enter_context(alone_in(Path(out)))
        yield


def prepare_folder(folder: Path) -> None:
    """Make the output folder and prove that it can be written to, before anything long begins.

    Raises:
        AgebenchError: it can't be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        in_the_way = [name for name in (RESULT_FILE, PREDICTIONS_FILE) if (folder / name).is_dir()]
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise AgebenchError(
            f"the output folder {folder} can't be written to: {reason}; give another one with --out"
        ) from error
    if in_the_way:
        raise AgebenchError(
            f"the output folder {folder} holds a folder named {in_the_way[0]}: "
            "give another one with --out"
        )
