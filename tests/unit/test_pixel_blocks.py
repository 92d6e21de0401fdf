"""8-bit convolutions on blocks of 2 x 2 pixels, against the same on pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from agebench.estimators.multicrop_resnet import SMALL_FILE
from agebench.modelfiles.manifest import bundled_dir
from agebench.runtimes import pixel_graph
from agebench.runtimes.base import ModelSource
from agebench.runtimes.onnx_runtime import OnnxRuntimeModel
from agebench.runtimes.pixel_blocks import block_levels, blocks_of, give_blocks
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
        "weights": rng.integers(-64, 65, (OUTPUTS, 3, *kernel)).astype(np.int8),
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


def _outputs(model: onnx.ModelProto, *, taken: bool, count: int = 3) -> npt.NDArray[Any]:
    """Require that pixels give what the graph as it is gives, to the bit; return that.

    Args:
        model: of `_network`.
        taken: whether blocks must be used for it.
        count: of pictures.
    """
    sides = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[2:]]
    pixels = np.random.default_rng(8).integers(0, 256, (count, 3, *sides)).astype(np.uint8)
    source = ModelSource(
        "onnx", Path("m.onnx"), outputs=("y",), inputs=("x",), data=model.SerializeToString()
    )
    expected = OnnxRuntimeModel(source).run({"x": pixels.astype(np.float32)})["y"]
    with mock.patch.object(pixel_graph, "blocks_of", wraps=blocks_of) as used:
        found = PixelModel(replace(source, pixels=("x",))).run({"x": pixels})["y"]
    assert used.called == taken
    assert np.array_equal(found, expected)
    assert not count or expected.std() > 0
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
    for table in (np.tile(np.arange(256)[::-1], (3, 1)), np.arange(3 * 256).reshape(3, 256) % 251):
        looked_up = np.stack([table[channel][pixels[..., channel]] for channel in range(3)], -1)
        blocks = blocks_of(pixels, block_levels(table.astype(np.uint8)))
        assert blocks.shape == (2, 2, 3, 12)
        for n, y, x in np.ndindex(2, 2, 3):
            four = looked_up[n, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            assert blocks[n, y, x].tolist() == four.reshape(-1).tolist()
        assert blocks_of(pixels[:0], block_levels(table)).shape == (0, 2, 3, 12)


@pytest.mark.parametrize("kernel", [(3, 3), (4, 4), (5, 7), (7, 7), (8, 3)])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1), (3, 2, 1, 0), (3, 3, 3, 3)])
def test_numbers_are_equal_to_the_bit(kernel: tuple[int, int], pads: tuple[int, ...]) -> None:
    model = _network(kernel, pads)
    assert _takes_blocks(model)
    shape = [
        (side + pads[axis] + pads[axis + 2] - kernel[axis]) // 2 + 1
        for axis, side in enumerate(SIDES_HW)
    ]
    assert _outputs(model, taken=True).shape == (3, OUTPUTS, *shape)


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
    _outputs(model, taken=False)


def test_attributes_that_say_what_is_so_anyway() -> None:
    model = _network(group=1, dilations=[1, 1], auto_pad="NOTSET", kernel_shape=[3, 3])
    assert _takes_blocks(model)
    _outputs(model, taken=True)


def test_no_picture_and_no_bias() -> None:
    model = _network()
    conv = _node(model.graph, "conv")
    del conv.input[2:]
    model.graph.node.remove(_node(model.graph, "b"))
    _outputs(model, taken=True)
    assert _outputs(model, taken=True, count=0).shape == (0, OUTPUTS, 6, 5)


def _constant(graph: GraphProto, name: str, value: npt.ArrayLike, kind: npt.DTypeLike) -> None:
    tensor = next(item for item in graph.initializer if item.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, kind), name))


def _node(graph: GraphProto, output: str) -> NodeProto:
    return next(node for node in graph.node if node.output[0] == output)


def _use(graph: GraphProto, value: str) -> None:
    """Add the largest number of a value to the output."""
    graph.node.append(helper.make_node("ReduceMax", [value], ["most"], keepdims=0))
    _node(graph, "y").output[0] = "y_before"
    graph.node.append(helper.make_node("Add", ["y_before", "most"], ["y"]))


def _shift_weights(graph: GraphProto) -> None:
    _constant(graph, "zeros", [0, 0, 3, 0, 0], np.int8)


def _fill_8_bits(graph: GraphProto) -> None:  # sums of two products overflow without VNNI
    tensor = next(item for item in graph.initializer if item.name == "weights")
    _constant(graph, "weights", np.where(numpy_helper.to_array(tensor) > 63, 65, 0), np.int8)


def _scale_each_channel(graph: GraphProto) -> None:
    _node(graph, "w").attribute[0].i = 1
    _constant(graph, "scales", [0.001, 0.002, 0.003], np.float32)
    _constant(graph, "zeros", [0, 0, 0], np.int8)


def _scale_each_channel_of_pixels(graph: GraphProto) -> None:
    for name, value in (("each", np.float32(0.021)), ("zero_each", np.uint8(117))):
        graph.initializer.append(numpy_helper.from_array(np.tile(value, 3), name))
    real = _node(graph, "real")
    real.input[1:] = ["each", "zero_each"]
    real.attribute.append(helper.make_attribute("axis", 1))


def _store_weights_without_sign(graph: GraphProto) -> None:
    _constant(graph, "weights", np.arange(135).reshape(5, 3, 3, 3) % 64, np.uint8)
    _constant(graph, "zeros", np.zeros(5), np.uint8)


def _scale_all_alike(graph: GraphProto) -> None:
    _constant(graph, "scales", 0.002, np.float32)
    _constant(graph, "zeros", 0, np.int8)
    del _node(graph, "w").attribute[:]


def _use_weights_twice(graph: GraphProto) -> None:
    _use(graph, "w")


def _use_pixels_twice(graph: GraphProto) -> None:
    _use(graph, "real")


def _read_weights_twice(graph: GraphProto) -> None:
    words = ["weights", "scales", "zeros"]
    graph.node.insert(0, helper.make_node("DequantizeLinear", words, ["again"], axis=0))
    _use(graph, "again")


def _return(graph: GraphProto, name: str, kind: int) -> None:
    graph.output.append(helper.make_tensor_value_info(name, kind, [None] * 4))


def _return_weights(graph: GraphProto) -> None:
    _return(graph, "w", TensorProto.FLOAT)


def _return_stored_weights(graph: GraphProto) -> None:
    _return(graph, "weights", TensorProto.INT8)


def _let_weights_be_given(graph: GraphProto) -> None:
    shape = (OUTPUTS, 3, 3, 3)
    graph.input.append(helper.make_tensor_value_info("weights", TensorProto.INT8, shape))


def _let_scales_be_given(graph: GraphProto) -> None:
    graph.input.append(helper.make_tensor_value_info("scales", TensorProto.FLOAT, (OUTPUTS,)))


def _round_to_16_bits(graph: GraphProto) -> None:
    _constant(graph, "zero_out", 60, np.uint16)


def _round_no_output(graph: GraphProto) -> None:
    for output in ("y", "conv_rounded"):
        graph.node.remove(_node(graph, output))
    _node(graph, "conv").output[0] = "y"


def _hold_a_graph(graph: GraphProto) -> None:
    real = helper.make_tensor_value_info("most", TensorProto.FLOAT, None)
    inner = [helper.make_node("ReduceMax", ["real"], ["most"], keepdims=0)]
    branch = helper.make_graph(inner, "inner", [], [real])
    graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    choice = helper.make_node("If", ["yes"], ["chosen"])
    for name in ("then_branch", "else_branch"):
        choice.attribute.append(helper.make_attribute(name, branch))
    graph.node.append(choice)
    _use(graph, "chosen")


VALID = [
    _fill_8_bits,
    _shift_weights,
    _store_weights_without_sign,
    _scale_all_alike,
    _scale_each_channel_of_pixels,
    _use_weights_twice,
    _use_pixels_twice,
    _read_weights_twice,
    _return_weights,
    _return_stored_weights,
    _let_weights_be_given,
    _let_scales_be_given,
    _round_no_output,
    _hold_a_graph,
]


@pytest.mark.parametrize("change", VALID)
def test_graphs_of_another_form_stay(change: Callable[[GraphProto], None]) -> None:
    model = _network()
    change(model.graph)
    onnx.checker.check_model(model)
    assert not _takes_blocks(model)
    _outputs(model, taken=False)


def _flatten_weights(graph: GraphProto) -> None:
    _constant(graph, "weights", np.zeros((OUTPUTS, 3, 9)), np.int8)


def _empty_weights(graph: GraphProto) -> None:
    _constant(graph, "weights", np.zeros((0, 3, 3, 3)), np.int8)


def _count_backwards(graph: GraphProto) -> None:
    next(item for item in graph.initializer if item.name == "weights").dims[0] = -1


def _double_weights(graph: GraphProto) -> None:
    graph.initializer.append(numpy_helper.from_array(np.zeros((OUTPUTS, 3, 3, 3)), "weights"))


def _read_nothing(graph: GraphProto) -> None:
    del _node(graph, "w").input[:]


def _give_steps_as_fractions(graph: GraphProto) -> None:
    conv = _node(graph, "conv")
    conv.attribute.remove(next(item for item in conv.attribute if item.name == "strides"))
    conv.attribute.append(helper.make_attribute("strides", [2.0, 2.0]))


def _give_steps_twice(graph: GraphProto) -> None:
    _node(graph, "conv").attribute.append(helper.make_attribute("strides", [2, 2]))


def _lack_a_channel(graph: GraphProto) -> None:
    _constant(graph, "weights", np.ones((OUTPUTS, 2, 3, 3)), np.int8)


def _enlarge_kernels(graph: GraphProto) -> None:
    _constant(graph, "weights", np.ones((OUTPUTS, 3, 15, 3)), np.int8)


def _lack_weights(graph: GraphProto) -> None:
    del _node(graph, "conv").input[1:]


def _pad_two_sides(graph: GraphProto) -> None:
    for item in _node(graph, "conv").attribute:
        if item.name == "pads":
            del item.ints[2:]


def _pad_less(graph: GraphProto) -> None:
    for item in _node(graph, "conv").attribute:
        if item.name == "pads":
            item.ints[:] = [-1, 1, 1, 1]


DAMAGED = [
    _scale_each_channel,
    _round_to_16_bits,
    _flatten_weights,
    _empty_weights,
    _count_backwards,
    _double_weights,
    _read_nothing,
    _give_steps_as_fractions,
    _give_steps_twice,
    _lack_a_channel,
    _enlarge_kernels,
    _lack_weights,
    _pad_two_sides,
    _pad_less,
]


@pytest.mark.parametrize("change", DAMAGED)
def test_damaged_graphs_stay(change: Callable[[GraphProto], None]) -> None:
    model = _network()
    change(model.graph)
    assert not _takes_blocks(model)


@pytest.mark.parametrize("place", ["value", "constant"])
def test_names_that_are_taken(place: str) -> None:
    model = _network()
    if place == "constant":
        unused = numpy_helper.from_array(np.ones(1), "rounded_planes")
        model.graph.initializer.append(unused)
    for node in model.graph.node if place == "value" else ():
        for names in (node.input, node.output):
            names[:] = ["rounded_planes" if name == "conv" else name for name in names]
    assert _takes_blocks(model)
    _outputs(model, taken=True)


def test_mirror_images_are_no_blocks() -> None:
    model = _network()
    graph = model.graph
    places = numpy_helper.from_array(np.arange(SIDES_HW[1])[::-1].copy(), "backwards")
    graph.initializer.append(places)
    graph.node.insert(0, helper.make_node("Gather", ["x", "backwards"], ["turned"], axis=3))
    graph.node.insert(1, helper.make_node("Concat", ["x", "turned"], ["both"], axis=0))
    _node(graph, "centred").input[0] = "both"
    assert len(_outputs(model, taken=False)) == 6


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
