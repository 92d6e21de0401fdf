"""External answers in a comparison: joined to the pictures and scored like any estimator's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from agebench.estimators.answers import AnswersFile
from agebench.harness.loading import Contender
from agebench.harness.records import ImageRecord, Outcome
from agebench.protocols import Dataset, FaceDetector
from agebench.timing.latency import StageTimes
from agebench.types import Box

UNSEEN = "no face is looked for: all answers are external, and no detector was named"
DETECTOR = "aligned"


def joined(contenders: Sequence[Contender], pictures: Dataset) -> list[Contender]:
    """Return the contenders, with external answers joined to the pictures."""
    return [
        replace(item, estimator=item.estimator.for_pictures(pictures.samples))
        if isinstance(item.estimator, AnswersFile)
        else item
        for item in contenders
    ]


def timed_here(contenders: Sequence[Contender]) -> list[Contender]:
    """Return the contenders that run here, without those that have external answers."""
    loaded = [item for item in contenders if item.estimator is not None]
    return [item for item in loaded if not isinstance(item.estimator, AnswersFile)]


def choose_unseen(
    contenders: Sequence[Contender], detector: str | FaceDetector | None
) -> tuple[str, str] | None:
    """Return the detector for a run of external answers only, and why; None if faces are needed."""
    loaded = [item.estimator for item in contenders if item.estimator is not None]
    if detector is None and loaded and all(isinstance(item, AnswersFile) for item in loaded):
        return DETECTOR, UNSEEN
    return None


def outcome_of(answers: AnswersFile, record: ImageRecord, face_xyxy: Box | None) -> Outcome:
    """Return the external answer for a picture."""
    found = answers.answer(record.sample, face_xyxy)
    if isinstance(found, str):
        return Outcome("estimator_failed", reason=found)
    ends = found.intervals
    return Outcome(
        "ok",
        found.years,
        interval_50=ends.get(50),
        interval_80=ends.get(80),
        interval_95=ends.get(95),
    )


def given_times(
    answers: AnswersFile, records: Iterable[ImageRecord], index: int
) -> dict[str, StageTimes]:
    """Return the times stated by the external answers, as stage "infer"; {} if there are none."""
    found = (
        answers.answer(item.sample, item.box_xyxy)
        for item in records
        if item.status_of(index) == "ok"
    )
    seconds = [
        item.seconds for item in found if not isinstance(item, str) and item.seconds is not None
    ]
    return {"infer": StageTimes(tuple(1e3 * value for value in seconds))} if seconds else {}
