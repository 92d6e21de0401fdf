"""A network's files: read once and whole, hashed, and opened under the runtime asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from google.protobuf.message import DecodeError

from agebench.errors import MissingDependencyError, ModelError, UsageError, WeightsError, inert
from agebench.modelfiles.downloads import HEAD_BYTES, stub_in
from agebench.runtimes.base import (
    MAX_MODEL_BYTES,
    Model,
    ModelKind,
    ModelSource,
    WatchedModel,
    watched_models,
)
from agebench.util.regular_files import open_regular

_PROTOBUF: frozenset[ModelKind] = frozenset({"onnx", "caffe", "tensorflow"})
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_PACKED = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b\x08": "packed by gzip"}
"""How files begin that have a model inside them; no kind of model does."""


def open_model(
    source: ModelSource, *, runtime: str | None = None, device: str | None = None
) -> Model:
    """Load a network under the runtime and device asked for, or under cv2.dnn on the CPU.

    What was asked for is what runs, or it stops: nothing falls back silently.

    Raises:
        UsageError: the runtime can't read this format at all.
        DeviceError: the runtime is there but not with that device.
        WeightsError: a file of the model is missing, can't be read or is too large.
        ModelError: it is cut off, a page in place of a model, or no network that the runtime can
            load.
    """
    model = _open(source, runtime or "cv2dnn", device or "cpu")
    models = watched_models()
    if models is None:
        return model
    models.append(WatchedModel(replace(source, data=None), model))
    return models[-1]


def _open(source: ModelSource, runtime: str, device: str) -> Model:
    if runtime == "cv2dnn":
        from agebench.runtimes.cv2dnn import OpenCvModel

        return OpenCvModel(_with_bytes(source), device)
    if runtime == "onnxruntime":
        if source.kind != "onnx":
            raise UsageError(
                f"onnxruntime reads ONNX files only, {source.path.name} is {source.kind}: "
                "leave '@onnxruntime' out"
            )
        from agebench.runtimes.onnx_runtime import OnnxRuntimeModel

        return OnnxRuntimeModel(_with_bytes(source), device)
    if runtime == "torch" and source.kind == "onnx":
        return _under_torch(_with_bytes(source), device)
    raise UsageError(f"{source.path.name} ({source.kind}) can't run under {runtime!r}")


def _with_bytes(source: ModelSource) -> ModelSource:
    if source.data is not None:
        return source
    read = read_model(source.path, source.kind)
    if source.sha256:
        require_unchanged(source.path, source.sha256, read.sha256[source.path.name])
    return replace(source, data=read.data)


def _under_torch(source: ModelSource, device: str) -> Model:
    try:
        from agebench.runtimes.torch_graph import TorchModel
    except ImportError as error:
        raise MissingDependencyError(
            f"the runtime 'torch' needs PyTorch ({error}): pip install 'agebench[train]', or use "
            "'@onnxruntime'"
        ) from error
    return TorchModel(source, device)


@dataclass(frozen=True, slots=True, eq=False)
class ModelBytes:
    """A model as a runtime parses it.

    Attributes:
        data: one file with all numbers in it.
        sha256: of each file that it was made of, by its name relative to the model's folder; the
            model's own first.
    """

    data: bytes = field(repr=False)
    sha256: Mapping[str, str]


def read_model(path: Path, kind: ModelKind | None) -> ModelBytes:
    """Read a model, and for ONNX the files beside it that hold its numbers.

    `kind` is None for another library's file, which is converted.

    The bytes that are returned are those that were hashed.  An ONNX model whose numbers lie in
    other files is made one whole, so that every runtime parses the same.

    Raises:
        WeightsError: a file is missing, can't be read or is too large.
        ModelError: it is a page or pointer in place of a model, or cut off.
    """
    content = read_bytes(path)
    require_whole(path, content, kind)
    hashes = {path.name: hashlib.sha256(content).hexdigest()}
    if kind != "onnx" or b"location" not in content:  # the key that names another file
        return ModelBytes(content, hashes)
    whole, others = _with_data(path, content)
    return ModelBytes(whole, {**hashes, **others})


def require_checked(path: Path, content: bytes, checked: str) -> None:
    """As `require_unchanged`, of bytes that are about to be parsed; "" where nobody checked."""
    if checked:
        require_unchanged(path, checked, hashlib.sha256(content).hexdigest())


def require_unchanged(path: Path, checked: str, parsed: str) -> None:
    """Refuse a file that is another one than when it was checked.

    Args:
        path: of the file.
        checked: sha256 of the bytes that were checked.
        parsed: of those that were read to be parsed.

    Raises:
        WeightsError: they differ.
    """
    if parsed != checked:
        raise WeightsError(
            f"{path} was changed while it was being loaded: its sha256 was {checked} and is now "
            f"{parsed}; load it again"
        )


def read_bytes(path: Path, what: str = "a model", max_bytes: int = MAX_MODEL_BYTES) -> bytes:
    """Return all bytes of a model's file.

    Args:
        path: the file.
        what: what it should be, for errors.
        max_bytes: a larger file is refused unread.

    Raises:
        WeightsError: it is missing, not a regular file, unreadable or too large.
    """
    try:
        if not path.is_file():
            kind = "is not a regular file" if path.exists() else "does not exist"
            raise WeightsError(f"{path} {kind}, expected {what}: check the path")
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= max_bytes:
                return file.read(size)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise WeightsError(f"{path} can't be read: {error}") from error
    raise WeightsError(f"{path} has {size:,} bytes, expected {what} of at most {max_bytes:,}")


def require_whole(path: Path, content: bytes, kind: ModelKind | None) -> None:
    """Refuse what is not a model of its kind at all: a page, a pointer, a file that is cut off.

    Raises:
        ModelError: it is one of these; says which.
    """
    size = f"{len(content):,} bytes"
    if stub := stub_in(content) or _text_reason(content[:HEAD_BYTES], size):
        raise ModelError(f"{path} is {stub}: download the file itself")
    packed = next((what for start, what in _PACKED.items() if content.startswith(start)), None)
    if kind is not None and packed:
        raise ModelError(f"{path} is {packed}: unpack it and give the {kind} file inside")
    if kind in _PROTOBUF and (missing := _missing_bytes(content)):
        raise ModelError(
            f"{path} is truncated or not of the format {kind}: it has {size}, and what begins in "
            f"it needs {missing:,} more; compare its size with that of the source"
        )


def _text_reason(head: bytes, size: str) -> str | None:
    """Say that it is text, as "404: Not Found" is; every kind of model here is of binary numbers.

    >>> _text_reason(b"404: Not Found", "14 bytes")
    'a text of 14 bytes (404: Not Found) in place of a model'
    """
    text = " ".join(head.decode("latin-1").split())
    if not (text.isascii() and text.isprintable()):
        return None
    return f"a text of {size} ({text:.60}) in place of a model"


def _missing_bytes(content: bytes) -> int:
    """Return how many bytes a protobuf message lacks at its end; 0 for a whole one, or for none.

    Only lengths are looked at: what is wrong otherwise, the parser says.
    """
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        kind = key & 7
        if kind == _VARINT:
            _, place = _varint(content, place)
        elif kind == _BYTES:
            length, place = _varint(content, place)
            place += length
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
        else:
            return 0
    return place - len(content)


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return a number of up to ten bytes and the place behind it, which may lie behind the end."""
    value = 0
    for count in range(10):
        if place + count >= len(content):
            return value, place + count + 1
        value |= (content[place + count] & 0x7F) << (7 * count)
        if content[place + count] < 0x80:
            return value, place + count + 1
    return value, place + 10


