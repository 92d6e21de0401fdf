"""The multi-crop networks that this project trained and that are bundled with the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agebench.estimators.onnx_file import OnnxFile
from agebench.modelfiles.weights import resolve
from agebench.runtimes.opening import require_unchanged

FILE = "multicrop-resnet.onnx"
SMALL_FILE = "multicrop-resnet-small.onnx"
OPEN_FILE = "multicrop-resnet-open.onnx"

_OWN_SETS = ("utkface", "longevitynet", "fairface")
_OWN_PARTS = "UTKFace (utkface-full/train), LongevityNet, FairFace"


class _Bundled(OnnxFile):
    trained_on: str
    trained_sets: tuple[str, ...]
    """Training data of the bundled weights; their files only name the first set."""

    licence = ""
    """Of the bundled weights; "" for that of the file, which is that of the first set."""

    def __init__(
        self, file: str, path: Path | None, runtime: str | None, device: str | None
    ) -> None:
        weights = resolve(file, explicit=path)
        super().__init__(weights.path, runtime, device)
        require_unchanged(weights.path, weights.info.sha256, self._file.sha256)
        if weights.info.published:
            self._spec = replace(
                self._spec,
                trained_on=self.trained_on,
                trained_sets=self.trained_sets,
                licence=self.licence or self._spec.licence,
            )


class MultiCropNetwork(_Bundled):
    """The bundled multi-crop network; pretrained/multicrop-resnet.md is its model card.

    Args:
        path: another file of ``agebench export-onnx`` to use instead.
        runtime, device: as for `onnx:FILE`.

    Raises:
        WeightsUnavailableError: the bundled file is missing from the installation.
        ModelError, DeviceError: as for `onnx:FILE`.
    """

    trained_on = f"{_OWN_PARTS}; its face network, hse-mobilenet, on VGGFace2 and IMDB-WIKI"
    trained_sets = (*_OWN_SETS, "imdb-wiki")

    def __init__(
        self, path: Path | None = None, runtime: str | None = None, device: str | None = None
    ) -> None:
        super().__init__(FILE, path, runtime, device)


class SmallMultiCropNetwork(_Bundled):
    """A faster network with 8-bit weights.

    pretrained/multicrop-resnet-small.md is its model card; arguments and errors are those of
    `MultiCropNetwork`.
    """

    trained_on = (
        f"{_OWN_PARTS}; answers of its own earlier weights and of hse-mobilenet (IMDB-WIKI)"
    )
    trained_sets = _OWN_SETS

    def __init__(
        self, path: Path | None = None, runtime: str | None = None, device: str | None = None
    ) -> None:
        super().__init__(SMALL_FILE, path, runtime, device)


class OpenMultiCropNetwork(_Bundled):
    """A network of the face alone, trained on pictures that may be used commercially.

    pretrained/multicrop-resnet-open.md is its model card, which says what is known about the
    pictures of the network that it started from; arguments and errors are those of
    `MultiCropNetwork`.
    """

    trained_on = (
        "FairFace, portraits of the US Congress; before that, hse-mobilenet, on VGGFace2 and "
        "IMDB-WIKI"
    )
    trained_sets = ("fairface", "imdb-wiki")
    licence = "Apache-2.0"

    def __init__(
        self, path: Path | None = None, runtime: str | None = None, device: str | None = None
    ) -> None:
        super().__init__(OPEN_FILE, path, runtime, device)
