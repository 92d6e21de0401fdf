"""Reads weights and layouts of Keras's HDF5 files, and converts functional models to ONNX.

Files of Keras 1 and 2 (``.h5``, ``.hdf5``), with a whole model or only weights.  Nothing in them is
executed: layers with code (Lambda) are refused.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from agebench.conversion.layers import Array, Layers, Pair, PoolKind
from agebench.errors import MissingDependencyError, ModelError


@dataclass(frozen=True, slots=True)
class KerasLayer:
    """One layer of a model's layout.

    Attributes:
        kind: its class, such as "Conv2D".
        name: also identifies its weights.
        inputs: names of its input layers.
        config: its settings, with Keras's names.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KerasFile:
    """Content of an HDF5 file.

    Attributes:
        where: the file, for errors.
        weights: arrays of each layer that has any, by their short names ("kernel", "bias", ...).
        layers: the layout, in order; empty if the file contains only weights.
        outputs: names of the output layers.
    """

    where: str
    weights: Mapping[str, Mapping[str, Array]]
    layers: tuple[KerasLayer, ...] = ()
    outputs: tuple[str, ...] = ()


def _import_h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            f"Keras's HDF5 files need h5py ({error}): pip install 'agebench[keras]'"
        ) from error
    return h5py


def read_keras(path: Path, content: bytes) -> KerasFile:
    """Read a file's weights and, if included, the model's layout.

    Args:
        path: the file, for errors.
        content: its bytes.

    Raises:
        ModelError: it is not such a file, or is damaged.
        MissingDependencyError: h5py is not installed.
    """
    h5py = _import_h5py()
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            group = file.get("model_weights", file)
            weights = {
                name: _arrays(h5py, group[name], 4 * len(content))
                for name in group
                # Other kinds of links may lead to other files.
                if isinstance(group.get(name, getlink=True), h5py.HardLink)
            }
            config = file.attrs.get("model_config")
    except Exception as error:  # h5py raises OSError, KeyError, RuntimeError, ValueError
        raise ModelError(f"{path} is not a complete HDF5 file of Keras: {error}") from error
    layers, outputs = ((), ()) if config is None else _layout(config, path)
    return KerasFile(str(path), MappingProxyType(weights), layers, outputs)


def _arrays(h5py: Any, group: Any, most_numbers: int) -> Mapping[str, Array]:
    """Return all arrays below a layer's group, by the last part of their names."""
    found: dict[str, Array] = {}

    def take(name: str, item: Any) -> None:
        # A link to another file, or a data set in one, would open that file.
        if isinstance(item, h5py.Dataset) and item.external is None and not item.is_virtual:
            if item.size > most_numbers:  # never written, or packed like a bomb
                raise ValueError(f"{name!r:.60} has more numbers than the file can hold")
            found[name.rpartition("/")[2].removesuffix(":0")] = np.asarray(item, np.float32)

    group.visititems(take)
    return found


def _layout(config: str | bytes, path: Path) -> tuple[tuple[KerasLayer, ...], tuple[str, ...]]:
    try:
        whole = json.loads(config)["config"]
        layers = tuple(
            KerasLayer(
                item["class_name"],
                item["name"],
                tuple(entry[0] for node in item["inbound_nodes"][:1] for entry in node),
                item["config"],
            )
            for item in whole["layers"]
        )
        return layers, tuple(entry[0] for entry in whole["output_layers"])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise ModelError(
            f"{path}: expected the layout of a functional Keras 2 model, got something else "
            f"({type(error).__name__}: {error})"
        ) from error


