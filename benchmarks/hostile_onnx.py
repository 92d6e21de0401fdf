"""ONNX models made to break the code that opens them, for `hostile_files.py`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper


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
"""A valid model."""


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
    """Return a model that creates a large tensor and takes its mean."""
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


def onnx_models() -> Iterator[tuple[str, bytes]]:
    """Yield what is wrong with each model, and its bytes."""
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
