"""Graphs in half precision: weights as float16, and casts around nodes that stay in float32."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agebench.errors import ModelError

_LARGEST = 65504.0


def halve(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """Return a model in float16 except for some nodes; inputs and outputs remain float32.

    Args:
        model: in float32, its nodes in order, without control flow.
        kept: names of the nodes that stay in float32.

    Raises:
        ModelError: a weight is above the largest float16, 65504.
    """
    return _Halving(model, kept).run()


def store_in_half(model: onnx.ModelProto, least: int) -> None:
    """Store large float32 tensors as float16, cast back when the model is loaded.

    The computation stays in float32.  Tensors with a number above the largest float16 are left.

    Args:
        model: is changed.
        least: number of elements from which a tensor is large.
    """
    before = onnx.GraphProto()
    before.CopyFrom(model.graph)
    casts, stored = list[onnx.NodeProto](), list[onnx.TensorProto]()
    for tensor in before.initializer:
        values = numpy_helper.to_array(tensor)
        fits = values.dtype == np.float32 and np.abs(values).max(initial=0) <= _LARGEST
        if values.size < least or not fits:
            stored.append(tensor)
            continue
        name = f"{tensor.name}_half"
        stored.append(numpy_helper.from_array(values.astype(np.float16), name))
        kind = TensorProto.FLOAT
        casts.append(helper.make_node("Cast", [name], [tensor.name], tensor.name, to=kind))
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend([*casts, *before.node])
    model.graph.initializer.extend(stored)


class _Halving:
    """Converts the nodes in order, and keeps track of the precision of each value."""

    def __init__(self, model: onnx.ModelProto, kept: Collection[str]) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._kept = kept
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._half: set[str] = set()
        self._full = {item.name for item in model.graph.input}
        self._nodes: list[onnx.NodeProto] = []
        self._stored: dict[str, onnx.TensorProto] = {}

    def run(self) -> onnx.ModelProto:
        graph = self._model.graph
        for node in list(graph.node):
            half = node.name not in self._kept
            for index, name in enumerate(node.input):
                if name:
                    node.input[index] = self._as(name, half=half)
            self._nodes.append(node)
            (self._half if half else self._full).update(node.output)
        for item in graph.output:
            if item.name not in self._full:
                raise ModelError(f"the output {item.name!r} would be in half precision")
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._stored.values())
        return self._model

    def _as(self, name: str, *, half: bool) -> str:
        """Return the name of a value in a node's precision; add a cast if necessary."""
        if name in self._weights:
            return self._weight(name, half=half)
        available, other = (self._half, self._full) if half else (self._full, self._half)
        if name in available:
            return name
        cast = f"{name}_{'half' if half else 'full'}"
        if cast not in available:
            if name not in other:
                raise ModelError(f"the graph uses {name!r} before it is computed")
            kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
            self._nodes.append(helper.make_node("Cast", [name], [cast], cast, to=kind))
            available.add(cast)
        return cast

    def _weight(self, name: str, *, half: bool) -> str:
        tensor = self._weights[name]
        if not half or tensor.data_type != TensorProto.FLOAT:
            self._stored[name] = tensor
            return name
        stored = f"{name}_half"
        if stored not in self._stored:
            values = numpy_helper.to_array(tensor)
            if np.abs(values).max(initial=0.0) > _LARGEST:
                raise ModelError(
                    f"{name!r} has numbers above {_LARGEST:g}, too large for half precision"
                )
            self._stored[stored] = numpy_helper.from_array(values.astype(np.float16), stored)
        return stored
