"""Compare converted Keras files with Keras itself.

    python benchmarks/keras_parity.py --yu4u weights.28-3.73.hdf5 --ssr-net ssrnet_*.h5 --out FILE

Needs Keras 3 (`pip install keras`) with any backend, for example ``KERAS_BACKEND=torch``.  The
networks are built from Keras's own layers as published, loaded with the files' weights, and run on
64 pictures of noise and soft blobs; the converted files are run on the same pictures under both
runtimes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agebench.conversion.keras_file import keras_model, read_keras
from agebench.conversion.ssr_net import ssr_net_model
from agebench.runtimes.base import ModelSource
from agebench.runtimes.opening import open_model
from agebench.util.files import write_whole
from agebench.vision.opencv import cv2

SIDE_PX = 64


def pictures() -> npt.NDArray[np.float32]:
    """Return 64 pictures, half noise and half blobs: (64, 64, 64, 3), values from 0 to 255."""
    random = np.random.default_rng(0)
    noise = random.uniform(0, 255, (64, SIDE_PX, SIDE_PX, 3)).astype(np.float32)
    for index in range(32):
        blurred = cv2.GaussianBlur(noise[index], (0, 0), 6)
        low, high = blurred.min(), blurred.max()
        noise[index] = (blurred - low) * (255 / (high - low))
    return noise


def wide_resnet(keras: Any) -> Any:
    """Return WideResNet 16-8 as in yu4u/age-gender-estimation (Zagoruyko & Komodakis, 2016)."""
    layers = keras.layers
    count = {"conv": 0, "norm": 0}

    def conv(value: Any, channels: int, size: int, stride: int = 1) -> Any:
        count["conv"] += 1
        return layers.Conv2D(
            channels, size, stride, "same", use_bias=False, name=f"conv2d_{count['conv']}"
        )(value)

    def active(value: Any) -> Any:
        count["norm"] += 1
        name = f"batch_normalization_{count['norm']}"
        return layers.ReLU()(layers.BatchNormalization(name=name, epsilon=1e-3)(value))

    image = layers.Input((SIDE_PX, SIDE_PX, 3))
    value = conv(image, 16, 3)
    for channels, stride in ((128, 1), (256, 2), (512, 2)):
        for block in range(2):
            first = block == 0
            before = active(value)
            inner = conv(before, channels, 3, stride if first else 1)
            inner = conv(active(inner), channels, 3)
            short = conv(before, channels, 1, stride) if first else value
            value = layers.Add()([inner, short])
    # TensorFlow averages only the part of a window that lies inside the input; Keras's other
    # backends repeat the edge. So pad with zeros and correct the mean for them.
    padded = layers.ZeroPadding2D(((3, 4), (3, 4)))(active(value))
    inside = [min(start + 5, 16) - max(start - 3, 0) for start in range(16)]
    share = 64.0 / np.outer(inside, inside)[None, :, :, None].astype(np.float32)
    value = layers.AveragePooling2D(8, 1)(padded) * share
    flat = layers.Flatten()(value)
    ages = layers.Dense(101, "softmax", use_bias=False, name="dense_2")(flat)
    return keras.Model(image, ages)


def ssr_net(keras: Any) -> Any:
    """Return SSR-Net (3, 3, 3) as in Yang et al., IJCAI 2018, figure 2."""
    layers = keras.layers
    names = iter(range(1, 100))
    image = layers.Input((SIDE_PX, SIDE_PX, 3))
    maps: dict[str, list[Any]] = {}
    for stream, (channels, act, pool) in {
        "x": (32, "relu", layers.AveragePooling2D),
        "s": (16, "tanh", layers.MaxPooling2D),
    }.items():
        value, maps[stream] = image, []
        for block in range(4):
            number = next(names)
            value = layers.Conv2D(channels, 3, name=f"conv2d_{number}")(value)
            value = layers.BatchNormalization(name=f"batch_normalization_{number}", epsilon=1e-3)(
                value
            )
            value = layers.Activation(act)(value)
            value = pool(2, 2)(value) if block < 3 else value
            maps[stream].append(value)
    outputs = []
    dense = iter(range(1, 10))
    for stage, (block, window) in enumerate(((3, 0), (1, 4), (0, 8)), start=1):
        flat, mixed = [], []
        for stream, pool in (("s", layers.MaxPooling2D), ("x", layers.AveragePooling2D)):
            value = layers.Conv2D(10, 1, activation="relu", name=f"conv2d_{next(names)}")(
                maps[stream][block]
            )
            value = layers.Flatten()(pool(window, window)(value) if window else value)
            flat.append(value)
            mixed.append(layers.Dense(3, "relu", name=f"dense_{next(dense)}")(value))
        delta = layers.Dense(1, "tanh", name=f"delta_s{stage}")(layers.Multiply()(flat))
        both = layers.Dense(6, "relu", name=f"dense_{next(dense)}")(layers.Multiply()(mixed))
        share = layers.Dense(3, "relu", name=f"pred_age_stage{stage}")(both)
        local = layers.Dense(3, "tanh", name=f"local_delta_stage{stage}")(both)
        outputs += [delta, share, local]
    return keras.Model(image, outputs)


def staged_age(outputs: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Return ages (n, 1) from the nine heads' outputs: equation 4 of the paper, in numpy."""
    age = np.zeros((len(outputs[0]), 1))
    width = np.ones((len(outputs[0]), 1))
    for delta, share, local in zip(outputs[0::3], outputs[1::3], outputs[2::3], strict=True):
        width = width * 3 * (1 + delta)
        age += ((np.arange(3) + local) * share).sum(axis=1, keepdims=True) / width
    return np.asarray(age * 101)


def load(model: Any, weights: Any) -> None:
    """Load a file's arrays into a Keras model, layer by layer."""
    order = ("kernel", "gamma", "beta", "moving_mean", "moving_variance", "bias")
    for layer in model.layers:
        if layer.weights:
            own = weights[layer.name]
            layer.set_weights([own[name] for name in order if name in own])


def largest(path: Path, content: bytes, output: str, expected: Any, shown: Any) -> dict[str, float]:
    """Return the largest difference of a converted file's output from `expected`, by runtime."""
    path.write_bytes(content)
    found = {}
    for runtime in ("onnxruntime", "cv2dnn"):
        model = open_model(ModelSource("onnx", path), runtime=runtime)
        got = model.run({"image": np.ascontiguousarray(shown.transpose(0, 3, 1, 2))})[output]
        found[runtime] = float(np.abs(got - expected).max())
    return found


def main() -> int:
    """Run from the command line."""
    import keras

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--yu4u", type=Path)
    parser.add_argument("--ssr-net", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    shown = pictures()
    results: dict[str, Any] = {"keras": keras.__version__, "pictures": len(shown), "largest": {}}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        if arguments.yu4u:
            file = read_keras(arguments.yu4u, arguments.yu4u.read_bytes())
            model = wide_resnet(keras)
            load(model, file.weights)
            expected = model.predict(shown, verbose=0)
            content = keras_model(file).SerializeToString()
            results["largest"][arguments.yu4u.name] = largest(
                target, content, "dense_2", expected, shown
            )
        for path in arguments.ssr_net:
            file = read_keras(path, path.read_bytes())
            model = ssr_net(keras)
            load(model, file.weights)
            expected = staged_age([np.asarray(x) for x in model.predict(shown, verbose=0)])
            content = ssr_net_model(file).SerializeToString()
            results["largest"][path.name] = largest(target, content, "age", expected, shown)
    text = json.dumps(results, indent=2, sort_keys=True)
    write_whole(arguments.out, f"{text}\n".encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
