"""Common code of estimators: from crops to blobs, through a network, to checked predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from agebench.errors import ModelError, UsageError, suggestion
from agebench.metrics.age_classes import (
    SUM_TOLERANCE,
    expectation,
    median,
    top2_expectation,
    years_from_classes,
)
from agebench.protocols import EstimatorSpec
from agebench.runtimes.base import Model, Tensor
from agebench.types import MAX_AGE_YEARS, AgeBins, AgePrediction, Crops, Floats, Image, ViewSpec
from agebench.vision.opencv import cv2

ChannelOrder: TypeAlias = Literal["bgr", "rgb", "gray"]
BlobLayout: TypeAlias = Literal["nchw", "nhwc"]
Decoder: TypeAlias = Callable[[Floats, AgeBins], Floats]

BATCH = 32
"""Largest batch of a network: 20 MB of blob at 227x227."""

OVERSHOOT_YEARS = 20.0
"""Regression outputs this far outside of 0 to `MAX_AGE_YEARS` are clipped; beyond, it is an error.

Far outside, the scale or the mean is wrong, and clipping would hide that.
"""

DECODERS: Mapping[str, Decoder] = MappingProxyType(
    {
        "expectation": lambda probabilities, bins: expectation(probabilities, bins.midpoints),
        "top2-expectation": lambda probabilities, bins: top2_expectation(
            probabilities, bins.midpoints
        ),
        "median": median,
        "midpoint": lambda probabilities, bins: years_from_classes(probabilities, bins, "midpoint"),
    }
)
"""Functions from probabilities (n, bins) to years (n,), by the name recorded in specs."""


def require_known_option(what: str, value: object, known: Iterable[object]) -> None:
    """Raise a UsageError that suggests similar names unless `value` is in `known`.

    Raises:
        UsageError: it is not.
    """
    names = list(known)
    if value not in names:
        hint = suggestion(str(value), [str(name) for name in names])
        raise UsageError(f"unknown {what} {value!r}: {hint}")


@dataclass(frozen=True, slots=True)
class InputFormat:
    """A network's preprocessing: ``(pixel - mean) * scale / std``, per channel.

    Attributes:
        channel_order: of the network's input.
        mean: on the 0..255 scale, one per channel, in `channel_order`.
        scale: factor after subtracting the mean.
        std: one divisor per channel, in `channel_order`; empty for none.
        layout: order of the blob's axes.
    """

    channel_order: ChannelOrder = "bgr"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    std: tuple[float, ...] = ()
    layout: BlobLayout = "nchw"

    def __post_init__(self) -> None:
        if len(self.mean) != self.channels:
            raise ValueError(f"expected {self.channels} mean values, got {len(self.mean)}")
        if self.std and (len(self.std) != self.channels or min(self.std) <= 0):
            raise ValueError(f"expected {self.channels} std values above 0, got {self.std}")
        if self.scale == 0:
            raise ValueError("scale must not be 0")

    @property
    def channels(self) -> int:
        """Number of channels: 1 for gray, else 3."""
        return 1 if self.channel_order == "gray" else 3

    def blob(self, pixels_bgr: Image) -> npt.NDArray[np.float32]:
        """Return the float32 blob of n >= 1 crops.

        Args:
            pixels_bgr: uint8 (n, height, width, 3).

        Returns:
            (n, channels, height, width), or (n, height, width, channels) for "nhwc".
        """
        images: Sequence[npt.NDArray[np.uint8]] = list(pixels_bgr)
        if self.channel_order == "gray":
            images = [np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)) for image in images]
        params = cv2.dnn.Image2BlobParams()
        divisors = self.std or (1.0,) * self.channels
        params.scalefactor = _scalar([self.scale / divisor for divisor in divisors])
        params.mean = _scalar(self.mean)
        params.swapRB = self.channel_order == "rgb"
        nhwc = self.layout == "nhwc"
        params.datalayout = cv2.dnn.DNN_LAYOUT_NHWC if nhwc else cv2.dnn.DNN_LAYOUT_NCHW
        return np.asarray(cv2.dnn.blobFromImagesWithParams(images, params), np.float32)


def _scalar(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Return OpenCV's scalar of four numbers for one or three channels."""
    first, second, third = values if len(values) == 3 else (values[0], 0.0, 0.0)
    return (first, second, third, 0.0)


def view_pixels(crops: Crops, name: str, view: ViewSpec) -> Image:
    """Return the pixels of one view, uint8 (n, height, width, 3).

    Raises:
        UsageError: `crops` does not contain this view.
        ModelError: the view is missing for a face; the message gives the face's index.
    """
    if name not in crops.views:
        raise UsageError(f"there is no view {name!r} in the crops, only {', '.join(crops.views)}")
    pixels = crops.views[name]
    if pixels.shape[1:3] != view.size_hw:
        raise UsageError(
            f"view {name!r} must be {view.size_hw} pixels (height, width), got {pixels.shape[1:3]}"
        )
    missing = np.flatnonzero(~crops.present[name])
    if len(missing):
        raise ModelError(
            f"face {missing[0]}: view {name!r} is missing, and the estimator needs it: the region "
            "lies outside of the picture or is smaller than a pixel"
        )
    return pixels


