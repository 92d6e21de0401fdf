"""The content of a detector's spec file: its tables as frozen dataclasses."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from agebench.detectors.common import MAX_INPUT_SIDE, MAX_PAD
from agebench.detectors.heads import YOLOV5_FACE_ANCHORS, Anchors
from agebench.estimators.common import InputFormat
from agebench.estimators.spec_schema import About, Files, Runtime, StatedFormat
from agebench.estimators.toml_reader import read_toml
from agebench.protocols import BoxToFrame
from agebench.util.typed_records import require

Kind: TypeAlias = Literal[
    "darknet", "retinaface", "scrfd", "ssd", "ultraface", "yolov5-face", "yolov8", "yolov8-lite"
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class DetectorInput(StatedFormat):
    """Table [input]: how a picture is placed in the input, and its preprocessing."""

    size: tuple[int, int] | None = None
    fit: Literal["letterbox", "stretch"] = "letterbox"

    def __post_init__(self) -> None:
        InputFormat.__post_init__(self)
        require(
            self.size is None or all(0 < side <= MAX_INPUT_SIDE for side in self.size),
            f"size must be height and width, 1 to {MAX_INPUT_SIDE}",
        )


@dataclass(frozen=True, slots=True)
class DetectorOutput:
    """Table [output]: the kind of head, and parameters of some kinds."""

    kind: Kind
    anchors: tuple[tuple[float, ...], ...] = ()
    units: Literal["pixels", "fractions", "shares"] = "pixels"  # "shares": as it was first called

    def __post_init__(self) -> None:
        require(
            not self.anchors or self.kind == "yolov5-face",
            "anchors are for kind = 'yolov5-face' only",
        )
        require(
            self.units == "pixels" or self.kind in ("yolov5-face", "yolov8"),
            "units is for kind = 'yolov5-face' and 'yolov8' only: the others have a fixed unit",
        )
        pairs = all(len(level) == 6 and min(level) > 0 for level in self.anchors)
        require(pairs, "anchors must be a list per stride, of three widths and heights each")

    def anchors_by_stride(self) -> Anchors:
        """Return the anchors, the published ones by default."""
        if not self.anchors:
            return YOLOV5_FACE_ANCHORS
        return tuple(
            tuple((level[at], level[at + 1]) for at in range(0, 6, 2)) for level in self.anchors
        )


@dataclass(frozen=True, slots=True)
class Detect:
    """Table [detect]: which faces are kept, unless the command line says otherwise."""

    confidence: float = 0.5
    nms: float = 0.45
    pad: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        require(0 <= self.confidence <= 1, "confidence must be from 0 to 1")
        require(0 <= self.nms <= 1, "nms must be from 0 to 1")
        require(
            self.pad == "auto" or 0 <= self.pad <= MAX_PAD,
            f"pad must be 'auto' or 0 to {MAX_PAD:g}",
        )


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Table [frame]: from its boxes to the canonical frame, as measured by 'agebench fit-frame'."""

    dx: float
    dy: float
    height: float

    def __post_init__(self) -> None:
        require(abs(self.dx) <= 1 and abs(self.dy) <= 1, "dx and dy must be from -1 to 1")
        require(0.2 <= self.height <= 5, "height must be from 0.2 to 5")

    def box_to_frame(self) -> BoxToFrame:
        """Return the proportions."""
        return BoxToFrame(self.dx, self.dy, self.height)


@dataclass(frozen=True, slots=True)
class DetectorFile:
    """A whole spec file of a detector."""

    name: str
    files: Files
    input: DetectorInput
    output: DetectorOutput
    runtime: Runtime = field(default_factory=Runtime)
    detect: Detect = Detect()
    frame: FrameTable | None = None
    about: About = field(default_factory=About)

    def __post_init__(self) -> None:
        require(
            _NAME.fullmatch(self.name),
            f"name must be of letters, digits, '_', '.' and '-', got {self.name!r}",
        )


def read_detector_spec(path: Path) -> DetectorFile:
    """Read and check a detector's spec file; the model is not opened.

    Raises:
        UsageError: it can't be read or is invalid; the message names the file and the key.
    """
    return read_toml(path, DetectorFile)
