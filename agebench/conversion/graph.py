"""Builds ONNX graphs node by node, with operators that onnxruntime and cv2.dnn 4.10 to 5.0 read.

cv2.dnn 4.x has two limitations:

- it reads a batch of unknown size only in inputs with four axes;
- it multiplies a matrix by a constant one with Gemm, but not always with MatMul.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from agebench import __version__

OPSET = 13
"""The newest operator set that cv2.dnn 4.10 reads without warnings."""

IR_VERSION = 8
"""Version of the file format; onnxruntime 1.10 and onnx 1.11 or later read it."""

BATCH = "n"
"""Name of the batch axis, whose size is not fixed."""


class Graph:
    """The nodes and weights of a network under construction.

    Values are identified by name; every method that adds one returns its name.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._used: Counter[str] = Counter()
        self._stored: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def reserve(self, *names: str) -> None:
        """Reserve the names of inputs and outputs."""
        self._used.update(names)

    def _fresh(self, hint: str) -> str:
        name = hint
        while self._used[name]:
            self._used[hint] += 1
            name = f"{hint}_{self._used[hint]}"
        self._used[name] += 1
        return name

    def weight(self, values: npt.ArrayLike, hint: str, *, whole: bool = False) -> str:
        """Store float32 numbers, or int64 if `whole`; equal arrays are stored once."""
        array = np.ascontiguousarray(values, np.int64 if whole else np.float32)
        array = array.reshape(np.shape(values))
        key = (array.dtype.str, array.shape, hashlib.sha256(array.data).digest())
        if key not in self._stored:
            self._stored[key] = self._fresh(hint)
            self._weights.append(numpy_helper.from_array(array, self._stored[key]))
        return self._stored[key]

    def mirrored(self, value: str, width: int) -> str:
        """Add the mirror images of pictures (n, c, h, width)."""
        backwards = self.weight(np.arange(width)[::-1], f"back_from_{width}", whole=True)
        return self.node("Gather", [value, backwards], f"{value}_mirrored", axis=3)

    def node(self, kind: str, inputs: Sequence[str], hint: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        return self.named(kind, inputs, self._fresh(hint or kind.lower()), **attributes)

    def named(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node whose output has exactly this name."""
        self._nodes.append(helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output

    def slice(self, value: str, axis: int, start: int, stop: int, hint: str = "part") -> str:
        """Add a slice from `start` to before `stop` along an axis."""
        ends = [
            self.weight([number], f"{hint}_{what}", whole=True)
            for what, number in (("from", start), ("to", stop), ("axis", axis))
        ]
        return self.node("Slice", [value, *ends], hint)

    def reshape(self, value: str, shape: Sequence[int], hint: str = "reshaped") -> str:
        """Add a change of shape; -1 is the batch."""
        return self.node("Reshape", [value, self.weight(shape, f"{hint}_to", whole=True)], hint)

    def model(
        self,
        name: str,
        inputs: Mapping[str, Sequence[int]],
        outputs: Mapping[str, Sequence[int]],
    ) -> onnx.ModelProto:
        """Return the checked model; shapes are without the batch, which is the first axis.

        Raises:
            onnx.checker.ValidationError, onnx.shape_inference.InferenceError: the graph is not
                valid, because of a bug in its construction.
        """
        graph = helper.make_graph(self._nodes, name, _values(inputs), _values(outputs))
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="agebench",
            producer_version=__version__,
        )
        # Not above, since `make_model` copies the graph.
        model.graph.initializer.extend(self._weights)
        onnx.checker.check_model(model, full_check=True)
        return model


def _values(shapes: Mapping[str, Sequence[int]]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])
        for name, shape in shapes.items()
    ]
