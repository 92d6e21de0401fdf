"""haar: OpenCV's boosted cascade for frontal faces; part of OpenCV, needs no download."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any

import numpy as np

from agebench.detectors.common import (
    MAX_INPUT_SIDE,
    UNMEASURED,
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
from agebench.errors import MissingDependencyError, ModelError
from agebench.modelfiles import weights
from agebench.protocols import BoxToFrame, DetectorSpec, RuntimeInfo
from agebench.types import Face, Image, WeightsFile
from agebench.vision.opencv import cv2

FILE = "haarcascade_frontalface_default.xml"
LICENCE = "Intel License Agreement For Open Source Computer Vision Library (BSD-like)"
SOURCE = f"https://github.com/opencv/opencv/blob/4.x/data/haarcascades/{FILE}"

SHA256 = "0f7d4527844eb514d4a4948e822da90fbb16a34a0bbbbc6adc6498747a5aafb0"
"""Of the cascade in OpenCV 4."""

SCALE_STEP = 1.1
"""Ratio of successive sizes of the search window: OpenCV's default."""

TO_FRAME = BoxToFrame(0.003, -0.009, 1.138)
"""Medians of benchmarks/frames.py, of OpenCV's cascade."""

SCORES = "its score orders faces and is not a probability"

MIN_FACE_PX = 20
"""Smallest search window, in pixels of the shrunk picture; the cascade's own is 24."""


def _cascade_file() -> tuple[Path, WeightsFile]:
    # OpenCV's type stubs lack this submodule.
    shipped = Path(importlib.import_module("cv2.data").haarcascades) / FILE
    if not shipped.is_file():
        raise MissingDependencyError(
            f"{FILE} is not in this OpenCV ({shipped.parent}): "
            "install it with: pip install 'opencv-contrib-python>=4.10.0.84,<5'"
        )
    return shipped, WeightsFile(FILE, weights.sha256_of(shipped), LICENCE, SOURCE)


def _open(path: Path) -> Any:
    try:
        cascade = cv2.CascadeClassifier(str(path))
    except (cv2.error, SystemError) as error:  # OpenCV's XML parser throws through the binding
        raise ModelError(f"{path} is not a cascade that OpenCV can read") from error
    if cascade.empty():
        raise ModelError(f"{path} is not a cascade that OpenCV can read")
    return cascade


class Haar:
    """Upright frontal faces by a cascade of Haar features, boxes only.

    The score is w / (1 + w) of the cascade's last-stage sum w: it orders faces within this
    detector, and is not a probability.

    Args:
        path: another cascade of OpenCV's XML format.
        confidence: minimum score of a face, 0 to 1.
        nms: of two faces that overlap by more than this IoU, the better one is kept, 0 to 1.
        neighbours: number of windows that must agree on a face, 1 to 100; more find fewer false
            faces.
        size: pictures whose longer side is above this many pixels are first shrunk to it.
        faces: keep "all" faces or the "largest".

    Raises:
        UsageError: an option is out of range.
        WeightsError: the file of `path` can't be read.
        ModelError: it is not a cascade.
    """

    def __init__(
        self,
        *,
        path: Path | None = None,
        confidence: float = 0.0,
        nms: float = 0.3,
        neighbours: int = 5,
        size: int = 1280,
        faces: FacePolicy = "all",
    ) -> None:
        name = "haar"
        self._confidence = check_fraction(name, "confidence", confidence)
        self._nms = check_fraction(name, "nms", nms)
        self._neighbours = check_count(name, "neighbours", neighbours, low=1, high=100)
        self._size = check_count(name, "size", size, low=32, high=MAX_INPUT_SIDE)
        self._faces = check_faces(name, faces)
        if path is None:
            file, info = _cascade_file()
        else:
            file, info = path, weights.resolve(FILE, explicit=path).info
        self._cascade = _open(file)
        self._lock = threading.Lock()
        self._spec = DetectorSpec(
            name=name,
            box_to_frame=TO_FRAME if info.sha256 == SHA256 else BoxToFrame(),
            weights=(info,),
            runtime=RuntimeInfo("python", "cpu", "cv2.CascadeClassifier", cv2.__version__),
            settings={
                "confidence": self._confidence,
                "nms": self._nms,
                "neighbours": self._neighbours,
                "scale_step": SCALE_STEP,
                "size": self._size,
                "faces": self._faces,
            },
            licence=info.licence,
            source=info.source,
            citation="Viola and Jones, Rapid Object Detection using a Boosted Cascade of Simple "
            "Features, CVPR 2001; cascade by Rainer Lienhart",
            notes=(SCORES,) if info.sha256 == SHA256 else (SCORES, UNMEASURED),
        )

    @property
    def spec(self) -> DetectorSpec:
        """See `FaceDetector.spec`."""
        return self._spec

    def detect(self, image_bgr: Image, /) -> list[Face]:
        """See `FaceDetector.detect`."""
        resized, placement = shrink(check_picture(image_bgr), self._size)
        grey = cv2.cvtColor(resized, cv2.COLOR_BGR2GRAY)
        with self._lock:
            rectangles, _, sums = self._cascade.detectMultiScale3(
                grey,
                SCALE_STEP,
                self._neighbours,
                0,
                (MIN_FACE_PX, MIN_FACE_PX),
                outputRejectLevels=True,
            )
        boxes = np.asarray(rectangles, np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        strength = np.clip(np.asarray(sums, np.float64).reshape(-1), 0.0, None)
        found = Candidates(boxes, strength / (1.0 + strength))
        found = suppress(found.take(found.scores >= self._confidence), self._nms)
        return to_faces(found.placed(placement), self._faces)
