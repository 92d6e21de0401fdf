"""yolov8-face: the small YOLOv8 face network with five landmarks (yolov8-lite-t, ONNX)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import expit, softmax

from agebench.detectors.blank import blank_confidence, blank_picture, require_no_face
from agebench.detectors.common import (
    Candidates,
    FacePolicy,
    PadMode,
    check_faces,
    check_fraction,
    check_input_size,
    check_pad,
    check_picture,
    find_twice,
    fit,
    suppress,
    to_blob,
    to_faces,
)
from agebench.errors import ModelError, UsageError
from agebench.modelfiles import weights
from agebench.protocols import BoxToFrame, DetectorSpec
from agebench.runtimes import ModelSource, open_model
from agebench.runtimes.base import Tensor
from agebench.runtimes.graph_inputs import graph_inputs
from agebench.types import FIVE_POINTS, Face, Floats, Image

FILE = "yolov8-lite-t.onnx"
DEFAULT_SIZE = 640
"""Size for a file that takes any; the published one only takes this."""

TO_FRAME = BoxToFrame(0.005, 0.002, 0.994)
"""Medians of benchmarks/frames.py, of the published file."""

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
        confidence: cells with a lower score are dropped first.

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
    """Decode all outputs, identified by their shapes since runtimes reorder them.

    Raises:
        ModelError: the outputs are not those of such a network, or not finite.
    """
    shapes = [value.shape for value in outputs.values()]
    if not shapes or any(len(s) != 4 or s[:2] != (1, CHANNELS) or 0 in s for s in shapes):
        raise ModelError(
            f"a yolov8-face network gives outputs of shape (1, {CHANNELS}, rows, cols), "
            f"this one gave {shapes}: is it another kind of network?"
        )
    if not all(np.isfinite(value).all() for value in outputs.values()):
        raise ModelError("the yolov8-face network gave outputs that are not finite")
    ordered = sorted(outputs.values(), key=lambda value: -value.shape[2])
    parts = [
        Candidates(*decode_scale(value[0], input_height / value.shape[2], confidence))
        for value in ordered
    ]
    return Candidates.join(parts)


class YoloV8Face:
    """Faces with five landmarks by yolov8-lite-t, under cv2.dnn or ONNX Runtime.

    The network misses faces that fill the picture, or misplaces their points.  With ``pad="auto"``
    a picture in which nothing or a large face was found is searched again with free space around it
    (`agebench.detectors.common.find_twice`): 6.9 % of FG-NET's eye points are misplaced without it,
    none with it.  Free space for every picture would lose the small faces of
    groups.

    Args:
        path: another file of the same layout; the default is the published one.
        runtime: "cv2dnn" (default) or "onnxruntime".
        device: its name in the runtime; the default is "cpu".
        confidence: minimum score of a face, 0 to 1.
        nms: of two faces that overlap by more than this IoU, the better one is kept, 0 to 1.
        size: side of the square input, a multiple of 32; the file's own if left out, 640 where it
            takes any.
        pad: free space on every side as fractions of the picture, 0 to 2, or "auto".
        faces: keep "all" faces or the "largest".

    Raises:
        UsageError: an option is out of range.
        WeightsError: the model file is not available or invalid.
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
        size: int | None = None,
        pad: PadMode = "auto",
        faces: FacePolicy = "all",
    ) -> None:
        name = "yolov8-face"
        self._confidence = check_fraction(name, "confidence", confidence)
        self._nms = check_fraction(name, "nms", nms)
        if size is not None:  # a wrong one is reported before a file is looked for
            check_input_size(name, size)
        self._pad = check_pad(name, pad)
        self._faces = check_faces(name, faces)
        file = weights.resolve(FILE, explicit=path)
        source = ModelSource(
            "onnx",
            file.path,
            sha256=file.info.sha256,
            gathers_channels=file.info.published,
        )
        self._size_hw = _input_size(source, size)
        self._model = open_model(source, runtime=runtime, device=device)
        self._spec = DetectorSpec(
            name=name,
            landmark_scheme=FIVE_POINTS,
            box_to_frame=TO_FRAME if file.info.published else BoxToFrame(),
            weights=(file.info,),
            runtime=self._model.info,
            settings={
                "confidence": self._confidence,
                "nms": self._nms,
                "size": self._size_hw[0] if size is None else size,
                "pad": self._pad,
                "faces": self._faces,
            },
            licence=file.info.licence,
            source=file.info.source,
            citation="YOLOv8-face, lite-t: https://github.com/derronqi/yolov8-face",
        )
        if path is not None:
            blank = blank_picture(self._size_hw)
            found = self._candidates(blank, blank_confidence(self._confidence))
            require_no_face(str(path), found, "its layout, or the scale of its input,")

    @property
    def spec(self) -> DetectorSpec:
        """See `FaceDetector.spec`."""
        return self._spec

    def _look(self, image_bgr: Image, pad: float) -> Candidates:
        """Search once; return faces in the picture's pixels, best first."""
        canvas, placement = fit(image_bgr, self._size_hw, pad=pad)
        return suppress(self._candidates(canvas, self._confidence), self._nms).placed(placement)

    def _candidates(self, canvas_bgr: Image, confidence: float) -> Candidates:
        return decode(self._model.run({"": to_blob(canvas_bgr)}), self._size_hw[0], confidence)

    def detect(self, image_bgr: Image, /) -> list[Face]:
        """See `FaceDetector.detect`."""
        image = check_picture(image_bgr)
        found = find_twice(partial(self._look, image), self._pad, max(image.shape[:2]), self._nms)
        return to_faces(found, self._faces)


def _input_size(source: ModelSource, size: int | None) -> tuple[int, int]:
    """Return height and width of the input: the file's own, or the option if the file's is open.

    Raises:
        UsageError: the two contradict each other.
    """
    own: list[int | None] = [None, None]
    for declared in graph_inputs(source)[:1]:
        if declared.shape is not None and len(declared.shape) == 4:
            own = list(declared.shape[2:])
    wanted = DEFAULT_SIZE if size is None else size
    height, width = (wanted if side is None else side for side in own)
    if size is not None and (height, width) != (size, size):
        raise UsageError(
            f"option size of 'yolov8-face': {source.path.name} only takes pictures of "
            f"{width}x{height}, got {size}: omit size"
        )
    return height, width
