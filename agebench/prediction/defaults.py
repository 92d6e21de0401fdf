"""What is used where the user names no estimator and no detector."""

from __future__ import annotations

from agebench.errors import AgebenchError, WeightsError
from agebench.protocols import FaceDetector
from agebench.registry.plugins import load_detector

ESTIMATOR = "multicrop-resnet"
"""The estimator of `agebench predict` and `agebench.predict` where none is named."""

DETECTORS = ("yolov8-face", "yunet", "haar")
"""Detectors from the best to the one that needs no file, tried in this order."""


def best_detector() -> tuple[str, FaceDetector, str]:
    """Load the best detector that is at hand or can be fetched.

    Returns:
        Its name, the detector, and in a sentence why it was taken.

    Raises:
        AgebenchError: not even the last one can be had.
    """
    passed_over: list[str] = []
    for name in DETECTORS[:-1]:
        try:
            detector = load_detector(name)
        except WeightsError as error:
            first = str(error).partition("\n")[0].partition(" (expected")[0].rstrip(":")
            passed_over.append(f"{name} not: {first}")
            continue
        return name, detector, _sentence(name, passed_over)
    name = DETECTORS[-1]
    try:
        return name, load_detector(name), _sentence(name, passed_over)
    except AgebenchError as error:
        raise AgebenchError(f"no face detector is available: {error}") from error


def _sentence(name: str, passed_over: list[str]) -> str:
    if not passed_over:
        return f"faces by {name}, the best detector here (none was named)"
    return f"faces by {name}, the best detector at hand: " + "; ".join(passed_over)
