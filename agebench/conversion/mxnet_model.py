"""Converts MXNet models (``-symbol.json`` and ``.params``) to ONNX, as far as face models need.

Formats: src/nnvm/symbol.cc and src/ndarray/ndarray.cc of Apache MXNet 1.x.  Nothing in the files is
executed; sizes are checked before anything is read.
"""

from __future__ import annotations

import ast
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from agebench.conversion.layers import Array, Layers, Pair
from agebench.errors import ModelError

_LIST_MAGIC = 0x112
_ARRAY_MAGIC = 0xF993FAC9
_DENSE, _FLOAT32 = 0, 0
_MAX_NODES = 10_000


def read_params(path: Path, content: bytes) -> dict[str, Array]:
    """Return the arrays of a ``.params`` file by name, without the prefixes "arg:" and "aux:".

    Raises:
        ModelError: it is not a complete file of dense float32 arrays.
    """
    try:
        return _params(content)
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not a complete MXNet parameter file: {error}") from error


def _params(content: bytes) -> dict[str, Array]:
    magic, _, count = struct.unpack_from("<QQQ", content, 0)
    if magic != _LIST_MAGIC or count > _MAX_NODES:
        raise ValueError("it does not start as expected")
    place, arrays = 24, []
    for _ in range(count):
        array, place = _array(content, place)
        arrays.append(array)
    (named,) = struct.unpack_from("<Q", content, place)
    if named != count:
        raise ValueError(f"{count} arrays and {named} names")
    place, names = place + 8, []
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", content, place)
        (text,) = struct.unpack_from(f"{min(length, 1000)}s", content, place + 8)
        names.append(text.decode().partition(":")[2])
        place += 8 + length
    return dict(zip(names, arrays, strict=True))


def _array(content: bytes, place: int) -> tuple[Array, int]:
    magic, storage, axes = struct.unpack_from("<IiI", content, place)
    if magic != _ARRAY_MAGIC or storage != _DENSE or axes > 8:
        raise ValueError("an array in it is of a different kind")
    place += 12
    shape = struct.unpack_from(f"<{axes}q", content, place)
    *_, kind = struct.unpack_from("<iii", content, place + 8 * axes)  # the device, then the type
    place += 8 * axes + 12
    count = math.prod(shape)
    if kind != _FLOAT32 or min(shape, default=1) < 1 or 4 * count > len(content) - place:
        raise ValueError("one of its arrays is truncated or not float32")
    values = np.frombuffer(content, "<f4", count, place).reshape(shape)
    return np.asarray(values, np.float32), place + 4 * count


def mxnet_model(
    path: Path, content: bytes, symbol: str, size_hw: Pair, output: str
) -> onnx.ModelProto:
    """Return a network as ONNX: image (n, 3, height, width) to the layer called `output`.

    Args:
        path: the ``.params`` file, for errors.
        content: its bytes.
        symbol: text of the ``-symbol.json``.
        size_hw: height and width of the input, which the files don't state.
        output: a layer's name.

    Raises:
        ModelError: the files are damaged, or a layer is not supported.
    """
    weights = read_params(path, content)
    layers = Layers(str(path), (3, *size_hw), [output])
    try:
        values: list[str] = []
        for node in json.loads(symbol)["nodes"]:
            inputs = [values[entry[0]] for entry in node["inputs"]]
            values.append(_node(layers, node, inputs, weights))
            if node["name"] == output:
                return layers.model("mxnet", {output: values[-1]})
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, SyntaxError) as error:
        raise ModelError(
            f"{path} and its layout don't match: {type(error).__name__}: {error}"
        ) from error
    raise ModelError(f"{path}: its layout has no layer {output!r}")


def _node(
    layers: Layers, node: Mapping[str, Any], inputs: Sequence[str], weights: Mapping[str, Array]
) -> str:
    kind, settings = node["op"], node.get("attrs") or node.get("param") or {}
    if kind == "null":
        return Layers.INPUT if node["name"] == "data" else str(node["name"])
    if kind not in _NODES:
        raise ValueError(f"the operator {kind!r:.40} is not supported")
    numbers = [weights[name] for name in inputs[1:]]
    return _NODES[kind](layers, settings, inputs[0], numbers)


def _setting(settings: Mapping[str, str], name: str, default: Any) -> Any:
    return ast.literal_eval(settings[name]) if name in settings else default


def _conv(layers: Layers, settings: Mapping[str, str], value: str, numbers: list[Array]) -> str:
    return layers.conv(
        value,
        numbers[0],
        numbers[1] if len(numbers) > 1 else None,
        stride=_setting(settings, "stride", (1, 1)),
        padding=_setting(settings, "pad", (0, 0)),
        groups=_setting(settings, "num_group", 1),
    )


def _norm(layers: Layers, settings: Mapping[str, str], value: str, numbers: list[Array]) -> str:
    gamma, beta, mean, variance = numbers
    if _setting(settings, "fix_gamma", True):
        gamma = np.ones_like(gamma)
    epsilon = float(_setting(settings, "eps", 1e-3))
    return layers.batch_norm(value, gamma, beta, mean, variance, epsilon)


def _pool(layers: Layers, settings: Mapping[str, str], value: str, _: list[Array]) -> str:
    if not _setting(settings, "global_pool", False) or settings.get("pool_type") != "avg":
        raise ValueError("only global average pooling is supported")
    return layers.global_average(value)


def _flatten(layers: Layers, _: Mapping[str, str], value: str, __: list[Array]) -> str:
    return value if len(layers.shapes[value]) == 1 else layers.flatten(value, channels_last=False)


_Node = Callable[[Layers, Mapping[str, str], str, list[Array]], str]
_NODES: Mapping[str, _Node] = MappingProxyType(
    {
        "Convolution": _conv,
        "BatchNorm": _norm,
        "Pooling": _pool,
        "Flatten": _flatten,
        "Activation": lambda layers, settings, value, _: layers.activation(
            value, settings["act_type"]
        ),
        "LeakyReLU": lambda layers, _, value, numbers: layers.prelu(value, numbers[0]),
        "FullyConnected": lambda layers, _, value, numbers: layers.dense(
            value, numbers[0].T, numbers[1] if len(numbers) > 1 else None
        ),
        "_minus_scalar": lambda layers, settings, value, _: layers.affine(
            value, 1.0, -float(settings["scalar"])
        ),
        "_mul_scalar": lambda layers, settings, value, _: layers.affine(
            value, float(settings["scalar"]), 0.0
        ),
    }
)
