"""Checks that a class fulfils the protocol `Estimator` or `FaceDetector`.

In the tests of a plug-in::

    from agebench.testing import check_estimator

    def test_contract():
        check_estimator(MyEstimator())

Each check raises `ContractError` with a sentence that says what was expected and what was got.
The checks use generated pictures only; they do not measure accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

import numpy as np

from agebench.errors import ContractError
from agebench.protocols import DetectorSpec, Estimator, EstimatorSpec, FaceDetector
from agebench.types import AgePrediction, Crops, CropSpec, Face, Image
from agebench.util.foreign_code import foreign_code

BATCH_TOLERANCE_YEARS = 0.01
"""A batch may differ from its faces one by one by this much: the order of sums differs."""

PROBABILITY_TOLERANCE = 1e-3
"""The same for probabilities."""

BOX_TOLERANCE_PX = 1e-3

THREADS = "from several threads (a lock around what isn't thread-safe helps)"
"""Name of the check that calls a plug-in from several threads at once."""

LARGE_BATCH = 33
"""Number of faces in the largest batch: more than in the harness's batches."""

_Item = TypeVar("_Item")
_Answer: TypeAlias = list[tuple[float, tuple[float, ...]]]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ContractError(message)


def _call(what: str, function: Callable[[], Sequence[_Item]]) -> Sequence[_Item]:
    """Call a method of a plug-in; any exception violates the protocol."""
    try:
        with foreign_code():
            answer = function()
            len(answer)
    except ContractError:
        raise
    except Exception as error:
        raise ContractError(f"{what} must not fail, got {type(error).__name__}: {error}") from error
    return answer


def generated_crops(spec: CropSpec, n: int, seed: int = 0) -> Crops:
    """Return crops of n generated faces: smooth blobs of colour, all different."""
    random = np.random.default_rng(seed)
    views = {}
    for name, view in spec.views.items():
        height, width = view.size_hw
        coarse = random.integers(0, 256, (n, 5, 5, 3))
        rows = np.linspace(0, 4, height).astype(np.intp)
        columns = np.linspace(0, 4, width).astype(np.intp)
        views[name] = np.ascontiguousarray(coarse[:, rows][:, :, columns].astype(np.uint8))
    present = {name: np.ones(n, np.bool_) for name in views}
    outside = {name: np.zeros(n, np.float64) for name in views}
    return Crops(views, present, outside)


