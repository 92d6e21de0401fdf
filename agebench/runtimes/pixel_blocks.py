"""Lets the first 8-bit convolution of a graph take blocks of 2 x 2 pixels.

ONNX Runtime computes an 8-bit convolution by gathering, for each of its outputs, the numbers under
the kernel: 49 times 3 bytes for 7 x 7 pixels of 3 channels, which takes longer than the products.
If it goes in steps of two pixels, the same numbers are those of 4 x 4 blocks with 12 channels: 16
times 12 bytes. The kernel gets zeros where it reaches beyond its own pixels, so that the sums of
whole numbers, and with them the outputs, are the same to the bit.

The blocks are given with their channels last, as pictures are, which ONNX Runtime needs anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from agebench.runtimes.base import Tensor
from agebench.runtimes.graph_index import GraphIndex
from agebench.types import Image
from agebench.vision.opencv import cv2

_CHANNELS = 3
_BLOCK = 2
_SMALLEST_KERNEL = 3  # of one pixel, all blocks but one in four would be zeros


def blocks_of(pixels: Image) -> Image:
    """Return blocks of 2 x 2 pixels, uint8 (n, height / 2, width / 2, 12).

    Args:
        pixels: uint8 (n, height, width, 3), contiguous; even sides.
    """
    count, height, width, _ = pixels.shape
    rows = pixels.reshape(count * height, width // _BLOCK, _BLOCK * _CHANNELS)
    merged = np.asarray(cv2.merge([rows[start::_BLOCK] for start in range(_BLOCK)]), np.uint8)
    return merged.reshape(count, height // _BLOCK, width // _BLOCK, _BLOCK * _BLOCK * _CHANNELS)


@dataclass(frozen=True, slots=True)
class _Axis:
    """A convolution along one axis, in blocks.

    Attributes:
        kernel: number of blocks.
        before, after: blocks of padding.
        shift: pixels of the first block that come before the kernel's first one.
    """

    kernel: int
    before: int
    after: int
    shift: int

    @staticmethod
    def of(side: int, kernel: int, before: int, after: int) -> _Axis | None:
        """Return it for a side of so many pixels; None if its blocks can't give the same."""
        if side % _BLOCK or kernel < _SMALLEST_KERNEL or side + before + after < kernel:
            return None
        shift = before % _BLOCK
        blocks = -(-(kernel + shift) // _BLOCK)
        first = (before + shift) // _BLOCK
        outputs = (side + before + after - kernel) // _BLOCK + 1
        return _Axis(blocks, first, outputs - 1 + blocks - side // _BLOCK - first, shift)


@dataclass(frozen=True, slots=True)
class _FirstConvolution:
    """The 8-bit convolution that an input goes into.

    Attributes:
        name: of the input.
        makes_real: the node that makes real numbers of its 8 bits.
        convolution: the node.
        weights: its kernels, int8 (outputs, 3, height, width).
        weights_name: their name in the graph.
        axes: of height and width.
    """

    name: str
    makes_real: onnx.NodeProto
    convolution: onnx.NodeProto
    weights: Tensor
    weights_name: str
    axes: tuple[_Axis, _Axis]


def give_blocks(graph: onnx.GraphProto, names: Iterable[str]) -> frozenset[str]:
    """Change a graph so that inputs take blocks of pixels, as `blocks_of` returns them.

    Args:
        graph: has 8-bit inputs, uint8 (n, 3, height, width).
        names: of such inputs.

    Returns:
        The names of those whose first convolution goes in steps of two; the others stay.
    """
    index = GraphIndex(graph)
    found = [first for name in names if (first := _first_convolution(index, name)) is not None]
    for first in found:
        _replace(graph, first, index)
    return frozenset(first.name for first in found)


def _first_convolution(graph: GraphIndex, name: str) -> _FirstConvolution | None:
    makes_real = _user(graph, name, "DequantizeLinear")
    convolution = _user(graph, makes_real.output[0], "Conv") if makes_real is not None else None
    if makes_real is None or convolution is None or len(convolution.input) < 2:
        return None
    # Only so does ONNX Runtime compute it in whole numbers, whose sums have no order.
    rounds = _user(graph, convolution.output[0], "QuantizeLinear")
    weights = _weights(graph, convolution.input[1])
    if rounds is None or weights is None or not _treats_all_alike(graph, makes_real):
        return None
    weights_name, values = weights
    sides = graph.input_shape(name)[2:]
    axes = _axes(graph.attributes(convolution), sides, values.shape[2:])
    if axes is None:
        return None
    return _FirstConvolution(name, makes_real, convolution, values, weights_name, axes)


def _user(graph: GraphIndex, value: str, kind: str) -> onnx.NodeProto | None:
    node = graph.only_user(value)
    return node if node is not None and node.op_type == kind else None


def _treats_all_alike(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    constants = [graph.constant(name) for name in node.input[1:]]
    return all(constant is not None and constant.shape == () for constant in constants)


def _weights(graph: GraphIndex, value: str) -> tuple[str, Tensor] | None:
    """Return name and numbers of kernels that are stored in 8 bits for this value alone.

    They have one scale for each output, or one for all, and no zero point but 0.
    """
    maker = graph.maker(value)
    if maker is None or maker.op_type != "DequantizeLinear" or len(graph.users(value)) != 1:
        return None
    name = maker.input[0]
    stored, *constants = (graph.constant(each) for each in maker.input)
    if stored is None or stored.dtype != np.int8 or stored.shape[1:2] != (_CHANNELS,):
        return None
    is_whole = stored.ndim == 4 and len(graph.users(name)) == 1
    scales = _treats_all_alike(graph, maker) or graph.attributes(maker) == {"axis": 0}
    no_shift = all(point is not None and not point.any() for point in constants[1:])
    return (name, stored) if is_whole and scales and no_shift else None


def _axes(
    attributes: dict[str, object], sides: tuple[int, ...], kernel: tuple[int, ...]
) -> tuple[_Axis, _Axis] | None:
    pads = attributes.get("pads", [0, 0, 0, 0])
    usual: dict[str, object] = {
        "kernel_shape": list(kernel),
        "strides": [_BLOCK, _BLOCK],
        "dilations": [1, 1],
        "group": 1,
        "auto_pad": b"NOTSET",
        "pads": pads,
    }
    given = {**usual, "strides": [1, 1], **attributes}
    if given != usual or not isinstance(pads, list) or len(pads) != 4:
        return None
    if not all(isinstance(pad, int) and pad >= 0 for pad in pads):
        return None
    rows = _Axis.of(sides[0], kernel[0], pads[0], pads[2])
    columns = _Axis.of(sides[1], kernel[1], pads[1], pads[3])
    return None if rows is None or columns is None else (rows, columns)


def _replace(graph: onnx.GraphProto, first: _FirstConvolution, index: GraphIndex) -> None:
    planes = f"{first.name}_planes"
    while index.maker(planes) is not None or index.users(planes):
        planes += "_"
    channels_first = helper.make_node("Transpose", [first.name], [planes], perm=[0, 3, 1, 2])
    graph.node.insert(0, channels_first)
    first.makes_real.input[0] = planes

    rows, columns = first.axes
    sizes = {
        "kernel_shape": [rows.kernel, columns.kernel],
        "pads": [rows.before, columns.before, rows.after, columns.after],
        "strides": [1, 1],
    }
    del first.convolution.attribute[:]
    first.convolution.attribute.extend(
        helper.make_attribute(name, value) for name, value in sizes.items()
    )
    stored = next(tensor for tensor in graph.initializer if tensor.name == first.weights_name)
    stored.CopyFrom(numpy_helper.from_array(_in_blocks(first), first.weights_name))
    shape = next(item for item in graph.input if item.name == first.name).type.tensor_type.shape
    _, _, height, width = (size.dim_value for size in shape.dim)
    sides = (height // _BLOCK, width // _BLOCK, _BLOCK * _BLOCK * _CHANNELS)
    for size, value in zip(shape.dim[1:], sides, strict=True):
        size.dim_value = value


def _in_blocks(first: _FirstConvolution) -> Tensor:
    """Return kernels of blocks, int8 (outputs, 12, height, width)."""
    outputs, _, height, width = first.weights.shape
    rows, columns = first.axes
    shape = (outputs, _CHANNELS, rows.kernel * _BLOCK, columns.kernel * _BLOCK)
    pixels = np.zeros(shape, np.int8)
    top, left = rows.shift, columns.shift
    pixels[:, :, top : top + height, left : left + width] = first.weights
    apart = pixels.reshape(outputs, _CHANNELS, rows.kernel, _BLOCK, columns.kernel, _BLOCK)
    blocks = apart.transpose(0, 3, 5, 1, 2, 4)
    return np.ascontiguousarray(blocks).reshape(outputs, -1, rows.kernel, columns.kernel)
