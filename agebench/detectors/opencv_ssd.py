"""opencv-ssd: the 300x300 face detector of OpenCV's samples, used by the age_net tutorials.

It finds false faces: one that fills more than about half of the picture is found a second time, a
third of the input further to the right and down, and as far as twice the picture's size outside of
it, with scores as high as the true one's (opencv/opencv#14841, #15912; measured in
docs/tutorial-mistakes.md).  Only the coarsest of its six feature maps are affected, which small
faces do not reach: ``pad="auto"`` searches for large faces again with free space around the
picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agebench.detectors.blank import blank_confidence, blank_picture, require_no_face
from agebench.detectors.common import (
    FILLS,
    RETRY_PADS,
    UNMEASURED,
    Candidates,
    FacePolicy,
    PadMode,
    check_faces,
    check_fraction,
    check_pad,
    check_picture,
    fit,
    merge,
    suppress,
    to_faces,
)
from agebench.errors import ModelError
from agebench.modelfiles import weights
from agebench.modelfiles.wheels import Wheelhouse
from agebench.protocols import BoxToFrame, DetectorSpec
from agebench.runtimes import ModelSource, open_model
from agebench.runtimes.base import Tensor
from agebench.types import Face, Floats, Image, WeightsFile
from agebench.util.regular_files import read_regular
from agebench.vision.opencv import cv2

FILE = "opencv_face_detector_uint8.pb"
LAYOUT_FILE = "opencv_face_detector.pbtxt"
OUTPUT = "detection_out"

SIDE = 300
"""Side of the input, pixels; the picture is stretched to it."""

MEAN = (104.0, 117.0, 123.0)
"""Subtracted from R, G and B, as in the tutorials; OpenCV's own sample uses B, G, R and 177."""

NMS = 0.45
"""IoU above which the network's last layer drops the worse of two boxes."""

TO_FRAME = BoxToFrame(0.006, 0.002, 1.008)
"""Medians of benchmarks/frames.py, of the published file."""

DOUBLES = "without free space around it, a face that fills the picture is found twice"


def rows_of(output: Tensor) -> Tensor:
    """Return the rows (image, class, score, left, top, right, bottom) of the network's answer.

    Raises:
        ModelError: it has another form.
    """
    fits = output.ndim == 4 and output.shape[:2] == (1, 1) and output.shape[3] == 7
    if not fits or not np.isfinite(output).all():
        raise ModelError(
            "an SSD face detector gives finite numbers of shape (1, 1, n, 7), this one gave "
            f"{output.shape}: is it another kind of network?"
        )
    rows: Tensor = output[0, 0]
    return rows


