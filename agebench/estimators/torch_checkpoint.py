"""`torch:PATH`: a checkpoint of ``agebench train`` itself, without exporting it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agebench.duplicates.training_hashes import RUN_HASHES, TrainingHashes, find_hashes
from agebench.errors import DeviceError, MissingDependencyError, ModelError, UsageError
from agebench.estimators.common import BATCH, DECODERS, checked_probabilities, predictions
from agebench.modelfiles.weights import sha256_of
from agebench.protocols import EstimatorSpec, RuntimeInfo
from agebench.types import AgePrediction, Crops, WeightsFile

if TYPE_CHECKING:
    from agebench.train.checkpoint import Checkpoint


def _import_training() -> Any:
    try:
        import torch

        from agebench.train import inference
    except ImportError as error:
        raise MissingDependencyError(
            f"'torch:' needs PyTorch ({error}): pip install 'agebench[train]', or export the "
            "checkpoint with 'agebench export-onnx' where it is installed"
        ) from error
    return torch, inference


class TorchCheckpoint:
    """A trained multi-crop network under PyTorch.

    Args:
        path: a checkpoint of ``agebench train``; its averaged weights are used.
        runtime: "torch".
        device: "cpu", the default, or "cuda".
        flip: average the distributions of each face and its mirror image.

    Raises:
        UsageError: no path, or another runtime.
        MissingDependencyError: PyTorch is not installed.
        WeightsError: the file is missing, damaged or not a checkpoint.
        DeviceError: "cuda" is not available.
    """

    def __init__(
        self,
        path: Path | None = None,
        runtime: str | None = None,
        device: str | None = None,
        flip: bool = False,
    ) -> None:
        if path is None:
            raise UsageError("'torch' needs a checkpoint: write torch:RUN/best.safetensors")
        if runtime not in (None, "torch"):
            raise UsageError(f"'torch:' only runs under torch, got {runtime!r}: export it first")
        if device not in (None, "cpu", "cuda"):
            raise UsageError(f"unknown device {device!r} for torch: use cpu or cuda")
        torch, inference = _import_training()
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError("torch can't use 'cuda' here: it finds no GPU; ask for '@torch:cpu'")
        self._network = inference.TrainedNetwork.of(path, device or "cpu", flip=flip)
        self._path = path
        info = RuntimeInfo("torch", device or "cpu", self._network.device, torch.__version__)
        self._label = f"torch ({path.name})"
        self._bins = self._network.saved.settings.model.bins
        self._spec = _spec(self._network.saved, path, info, flip=flip)

    @property
    def spec(self) -> EstimatorSpec:
        """See `agebench.protocols.Estimator.spec`."""
        return self._spec

    def training_hashes(self) -> TrainingHashes | None:
        """Return its training pictures, if the run's folder lists them."""
        return find_hashes(self._path, self._path.parent / RUN_HASHES)

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        """Return an age and a distribution over single years for each face.

        Raises:
            ModelError: a face lacks all views, or the network's output is not finite.
        """
        if not len(crops):
            return []
        seen = np.any([crops.present[name] for name in self._spec.crop.views], axis=0)
        if not seen.all():
            face = int(np.argmin(seen))
            raise ModelError(f"{self._label}: face {face} lacks all views")
        parts = [
            self._network.probabilities(crops.take(slice(start, start + BATCH)))
            for start in range(0, len(crops), BATCH)
        ]
        probabilities = checked_probabilities(np.concatenate(parts), self._label)
        return predictions(
            DECODERS[self._spec.decode](probabilities, self._bins), probabilities, self._label
        )


def _spec(saved: Checkpoint, path: Path, info: RuntimeInfo, *, flip: bool) -> EstimatorSpec:
    settings, licence = saved.settings, saved.about_text("dataset", "licence")
    return EstimatorSpec(
        name="torch",
        crop=settings.model.crop,
        decode=settings.decode,
        channel_order="bgr",
        bins=settings.model.bins,
        weights=(WeightsFile(path.name, sha256_of(path), licence, "agebench train"),),
        trained_on=saved.trained_on,
        trained_sets=saved.trained_sets,
        label_kind=saved.label_kind,
        runtime=info,
        settings={"flip": flip, "missing": "learned"},
        licence=licence,
        source="agebench train",
        notes=("terms of the training data hold for the weights too",) if licence else (),
    )
