"""Reads untrusted ONNX files: all checks, before any runtime reads them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from agebench.errors import ModelError, inert
from agebench.modelfiles.downloads import stub_in
from agebench.runtimes.onnx_metadata import FileSpec, from_properties
from agebench.runtimes.opening import read_bytes, tensors_of

MAX_FILE_BYTES = 1 << 30
"""Larger files are refused; a ResNet-101 per view has a third of it."""

OPSETS = range(9, 22)
"""Versions of ONNX's operators that the supported runtimes implement."""

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_SPECIAL_STARTS = {
    b"\x80": "a pickle, which is never read",
    b"PK\x03\x04": "an archive",
}
_Spec = TypeVar("_Spec")


@dataclass(frozen=True, slots=True, eq=False)
class CheckedModel(Generic[_Spec]):
    """An ONNX file that passed all checks.

    Attributes:
        model: parsed.
        spec: its metadata.
        data: the bytes that were parsed.
        sha256: of them.
    """

    model: onnx.ModelProto
    spec: _Spec
    data: bytes = field(repr=False)

    @property
    def sha256(self) -> str:  # noqa: D102 - with the attributes
        return hashlib.sha256(self.data).hexdigest()


def read_age_file(path: Path) -> CheckedModel[FileSpec]:
    """Read an exported age estimator.

    Raises:
        WeightsError: the file is missing, unreadable or too large.
        ModelError: it is not a complete ONNX file, has no metadata of agebench or contradicts it,
            or contains what is not supported: weights in other files, control flow, foreign
            operators.
    """
    model, data = read_onnx(path)
    spec = from_properties(properties_of(model), str(path), FileSpec)
    check_interface(model, spec.input_shapes, spec.output_shapes, path)
    return CheckedModel(model, spec, data)


def read_onnx(path: Path, max_bytes: int = MAX_FILE_BYTES) -> tuple[onnx.ModelProto, bytes]:
    """Read an ONNX file, refusing anything that exported files don't contain.

    Raises:
        WeightsError: the file is missing, unreadable or too large.
        ModelError: it is not a complete ONNX file, or contains something unsupported.
    """
    content = read_bytes(path, "an ONNX file", max_bytes)
    _refuse_other(content, path)
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelError(
            f"{path} ({len(content):,} bytes) is not a complete ONNX file: it is truncated or "
            "another kind of file; compare its size and sha256 with those of the original"
        ) from error
    if not model.graph.node:
        raise ModelError(f"{path} ({len(content):,} bytes) has no ONNX graph: is it truncated?")
    if not all(isinstance(text, str) for text in _texts(model)):
        raise ModelError(f"{path} is damaged: a name in it is not text")
    _check_operators(model, path)
    for tensor in tensors_of(model.graph):
        _check_tensor(tensor, path)
    return model, content


def with_full_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the weights that are stored as float16 and cast as float32 ones.

    `agebench.export.half.store_in_half` makes such files.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    kept, weights = list[onnx.NodeProto](), list[onnx.TensorProto]()
    for node in model.graph.node:
        if not _casts_to_float(node) or node.input[0] not in stored:
            kept.append(node)
            continue
        values = numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
        weights.append(numpy_helper.from_array(values, node.output[0]))
    if not weights:
        return model
    used = {name for node in kept for name in node.input}
    weights += [tensor for name, tensor in stored.items() if name in used]
    full = onnx.ModelProto()
    full.CopyFrom(model)
    del full.graph.node[:], full.graph.initializer[:]
    full.graph.node.extend(kept)
    full.graph.initializer.extend(weights)
    return full


def _casts_to_float(node: onnx.NodeProto) -> bool:
    kinds = [item.i for item in node.attribute if item.name == "to"]
    return (
        node.op_type == "Cast" and bool(node.input and node.output) and kinds == [TensorProto.FLOAT]
    )


def _texts(model: onnx.ModelProto) -> Iterator[object]:
    """Yield all names that are checked; protobuf returns invalid UTF-8 as bytes."""
    for item in model.metadata_props:
        yield from (item.key, item.value)
    yield from (entry.domain for entry in model.opset_import)
    for node in model.graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    yield from (tensor.name for tensor in tensors_of(model.graph))
    for value in [*model.graph.input, *model.graph.output]:
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)


