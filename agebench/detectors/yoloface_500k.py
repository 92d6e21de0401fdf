"""yoloface-500k: a very small Darknet face detector, the classic cv2.dnn YOLO (boxes only)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from agebench import weights
from agebench.detectors.common import (
    Candidates,
    FacePolicy,
    PadMode,
    check_choice,
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
from agebench.types import Face, Image
from agebench.weights import ResolvedWeights

STEMS = {"v2": "yoloface-500k-v2", "v1": "yoloface-500k"}
SIZES = {"v2": "352x288", "v1": "320x256"}

# Medians of benchmarks/frames.py.
TO_FRAME = {"v2": BoxToFrame(0.014, 0.003, 0.934), "v1": BoxToFrame(0.010, 0.013, 1.026)}


def decode(outputs: Iterable[Tensor], size_hw: tuple[int, int], confidence: float) -> Candidates:
    """Decode Darknet rows of (cx, cy, w, h, objectness, class score), boxes in input shares.

    The class score already holds the objectness.  Boxes come in edge-based input pixels.

    Raises:
        ModelError: the outputs are not those of such a network.
    """
    tables = list(outputs)
    if not tables or any(table.ndim != 2 or table.shape[1] != 6 for table in tables):
        raise ModelError(
            "a yoloface-500k network gives rows of 6 numbers (one class), this one gave "
            f"{[table.shape for table in tables]}: is it another kind of network?"
        )
    rows = np.concatenate(tables).astype(np.float64)
    if not np.isfinite(rows).all():
        raise ModelError("the yoloface-500k network answered with something other than numbers")
    rows = rows[rows[:, 5] >= confidence]
    centers, halves = rows[:, :2], rows[:, 2:4] / 2
    boxes = np.concatenate([centers - halves, centers + halves], axis=1)
    return Candidates(boxes * (size_hw[::-1] * 2), rows[:, 5])


def _files(version: str, path: Path | None) -> tuple[ResolvedWeights, ResolvedWeights]:
    """Return the layout and the weights; a user's own layout lies beside the own weights."""
    stem = STEMS[version]
    own_layout = None if path is None else path.with_suffix(".cfg")
    file = weights.resolve(f"{stem}.weights", explicit=path)
    if own_layout is not None and not own_layout.is_file():
        raise UsageError(f"{path}: its layout is expected beside it as {own_layout.name}")
    return weights.resolve(f"{stem}.cfg", explicit=own_layout), file


class YoloFace500k:
    """Faces by yoloface-500k under cv2.dnn; the picture is stretched to the input.

    Args:
        path: another network's ``.weights``, with its ``.cfg`` beside it.
        runtime: "cv2dnn", which is the default; no other reads Darknet files.
        device: as cv2.dnn knows it; "cpu" if left out.
        version: "v2" or the older "v1".
        confidence: least score of a face, 0 to 1.
        nms: of two faces that overlap by more than this IoU, the better one stays, 0 to 1.
        size: input as N or "WIDTHxHEIGHT", multiples of 32; the published input if left out.
        pad: free space on every side in shares of the picture, 0 to 2, or "auto": none, and some
            where nothing or a large face was found (without it, 35 of 251 FG-NET faces are missed).
        faces: keep "all" faces or the "largest".

    Raises:
        UsageError: an option is out of range.
        WeightsError: a model file can't be had or is not what it should be.
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
        self._confidence = check_share(name, "confidence", confidence)
        self._nms = check_share(name, "nms", nms)
        self._size_hw = check_input_size(name, SIZES[version] if size is None else size)
        self._pad = check_pad(name, pad)
        self._faces = check_faces(name, faces)
        layout, file = _files(version, path)
        try:
            config = layout.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{layout.path}: is no Darknet layout: {error}") from error
        source = ModelSource("darknet", file.path, config=config)
        self._model = open_model(source, runtime=runtime, device=device)
        self._spec = DetectorSpec(
            name=name,
            box_to_frame=TO_FRAME[version],
            weights=(file.info, layout.info),
            runtime=self._model.info,
            settings={
                "version": version,
                "confidence": self._confidence,
                "nms": self._nms,
                "size": f"{self._size_hw[1]}x{self._size_hw[0]}",
                "pad": self._pad,
                "faces": self._faces,
            },
            licence=file.info.licence,
            source=file.info.source,
            citation="yoloface-500k: https://github.com/dog-qiuqiu/MobileNet-Yolo",
        )

    @property
    def spec(self) -> DetectorSpec:
        """See `FaceDetector.spec`."""
        return self._spec

    def _look(self, image_bgr: Image, pad: float) -> Candidates:
        """Look once; faces in the picture's pixels, best first."""
        canvas, placement = fit(image_bgr, self._size_hw, pad=pad, keep_aspect=False)
        outputs = self._model.run({"": to_blob(canvas)})
        found = decode(outputs.values(), self._size_hw, self._confidence)
        return suppress(found, self._nms).placed(placement)

    def detect(self, image_bgr: Image, /) -> list[Face]:
        """See `FaceDetector.detect`."""
        image = check_picture(image_bgr)
        found = look(partial(self._look, image), self._pad, image.shape[0], self._nms)
        return to_faces(found, self._faces)
