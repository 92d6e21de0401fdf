"""`onnx:PATH`: a file written by ``agebench export-onnx``, which is self-contained."""

from __future__ import annotations

from pathlib import Path

from agebench.duplicates.training_hashes import TrainingHashes, find_hashes
from agebench.errors import UsageError
from agebench.estimators.common import predictions
from agebench.protocols import EstimatorSpec
from agebench.runtimes.age_file import AgeFile
from agebench.types import AgePrediction, Crops, WeightsFile


class OnnxFile:
    """An exported age estimator.

    Args:
        path: the file; all its preprocessing and decoding is stated in its metadata.
        runtime: "onnxruntime", the default, "cv2dnn" or "torch".
        device: "cpu", the default; "cuda" or "tensorrt" under onnxruntime, "opencl" or "cuda"
            under cv2dnn, "cuda" under torch.

    Raises:
        UsageError: no path.
        WeightsError: the file is missing, unreadable or too large.
        ModelError: it is not a file of ``agebench export-onnx``, contradicts its metadata, or can't
            be loaded.
        DeviceError: the runtime is available but not with that device.
    """

    def __init__(
        self, path: Path | None = None, runtime: str | None = None, device: str | None = None
    ) -> None:
        if path is None:
            raise UsageError("'onnx' needs a file: write onnx:model.onnx")
        self._file = AgeFile(path, runtime, device)
        self._spec = _spec(self._file)

    @property
    def spec(self) -> EstimatorSpec:
        """See `agebench.protocols.Estimator.spec`."""
        return self._spec

    def training_hashes(self) -> TrainingHashes | None:
        """Return its training pictures, if they are listed next to the file."""
        return find_hashes(self._file.path)

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        """Return an age and a distribution over the file's bins for each face.

        Raises:
            ModelError: a face lacks a view that the model needs, or the model fails.
        """
        years, probabilities = self._file.answer(crops)
        return predictions(years, probabilities, f"{self._spec.name} ({self._file.path.name})")


def _spec(file: AgeFile) -> EstimatorSpec:
    written = file.spec
    sources = tuple(
        WeightsFile(item.file, item.sha256, item.licence, item.source) for item in written.sources
    )
    own = WeightsFile(file.path.name, file.sha256, written.licence, "exported by agebench")
    return EstimatorSpec(
        name=written.name,
        crop=written.crop,
        decode=written.decode,
        channel_order=written.channel_order,
        bins=written.age_bins,
        classes=written.age_bins if written.classes else None,
        weights=(own, *sources),
        trained_on=written.trained_on,
        trained_sets=written.trained_sets,
        label_kind=written.label_kind,
        runtime=file.runtime,
        settings={
            "precision": written.precision,
            "missing": written.missing,
            "mirrored": ", ".join(written.mirrored_views) or written.mirrored,
            "normalisation": f"in the graph: {written.normalisation}",
        },
        licence=written.licence,
        source=written.source,
        citation=written.citation,
        notes=written.notes,
    )
