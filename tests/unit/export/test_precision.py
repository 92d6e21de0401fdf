"""Half precision and 8-bit numbers: smaller files, near ages, and the price measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from agebench import load_estimator
from agebench.errors import ModelError, UsageError
from agebench.export.candidate import Candidate
from agebench.export.half import halve, store_in_half
from agebench.export.precision import (
    LARGE_WEIGHTS,
    kept_nodes,
    price_of,
    to_float16,
    to_half_weights,
    to_int8,
)
from agebench.export.writing import export
from agebench.runtimes.age_file import generated
from agebench.runtimes.onnx_reading import with_full_weights

pytestmark = pytest.mark.usefixtures("short_proof")


@pytest.fixture(scope="module")
def network() -> Candidate:
    torch = pytest.importorskip("torch")
    from agebench.export.multi_crop import multi_crop_candidate
    from agebench.train.losses import LOSSES
    from agebench.train.model_settings import BackboneSettings, ModelSettings, ViewSettings
    from agebench.train.networks import MultiCropResNet

    torch.manual_seed(0)
    backbone = BackboneSettings(depth=10, width=16)
    views = {
        "face": ViewSettings("face", (32, 32), backbone=backbone),
        "eyes": ViewSettings("eyes", (16, 32), backbone=backbone),
    }
    model = MultiCropResNet(ModelSettings(views=views, dense=32), LOSSES["dldl"].head)
    with torch.no_grad():
        model.head.weight.mul_(20)  # type: ignore[operator]  # a Linear
    return multi_crop_candidate(model, LOSSES["dldl"], "expectation")


def test_half_precision_halves_the_file_and_keeps_the_ages(
    network: Candidate, tmp_path: Path
) -> None:
    halved = to_float16(network)
    crops = generated(network.spec.crop, 8)
    written = export(halved, tmp_path / "h.onnx", crops=crops, described="eight")
    whole = export(network, tmp_path / "f.onnx", crops=crops, described="eight")
    assert written.size_bytes < 0.55 * whole.size_bytes
    assert written.report is not None
    assert written.report.tolerance.max_years > 0.01
    assert written.report.worst.max_years > 0
    assert load_estimator(f"onnx:{tmp_path / 'h.onnx'}").spec.settings["precision"] == "float16"


def test_half_weights_halve_the_file_for_every_runtime(network: Candidate, tmp_path: Path) -> None:
    before = network.model.SerializeToString(deterministic=True)
    stored = to_half_weights(network)
    assert network.model.SerializeToString(deterministic=True) == before
    crops = generated(network.spec.crop, 8)
    written = export(stored, tmp_path / "h.onnx", crops=crops, described="eight")
    whole = export(network, tmp_path / "f.onnx", crops=crops, described="eight")
    assert written.size_bytes < 0.6 * whole.size_bytes
    assert written.report is not None
    assert {row.runtime.runtime for row in written.report.rows} >= {"onnxruntime", "cv2dnn"}
    assert 0 < written.report.worst.max_years < 0.5
    estimator = load_estimator(f"onnx:{tmp_path / 'h.onnx'}@onnxruntime")
    assert estimator.spec.settings["precision"] == "float16-weights"
    expected = [answer.years for answer in estimator.predict(crops)]
    pytest.importorskip("torch")
    torch = load_estimator(f"onnx:{tmp_path / 'h.onnx'}@torch")
    assert [answer.years for answer in torch.predict(crops)] == pytest.approx(expected, abs=0.01)


def test_stored_halves_are_read_as_float32(network: Candidate) -> None:
    stored = to_half_weights(network).model
    full = {item.name: numpy_helper.to_array(item) for item in _weights(with_full_weights(stored))}
    before = {item.name: numpy_helper.to_array(item) for item in _weights(network.model)}
    assert full.keys() == before.keys()
    for name, values in before.items():
        large = values.dtype == np.float32 and values.size >= LARGE_WEIGHTS
        expected = values.astype(np.float16).astype(np.float32) if large else values
        np.testing.assert_array_equal(full[name], expected)
    assert with_full_weights(network.model) is network.model
    # What is not such a weight stays, even if it is not a valid node.
    stored.graph.node.append(helper.make_node("Cast", [], [], "empty", to=TensorProto.FLOAT))
    assert with_full_weights(stored).graph.node[-1].name == "empty"


def _weights(model: ModelProto) -> list[TensorProto]:
    return list(model.graph.initializer)


def test_pixels_and_decoding_stay_in_float32(network: Candidate) -> None:
    halved = to_float16(network).model
    kinds = {tensor.name: tensor.data_type for tensor in halved.graph.initializer}
    assert kinds["years"] == TensorProto.FLOAT
    assert kinds["centre"] == TensorProto.FLOAT
    assert sum(kind == TensorProto.FLOAT16 for kind in kinds.values()) > 20
    assert {item.type.tensor_type.elem_type for item in halved.graph.output} == {TensorProto.FLOAT}


def test_too_large_weights_are_refused(network: Candidate) -> None:
    model = type(network.model)()
    model.CopyFrom(network.model)
    weight = next(item for item in model.graph.initializer if item.name.endswith("_weights"))
    values = np.full(list(weight.dims), 1e6, np.float32)
    weight.raw_data = values.tobytes()
    with pytest.raises(ModelError, match="numbers above 65504"):
        halve(model, kept_nodes(model))


def test_8_bit_numbers_are_near_and_refused_where_they_are_computed_otherwise(
    network: Candidate, tmp_path: Path
) -> None:
    before = network.model.SerializeToString(deterministic=True)
    reduced = to_int8(network, generated(network.spec.crop, 32, seed=3))
    assert network.model.SerializeToString(deterministic=True) == before
    operators = {node.op_type for node in reduced.model.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    # The dense layers are computed in float32 and stored in half of that.
    kinds = {tensor.name: tensor.data_type for tensor in reduced.model.graph.initializer}
    assert kinds["joint_weights_half"] == TensorProto.FLOAT16
    assert "joint_weights" not in kinds
    out = tmp_path / "i.onnx"
    written = export(reduced, out, crops=generated(network.spec.crop, 8), described="eight")
    assert written.report is not None
    assert {row.runtime.runtime for row in written.report.rows} == {"onnxruntime"}
    assert any("8-bit" in reason for _, reason in written.report.skipped)
    with pytest.raises(UsageError, match="cv2dnn computes differently"):
        load_estimator(f"onnx:{out}@cv2dnn")


def test_only_large_tensors_that_fit_are_stored_in_half(network: Candidate) -> None:
    model = type(network.model)()
    model.CopyFrom(network.model)
    joint, head = (
        next(item for item in model.graph.initializer if item.name == f"{name}_weights")
        for name in ("joint", "head")
    )
    joint.raw_data = np.full(list(joint.dims), 1e6, np.float32).tobytes()
    store_in_half(model, int(np.prod(head.dims)))
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["joint_weights"] == TensorProto.FLOAT  # above 65504
    assert kinds["head_weights_half"] == TensorProto.FLOAT16
    assert kinds["joint_biases"] == TensorProto.FLOAT
    checker.check_model(model, full_check=True)


def test_calibration_needs_faces(network: Candidate) -> None:
    with pytest.raises(ModelError, match=r"16 faces.*got 15"):
        to_int8(network, generated(network.spec.crop, 15))


def test_the_price_is_measured_on_known_ages(network: Candidate) -> None:
    crops = generated(network.spec.crop, 6)
    ages = network.source(crops)
    price = price_of(network, to_float16(network), crops, ages)
    assert price.mae_before is not None
    assert price.mae_after is not None
    assert price.mae_before < 1e-3 < price.mae_after + price.moved_years
    assert set(price.milliseconds) == {1, 16}
    assert price.bytes_after < price.bytes_before
    assert price_of(network, network, crops, None).mae_before is None
