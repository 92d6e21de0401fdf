"""The bytes that are parsed are those that were checked, whatever happens to the file meanwhile."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agebench import load_estimator
from agebench.conversion.converted import converted_age_net, converted_darknet
from agebench.detectors import yoloface_500k, yolov8_face
from agebench.errors import WeightsError
from agebench.estimators import caffe_age_net_utkface, multicrop_resnet
from agebench.export.random_age_net import random_age_net
from agebench.modelfiles.weights import ResolvedWeights, resolve
from agebench.runtimes import age_file
from agebench.runtimes.base import Model, ModelSource
from agebench.runtimes.opening import open_model
from agebench.types import WeightsFile


@pytest.fixture
def doubling(tmp_path: Path) -> ModelSource:
    """A file that adds its input to itself."""
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "double.onnx"))
    return ModelSource("onnx", tmp_path / "double.onnx")


def test_a_file_that_was_changed_after_its_check_is_refused(doubling: ModelSource) -> None:
    sha256 = hashlib.sha256(doubling.path.read_bytes()).hexdigest()
    checked = replace(doubling, sha256=sha256)
    assert open_model(checked, runtime="onnxruntime").info.runtime == "onnxruntime"
    doubling.path.write_bytes(doubling.path.read_bytes() + b"\x32\x00")  # an empty text: still ONNX
    open_model(doubling, runtime="onnxruntime")
    for runtime in ("onnxruntime", "cv2dnn"):
        with pytest.raises(WeightsError, match="was changed while it was being loaded"):
            open_model(checked, runtime=runtime)


def test_an_exported_file_is_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is swapped in between the check and the runtime is not run."""
    path = tmp_path / "small.onnx"
    path.write_bytes(resolve(multicrop_resnet.SMALL_FILE).path.read_bytes())
    expected = age_file.AgeFile(path)
    crops = age_file.generated(expected.spec.crop, 2)

    def swapped(source: ModelSource, **how: Any) -> Model:
        path.write_bytes(b"another file")
        return open_model(source, **how)

    monkeypatch.setattr(age_file, "open_model", swapped)
    found = age_file.AgeFile(path)
    assert found.sha256 == expected.sha256
    np.testing.assert_array_equal(found.answer(crops)[0], expected.answer(crops)[0])


@pytest.mark.parametrize("module", [multicrop_resnet, caffe_age_net_utkface])
def test_a_bundled_model_is_the_one_that_was_hashed(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*args: Any, **options: Any) -> ResolvedWeights:
        found = resolve(*args, **options)
        return replace(found, info=replace(found.info, sha256="0" * 64))

    monkeypatch.setattr(module, "resolve", other)
    name = module.__name__.rpartition(".")[2].replace("_", "-")
    with pytest.raises(WeightsError, match="was changed while it was being loaded"):
        load_estimator(name)


def test_detectors_hand_on_the_hash(doubling: ModelSource, monkeypatch: pytest.MonkeyPatch) -> None:
    info = WeightsFile("x", "1" * 64, "MIT", "here")
    there = ResolvedWeights(doubling.path, info, "given")
    monkeypatch.setattr("agebench.modelfiles.weights.resolve", lambda *_, **__: there)
    monkeypatch.setattr(yolov8_face, "_input_size", lambda *_: (640, 640))
    with pytest.raises(WeightsError, match="was changed while it was being loaded"):
        yolov8_face.YoloV8Face()
    monkeypatch.setattr(yoloface_500k, "darknet_files", lambda *_: (there, there, ""))
    with pytest.raises(WeightsError, match="was changed while it was being loaded"):
        yoloface_500k.YoloFace500k()


def test_what_is_converted_is_what_was_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else another network would lie in the cache under the hash of the one that was checked."""
    monkeypatch.setenv("AGEBENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "random.caffemodel"
    random_age_net(path, seed=0, micro=True)
    (tmp_path / "random.weights").write_bytes(bytes(100))
    with pytest.raises(WeightsError, match="was changed while it was being loaded"):
        converted_age_net(path, "0" * 64)
    with pytest.raises(WeightsError, match="was changed while it was being loaded"):
        converted_darknet("[net]", tmp_path / "random.weights", "0" * 64, (32, 32))
    assert not list((tmp_path / "cache").rglob("*.onnx"))
    assert converted_age_net(path, hashlib.sha256(path.read_bytes()).hexdigest()).is_file()
