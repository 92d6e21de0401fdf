"""Random files in the layout of the published age network.

They exercise the whole code path where the published weights are not available.  They are not age
estimators: their output means nothing.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agebench.errors import UsageError
from agebench.runtimes.age_net_layout import (
    CLASSES,
    MICRO,
    PUBLISHED,
    LayerLayout,
    Widths,
    age_net_layers,
)
from agebench.runtimes.caffe_model import CaffeLayer, Encoding, write_caffemodel

# Spread of a pixel minus the mean.  The activations keep it up to the last layer, where weights are
# divided by it, so that response normalisation has an effect and the softmax does not saturate.
_INPUT_SPREAD = 64.0
_BIAS_LIMIT = 4.0


def random_age_net_layers(
    *, seed: int, classes: int = CLASSES, widths: Widths = PUBLISHED
) -> tuple[CaffeLayer, ...]:
    """Return all layers with random weights and biases; a seed gives the same on every machine.

    Weights are uniform with the standard deviation of He et al. (2015), sqrt(2 / inputs).

    Raises:
        UsageError: `seed` is negative.
    """
    if seed < 0:
        raise UsageError(f"a seed must be 0 or more, got {seed}")
    bits = np.random.PCG64(seed)
    return tuple(_random_layer(layer, bits) for layer in age_net_layers(classes, widths))


def random_age_net(
    path: str | Path,
    *,
    seed: int,
    micro: bool = False,
    encoding: Encoding = "v1",
    half: bool = False,
) -> None:
    """Write a random caffemodel in the layout of the published age network.

    Its prototxt is ``deploy_prototxt()``, or ``deploy_prototxt(widths=MICRO)`` for a micro one
    (`agebench.runtimes.age_net_layout`).

    Args:
        path: the file; an existing one is replaced.
        seed: 0 or more; equal seeds give equal bytes.
        micro: few channels, about 60 kB instead of 46 MB.
        encoding: "v1" like the published file, or "v2".
        half: store half-precision numbers.

    Raises:
        UsageError: an invalid seed or encoding.
        AgebenchError: the file can't be written.
    """
    layers = random_age_net_layers(seed=seed, widths=MICRO if micro else PUBLISHED)
    write_caffemodel(path, layers, encoding=encoding, half=half, name="random_age_net")


def _random_layer(layer: LayerLayout, bits: np.random.PCG64) -> CaffeLayer:
    blobs: list[npt.NDArray[np.float32]] = []
    if layer.blob_shapes:
        weights_shape, biases_shape = layer.blob_shapes
        last = layer.name == "fc8"
        spread = math.sqrt(2.0 / math.prod(weights_shape[1:])) / (_INPUT_SPREAD if last else 1.0)
        blobs.append(_uniform(bits, weights_shape, spread * math.sqrt(3.0)))
        blobs.append(_uniform(bits, biases_shape, _BIAS_LIMIT / (_INPUT_SPREAD if last else 1.0)))
    return CaffeLayer(layer.name, layer.type, tuple(blobs), (layer.bottom,), (layer.top,))


def _uniform(
    bits: np.random.PCG64, shape: tuple[int, ...], limit: float
) -> npt.NDArray[np.float32]:
    """Return float32 uniform in [-limit, limit).

    NumPy guarantees a stable stream only for the raw bits, not for its generators' output; a
    float32 has 24 bits of precision.
    """
    count = math.prod(shape)
    integers = np.asarray(bits.random_raw((count + 1) // 2), "<u8").view("<u4")[:count]
    integers >>= np.uint32(8)
    numbers = integers.astype(np.float32)
    numbers *= np.float32(2.0**-23)
    numbers -= np.float32(1.0)
    numbers *= np.float32(limit)
    numbers.flags.writeable = False  # so that a `CaffeLayer` takes it as it is
    return numbers.reshape(shape)
