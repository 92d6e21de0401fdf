"""yolov8-face: the small YOLOv8 face network with five landmarks (yolov8-lite-t, ONNX)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import expit, softmax

from agebench import weights
from agebench.detectors.common import (
    Candidates,
    FacePolicy,
    PadMode,
    check_faces,
    check_input_size,
    check_pad,
    check_picture,
    check_share,
    fit,
    look,
    suppress,
    to_blob,
    to_faces,
)
from agebench.errors import ModelError, UsageError
from agebench.protocols import BoxToFrame, DetectorSpec
from agebench.runtimes import ModelSource, open_model
from agebench.runtimes.base import Tensor
from agebench.types import FIVE_POINTS, Face, Floats, Image

FILE = "yolov8-lite-t.onnx"
FIXED_SIZE = 640
"""The published file's reshapes hold this size; cv2.dnn and ONNX Runtime refuse any other."""

CHANNELS = 80
_BINS = 16
_CLASS = 4 * _BINS
_POINTS = _CLASS + 1


def decode_scale(output: Tensor, stride: float, confidence: float) -> tuple[Floats, Floats, Floats]:
    """Decode one of the three outputs.

    Per cell of (row, col): channels 0 to 63 are the distances to the left, top, right and bottom
    side, each a distribution over 16 bins whose expectation counts in strides from the cell's
    centre; channel 64 is the class logit; then come five points as (x, y, visibility), with
    ``x = (2 x + col) stride``.  Layout of hpc203/yolov8-face-landmarks-opencv-dnn.

    Args:
        output: float32 (80, rows, cols).
        stride: input pixels per cell.
        confidence: cells that score less are left out, before anything else is computed.

    Returns:
        Boxes (n, 4), scores (n,) and points (n, 5, 2) in edge-based input pixels, float64.
    """
    scores = expit(output[_CLASS].astype(np.float64))
    rows, cols = np.nonzero(scores >= confidence)
    cells = output[:, rows, cols].T.astype(np.float64)
    grid = np.stack([cols, rows], axis=1).astype(np.float64)
    bins = softmax(cells[:, :_CLASS].reshape(-1, 4, _BINS), axis=2)
    sides = bins @ np.arange(_BINS, dtype=np.float64)
    boxes = np.concatenate([grid + 0.5 - sides[:, :2], grid + 0.5 + sides[:, 2:]], axis=1) * stride
    points = cells[:, _POINTS:].reshape(-1, 5, 3)[:, :, :2]
    points = (2.0 * points + grid[:, None, :]) * stride
    return boxes, scores[rows, cols], points


def decode(outputs: Mapping[str, Tensor], input_height: int, confidence: float) -> Candidates:
    """Decode all outputs; they are told apart by their shapes, since runtimes reorder them.

    Raises:
        ModelError: the outputs are not those of such a network, or hold no numbers.
    """
    shapes = [value.shape for value in outputs.values()]
    if not shapes or any(len(s) != 4 or s[:2] != (1, CHANNELS) or 0 in s for s in shapes):
        raise ModelError(
            f"a yolov8-face network gives outputs of shape (1, {CHANNELS}, rows, cols), "
            f"this one gave {shapes}: is it another kind of network?"
        )
    if not all(np.isfinite(value).all() for value in outputs.values()):
        raise ModelError("the yolov8-face network answered with something other than numbers")
    ordered = sorted(outputs.values(), key=lambda value: -value.shape[2])
    parts = [
        Candidates(*decode_scale(value[0], input_height / value.shape[2], confidence))
        for value in ordered
    ]
    return Candidates.join(parts)


class YoloV8Face:
    """Faces with five landmarks by yolov8-lite-t, under cv2.dnn or ONNX Runtime.

    The network misses faces that fill the picture, or puts their points astray.  With
    ``pad="auto"`` a picture in which nothing or a large face was found is looked at again with
    free space around it (`agebench.detectors.common.look`): 6.9 % of FG-NET's eye points are far
    off without, none with it.  Free space for every picture would cost the small faces of groups.

    Args:
        path: another file of the same layout; the published one if left out.
        runtime: "cv2dnn" (default) or "onnxruntime".
        device: as the runtime knows it; "cpu" if left out.
        confidence: least score of a face, 0 to 1.
        nms: of two faces that overlap by more than this IoU, the better one stays, 0 to 1.
        size: side of the square input, a multiple of 32; the published file takes 640 only.
        pad: free space on every side in shares of the picture, 0 to 2, or "auto".
        faces: keep "all" faces or the "largest".

    Raises:
        UsageError: an option is out of range.
        WeightsError: the model file can't be had or is not what it should be.
        ModelError: it can't be loaded.
        DeviceError: the device can't be used.
    """

    def __init__(
        self,
        *,
        path: Path | None = None,
        runtime: str | None = None,
        device: str | None = None,
        confidence: float = 0.4,
        nms: float = 0.45,
        size: int = FIXED_SIZE,
        pad: PadMode = "auto",
        faces: FacePolicy = "all",
    ) -> None:
        name = "yolov8-face"
        self._confidence = check_share(name, "confidence", confidence)
        self._nms = check_share(name, "nms", nms)
        self._size_hw = check_input_size(name, size)
        self._pad = check_pad(name, pad)
        self._faces = check_faces(name, faces)
        file = weights.resolve(FILE, explicit=path)
        if file.info.published and self._size_hw != (FIXED_SIZE, FIXED_SIZE):
            raise UsageError(
                f"option size of {name!r}: the published {FILE} takes {FIXED_SIZE} only, got {size}"
            )
        self._model = open_model(ModelSource("onnx", file.path), runtime=runtime, device=device)
        self._spec = DetectorSpec(
            name=name,
            landmark_scheme=FIVE_POINTS,
            box_to_frame=BoxToFrame(0.005, 0.002, 0.994),  # medians of benchmarks/frames.py
            weights=(file.info,),
            runtime=self._model.info,
            settings={
                "confidence": self._confidence,
                "nms": self._nms,
                "size": size,
                "pad": self._pad,
                "faces": self._faces,
            },
            licence=file.info.licence,
            source=file.info.source,
            citation="YOLOv8-face, lite-t: https://github.com/derronqi/yolov8-face",
        )

    @property
    def spec(self) -> DetectorSpec:
        """See `FaceDetector.spec`."""
        return self._spec

    def _look(self, image_bgr: Image, pad: float) -> Candidates:
        """Look once; faces in the picture's pixels, best first."""
        canvas, placement = fit(image_bgr, self._size_hw, pad=pad)
        outputs = self._model.run({"": to_blob(canvas)})
        found = decode(outputs, self._size_hw[0], self._confidence)
        return suppress(found, self._nms).placed(placement)

    def detect(self, image_bgr: Image, /) -> list[Face]:
        """See `FaceDetector.detect`."""
        image = check_picture(image_bgr)
        found = look(partial(self._look, image), self._pad, max(image.shape[:2]), self._nms)
        return to_faces(found, self._faces)
