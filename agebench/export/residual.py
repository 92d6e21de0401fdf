"""Converts the backbones of `agebench.train` to nodes of an ONNX graph.

PyTorch's exporter is not used: here batch normalisation is folded into the preceding convolution in
double precision, and only operators that cv2.dnn 4.10 to 5.0 can read are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from agebench.conversion.graph import Graph
from agebench.errors import ModelError
from agebench.train.layers import Backbone, BatchNorm, Block, BlurPool, SqueezeExcitation
from agebench.train.mobilenet import HalvingConvolution, MobileNet
from agebench.types import Floats


@dataclass(frozen=True, slots=True)
class Planes:
    """A value of the graph, (n, channels, height, width).

    Attributes:
        name: in the graph.
        size_hw: its height and width.
    """

    name: str
    size_hw: tuple[int, int]

    def windows(self, side: int, stride: int, *pads: int) -> tuple[int, int]:
        """Return the number of windows in vertical and horizontal direction."""
        down, across = ((size + sum(pads) - side) // stride + 1 for size in self.size_hw)
        return down, across


def as_floats(values: Tensor) -> Floats:
    """Return a tensor as float64 numbers of the same shape."""
    return np.asarray(values.detach().cpu().double().numpy(), np.float64)


def add_backbone(graph: Graph, backbone: Backbone | MobileNet, value: Planes, hint: str) -> str:
    """Add a backbone; return the name of its features, (n, features)."""
    if isinstance(backbone, MobileNet):
        value = add_layers(graph, [backbone.layers], value, hint)
    else:
        value = add_layers(graph, [backbone.stem, backbone.blocks], value, hint)
    pooled = graph.node("GlobalAveragePool", [value.name], f"{hint}_mean")
    return graph.node("Flatten", [pooled], f"{hint}_features", axis=1)


def _flat(layers: Sequence[nn.Module]) -> Iterator[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _flat(list(layer))
        elif not isinstance(layer, nn.Identity):
            yield layer


def add_layers(graph: Graph, layers: Sequence[nn.Module], value: Planes, hint: str) -> Planes:
    """Add layers in sequence; return the output of the last one.

    Raises:
        ModelError: a layer of an unsupported kind.
    """
    waiting = list(_flat(layers))
    while waiting:
        layer = waiting.pop(0)
        if isinstance(layer, nn.Conv2d):
            norm = waiting.pop(0) if waiting and isinstance(waiting[0], BatchNorm) else None
            value = _add_convolution(graph, layer, norm, value, hint)
        else:
            value = _add_layer(graph, layer, value, hint)
    return value


def _add_layer(graph: Graph, layer: nn.Module, value: Planes, hint: str) -> Planes:
    if isinstance(layer, Block):
        return _add_block(graph, layer, value, hint)
    if isinstance(layer, nn.ReLU | nn.ReLU6):
        return _add_relu(graph, layer, value, f"{hint}_relu")
    if isinstance(layer, nn.MaxPool2d):
        return _add_max_pool(graph, layer, value, hint)
    if isinstance(layer, nn.AvgPool2d):
        return _add_average_pool(graph, layer, value, hint)
    if isinstance(layer, BlurPool):
        kernel = as_floats(layer.kernel)
        blur = _Kernel(kernel, None, 2, (1, 1), len(kernel))
        return _convolve(graph, value, blur, f"{hint}_blur")
    if isinstance(layer, SqueezeExcitation):
        return _add_gate(graph, layer, value, hint)
    raise ModelError(f"a layer of kind {type(layer).__name__} can't be exported to ONNX")


def _add_relu(graph: Graph, layer: nn.ReLU | nn.ReLU6, value: Planes, hint: str) -> Planes:
    if isinstance(layer, nn.ReLU):
        return Planes(graph.node("Relu", [value.name], hint), value.size_hw)
    limits = [graph.weight(limit, f"limit_{limit:g}") for limit in (0.0, 6.0)]
    return Planes(graph.node("Clip", [value.name, *limits], hint), value.size_hw)


def _add_block(graph: Graph, block: Block, value: Planes, hint: str) -> Planes:
    residual = add_layers(graph, [block.residual], value, hint)
    if block.gate is not None:
        residual = _add_gate(graph, block.gate, residual, hint)
    shortcut = add_layers(graph, [block.shortcut], value, f"{hint}_shortcut")
    total = graph.node("Add", [residual.name, shortcut.name], hint)
    return Planes(graph.node("Relu", [total], f"{hint}_block"), residual.size_hw)


def _add_gate(graph: Graph, gate: SqueezeExcitation, value: Planes, hint: str) -> Planes:
    means = Planes(graph.node("GlobalAveragePool", [value.name], f"{hint}_means"), (1, 1))
    inner = _add_convolution(graph, gate.squeeze, None, means, f"{hint}_squeeze")
    inner = Planes(graph.node("Relu", [inner.name], f"{hint}_squeezed"), (1, 1))
    outer = _add_convolution(graph, gate.excite, None, inner, f"{hint}_excite")
    weights = graph.node("Sigmoid", [outer.name], f"{hint}_gate")
    return Planes(graph.node("Mul", [value.name, weights], hint), value.size_hw)


def _add_max_pool(graph: Graph, layer: nn.MaxPool2d, value: Planes, hint: str) -> Planes:
    side, stride, pad = map(_one, (layer.kernel_size, layer.stride, layer.padding))
    if layer.ceil_mode:
        raise ModelError("max pooling with ceil_mode can't be exported to ONNX")
    name = graph.node(
        "MaxPool",
        [value.name],
        f"{hint}_pool",
        kernel_shape=[side, side],
        strides=[stride, stride],
        pads=[pad] * 4,
    )
    return Planes(name, value.windows(side, stride, pad, pad))


def _add_average_pool(graph: Graph, layer: nn.AvgPool2d, value: Planes, hint: str) -> Planes:
    """Add the pooling of a shortcut, which halves sides; padding is not included in averages.

    An odd side is padded instead of using ONNX's ceil_mode, with which cv2.dnn 4.x computes a
    height of 0 as half of 1.
    """
    settings = (layer.kernel_size, layer.stride, layer.padding)
    if tuple(map(_one, settings)) != (2, 2, 0) or not layer.ceil_mode or layer.count_include_pad:
        raise ModelError("only average pooling that halves a shortcut can be exported to ONNX")
    height, width = value.size_hw
    name = graph.node(
        "AveragePool",
        [value.name],
        f"{hint}_pool",
        kernel_shape=[2, 2],
        strides=[2, 2],
        pads=[0, 0, height % 2, width % 2],
        count_include_pad=0,
    )
    return Planes(name, (-(-height // 2), -(-width // 2)))


def _one(number: int | tuple[int, ...] | None) -> int:
    """Return the side of a square window."""
    sides = set(number) if isinstance(number, tuple) else {number}
    if len(sides) != 1 or None in sides:
        raise ModelError(f"only square windows can be exported to ONNX, got {number}")
    return int(sides.pop() or 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Kernel:
    """A convolution: weights (outputs, inputs, side, side), biases (outputs,) and settings.

    `pad` is added at the top and left, and at the bottom and right.
    """

    weights: Floats
    biases: Floats | None
    stride: int
    pad: tuple[int, int]
    groups: int


def _add_convolution(
    graph: Graph, layer: nn.Conv2d, norm: nn.Module | None, value: Planes, hint: str
) -> Planes:
    weights = as_floats(layer.weight)
    biases = np.zeros(len(weights)) if layer.bias is None else as_floats(layer.bias)
    if isinstance(norm, BatchNorm):
        weights, biases = folded(weights, biases, norm)
    stride, pad = _one(layer.stride), _one(layer.padding)  # type: ignore[arg-type]  # never text here
    pads = (0, 1) if isinstance(layer, HalvingConvolution) else (pad, pad)
    return _convolve(graph, value, _Kernel(weights, biases, stride, pads, layer.groups), hint)


def folded(weights: Floats, biases: Floats, norm: BatchNorm) -> tuple[Floats, Floats]:
    """Return weights and biases of a convolution that includes the normalisation after it."""
    if norm.running_mean is None or norm.running_var is None:
        raise ModelError("a normalisation without running statistics can't be exported to ONNX")
    scale = as_floats(norm.weight) / np.sqrt(as_floats(norm.running_var) + norm.eps)
    shifted = (biases - as_floats(norm.running_mean)) * scale + as_floats(norm.bias)
    return weights * scale[:, None, None, None], shifted


def _convolve(graph: Graph, value: Planes, kernel: _Kernel, hint: str) -> Planes:
    inputs = [value.name, graph.weight(kernel.weights, f"{hint}_weights")]
    if kernel.biases is not None:
        inputs.append(graph.weight(kernel.biases, f"{hint}_biases"))
    side = kernel.weights.shape[2]
    name = graph.node(
        "Conv",
        inputs,
        f"{hint}_conv",
        kernel_shape=[side, side],
        strides=[kernel.stride, kernel.stride],
        pads=[pad for pad in kernel.pad for _axis in range(2)],
        group=kernel.groups,
    )
    return Planes(name, value.windows(side, kernel.stride, *kernel.pad))
