"""8-bit convolutions on blocks of 2 x 2 pixels, against the same on pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from agebench.estimators.multicrop_resnet import SMALL_FILE
from agebench.modelfiles.manifest import bundled_dir
from agebench.runtimes.base import ModelSource
from agebench.runtimes.onnx_runtime import OnnxRuntimeModel
from agebench.runtimes.pixel_blocks import blocks_of, give_blocks
from agebench.runtimes.pixel_graph import PixelModel, split_pixels

SIDES_HW = (12, 10)
OUTPUTS = 5


def _network(
    kernel: tuple[int, int] = (3, 3),
    pads: Sequence[int] | None = (1, 1, 1, 1),
    sides_hw: tuple[int, int] = SIDES_HW,
    **attributes: Any,
) -> onnx.ModelProto:
    """Return a normalised picture rounded to 8 bits, a convolution of it in 8 bits, rounded.

    Args:
        kernel: its height and width.
        pads: before rows, before columns, behind rows, behind columns.
        sides_hw: of the picture.
        attributes: other attributes of the convolution; None for none.
    """
    rng = np.random.default_rng(7)
    scales = rng.uniform(0.001, 0.003, OUTPUTS).astype(np.float32)
    values: dict[str, npt.ArrayLike] = {
        "centre": np.array([120, 110, 100], np.float32).reshape(1, 3, 1, 1),
        "scale": np.float32(0.02),
        "scale_in": np.float32(0.021),
        "zero_in": np.uint8(117),
        "weights": rng.integers(-127, 128, (OUTPUTS, 3, *kernel)).astype(np.int8),
        "scales": scales,
        "zeros": np.zeros(OUTPUTS, np.int8),
        "biases": rng.integers(-3000, 3000, OUTPUTS).astype(np.int32),
        "bias_zeros": np.zeros(OUTPUTS, np.int32),
        "bias_scales": scales * np.float32(0.021),
        "scale_out": np.float32(0.03),
        "zero_out": np.uint8(60),
    }
    options = {"strides": [2, 2], "pads": pads, **attributes}
    options = {name: value for name, value in options.items() if value is not None}
    nodes = [
        helper.make_node("Sub", ["x", "centre"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"]),
        helper.make_node("QuantizeLinear", ["scaled", "scale_in", "zero_in"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "scale_in", "zero_in"], ["real"]),
        helper.make_node("DequantizeLinear", ["weights", "scales", "zeros"], ["w"], axis=0),
        helper.make_node(
            "DequantizeLinear", ["biases", "bias_scales", "bias_zeros"], ["b"], axis=0
        ),
        helper.make_node("Conv", ["real", "w", "b"], ["conv"], **options),
        helper.make_node("QuantizeLinear", ["conv", "scale_out", "zero_out"], ["conv_rounded"]),
        helper.make_node("DequantizeLinear", ["conv_rounded", "scale_out", "zero_out"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 3, *sides_hw))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _outputs(model: onnx.ModelProto, count: int = 3) -> npt.NDArray[Any]:
    """Require that pixels give what the graph as it is gives, to the bit; return that."""
    sides = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[2:]]
    pixels = np.random.default_rng(8).integers(0, 256, (count, 3, *sides)).astype(np.uint8)
    source = ModelSource(
        "onnx", Path("m.onnx"), outputs=("y",), inputs=("x",), data=model.SerializeToString()
    )
    expected = OnnxRuntimeModel(source).run({"x": pixels.astype(np.float32)})["y"]
    given = ModelSource(
        "onnx",
        Path("m.onnx"),
        outputs=("y",),
        inputs=("x",),
        data=model.SerializeToString(),
        pixels=("x",),
    )
    assert np.array_equal(PixelModel(given).run({"x": pixels})["y"], expected)
    assert expected.std() > 0
    return expected


def _takes_blocks(model: onnx.ModelProto) -> bool:
    """Return whether the split graph takes blocks; it does not change otherwise."""
    split = onnx.ModelProto.FromString(model.SerializeToString())
    names = [item.name for item in split_pixels(split, ("x",), Path("m.onnx"))]
    before = split.SerializeToString(deterministic=True)
    taken = give_blocks(split.graph, names)
    assert taken <= set(names)
    if taken:
        onnx.checker.check_model(split, full_check=True)
    else:
        assert split.SerializeToString(deterministic=True) == before
    return bool(taken)


def test_blocks_are_four_pixels_in_the_order_of_reading() -> None:
    pixels = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    blocks = blocks_of(pixels)
    assert blocks.shape == (2, 2, 3, 12)
    for n, y, x in np.ndindex(2, 2, 3):
        four = pixels[n, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        assert blocks[n, y, x].tolist() == four.reshape(-1).tolist()


@pytest.mark.parametrize("kernel", [(3, 3), (4, 4), (5, 7), (7, 7), (8, 3)])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1), (3, 2, 1, 0), (3, 3, 3, 3)])
def test_numbers_are_equal_to_the_bit(kernel: tuple[int, int], pads: tuple[int, ...]) -> None:
    model = _network(kernel, pads)
    assert _takes_blocks(model)
    shape = [
        (side + pads[axis] + pads[axis + 2] - kernel[axis]) // 2 + 1
        for axis, side in enumerate(SIDES_HW)
    ]
    assert _outputs(model).shape == (3, OUTPUTS, *shape)


@pytest.mark.parametrize(
    "model",
    [
        _network((2, 2), (0, 0, 0, 0)),
        _network((1, 3), (0, 1, 0, 1)),
        _network(sides_hw=(11, 10)),
        _network(sides_hw=(12, 9)),
        _network(strides=None),
        _network(strides=[1, 2]),
        _network(strides=[3, 3]),
        _network(dilations=[2, 1]),
        _network(pads=None, auto_pad="SAME_UPPER"),
    ],
    ids=[
        "2x2",
        "1x3",
        "odd rows",
        "odd columns",
        "no steps",
        "steps of 1",
        "of 3",
        "dilated",
        "auto",
    ],
)
def test_other_convolutions_stay(model: onnx.ModelProto) -> None:
    assert not _takes_blocks(model)
    _outputs(model)


def _constant(graph: GraphProto, name: str, value: npt.ArrayLike, kind: npt.DTypeLike) -> None:
    tensor = next(item for item in graph.initializer if item.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, kind), name))


def _node(graph: GraphProto, output: str) -> NodeProto:
    return next(node for node in graph.node if node.output[0] == output)


def _shift_weights(graph: GraphProto) -> None:
    _constant(graph, "zeros", [0, 0, 3, 0, 0], np.int8)


def _scale_each_channel(graph: GraphProto) -> None:
    _node(graph, "w").attribute[0].i = 1
    _constant(graph, "scales", [0.001, 0.002, 0.003], np.float32)
    _constant(graph, "zeros", [0, 0, 0], np.int8)


def _use_pixels_twice(graph: GraphProto) -> None:
    graph.node.append(helper.make_node("ReduceMax", ["real"], ["most"], keepdims=1))
    graph.node.append(helper.make_node("Add", ["y", "most"], ["more"]))
    _node(graph, "y").output[0] = "y_before"
    graph.node[-1].input[0], graph.node[-1].output[0] = "y_before", "y"


def _use_weights_twice(graph: GraphProto) -> None:
    graph.node.append(helper.make_node("ReduceMax", ["w"], ["most"], keepdims=0))
    _node(graph, "y").output[0] = "y_before"
    graph.node.append(helper.make_node("Add", ["y_before", "most"], ["y"]))


def _read_weights_twice(graph: GraphProto) -> None:
    words = ["weights", "scales", "zeros"]
    graph.node.insert(0, helper.make_node("DequantizeLinear", words, ["again"], axis=0))
    _use_weights_twice(graph)
    graph.node[-2].input[0] = "again"


def _flatten_weights(graph: GraphProto) -> None:  # a damaged file
    _constant(graph, "weights", np.zeros((OUTPUTS, 3, 9)), np.int8)


def _round_no_output(graph: GraphProto) -> None:
    for output in ("y", "conv_rounded"):
        graph.node.remove(_node(graph, output))
    _node(graph, "conv").output[0] = "y"


@pytest.mark.parametrize(
    "change",
    [
        _shift_weights,
        _scale_each_channel,
        _use_pixels_twice,
        _use_weights_twice,
        _read_weights_twice,
        _flatten_weights,
        _round_no_output,
    ],
)
def test_graphs_of_another_form_stay(change: Callable[[GraphProto], None]) -> None:
    model = _network()
    change(model.graph)
    assert not _takes_blocks(model)


def test_one_scale_for_all_weights() -> None:
    model = _network()
    _constant(model.graph, "scales", 0.002, np.float32)
    _constant(model.graph, "zeros", 0, np.int8)
    del _node(model.graph, "w").attribute[:]
    assert _takes_blocks(model)
    _outputs(model)


def test_names_that_are_taken() -> None:
    model = _network()
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["rounded_planes" if name == "conv" else name for name in names]
    assert _takes_blocks(model)
    _outputs(model)


def test_the_small_network_takes_blocks() -> None:
    model = onnx.load(str(bundled_dir() / SMALL_FILE))
    inputs = split_pixels(model, ("face", "eyes", "mouth"), Path(SMALL_FILE))
    names = {item.name for item in inputs}
    assert len(names) == 3
    assert give_blocks(model.graph, names) == names
    shapes = {
        item.name: [size.dim_value for size in item.type.tensor_type.shape.dim[1:]]
        for item in model.graph.input
    }
    assert sorted(shapes[name] for name in names) == [[32, 48, 12], [32, 64, 12], [64, 64, 12]]
    onnx.checker.check_model(model, full_check=True)
