"""Computes the first operations of an exported age estimator before its graph.

A pixel has 256 levels, so what a graph does to one before the first convolution (normalisation, and
rounding to 8 bits) is a table of 256 values per channel. ONNX Runtime takes longer for these few
operations and the mirror image than for a convolution. `split_pixels` removes them from a graph in
memory and returns how the inputs of the remaining graph are made, which are equal to the bit: ONNX
Runtime itself computes the tables, with the operations that are removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from agebench.errors import ModelError
from agebench.protocols import RuntimeInfo
from agebench.runtimes.base import ModelSource, Tensor
from agebench.runtimes.graph_index import GraphIndex
from agebench.runtimes.onnx_runtime import OnnxRuntimeModel
from agebench.runtimes.pixel_blocks import block_levels, blocks_of, give_blocks
from agebench.types import Image
from agebench.vision.opencv import cv2

_CHANNELS = 3
_LEVELS = 256
_LEVELS_SHAPE = (1, _CHANNELS, 16, 16)

_MAX_STEPS = 8
"""Operations that are looked for; more than any exported file has, and an end for damaged files."""

_POINTWISE = frozenset({"Add", "Div", "Mul", "QuantizeLinear", "Sub"})
"""Operators that may be part of a table if all inputs but the first are constants."""

_CONSTANT_SHAPES = frozenset({(), (1,), (_CHANNELS, 1, 1), (1, _CHANNELS, 1, 1)})
"""Shapes of constants that treat all pixels of a channel alike."""

_TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.uint8): TensorProto.UINT8}


class PixelModel:
    """An exported age estimator under ONNX Runtime on the CPU, which takes pixels as uint8.

    The inputs named in `ModelSource.pixels` are given as uint8 (n, 3, height, width), the others as
    the graph defines them. A graph of another form runs as it is.
    """

    def __init__(self, source: ModelSource) -> None:
        self._names, self._pixels = source.inputs, source.pixels
        model = onnx.ModelProto.FromString(source.read())
        replaced = split_pixels(model, source.pixels, source.path)
        # Mirror images are made of planes.
        blocks = give_blocks(model.graph, [item.name for item in replaced if not item.mirrored])
        self._replaced = tuple(
            replace(item, levels=block_levels(item.table)) if item.name in blocks else item
            for item in replaced
        )
        if self._replaced:
            source = replace(source, data=model.SerializeToString())
        self._model = OnnxRuntimeModel(source)
        self._graph_inputs = frozenset(self._model.input_names)

    @property
    def info(self) -> RuntimeInfo:
        """See `Model.info`."""
        return self._model.info

    @property
    def input_names(self) -> Sequence[str]:
        """See `Model.input_names`: those of the file."""
        return self._names

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Model.run`."""
        feeds = {name: inputs[name] for name in self._graph_inputs.intersection(inputs)}
        for name in self._graph_inputs.intersection(self._pixels):
            feeds[name] = np.ascontiguousarray(inputs[name], np.float32)
        pixels = {
            name: np.ascontiguousarray(inputs[name].transpose(0, 2, 3, 1)) for name in self._pixels
        }
        for item in self._replaced:
            feeds[item.name] = item.values(pixels)
        return self._model.run(feeds)


@dataclass(frozen=True, slots=True, eq=False)
class PixelInput:
    """How one input of the remaining graph is made from pixels.

    Attributes:
        name: of the input.
        view: the pixels in it.
        mirrored: the view whose mirror images follow in the batch; "" for none.
        table: value of each level of each channel, float32 or uint8 (3, 256).
        levels: of `pixel_blocks.block_levels`, if it takes blocks of pixels; else None.
    """

    name: str
    view: str
    mirrored: str
    table: Tensor
    levels: Image | None = None

    def values(self, pixels: Mapping[str, Image]) -> Tensor:
        """Return the input, (n, 3, height, width), or 2 n with mirror images, or blocks.

        Args:
            pixels: of each view, uint8 (n, height, width, 3), contiguous.
        """
        if self.levels is not None:
            return blocks_of(pixels[self.view], self.levels)
        planes = self._looked_up(pixels[self.view], 2 if self.mirrored else 1)
        if self.mirrored:
            count, width = len(planes) // 2, planes.shape[-1]
            straight = planes[:count]
            if self.mirrored != self.view:
                straight = self._looked_up(pixels[self.mirrored])
            cv2.flip(straight.reshape(-1, width), 1, planes[count:].reshape(-1, width))
        return planes

    def _looked_up(self, pixels: Image, times: int = 1) -> Tensor:
        """Return the values of n pictures, (n, 3, height, width), and room for some times n."""
        count, height, width, channels = pixels.shape
        values = np.empty((times * count, channels, height, width), self.table.dtype)
        for face, planes in zip(pixels, values, strict=False):
            for plane, row, value in zip(cv2.split(face), self.table, planes, strict=True):
                cv2.LUT(plane, row, value)
        return values


@dataclass(frozen=True, slots=True, eq=False)
class _Start:
    """The operations on the pixels of one view.

    Attributes:
        view: the graph's input.
        mirrored: as in `PixelInput`.
        begin: the value to which `steps` are applied.
        steps: operations on single pixels, in order.
        end: their result.
    """

    view: str
    mirrored: str
    begin: str
    steps: tuple[onnx.NodeProto, ...]
    end: str


