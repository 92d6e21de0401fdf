"""Parameters and operations against what is counted by hand from the layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agebench.errors import ModelError
from agebench.export.random_age_net import random_age_net
from agebench.runtimes.age_net_layout import deploy_prototxt
from agebench.runtimes.base import ModelSource
from agebench.runtimes.model_cost import model_cost


def _save(
    path: Path, nodes: Sequence[Any], weights: dict[str, tuple[int, ...]], shape: Sequence[Any]
) -> ModelSource:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.ones(size, np.float32), name)
            for name, size in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return ModelSource("onnx", path)


def _tiny(path: Path) -> ModelSource:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], strides=[2, 2], kernel_shape=[3, 3]),
        helper.make_node("Conv", ["c", "d"], ["e"], group=4, pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["y"], transB=1),
    ]
    weights = {"w": (4, 3, 3, 3), "b": (4,), "d": (4, 1, 3, 3), "g": (5, 36)}
    return _save(path, nodes, weights, ["n", 3, 7, 7])


# Conv: 4 x 3 x 3 outputs of 27 products; depthwise: 4 x 3 x 3 of 9; Gemm: 5 of 36.
TINY_MACS = 36 * 27 + 36 * 9 + 5 * 36
TINY_PARAMETERS = 4 * 27 + 4 + 4 * 9 + 5 * 36


def test_a_tiny_onnx_by_hand(tmp_path: Path) -> None:
    source = _tiny(tmp_path / "tiny.onnx")
    one = model_cost(source, {"": (1, 3, 7, 7)})
    assert (one.parameters, one.macs) == (TINY_PARAMETERS, TINY_MACS)
    assert one.weight_bytes == 4 * TINY_PARAMETERS
    assert model_cost(source, {"x": (6, 3, 7, 7)}).macs == 6 * TINY_MACS


def test_matrix_products_by_hand(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    source = _save(tmp_path / "m.onnx", nodes, {"w": (8, 3)}, [2, 5, 8])
    assert model_cost(source, {"": (2, 5, 8)}).macs == 2 * 5 * 3 * 8


def test_transposed_convolution_by_hand(tmp_path: Path) -> None:
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])]
    source = _save(tmp_path / "t.onnx", nodes, {"w": (3, 4, 2, 2)}, [1, 3, 5, 5])
    assert model_cost(source, {"": (1, 3, 5, 5)}).macs == 3 * 5 * 5 * 4 * 2 * 2


def test_what_is_not_counted_is_unknown_and_says_why(tmp_path: Path) -> None:
    nodes = [helper.make_node("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik")]
    source = _save(tmp_path / "e.onnx", nodes, {"w": (8, 3)}, [2, 8])
    found = model_cost(source, {"": (2, 8)})
    assert (found.parameters, found.macs) == (24, None)
    assert found.method == "unknown: the operator Einsum is not supported"


def test_a_shape_that_does_not_fit_is_unknown(tmp_path: Path) -> None:
    found = model_cost(_tiny(tmp_path / "tiny.onnx"), {"z": (1, 3, 7, 7)})
    assert found.macs is None
    assert "the shape of the input 'x' is unknown" in found.method


def test_age_net_as_its_layout_has_it(tmp_path: Path) -> None:
    path = tmp_path / "age_net.caffemodel"
    random_age_net(path, seed=0)
    source = ModelSource("caffe", path, config=deploy_prototxt())
    found = model_cost(source, {"": (1, 3, 227, 227)})
    weights = [
        96 * 3 * 49 + 96,
        256 * 96 * 25 + 256,
        384 * 256 * 9 + 384,
        512 * 384 * 49 + 512,
        512 * 512 + 512,
        8 * 512 + 8,
    ]
    assert found.parameters == sum(weights) == 11_415_048
    products = [
        96 * 56 * 56 * 3 * 49,
        256 * 28 * 28 * 96 * 25,
        384 * 14 * 14 * 256 * 9,
        512 * 384 * 49,
        512 * 512,
        8 * 512,
    ]
    assert found.macs == sum(products)
    ten = model_cost(source, {"": (10, 3, 227, 227)})
    assert ten.macs == 10 * sum(products)


@pytest.mark.shared
def test_a_mobilenet_has_depthwise_convolutions(shared_dir: Path) -> None:
    path = shared_dir / "pretrained" / "age_gender_tf2_new-01-0.14-0.92_quantized.pb"
    found = model_cost(ModelSource("tensorflow", path), {"": (1, 3, 224, 224)})
    # MobileNet 1.0 at 224: 569 million MACs with its 1000-class layer (Howard et al., 2017).
    assert found.macs == pytest.approx(568e6, rel=0.01)


def test_no_file_and_no_model(tmp_path: Path) -> None:
    path = tmp_path / "no.onnx"
    with pytest.raises(ModelError):
        model_cost(ModelSource("onnx", path), {"": (1,)})
    path.write_bytes(b"<html>")
    with pytest.raises(ModelError):
        model_cost(ModelSource("onnx", path), {"": (1,)})
    with pytest.raises(ModelError, match="can't be read"):
        model_cost(ModelSource("tensorflow", tmp_path / "no.pb"), {"": (1,)})
