"""Read and write Caffe's binary files (.caffemodel, mean.binaryproto) without Caffe.

Weights are returned as float32 numpy arrays, however they are stored.  Files are not trusted: sizes
are checked before anything is read, and shapes before arrays are created.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from agebench.errors import ModelError, UsageError, WeightsError
from agebench.runtimes import caffe_schema
from agebench.runtimes.opening import read_bytes, require_checked
from agebench.util.files import write_whole

Blob: TypeAlias = npt.NDArray[np.float32]
Encoding: TypeAlias = Literal["v1", "v2"]

DEFAULT_MAX_BYTES = 1 << 30
"""Larger files are refused by default; age_net has 46 MB, VGG-16 553 MB."""

MEAN_SHAPE = (3, 256, 256)
"""Channels (B, G, R), height and width of age_net's mean image."""

_TYPE_NUMBERS = {name: number for number, name in caffe_schema.V1_LAYER_TYPES.items()}
_RAW_DTYPES = {
    caffe_schema.RAW_DOUBLE: "<f8",
    caffe_schema.RAW_FLOAT: "<f4",
    caffe_schema.RAW_FLOAT16: "<f2",
}
_MAX_DIMENSION = 2**31 - 1
_PAGE_STARTS = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")


@dataclass(frozen=True, slots=True, eq=False)
class CaffeLayer:
    """One layer of a .caffemodel.

    Attributes:
        name: identifies the layer of the prototxt that the weights belong to.
        type: such as "Convolution" or "InnerProduct", as in the new encoding; "" if the file has
            none that Caffe knows.
        blobs: weights, then biases, float32 and read-only: (outputs, inputs, height, width) for a
            convolution, (outputs, inputs) for an inner product, (outputs,) for biases.
        bottoms: names of the inputs.
        tops: names of the outputs.
    """

    name: str
    type: str
    blobs: tuple[Blob, ...] = ()
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        frozen = []
        for blob in self.blobs:
            values = np.asarray(blob, np.float32)
            if values.flags.writeable:
                values = values.copy()
                values.flags.writeable = False
            frozen.append(values)
        object.__setattr__(self, "blobs", tuple(frozen))


