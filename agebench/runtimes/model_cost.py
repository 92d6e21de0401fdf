"""The cost of a network according to its files: parameters and multiply-accumulate operations.

As usual, only the products of convolutions and matrix products are counted, not activations,
pooling and normalisation.  `cv2.dnn.Net.getFLOPS` is not used: it counts depthwise convolutions as
full ones (8 times too many for a MobileNet).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agebench.errors import MissingDependencyError, ModelError
from agebench.runtimes.base import ModelSource, text_names
from agebench.runtimes.cv2dnn import read_net

Shape = tuple[int, ...]

FLOAT_BYTES = 4
"""cv2.dnn computes in float32, however the weights are stored."""

# Operators whose products are not counted: with one of them the total would be too small.
_UNCOUNTED = frozenset(
    {"Attention", "DeformConv", "Einsum", "GRU", "If", "LSTM", "Loop", "RNN", "Scan"}
)
# Operator -> position of the weights among its inputs.
_CONVOLUTIONS: Mapping[str, int] = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_PRODUCTS = frozenset({"Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"})


@dataclass(frozen=True, slots=True)
class ModelCost:
    """The cost of one network.

    Attributes:
        parameters: trained numbers, with normalisations folded as the library does.
        weight_bytes: of the parameters as used in the computation.
        macs: multiply-accumulate operations of one run; None if unknown.
        method: how they were counted, or why not.
    """

    parameters: int
    weight_bytes: int
    macs: int | None
    method: str


def model_cost(source: ModelSource, input_shapes: Mapping[str, Shape]) -> ModelCost:
    """Count the cost of a run with inputs of these shapes.

    Args:
        source: the model's files.
        input_shapes: shape of each input by name, "" for a single one.

    Raises:
        ModelError: the file can't be read.
    """
    if source.kind == "onnx":
        return _onnx_cost(source, input_shapes)
    return _opencv_cost(source, input_shapes)


def _opencv_cost(source: ModelSource, input_shapes: Mapping[str, Shape]) -> ModelCost:
    method = "cv2.dnn: blobs of all layers, and output shapes of convolutions and inner products"
    try:
        net = read_net(source)
    except OSError as error:
        raise ModelError(f"{source.path}: can't be read: {error.strerror}") from error
    layers = [net.getLayer(name) for name in text_names(source, net.getLayerNames)]
    parameters = sum(math.prod(blob.shape) for layer in layers for blob in layer.blobs)
    macs: int | None
    try:
        macs = _opencv_macs(net, list(input_shapes.values()))
    except Exception as error:  # cv2.error, whose class can't be imported here
        macs, method = None, f"unknown: cv2.dnn can't infer the shapes of its layers ({error})"
    return ModelCost(parameters, parameters * FLOAT_BYTES, macs, method)


def _opencv_macs(net: Any, shapes: list[Shape]) -> int:
    ids, inputs, outputs = net.getLayersShapes(shapes)
    macs = 0
    for number, into, out in zip(ids, inputs, outputs, strict=True):
        layer = net.getLayer(int(number))
        if not layer.blobs:
            continue
        weights = layer.blobs[0].shape
        if layer.type == "Convolution":
            # Weights are (outputs, inputs of the group, height, width): also correct for groups.
            macs += math.prod(map(int, out[0])) * math.prod(weights[1:])
        elif layer.type == "Deconvolution":
            macs += math.prod(map(int, into[0])) * math.prod(weights[1:])
        elif layer.type in ("InnerProduct", "MatMul"):
            macs += math.prod(map(int, out[0])) * math.prod(weights) // int(out[0][-1])
    return macs


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError(
            f"onnx can't be imported: {error}. Install it with: pip install onnx"
        ) from error
    return onnx


def _onnx_cost(source: ModelSource, input_shapes: Mapping[str, Shape]) -> ModelCost:
    onnx = _import_onnx()
    try:
        # The shapes are in the file itself, even if the weights are in another one.
        model = onnx.load(str(source.path), load_external_data=False)
    except Exception as error:  # protobuf's and onnx's own
        raise ModelError(f"{source.path}: onnx can't read it: {error}") from error
    graph = model.graph
    tensors = [*graph.initializer, *_constants(graph)]
    counted = [tensor for tensor in tensors if _is_weight(onnx, tensor.data_type)]
    parameters = sum(math.prod(tensor.dims) for tensor in counted)
    dtype_of = onnx.helper.tensor_dtype_to_np_dtype
    size = sum(math.prod(item.dims) * dtype_of(item.data_type).itemsize for item in counted)
    try:
        macs = _onnx_macs(onnx, model, input_shapes)
        method = "ONNX: initialisers and constants; shapes by onnx.shape_inference"
    except _UnknownError as error:
        macs, method = None, f"unknown: {error}"
    return ModelCost(parameters, size, macs, method)


class _UnknownError(Exception):
    """The operations can't be counted; the message says why."""


def _constants(graph: Any) -> list[Any]:
    return [
        attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]


def _is_weight(onnx: Any, data_type: int) -> bool:
    kinds = onnx.TensorProto
    known = (kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16, kinds.DOUBLE, kinds.INT8, kinds.UINT8)
    return data_type in known


def _onnx_macs(onnx: Any, model: Any, input_shapes: Mapping[str, Shape]) -> int:
    shapes = _onnx_shapes(onnx, model, input_shapes)

    def shape_of(name: str) -> Shape:
        if name not in shapes:
            raise _UnknownError(f"onnx.shape_inference finds no shape for {name!r}")
        return shapes[name]

    return sum(_node_macs(node, shape_of) for node in model.graph.node)


def _node_macs(node: Any, shape_of: Callable[[str], Shape]) -> int:
    kind = node.op_type
    if kind in _UNCOUNTED or node.domain not in ("", "ai.onnx"):
        raise _UnknownError(f"the operator {kind} is not supported")
    if kind in _CONVOLUTIONS:
        weights = shape_of(node.input[_CONVOLUTIONS[kind]])
        return math.prod(shape_of(node.output[0])) * math.prod(weights[1:])
    if kind == "ConvTranspose":
        return math.prod(shape_of(node.input[0])) * math.prod(shape_of(node.input[1])[1:])
    if kind in _PRODUCTS:
        first = shape_of(node.input[0])
        turned = any(item.name == "transA" and item.i for item in node.attribute)
        return math.prod(shape_of(node.output[0])) * first[0 if turned else -1]
    return 0


def _set_input_shapes(graph: Any, input_shapes: Mapping[str, Shape]) -> None:
    """Write the inputs' shapes into the graph, and remove those inferred from others."""
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [item for item in graph.input if item.name not in stored]
    for item in inputs:
        name = "" if len(inputs) == 1 and item.name not in input_shapes else item.name
        if name not in input_shapes:
            raise _UnknownError(f"the shape of the input {item.name!r} is unknown")
        shape = item.type.tensor_type.shape
        del shape.dim[:]
        for size in input_shapes[name]:
            shape.dim.add().dim_value = size
    del graph.value_info[:]
    for item in graph.output:
        item.type.tensor_type.ClearField("shape")


def _onnx_shapes(onnx: Any, model: Any, input_shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the known shapes of values, with the inputs' shapes set."""
    _set_input_shapes(model.graph, input_shapes)
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # onnx has its own exceptions, and ValueError for models above 2 GiB
        raise _UnknownError(f"onnx.shape_inference failed: {error}") from error
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for item in [*graph.input, *graph.value_info, *graph.output]:
        dims = tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim)
        if dims and all(dims):
            known[item.name] = dims
    return known
