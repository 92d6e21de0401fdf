"""The multi-crop networks that this project trained and that come with the package."""

from __future__ import annotations

from pathlib import Path

from agebench.estimators.onnx_file import OnnxFile
from agebench.weights import resolve

FILE = "multicrop-resnet.onnx"
SMALL_FILE = "multicrop-resnet-small.onnx"


class MultiCropNetwork(OnnxFile):
    """The bundled multi-crop ResNet; pretrained/multicrop-resnet.md is its model card.

    Args:
        path: another file of ``agebench export-onnx`` in its place.
        runtime, device: as for `onnx:FILE`.

    Raises:
        WeightsUnavailableError: the bundled file is missing from the installation.
        ModelError, DeviceError: as for `onnx:FILE`.
    """

    def __init__(
        self, path: Path | None = None, runtime: str | None = None, device: str | None = None
    ) -> None:
        super().__init__(resolve(FILE, explicit=path).path, runtime, device)


class SmallMultiCropNetwork(OnnxFile):
    """The same network with 8-bit numbers, which looks at each face once, not mirrored too.

    pretrained/multicrop-resnet-small.md is its model card; arguments and errors are those of
    `MultiCropNetwork`.
    """

    def __init__(
        self, path: Path | None = None, runtime: str | None = None, device: str | None = None
    ) -> None:
        super().__init__(resolve(SMALL_FILE, explicit=path).path, runtime, device)