class OpenCvSsd:
    """Faces by the residual SSD of OpenCV's samples; the picture is stretched to the input.

    Args:
        path: another network of this kind as TensorFlow graph (.pb), with its layout next to it as
            .pbtxt; the published layout is used if there is none.
        runtime: "cv2dnn", the only one that can read it.
        device: its name in the runtime; the default is "cpu".
        confidence: minimum score of a face, 0 to 1; 0.7 as in the tutorials.
        pad: free space on every side as fractions of the picture, 0 to 2, or "auto": none, and some
            if a face is large or none was found.  The tutorials use 0.
        faces: keep "all" faces, the "largest" or the one with the "best" score.

    Raises:
        UsageError: an option is out of range.
        WeightsError: a model file is not available or invalid.
        ModelError: it can't be loaded.
        DeviceError: the device can't be used.
    """

    def __init__(
        self,
        *,
        path: Path | None = None,
        runtime: str | None = None,
        device: str | None = None,
        confidence: float = 0.7,
        pad: PadMode = "auto",
        faces: FacePolicy = "all",
    ) -> None:
        name = "opencv-ssd"
        self._confidence = check_fraction(name, "confidence", confidence)
        self._pad = check_pad(name, pad)
        self._faces = check_faces(name, faces)
        source, files = _find_files(path)
        self._model = open_model(source, runtime=runtime, device=device)
        self._spec = DetectorSpec(
            name=name,
            box_to_frame=TO_FRAME if files[0].published else BoxToFrame(),
            weights=files,
            runtime=self._model.info,
            settings={"confidence": self._confidence, "pad": self._pad, "faces": self._faces},
            licence=files[0].licence,
            source=files[0].source,
            citation="OpenCV samples, res10_300x300_ssd_iter_140000, after Liu et al., SSD: Single "
            "Shot MultiBox Detector, ECCV 2016",
            notes=(DOUBLES,) if files[0].published else (DOUBLES, UNMEASURED),
        )
        found = self._look(blank_picture((SIDE, SIDE)), 0.0)
        found = found.take(found.scores >= blank_confidence(self._confidence))
        require_no_face(files[0].file, found, "its classes, or the mean of its input,")

    @property
    def spec(self) -> DetectorSpec:
        """See `FaceDetector.spec`."""
        return self._spec

    def detect(self, image_bgr: Image, /) -> list[Face]:
        """See `FaceDetector.detect`; boxes with a centre outside of the picture are dropped."""
        image = check_picture(image_bgr)
        found = self._look(image, self._pad) if self._pad != "auto" else self._look_again(image)
        height, width = image.shape[:2]
        centers = (found.boxes_xyxy[:, :2] + found.boxes_xyxy[:, 2:]) / 2
        inside = (centers >= -0.5) & (centers < np.array([width, height]) - 0.5)
        return to_faces(found.take(np.flatnonzero(inside.all(axis=1))), self._faces)

    def _look_again(self, image_bgr: Image) -> Candidates:
        """Search, and accept no large box as long as more space can be added around the picture."""
        kept = Candidates(np.zeros((0, 4)), np.zeros(0))
        for pad in (0.0, *RETRY_PADS):
            found = self._look(image_bgr, pad)
            heights = found.boxes_xyxy[:, 3] - found.boxes_xyxy[:, 1]
            large = heights >= FILLS * image_bgr.shape[0] * (1.0 + 2.0 * pad)
            if pad == RETRY_PADS[-1]:
                large[:] = False
            kept = merge(kept, found.take(~large), NMS)
            if len(found) and not large.any():
                break
        return kept

    def _look(self, image_bgr: Image, pad: float) -> Candidates:
        """Search once; return faces in the picture's pixels, best first."""
        if pad:
            canvas, placement = fit(image_bgr, (SIDE, SIDE), pad=pad, keep_aspect=False)
            found = self._ask(canvas, np.full(4, SIDE, np.float32))
            return found.placed(placement)
        height, width = image_bgr.shape[:2]
        # Bit for bit what the tutorials compute, except for the origin of coordinates.
        found = self._ask(image_bgr, np.array([width, height, width, height], np.float32))
        return Candidates(found.boxes_xyxy - 0.5, found.scores)

    def _ask(self, image_bgr: Image, size_xyxy: Tensor) -> Candidates:
        blob = cv2.dnn.blobFromImage(image_bgr, 1.0, (SIDE, SIDE), MEAN, swapRB=True, crop=False)
        rows = rows_of(self._model.run({"": np.asarray(blob, np.float32)})[OUTPUT])
        rows = rows[rows[:, 2] > self._confidence]
        boxes: Floats = (rows[:, 3:] * size_xyxy).astype(np.float64)
        return suppress(Candidates(boxes, rows[:, 2].astype(np.float64)), NMS)


def _find_files(path: Path | None) -> tuple[ModelSource, tuple[WeightsFile, ...]]:
    beside = None if path is None else path.with_suffix(".pbtxt")
    with Wheelhouse(weights.cache_dir()) as house:  # one download for both
        graph = weights.resolve(FILE, explicit=path, wheelhouse=house)
        own = beside if beside is not None and beside.is_file() else None
        layout = weights.resolve(LAYOUT_FILE, explicit=own, wheelhouse=house)
    try:
        text = read_regular(layout.path).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{layout.path}: not the layout of a TensorFlow graph: {error}") from error
    source = ModelSource(
        "tensorflow", graph.path, config=text, outputs=(OUTPUT,), sha256=graph.info.sha256
    )
    return source, (graph.info, layout.info)
