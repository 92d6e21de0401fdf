"""The multi-crop networks that this project trained and that are bundled with the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agebench.estimators.onnx_file import OnnxFile
from agebench.modelfiles.weights import resolve
from agebench.runtimes.opening import require_unchanged

FILE = "multicrop-resnet.onnx"
SMALL_FILE = "multicrop-resnet-small.onnx"

TRAINED_SETS = ("utkface", "longevitynet", "fairface")
TRAINED_ON = (
    "UTKFace (utkface-full/train), LongevityNet, FairFace; answers of its own earlier weights and "
    "of hse-mobilenet (IMDB-WIKI)"
)
"""Training data of the bundled weights; their files only name the first set."""


class _Bundled(OnnxFile):
    def __init__(
        self, file: str, path: Path | None, runtime: str | None, device: str | None
    ) -> None:
        weights = resolve(file, explicit=path)
        super().__init__(weights.path, runtime, device)
        require_unchanged(weights.path, weights.info.sha256, self._file.sha256)
        if weights.info.published:
            self._spec = replace(self._spec, trained_on=TRAINED_ON, trained_sets=TRAINED_SETS)


class MultiCropNetwork(_Bundled):
    """The bundled multi-crop ResNet; pretrained/multicrop-resnet.md is its model card.

    Args:
        path: another file of ``agebench export-onnx`` to use instead.
        runtime, device: as for `onnx:FILE`.

    Raises:
        WeightsUnavailableError: the bundled file is missing from the installation.
        ModelError, DeviceError: as for `onnx:FILE`.
    """

    def __init__(
        self, path: Path | None = None, runtime: str | None = None, device: str | None = None
    ) -> None:
        super().__init__(FILE, path, runtime, device)


class SmallMultiCropNetwork(_Bundled):
    """The same network with 8-bit weights, which does not also evaluate the mirror image.

    pretrained/multicrop-resnet-small.md is its model card; arguments and errors are those of
    `MultiCropNetwork`.
    """

    def __init__(
        self, path: Path | None = None, runtime: str | None = None, device: str | None = None
    ) -> None:
        super().__init__(SMALL_FILE, path, runtime, device)
