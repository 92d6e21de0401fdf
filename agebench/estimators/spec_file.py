"""`spec:PATH.toml`: any ONNX, Caffe, TensorFlow, TFLite or Darknet model, without code."""

from __future__ import annotations

from pathlib import Path

from agebench.conversion.converted import converted_foreign
from agebench.errors import UsageError
from agebench.estimators.spec_model import SpecModel
from agebench.estimators.spec_schema import SpecFile, read_spec
from agebench.estimators.spec_sources import read_model_files
from agebench.runtimes.base import ModelKind, ModelSource
from agebench.types import WeightsFile


class SpecFileEstimator(SpecModel):
    """A model described by a spec file (docs/spec-file.md).

    Args:
        path: the TOML file.
        runtime: overrides the file's.
        device: overrides the file's.

    Raises:
        UsageError: no path, or an invalid spec file; the message names the key.
        WeightsError: a file is missing or does not have the sha256 in the spec file.
        ModelError: the model can't be loaded or does not behave as the spec file says.
    """

    def __init__(
        self, path: Path | None = None, runtime: str | None = None, device: str | None = None
    ) -> None:
        if path is None:
            raise UsageError("'spec' needs a file: write spec:my_model.toml")
        written = read_spec(path)
        source, weights = _source(path, written)
        super().__init__(written, source, weights, runtime, device)


def _source(path: Path, written: SpecFile) -> tuple[ModelSource, tuple[WeightsFile, ...]]:
    """Read the model's files, check their hashes and determine the format."""
    read = read_model_files(path, written.files, written.about)
    _check_tflite(path, read.kind, written)
    source = model_source(written, read.kind, read.model, read.data, read.config)
    return source, read.infos


def model_source(
    written: SpecFile, kind: ModelKind, model: Path, data: bytes, config: str | None
) -> ModelSource:
    """Return what a runtime is given: the files themselves, or converted to ONNX.

    Args:
        written: the spec file.
        kind: the format, of files that are not converted.
        model: the file of the weights.
        data: its bytes.
        config: the text of its layout, if it has one.

    Raises:
        ModelError: it can't be converted.
    """
    wanted = written.output.name
    outputs = (wanted,) if wanted else ()
    converter = written.files.converter
    if converter is None:
        return ModelSource(kind, model, config=config, outputs=outputs, data=data)
    size_hw = written.crop.view().size_hw
    converted = converted_foreign(converter, model, data, config or "", size_hw, wanted)
    return ModelSource("onnx", converted, outputs=outputs)


def _check_tflite(path: Path, kind: str, written: SpecFile) -> None:
    if kind == "tflite" and written.golden is None:
        raise UsageError(
            f"{path}: OpenCV from 4.11 on silently computes some TFLite models wrongly: give "
            "the age that TensorFlow Lite gives for the test card ('agebench check-spec "
            "--card FILE.png' writes it) as [golden] years = ..., or convert it to ONNX: python "
            "-m tf2onnx.convert --tflite m.tflite --output m.onnx --dequantize"
        )
