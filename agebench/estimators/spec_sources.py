"""The files that a spec file names: read once, with hashes checked and format detected."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agebench.conversion.converted import LAYOUT_FILES
from agebench.errors import UsageError, WeightsError
from agebench.estimators.spec_schema import About, Files, file_beside
from agebench.modelfiles.downloads import stub_in
from agebench.runtimes.base import ModelKind, ModelSource
from agebench.runtimes.opening import read_model
from agebench.types import WeightsFile
from agebench.util.regular_files import open_regular

MAX_CONFIG_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReadFiles:
    """A model's files after reading.

    Attributes:
        kind: the format, of files that are not converted.
        model: the file of the weights.
        config: the text of its layout, if it has one.
        data: the bytes of `model`.
        infos: name, hash and licence of every file, for results.
    """

    kind: ModelKind
    model: Path
    config: str | None
    data: bytes = field(repr=False)
    infos: tuple[WeightsFile, ...] = ()


def read_model_files(path: Path, files: Files, about: About) -> ReadFiles:
    """Read a model's files, check their hashes and detect the format.

    Args:
        path: the spec file; the others are in its folder.
        files: its table [files].
        about: its table [about], for licence and source.

    Raises:
        UsageError: a file is outside of the folder, the format is unknown, or a layout is missing
            or not allowed.
        WeightsError: a file is missing, or does not have the hash in the spec file.
    """
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
        needs = "need files.config, the layout" if config is None else "take no files.config"
        raise UsageError(f"{path}: models of the kind {files.converter or kind} {needs}")
    read = read_model(model, kind if files.converter is None else None)
    _check_pins(path, files, read.sha256, hashes)
    infos = tuple(
        WeightsFile(name, sha256, about.licence, about.source)
        for name, sha256 in {**read.sha256, **hashes}.items()
    )
    return ReadFiles(kind, model, config, read.data, infos)


def _check_pins(
    path: Path, files: Files, loaded: Mapping[str, str], config: Mapping[str, str]
) -> None:
    """Compare every file that is loaded with its hash in the spec file, if there is one."""
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
            f"{path}: files.sha256 only covers {own}, its weights are in {unpinned[0]}: add\n"
            f'data_sha256 = {{ "{unpinned[0]}" = "{loaded[unpinned[0]]}" }}'
        )


def read_layout(path: Path) -> str:
    """Return the text of a layout.

    Raises:
        UsageError: it is too long, not text, or a web page or pointer instead of a layout.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise UsageError(f"{path}: expected a layout of at most {MAX_CONFIG_BYTES} bytes")
        if stub := stub_in(content, "a layout"):
            raise UsageError(f"{path} is {stub}: download the file itself")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a layout as UTF-8 text: {error}") from error
