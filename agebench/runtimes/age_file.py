"""Runs an exported age estimator: `AgeFile`, for the estimator `onnx` and the parity check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agebench.errors import ModelError, UsageError
from agebench.metrics.age_classes import SUM_TOLERANCE, expectation
from agebench.protocols import RuntimeInfo
from agebench.runtimes.base import ModelSource, Tensor
from agebench.runtimes.onnx_metadata import AGE, PRESENT, PROBABILITIES, FileSpec
from agebench.runtimes.onnx_reading import read_age_file
from agebench.runtimes.opening import open_model
from agebench.types import Crops, CropSpec, Floats

BATCH = 32
"""Largest batch on a processor, where larger ones gain nothing."""

DEVICE_BATCH = 256
"""Largest batch on a GPU, which small batches do not keep busy."""

DECODE_TOLERANCE_YEARS = 0.25
"""Tolerance between an age and its probabilities, also in half precision."""


class AgeFile:
    """A file of `agebench export-onnx`, checked and loaded.

    Args:
        path: the file; it is self-contained.
        runtime: "onnxruntime", "cv2dnn" or "torch"; None for onnxruntime.
        device: its name in the runtime; None for the CPU.
        batch: largest batch; None for `BATCH`, or `DEVICE_BATCH` on a GPU.
        as_stored: run the graph as it is in the file. Otherwise its first operations are computed
            before it under onnxruntime on the CPU, which takes less time and gives the same ages.

    Raises:
        WeightsError: the file is missing, unreadable or too large.
        ModelError: it is not such a file, contradicts its metadata, or can't be loaded.
        DeviceError: the device can't be used.
        UsageError: the file has 8-bit weights, which cv2.dnn can't run.
    """

    def __init__(
        self,
        path: Path,
        runtime: str | None = None,
        device: str | None = None,
        *,
        batch: int | None = None,
        as_stored: bool = False,
    ) -> None:
        checked = read_age_file(path)
        self.spec: FileSpec = checked.spec
        self._crop = checked.spec.crop
        self.sha256 = checked.sha256
        self.path = path
        self._batch = batch or (BATCH if device in (None, "cpu") else DEVICE_BATCH)
        if self.spec.precision == "int8" and runtime in ("cv2dnn", "torch"):
            raise UsageError(
                f"{path} has 8-bit weights, which {runtime} computes differently: use onnxruntime"
            )
        takes_pixels = runtime in (None, "onnxruntime") and device in (None, "cpu")
        self._pixels = tuple(self._crop.views) if takes_pixels and not as_stored else ()
        source = ModelSource(
            "onnx",
            path,
            outputs=(AGE, PROBABILITIES),
            inputs=tuple(self.spec.input_shapes),
            data=checked.data,
            pixels=self._pixels,
        )
        self._model = open_model(source, runtime=runtime or "onnxruntime", device=device)
        self._try_out()

    @property
    def runtime(self) -> RuntimeInfo:
        """The runtime and device in use, read back after loading."""
        return self._model.info

    def answer(self, crops: Crops) -> tuple[Floats, Floats]:
        """Return ages (n,) and probabilities (n, bins) of n >= 0 faces.

        Raises:
            UsageError: the crops are not those that the file needs.
            ModelError: a face lacks a view that the model needs, or the runtime fails.
        """
        feeds = self.feeds(crops)
        parts = [
            self._run({name: value[start : start + self._batch] for name, value in feeds.items()})
            for start in range(0, len(crops), self._batch)
        ]
        if not parts:
            return np.zeros(0), np.zeros((0, len(self.spec.bins)))
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([age for age, _ in parts]), np.concatenate([p for _, p in parts])

    def feeds(self, crops: Crops) -> dict[str, Tensor]:
        """Return the model's inputs for n faces by name, as in `answer`."""
        with_present = self.spec.missing == "learned"
        check_views(crops, self._crop, missing=with_present, who=self._who)
        if not self._pixels:
            return dict(feeds_of(crops, list(self._crop.views), with_present))
        feeds: dict[str, Tensor] = {
            name: crops.views[name].transpose(0, 3, 1, 2) for name in self._pixels
        }
        if with_present:
            feeds[PRESENT] = _present(crops, self._pixels)
        return feeds

    @property
    def _who(self) -> str:
        return f"{self.spec.name} ({self.path.name})"

    def _run(self, feeds: Mapping[str, Tensor]) -> tuple[Floats, Floats]:
        outputs = self._model.run(feeds)
        count = len(next(iter(feeds.values())))
        width = len(self.spec.bins)
        for name, size in ((AGE, count), (PROBABILITIES, count * width)):
            values = outputs[name]
            if values.size != size or not np.isfinite(values).all():
                raise ModelError(
                    f"{self._who}: expected {size} finite numbers in {name!r} for {count} faces, "
                    f"got {values.size} of shape {values.shape}"
                )
        years = np.asarray(outputs[AGE], np.float64).reshape(count)
        return years, self._probabilities(np.asarray(outputs[PROBABILITIES], np.float64), count)

    def _probabilities(self, values: Floats, count: int) -> Floats:
        probabilities = values.reshape(count, -1)
        totals = probabilities.sum(axis=1, keepdims=True)
        if (
            probabilities.min(initial=0.0) < 0
            or np.abs(totals - 1).max(initial=0.0) > SUM_TOLERANCE
        ):
            raise ModelError(
                f"{self._who}: expected probabilities that sum to 1, got a smallest of "
                f"{probabilities.min():.4g} and sums of {totals.min():.4g} to {totals.max():.4g}"
            )
        return np.asarray(probabilities / totals, np.float64)

    def _try_out(self) -> None:
        """Run two faces, so that an unsuitable file is refused at the start."""
        crops = generated(self._crop, 2)
        years, probabilities = self.answer(crops)
        if self.spec.decode != "expectation":
            return
        expected = expectation(probabilities, self.spec.bin_years)
        if np.abs(years - expected).max() > DECODE_TOLERANCE_YEARS:
            raise ModelError(
                f"{self.path} contradicts its metadata: its probabilities and bins mean "
                f"{expected[0]:.2f} years for a made-up face, the graph says {years[0]:.2f}"
            )


