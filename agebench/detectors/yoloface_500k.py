"""yoloface-500k: a very small Darknet face detector, the classic cv2.dnn YOLO (boxes only)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np

from agebench.detectors.blank import blank_confidence, blank_picture, require_no_face
from agebench.detectors.common import (
    UNMEASURED,
    Candidates,
    FacePolicy,
    PadMode,
    check_choice,
    check_faces,
    check_fraction,
    check_input_size,
    check_pad,
    check_picture,
    find_twice,
    fit,
    plain_blob,
    suppress,
    to_blob,
    to_faces,
)
from agebench.errors import ModelError, UsageError
from agebench.modelfiles import weights
from agebench.modelfiles.weights import ResolvedWeights
from agebench.protocols import BoxToFrame, DetectorSpec
from agebench.runtimes import ModelSource, open_model
from agebench.runtimes.base import Tensor
from agebench.runtimes.graph_inputs import graph_inputs
from agebench.types import Face, Image, WeightsFile
from agebench.util.regular_files import read_regular

STEMS = {"v2": "yoloface-500k-v2", "v1": "yoloface-500k"}
SIZES = {"v2": "352x288", "v1": "320x256"}

OWN: Final = "own"
"""Version of a network that is not one of the published ones."""

# Medians of benchmarks/frames.py; unknown for other networks.
TO_FRAME = {
    OWN: BoxToFrame(),
    "v2": BoxToFrame(0.014, 0.003, 0.934),
    "v1": BoxToFrame(0.010, 0.013, 1.026),
}


def decode(outputs: Iterable[Tensor], size_hw: tuple[int, int], confidence: float) -> Candidates:
    """Decode Darknet rows of (cx, cy, w, h, objectness, class score), boxes as fractions.

    The class score includes the objectness.  Boxes are returned in edge-based input pixels.

    Raises:
        ModelError: the outputs are not those of such a network.
    """
    # The ONNX form keeps the batch axis, here with one picture.
    tables = [table[0] if table.ndim == 3 and len(table) == 1 else table for table in outputs]
    if not tables or any(table.ndim != 2 or table.shape[1] != 6 for table in tables):
        raise ModelError(
            "a yoloface-500k network gives rows of 6 numbers (one class), this one gave "
            f"{[table.shape for table in tables]}: is it another kind of network?"
        )
    rows = np.concatenate(tables).astype(np.float64)
    if not np.isfinite(rows).all():
        raise ModelError("the yoloface-500k network gave outputs that are not finite")
    rows = rows[rows[:, 5] >= confidence]
    centers, halves = rows[:, :2], rows[:, 2:4] / 2
    boxes = np.concatenate([centers - halves, centers + halves], axis=1)
    return Candidates(boxes * (size_hw[::-1] * 2), rows[:, 5])


@dataclass(frozen=True, slots=True)
class _Files:
    """The files that the network is loaded from.

    Attributes:
        source: for the runtime.
        weights: the files' descriptions.
        version: of the network.
        size_hw: of the input, pixels.
    """

    source: ModelSource
    weights: tuple[WeightsFile, ...]
    version: str
    size_hw: tuple[int, int]


def darknet_files(version: str, path: Path | None) -> tuple[ResolvedWeights, ResolvedWeights, str]:
    """Return the layout's file, the weights, and the layout's text.

    Args:
        version: "v2" or "v1".
        path: the user's own weights, with a layout of the same name next to them.

    Raises:
        UsageError: there is no layout next to the weights.
        WeightsError: a file is not available or invalid.
        ModelError: the layout is not text.
    """
    stem = STEMS[version]
    own_layout = None if path is None else path.with_suffix(".cfg")
    file = weights.resolve(f"{stem}.weights", explicit=path)
    if own_layout is not None and not own_layout.is_file():
        raise UsageError(f"{path}: its layout is expected next to it as {own_layout.name}")
    layout = weights.resolve(f"{stem}.cfg", explicit=own_layout)
    try:
        return layout, file, read_regular(layout.path).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{layout.path}: not a Darknet layout: {error}") from error


def _find_files(
    version: str, path: Path | None, runtime: str | None, size: int | str | None
) -> _Files:
    """Return Darknet's files, or the network as ONNX for a runtime that can't read those."""
    if path is not None and path.suffix.lower() == ".onnx":
        return _exported(path, size)
    # A wrong size is reported before a file is looked for.
    multiple = 32 if path is None else 8
    size_or_default = SIZES[version] if size is None else size
    size_hw = check_input_size("yoloface-500k", size_or_default, multiple=multiple)
    layout, file, config = darknet_files(version, path)
    if path is not None and not file.info.published:
        version = OWN
        if size is None:
            size_hw = own_size(layout.path, config)
    if runtime == "onnxruntime":
        from agebench.conversion.converted import converted_darknet

        converted = converted_darknet(config, file.path, file.info.sha256, size_hw)
        source = ModelSource("onnx", converted)
    else:
        source = ModelSource("darknet", file.path, config=config, sha256=file.info.sha256)
    return _Files(source, (file.info, layout.info), version, size_hw)


def own_size(layout: Path, config: str) -> tuple[int, int]:
    """Return height and width of another network's input, from its layout.

    Raises:
        UsageError: the layout has none.
    """
    declared = graph_inputs(ModelSource("darknet", layout, config=config))
    shape = declared[0].shape if declared else None
    if shape is None or shape[2] is None or shape[3] is None:
        raise UsageError(f"{layout} does not give the width and height of its input: give size=")
    return shape[2], shape[3]


def _exported(path: Path, size: int | str | None) -> _Files:
    """Return a file of ``agebench export-onnx --export-detector``, which fixes version and size."""
    from agebench.conversion.darknet_onnx import read_detector_file

    read = read_detector_file(path)
    size_hw = read.spec.size_hw
    if size is not None and check_input_size("yoloface-500k", size) != size_hw:
        raise UsageError(
            f"{path} was exported for {size_hw[1]}x{size_hw[0]}, size={size} contradicts it: omit "
            "size, or export it for that size"
        )
    info = WeightsFile(path.name, read.sha256, read.spec.licence, "exported by agebench")
    return _Files(ModelSource("onnx", path, data=read.data), (info,), read.spec.version, size_hw)


class YoloFace500k:
    """Faces by yoloface-500k; the picture is stretched to the input.

    Args:
        path: another network's ``.weights``, with its ``.cfg`` next to it, which gives the size of
            its input; or an ``.onnx`` file of ``agebench export-onnx --export-detector``.
        runtime: "cv2dnn", the default, or "onnxruntime", for which the files are converted.
        device: its name in the runtime; the default is "cpu".
        version: "v2" or the older "v1".
        confidence: minimum score of a face, 0 to 1.
        nms: of two faces that overlap by more than this IoU, the better one is kept, 0 to 1.
        size: input as N or "WIDTHxHEIGHT", multiples of 32 (8 for another network); the default is
            the published input, or that of the cfg.
        pad: free space on every side as fractions of the picture, 0 to 2, or "auto": none, and some
            if nothing or a large face was found (without it, 35 of 251 FG-NET faces are missed).
        faces: keep "all" faces or the "largest".

    Raises:
        UsageError: an option is out of range.
        WeightsError: a model file is not available or invalid.
        ModelError: it can't be loaded.
        DeviceError: the device can't be used.
    """

    def __init__(  # noqa: PLR0913 - each is an option that a reference may name
        self,
        *,
        path: Path | None = None,
        runtime: str | None = None,
        device: str | None = None,
        version: Literal["v2", "v1"] = "v2",
        confidence: float = 0.5,
        nms: float = 0.45,
        size: int | str | None = None,
        pad: PadMode = "auto",
        faces: FacePolicy = "all",
    ) -> None:
        name = "yoloface-500k"
        check_choice(name, "version", version, tuple(STEMS))
        self._confidence = check_fraction(name, "confidence", confidence)
        self._nms = check_fraction(name, "nms", nms)
        self._pad = check_pad(name, pad)
        self._faces = check_faces(name, faces)
        files = _find_files(version, path, runtime, size)
        self._size_hw = files.size_hw
        # In the ONNX form the scale and the channels' order are in the graph.
        self._blob = to_blob if files.source.kind == "darknet" else plain_blob
        self._model = open_model(files.source, runtime=runtime, device=device)
        self._spec = DetectorSpec(
            name=name,
            box_to_frame=TO_FRAME[files.version],
            weights=files.weights,
            runtime=self._model.info,
            settings={
                "version": files.version,
                "confidence": self._confidence,
                "nms": self._nms,
                "size": f"{self._size_hw[1]}x{self._size_hw[0]}",
                "pad": self._pad,
                "faces": self._faces,
            },
            licence=files.weights[0].licence,
            source=files.weights[0].source,
            citation="yoloface-500k: https://github.com/dog-qiuqiu/MobileNet-Yolo",
            notes=(UNMEASURED,) if files.version == OWN else (),
        )
        if path is not None:
            blank = blank_picture(self._size_hw)
            found = self._candidates(blank, blank_confidence(self._confidence))
            require_no_face(str(path), found, "its layout, or the size of its input,")

    @property
    def spec(self) -> DetectorSpec:
        """See `FaceDetector.spec`."""
        return self._spec

    def _look(self, image_bgr: Image, pad: float) -> Candidates:
        """Search once; return faces in the picture's pixels, best first."""
        canvas, placement = fit(image_bgr, self._size_hw, pad=pad, keep_aspect=False)
        return suppress(self._candidates(canvas, self._confidence), self._nms).placed(placement)

    def _candidates(self, canvas_bgr: Image, confidence: float) -> Candidates:
        outputs = self._model.run({"": self._blob(canvas_bgr)})
        return decode(outputs.values(), self._size_hw, confidence)

    def detect(self, image_bgr: Image, /) -> list[Face]:
        """See `FaceDetector.detect`."""
        image = check_picture(image_bgr)
        found = find_twice(partial(self._look, image), self._pad, image.shape[0], self._nms)
        return to_faces(found, self._faces)
