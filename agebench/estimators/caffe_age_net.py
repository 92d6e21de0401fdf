"""`caffe-age-net`: the published age network of Levi & Hassner (CVPR Workshops 2015).

The weights are not bundled; any caffemodel of the same layout can be used by its path.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from agebench.errors import AgebenchError, ModelError, UsageError
from agebench.estimators.common import (
    BATCH,
    InputFormat,
    OneViewEstimator,
    SingleOutputNetwork,
    checked_probabilities,
    require_known_option,
)
from agebench.metrics.age_classes import ADIENCE_CLASSES, years_from_classes
from agebench.metrics.class_years import ClassYears, read_class_years
from agebench.modelfiles.manifest import bundled_dir
from agebench.modelfiles.weights import ResolvedWeights, resolve
from agebench.protocols import EstimatorSpec
from agebench.runtimes.age_net_layout import (
    CHANNEL_MEAN,
    INPUT_NAME,
    INPUT_SHAPE,
    OUTPUT_NAME,
    deploy_prototxt,
)
from agebench.runtimes.base import ModelSource
from agebench.runtimes.caffe_model import read_caffemodel, read_mean
from agebench.runtimes.opening import open_model
from agebench.types import (
    CropSpec,
    Floats,
    Image,
    ViewSpec,
    WeightsFile,
)

FILE = "age_net.caffemodel"
MEAN_FILE = "mean.binaryproto"
SOURCE = "https://github.com/GilLevi/AgeGenderDeepLearning"
CITATION = (
    "G. Levi and T. Hassner, Age and Gender Classification using Convolutional Neural Networks, "
    "CVPR Workshops 2015"
)

WINDOW = INPUT_SHAPE[1]
"""Side of the network's input, pixels."""

FULL = 256
"""Side of the picture from which the authors' demo cuts its windows, pixels."""

USUAL_MARGIN_PX = 20.0
"""Margin of the usual code around the detector's box on every side, picture pixels."""

TUTORIAL_DETECTOR = "opencv-ssd pad=0 faces=best"
"""The tutorials' face detector; of several faces the one with the best score is used."""

UTKFACE_YEARS = "caffe-age-net.utkface-years.json"
"""Fitted on 1,500 pictures of UTKFace's training part, for the published file with these options:

    agebench fit-years caffe-age-net@onnxruntime --dataset utkface --root UTKFACE \
        --detector aligned --protocol utkface-full --part train --sample 1500
"""

Crop: TypeAlias = Literal[1, 10]
YearsRule: TypeAlias = Literal["expectation", "midpoint"]
MeanRule: TypeAlias = Literal["channel", "image"]
Recipe: TypeAlias = Literal["tutorial"]
Blob: TypeAlias = npt.NDArray[np.float32]