def feeds_of(
    crops: Crops, views: Sequence[str], with_present: bool
) -> dict[str, npt.NDArray[np.float32]]:
    """Return views as float32 (n, 3, height, width), and which are present as (n, views, 1, 1)."""
    feeds = {
        name: np.ascontiguousarray(crops.views[name].transpose(0, 3, 1, 2), np.float32)
        for name in views
    }
    if with_present:
        feeds[PRESENT] = _present(crops, views)
    return feeds


def _present(crops: Crops, views: Sequence[str]) -> npt.NDArray[np.float32]:
    there = np.stack([crops.present[name] for name in views], axis=1)
    return there.astype(np.float32)[:, :, None, None]


def check_views(crops: Crops, spec: CropSpec, *, missing: bool, who: str) -> None:
    """Refuse other crops, and faces with too many missing views.

    Args:
        crops: of n faces.
        spec: the crops that the model needs.
        missing: the model can work without some views, but not without all.
        who: the model's name in errors.

    Raises:
        UsageError: a view does not exist at all, or has another size.
        ModelError: a face lacks a view, or all.
    """
    for name, view in spec.views.items():
        if name not in crops.views:
            raise UsageError(
                f"{who}: there is no view {name!r} in the crops, only {list(crops.views)}"
            )
        size_hw = crops.views[name].shape[1:3]
        if size_hw != view.size_hw:
            raise UsageError(
                f"{who}: view {name!r} must be {view.size_hw} pixels (height, width), got {size_hw}"
            )
    present = np.stack([crops.present[name] for name in spec.views], axis=1)
    if present.all():
        return
    lacking = np.flatnonzero(~(present.any(axis=1) if missing else present.all(axis=1)))
    if len(lacking):
        absent = [
            name for name, flag in zip(spec.views, present[lacking[0]], strict=True) if not flag
        ]
        raise ModelError(
            f"{who}: face {lacking[0]}: {', '.join(map(repr, absent))} missing, but needed: the "
            "region lies outside of the picture or is smaller than a pixel"
        )


def generated(spec: CropSpec, count: int, seed: int = 0) -> Crops:
    """Return synthetic crops: smooth blobs of colour with all contrasts, and noise.

    They are not faces, but neighbouring pixels are similar as in faces; pure noise would activate a
    network in one way only.

    Args:
        spec: the views.
        count: number of faces.
        seed: equal seeds give equal crops.
    """
    random = np.random.default_rng(seed)
    views, present, outside = {}, {}, {}
    for name, view in spec.views.items():
        height, width = view.size_hw
        pixels = np.empty((count, height, width, 3), np.uint8)
        for index in range(count):
            coarse = random.uniform(0, 255, (6, 6, 3)) * random.uniform(0.2, 1.0)
            rows, columns = (np.linspace(0, 5, side) for side in (height, width))
            smooth = _between(_between(coarse, rows, 0), columns, 1)
            noisy = smooth + random.normal(0, random.uniform(0, 24), smooth.shape)
            pixels[index] = np.clip(noisy, 0, 255)
        views[name] = pixels
        present[name] = np.ones(count, np.bool_)
        outside[name] = np.zeros(count)
    return Crops(views, present, outside)


def _between(values: Floats, places: Floats, axis: int) -> Floats:
    """Interpolate linearly along an axis at fractional `places`."""
    low = np.minimum(places.astype(int), values.shape[axis] - 2)
    fraction = (places - low).reshape([-1 if axis == k else 1 for k in range(values.ndim)])
    first, second = values.take(low, axis), values.take(low + 1, axis)
    mixed: Floats = first * (1 - fraction) + second * fraction
    return mixed