def keras_model(file: KerasFile) -> onnx.ModelProto:
    """Return a functional model as ONNX: input in NCHW, outputs named like their layers.

    Raises:
        ModelError: a layer is of an unsupported kind, or weights have other shapes.
    """
    if not file.layers:
        raise ModelError(f"{file.where} has weights but no layout of the network")
    first = file.layers[0]
    shape: Any = first.config.get("batch_input_shape")
    fits = (
        isinstance(shape, list)
        and len(shape) == 4
        and all(isinstance(size, int) and 0 < size <= 4096 for size in shape[1:])
    )
    if first.kind != "InputLayer" or not fits:
        raise ModelError(f"{file.where}: expected an input of one fixed picture size, got {shape}")
    layers = Layers(file.where, (shape[3], shape[1], shape[2]), file.outputs)
    values = {first.name: Layers.INPUT}
    for layer in file.layers[1:]:
        values[layer.name] = add_layer(layers, file, layer, [values[name] for name in layer.inputs])
    return layers.model("keras", {name: values[name] for name in file.outputs})


def add_layer(layers: Layers, file: KerasFile, layer: KerasLayer, inputs: Sequence[str]) -> str:
    """Add a Keras layer to a graph and return its value.

    Raises:
        ModelError: it is of an unsupported kind, or its weights have other shapes.
    """
    weights = file.weights.get(layer.name, {})
    try:
        return _add(layers, layer, weights, list(inputs))
    except (KeyError, IndexError, TypeError) as error:
        raise ModelError(
            f"{file.where}: the layer {layer.name!r:.60} ({layer.kind:.40}) lacks required "
            f"settings: {error}"
        ) from error


def _add(layers: Layers, layer: KerasLayer, weights: Mapping[str, Array], inputs: list[str]) -> str:
    config = layer.config
    if layer.kind in ("Conv2D", "Dense"):
        value = (
            _conv(layers, layer, weights, inputs[0])
            if layer.kind == "Conv2D"
            else layers.dense(inputs[0], weights["kernel"], weights.get("bias"))
        )
        return layers.activation(value, config.get("activation", "linear"))
    if layer.kind == "BatchNormalization":
        return layers.batch_norm(
            inputs[0],
            weights["gamma"],
            weights["beta"],
            weights["moving_mean"],
            weights["moving_variance"],
            float(config.get("epsilon", 1e-3)),
        )
    if layer.kind not in _PLAIN:
        raise ModelError(
            f"the layer {layer.name!r:.60} is of the kind {layer.kind!r:.40}, which can't be "
            "converted: export the model to ONNX with Keras"
        )
    return _PLAIN[layer.kind](layers, config, inputs)


def _conv(layers: Layers, layer: KerasLayer, weights: Mapping[str, Array], value: str) -> str:
    if tuple(layer.config.get("dilation_rate", (1, 1))) != (1, 1):
        raise ModelError(f"the layer {layer.name!r:.60} is dilated, which can't be converted")
    return layers.conv(
        value,
        weights["kernel"].transpose(3, 2, 0, 1),  # Keras stores (height, width, in, out)
        weights.get("bias"),
        stride=_pair(layer.config.get("strides", (1, 1))),
        padding=layer.config.get("padding", "valid"),
    )


def _pool(layers: Layers, config: Mapping[str, Any], value: str, kind: PoolKind) -> str:
    window = _pair(config["pool_size"])
    stride = _pair(config.get("strides") or window)
    return layers.pool(value, kind, window, stride, config.get("padding", "valid"))


_PLAIN: Mapping[str, Callable[[Layers, Mapping[str, Any], list[str]], str]] = MappingProxyType(
    {
        "Activation": lambda layers, config, inputs: layers.activation(
            inputs[0], config["activation"]
        ),
        "MaxPooling2D": lambda layers, config, inputs: _pool(layers, config, inputs[0], "max"),
        "AveragePooling2D": lambda layers, config, inputs: _pool(
            layers, config, inputs[0], "average"
        ),
        "Flatten": lambda layers, _, inputs: layers.flatten(inputs[0], channels_last=True),
        "Dropout": lambda _layers, _, inputs: inputs[0],
        "Add": lambda layers, _, inputs: layers.combine("Add", inputs[0], inputs[1]),
        "Multiply": lambda layers, _, inputs: layers.combine("Mul", inputs[0], inputs[1]),
    }
)
"""Layers without weights."""


def _pair(sizes: Sequence[int]) -> Pair:
    return (int(sizes[0]), int(sizes[1]))
