"""The layout of Levi and Hassner's age network, as data: layers, shapes, and the prototxt.

Source: G. Levi and T. Hassner, "Age and Gender Classification using Convolutional Neural
Networks", CVPR Workshops 2015.  Layer names are those of the published age_net.caffemodel, by which
its weights are assigned.  Its convolutions have no groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Setting: TypeAlias = int | float | str
Shape: TypeAlias = tuple[int, ...]

INPUT_NAME = "data"
OUTPUT_NAME = "prob"
INPUT_SHAPE = (3, 227, 227)
"""Channels (B, G, R), height, width."""

CHANNEL_MEAN = (78.4263377603, 87.7689143744, 114.895847746)
"""B, G, R means of the authors' mean image, as in the usual call of `blobFromImage`.

Pixels are not scaled.
"""

CLASSES = 8


@dataclass(frozen=True, slots=True)
class Widths:
    """Number of channels or units of each layer with weights except the last."""

    conv1: int
    conv2: int
    conv3: int
    fc6: int
    fc7: int

    def __post_init__(self) -> None:
        counts = (self.conv1, self.conv2, self.conv3, self.fc6, self.fc7)
        if min(counts) < 1:
            raise ValueError(f"widths must be at least 1, got {counts}")


PUBLISHED = Widths(conv1=96, conv2=256, conv3=384, fc6=512, fc7=512)
"""The published network: 11,415,048 weights and biases with its eight classes."""

MICRO = Widths(conv1=8, conv2=10, conv3=12, fc6=16, fc7=14)
"""The same network with few channels, for tests: a file of about 60 kB."""


@dataclass(frozen=True, slots=True)
class LayerLayout:
    """One layer.

    Attributes:
        name: its name in prototxt and caffemodel.
        type: its type in Caffe's new encoding.
        bottom: name of the input.
        top: name of the output; the same as `bottom` if it works in place.
        settings: names and values in the block `block`.
        block: name of the block of settings; "" without settings.
        blob_shapes: weights (outputs, inputs[, height, width]), then biases (outputs,).
        output_shape: (channels, height, width) or (units,) of one picture.
    """

    name: str
    type: str
    bottom: str
    top: str
    settings: tuple[tuple[str, Setting], ...]
    block: str
    blob_shapes: tuple[Shape, ...]
    output_shape: Shape


def convolved(size: int, kernel: int, stride: int = 1, pad: int = 0) -> int:
    """Return the output size of a convolution along one axis, rounded down as Caffe does.

    >>> convolved(227, kernel=7, stride=4)
    56
    """
    return (size + 2 * pad - kernel) // stride + 1


def pooled(size: int, kernel: int, stride: int) -> int:
    """Return the output size of a pooling along one axis, rounded up as Caffe does.

    >>> pooled(56, kernel=3, stride=2)
    28
    """
    return -((kernel - size) // stride) + 1


def _in_place(name: str, kind: str, before: LayerLayout, **settings: Setting) -> LayerLayout:
    block = f"{kind.lower()}_param" if settings else ""
    top, shape = before.top, before.output_shape
    return LayerLayout(name, kind, top, top, tuple(settings.items()), block, (), shape)


def _conv(
    name: str,
    bottom: str,
    shape: Shape,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    pad: int = 0,
) -> LayerLayout:
    channels, height, width = shape
    settings = (("num_output", outputs), ("kernel_size", kernel), ("stride", stride), ("pad", pad))
    blobs = ((outputs, channels, kernel, kernel), (outputs,))
    size_hw = tuple(convolved(size, kernel, stride, pad) for size in (height, width))
    return LayerLayout(
        name, "Convolution", bottom, name, settings, "convolution_param", blobs, (outputs, *size_hw)
    )


def _max_pool(name: str, before: LayerLayout) -> LayerLayout:
    channels, height, width = before.output_shape
    settings = (("pool", "MAX"), ("kernel_size", 3), ("stride", 2))
    shape = (channels, pooled(height, 3, 2), pooled(width, 3, 2))
    return LayerLayout(name, "Pooling", before.top, name, settings, "pooling_param", (), shape)


def _norm(name: str, before: LayerLayout) -> LayerLayout:
    settings = (
        ("norm_region", "ACROSS_CHANNELS"),
        ("local_size", 5),
        ("alpha", 0.0001),
        ("beta", 0.75),
    )
    return LayerLayout(
        name, "LRN", before.top, name, settings, "lrn_param", (), before.output_shape
    )


def _full(name: str, before: LayerLayout, outputs: int) -> LayerLayout:
    inputs = 1
    for size in before.output_shape:
        inputs *= size
    settings = (("num_output", outputs),)
    blobs = ((outputs, inputs), (outputs,))
    return LayerLayout(
        name, "InnerProduct", before.top, name, settings, "inner_product_param", blobs, (outputs,)
    )


def age_net_layers(classes: int = CLASSES, widths: Widths = PUBLISHED) -> tuple[LayerLayout, ...]:
    """Return the layers in order, from conv1 to prob.

    Raises:
        ValueError: `classes` is below 1.
    """
    if classes < 1:
        raise ValueError(f"classes must be at least 1, got {classes}")
    layers = [_conv("conv1", INPUT_NAME, INPUT_SHAPE, widths.conv1, 7, stride=4)]
    layers.append(_in_place("relu1", "ReLU", layers[-1]))
    layers.append(_max_pool("pool1", layers[-1]))
    layers.append(_norm("norm1", layers[-1]))
    layers.append(_conv("conv2", "norm1", layers[-1].output_shape, widths.conv2, 5, pad=2))
    layers.append(_in_place("relu2", "ReLU", layers[-1]))
    layers.append(_max_pool("pool2", layers[-1]))
    layers.append(_norm("norm2", layers[-1]))
    layers.append(_conv("conv3", "norm2", layers[-1].output_shape, widths.conv3, 3, pad=1))
    layers.append(_in_place("relu3", "ReLU", layers[-1]))
    layers.append(_max_pool("pool5", layers[-1]))
    for number, outputs in (("6", widths.fc6), ("7", widths.fc7)):
        layers.append(_full(f"fc{number}", layers[-1], outputs))
        layers.append(_in_place(f"relu{number}", "ReLU", layers[-1]))
        layers.append(_in_place(f"drop{number}", "Dropout", layers[-1], dropout_ratio=0.5))
    layers.append(_full("fc8", layers[-1], classes))
    layers.append(LayerLayout(OUTPUT_NAME, "Softmax", "fc8", OUTPUT_NAME, (), "", (), (classes,)))
    return tuple(layers)


def _setting_text(value: Setting) -> str:
    # An upper-case word is a value of an enumeration, which is not quoted.
    return f"{value:g}" if isinstance(value, float) else str(value)


def _layer_text(layer: LayerLayout) -> str:
    lines = [
        "layer {",
        f'  name: "{layer.name}"',
        f'  type: "{layer.type}"',
        f'  bottom: "{layer.bottom}"',
        f'  top: "{layer.top}"',
    ]
    if layer.settings:
        lines.append(f"  {layer.block} {{")
        lines += [f"    {name}: {_setting_text(value)}" for name, value in layer.settings]
        lines.append("  }")
    return "\n".join([*lines, "}"])


def deploy_prototxt(classes: int = CLASSES, widths: Widths = PUBLISHED) -> str:
    """Return the prototxt to load a caffemodel of this layout with.

    Input "data": float32 (1, 3, 227, 227), B, G, R, 0 to 255 less the mean.  Output "prob":
    float32 (1, classes), summing to 1.

    >>> print(deploy_prototxt().splitlines()[2])
    input_shape { dim: 1 dim: 3 dim: 227 dim: 227 }
    """
    dims = " ".join(f"dim: {size}" for size in (1, *INPUT_SHAPE))
    head = f'name: "age_net"\ninput: "{INPUT_NAME}"\ninput_shape {{ {dims} }}'
    return "\n".join([head, *map(_layer_text, age_net_layers(classes, widths))]) + "\n"