@dataclass(frozen=True, slots=True, eq=False)
class CaffeNet:
    """The content of a .caffemodel, in the file's order."""

    name: str
    layers: tuple[CaffeLayer, ...]
    encoding: Encoding

    def layer(self, name: str) -> CaffeLayer:
        """Return the first layer called `name`.

        Raises:
            ModelError: there is none.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = ", ".join(layer.name for layer in self.layers)
        raise ModelError(f"the Caffe model has no layer {name!r}, it has: {names}")


def read_caffemodel(
    path: str | Path, *, max_bytes: int = DEFAULT_MAX_BYTES, sha256: str = ""
) -> CaffeNet:
    """Read a .caffemodel in the old or the new layer encoding, in single or half precision.

    Args:
        path: the file.
        max_bytes: larger files are refused.
        sha256: hash of its bytes when it was checked; "" if it was not.

    Raises:
        WeightsError: the file is missing, unreadable, too large, an HTML page or a stub, or was
            changed since it was checked.
        ModelError: it is not a Caffe model, or damaged.
    """
    path = Path(path)
    content = read_bytes(path, "a Caffe file", max_bytes)
    require_checked(path, content, sha256)
    net = _parse(caffe_schema.NetParameter, content, path)
    if net.layers and net.layer:
        raise ModelError(f"{path} mixes Caffe's old and new layer encoding, expected one of them")
    if not net.layers and not net.layer:
        raise _not_caffe(path, content, "it has no layers")
    encoding: Encoding = "v1" if net.layers else "v2"
    layers = tuple(_layer(layer, path, encoding) for layer in (net.layers or net.layer))
    return CaffeNet(_text(net.name, path), layers, encoding)


def write_caffemodel(
    path: str | Path,
    layers: Sequence[CaffeLayer],
    *,
    encoding: Encoding,
    half: bool = False,
    name: str = "",
) -> None:
    """Write a .caffemodel, completely or not at all.

    Args:
        path: of the file; an existing one is replaced.
        layers: what to write, in this order.
        encoding: "v1" as in the published age_net (at most four axes per blob), or "v2".
        half: store blobs as float16, as `cv2.dnn.shrinkCaffeModel` does, at half the size.
        name: the net's name.

    Raises:
        UsageError: unknown encoding, or something that it can't represent.
        AgebenchError: the file can't be written.
    """
    if encoding not in ("v1", "v2"):
        raise UsageError(f"unknown Caffe encoding {encoding!r}: expected 'v1' or 'v2'")
    net = caffe_schema.NetParameter(name=name.encode())
    target = net.layers if encoding == "v1" else net.layer
    for layer in layers:
        message = target.add(
            name=layer.name.encode(),
            type=_stored_type(layer, encoding),
            bottom=[bottom.encode() for bottom in layer.bottoms],
            top=[top.encode() for top in layer.tops],
        )
        for blob in layer.blobs:
            _fill_blob(message.blobs.add(), blob, layer.name, legacy=encoding == "v1", half=half)
    write_whole(Path(path), net.SerializeToString())


def read_mean(path: str | Path) -> Blob:
    """Read age_net's mean.binaryproto.

    Returns:
        float32 of shape `MEAN_SHAPE` (channel, row, column), channels B, G, R, values 0 to 255.

    Raises:
        WeightsError: the file is missing, unreadable, too large, or an HTML page or a stub.
        ModelError: it is not a mean image of that shape.
    """
    path = Path(path)
    # In double precision with gradients it would be four times as large, which is the maximum.
    content = read_bytes(path, "a mean image", 4 * 4 * math.prod(MEAN_SHAPE) + 1024)
    blob = _parse(caffe_schema.BlobProto, content, path)
    if not (blob.data or blob.double_data or blob.raw_data):
        raise _not_caffe(path, content, "it has no values")
    mean = _values(blob, f"the mean image in {path}")
    if mean.shape == (1, *MEAN_SHAPE):
        mean = mean[0]
    if mean.shape != MEAN_SHAPE or not np.isfinite(mean).all():
        raise ModelError(
            f"{path} must hold finite numbers of shape {MEAN_SHAPE}, got {mean.shape}: "
            "is it the mean image of another network?"
        )
    return mean


def _parse(message_class: Any, content: bytes, path: Path) -> Any:
    try:
        return message_class.FromString(content)
    except DecodeError as error:
        raise _not_caffe(path, content, "it is truncated or something else") from error


def _not_caffe(path: Path, content: bytes, reason: str) -> WeightsError | ModelError:
    start = content[:200].lstrip().lower()
    again = "download it again and compare its size and sha256"
    if start.startswith(_PAGE_STARTS):
        return WeightsError(f"{path} is an HTML page, expected a Caffe file: {again}")
    if start.startswith(b"version https://git-lfs"):
        return WeightsError(f"{path} is a Git LFS pointer, expected a Caffe file: {again}")
    size = f"{len(content):,} bytes"
    return ModelError(f"{path} ({size}) is not a complete Caffe file, {reason}: {again}")


def _text(value: bytes, path: Path) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ModelError(f"{path} is damaged: a name in it is not text: {value[:40]!r}") from None


def _layer(message: Any, path: Path, encoding: Encoding) -> CaffeLayer:
    if encoding == "v1":
        if message.HasField("layer"):
            raise ModelError(
                f"{path} is in Caffe's V0 encoding of 2013, expected V1 or later: "
                "convert it with Caffe's upgrade_net_proto_binary"
            )
        kind = caffe_schema.V1_LAYER_TYPES.get(message.type, "")
    else:
        kind = _text(message.type, path)
    name = _text(message.name, path)
    blobs = []
    for index, blob in enumerate(message.blobs):
        values = _values(blob, f"blob {index} of layer {name!r} in {path}")
        blobs.append(_without_legacy_axes(values, kind, index))
    return CaffeLayer(
        name,
        kind,
        tuple(blobs),
        tuple(_text(bottom, path) for bottom in message.bottom),
        tuple(_text(top, path) for top in message.top),
    )


def _shape(blob: Any) -> tuple[int, ...]:
    if any(map(blob.HasField, ("num", "channels", "height", "width"))):
        return (
            blob.num,
            blob.channels,
            blob.height,
            blob.width,
        )  # as in Caffe, these have priority
    return tuple(blob.shape.dim) or (1,)


def _values(blob: Any, where: str) -> Blob:
    """Return a blob's values as read-only float32 in the shape stated in the file."""
    if blob.data:
        raw, dtype = b"".join(blob.data), "<f4"
    elif blob.double_data:
        raw, dtype = b"".join(blob.double_data), "<f8"
    elif blob.raw_data and blob.raw_data_type in _RAW_DTYPES:
        raw, dtype = blob.raw_data, _RAW_DTYPES[blob.raw_data_type]
    else:
        raise ModelError(f"{where} has no readable numbers (damaged, or of an unknown kind)")
    shape = _shape(blob)
    expected, itemsize = math.prod(shape), np.dtype(dtype).itemsize
    if min(shape) < 1 or len(shape) > 32 or expected * itemsize != len(raw):
        raise ModelError(
            f"{where} is damaged: its shape {shape} needs {expected} numbers of {itemsize} "
            f"bytes, it has {len(raw):,} bytes"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.frombuffer(raw, dtype).astype(np.float32, copy=False).reshape(shape)
    values.flags.writeable = False
    return values


def _without_legacy_axes(values: Blob, kind: str, index: int) -> Blob:
    """Drop the leading axes of length 1 that the old encoding adds to make four."""
    weights_axes = {"Convolution": 4, "Deconvolution": 4, "InnerProduct": 2}.get(kind, 1)
    wanted = weights_axes if index == 0 else 1
    if values.ndim != 4:
        return values
    shape = values.shape
    while len(shape) > wanted and shape[0] == 1:
        shape = shape[1:]
    return values.reshape(shape)


def _stored_type(layer: CaffeLayer, encoding: Encoding) -> int | bytes:
    if encoding == "v2":
        return layer.type.encode()
    if layer.type not in _TYPE_NUMBERS:
        raise UsageError(
            f"layer {layer.name!r}: Caffe's old encoding has no type {layer.type!r}: write 'v2'"
        )
    return _TYPE_NUMBERS[layer.type]


def _fill_blob(message: Any, values: Blob, layer: str, *, legacy: bool, half: bool) -> None:
    shape = values.shape
    if not values.size or max(shape, default=1) > _MAX_DIMENSION or (legacy and len(shape) > 4):
        raise UsageError(
            f"layer {layer!r}: a blob of shape {shape} can't be written: it must not be empty, "
            "and the old encoding has four axes"
        )
    if legacy:
        padded = (1,) * (4 - len(shape)) + shape
        message.num, message.channels, message.height, message.width = padded
    else:
        message.shape.dim.extend(shape)
    if not half:
        message.data.append(values.astype("<f4", copy=False).tobytes())
        return
    with np.errstate(over="ignore"):
        halved = values.astype("<f2")
    if np.isinf(halved).any() and not np.isinf(values).any():
        raise UsageError(
            f"layer {layer!r}: values up to {np.abs(values).max():g} don't fit half precision "
            "(at most 65504): write it without half"
        )
    message.raw_data_type = caffe_schema.RAW_FLOAT16
    message.raw_data = halved.tobytes()