def split_pixels(
    model: onnx.ModelProto, views: Sequence[str], path: Path
) -> tuple[PixelInput, ...]:
    """Remove mirroring and the operations on single pixels from the beginning of a graph.

    Args:
        model: an exported age estimator that passed the checks of `onnx_reading`; it is changed,
            unless nothing is returned.
        views: inputs that take pixels, float32 (n, 3, height, width).
        path: of the file, for errors.

    Returns:
        The inputs that replace views; empty if the graph has another form.
    """
    graph = GraphIndex(model.graph)
    starts = [start for view in views if (start := _start(graph, view, views)) is not None]
    if not starts:
        return ()
    try:
        tables = _tables(model, starts, path)
    except ModelError:  # the whole graph can't be loaded either, which is reported then
        return ()
    if any(table.dtype not in _TYPES for table in tables):
        return ()
    inputs = tuple(
        PixelInput(start.end, start.view, start.mirrored, table)
        for start, table in zip(starts, tables, strict=True)
    )
    _replace_starts(model.graph, views, inputs)
    return inputs


def _start(graph: GraphIndex, view: str, views: Sequence[str]) -> _Start | None:
    shape = graph.input_shape(view)
    if len(shape) != 4 or shape[1] != _CHANNELS:
        return None
    begin, mirrored = view, ""
    for node in graph.users(view):
        other = _mirror_of(graph, node, view)
        if other in views:
            begin, mirrored = node.output[0], other
    steps: list[onnx.NodeProto] = []
    end = begin
    while len(steps) < _MAX_STEPS and (step := _pointwise_user(graph, end)) is not None:
        steps.append(step)
        end = step.output[0]
    return _Start(view, mirrored, begin, tuple(steps), end) if steps else None


def _mirror_of(graph: GraphIndex, node: onnx.NodeProto, view: str) -> str:
    """Return the view whose mirror images the node puts behind the pixels of `view`; or ""."""
    if node.op_type != "Concat" or (len(node.input), len(node.output)) != (2, 1):
        return ""
    turned = graph.maker(node.input[1])
    if turned is None or turned.op_type != "Gather" or len(turned.input) != 2:
        return ""
    axes = (graph.attributes(node), graph.attributes(turned))
    other, shape = turned.input[0], graph.input_shape(view)
    if axes != ({"axis": 0}, {"axis": 3}) or graph.input_shape(other) != shape:
        return ""
    backwards = np.arange(shape[3])[::-1]
    places = graph.constant(turned.input[1])
    fits = node.input[0] == view and places is not None and np.array_equal(places, backwards)
    return other if fits else ""


def _pointwise_user(graph: GraphIndex, value: str) -> onnx.NodeProto | None:
    """Return the only node that takes a value, if it treats all pixels of a channel alike."""
    node = graph.only_user(value)
    if node is None or node.op_type not in _POINTWISE or graph.attributes(node):
        return None
    allowed = {()} if node.op_type == "QuantizeLinear" else _CONSTANT_SHAPES
    constants = [graph.constant(name) for name in node.input[1:]]
    alike = all(constant is not None and constant.shape in allowed for constant in constants)
    return None if not alike or graph.is_output(node.output[0]) else node


def _tables(model: onnx.ModelProto, starts: Sequence[_Start], path: Path) -> list[Tensor]:
    """Return the value of each level of each channel (3, 256), as ONNX Runtime computes it.

    Raises:
        ModelError: ONNX Runtime refuses the operations.
    """
    nodes = [node for start in starts for node in start.steps]
    names = {name for node in nodes for name in node.input[1:]}
    levels = np.arange(_LEVELS, dtype=np.float32).reshape(_LEVELS_SHAPE[2:])
    feeds = {start.begin: np.broadcast_to(levels, _LEVELS_SHAPE).copy() for start in starts}
    part = helper.make_graph(
        nodes,
        "pixels",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, _LEVELS_SHAPE) for name in feeds],
        [helper.make_empty_tensor_value_info(start.end) for start in starts],
        [tensor for tensor in model.graph.initializer if tensor.name in names],
    )
    small = helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
    ends = tuple(start.end for start in starts)
    source = ModelSource("onnx", path, outputs=ends, data=small.SerializeToString())
    values = OnnxRuntimeModel(source).run(feeds)
    return [values[end].reshape(_CHANNELS, _LEVELS) for end in ends]


def _replace_starts(
    graph: onnx.GraphProto, views: Sequence[str], replaced: Sequence[PixelInput]
) -> None:
    """Give the graph its new inputs, and remove the nodes that are not needed any more."""
    index = GraphIndex(graph)
    outputs = [item.name for item in graph.output]
    nodes = _needed(graph.node, outputs, {item.name for item in replaced})
    used = {name for node in nodes for name in node.input}
    inputs = [item for item in graph.input if item.name not in views or item.name in used]
    inputs += [_value_info(item, index.input_shape(item.view)) for item in replaced]
    kept = onnx.GraphProto(name=graph.name, node=nodes, input=inputs, output=graph.output)
    # The weights stay where they are.
    for field, _ in graph.ListFields():
        if field.name != "initializer":
            graph.ClearField(field.name)
    graph.MergeFrom(kept)


def _needed(
    nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], inputs: set[str]
) -> list[onnx.NodeProto]:
    """Return the nodes on which outputs depend if `inputs` are given."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output) and inputs.isdisjoint(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _value_info(item: PixelInput, shape: Sequence[int]) -> onnx.ValueInfoProto:
    _, channels, height, width = shape
    batch = "2 n" if item.mirrored else "n"
    kind = _TYPES[item.table.dtype]
    return helper.make_tensor_value_info(item.name, kind, (batch, channels, height, width))
