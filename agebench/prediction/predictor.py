"""Predicts ages for pictures: detector, crops and estimators in one object."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np

from agebench.errors import AgebenchError, UsageError, error_text
from agebench.estimators.answers import AnswersFile
from agebench.metrics.calibration import central_interval, year_probabilities
from agebench.prediction.records import (
    INTERVAL_LEVEL,
    AgeAnswer,
    PredictedFace,
    PredictedPicture,
)
from agebench.prediction.tiles import detect_in_tiles
from agebench.protocols import Estimator, FaceDetector
from agebench.references import called
from agebench.registry.defaults import PREDICT_ESTIMATOR, best_detector, own_detector
from agebench.registry.plugins import (
    DETECTORS,
    ESTIMATORS,
    named_detector,
    named_estimator,
    require_registered,
)
from agebench.types import AgePrediction, Crops, CropSpec, Face, FaceFrame, Image
from agebench.util.foreign_code import foreign_code, found_faces, predicted_ages
from agebench.vision.crops import cut_crops
from agebench.vision.faces import LeftOutError, cut_faces, find_faces, left_out
from agebench.vision.frames import canonical_frame
from agebench.vision.images import MAX_PIXELS, Channels, Picture, require_channels, to_image
from agebench.vision.regions import require_regions

FACES_AT_ONCE = 256
"""Limit of the faces of one picture whose crops are in memory at the same time."""


class AgePredictor:
    """Finds all faces in pictures and predicts their ages.

    Models are loaded by the constructor.  Methods may be called from several threads.

    Args:
        estimators: one or several, by name (``"hse-mobilenet"``) or as objects; None uses
            `agebench.registry.defaults.PREDICT_ESTIMATOR`.
        detector: by name or as an object, and is then never replaced; None uses the best one
            available, and `detector_note` says which and why.
        channels: order of the channels of arrays, "bgr" or "rgb".
        max_pixels: larger picture files are refused.
        tiles: also search parts of large pictures (`agebench.prediction.tiles`); None does so
            if no detector was named.

    Raises:
        UsageError: an unknown name or option, an estimator given twice, or something that is not
            an estimator, or `max_pixels` below 1.
        WeightsUnavailableError: a model file is not available.

    >>> import numpy as np
    >>> predictor = AgePredictor("constant years=30", detector="haar")
    >>> [len(picture.faces) for picture in predictor.predict([np.zeros((64, 64, 3), np.uint8)])]
    [0]
    """

    def __init__(
        self,
        estimators: str | Estimator | Sequence[str | Estimator] | None = None,
        *,
        detector: str | FaceDetector | None = None,
        channels: Channels = "bgr",
        max_pixels: int = MAX_PIXELS,
        tiles: bool | None = None,
    ) -> None:
        require_channels(channels)
        if max_pixels < 1:
            raise UsageError(f"max_pixels must be at least 1, got {max_pixels}")
        listed = _listed(estimators)
        for item in listed:
            if isinstance(item, str):
                require_registered(ESTIMATORS, item)
        if isinstance(detector, str):
            require_registered(DETECTORS, detector)
        self._estimators = dict(map(_loaded, listed))
        if len(self._estimators) != len(listed):
            raise UsageError("an estimator is given twice: name each once")
        self.tiles = detector is None if tiles is None else tiles
        wanted, why = own_detector(detector, [each.spec for each in self._estimators.values()])
        found = best_detector() if wanted is None else (*named_detector(wanted), "")
        self.detector_reference, self._detector, note = found
        self.detector_note = note or why
        self._detector_name = detector_label(self.detector_reference, tiles=self.tiles)
        self._channels = channels
        self._max_pixels = max_pixels

    @property
    def estimators(self) -> Mapping[str, Estimator]:
        """The estimators by their name in the results."""
        return dict(self._estimators)

    @property
    def detector(self) -> FaceDetector:
        """The face detector in use."""
        return self._detector

    @property
    def detector_name(self) -> str:
        """The detector's name in the results: its reference, and whether tiles are used."""
        return self._detector_name

    def predict(self, pictures: Iterable[Picture]) -> list[PredictedPicture]:
        """Return one result per picture, in order.

        If a picture can't be read or processed, or is not a picture, its `status` is not "ok" and
        its `reason` says why; the other pictures are processed.

        Raises:
            UsageError: a single picture instead of a list.
        """
        single = cast("object", pictures)
        if isinstance(single, (str, bytes, Path, np.ndarray)) or not isinstance(single, Iterable):
            raise UsageError(
                f"expected a list of pictures, got {type(single).__name__}: put it into a list, "
                "or call predict_one"
            )
        return [self._answer(picture) for picture in pictures]

    def predict_one(
        self,
        picture: Picture,
        name: str | None = None,
        keep: Callable[[Image], None] | None = None,
    ) -> PredictedPicture:
        """Return the result for one picture.

        Args:
            picture: see `to_image`.
            name: of the picture in the result; default: its path.
            keep: called with the decoded picture, for drawing.

        Raises:
            UsageError: it is not a picture (see `to_image`).
        """
        return self._answer(picture, name, keep, UsageError)

    def _answer(
        self,
        picture: Picture,
        name: str | None = None,
        keep: Callable[[Image], None] | None = None,
        *fatal: type[Exception],
    ) -> PredictedPicture:
        """Return the result for one picture; `fatal` are raised and are no status of it."""
        if name is None:
            name = str(picture) if isinstance(picture, (str, Path)) else ""
        times: dict[str, float] = {}
        try:
            with left_out("unreadable", *fatal), _timed(times, "decode"):
                image = to_image(
                    picture, channels=self._channels, max_pixels=self._max_pixels, name=name
                )
        except LeftOutError as error:
            return self._failed(name, error, times)
        if keep is not None:
            keep(image)
        return self.predict_image(image, name, times)

    def predict_image(
        self, image_bgr: Image, name: str = "", times: dict[str, float] | None = None
    ) -> PredictedPicture:
        """Return the result for a decoded picture, uint8 (height, width, 3), B, G, R."""
        times = {} if times is None else times
        find = detect_in_tiles if self.tiles else found_faces
        try:
            with _timed(times, "detect"):
                seen = find_faces(self._detector, image_bgr, every=True, find=find)
            ages = self.ages_of(image_bgr, seen.frames, times)
        except LeftOutError as error:
            return self._failed(name, error, times)
        found = tuple(
            PredictedFace(face, {name: answers[index] for name, answers in ages.items()})
            for index, face in enumerate(seen.faces)
        )
        height, width = image_bgr.shape[:2]
        reason = _why_no_age(found)
        return PredictedPicture(
            name,
            self._detector_name,
            tuple(self._estimators),
            (height, width),
            found,
            status="estimator_failed" if reason else "ok",
            reason=reason,
            stage_ms=times,
        )

    def ages_of(
        self, image_bgr: Image, frames: Sequence[FaceFrame], times: dict[str, float] | None = None
    ) -> dict[str, list[AgeAnswer]]:
        """Return each estimator's answer for each face, in the order of `frames`.

        Raises:
            LeftOutError: the crops can't be cut from a picture of this shape.
        """
        times = {} if times is None else times
        answers: dict[str, list[AgeAnswer]] = {name: [] for name in self._estimators}
        specs = [estimator.spec.crop for estimator in self._estimators.values()]
        for start in range(0, max(1, len(frames)), FACES_AT_ONCE):
            chunk = frames[start : start + FACES_AT_ONCE]
            with _timed(times, "crop"):
                cut = cut_faces(image_bgr, chunk, specs)
            for (name, estimator), crops in zip(self._estimators.items(), cut, strict=True):
                with _timed(times, "infer"):
                    answers[name] += ask(estimator, crops)
        return answers

    def crops_of(self, image_bgr: Image, faces: Sequence[Face], spec: CropSpec) -> Crops:
        """Return the crops of faces according to an estimator's `spec`."""
        frames = [canonical_frame(face, self._detector.spec) for face in faces]
        return cut_crops(image_bgr, frames, spec)

    def _failed(self, name: str, error: LeftOutError, times: dict[str, float]) -> PredictedPicture:
        return PredictedPicture(
            name,
            self._detector_name,
            tuple(self._estimators),
            status=error.status,
            reason=str(error).removeprefix(f"{name}: "),
            stage_ms=times,
        )


