"""Inputs and outputs according to a model's own files, known before any runtime runs it.

Given pictures of another size, a runtime may fail or (cv2.dnn, if a network ends in a global
pooling) silently give an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from agebench.runtimes.base import ModelSource

Size = int | None
"""Length of an axis; None if the model leaves it open."""


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input according to the model.

    Attributes:
        name: in the model; "" if the format has none.
        shape: the sizes of its axes, the batch first; None if unknown.
        type: of its numbers, such as "float32"; "" if unknown.
    """

    name: str
    shape: tuple[Size, ...] | None = None
    type: str = ""


@dataclass(frozen=True, slots=True)
class GraphEnds:
    """Inputs and outputs according to the model.

    Attributes:
        inputs: empty if its files do not contain them, or can't be read.
        outputs: their names, for ONNX only: other formats allow any layer to be requested.
    """

    inputs: Sequence[GraphInput] = ()
    outputs: Sequence[str] = ()


def graph_ends(source: ModelSource) -> GraphEnds:
    """Return the inputs and outputs of a model.

    Errors in a file are left for the runtime to report.
    """
    if source.kind == "caffe":
        return GraphEnds(_caffe(source.config or ""))
    if source.kind == "darknet":
        return GraphEnds(_darknet(source.config or ""))
    try:
        if source.kind == "onnx":
            return _onnx(source.read())
        return GraphEnds(_tensorflow(source.read()) if source.kind == "tensorflow" else ())
    except (DecodeError, OSError):
        return GraphEnds()


def graph_inputs(source: ModelSource) -> Sequence[GraphInput]:
    """Return the inputs of `graph_ends`."""
    return graph_ends(source).inputs


def _onnx(content: bytes) -> GraphEnds:
    model = onnx.ModelProto.FromString(content)
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [
        GraphInput(item.name, _onnx_shape(item), _onnx_type(item.type.tensor_type.elem_type))
        for item in model.graph.input
        if item.name not in stored
    ]
    return GraphEnds(inputs, [item.name for item in model.graph.output])


def _onnx_shape(item: onnx.ValueInfoProto) -> tuple[Size, ...] | None:
    tensor = item.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    # Some exporters write an open size as 0 or below.
    return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim)


def _onnx_type(number: int) -> str:
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(number))
    except KeyError:
        return ""


_NUMBERS = re.compile(r"\b(?:input_dim|dim)\s*:\s*([0-9]+)")
_SHAPE = re.compile(r"\b(?:input_shape|shape)\s*:?\s*\{([^{}]*)\}")
_INPUT = re.compile(r'^\s*input\s*:\s*"([^"]*)"', re.MULTILINE)
_LAYER = re.compile(r'top\s*:\s*"([^"]*)"[^{}]*input_param\s*\{|input_param\s*\{')


def _caffe(text: str) -> list[GraphInput]:
    """Read a prototxt's first input: old style (``input_dim``), or a layer of type Input."""
    text = re.sub(r"#[^\n]*", "", text)
    name = _INPUT.search(text)
    layer = _LAYER.search(text)
    if name is not None:
        rest = text[name.end() :]
        shape = _SHAPE.match(rest.lstrip())
        numbers = _NUMBERS.findall(shape[1] if shape else rest)[:4]
        found = name[1]
    elif layer is not None:
        shape = _SHAPE.search(text, layer.end() - 1)
        numbers = _NUMBERS.findall(shape[1]) if shape else []
        found = layer[1] or ""
    else:
        return []
    # Caffe accepts any batch size, whatever the file says.
    sizes = (None, *map(int, numbers[1:])) if len(numbers) == 4 else None
    return [GraphInput(found, sizes, "float32")]


def _darknet(text: str) -> list[GraphInput]:
    net = re.split(r"^\s*\[", text, maxsplit=2, flags=re.MULTILINE)
    found = (
        dict(re.findall(r"^\s*(width|height|channels)\s*=\s*([0-9]+)", net[1], re.MULTILINE))
        if len(net) > 1
        else {}
    )
    if not {"width", "height"} <= set(found):
        return []
    sizes = (None, int(found.get("channels", "3")), int(found["height"]), int(found["width"]))
    return [GraphInput("", sizes, "float32")]


_TENSORFLOW_TYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 6: "int8", 19: "float16"}
"""Some of DataType in TensorFlow's types.proto."""

_FIELD = descriptor_pb2.FieldDescriptorProto
_ONE, _MANY = _FIELD.LABEL_OPTIONAL, _FIELD.LABEL_REPEATED

# message -> (field, number, label, type), out of TensorFlow's graph.proto, node_def.proto,
# attr_value.proto and tensor_shape.proto; everything else in a file is skipped.
_MESSAGES = {
    "Dim": (("size", 1, _ONE, _FIELD.TYPE_INT64),),
    "TensorShape": (
        ("dim", 2, _MANY, "Dim"),
        ("unknown_rank", 3, _ONE, _FIELD.TYPE_BOOL),
    ),
    "AttrValue": (("type", 6, _ONE, _FIELD.TYPE_INT32), ("shape", 7, _ONE, "TensorShape")),
    "Attr": (("key", 1, _ONE, _FIELD.TYPE_BYTES), ("value", 2, _ONE, "AttrValue")),
    "NodeDef": (
        ("name", 1, _ONE, _FIELD.TYPE_BYTES),
        ("op", 2, _ONE, _FIELD.TYPE_BYTES),
        ("attr", 5, _MANY, "Attr"),
    ),
    "GraphDef": (("node", 1, _MANY, "NodeDef"),),
}


def _graph_def() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="agebench/graph.proto", package="agebench.tf", syntax="proto2"
    )
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, number, label, kind in fields:
            field = message.field.add(name=name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".agebench.tf.{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("agebench.tf.GraphDef"))


_GraphDef = _graph_def()


def _tensorflow(content: bytes) -> list[GraphInput]:
    """Read the placeholders of a frozen graph; negative sizes are open."""
    found = []
    for node in _GraphDef.FromString(content).node:
        if node.op != b"Placeholder":
            continue
        values = {item.key: item.value for item in node.attr}
        shape = values[b"shape"].shape if b"shape" in values else None
        dims = [] if shape is None or shape.unknown_rank else list(shape.dim)
        sizes = tuple(dim.size if dim.size > 0 else None for dim in dims) or None
        kind = _TENSORFLOW_TYPES.get(values[b"dtype"].type, "") if b"dtype" in values else ""
        found.append(GraphInput(node.name.decode("utf-8", "replace"), sizes, kind))
    return found
