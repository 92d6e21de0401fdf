"""Default estimators, data set, detector and output folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agebench.errors import AgebenchError, UsageError, WeightsError
from agebench.protocols import DatasetSpec, EstimatorSpec, FaceDetector
from agebench.references import parse_reference
from agebench.registry.plugins import load_detector

ESTIMATORS = ("multicrop-resnet", "multicrop-resnet-small", "caffe-age-net-utkface", "constant")
"""Estimators of `agebench compare` if none is named."""

DATASET = "sample"
"""Data set if none is named: the bundled composites."""

DEMO_FOLDER = "agebench-demo"
"""Output folder if nothing at all is named."""

DETECTOR = "yolov8-face"
CHIP_DETECTOR = "aligned"


def choose_detector(
    detector: str | FaceDetector | None,
    dataset: DatasetSpec | None,
    estimators: Iterable[EstimatorSpec] = (),
) -> tuple[str | FaceDetector, str]:
    """Return the detector, and why it was chosen; "" if it was named.

    An estimator's own detector (`EstimatorSpec.detector`) has priority.  In aligned chips the face
    has a fixed place, and a detector could only miss it.

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
    """Return the detector that estimators are defined with, if none was named, and why.

    Args:
        detector: that was named; None for none.
        specs: of all estimators.

    Returns:
        `detector` and "" if no estimator has its own.

    Raises:
        UsageError: an estimator is defined with another detector than the named one, or than the
            others would use.
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
        parsed = parse_reference(detector)
        return (parsed.name, parsed.options) == (expected.name, expected.options)
    if detector is None or detector.spec.name != expected.name:
        return False
    settings = detector.spec.settings
    return all(str(settings.get(key)) == str(value) for key, value in expected.options.items())


PREDICT_ESTIMATOR = "multicrop-resnet"
"""Estimator of `agebench predict` and `agebench.predict` if none is named."""

BEST_DETECTORS = ("yolov8-face@onnxruntime", "yolov8-face", "yunet", "haar")
"""Detectors from the best to the one that needs no file, in the order in which they are tried.

ONNX Runtime finds the same faces as cv2.dnn, to 0.0001 pixels, in less than half of the
time (benchmarks/yolov8_face_speed.py).
"""


def best_detector() -> tuple[str, FaceDetector, str]:
    """Load the best detector that is available or can be downloaded.

    Returns:
        Its reference, the detector, and a sentence on why it was chosen.

    Raises:
        AgebenchError: not even the last one is available.
    """
    passed_over: dict[str, str] = {}
    last = BEST_DETECTORS[-1]
    for reference in BEST_DETECTORS[:-1]:
        name = parse_reference(reference).name
        if name in passed_over:  # its file is missing for all runtimes
            continue
        try:
            detector = load_detector(reference)
        except WeightsError as error:
            passed_over[name] = _reason(error)
        except AgebenchError as error:
            if reference == name:
                raise
            passed_over[reference] = _reason(error)  # that runtime is missing or broken
        else:
            return reference, detector, _sentence(reference, passed_over)
    try:
        return last, load_detector(last), _sentence(last, passed_over)
    except AgebenchError as error:
        raise AgebenchError(f"no face detector is available: {error}") from error


def _reason(error: AgebenchError) -> str:
    return str(error).partition("\n")[0].partition(" (expected")[0].rstrip(":")


def _sentence(reference: str, passed_over: Mapping[str, str]) -> str:
    if not passed_over:
        return f"faces by {reference}, the best detector here (none was named)"
    others = "; ".join(f"{name} not: {reason}" for name, reason in passed_over.items())
    return f"faces by {reference}, the best detector available: {others}"