def properties_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return the file's own properties by name."""
    return {item.key: item.value for item in model.metadata_props}


def _refuse_other(content: bytes, path: Path) -> None:
    if stub := stub_in(content):
        raise ModelError(f"{path} is {stub}: download the file itself")
    for start, what in _SPECIAL_STARTS.items():
        if content.startswith(start):
            raise ModelError(f"{path} is {what}, expected an ONNX file")


def _check_operators(model: onnx.ModelProto, path: Path) -> None:
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            raise ModelError(
                f"{path} uses operators of {entry.domain!r:.60}, expected only those of ONNX"
            )
        if entry.version not in OPSETS:
            raise ModelError(
                f"{path} uses ONNX operators of version {entry.version}, expected "
                f"{OPSETS.start} to {OPSETS.stop - 1}: convert it with onnx.version_converter"
            )
    if not model.opset_import:
        raise ModelError(f"{path} does not state its version of ONNX's operators")
    if model.functions:
        raise ModelError(f"{path} defines its own functions, expected only ONNX operators")
    for node in model.graph.node:
        if node.op_type in _CONTROL_FLOW or node.domain not in ("", "ai.onnx"):
            raise ModelError(
                f"{path} has the operator {node.domain}{':' * bool(node.domain)}{node.op_type}, "
                "expected a network of standard ONNX operators without control flow"
            )


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        named = {item.key: item.value for item in tensor.external_data}
        raise ModelError(
            f"{path}: the weights {tensor.name!r:.60} are in another file "
            f"({named.get('location', '')!r:.80}), which is never opened: save the model as a "
            "single file"
        )
    if not tensor.HasField("raw_data"):
        return
    try:
        width = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:
        raise ModelError(
            f"{path}: {tensor.name!r:.60} has an unknown type ({tensor.data_type})"
        ) from None
    expected = math.prod(tensor.dims) * width
    if min(tensor.dims, default=0) < 0 or expected != len(tensor.raw_data):
        raise ModelError(
            f"{path} is damaged: {tensor.name!r:.60} of shape {tuple(tensor.dims)} needs "
            f"{expected:,} bytes, it has {len(tensor.raw_data):,}"
        )


def check_interface(
    model: onnx.ModelProto,
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, tuple[int, ...]],
    path: Path,
) -> None:
    """Compare the graph's inputs and outputs with its metadata.

    Args:
        model: the file's.
        inputs: expected shapes by name, without the batch.
        outputs: likewise.
        path: the file, for errors.

    Raises:
        ModelError: they differ; the message names the first difference.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    graph_inputs = [item for item in model.graph.input if item.name not in stored]
    for what, values, expected in (
        ("input", graph_inputs, inputs),
        ("output", list(model.graph.output), outputs),
    ):
        found = {item.name: item for item in values}
        if set(found) != set(expected) or len(found) != len(values):
            names = inert(", ".join(item.name for item in values))
            raise ModelError(
                f"{path} contradicts its metadata, which says the {what}s are "
                f"{', '.join(expected)}, the graph has {names:.200}"
            )
        for name, shape in expected.items():
            _check_value(found[name], shape, f"{path} contradicts its metadata: the {what}")


def _check_value(value: Any, shape: tuple[int, ...], where: str) -> None:
    kind = value.type.tensor_type
    dims = kind.shape.dim
    found = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims)
    if kind.elem_type != TensorProto.FLOAT:
        raise ModelError(f"{where} {value.name!r} must be of float32 numbers")
    if len(dims) != len(shape) + 1 or found[1:] != shape:
        raise ModelError(
            f"{where} {value.name!r} must be of shape (n, {', '.join(map(str, shape))}), the graph "
            f"has ({inert(', '.join(map(str, found))):.200})"
        )
    if dims[0].HasField("dim_value"):
        raise ModelError(
            f"{where} {value.name!r} takes {found[0]} faces at a time, expected any number"
        )
