"""Layers of other libraries as ONNX nodes with known shapes.

TensorFlow's padding "same" depends on the input's size, so sizes are tracked from layer to layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from agebench.conversion.graph import Graph
from agebench.errors import ModelError

Array: TypeAlias = npt.NDArray[np.float32]
Pair: TypeAlias = tuple[int, int]
Shape: TypeAlias = tuple[int, ...]
PoolKind: TypeAlias = Literal["max", "average"]
Padding: TypeAlias = Literal["same", "valid"] | Pair

_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softmax": "Softmax"}


class Layers:
    """A graph under construction, and the shape of each of its values without the batch.

    Pictures are (channels, height, width); everything else is (numbers,).

    Args:
        where: name of the source, for errors.
        input_shape: (channels, height, width).
        reserved: names of the outputs.
    """

    INPUT = "image"

    def __init__(self, where: str, input_shape: Shape, reserved: Sequence[str] = ()) -> None:
        self._where = where
        self._graph = Graph()
        self._graph.reserve(self.INPUT, *reserved)
        self.shapes: dict[str, Shape] = {self.INPUT: input_shape}

    def _add(self, kind: str, inputs: Sequence[str], shape: Shape, **attributes: Any) -> str:
        name = self._graph.node(kind, inputs, **attributes)
        self.shapes[name] = shape
        return name

    def _require(self, condition: object, what: str) -> None:
        if not condition:
            raise ModelError(f"{self._where} can't be converted: {what}")

    def conv(
        self,
        value: str,
        kernel: npt.ArrayLike,
        bias: npt.ArrayLike | None = None,
        *,
        stride: Pair = (1, 1),
        padding: Padding = "valid",
        groups: int = 1,
    ) -> str:
        """Add a convolution; `kernel` is (out, in / groups, height, width)."""
        weights = np.asarray(kernel, np.float32)
        channels, *size = self.shapes[value]
        self._require(len(size) == 2, "a convolution of something other than a picture")
        self._require(
            weights.ndim == 4 and weights.shape[1] * groups == channels,
            f"a kernel of shape {weights.shape} on {channels} channels",
        )
        pads, out = self._places((size[0], size[1]), weights.shape[2:], stride, padding)
        inputs = [value, self._graph.weight(weights, "kernel")]
        if bias is not None:
            inputs.append(self._graph.weight(bias, "bias"))
        return self._add(
            "Conv",
            inputs,
            (weights.shape[0], *out),
            kernel_shape=list(weights.shape[2:]),
            strides=list(stride),
            pads=pads,
            group=groups,
        )

    def _places(
        self, size: Pair, window: Sequence[int], stride: Pair, padding: Padding
    ) -> tuple[list[int], Pair]:
        """Return the pads (top, left, bottom, right) and the output's height and width."""
        begins, ends, out = [], [], []
        for axis in range(2):
            if padding == "same":
                length = math.ceil(size[axis] / stride[axis])
                total = max((length - 1) * stride[axis] + window[axis] - size[axis], 0)
                begins.append(total // 2)
                ends.append(total - total // 2)
            else:
                pad = 0 if padding == "valid" else padding[axis]
                begins.append(pad)
                ends.append(pad)
            room = size[axis] + begins[axis] + ends[axis] - window[axis]
            self._require(room >= 0, f"a window of {tuple(window)} on {size}")
            out.append(room // stride[axis] + 1)
        return [*begins, *ends], (out[0], out[1])

    def pool(
        self,
        value: str,
        kind: PoolKind,
        window: Pair,
        stride: Pair,
        padding: Padding = "valid",
    ) -> str:
        """Add pooling; padding is not included in averages."""
        channels, height, width = self.shapes[value]
        pads, out = self._places((height, width), window, stride, padding)
        if kind == "average" and any(pads):
            return self._padded_average(value, window, stride, pads, out)
        return self._add(
            "MaxPool" if kind == "max" else "AveragePool",
            [value],
            (channels, *out),
            kernel_shape=list(window),
            strides=list(stride),
            pads=pads,
        )

    def _padded_average(
        self, value: str, window: Pair, stride: Pair, pads: list[int], out: Pair
    ) -> str:
        """Add an average without the padding: a sum, divided by the number of pixels inside.

        Needed because cv2.dnn includes padding at the ends in its averages.
        """
        channels, height, width = self.shapes[value]
        ones = np.ones((channels, 1, *window), np.float32)
        total = self._add(
            "Conv",
            [value, self._graph.weight(ones, "ones")],
            (channels, *out),
            kernel_shape=list(window),
            strides=list(stride),
            pads=pads,
            group=channels,
        )
        counts = [
            [
                min(start * stride[axis] - pads[axis] + window[axis], size)
                - max(start * stride[axis] - pads[axis], 0)
                for start in range(out[axis])
            ]
            for axis, size in enumerate((height, width))
        ]
        reciprocals = 1.0 / np.outer(counts[0], counts[1])
        return self._add(
            "Mul",
            [total, self._graph.weight(reciprocals[None, None], "share")],
            (channels, *out),
        )

    def global_average(self, value: str) -> str:
        """Add the mean over a picture, (channels,)."""
        channels = self.shapes[value][0]
        pooled = self._add("GlobalAveragePool", [value], (channels, 1, 1))
        return self.flatten(pooled, channels_last=False)

    def affine(self, value: str, factor: npt.ArrayLike, offset: npt.ArrayLike) -> str:
        """Add ``value * factor + offset``, with numbers per channel or for all."""
        shape = self.shapes[value]
        for kind, numbers in (("Mul", factor), ("Add", offset)):
            array = np.asarray(numbers, np.float32)
            if array.ndim:
                self._require(
                    array.shape == shape[:1], f"{array.shape} numbers for {shape[0]} channels"
                )
                array = array.reshape(1, -1, *[1] * (len(shape) - 1))
            else:
                array = array.reshape(1)
            value = self._add(kind, [value, self._graph.weight(array, kind.lower())], shape)
        return value

    def batch_norm(
        self,
        value: str,
        gamma: npt.ArrayLike,
        beta: npt.ArrayLike,
        mean: npt.ArrayLike,
        variance: npt.ArrayLike,
        epsilon: float,
    ) -> str:
        """Add a frozen batch normalisation, as a factor and an offset per channel."""
        factor = np.asarray(gamma, np.float64) / np.sqrt(np.asarray(variance, np.float64) + epsilon)
        offset = np.asarray(beta, np.float64) - np.asarray(mean, np.float64) * factor
        return self.affine(value, factor, offset)

    def activation(self, value: str, kind: str) -> str:
        """Add an activation with Keras's name; "linear" adds nothing."""
        if kind == "linear":
            return value
        self._require(kind in _ACTIVATIONS, f"the activation {kind!r:.40}")
        axis = {"axis": 1} if kind == "softmax" else {}
        return self._add(_ACTIVATIONS[kind], [value], self.shapes[value], **axis)

    def prelu(self, value: str, slope: npt.ArrayLike) -> str:
        """Add a PReLU with one slope per channel."""
        slopes = np.asarray(slope, np.float32).reshape(-1, 1, 1)
        return self._add("PRelu", [value, self._graph.weight(slopes, "slope")], self.shapes[value])

    def flatten(self, value: str, *, channels_last: bool) -> str:
        """Flatten a picture to (numbers,); in TensorFlow's order if `channels_last`."""
        shape = self.shapes[value]
        if channels_last and len(shape) == 3 and max(shape[1:]) > 1:
            value = self._add("Transpose", [value], shape, perm=[0, 2, 3, 1])
        return self._add("Flatten", [value], (math.prod(shape),), axis=1)

    def dense(self, value: str, kernel: npt.ArrayLike, bias: npt.ArrayLike | None = None) -> str:
        """Add a dense layer; `kernel` is (in, out)."""
        weights = np.asarray(kernel, np.float32)
        self._require(
            weights.ndim == 2 and self.shapes[value] == weights.shape[:1],
            f"a kernel of shape {weights.shape} on input of shape {self.shapes[value]}",
        )
        inputs = [value, self._graph.weight(weights.T, "weights")]
        if bias is not None:
            inputs.append(self._graph.weight(bias, "bias"))
        return self._add("Gemm", inputs, (weights.shape[1],), transB=1)

    def combine(self, kind: Literal["Add", "Mul", "Div"], first: str, second: str) -> str:
        """Add an operation on two values of the same shape."""
        self._require(
            self.shapes[first] == self.shapes[second],
            f"{kind} of shapes {self.shapes[first]} and {self.shapes[second]}",
        )
        return self._add(kind, [first, second], self.shapes[first])

    def sum(self, value: str) -> str:
        """Add the sum of a value's numbers, (1,)."""
        return self.dense(value, np.ones((self.shapes[value][0], 1)))

    def model(self, name: str, outputs: dict[str, str]) -> onnx.ModelProto:
        """Return the model; `outputs` maps names to values."""
        for output, value in outputs.items():
            self._graph.named("Identity", [value], output)
        return self._graph.model(
            name,
            {self.INPUT: self.shapes[self.INPUT]},
            {output: self.shapes[value] for output, value in outputs.items()},
        )
