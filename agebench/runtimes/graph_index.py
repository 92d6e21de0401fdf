"""Finding nodes, constants and inputs of an ONNX graph by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from agebench.runtimes.base import Tensor


class GraphIndex:
    """Nodes, constants and inputs of a graph by name; the graph must not change meanwhile."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._users: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        self._makers: dict[str, onnx.NodeProto] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self._users[name].append(node)
            self._makers.update(dict.fromkeys(node.output, node))
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._inputs = {item.name: item for item in graph.input}
        self._outputs = frozenset(item.name for item in graph.output)
        inner = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
        self.is_plain = len(self._tensors) == len(graph.initializer) and not any(
            item.type in inner for node in graph.node for item in node.attribute
        )
        """No node holds a graph, whose nodes could use any value, and no two constants one name."""

    def users(self, value: str) -> Sequence[onnx.NodeProto]:
        """Return the nodes that take a value, in the graph's order."""
        return tuple(self._users.get(value, ()))

    def only_user(self, value: str) -> onnx.NodeProto | None:
        """Return the only node that takes a value, as its first input, if it has one output."""
        users = self.users(value)
        alone = len(users) == 1 and users[0].input[0] == value and len(users[0].output) == 1
        return users[0] if alone and not self.is_output(value) else None

    def maker(self, value: str) -> onnx.NodeProto | None:
        """Return the node that makes a value; None for inputs and constants."""
        return self._makers.get(value)

    def is_output(self, value: str) -> bool:
        """Return whether the graph returns a value."""
        return value in self._outputs

    def constant(self, name: str) -> Tensor | None:
        """Return a stored tensor of float32 or whole numbers; None if there is none."""
        tensor = self._tensors.get(name)
        kinds = (TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32)
        if tensor is None or tensor.data_type not in (*kinds, TensorProto.INT64):
            return None
        if min(tensor.dims, default=0) < 0:  # of a damaged file
            return None
        try:
            return np.asarray(numpy_helper.to_array(tensor))
        except ValueError:  # fewer numbers than its shape says
            return None

    def fixed(self, name: str) -> Tensor | None:
        """Return a `constant` that can't be given as an input."""
        return None if name in self._inputs else self.constant(name)

    def is_known(self, name: str) -> bool:
        """Return whether an input, a constant or what a node makes has this name."""
        return any(name in names for names in (self._inputs, self._tensors, self._makers))

    def input_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an input, 0 for sides that are not fixed; () if there is no such."""
        item = self._inputs.get(name)
        dims = () if item is None else item.type.tensor_type.shape.dim
        return tuple(dim.dim_value for dim in dims)

    @staticmethod
    def attributes(node: onnx.NodeProto) -> dict[str, object]:
        """Return a node's attributes by name: numbers, lists of numbers; None if unreadable."""
        return {item.name: _value(item) for item in node.attribute}


def _value(attribute: onnx.AttributeProto) -> object:
    try:
        return helper.get_attribute_value(attribute)
    except ValueError:  # of an unknown type
        return None
