"""`spec:PATH.toml` as detector: any face network, described by a file, without code."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from agebench.detectors.blank import blank_confidence, blank_picture, require_no_face
from agebench.detectors.common import (
    UNMEASURED,
    Candidates,
    FacePolicy,
    PadMode,
    check_faces,
    check_fraction,
    check_pad,
    check_picture,
    find_twice,
    fit,
    suppress,
    to_faces,
)
from agebench.detectors.heads import HEADS, Head
from agebench.detectors.spec_schema import DetectorFile, read_detector_spec
from agebench.errors import ModelError, UsageError
from agebench.estimators.spec_sources import read_model_files
from agebench.protocols import BoxToFrame, DetectorSpec
from agebench.runtimes.base import ModelSource
from agebench.runtimes.graph_inputs import graph_inputs
from agebench.runtimes.opening import open_model
from agebench.types import FIVE_POINTS, Face, Image

SUSPECTS = "output.kind, the size, or the scale and order of the channels"


class SpecFileDetector:
    """A face network described by a spec file (docs/detector-file.md).

    Args:
        path: the TOML file.
        runtime: overrides the file's.
        device: overrides the file's.
        confidence: minimum score of a face, 0 to 1; the default is the file's.
        nms: of two faces that overlap by more than this IoU, the better one is kept; the default is
            the file's.
        pad: free space on every side as fractions of the picture, 0 to 2, or "auto"; the default is
            the file's.
        faces: keep "all" faces or the "largest".

    Raises:
        UsageError: no path, or an invalid spec file; the message names the key.
        WeightsError: a file is missing or does not have the sha256 in the spec file.
        ModelError: the model can't be loaded, has another input or other outputs than the file
            says, or finds faces in a blank picture.
    """

    def __init__(
        self,
        *,
        path: Path | None = None,
        runtime: str | None = None,
        device: str | None = None,
        confidence: float | None = None,
        nms: float | None = None,
        pad: PadMode | None = None,
        faces: FacePolicy = "all",
    ) -> None:
        if path is None:
            raise UsageError("'spec' needs a file: write spec:my_detector.toml")
        written = self._written = read_detector_spec(path)
        detect = written.detect
        checked = partial(check_fraction, written.name)
        self._confidence = checked(
            "confidence", detect.confidence if confidence is None else confidence
        )
        self._nms = checked("nms", detect.nms if nms is None else nms)
        self._pad = check_pad(written.name, detect.pad if pad is None else pad)
        self._faces = check_faces(written.name, faces)
        if written.files.converter is not None:
            raise UsageError(f"{path}: files.converter is for estimators: give an ONNX file")
        read = read_model_files(path, written.files, written.about)
        weights = read.infos
        source = ModelSource(read.kind, read.model, config=read.config, data=read.data)
        self._label = f"{written.name} ({weights[0].file})"
        self._size_hw = _input_size(source, written, self._label)
        self._format = written.input
        model = self._model = open_model(
            source,
            runtime=runtime or written.runtime.runtime,
            device=device or (written.runtime.device if runtime is None else None),
        )
        # TensorFlow's importer calls the input "", whatever its name in the graph.
        self._input = written.input.name if model.info.runtime == "onnxruntime" else ""
        has_points = self._try_out()
        about, frame = written.about, written.frame
        notes = about.notes if frame is not None or has_points else (*about.notes, UNMEASURED)
        self._spec = DetectorSpec(
            name=written.name,
            landmark_scheme=FIVE_POINTS if has_points else "",
            box_to_frame=BoxToFrame() if frame is None else frame.box_to_frame(),
            weights=weights,
            runtime=model.info,
            settings={
                "kind": written.output.kind,
                "confidence": self._confidence,
                "nms": self._nms,
                "size": f"{self._size_hw[1]}x{self._size_hw[0]}",
                "fit": written.input.fit,
                "pad": self._pad,
                "faces": self._faces,
            },
            licence=about.licence,
            source=about.source,
            citation=about.citation,
            notes=notes,
        )

    @property
    def spec(self) -> DetectorSpec:
        """See `FaceDetector.spec`."""
        return self._spec

    def detect(self, image_bgr: Image, /) -> list[Face]:
        """See `FaceDetector.detect`."""
        image = check_picture(image_bgr)
        height, width = image.shape[:2]
        full = float(height)
        if self._written.input.fit == "letterbox":
            full = max(height, width * self._size_hw[0] / self._size_hw[1])
        found = find_twice(partial(self._look, image), self._pad, full, self._nms)
        return to_faces(found, self._faces)

    def _look(self, image_bgr: Image, pad: float) -> Candidates:
        """Search once; return faces in the picture's pixels, best first."""
        keep = self._written.input.fit == "letterbox"
        canvas, placement = fit(image_bgr, self._size_hw, pad=pad, keep_aspect=keep)
        found = suppress(self._candidates(canvas, self._confidence), self._nms)
        return found.placed(placement)

    def _candidates(self, canvas_bgr: Image, confidence: float) -> Candidates:
        outputs = list(self._model.run({self._input: self._format.blob(canvas_bgr[None])}).values())
        if not all(np.isfinite(value).all() for value in outputs):
            raise ModelError(f"{self._label} gave outputs that are not finite")
        output = self._written.output
        anchors, fractional = output.anchors_by_stride(), output.units != "pixels"
        try:
            return HEADS[output.kind](outputs, Head(self._size_hw, confidence, anchors, fractional))
        except ModelError as error:
            raise ModelError(f"{self._label}: {error}") from error

    def _try_out(self) -> bool:
        """Run it on a blank picture, so that a wrong layout is refused at the start.

        Returns:
            Whether it predicts points.
        """
        blank = blank_picture(self._size_hw)
        found = self._candidates(blank, blank_confidence(self._confidence))
        require_no_face(self._label, found, SUSPECTS)
        return found.points_xy is not None