_GAPS = (
    "the network's eight classes have gaps: nobody aged 3, 7, 13-14, 21-24, 33-37, 44-47 or 54-59 "
    "years is in any of them"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """How crops are preprocessed and classes become years.

    Attributes:
        crops: 1, or 10 for the four corners and the centre of a 256x256 crop, and their mirrored
            copies, with the probabilities averaged.
        years: "expectation" over the classes' midpoints, or the "midpoint" of the most probable.
        mean: "channel" for `CHANNEL_MEAN`, "image" for the authors' mean image; None for
            "channel" with one crop and "image" with ten, as they were published.
        margin: added on every side, as a fraction of the face; None for `USUAL_MARGIN_PX`.
        recipe: "tutorial" for the same choices as OpenCV's tutorials, from `TUTORIAL_DETECTOR` to
            the most probable class; excludes other options.

    Raises:
        UsageError: a value is not one of these.
    """

    crops: Crop = 1
    years: YearsRule | None = None
    mean: MeanRule | None = None
    margin: float | None = None
    recipe: Recipe | None = None
    view: ViewSpec = field(init=False)

    def __post_init__(self) -> None:
        if self.recipe is not None:
            self._follow_recipe()
            return
        if self.years is None:
            object.__setattr__(self, "years", "expectation")
        require_known_option("number of crops of caffe-age-net", self.crops, (1, 10))
        require_known_option("years rule of caffe-age-net", self.years, ("expectation", "midpoint"))
        if self.mean is None:
            object.__setattr__(self, "mean", "channel" if self.crops == 1 else "image")
        require_known_option("mean of caffe-age-net", self.mean, ("channel", "image"))
        side = WINDOW if self.crops == 1 and self.mean == "channel" else FULL
        fraction, pixels = (0.0, USUAL_MARGIN_PX) if self.margin is None else (self.margin, 0.0)
        try:
            view = ViewSpec("face", (side, side), margin=fraction, margin_px=pixels, border="clip")
        except ValueError as error:
            raise UsageError(f"caffe-age-net can't use this crop: {error}") from error
        object.__setattr__(self, "view", view)

    def _follow_recipe(self) -> None:
        require_known_option("recipe of caffe-age-net", self.recipe, ("tutorial",))
        chosen = {"years": self.years, "mean": self.mean, "margin": self.margin}
        conflicting = [name for name, value in chosen.items() if value is not None]
        if conflicting or self.crops != 1:
            raise UsageError(
                f"recipe={self.recipe} of caffe-age-net fixes crops, years, mean and margin: "
                f"omit {', '.join(conflicting or ['crops'])}"
            )
        object.__setattr__(self, "years", "midpoint")
        object.__setattr__(self, "mean", "channel")
        side, pixels = (WINDOW, WINDOW), USUAL_MARGIN_PX
        view = ViewSpec("box", side, margin_px=pixels, border="slice")
        object.__setattr__(self, "view", view)

    @property
    def batch(self) -> int:
        """Faces per run of the network: fewer if each face is shown ten times."""
        return BATCH if self.crops == 1 else 4


class CaffeAgeNet(OneViewEstimator):
    """Eight age classes from one 227x227 crop, or from ten.

    Args:
        path: a caffemodel of the published layout; None takes the published one from the
            usual places.
        runtime: "cv2dnn", the default; "onnxruntime" or "torch", for which the file is converted.
        device: None for the CPU.
        crops, years, mean, margin, recipe: see `Settings`.
        mean_file: the mean image, for ``mean=image``; None takes the published one.
        table: years per class that ``agebench fit-years`` fitted for these weights and options,
            or "utkface" for those that come with the package (`UTKFACE_YEARS`); None takes the
            classes' midpoints.

    Raises:
        UsageError: an unknown option, or a table that does not match.
        WeightsUnavailableError: a published file is not available.
        WeightsError: a file given by its path is missing, or not a model.
        ModelError: the file is not a caffemodel of this layout, or not a mean image.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - each option of the command line is a parameter
        self,
        path: Path | None = None,
        runtime: str | None = None,
        device: str | None = None,
        crops: Crop = 1,
        years: YearsRule | None = None,
        mean: MeanRule | None = None,
        margin: float | None = None,
        recipe: Recipe | None = None,
        mean_file: Path | None = None,
        table: Path | None = None,
    ) -> None:
        self._settings = Settings(crops, years, mean, margin, recipe)
        if mean_file is not None and self._settings.mean != "image":
            raise UsageError("caffe-age-net uses mean_file only with mean=image: give both")
        weights = resolve(FILE, explicit=path)
        found = [weights]
        self._mean_image: Blob | None = None
        if self._settings.mean == "image":
            found.append(resolve(MEAN_FILE, explicit=mean_file))
            self._mean_image = read_mean(found[-1].path)
        source = age_net_source(weights, runtime, len(ADIENCE_CLASSES))
        model = open_model(source, runtime=runtime, device=device)
        label = f"caffe-age-net ({weights.path.name})"
        self._network = SingleOutputNetwork(
            model, label, len(ADIENCE_CLASSES), output_name=OUTPUT_NAME
        )
        self._rule: YearsRule = self._settings.years or "expectation"
        self._input = InputFormat("bgr", mean=self._channel_mean())
        self._table: ClassYears | None = None
        self._table_sha256 = ""
        if table is not None:
            own = bundled_dir() / UTKFACE_YEARS if str(table) == "utkface" else table
            self._table, self._table_sha256 = read_class_years(own)
        self._view, self._batch = self._settings.view, self._settings.batch
        self._try_out(
            lambda error: wrong_layout(weights.path, error, len(ADIENCE_CLASSES), "classes")
        )
        self._spec = self._make_spec(found)
        if self._table is not None:
            self._table.require_fit(self._spec)

    def _years(self, probabilities: Floats) -> Floats:
        fitted = None if self._table is None else self._table.years
        return years_from_classes(probabilities, ADIENCE_CLASSES, self._rule, fitted)

    def _probabilities(self, pixels_bgr: Image) -> Floats:
        """Return class probabilities (n, 8), averaged over the windows of each face."""
        blob = self._windows(pixels_bgr)
        probabilities = checked_probabilities(self._network.rows(blob), self._network.label)
        mean = probabilities.reshape(len(pixels_bgr), -1, probabilities.shape[1]).mean(axis=1)
        return np.asarray(mean, np.float64)

    def _windows(self, pixels_bgr: Image) -> Blob:
        """Return the blob of all windows, grouped by face."""
        if self._mean_image is None:
            blob = self._input.blob(pixels_bgr)
        else:
            blob = InputFormat("bgr").blob(pixels_bgr) - self._mean_image
        if self._settings.crops == 10:
            return ten_windows(blob)
        return centre_window(blob)

    def _channel_mean(self) -> tuple[float, ...]:
        if self._mean_image is None:
            return CHANNEL_MEAN
        return tuple(float(value) for value in self._mean_image.mean(axis=(1, 2), dtype=float))

    def _make_spec(self, found: Sequence[ResolvedWeights]) -> EstimatorSpec:
        settings = self._settings
        files = tuple(item.info for item in found)
        fitted = {} if self._table is None else {"table": self._table_sha256}
        remarks = [] if self._table is None else [self._table.summary]
        published = files[0].published
        return EstimatorSpec(
            name="caffe-age-net",
            crop=CropSpec({"face": settings.view}),
            decode=self._rule,
            channel_order=self._input.channel_order,
            mean=self._input.mean,
            scale=self._input.scale,
            bins=ADIENCE_CLASSES,
            classes=ADIENCE_CLASSES,
            weights=files,
            trained_on="Adience" if published else "",
            trained_sets=("adience",) if published else (),
            label_kind="apparent" if published else "unknown",
            runtime=self._network.model.info,
            settings={
                "crops": settings.crops,
                "years": self._rule,
                "mean": settings.mean,
                **({} if settings.recipe is None else {"recipe": settings.recipe}),
                **fitted,
            },
            licence=files[0].licence,
            source=SOURCE if published else files[0].source,
            citation=CITATION,
            notes=(_GAPS, *remarks, *_foreign(files)),
            detector="" if settings.recipe is None else TUTORIAL_DETECTOR,
        )


def age_net_source(weights: ResolvedWeights, runtime: str | None, classes: int) -> ModelSource:
    """Return the Caffe files, or the network converted to ONNX for a runtime that can't read them.

    Raises:
        ModelError: the file to be converted is of another layout.
    """
    if runtime in ("onnxruntime", "torch"):
        from agebench.conversion.converted import converted_age_net

        path = converted_age_net(weights.path, weights.info.sha256)
        return ModelSource("onnx", path, outputs=(OUTPUT_NAME,), inputs=(INPUT_NAME,))
    return ModelSource(
        "caffe",
        weights.path,
        config=deploy_prototxt(classes),
        outputs=(OUTPUT_NAME,),
        sha256=weights.info.sha256,
    )


def wrong_layout(path: Path, error: ModelError, expected: int, what: str) -> str:
    """Return the error for a caffemodel that is not the age network with `expected` classes.

    If it is the network with another number of classes, the message says so and suggests the
    estimator for that number; otherwise it is `error`.
    """
    reason = str(error)
    with suppress(AgebenchError, IndexError):
        found = read_caffemodel(path).layer("fc8").blobs[0].shape[0]
        if found != expected:
            name = _BY_CLASSES.get(found)
            advice = f": use {name}:{path}" if name else ""
            reason = f"it has {found} classes, expected {expected}{advice}"
    return (
        f"{path} is not a caffemodel of the age network's layout (conv1 to fc8, {expected} "
        f"{what}): {reason}"
    )


_BY_CLASSES = {8: "caffe-age-net", 117: "caffe-age-net-utkface"}


def _foreign(files: Sequence[WeightsFile]) -> list[str]:
    return [
        f"not the published weights: {item.file} has another hash"
        for item in files
        if not item.published
    ]


def centre_window(blob: Blob) -> Blob:
    """Return the 227x227 centre of pictures (n, 3, height, width); 256 leaves 14 and 15 px."""
    top, left = ((side - WINDOW) // 2 for side in blob.shape[2:])
    return np.ascontiguousarray(blob[:, :, top : top + WINDOW, left : left + WINDOW])


def ten_windows(blob: Blob) -> Blob:
    """Return corners, centre and their mirror images of each picture.

    As Caffe's `io.oversample`.

    Args:
        blob: float32 (n, 3, height, width), at least 227 each way.

    Returns:
        float32 (n * 10, 3, 227, 227): ten in a row per picture, five not mirrored (top-left,
        top-right, bottom-left, bottom-right, centre), then the same mirrored left to right.
    """
    far_y, far_x = (side - WINDOW for side in blob.shape[2:])
    corners = [(0, 0), (0, far_x), (far_y, 0), (far_y, far_x), (far_y // 2, far_x // 2)]
    five = np.stack([blob[:, :, y : y + WINDOW, x : x + WINDOW] for y, x in corners], axis=1)
    ten = np.concatenate([five, five[..., ::-1]], axis=1)
    return np.ascontiguousarray(ten.reshape(-1, *ten.shape[2:]))
