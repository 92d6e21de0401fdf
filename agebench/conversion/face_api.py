"""Converts face-api.js's age and gender network from TensorFlow.js to ONNX.

The layout is its TinyXception (src/xception, src/ageGenderNet in vladmandic/face-api); the weights
are in ``age_gender_model.bin`` and listed in ``age_gender_model-weights_manifest.json``: 8-bit
numbers with a scale and a minimum, or float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from agebench.conversion.layers import Array, Layers
from agebench.errors import ModelError

SIDE_PX = 112
MAIN_BLOCKS = 2
OUTPUT = "age"


def read_tfjs(path: Path, content: bytes, listed: str) -> dict[str, Array]:
    """Return the weights of a TensorFlow.js file by name, as float32.

    Args:
        path: the file, for errors.
        content: its bytes.
        listed: text of its weights manifest.

    Raises:
        ModelError: the two don't match.
    """
    weights: dict[str, Array] = {}
    place = 0
    try:
        for group in json.loads(listed):
            for entry in group["weights"]:
                weights[entry["name"]], place = _values(entry, content, place)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{path} and its list of weights don't match: {error}") from error
    if place != len(content):
        raise ModelError(f"{path} has {len(content):,} bytes, its list of weights {place:,}")
    return weights


def _values(entry: Mapping[str, Any], content: bytes, place: int) -> tuple[Array, int]:
    shape = [int(size) for size in entry["shape"]]
    count = math.prod(shape)
    packed = entry.get("quantization")
    kind = np.dtype("u1") if packed else np.dtype("<f4")
    if (packed or entry)["dtype"] not in ("uint8" if packed else "float32",):
        raise ValueError(f"{entry['name']!r:.60} is neither uint8 nor float32")
    numbers = np.frombuffer(content, kind, count, place).astype(np.float32).reshape(shape)
    if packed:
        numbers = numbers * np.float32(packed["scale"]) + np.float32(packed["min"])
    return numbers, place + count * kind.itemsize


def face_api_model(path: Path, content: bytes, listed: str) -> onnx.ModelProto:
    """Return the network as ONNX: image (n, 3, 112, 112), R, G, B, normalised, to age (n, 1).

    Raises:
        ModelError: the weights are not those of this layout.
    """
    net = _Xception(str(path), read_tfjs(path, content, listed))
    try:
        return net.model()
    except KeyError as error:
        raise ModelError(f"{path} lacks the weights {error} of the face-api.js network") from error


class _Xception:
    def __init__(self, where: str, weights: Mapping[str, Array]) -> None:
        self._weights = weights
        self._layers = Layers(where, (3, SIDE_PX, SIDE_PX), [OUTPUT])

    def model(self) -> onnx.ModelProto:
        layers = self._layers
        value = self._conv(Layers.INPUT, "entry_flow/conv_in", 2)
        value = layers.activation(value, "relu")
        value = self._reduction(value, "entry_flow/reduction_block_0", activate=False)
        value = self._reduction(value, "entry_flow/reduction_block_1")
        for block in range(MAIN_BLOCKS):
            inner = value
            for number in range(3):
                name = f"middle_flow/main_block_{block}/separable_conv{number}"
                inner = self._separable(layers.activation(inner, "relu"), name)
            value = layers.combine("Add", inner, value)
        value = self._reduction(value, "exit_flow/reduction_block")
        value = layers.activation(self._separable(value, "exit_flow/separable_conv"), "relu")
        pooled = layers.flatten(layers.pool(value, "average", (7, 7), (2, 2)), channels_last=True)
        age = layers.dense(pooled, self._weights["fc/age/weights"], self._weights["fc/age/bias"])
        return layers.model("face_api", {OUTPUT: age})

    def _conv(self, value: str, name: str, stride: int) -> str:
        # TensorFlow stores kernels as (height, width, in, out).
        kernel = self._weights[f"{name}/filters"].transpose(3, 2, 0, 1)
        bias = self._weights[f"{name}/bias"]
        return self._layers.conv(value, kernel, bias, stride=(stride, stride), padding="same")

    def _separable(self, value: str, name: str) -> str:
        deep = self._weights[f"{name}/depthwise_filter"].transpose(2, 3, 0, 1)
        across = self._weights[f"{name}/pointwise_filter"].transpose(3, 2, 0, 1)
        value = self._layers.conv(value, deep, padding="same", groups=len(deep))
        return self._layers.conv(value, across, self._weights[f"{name}/bias"])

    def _reduction(self, value: str, name: str, *, activate: bool = True) -> str:
        layers = self._layers
        inner = layers.activation(value, "relu") if activate else value
        inner = self._separable(inner, f"{name}/separable_conv0")
        inner = self._separable(layers.activation(inner, "relu"), f"{name}/separable_conv1")
        inner = layers.pool(inner, "max", (3, 3), (2, 2), "same")
        return layers.combine("Add", inner, self._conv(value, f"{name}/expansion_conv", 2))