def _input_size(source: ModelSource, written: DetectorFile, label: str) -> tuple[int, int]:
    """Return height and width of the input: the graph's own, or the file's if the graph's is open.

    Raises:
        ModelError: they contradict each other.
        UsageError: neither is given.
    """
    inputs = graph_inputs(source)
    _require_input(written.input.name, [item.name for item in inputs], label)
    shapes = [
        item.shape
        for item in inputs
        if item.shape is not None
        and len(item.shape) == 4
        and item.name in (written.input.name or item.name, "")
    ]
    wanted, nhwc = written.input.size, written.input.layout == "nhwc"
    height, width = (None, None)
    if shapes:
        needs = written.input.channels
        height, width = shapes[0][1:3] if nhwc else shapes[0][2:]
        channels, at_other_end = shapes[0][3 if nhwc else 1], shapes[0][1 if nhwc else 3]
        if channels not in (None, needs):
            swapped = f': write layout = "{"nchw" if nhwc else "nhwc"}" in [input]'
            raise ModelError(
                f"{label}: its input has {channels} channels, channel_order = "
                f'"{written.input.channel_order}" gives {needs}'
                f"{swapped if at_other_end == needs else ''}"
            )
    fixed = source.kind != "darknet"  # a Darknet network runs at any multiple of its strides
    if fixed and wanted is not None and not _agree((height, width), wanted):
        raise ModelError(
            f"{label}: its input has height {height or 'any'} and width {width or 'any'}, "
            f"input.size gives height {wanted[0]} and width {wanted[1]}: write size = "
            f"[{height or wanted[0]}, {width or wanted[1]}], or omit it"
        )
    if wanted is not None:
        return wanted
    if source.kind == "onnx" and not inputs:
        raise ModelError(
            f"{source.path} is not a complete ONNX file, it has no input: compare its size with "
            "that of the original"
        )
    if height is None or width is None:
        raise UsageError(
            f"{label} takes pictures of any size: choose one with size = [height, width] in [input]"
        )
    return height, width


def _agree(own: tuple[int | None, int | None], wanted: tuple[int, int]) -> bool:
    return all(side in (None, other) for side, other in zip(own, wanted, strict=True))


def _require_input(name: str, known: list[str], label: str) -> None:
    if name and known and known[0] and name not in known:
        raise ModelError(f"{label} has no input {name!r}, it has {', '.join(known):.200}")
