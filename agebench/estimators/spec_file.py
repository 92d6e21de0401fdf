"""`spec:PATH.toml`: anybody's ONNX, Caffe, TensorFlow, TFLite or Darknet model, without code."""

from __future__ import annotations

import hashlib
from pathlib import Path

from agebench.errors import UsageError, WeightsError
from agebench.estimators.spec_model import SpecModel
from agebench.estimators.spec_schema import SpecFile, file_beside, read_spec
from agebench.export.converted import LAYOUT_FILES, converted_foreign
from agebench.regular import open_regular
from agebench.runtimes.base import ModelKind, ModelSource
from agebench.runtimes.model_bytes import read_model
from agebench.types import WeightsFile

MAX_CONFIG_BYTES = 1024 * 1024


class SpecFileEstimator(SpecModel):
    """A model described by a spec file (docs/spec-file.md).

    Args:
        path: the TOML file.
        runtime: wins over the file's.
        device: wins over the file's.

    Raises:
        UsageError: no path, or a spec file that does not fit; names the key.
        WeightsError: a file is missing or its sha256 is not the one that the spec file states.
        ModelError: the model can't be loaded or does not answer as the spec file says.
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
    """Read the model's files, check their hashes and tell the format."""
    files = written.files
    model = file_beside(path, files.model, "files.model")
    kind: ModelKind = "onnx"
    if files.converter is None:
        kind = ModelSource.kind_of(model)
    config, hashes = None, {}
    if files.config is not None:
        config = read_layout(file_beside(path, files.config, "files.config"))
        hashes = {files.config: hashlib.sha256(config.encode()).hexdigest()}
    wants = kind in ("caffe", "darknet") or files.converter in LAYOUT_FILES
    if (config is not None) != wants:
        needs = "needs files.config, its layout" if config is None else "takes no files.config"
        raise UsageError(f"{path}: a {files.converter or kind} model {needs}")
    _check_tflite(path, kind, written)
    read = read_model(model, kind if files.converter is None else None)
    _check_pins(path, written, dict(read.sha256), hashes)
    about = written.about
    infos = tuple(
        WeightsFile(name, sha256, about.licence, about.source)
        for name, sha256 in {**read.sha256, **hashes}.items()
    )
    return model_source(written, kind, model, read.data, config), infos


def model_source(
    written: SpecFile, kind: ModelKind, model: Path, data: bytes, config: str | None
) -> ModelSource:
    """Return what a runtime is given: the files as they are, or converted to ONNX.

    Args:
        written: the spec file.
        kind: the format, of files that are not converted.
        model: the file of the weights.
        data: its bytes.
        config: the text of its layout, where it has one.

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


def _check_pins(
    path: Path, written: SpecFile, loaded: dict[str, str], config: dict[str, str]
) -> None:
    """Hold every file that is loaded against the hash that the spec file states, if it does."""
    files = written.files
    own, *others = loaded
    pins = {own: files.sha256, **{name: files.data_sha256.get(name) for name in others}}
    pins |= dict.fromkeys(config, files.config_sha256)
    for name, sha256 in {**loaded, **config}.items():
        if pins[name] not in (None, sha256):
            raise WeightsError(
                f"{path.parent / name}: expected sha256 {pins[name]} as {path} says, got {sha256}"
            )
    unknown = sorted(set(files.data_sha256) - set(others))
    if unknown:
        raise UsageError(
            f"{path}: files.data_sha256 names {unknown[0]!r:.80}, which the model does not load: "
            f"it loads {', '.join(map(repr, others)) or 'no file besides itself'}"
        )
    unpinned = [name for name in others if pins[name] is None]
    if files.sha256 is not None and unpinned:
        raise UsageError(
            f"{path}: files.sha256 covers {own} alone, its numbers lie in {unpinned[0]}: add\n"
            f'data_sha256 = {{ "{unpinned[0]}" = "{loaded[unpinned[0]]}" }}'
        )


def _check_tflite(path: Path, kind: str, written: SpecFile) -> None:
    if kind == "tflite" and written.golden is None:
        raise UsageError(
            f"{path}: OpenCV from 4.11 on computes some TFLite models wrongly without a word: give "
            "the age that TensorFlow Lite itself finds for the test card ('agebench check-spec "
            "--card FILE.png' writes it) as [golden] years = ..."
        )


def read_layout(path: Path) -> str:
    """Return the text of a layout.

    Raises:
        UsageError: it is too long, or no text.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise UsageError(f"{path}: expected a layout of at most {MAX_CONFIG_BYTES} bytes")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a layout as UTF-8 text: {error}") from error
