"""A network's files: read once, hashed, and opened with the requested runtime."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from google.protobuf.message import DecodeError

from agebench.errors import (
    MissingDependencyError,
    ModelError,
    UsageError,
    WeightsError,
    WeightsUnavailableError,
    inert,
)
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
"""First bytes of archives that may contain a model; no kind of model starts like that."""


def open_model(
    source: ModelSource, *, runtime: str | None = None, device: str | None = None
) -> Model:
    """Load a network with the requested runtime and device, or with cv2.dnn on the CPU.

    If they are not available, this fails: nothing falls back silently.

    Raises:
        UsageError: the runtime does not support this format.
        DeviceError: the runtime is available but not with that device.
        WeightsError: a file of the model is missing, can't be read or is too large.
        ModelError: it is truncated, a page instead of a model, or not a network that the runtime
            can load.
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
                "omit '@onnxruntime'"
            )
        if source.pixels:
            from agebench.runtimes.pixel_graph import PixelModel

            return PixelModel(_with_bytes(source))
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
    """A model's bytes for a runtime.

    Attributes:
        data: one file with all weights.
        sha256: of each file that it consists of, by its name relative to the model's folder, the
            model itself first.
    """

    data: bytes = field(repr=False)
    sha256: Mapping[str, str]


def read_model(path: Path, kind: ModelKind | None) -> ModelBytes:
    """Read a model, and for ONNX the files next to it that contain its weights.

    `kind` is None for another library's file, which is converted.

    The returned bytes are the hashed ones.  An ONNX model with weights in other files is merged, so
    that every runtime parses the same bytes.

    Raises:
        WeightsError: a file is missing, can't be read or is too large.
        ModelError: it is a page or pointer instead of a model, or truncated.
    """
    content = read_bytes(path)
    require_whole(path, content, kind)
    hashes = {path.name: hashlib.sha256(content).hexdigest()}
    if kind != "onnx" or b"location" not in content:  # the key that names another file
        return ModelBytes(content, hashes)
    whole, others = _with_data(path, content)
    return ModelBytes(whole, {**hashes, **others})


def require_checked(path: Path, content: bytes, checked: str) -> None:
    """As `require_unchanged`, for bytes to be parsed; "" if they were not checked."""
    if checked:
        require_unchanged(path, checked, hashlib.sha256(content).hexdigest())


def require_unchanged(path: Path, checked: str, parsed: str) -> None:
    """Refuse a file that was changed since it was checked.

    Args:
        path: of the file.
        checked: sha256 of the bytes that were checked.
        parsed: of the bytes that were read to be parsed.

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
        what: the expected kind of file, for errors.
        max_bytes: larger files are refused.

    Raises:
        WeightsError: it is missing, not a regular file, unreadable or too large.
    """
    try:
        if not path.is_file():
            if path.exists():
                raise WeightsError(f"{path} is not a regular file, expected {what}: check the path")
            after = (
                " and the runtime after '@', such as @onnxruntime:cuda" if "@" in path.name else ""
            )
            raise WeightsUnavailableError(
                f"{path} does not exist, expected {what}: check the path{after}"
            )
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= max_bytes:
                return file.read(size)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise WeightsError(f"{path} can't be read: {error}") from error
    raise WeightsError(f"{path} has {size:,} bytes, expected {what} of at most {max_bytes:,}")


def require_whole(path: Path, content: bytes, kind: ModelKind | None) -> None:
    """Refuse what is not a model of its kind: a page, a pointer, a truncated file.

    Raises:
        ModelError: it is one of these; the message says which.
    """
    size = f"{len(content):,} bytes"
    if stub := stub_in(content) or _text_reason(content[:HEAD_BYTES], size):
        raise ModelError(f"{path} is {stub}: download the file itself")
    packed = next((what for start, what in _PACKED.items() if content.startswith(start)), None)
    if kind is not None and packed:
        raise ModelError(f"{path} is {packed}: unpack it and give the {kind} file inside")
    if kind in _PROTOBUF and (missing := _missing_bytes(content)):
        raise ModelError(
            f"{path} is truncated or not of the format {kind}: it has {size}, and its first "
            f"message needs {missing:,} more; compare its size with that of the original"
        )


def _text_reason(head: bytes, size: str) -> str | None:
    """Return a description of text such as "404: Not Found"; no kind of model is text.

    >>> _text_reason(b"404: Not Found", "14 bytes")
    'a text of 14 bytes (404: Not Found) in place of a model'
    """
    text = " ".join(head.decode("latin-1").split())
    if not (text.isascii() and text.isprintable()):
        return None
    return f"a text of {size} ({text:.60}) in place of a model"


def _missing_bytes(content: bytes) -> int:
    """Return how many bytes a protobuf message is too short; 0 if it is complete, or not protobuf.

    Only lengths are checked: other errors are found by the parser.
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
    """Return a number of up to ten bytes and the position after it, which may be beyond the end."""
    value = 0
    for count in range(10):
        if place + count >= len(content):
            return value, place + count + 1
        value |= (content[place + count] & 0x7F) << (7 * count)
        if content[place + count] < 0x80:
            return value, place + count + 1
    return value, place + 10


def _with_data(path: Path, content: bytes) -> tuple[bytes, dict[str, str]]:
    """Return an ONNX file with the weights of the files next to it, and those files' hashes."""
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelError(f"{path} is not a complete ONNX file: {error}") from error
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
    """Yield every tensor of a graph, including those of graphs inside its nodes."""
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
    """Move a tensor's numbers from the file next to the model into it; `files` caches them."""
    location = {item.key: item.value for item in tensor.external_data}
    name = location.get("location", "")
    if name not in files:
        beside = data_file(path, name)
        files[name] = read_bytes(beside, "a model's numbers")
        # The file has bare numbers: those of a web page would be used as weights.
        if stub := stub_in(files[name]):
            raise ModelError(f"{beside} is {stub}: download the file itself")
    data = files[name]
    try:
        start = int(location.get("offset", "0"))
        length = int(location.get("length", str(len(data) - start)))
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
    """Return the file with an ONNX model's weights: in its folder or below.

    Raises:
        ModelError: the name is outside of the folder.
        WeightsError: there is no such file.
    """
    windows = PureWindowsPath(name)
    odd = not name or "\\" in name or "\0" in name or windows.drive or windows.root
    shown = f"{inert(name)!r:.80}"
    if odd or ".." in PurePosixPath(name).parts:
        raise ModelError(
            f"{path} has its weights in {shown}: only files in its own folder are read"
        )
    data = path.parent / name
    try:
        if not data.resolve().is_relative_to(path.parent.resolve()):
            raise ModelError(f"{path} has its weights in {shown}, a link to a file elsewhere")
    except (OSError, RuntimeError) as error:  # RuntimeError: circular links
        raise WeightsError(f"{data} can't be read: {error}") from error
    if not data.is_file():
        raise WeightsError(
            f"{path} has its weights in {shown}, but {data} does not exist: put it next to the "
            "model under that name"
        )
    return data