def blank(view: ViewSpec, count: int = 1) -> Image:
    """Return black crops of one view, uint8 (count, height, width, 3), to try a network with."""
    return np.zeros((count, *view.size_hw, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class SingleOutputNetwork:
    """A model with one input and one output that is used.

    Attributes:
        model: what runs it.
        label: its name in error messages.
        width: numbers per face in the output; None for any.
        input_name: "" for the only one.
        output_name: "" for the only one.
    """

    model: Model
    label: str
    width: int | None
    input_name: str = ""
    output_name: str = ""

    def rows(self, blob: Tensor) -> Floats:
        """Run once and return the output as float64 (len(blob), numbers).

        Raises:
            ModelError: it can't be run, or the output's shape or a number is invalid.
        """
        outputs = self.model.run({self.input_name: blob})
        value = self._pick(outputs)
        count = len(blob)
        shape = np.shape(value)
        width = self.width or value.size // count
        if not width or value.size != count * width or (shape[:1] != (count,) and count > 1):
            wanted = f"({count}, {self.width or '...'})"
            raise ModelError(f"{self.label}: expected an output of shape {wanted}, got {shape}")
        values = np.asarray(value, np.float64).reshape(count, width)
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise ModelError(
                f"{self.label}: the output for face {bad[0]} of a batch of {count} is not finite"
            )
        return values

    def _pick(self, outputs: Mapping[str, Tensor]) -> Tensor:
        if self.output_name in outputs:
            return outputs[self.output_name]
        if len(outputs) != 1 or self.output_name:
            wanted = f"output {self.output_name!r}" if self.output_name else "one output"
            raise ModelError(f"{self.label}: expected {wanted}, the model has {sorted(outputs)}")
        return next(iter(outputs.values()))


def in_batches(pixels: Image, infer: Callable[[Image], Floats], batch: int = BATCH) -> Floats:
    """Apply `infer` to at most `batch` of n >= 1 crops at a time and join the rows."""
    return np.concatenate(
        [infer(pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
    )


def are_probabilities(values: Floats) -> bool:
    """Return whether every row (n, bins) contains probabilities: none negative, summing to 1."""
    return not np.any(_not_probabilities(values))


def _not_probabilities(values: Floats) -> npt.NDArray[np.bool_]:
    far = np.abs(values.sum(axis=1) - 1.0) > SUM_TOLERANCE
    return np.asarray((values.min(axis=1) < 0) | far)


def checked_probabilities(values: Floats, label: str) -> Floats:
    """Return rows of probabilities, rescaled to sum to exactly 1.

    Raises:
        ModelError: one is negative, or a row's sum differs from 1 by more than `SUM_TOLERANCE`.
    """
    totals = values.sum(axis=1, keepdims=True)
    wrong = _not_probabilities(values)
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise ModelError(
            f"{label}: expected probabilities for face {row}, none negative and summing to 1, got "
            f"a minimum of {values[row].min():.4g} and a sum of {totals[row, 0]:.4g}: is "
            "there no softmax (logits)?"
        )
    return np.asarray(values / totals, np.float64)


def predictions(
    years: Floats, probabilities: Floats | None = None, label: str = ""
) -> list[AgePrediction]:
    """Return predictions from ages (n,), and probabilities (n, bins) if there are any.

    Ages up to `OVERSHOOT_YEARS` outside of 0 to `MAX_AGE_YEARS` are clipped to that range.

    Raises:
        ModelError: an age is not finite or further outside; the message gives the face's index.
    """
    low, high = -OVERSHOOT_YEARS, MAX_AGE_YEARS + OVERSHOOT_YEARS
    wrong = np.flatnonzero(~((years >= low) & (years <= high)))
    if len(wrong):
        raise ModelError(
            f"{label}: expected an age in years for face {wrong[0]}, got {years[wrong[0]]:g}: "
            "the mean, the scale or the output's meaning is wrong"
        )
    limited = np.clip(years, 0.0, MAX_AGE_YEARS)
    rows: Iterable[Floats | None] = (
        [None] * len(limited) if probabilities is None else probabilities
    )
    return [AgePrediction(float(age), row) for age, row in zip(limited, rows, strict=True)]


class OneViewEstimator:
    """Base of networks that use only the view "face" and predict probabilities of ages.

    A subclass sets the attributes in its constructor, calls `_try_out`, and defines how years
    follow from probabilities.
    """

    _spec: EstimatorSpec
    _network: SingleOutputNetwork
    _input: InputFormat
    _view: ViewSpec
    _batch = BATCH

    @property
    def spec(self) -> EstimatorSpec:
        """See `agebench.protocols.Estimator.spec`."""
        return self._spec

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        """Return an age and the probabilities of the spec's bins for each face.

        Raises:
            ModelError: the view "face" of a face is missing, or the network fails.
        """
        pixels = view_pixels(crops, "face", self._view)
        if not len(pixels):
            return []
        probabilities = in_batches(pixels, self._probabilities, self._batch)
        return predictions(self._years(probabilities), probabilities, self._network.label)

    def _years(self, probabilities: Floats) -> Floats:
        """Return ages (n,) of probabilities (n, bins)."""
        raise NotImplementedError

    def _probabilities(self, pixels_bgr: Image) -> Floats:
        """Return probabilities (n, bins) of n crops."""
        return checked_probabilities(
            self._network.rows(self._input.blob(pixels_bgr)), self._network.label
        )

    def _try_out(self, refusal: Callable[[ModelError], str]) -> None:
        """Run once, to refuse an unsuitable file at the start; `refusal` makes the error."""
        try:
            self._probabilities(blank(self._view))
        except ModelError as error:
            raise ModelError(refusal(error)) from error
