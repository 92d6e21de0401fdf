"""yunet: the YuNet face detector with five landmarks, by OpenCV's own cv2.FaceDetectorYN."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from agebench.detectors.blank import blank_confidence, blank_picture, require_no_face
from agebench.detectors.common import (
    MAX_INPUT_SIDE,
    Candidates,
    FacePolicy,
    check_count,
    check_faces,
    check_fraction,
    check_picture,
    shrink,
    suppress,
    to_faces,
)
from agebench.errors import ModelError
from agebench.modelfiles import weights
from agebench.protocols import BoxToFrame, DetectorSpec, RuntimeInfo
from agebench.runtimes.base import library_message
from agebench.runtimes.opening import read_model
from agebench.types import FIVE_POINTS, Face, Floats, Image
from agebench.vision.opencv import cv2

FILE = "face_detection_yunet_2023mar.onnx"

TOP_K = 5000
"""Candidates before non-maximum suppression, as in OpenCV's sample."""

_COLUMNS = 15

_FIRST_SIZE = (320, 320)

TO_FRAME = BoxToFrame(0.004, -0.006, 1.010)
"""Medians of benchmarks/frames.py, of the published file."""


def _create(path: Path, confidence: float, nms: float) -> Any:
    # From memory, so that paths with any characters work on every system.
    data = np.frombuffer(read_model(path, "onnx").data, np.uint8)
    try:
        empty = np.zeros(0, np.uint8)
        return cv2.FaceDetectorYN.create("onnx", data, empty, _FIRST_SIZE, confidence, nms, TOP_K)
    except cv2.error as error:
        raise ModelError(
            f"{path}: cv2.FaceDetectorYN {cv2.__version__} can't load it: {library_message(error)}"
        ) from error


def decode(rows: Floats) -> Candidates:
    """Decode rows of x, y, w, h, five points (image-left eye first), score; edge-based pixels."""
    boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
    return Candidates(boxes, rows[:, 14], rows[:, 4:14].reshape(-1, 5, 2))


class YuNet:
    """Faces with five landmarks by YuNet, at the picture's own size.

    Args:
        path: another file of the same layout; the default is the published one.
        confidence: minimum score of a face, 0 to 1.
        nms: of two faces that overlap by more than this IoU, the better one is kept, 0 to 1.
        size: pictures whose longer side is above this many pixels are first shrunk to it.
        faces: keep "all" faces or the "largest".

    Raises:
        UsageError: an option is out of range.
        WeightsError: the model file is not available or invalid.
        ModelError: it can't be loaded.
    """

    def __init__(
        self,
        *,
        path: Path | None = None,
        confidence: float = 0.7,
        nms: float = 0.3,
        size: int = 1280,
        faces: FacePolicy = "all",
    ) -> None:
        name = "yunet"
        self._confidence = check_fraction(name, "confidence", confidence)
        self._nms = check_fraction(name, "nms", nms)
        self._size = check_count(name, "size", size, low=32, high=MAX_INPUT_SIDE)
        self._faces = check_faces(name, faces)
        file = weights.resolve(FILE, explicit=path)
        self._path = file.path
        self._detector = _create(file.path, self._confidence, self._nms)
        self._lock = threading.Lock()
        self._spec = DetectorSpec(
            name=name,
            landmark_scheme=FIVE_POINTS,
            box_to_frame=TO_FRAME if file.info.published else BoxToFrame(),
            weights=(file.info,),
            runtime=RuntimeInfo("cv2dnn", "cpu", "cv2.FaceDetectorYN", cv2.__version__),
            settings={
                "confidence": self._confidence,
                "nms": self._nms,
                "size": self._size,
                "faces": self._faces,
            },
            licence=file.info.licence,
            source=file.info.source,
            citation="Wu, Peng, Yu: YuNet: A Tiny Millisecond-level Face Detector, "
            "Machine Intelligence Research 20 (2023)",
        )
        if path is not None:
            found = decode(self._run(blank_picture(_FIRST_SIZE)))
            found = found.take(found.scores >= blank_confidence(self._confidence))
            require_no_face(str(path), found, "its outputs, or the scale of its input,")

    @property
    def spec(self) -> DetectorSpec:
        """See `FaceDetector.spec`."""
        return self._spec

    def _run(self, image_bgr: Image) -> Floats:
        height, width = image_bgr.shape[:2]
        with self._lock:
            try:
                self._detector.setInputSize((width, height))
                _, rows = self._detector.detect(image_bgr)
            except cv2.error as error:
                raise ModelError(
                    f"{self._path}: cv2.FaceDetectorYN failed on a picture of {width}x{height}: "
                    + library_message(error)
                ) from error
        if rows is None:
            return np.zeros((0, _COLUMNS))
        found = np.asarray(rows, np.float64).reshape(-1, _COLUMNS)
        # In pictures of a few pixels its boxes overflow to infinity.
        return found[np.isfinite(found).all(axis=1)]

    def detect(self, image_bgr: Image, /) -> list[Face]:
        """See `FaceDetector.detect`."""
        resized, placement = shrink(check_picture(image_bgr), self._size)
        found = suppress(decode(self._run(resized)), self._nms)
        return to_faces(found.placed(placement), self._faces)
