"""The first convolution of an 8-bit graph over blocks of 2x2 pixels.

A convolution with a stride of 2 over three channels is equal to one with a stride of 1 over twelve:
those of a block of 2x2 pixels. Its kernel has half the side. ONNX Runtime computes the latter in
two thirds of the time, since it copies no windows if the channels are a multiple of four. Sums of
integers do not depend on their order, so the result is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from agebench.runtimes.base import Tensor
from agebench.runtimes.graph_index import GraphIndex
from agebench.types import Image
from agebench.vision.opencv import cv2

_CHANNELS = 3

_EXACT_WEIGHT = 64
"""Largest 8-bit weight for which sums are exact.

Without newer instructions, ONNX Runtime adds two products of a level and a weight in 16 bits, which
have room for 2 * 255 * 64.
"""


@dataclass(frozen=True, slots=True, eq=False)
class BlockConvolution:
    """A convolution over blocks, and what it replaces.

    Attributes:
        name: of its input, uint8 (n, rows, columns, 12).
        border: pixels added on every side before blocks are made.
        fill: their value, which stands for 0.
        replaced: name of the convolution's output, which stays.
        nodes: in place of the one that made it.
        weights: 8-bit (outputs, 12, side, side).
    """

    name: str
    border: int
    fill: int
    replaced: str
    nodes: tuple[onnx.NodeProto, ...]
    weights: onnx.TensorProto


def to_blocks(pixels: Image, table: Tensor, blocks: BlockConvolution) -> Image:
    """Return the input of a convolution over blocks.

    Args:
        pixels: uint8 (n, height, width, 3), contiguous.
        table: value of each level of each channel, uint8 (3, 256).
        blocks: the convolution.
    """
    count, height, width, channels = pixels.shape
    rows = pixels.reshape(count * height, width, channels)
    levels = cv2.LUT(rows, np.ascontiguousarray(table.T)[None])
    border = blocks.border
    tall, wide = height + 2 * border, width + 2 * border
    framed = np.full((count, tall, wide, channels), blocks.fill, np.uint8)
    framed[:, border:-border, border:-border] = np.asarray(levels).reshape(pixels.shape)
    pairs = framed.reshape(count * tall // 2, 2, wide // 2, 2 * channels)
    merged = cv2.merge([pairs[:, 0], pairs[:, 1]])
    return np.asarray(merged, np.uint8).reshape(count, tall // 2, wide // 2, 4 * channels)


def in_blocks(graph: GraphIndex, value: str, size_hw: tuple[int, int]) -> BlockConvolution | None:
    """Return the convolution over blocks that replaces the one that takes 8-bit pixels.

    Args:
        graph: of 8-bit numbers, as `agebench export-onnx` writes it.
        value: the pixels, uint8 (n, 3, height, width).
        size_hw: their height and width.

    Returns:
        None if the pixels are used in another way, or sums might not be exact.
    """
    scaled = _only_user(graph, value, "DequantizeLinear")
    conv = None if scaled is None else _only_user(graph, scaled.output[0], "Conv")
    if scaled is None or conv is None or len(scaled.input) != 3 or graph.attributes(scaled):
        return None
    zero, weights = graph.constant(scaled.input[2]), _exact_weights(graph, conv)
    if zero is None or zero.shape or zero.dtype != np.uint8 or weights is None:
        return None
    border = _border(graph, conv, weights.shape[2], size_hw)
    if border is None:
        return None
    names = [f"{value}_{part}" for part in ("blocks", "planes", "floats", "weights", "weighted")]
    if any(graph.is_known(name) for name in names):
        return None
    nodes = _nodes(graph, names, scaled, conv, weights.shape[2])
    stored = numpy_helper.from_array(_folded(weights), names[3])
    return BlockConvolution(names[0], border, int(zero), conv.output[0], nodes, stored)


def _folded(weights: Tensor) -> Tensor:
    """Return weights (outputs, 3, side, side) as (outputs, 12, half, half), with zeros added."""
    outputs, channels, side = weights.shape[:3]
    half = (side + 1) // 2
    even = np.zeros((outputs, channels, 2 * half, 2 * half), weights.dtype)
    even[:, :, :side, :side] = weights
    parts = even.reshape(outputs, channels, half, 2, half, 2).transpose(0, 3, 5, 1, 2, 4)
    return np.ascontiguousarray(parts).reshape(outputs, 4 * channels, half, half)


def _nodes(
    graph: GraphIndex,
    names: Sequence[str],
    scaled: onnx.NodeProto,
    conv: onnx.NodeProto,
    side: int,
) -> tuple[onnx.NodeProto, ...]:
    blocks, planes, floats, weights, weighted = names
    maker = graph.maker(conv.input[1])
    parameters = () if maker is None else maker.input[1:]
    half = (side + 1) // 2
    return (
        helper.make_node("Transpose", [blocks], [planes], perm=[0, 3, 1, 2]),
        helper.make_node("DequantizeLinear", [planes, *scaled.input[1:]], [floats]),
        helper.make_node("DequantizeLinear", [weights, *parameters], [weighted], axis=0),
        helper.make_node(
            "Conv",
            [floats, weighted, conv.input[2]],
            conv.output,
            kernel_shape=[half, half],
            strides=[1, 1],
            pads=[0] * 4,
            group=1,
        ),
    )


def _only_user(graph: GraphIndex, value: str, kind: str) -> onnx.NodeProto | None:
    user = graph.only_user(value)
    return user if user is not None and user.op_type == kind else None


def _exact_weights(graph: GraphIndex, conv: onnx.NodeProto) -> Tensor | None:
    """Return 8-bit weights (outputs, 3, side, side) if ONNX Runtime adds whole numbers with them.

    It does if all that goes in and out has 8 bits, and the biases are whole numbers too.
    """
    if len(conv.input) != 3 or _only_user(graph, conv.output[0], "QuantizeLinear") is None:
        return None
    weights, biases = (_stored(graph, name) for name in conv.input[1:])
    if weights is None or weights.dtype != np.int8 or biases is None or biases.dtype != np.int32:
        return None
    square = (
        weights.ndim == 4 and weights.shape[1] == _CHANNELS and len(set(weights.shape[2:])) == 1
    )
    exact = weights.size > 0 and np.abs(weights.astype(np.int16)).max() <= _EXACT_WEIGHT
    return weights if square and exact else None


def _stored(graph: GraphIndex, value: str) -> Tensor | None:
    """Return the stored whole numbers behind a value, if its zero points are zero."""
    node = graph.maker(value)
    if node is None or node.op_type != "DequantizeLinear" or len(node.input) != 3:
        return None
    zeros = graph.constant(node.input[2])
    if zeros is None or zeros.any() or graph.attributes(node) != {"axis": 0}:
        return None
    return graph.constant(node.input[0])


def _border(
    graph: GraphIndex, conv: onnx.NodeProto, side: int, size_hw: tuple[int, int]
) -> int | None:
    """Return the padding of a convolution with a stride of 2; None for any other."""
    pads = graph.attributes(conv).get("pads")
    border = pads[0] if isinstance(pads, list) and pads else 0
    expected = {
        "group": 1,
        "kernel_shape": [side, side],
        "pads": [border] * 4,
        "strides": [2, 2],
    }
    # With an odd side and even sizes the last window ends one pixel before the border does.
    even = side % 2 == 1 and not any(size % 2 for size in size_hw)
    return border if 0 < border < side and even and graph.attributes(conv) == expected else None
