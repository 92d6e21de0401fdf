"""Models that were made to break what opens them: ONNX, Caffe, Darknet and TOML files."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from agebench.runtimes.caffe_model import CaffeLayer, write_caffemodel

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
    """A model of a stranger.

    Attributes:
        name: what is odd about it.
        kind: "onnx", "caffe", "darknet" or "toml".
        reference: what an estimator is called by, without the folder.
        detector: what a detector is called by; "" where it is none.
        files: by name.
    """

    name: str
    kind: str
    reference: str
    detector: str
    files: dict[str, bytes]


def _model(
    nodes: list[NodeProto],
    initializers: list[TensorProto] | None = None,
    opset: int = 17,
    side: int = 32,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("shares", TensorProto.FLOAT, [1, 8])],
        initializers or [],
    )
    model: ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    )
    return bytes(model.SerializeToString())


def _tensor(name: str, values: np.ndarray) -> TensorProto:
    return numpy_helper.from_array(values, name)


def _huge(name: str, dims: list[int], **fields: object) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
    for field, value in fields.items():
        setattr(tensor, field, value)
    return tensor


def _outside(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 8])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


HEAD = [
    helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["flat"]),
    helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    helper.make_node("Softmax", ["logits"], ["shares"], axis=1),
]
WEIGHTS = _tensor("w", np.linspace(-0.1, 0.1, 24, dtype=np.float32).reshape(3, 8))
WHOLE = _model(HEAD, [WEIGHTS])


def _loop(times: int) -> bytes:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["x", "x"], ["y"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3]),
        ],
    )
    loop = helper.make_node("Loop", ["times", "yes", "flat"], ["looped"], body=body)
    nodes = [*HEAD[:2], loop, helper.make_node("MatMul", ["looped", "w"], ["logits"]), HEAD[3]]
    tensors = [WEIGHTS, _tensor("times", np.array(times)), _tensor("yes", np.array(True))]
    return _model(nodes, tensors)


def _chain(length: int) -> bytes:
    names = ["flat", *(f"x{n}" for n in range(length))]
    chain = [helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)]
    last = helper.make_node("MatMul", [names[-1], "w"], ["logits"])
    return _model([*HEAD[:2], *chain, last, HEAD[3]], [WEIGHTS])


def _bomb(depth: int) -> bytes:
    model = ModelProto.FromString(WHOLE)
    for level in range(depth):
        inner = "Relu" if level == 0 else f"f{level - 1}"
        domain = "" if level == 0 else "bomb"
        nodes = [
            helper.make_node(inner, ["a"], ["b"], domain=domain),
            helper.make_node(inner, ["b"], ["c"], domain=domain),
        ]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("bomb", 1)]
        model.functions.append(
            helper.make_function("bomb", f"f{level}", ["a"], ["c"], nodes, opsets)
        )
    model.opset_import.append(helper.make_opsetid("bomb", 1))
    model.graph.node[2].input[0] = "blown"
    model.graph.node.insert(
        2, helper.make_node(f"f{depth - 1}", ["flat"], ["blown"], domain="bomb")
    )
    return bytes(model.SerializeToString())


def _nested(depth: int) -> bytes:
    node = helper.make_node("Identity", ["flat"], ["z"])
    for _ in range(depth):
        out = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3])
        branch = helper.make_graph([node], "b", [], [out])
        node = helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch)
    last = helper.make_node("MatMul", ["z", "w"], ["logits"])
    return _model([*HEAD[:2], node, last, HEAD[3]], [WEIGHTS, _tensor("yes", np.array(True))])


def _blown(op: str, shape: list[int]) -> bytes:
    """Make a large tensor inside and take its mean."""
    sizes = _tensor("sizes", np.array(shape, np.int64))
    makers = {
        "ConstantOfShape": helper.make_node("ConstantOfShape", ["sizes"], ["large"]),
        "Expand": helper.make_node("Expand", ["flat", "sizes"], ["large"]),
        "Tile": helper.make_node("Tile", ["flat", "sizes"], ["large"]),
        "Reshape": helper.make_node("Reshape", ["flat", "sizes"], ["large"]),
        "Pad": helper.make_node("Pad", ["flat", "sizes"], ["large"]),
    }
    mean = helper.make_node("ReduceMean", ["large"], ["mean"], keepdims=0)
    add = helper.make_node("Add", ["flat", "mean"], ["moved"])
    last = helper.make_node("MatMul", ["moved", "w"], ["logits"])
    return _model([*HEAD[:2], makers[op], mean, add, last, HEAD[3]], [WEIGHTS, sizes])


def _conv(kernel: int, group: int = 1, **attributes: list[int]) -> bytes:
    weight = _tensor("k", np.zeros((3, 3, kernel, kernel), np.float32))
    conv = helper.make_node("Conv", ["pixels", "k"], ["seen"], group=group)
    conv.attribute.extend(helper.make_attribute(*pair) for pair in attributes.items())
    pool = helper.make_node("GlobalAveragePool", ["seen"], ["pooled"])
    return _model([conv, pool, *HEAD[1:]], [WEIGHTS, weight])


def _filled(value: float) -> bytes:
    return _model(HEAD, [_tensor("w", np.full((3, 8), value, np.float32))])


def _renamed(name: str) -> bytes:
    model = ModelProto.FromString(WHOLE)
    model.graph.output[0].name = model.graph.node[3].output[0] = name
    model.graph.node[0].name = name
    return bytes(model.SerializeToString())


def _onnx() -> Iterator[tuple[str, bytes]]:
    yield from (
        ("endless loop", _loop(2**62)),
        ("loop of 0", _loop(0)),
        ("chain of 60,000 nodes", _chain(60_000)),
        ("functions that double 30 times", _bomb(30)),
        ("If within If, 7 deep", _nested(7)),
        ("If within If, 14 deep", _nested(14)),
        ("weights of 2^62 numbers", _model(HEAD, [_huge("w", [2**31, 2**31])])),
        ("weights of 2^40 numbers in no bytes", _model(HEAD, [_huge("w", [2**40])])),
        ("weights of negative size", _model(HEAD, [_huge("w", [-3, 8])])),
        ("weights cut off", _model(HEAD, [_huge("w", [3, 8], raw_data=b"\0" * 5)])),
        ("weights of an unknown type", _model(HEAD, [_huge("w", [3, 8], data_type=99)])),
        ("no weights", _model(HEAD)),
        ("no nodes", _model([])),
        ("a cycle", _model([helper.make_node("Relu", ["shares"], ["shares"])])),
        ("one name twice", _model([*HEAD, HEAD[3]], [WEIGHTS])),
        ("unknown operator", _model([helper.make_node("Boom", ["pixels"], ["shares"])])),
        ("opset 9999", _model(HEAD, [WEIGHTS], opset=9999)),
        ("opset 0", _model(HEAD, [WEIGHTS], opset=0)),
        ("side of 10^6", _model(HEAD, [WEIGHTS], side=10**6)),
        ("side of 0", _model(HEAD, [WEIGHTS], side=0)),
        ("side below 0", _model(HEAD, [WEIGHTS], side=-7)),
        ("NaN", _filled(float("nan"))),
        ("infinity", _filled(float("inf"))),
        ("1e38", _filled(1e38)),
        ("escapes in names", _renamed("\x1b[2J\x1b]0;owned\x07\r\n")),
        ("a name of 1 MB", _renamed("x" * 1_000_000)),
        ("kernel larger than the picture", _conv(64)),
        ("group of 0", _conv(3, group=0)),
        ("strides of 0", _conv(3, strides=[0, 0])),
        ("dilations of 2^31", _conv(3, dilations=[2**31, 2**31])),
        ("pads below 0", _conv(3, pads=[-100, -100, -100, -100])),
        ("pads of 2^20", _conv(3, pads=[2**20] * 4)),
        ("no bytes", b""),
        ("a page", b"<!DOCTYPE html><html><body>404</body></html>"),
        ("zeros", bytes(4096)),
        ("ones", b"\xff" * 4096),
        ("a length of 2^63", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + WHOLE),
    )
    for op in ("ConstantOfShape", "Expand", "Tile", "Reshape", "Pad"):
        yield f"{op} of 16 GB", _blown(op, [4, 2**30] if op != "Pad" else [0, 0, 0, 2**32])
        yield f"{op} below 0", _blown(op, [-5, -7] if op != "Pad" else [0, -9, 0, -9])
    for place in (
        "/etc/passwd",
        "../../../../etc/passwd",
        "/dev/zero",
        "weights.bin",
        "/proc/kmsg",
    ):
        yield f"numbers in {place}", _model(HEAD, [_outside(place)])


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
    """Return all of them; `folder` is for files while they are made."""
    found: list[Hostile] = []
    onnx = [*_onnx(), *((f"damaged, {n}", _damaged(WHOLE, n)) for n in range(33))]
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
