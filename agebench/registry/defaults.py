"""What is measured, on what and how faces are found, where the user says nothing of it."""

from __future__ import annotations

from collections.abc import Iterable

from agebench.errors import AgebenchError, UsageError, WeightsError
from agebench.protocols import DatasetSpec, EstimatorSpec, FaceDetector
from agebench.references import parse_reference
from agebench.registry.plugins import load_detector

ESTIMATORS = ("multicrop-resnet", "multicrop-resnet-small", "caffe-age-net-utkface", "constant")
"""What `agebench compare` measures where no estimator is named."""

DATASET = "sample"
"""What it measures them on where no data set is named: composites that come with the package."""

DEMO_FOLDER = "agebench-demo"
"""Where the result goes, beside the terminal, where the user says nothing at all."""

DETECTOR = "yolov8-face"
CHIP_DETECTOR = "aligned"


def choose_detector(
    detector: str | FaceDetector | None,
    dataset: DatasetSpec | None,
    estimators: Iterable[EstimatorSpec] = (),
) -> tuple[str | FaceDetector, str]:
    """Return what finds the faces, and why it was taken; "" where it was named.

    An estimator that is defined with a detector (`EstimatorSpec.detector`) goes first.  In
    aligned chips the face lies where it always does, and a detector could only miss it.

    >>> from agebench.protocols import DatasetSpec
    >>> choose_detector(None, DatasetSpec("mine", "unknown", aligned=True))
    ('aligned', 'the pictures of mine are aligned chips, and no detector was named')
    >>> choose_detector("haar", DatasetSpec("mine", "unknown", aligned=True))
    ('haar', '')
    """
    detector, why = own_detector(detector, estimators)
    if detector is not None:
        return detector, why
    if dataset is not None and dataset.aligned:
        return (
            CHIP_DETECTOR,
            f"the pictures of {dataset.name} are aligned chips, and no detector was named",
        )
    return DETECTOR, "the default, since no detector was named"


def own_detector(
    detector: str | FaceDetector | None, specs: Iterable[EstimatorSpec]
) -> tuple[str | FaceDetector | None, str]:
    """Return the detector that estimators are defined with, where none was named, and why.

    Args:
        detector: the one that was named; None for none.
        specs: of all estimators that take part.

    Returns:
        `detector` and "" where no estimator has one of its own.

    Raises:
        UsageError: an estimator is defined with another detector than was named, or than the
            others would get.
    """
    listed = list(specs)
    for spec in listed:
        if not spec.detector:
            continue
        alone = all(other.detector == spec.detector for other in listed)
        if detector is None and alone:
            return spec.detector, f"the one that {_called(spec)} is defined with"
        if not _same(detector, spec.detector):
            raise UsageError(
                f"{_called(spec)} is defined with the detector '{spec.detector}': use that "
                "detector for all, or measure the estimator alone"
            )
    return detector, ""


def _called(spec: EstimatorSpec) -> str:
    recipe = spec.settings.get("recipe")
    return f"{spec.name} recipe={recipe}" if recipe else spec.name


def _same(detector: str | FaceDetector | None, wanted: str) -> bool:
    expected = parse_reference(wanted)
    if isinstance(detector, str):
        given = parse_reference(detector)
        return (given.name, given.options) == (expected.name, expected.options)
    if detector is None or detector.spec.name != expected.name:
        return False
    settings = detector.spec.settings
    return all(str(settings.get(key)) == str(value) for key, value in expected.options.items())


PREDICT_ESTIMATOR = "multicrop-resnet"
"""The estimator of `agebench predict` and `agebench.predict` where none is named."""

BEST_DETECTORS = ("yolov8-face", "yunet", "haar")
"""Detectors from the best to the one that needs no file, tried in this order."""


def best_detector() -> tuple[str, FaceDetector, str]:
    """Load the best detector that is available or can be fetched.

    Returns:
        Its name, the detector, and in a sentence why it was taken.

    Raises:
        AgebenchError: not even the last one can be had.
    """
    passed_over: list[str] = []
    for name in BEST_DETECTORS[:-1]:
        try:
            detector = load_detector(name)
        except WeightsError as error:
            first = str(error).partition("\n")[0].partition(" (expected")[0].rstrip(":")
            passed_over.append(f"{name} not: {first}")
            continue
        return name, detector, _sentence(name, passed_over)
    name = BEST_DETECTORS[-1]
    try:
        return name, load_detector(name), _sentence(name, passed_over)
    except AgebenchError as error:
        raise AgebenchError(f"no face detector is available: {error}") from error


def _sentence(name: str, passed_over: list[str]) -> str:
    if not passed_over:
        return f"faces by {name}, the best detector here (none was named)"
    return f"faces by {name}, the best detector available: " + "; ".join(passed_over)