def _with_data(path: Path, content: bytes) -> tuple[bytes, dict[str, str]]:
    """Return an ONNX file with the numbers of the files beside it, and those files' hashes."""
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelError(f"{path} is not a whole ONNX file: {error}") from error
    files: dict[str, bytes] = {}
    for tensor in tensors_of(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _fill(tensor, path, files)
    if not files:
        return content, {}
    if len(content) + sum(map(len, files.values())) > MAX_MODEL_BYTES:
        raise ModelError(f"{path} and its data are more than {MAX_MODEL_BYTES:,} bytes together")
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    return model.SerializeToString(), hashes


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a graph, those of the graphs inside its nodes too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            inner = [attribute.g] if attribute.HasField("g") else []
            for below in [*inner, *attribute.graphs]:
                yield from tensors_of(below)


def _fill(tensor: onnx.TensorProto, path: Path, files: dict[str, bytes]) -> None:
    """Move a tensor's numbers from the file beside the model into it; `files` are those read."""
    said = {item.key: item.value for item in tensor.external_data}
    name = said.get("location", "")
    if name not in files:
        beside = data_file(path, name)
        files[name] = read_bytes(beside, "a model's numbers")
        # Its bytes are bare numbers: those of a page would be taken for weights.
        if stub := stub_in(files[name]):
            raise ModelError(f"{beside} is {stub}: download the file itself")
    data = files[name]
    try:
        start = int(said.get("offset", "0"))
        length = int(said.get("length", str(len(data) - start)))
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {inert(str(error)):.200}") from error
    if not 0 <= start <= start + length <= len(data):
        raise ModelError(
            f"{path}: {inert(tensor.name)!r:.60} needs the bytes {start:,} to {start + length:,} "
            f"of {inert(name)!r:.80}, which has {len(data):,}: it is truncated or belongs to "
            "another model"
        )
    tensor.raw_data = data[start : start + length]
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def data_file(path: Path, name: str) -> Path:
    """Return the file that an ONNX model names for its numbers: in its folder or below.

    Raises:
        ModelError: the name leads out of the folder.
        WeightsError: there is no such file.
    """
    windows = PureWindowsPath(name)
    odd = not name or "\\" in name or "\0" in name or windows.drive or windows.root
    shown = f"{inert(name)!r:.80}"
    if odd or ".." in PurePosixPath(name).parts:
        raise ModelError(
            f"{path} names {shown} for its numbers: only files in its own folder are read"
        )
    data = path.parent / name
    try:
        if not data.resolve().is_relative_to(path.parent.resolve()):
            raise ModelError(f"{path} names {shown} for its numbers, a link that leads elsewhere")
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go round in a circle
        raise WeightsError(f"{data} can't be read: {error}") from error
    if not data.is_file():
        raise WeightsError(
            f"{path} has its numbers in {shown}, and there is no file {data}: put it next to the "
            "model under that name"
        )
    return data
