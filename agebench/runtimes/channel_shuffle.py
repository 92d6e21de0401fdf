"""Replaces channel shuffles of an ONNX graph by one operation that cv2.dnn computes faster.

ShuffleNet blocks (Zhang et al., CVPR 2018) mix the channels of their groups: they reshape
(n, g c, h, w) to (n, g, c, h, w), swap the groups with their channels and reshape back.  cv2.dnn
moves each number singly for this, which takes a third of the time of the detector `yolov8-face`.
The same is done by taking whole channels in another order, which it copies at once (`Gather`).  No
number is computed, so the outputs are equal to the bit.

Only for files whose hash is known (`ModelSource.gathers_channels`): the shapes are those that
`onnx.shape_inference` finds, which trusts what a file declares and may end the process for a
damaged one, and cv2.dnn computes a `Gather` of constants wrongly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod
from typing import TypeAlias

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, helper, numpy_helper

_Shape: TypeAlias = tuple[int, ...]
_Shuffle: TypeAlias = tuple[NodeProto, NodeProto, NodeProto]
"""The nodes that reshape, swap and reshape back."""


def with_gathered_channels(content: bytes) -> bytes:
    """Return a model's bytes with its channel shuffles replaced.

    Args:
        content: a valid ONNX model of one graph.

    Returns:
        `content` itself if it has none whose sizes are all known.
    """
    model = onnx.ModelProto.FromString(content)
    shapes = _known_shapes(onnx.shape_inference.infer_shapes(model).graph)
    found = [nodes for nodes in _shuffles(model.graph) if _mixes_channels(nodes, shapes)]
    if not found:
        return content
    _replace(model.graph, found, shapes)
    return model.SerializeToString()


def _known_shapes(graph: GraphProto) -> dict[str, _Shape]:
    """Return the shapes of tensors all of whose sizes are known."""
    shapes: dict[str, _Shape] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape = tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        if shape and all(size > 0 for size in shape):
            shapes[value.name] = shape
    return shapes


def _shuffles(graph: GraphProto) -> Iterator[_Shuffle]:
    """Yield nodes that reshape, transpose and reshape, with nothing else using what is between."""
    made = {name: node for node in graph.node for name in node.output}
    users = {name: node for node in graph.node for name in node.input}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    for node in graph.node:
        if node.op_type != "Transpose":
            continue
        before, after = made.get(node.input[0]), users.get(node.output[0])
        if (
            before is not None
            and after is not None
            and before.op_type == after.op_type == "Reshape"
            and uses[node.input[0]] == uses[node.output[0]] == 1
        ):
            yield before, node, after


def _mixes_channels(nodes: _Shuffle, shapes: Mapping[str, _Shape]) -> bool:
    """Return whether three nodes do nothing but reorder channels, by the shapes alone."""
    before, swap, after = nodes
    whole, split = shapes.get(before.input[0], ()), shapes.get(before.output[0], ())
    if len(whole) < 3 or len(split) < 4 or shapes.get(after.output[0]) != whole:
        return False
    order = next((tuple(item.ints) for item in swap.attribute if item.name == "perm"), ())
    return (
        order == (0, 2, 1, *range(3, len(split)))
        and split[0] == whole[0]
        and split[1] * split[2] == whole[1]
        and prod(split[3:]) == prod(whole[2:])
    )


def _replace(graph: GraphProto, found: list[_Shuffle], shapes: Mapping[str, _Shape]) -> None:
    """Put one node in the place of each three, under the name of the last."""
    gathered: dict[str, NodeProto] = {}
    gone = {node.output[0] for nodes in found for node in nodes}
    for before, _, after in found:
        _, groups, each, *_ = shapes[before.output[0]]
        order = np.arange(groups * each).reshape(groups, each).T.ravel()
        name = f"{after.output[0]}_order"
        graph.initializer.append(numpy_helper.from_array(order, name))
        gathered[after.output[0]] = helper.make_node(
            "Gather", [before.input[0], name], [after.output[0]], name=after.name, axis=1
        )
    nodes = [
        gathered.get(node.output[0], node)
        for node in graph.node
        if node.output[0] not in gone or node.output[0] in gathered
    ]
    del graph.node[:]
    graph.node.extend(nodes)
