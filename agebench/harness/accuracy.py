"""The accuracy pass: detection once per picture, every estimator on the same faces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from agebench.errors import error_text
from agebench.estimators.answers import AnswersFile
from agebench.harness.distributions import score_predictions
from agebench.harness.kept_detections import KeptDetections
from agebench.harness.outside_answers import outcome_of
from agebench.harness.records import ImageRecord, Outcome
from agebench.metrics.age_classes import class_probabilities
from agebench.protocols import Estimator, EstimatorSpec, FaceDetector, ProgressStep, no_progress
from agebench.timing.stage_seconds import StageSeconds
from agebench.types import AgePrediction, Crops, CropSpec, Face, Image, Sample
from agebench.util.foreign_code import found_faces, predicted_ages
from agebench.vision.faces import Change, FacePicture, face_pictures
from agebench.vision.variants import Variant

MOST_WAITING = 1024
"""Most pictures in a group, reached if few of them have a face."""


@dataclass(frozen=True, slots=True)
class PassSettings:
    """Settings of the accuracy pass; only `variant` affects predictions.

    Attributes:
        batch_size: faces per call of an estimator.
        decode_threads: threads that decode ahead; 0 decodes in the main thread.
        max_pixels: larger pictures are refused.
        detections: of earlier runs, to be used and extended; None to keep none.
        variant: how each picture is changed after its face was found; None for no change.
        seed: for the random numbers of a variant.
        seconds: where processor time is added up.
    """

    batch_size: int
    decode_threads: int
    max_pixels: int
    detections: KeptDetections | None = None
    variant: Variant | None = None
    seed: int = 0
    seconds: StageSeconds = field(default_factory=StageSeconds)

    def find(self, detector: FaceDetector, sha256: str, image_bgr: Image) -> Sequence[Face]:
        """Return the faces of a picture, stored ones if there are any."""
        with self.seconds.spent_on("detect"):
            if self.detections is None:
                return found_faces(detector, image_bgr)
            return self.detections.find(detector, sha256, image_bgr)

    @property
    def change(self) -> Change | None:
        """Return the picture and frame as changed by the variant; None for no variant."""
        variant = self.variant
        if variant is None:
            return None
        return lambda sample, image_bgr, frame: variant.apply(
            image_bgr, frame, sample.name, self.seed
        )


def predicted_class(prediction: AgePrediction, spec: EstimatorSpec) -> int | None:
    """Return the most probable of the estimator's classes, or None where it has none."""
    if spec.classes is None or spec.bins is None or prediction.probabilities is None:
        return None
    probabilities = prediction.probabilities[None, :]
    if spec.bins != spec.classes:
        return int(class_probabilities(probabilities, spec.bins, spec.classes).most_probable[0])
    return int(np.argmax(probabilities[0]))


class _Queue:
    """Faces waiting to fill one estimator's batch."""

    def __init__(self, index: int, estimator: Estimator, batch_size: int) -> None:
        self._index = index
        self._estimator = estimator
        self._spec = estimator.spec
        self._batch_size = batch_size
        self._crops: list[Crops] = []
        self._records: list[ImageRecord] = []

    @property
    def index(self) -> int:
        return self._index

    @property
    def crop_spec(self) -> CropSpec:
        return self._spec.crop

    def add(self, record: ImageRecord, crops: Crops) -> None:
        self._crops.append(crops)
        self._records.append(record)

    @property
    def full(self) -> bool:
        return len(self._records) >= self._batch_size

    def flush(self) -> None:
        """Predict the waiting faces; if that fails, one by one, to isolate the face that fails."""
        if not self._records:
            return
        outcomes = self._predict(self._records, self._crops)
        if len(outcomes) > 1 and all(item.status == "estimator_failed" for item in outcomes):
            waiting = zip(self._records, self._crops, strict=True)
            outcomes = [self._predict([record], [crops])[0] for record, crops in waiting]
        for record, outcome in zip(self._records, outcomes, strict=True):
            record.outcomes[self._index] = outcome
        self._crops, self._records = [], []

    def _predict(self, records: Sequence[ImageRecord], waiting: Sequence[Crops]) -> list[Outcome]:
        try:
            predictions = predicted_ages(self._estimator, Crops.join(waiting))
            scores = score_predictions(predictions, records, self._spec.bins)
            return [
                Outcome(
                    "ok",
                    float(prediction.years),
                    predicted_class(prediction, self._spec),
                    _outside(crops),
                    **score,
                )
                for prediction, crops, score in zip(predictions, waiting, scores, strict=True)
            ]
        except Exception as error:  # a foreign estimator may fail in any way
            return [Outcome("estimator_failed", reason=error_text(error))] * len(waiting)


