"""The interfaces of estimators, detectors and data sets, and the specs that describe them.

Third parties implement `Estimator` or `FaceDetector`, register a factory under the entry-point
group ``agebench.estimators`` or ``agebench.detectors``, and test it with `agebench.testing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from agebench.types import (
    LABEL_KINDS,
    AgeBins,
    AgePrediction,
    Crops,
    CropSpec,
    Face,
    Image,
    LabelKind,
    Problem,
    Sample,
    Setting,
    WeightsFile,
    frozen_mapping,
)

RuntimeName: TypeAlias = Literal["cv2dnn", "onnxruntime", "torch", "python"]

ProgressStep: TypeAlias = Callable[[str, int, int], None]
"""Reports progress: called with the stage's name, the steps done and the total number of steps."""


def no_progress(_stage: str, _done: int, _total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What actually runs a model, read back from it after loading.

    Attributes:
        runtime: "cv2dnn", "onnxruntime", "torch", or "python" for code without a network.
        device: "cpu", "cuda", "tensorrt" or "opencl".
        detail: the execution provider or target, as the runtime calls it.
        version: of the runtime library.
    """

    runtime: RuntimeName = "python"
    device: str = "cpu"
    detail: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class EstimatorSpec:
    """Everything that affects an estimator's ages, much of which is often not reported.

    Attributes:
        name: registry name.
        crop: its views.
        decode: how years are computed from the network's output, such as "expectation".
        channel_order: order of the channels in the network's input.
        mean: subtracted per channel, in `channel_order`, on the 0..255 scale.
        scale: factor applied after the mean.
        bins: the bins of `AgePrediction.probabilities`; None without a distribution.
        classes: age classes for which exact and one-off accuracy are reported; None without
            classes.
        weights: the model files in use.
        trained_on: description of the training data; "" if unknown.
        trained_sets: names of the data sets in it, for programs: agebench's own name for the set
            if it has one ("utkface", "fgnet"), otherwise the usual name in lower case
            ("imdb-wiki", "morph2"); () if unknown.
        label_kind: the kind of age that it was trained to predict.
        runtime: what runs it, read back after loading.
        settings: further options that affect the result.
        licence, source, citation: of the method.
        notes: what a reader of its figures must know.
        detector: reference of the detector that is part of the method, such as
            "opencv-ssd pad=0"; other detectors are refused.  "" if any detector may be used.
    """

    name: str
    crop: CropSpec
    decode: str
    channel_order: Literal["bgr", "rgb", "gray"] = "bgr"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    bins: AgeBins | None = None
    classes: AgeBins | None = None
    weights: tuple[WeightsFile, ...] = ()
    trained_on: str = ""
    trained_sets: tuple[str, ...] = ()
    label_kind: LabelKind = "unknown"
    runtime: RuntimeInfo = RuntimeInfo()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    licence: str = ""
    source: str = ""
    citation: str = ""
    notes: tuple[str, ...] = ()
    detector: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", frozen_mapping(self.settings))


@runtime_checkable
class Estimator(Protocol):
    """Predicts n ages from the crops of n faces."""

    @property
    def spec(self) -> EstimatorSpec:
        """What it is and how its ages are computed; constant after loading."""
        ...

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        """Return one prediction per face, in order.

        For zero faces the result is empty, and a batch gives the same ages as its faces one by
        one.  `crops` was cut according to `spec.crop` and must not be changed.  Must be safe to
        call from several threads.
        """
        ...


@dataclass(frozen=True, slots=True)
class BoxToFrame:
    """How a detector's upright box relates to the canonical face frame.

    The frame's centre is the box's centre moved by (`dx` box widths, `dy` box heights); the
    frame's height is `height` box heights.  Measured per detector by benchmarks/frames.py.
    """

    dx: float = 0.0
    dy: float = 0.0
    height: float = 1.0


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """What a detector is, and its settings.

    Attributes:
        name: registry name.
        landmark_scheme: scheme of its faces' landmarks, or "" without landmarks.
        box_to_frame: from its boxes to the canonical frame, for faces without landmarks.
        layout: whether its faces are at a fixed position in aligned pictures, not detected.
        weights, runtime, licence, source, citation, notes: as in `EstimatorSpec`.
        settings: confidence, NMS threshold, input size, which faces are kept.
    """

    name: str
    landmark_scheme: str = ""
    box_to_frame: BoxToFrame = BoxToFrame()
    layout: bool = False
    weights: tuple[WeightsFile, ...] = ()
    runtime: RuntimeInfo = RuntimeInfo()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    licence: str = ""
    source: str = ""
    citation: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", frozen_mapping(self.settings))


@runtime_checkable
class FaceDetector(Protocol):
    """Finds the faces in a picture."""

    @property
    def spec(self) -> DetectorSpec:
        """What it is, and its settings; constant after loading."""
        ...

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        """Return the faces, best score first; an empty sequence if there is none.

        `image_bgr` is uint8 (height, width, 3) of any size from 1x1 and must not be changed.
        Must be safe to call from several threads.
        """
        ...


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """What a data set is.

    Attributes:
        name: registry name.
        label_kind: how its ages were determined.
        aligned: whether its pictures are aligned chips, to be used with the detector `aligned`.
        licence: its terms.
        source, citation: where it is from.
        notes: what a reader of its figures must know, such as how its layout was recognised.
        averages: whether its pictures are averages of several faces, which resemble many pictures
            but are copies of none: near copies of training pictures are not searched for.

    Raises:
        ValueError: the label kind is none of `LABEL_KINDS`.
    """

    name: str
    label_kind: LabelKind
    aligned: bool = False
    licence: str = ""
    source: str = ""
    citation: str = ""
    notes: tuple[str, ...] = ()
    averages: bool = False

    def __post_init__(self) -> None:
        if self.label_kind not in LABEL_KINDS:
            known = ", ".join(LABEL_KINDS)
            raise ValueError(f"label_kind must be one of {known}, got {self.label_kind!r}")


@runtime_checkable
class Dataset(Protocol):
    """The labelled pictures under one root, and the problems with the rest."""

    @property
    def spec(self) -> DatasetSpec:
        """What it is."""
        ...

    @property
    def samples(self) -> Sequence[Sample]:
        """All usable samples, sorted by name; pixels are not read."""
        ...

    @property
    def problems(self) -> Sequence[Problem]:
        """Everything that was left out, with the reason."""
        ...