def generated_picture(height: int, width: int, seed: int = 0) -> Image:
    """Return a picture without a face: uint8 (height, width, 3) of random blocks."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (8, 8, 3))
    rows = np.linspace(0, 7, height).astype(np.intp)
    columns = np.linspace(0, 7, width).astype(np.intp)
    return np.ascontiguousarray(coarse[rows][:, columns].astype(np.uint8))


def _check_estimator_spec(estimator: Estimator) -> EstimatorSpec:
    _require(isinstance(estimator, Estimator), "an estimator needs `spec` and `predict`")
    spec = estimator.spec
    _require(isinstance(spec, EstimatorSpec), f"spec must be an EstimatorSpec, got {type(spec)}")
    _require(bool(spec.name), "spec.name must not be empty")
    _require(bool(spec.decode), "spec.decode must say how years are computed")
    _require(estimator.spec == spec, "spec must not change from one reading to the next")
    if spec.classes is not None:
        _require(spec.bins is not None, "an estimator with classes needs bins")
    return spec


def _ask(estimator: Estimator, crops: Crops, spec: EstimatorSpec) -> _Answer:
    """Return checked years and probabilities per face."""
    n = len(crops)
    predictions = _call(f"predict of {n} faces", lambda: estimator.predict(crops))
    _require(len(predictions) == n, f"{n} faces must give {n} predictions, got {len(predictions)}")
    for prediction in predictions:
        _require(
            isinstance(prediction, AgePrediction),
            f"predict must return AgePrediction values, got {type(prediction).__name__}",
        )
        _require(math.isfinite(prediction.years), f"years must be finite, got {prediction.years}")
        _check_distribution(prediction, spec)
    return [
        (item.years, () if item.probabilities is None else tuple(item.probabilities))
        for item in predictions
    ]


def _check_distribution(prediction: AgePrediction, spec: EstimatorSpec) -> None:
    if prediction.probabilities is None:
        _require(spec.bins is None, "spec.bins promises a distribution, the prediction has none")
        return
    _require(spec.bins is not None, "a prediction with probabilities needs spec.bins")
    expected = 0 if spec.bins is None else len(spec.bins)
    got = len(prediction.probabilities)
    _require(got == expected, f"expected {expected} probabilities (spec.bins), got {got}")


def _compare(name: str, got: _Answer, expected: _Answer) -> None:
    pairs = list(zip(got, expected, strict=True))
    worst = max(abs(first[0] - second[0]) for first, second in pairs)
    _require(
        worst <= BATCH_TOLERANCE_YEARS,
        f"{name}: ages differ by up to {worst:.4f} years, allowed: {BATCH_TOLERANCE_YEARS}",
    )
    probabilities = max(
        (abs(a - b) for first, second in pairs for a, b in zip(first[1], second[1], strict=True)),
        default=0.0,
    )
    _require(
        probabilities <= PROBABILITY_TOLERANCE,
        f"{name}: probabilities differ by up to {probabilities:.4f}, allowed: "
        f"{PROBABILITY_TOLERANCE}",
    )


def check_estimator(estimator: Estimator, *, seed: int = 0, large_batch: int = LARGE_BATCH) -> None:
    """Check everything that the `Estimator` protocol requires.

    The spec is complete and constant; zero faces give an empty result; n faces give n finite
    ages with distributions that fit the spec; a second call gives the same result; the order is
    kept; a batch, small or large, gives the same as its faces one by one; any one of several
    views may be missing; the crops are not changed; several threads get the same results as one.

    Args:
        estimator: what to check.
        seed: of the generated crops.
        large_batch: faces of the large batch: more than the estimator computes at once.

    Raises:
        ContractError: for the first requirement that is not met.
    """
    spec = _check_estimator_spec(estimator)
    _ask(estimator, generated_crops(spec.crop, 0), spec)
    crops = generated_crops(spec.crop, 5, seed)
    before = crops.take(np.arange(5))  # copies
    batch = _ask(estimator, crops, spec)
    _require_unchanged(crops, before)
    _compare("same crops again", _ask(estimator, crops, spec), batch)
    single = [_ask(estimator, crops.take(np.array([index])), spec)[0] for index in range(5)]
    _compare("one by one against a batch", single, batch)
    turned = _ask(estimator, crops.take(np.arange(5)[::-1]), spec)
    _compare("reversed order", turned[::-1], batch)
    many = np.resize(np.arange(5), large_batch)
    _compare("a large batch", _ask(estimator, crops.take(many), spec), [batch[at] for at in many])
    if len(spec.crop.views) > 1:
        for view in spec.crop.views:
            _ask(estimator, crops.without(view), spec)
    # Each thread passes different faces: the same ones would hide state that threads share.
    turns = [np.roll(np.arange(5), shift)[:2] for shift in range(8)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda turn: _ask(estimator, crops.take(turn), spec), turns))
    for turn, answer in zip(turns, answers, strict=True):
        _compare(THREADS, answer, [batch[index] for index in turn])
    _require(estimator.spec == spec, "predict must not change the spec")


def _require_unchanged(crops: Crops, before: Crops) -> None:
    for name in before.views:
        same = (
            np.array_equal(before.views[name], crops.views[name])
            and np.array_equal(before.present[name], crops.present[name])
            and np.array_equal(before.outside[name], crops.outside[name])
        )
        _require(same, f"predict changed the crops of {name!r}")


def _detect(detector: FaceDetector, picture: Image, spec: DetectorSpec) -> Sequence[Face]:
    height, width = picture.shape[:2]
    what = f"detect on a picture of {width}x{height} pixels"
    faces = _call(what, lambda: detector.detect(picture))
    _check_faces(faces, spec)
    return faces


def _check_faces(faces: Sequence[Face], spec: DetectorSpec) -> None:
    for face in faces:
        _require(isinstance(face, Face), f"detect must return Face values, got {type(face)}")
        _require(
            face.landmark_scheme in ("", spec.landmark_scheme),
            f"spec says landmarks {spec.landmark_scheme!r}, a face has {face.landmark_scheme!r}",
        )
    scores = [face.score for face in faces]
    _require(scores == sorted(scores, reverse=True), "faces must come with the best score first")


def _numbers(face: Face) -> list[float]:
    points = [value for point in face.landmarks_xy for value in point]
    return [*face.box_xyxy, face.score, *points]


def _boxes(faces: Sequence[Face]) -> list[tuple[float, ...]]:
    return [(*face.box_xyxy, face.score) for face in faces]


def _require_same(name: str, got: Sequence[Face], expected: Sequence[Face]) -> None:
    same = len(got) == len(expected) and all(
        len(first.landmarks_xy) == len(second.landmarks_xy)
        and np.allclose(_numbers(first), _numbers(second), rtol=0, atol=BOX_TOLERANCE_PX)
        for first, second in zip(got, expected, strict=True)
    )
    _require(same, f"{name}: expected {_boxes(expected)}, got {_boxes(got)}")


def check_detector(detector: FaceDetector, picture_bgr: Image | None = None) -> None:
    """Check everything that the `FaceDetector` protocol requires.

    The spec is complete and constant; pictures of any size from 1x1 and of any memory layout are
    accepted; the picture is not changed; faces come best first, with landmarks as in the spec;
    a second call and calls from several threads give the same result.

    Args:
        detector: what to check.
        picture_bgr: a picture with faces, uint8 (height, width, 3); a generated one without
            faces if not given.

    Raises:
        ContractError: for the first requirement that is not met.
    """
    _require(isinstance(detector, FaceDetector), "a detector needs `spec` and `detect`")
    spec = detector.spec
    _require(isinstance(spec, DetectorSpec), f"spec must be a DetectorSpec, got {type(spec)}")
    _require(bool(spec.name), "spec.name must not be empty")
    for height, width in ((1, 1), (1, 300), (300, 1), (17, 23), (480, 640)):
        _detect(detector, generated_picture(height, width), spec)
    picture = generated_picture(240, 320) if picture_bgr is None else picture_bgr
    before = picture.copy()
    faces = _detect(detector, picture, spec)
    _require(np.array_equal(before, picture), "detect changed the picture")
    _require_same("same picture again", _detect(detector, picture, spec), faces)
    framed = np.zeros((picture.shape[0], picture.shape[1] + 2, 3), np.uint8)
    framed[:, 1:-1] = picture
    _require_same("a view into a larger array", _detect(detector, framed[:, 1:-1], spec), faces)
    read_only = picture.copy()
    read_only.flags.writeable = False
    _require_same("a read-only picture", _detect(detector, read_only, spec), faces)
    # Threads with different pictures: the same one would hide state that threads share.
    other = generated_picture(picture.shape[0], picture.shape[1], seed=1)
    other[:, : picture.shape[1] // 2] = picture[:, : picture.shape[1] // 2]
    expected = (faces, _detect(detector, other, spec))
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(
            lambda number: _detect(detector, (picture, other)[number % 2], spec), range(8)
        )
        for number, answer in enumerate(answers):
            _require_same(THREADS, answer, expected[number % 2])
    _require(detector.spec == spec, "detect must not change the spec")