def _why_no_age(faces: Sequence[PredictedFace]) -> str:
    """Return the first reason if no face has an age from any estimator, otherwise ""."""
    answers = [answer for face in faces for answer in face.ages.values()]
    if not answers or any(answer.years is not None for answer in answers):
        return ""
    return f"no estimator gave an age for any face: {answers[0].reason}"


@contextmanager
def _timed(times: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        times[stage] = times.get(stage, 0.0) + (time.perf_counter() - start) * 1000


def detector_label(reference: str, *, tiles: bool) -> str:
    """Return a detector's name in the results.

    >>> detector_label("yunet", tiles=True)
    'yunet + tiles'
    """
    return f"{called(reference)} + tiles" if tiles else called(reference)


def _listed(estimators: object) -> list[str | Estimator]:
    if estimators is None:
        return [PREDICT_ESTIMATOR]
    if isinstance(estimators, (str, Estimator)) or not isinstance(estimators, Iterable):
        return [cast("str | Estimator", estimators)]  # whatever else it is, is refused later
    listed = list(estimators)
    if not listed:
        raise UsageError("no estimator was given ('agebench ls estimators' lists them)")
    return listed


def _loaded(item: str | Estimator) -> tuple[str, Estimator]:
    name, estimator = named_estimator(item)
    if isinstance(estimator, AnswersFile):
        estimator.refuse()
    require_regions(name, estimator.spec.crop)
    return name, estimator


def ask(estimator: Estimator, crops: Crops) -> list[AgeAnswer]:
    """Return one answer per face; if the estimator fails on one, the others still get an age."""
    count = len(crops)
    if count == 0:
        return []
    try:
        return _answers(estimator, crops)
    except Exception as error:  # third-party code, and one face may be the cause
        if count == 1:
            return [AgeAnswer(None, reason=error_text(error))]
    return [ask(estimator, crops.take(slice(row, row + 1)))[0] for row in range(count)]


def _answers(estimator: Estimator, crops: Crops) -> list[AgeAnswer]:
    predictions = predicted_ages(estimator, crops)
    return [AgeAnswer(float(one.years), interval_of(estimator, one)) for one in predictions]


def interval_of(estimator: Estimator, prediction: AgePrediction) -> tuple[float, float] | None:
    """Return the central 80 % interval of a distribution, years."""
    bins = estimator.spec.bins
    if bins is None or prediction.probabilities is None:
        return None
    by_year = year_probabilities(prediction.probabilities[None], bins)
    low, high = central_interval(np.cumsum(by_year, axis=1), INTERVAL_LEVEL)[0]
    return float(low), float(high)


def check_explainable(name: str, estimator: Estimator) -> None:
    """Check, on black crops, that an estimator works without each of its views.

    Raises:
        UsageError: it has a single view, or needs one of them.
    """
    spec = estimator.spec.crop
    if len(spec.views) < 2:
        (view,) = spec.views
        raise UsageError(
            f"explain (--explain) removes one view at a time, but {name!r} uses only {view!r}: "
            "name an estimator with several views, such as an exported multi-crop model (onnx:FILE)"
        )
    black = Crops(
        {view: np.zeros((1, *shape.size_hw, 3), np.uint8) for view, shape in spec.views.items()},
        {view: np.ones(1, np.bool_) for view in spec.views},
        {view: np.zeros(1) for view in spec.views},
    )
    for view in spec.views:
        try:
            with foreign_code(estimator, "predict"):
                estimator.predict(black.without(view))
        except AgebenchError as error:
            raise UsageError(
                f"explain (--explain) can't remove {view!r}: {name!r} needs it ({error})"
            ) from error


def moved_years(estimator: Estimator, crops: Crops) -> list[dict[str, float | None]]:
    """Return for each face by how many years each view changes the age.

    This is the age with all views minus the age without the view: above 0 if the view makes the
    person older.  None if the face lacks the view, or if there is no age without it.
    """
    whole = ask(estimator, crops)
    moved: list[dict[str, float | None]] = [{} for _ in whole]
    for view in estimator.spec.crop.views:
        for row, answer in enumerate(ask(estimator, crops.without(view))):
            with_all, without = whole[row].years, answer.years
            known = with_all is not None and without is not None and crops.present[view][row]
            moved[row][view] = with_all - without if known else None  # type: ignore[operator]  # both are known
    return moved
