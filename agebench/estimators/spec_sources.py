"""The files that a spec file names: read once, held against their hashes, told by their format."""

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
    """A model's files as they were read.

    Attributes:
        kind: the format, of files that need no converter.
        model: the file of the weights.
        config: the text of its layout, where it has one.
        data: the bytes of `model`.
        infos: what results say of every file.
    """

    kind: ModelKind
    model: Path
    config: str | None
    data: bytes = field(repr=False)
    infos: tuple[WeightsFile, ...] = ()


def read_model_files(path: Path, files: Files, about: About) -> ReadFiles:
    """Read a model's files, check their hashes and tell the format.

    Args:
        path: the spec file, in whose folder they lie.
        files: its table [files].
        about: its table [about], for licence and source.

    Raises:
        UsageError: a name leads out of the folder, the format is not known, or a layout is missing
            or too much.
        WeightsError: a file is missing, or its hash is not the one that the spec file states.
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
    """Hold every file that is loaded against the hash that the spec file states, if it does."""
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


def read_layout(path: Path) -> str:
    """Return the text of a layout.

    Raises:
        UsageError: it is too long, no text, or a page or pointer in place of a layout.
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