def _outside(crops: Crops) -> float:
    return max(float(outside[0]) for outside in crops.outside.values())


def _note(
    picture: FacePicture, queues: Sequence[_Queue], outside: Mapping[int, AnswersFile]
) -> ImageRecord:
    """Start a picture's record and put its crops into the queues."""
    record = ImageRecord(picture.sample, picture.status, picture.decoded.sha256, picture.found)
    record.reason = picture.reason
    face, frame = picture.face, picture.frame
    if face is not None and frame is not None:
        record.box_xyxy, record.score, record.frame_from = face.box_xyxy, face.score, frame.found_by
        record.landmarks_xy, record.landmark_scheme = face.landmarks_xy, face.landmark_scheme
    asked = queues if picture.crops else ()
    for queue, crops in zip(asked, picture.crops, strict=True):
        missing = [name for name, flags in crops.present.items() if not flags[0]]
        if len(missing) == len(crops.views):
            reason = f"no view could be cut: {', '.join(missing)}"
            record.outcomes[queue.index] = Outcome("missing_view", reason=reason)
        else:
            queue.add(record, crops)
    if record.status == "ok":
        if face is None:  # no estimator needed one
            record.box_xyxy = record.sample.box_xyxy
        for index, answers in outside.items():
            record.outcomes[index] = outcome_of(answers, record, record.box_xyxy)
    return record


def run_accuracy(
    samples: Sequence[Sample],
    detector: FaceDetector | None,
    estimators: Sequence[Estimator],
    settings: PassSettings,
    progress: ProgressStep = no_progress,
    look: Callable[[ImageRecord, Image], None] | None = None,
    *,
    done: int = 0,
) -> Iterator[list[ImageRecord]]:
    """Ask every estimator for the age of the largest face of every picture.

    Records are yielded in order, in groups after which no face is waiting: a pass that is resumed
    after a group predicts the same batches as an uninterrupted one.

    Args:
        samples: the pictures.
        detector: None looks for no faces, which suffices for external answers alone.
        estimators: external answers are looked up.
        settings: of the pass.
        progress: called after every picture.
        look: called with every decoded picture.
        done: number of pictures to skip at the start.
    """
    outside = {
        index: estimator
        for index, estimator in enumerate(estimators)
        if isinstance(estimator, AnswersFile)
    }
    queues = [
        _Queue(index, estimator, settings.batch_size)
        for index, estimator in enumerate(estimators)
        if index not in outside
    ]
    group: list[ImageRecord] = []
    pictures = face_pictures(
        islice(samples, done, None),
        detector,
        [queue.crop_spec for queue in queues],
        workers=settings.decode_threads,
        max_pixels=settings.max_pixels,
        find=settings.find,
        change=settings.change,
    )
    seconds = settings.seconds
    for number, picture in enumerate(_measured(pictures, settings), start=done + 1):
        record = _note(picture, queues, outside)
        group.append(record)
        if look is not None and picture.image_bgr is not None:
            with seconds.spent_on("near copies"):
                look(record, picture.image_bgr)
        progress("accuracy", number, len(samples))
        if len(group) >= MOST_WAITING or any(queue.full for queue in queues):
            yield _answered(group, queues, seconds)
            group = []
    if group:
        yield _answered(group, queues, seconds)
    if settings.detections is not None:
        settings.detections.save()


def _measured(pictures: Iterator[FacePicture], settings: PassSettings) -> Iterator[FacePicture]:
    """Yield pictures; the time to decode, detect and crop is added to the settings' seconds."""
    seconds, picture = settings.seconds, None
    while True:
        with seconds.spent_on("crop"):
            picture = next(pictures, None)
            if picture is not None:
                seconds.add("decode", picture.decoded.seconds, inside=settings.decode_threads == 0)
        if picture is None:
            return
        yield picture


def _answered(
    group: list[ImageRecord], queues: Sequence[_Queue], seconds: StageSeconds
) -> list[ImageRecord]:
    with seconds.spent_on("infer"):
        for queue in queues:
            queue.flush()
    return group
