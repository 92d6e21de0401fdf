"""Lets the first 8-bit convolution of a graph take blocks of 2 x 2 pixels.

ONNX Runtime computes an 8-bit convolution by gathering, for each of its outputs, the numbers under
the kernel: 49 times 3 bytes for 7 x 7 pixels of 3 channels, which takes longer than the products.
If it goes in steps of two pixels, the same numbers are those of 4 x 4 blocks with 12 channels: 16
times 12 bytes. The kernel gets zeros where it reaches beyond its own pixels, so that the sums of
whole numbers, and with them the outputs, are the same to the bit. The blocks are given with their
channels last, as pictures are, which ONNX Runtime needs anyway.

Only graphs of exactly the form that `agebench export-onnx` writes are changed. For one thing, on
processors without VNNI ONNX Runtime adds the products of two neighbours in 16 bits, where weights
of all 8 bits overflow, differently if the neighbours are others; exported weights have 7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from agebench.runtimes.base import Tensor
from agebench.runtimes.graph_index import GraphIndex
from agebench.types import Image
from agebench.vision.opencv import cv2

_CHANNELS = 3
_BLOCK = 2
_BLOCK_CHANNELS = _BLOCK * _BLOCK * _CHANNELS
_SMALLEST_KERNEL = 3  # of one pixel, all blocks but one in four would be zeros
_LARGEST_WEIGHT = 64  # 2 * 255 * 64 is below 2**15


def block_levels(table: Tensor) -> Image:
    """Return the value of each level of each channel, uint8 (3, 256), as `blocks_of` needs it."""
    same = bool((table == table[0]).all())
    values = table[:1] if same else table  # one table for all channels takes half of the time
    return np.ascontiguousarray(values.T, np.uint8)[None]


def blocks_of(pixels: Image, levels: Image) -> Image:
    """Look up pixels; return blocks of 2 x 2, uint8 (n, height / 2, width / 2, 12).

    Args:
        pixels: uint8 (n, height, width, 3), contiguous; even sides.
        levels: of `block_levels`.
    """
    count, height, width, channels = pixels.shape
    shape = (count, height // _BLOCK, width // _BLOCK, _BLOCK_CHANNELS)
    if not pixels.size:
        return np.zeros(shape, np.uint8)
    values = np.asarray(cv2.LUT(pixels.reshape(count * height, width, channels), levels))
    rows = values.reshape(count * height, width // _BLOCK, _BLOCK * channels)
    blocks = cv2.merge([rows[start::_BLOCK] for start in range(_BLOCK)])
    return np.asarray(blocks, np.uint8).reshape(shape)


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
        """Return it for a side of so many pixels; None if blocks don't fit or don't pay."""
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
        graph: with inputs (n, 3, height, width).
        names: of such inputs.

    Returns:
        The names of those that go into an 8-bit convolution in steps of two; the others stay.
    """
    index = GraphIndex(graph)
    if not index.is_plain:
        return frozenset()
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
    if rounds is None or not all(_has_one_scale(graph, node) for node in (makes_real, rounds)):
        return None
    found = _weights(graph, convolution.input[1])
    if found is None:
        return None
    weights_name, weights = found
    axes = _axes(convolution, graph.input_shape(name)[2:], weights.shape[2:])
    if axes is None:
        return None
    return _FirstConvolution(name, makes_real, convolution, weights, weights_name, axes)


def _user(graph: GraphIndex, value: str, kind: str) -> onnx.NodeProto | None:
    node = graph.only_user(value)
    return node if node is not None and node.op_type == kind else None


def _has_one_scale(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    """Return whether a node (de)quantises 8 bits with one stored scale and zero point for all."""
    constants = [graph.fixed(name) for name in node.input[1:]]
    if len(constants) != 2:
        return False
    scale, zero = constants
    if scale is None or zero is None:
        return False
    return scale.shape == zero.shape == () and zero.dtype == np.uint8


def _weights(graph: GraphIndex, value: str) -> tuple[str, Tensor] | None:
    """Return name and numbers of kernels that are stored in 7 bits for this value alone.

    They have one scale for each output, and no zero point but 0.
    """
    maker = graph.maker(value)
    if maker is None or maker.op_type != "DequantizeLinear" or len(maker.input) != 3:
        return None
    name = maker.input[0]
    if any(graph.is_output(each) or len(graph.users(each)) != 1 for each in (value, name)):
        return None
    stored, scales, zeros = (graph.fixed(each) for each in maker.input)
    if stored is None or scales is None or zeros is None:
        return None
    is_kernel = stored.dtype == np.int8 and stored.ndim == 4 and stored.shape[1] == _CHANNELS
    if not is_kernel or not stored.size or _attributes(maker) != {"axis": 0}:
        return None
    is_small = np.abs(stored.astype(np.int16)).max() <= _LARGEST_WEIGHT
    return (name, stored) if is_small and not zeros.any() else None


def _attributes(node: onnx.NodeProto) -> Mapping[str, object] | None:
    """Return a node's attributes by name; None if any is there twice or has another type."""
    kinds = (AttributeProto.INT, AttributeProto.INTS, AttributeProto.STRING)
    found = GraphIndex.attributes(node)
    sound = len(found) == len(node.attribute) and all(item.type in kinds for item in node.attribute)
    return found if sound else None


def _axes(
    node: onnx.NodeProto, sides: tuple[int, ...], kernel: tuple[int, ...]
) -> tuple[_Axis, _Axis] | None:
    attributes = _attributes(node)
    if attributes is None:
        return None
    usual: dict[str, object] = {
        "kernel_shape": list(kernel),
        "strides": [_BLOCK, _BLOCK],
        "dilations": [1, 1],
        "group": 1,
        "auto_pad": b"NOTSET",
    }
    pads = attributes.get("pads", [0, 0, 0, 0])
    given = {**usual, "strides": [1, 1], **attributes}
    given.pop("pads", None)
    if given != usual or not isinstance(pads, list) or len(pads) != 4 or min(pads) < 0:
        return None
    rows = _Axis.of(sides[0], kernel[0], pads[0], pads[2])
    columns = _Axis.of(sides[1], kernel[1], pads[1], pads[3])
    return None if rows is None or columns is None else (rows, columns)


def _replace(graph: onnx.GraphProto, first: _FirstConvolution, index: GraphIndex) -> None:
    planes = f"{first.name}_planes"
    while index.is_known(planes):
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
    sides = (height // _BLOCK, width // _BLOCK, _BLOCK_CHANNELS)
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
