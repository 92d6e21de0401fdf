"""Converts SSR-Net's weights to ONNX.

Yang et al., "SSR-Net: A Compact Soft Stagewise Regression Network for Age Estimation", IJCAI 2018.
Their files contain only weights; the layout is that of the paper, with three stages of three
classes each and both dynamic ranges, for 64x64 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from agebench.conversion.keras_file import KerasFile, KerasLayer, add_layer
from agebench.conversion.layers import Layers

SIDE_PX = 64
CLASSES = 3
"""Number of classes of each stage."""

SPAN_YEARS = 101.0
"""V in the paper: ages are from 0 to this."""

OUTPUT = "age"


def ssr_net_model(file: KerasFile) -> onnx.ModelProto:
    """Return the network as ONNX: image (n, 3, 64, 64), B, G, R, 0 to 255, to age (n, 1) in years.

    Raises:
        ModelError: the weights are not those of this layout.
    """
    layers = Layers(file.where, (3, SIDE_PX, SIDE_PX), [OUTPUT])
    values = {"input": Layers.INPUT}
    for layer in _layout():
        values[layer.name] = add_layer(layers, file, layer, [values[name] for name in layer.inputs])
    return layers.model("ssr_net", {OUTPUT: _merge(layers, values)})


def _layout() -> Iterator[KerasLayer]:
    """Yield the layers in the order of Keras's numbers."""
    yield from _stream(first=1, activation="relu", pooling="AveragePooling2D")
    yield from _stream(first=5, activation="tanh", pooling="MaxPooling2D")
    # From the deepest features to the shallowest: the block of the stream, and its pooling.
    for stage, (block, window) in enumerate(((4, 0), (2, 4), (1, 8)), start=1):
        yield from _stage(stage, block, window)


def _stream(first: int, activation: str, pooling: str) -> Iterator[KerasLayer]:
    """Yield four blocks of convolution, normalisation and activation, pooled between them."""
    start = "input"
    for number in range(first, first + 4):
        yield KerasLayer("Conv2D", f"conv2d_{number}", (start,), {})
        normal = f"batch_normalization_{number}"
        yield KerasLayer("BatchNormalization", normal, (f"conv2d_{number}",), {})
        name = f"block_{number}"
        yield KerasLayer("Activation", f"{name}_map", (normal,), {"activation": activation})
        if number == first + 3:
            return
        start = f"{name}_pooled"
        yield KerasLayer(pooling, start, (f"{name}_map",), {"pool_size": (2, 2)})


def _stage(stage: int, block: int, window: int) -> Iterator[KerasLayer]:
    relu, tanh = {"activation": "relu"}, {"activation": "tanh"}
    last = "map" if block == 4 else "pooled"
    for side, (number, dense, pooling) in {
        "s": (4 + block, 3 * stage - 2, "MaxPooling2D"),
        "x": (block, 3 * stage - 1, "AveragePooling2D"),
    }.items():
        name = f"conv2d_{7 + 2 * stage + (side == 'x')}"
        yield KerasLayer("Conv2D", name, (f"block_{number}_{last}",), relu)
        if window:
            yield KerasLayer(pooling, f"{name}_pooled", (name,), {"pool_size": (window, window)})
            name = f"{name}_pooled"
        yield KerasLayer("Flatten", f"flat_{side}{stage}", (name,), {})
        yield KerasLayer("Dense", f"dense_{dense}", (f"flat_{side}{stage}",), relu)
    yield KerasLayer("Multiply", f"both_{stage}", (f"flat_s{stage}", f"flat_x{stage}"), {})
    yield KerasLayer("Dense", f"delta_s{stage}", (f"both_{stage}",), tanh)
    pair = (f"dense_{3 * stage - 2}", f"dense_{3 * stage - 1}")
    yield KerasLayer("Multiply", f"mixed_{stage}", pair, {})
    yield KerasLayer("Dense", f"dense_{3 * stage}", (f"mixed_{stage}",), relu)
    yield KerasLayer("Dense", f"pred_age_stage{stage}", (f"dense_{3 * stage}",), relu)
    yield KerasLayer("Dense", f"local_delta_stage{stage}", (f"dense_{3 * stage}",), tanh)


def _merge(layers: Layers, values: dict[str, str]) -> str:
    """Add equation 4 of the paper: each stage refines the one before it."""
    total = width = ""
    for stage in (1, 2, 3):
        places = layers.affine(
            values[f"local_delta_stage{stage}"], np.ones(CLASSES), np.arange(CLASSES)
        )
        part = layers.sum(layers.combine("Mul", places, values[f"pred_age_stage{stage}"]))
        wide = layers.affine(values[f"delta_s{stage}"], float(CLASSES), float(CLASSES))
        width = layers.combine("Mul", width, wide) if width else wide
        part = layers.combine("Div", part, width)
        total = layers.combine("Add", total, part) if total else part
    return layers.affine(total, SPAN_YEARS, 0.0)
