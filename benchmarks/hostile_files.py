"""Models made to break the code that opens them: ONNX, Caffe, Darknet and TOML files."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agebench.runtimes.caffe_model import CaffeLayer, write_caffemodel
from benchmarks.hostile_onnx import WHOLE, onnx_models

SPEC = """name = "strange"
[files]
model = "{model}"
{config}
[runtime]
runtime = "{runtime}"
[crop]
size = [32, 32]
[input]
channel_order = "rgb"
mean = [0, 0, 0]
[output]
kind = "probabilities"
[bins]
ranges = ["0-2", "4-6", "8-12", "15-20", "25-32", "38-43", "48-53", "60-100"]
"""
PROTOTXT = """name: "net"
input: "data" input_shape {{ dim: 1 dim: 3 dim: {side} dim: {side} }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param {{ num_output: {outputs} kernel_size: {kernel} stride: {stride} }} }}
layer {{ name: "pool" type: "Pooling" bottom: "conv1" top: "pool"
  pooling_param {{ pool: AVE global_pooling: true }} }}
layer {{ name: "prob" type: "Softmax" bottom: "pool" top: "prob" }}
"""
CFG = """[net]
width={width}
height={height}
channels=3
[convolutional]
batch_normalize=0
filters={filters}
size={size}
stride={stride}
pad=1
activation=linear
{more}
[yolo]
mask={mask}
anchors=10,14, 23,27, 37,58
classes={classes}
num=3
"""


@dataclass(frozen=True)
class Hostile:
    """A model made to break the code that opens it.

    Attributes:
        name: what is wrong with it.
        kind: "onnx", "caffe", "darknet" or "toml".
        reference: its name as an estimator, with paths relative to its folder.
        detector: its name as a detector; "" if it can't be used as one.
        files: their contents, by file name.
    """

    name: str
    kind: str
    reference: str
    detector: str
    files: dict[str, bytes]


def _damaged(data: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    changed = bytearray(data)
    if seed % 3 == 0:
        return bytes(changed[: rng.randrange(1, len(changed))])
    for _ in range(rng.choice((1, 3, 10))):
        if seed % 3 == 1:
            changed[rng.randrange(len(changed))] = rng.choice((0, 255, rng.randrange(256)))
        else:
            at = rng.randrange(len(changed))
            changed[at:at] = rng.randbytes(rng.choice((1, 2, 8)))
    return bytes(changed)


def _caffe(folder: Path) -> Iterator[tuple[str, bytes, str]]:
    blobs = (np.ones((8, 3, 3, 3), np.float32), np.zeros(8, np.float32))
    path = folder / "made.caffemodel"
    layers = [CaffeLayer("conv1", "Convolution", blobs, ("data",), ("conv1",))]
    write_caffemodel(path, layers, encoding="v2", name="net")
    whole = path.read_bytes()
    usual = {"side": 32, "outputs": 8, "kernel": 3, "stride": 1}
    for name, odd in (
        ("2^31 outputs", {"outputs": 2**31 - 1}),
        ("outputs below 0", {"outputs": -8}),
        ("kernel of 10^6", {"kernel": 10**6}),
        ("kernel of 0", {"kernel": 0}),
        ("stride of 0", {"stride": 0}),
        ("side of 10^6", {"side": 10**6}),
        ("side of 0", {"side": 0}),
        ("other numbers than weights", {"outputs": 9}),
    ):
        yield name, whole, PROTOTXT.format(**{**usual, **odd})
    layout = PROTOTXT.format(**usual)
    yield "no layout", whole, ""
    yield "a layout of braces", whole, "{" * 100_000
    yield "a layer that feeds itself", whole, layout.replace('bottom: "data"', 'bottom: "prob"')
    yield "unknown layer", whole, layout.replace("Softmax", "Boom")
    yield "an include", whole, layout + '\ninclude: "/etc/passwd"\n'
    for seed in range(22):
        yield f"weights damaged, {seed}", _damaged(whole, seed), layout
    for seed in range(8):
        yield f"layout damaged, {seed}", whole, _damaged(layout.encode(), seed).decode("latin-1")


def _darknet() -> Iterator[tuple[str, bytes, str]]:
    usual = {
        "width": 32,
        "height": 32,
        "filters": 18,
        "size": 1,
        "stride": 1,
        "more": "",
        "mask": "0,1,2",
        "classes": 1,
    }
    weights = struct.pack("<iiiq", 0, 2, 0, 0) + np.zeros(18 + 18 * 3, np.float32).tobytes()
    for name, odd in (
        ("10^9 filters", {"filters": 10**9}),
        ("filters below 0", {"filters": -18}),
        ("width of 10^6", {"width": 10**6, "height": 10**6}),
        ("width of 0", {"width": 0}),
        ("size of 0", {"size": 0}),
        ("size of 10^5", {"size": 10**5}),
        ("stride of 0", {"stride": 0}),
        ("mask out of range", {"mask": "99"}),
        ("no mask", {"mask": ""}),
        ("10^9 classes", {"classes": 10**9}),
        ("classes below 0", {"classes": -1}),
        ("route to nowhere", {"more": "[route]\nlayers=-99"}),
        ("route to itself", {"more": "[route]\nlayers=1"}),
        ("shortcut to nowhere", {"more": "[shortcut]\nfrom=-77\nactivation=linear"}),
        ("upsample of 10^6", {"more": "[upsample]\nstride=1000000"}),
        ("unknown section", {"more": "[boom]\nx=1"}),
    ):
        yield name, weights, CFG.format(**{**usual, **odd})
    layout = CFG.format(**usual)
    yield "no weights", b"", layout
    yield "weights of NaN", weights[:20] + b"\xff" * 288, layout
    yield "numbers left over", weights * 3, layout
    for seed in range(10):
        yield f"weights damaged, {seed}", _damaged(weights, seed), layout
    for seed in range(11):
        yield f"layout damaged, {seed}", weights, _damaged(layout.encode(), seed).decode("latin-1")


def _toml() -> Iterator[tuple[str, bytes]]:
    whole = SPEC.format(model="model.onnx", config="", runtime="onnxruntime")
    odd: dict[str, str] = {
        "nested": "a = " + "[" * 5000 + "]" * 5000,
        "a key of dots": ".".join(["a"] * 5000) + " = 1",
        "a number of 10^5 digits": whole.replace("[32, 32]", "[" + "9" * 100_000 + ", 32]"),
        "size of 2^63": whole.replace("[32, 32]", f"[{2**63}, {2**63}]"),
        "size of 10^5": whole.replace("[32, 32]", "[100000, 100000]"),
        "size of 0": whole.replace("[32, 32]", "[0, 0]"),
        "mean of NaN": whole.replace("[0, 0, 0]", "[nan, inf, -inf]"),
        "a path out": whole.replace("model.onnx", "../../../etc/passwd"),
        "an absolute path": whole.replace("model.onnx", "/dev/zero"),
        "a null in a path": whole.replace("model.onnx", "a\\u0000b.onnx"),
        "escapes in the name": whole.replace("strange", "\\u001b[2J"),
        "ranges that overlap": whole.replace('"0-2", "4-6"', '"0-9", "4-6"'),
        "ranges backwards": whole.replace('"0-2"', '"9-2"'),
        "a million ranges": whole.replace('["0-2"', "[" + '"1-2",' * 100_000 + '"0-2"'),
        "a dictionary for a text": whole.replace('name = "strange"', "name = {a = 1}"),
        "not UTF-8": "\udcff" + whole,
        "empty": "",
        "nothing but a BOM": "\ufeff",
        "the same table twice": whole + "\n[crop]\nsize = [1, 1]\n",
    }
    for name, text in odd.items():
        yield name, text.encode("utf-8", "surrogateescape")
    for seed in range(13):
        yield f"damaged, {seed}", _damaged(whole.encode(), seed)


def hostile_models(folder: Path) -> list[Hostile]:
    """Return all the models; `folder` is for temporary files."""
    found: list[Hostile] = []
    onnx = [*onnx_models(), *((f"damaged, {n}", _damaged(WHOLE, n)) for n in range(33))]
    for number, (name, data) in enumerate(onnx):
        runtime = "onnxruntime" if number % 2 else "cv2dnn"
        text = SPEC.format(model="model.onnx", config="", runtime=runtime)
        files = {"model.onnx": data, "spec.toml": text.encode(), "weights.bin": bytes(96)}
        reference = "spec:spec.toml" if number % 3 else f"onnx:model.onnx@{runtime}"
        found.append(Hostile(name, "onnx", reference, "yolov8-face:model.onnx", files))
    for name, data, layout in _caffe(folder):
        text = SPEC.format(model="m.caffemodel", config='config = "m.prototxt"', runtime="cv2dnn")
        files = {
            "m.caffemodel": data,
            "m.prototxt": layout.encode("utf-8", "surrogateescape"),
            "spec.toml": text.encode(),
        }
        reference = "spec:spec.toml" if len(found) % 2 else "caffe-age-net:m.caffemodel"
        found.append(Hostile(name, "caffe", reference, "", files))
    for name, data, layout in _darknet():
        text = SPEC.format(model="m.weights", config='config = "m.cfg"', runtime="cv2dnn")
        files = {
            "m.weights": data,
            "m.cfg": layout.encode("utf-8", "surrogateescape"),
            "spec.toml": text.encode(),
        }
        found.append(Hostile(name, "darknet", "spec:spec.toml", "yoloface-500k:m.weights", files))
    for name, data in _toml():
        files = {"model.onnx": WHOLE, "spec.toml": data}
        found.append(Hostile(name, "toml", "spec:spec.toml", "spec:spec.toml", files))
    return found
