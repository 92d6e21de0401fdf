"""Every registered estimator and detector keeps what its protocol promises."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agebench import load_detector, load_estimator
from agebench.estimators.spec_schema import read_spec
from agebench.estimators.zoo import zoo_file
from agebench.export.age_net_candidate import age_net_candidate
from agebench.export.random_age_net import random_age_net
from agebench.export.writing import export
from agebench.modelfiles.manifest import bundled_dir, files_for
from agebench.registry.plugins import DETECTORS, ESTIMATORS, list_plugins
from agebench.testing import check_detector, check_estimator
from agebench.types import Image

OWN_ESTIMATORS = [item.name for item in list_plugins(ESTIMATORS) if item.package == "agebench"]
NO_MODELS = ("answers",)
"""Estimators without a model behind them, which only a comparison can use."""

OWN_DETECTORS = [item.name for item in list_plugins(DETECTORS) if item.package == "agebench"]

SPEC = """
name = "generated"
[files]
model = "net.onnx"
[crop]
size = [6, 4]
[input]
channel_order = "rgb"
mean = [1, 2, 3]
scale = 0.02
[output]
kind = "logits"
[bins]
ranges = ["0-2", "10-20", "60-100"]
"""


@pytest.fixture(scope="session")
def spec_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec file beside a network that weighs the channels' means."""
    folder = tmp_path_factory.mktemp("spec")
    matrix = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0, 1]], np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w"], ["y"], transB=1),
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 4])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    weights = [numpy_helper.from_array(matrix, "w")]
    graph = helper.make_graph(nodes, "net", [image], [answer], weights)
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=8), str(folder / "net.onnx")
    )
    path = folder / "generated.toml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="session")
def random_caffemodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random file in the published layout, with few channels."""
    path = tmp_path_factory.mktemp("caffe") / "random.caffemodel"
    random_age_net(path, seed=0, micro=True)
    return path


@pytest.fixture
def exported_file(tmp_path: Path, random_caffemodel: Path, micro_age_net: None) -> Path:
    """The random age network as an ONNX file."""
    path = tmp_path / "age_net.onnx"
    source = load_estimator(f"caffe-age-net:{random_caffemodel}")
    export(age_net_candidate(source, random_caffemodel), path, check=False)
    return path


@pytest.fixture(scope="session")
def trained_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small network with random weights."""
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'agebench[train]'")
    from agebench.train.checkpoint import Checkpoint
    from agebench.train.networks import build_network
    from agebench.train.settings import settings_from

    small = {"depth": 10, "width": 4}
    views = {
        name: {"region": name, "size_hw": [32, 32], "backbone": small} for name in ("face", "mouth")
    }
    settings = settings_from({"model": {"views": views, "dense": 8}}, "test")
    torch.manual_seed(0)
    state = build_network(settings.model).state_dict()
    path = tmp_path_factory.mktemp("torch") / "best.safetensors"
    Checkpoint(settings, {}, {}, {}, state, {}).write(path)
    return path


DETECTOR_SPEC = """
name = "by-file"
[files]
model = "yolov8-lite-t.onnx"
[input]
channel_order = "rgb"
mean = [0, 0, 0]
scale = 0.00392156862745098
[output]
kind = "yolov8-lite"
[detect]
confidence = 0.4
pad = 0.5
"""


def _reference(name: str, request: pytest.FixtureRequest) -> str:
    """Return a reference that can be loaded here; skip where the published files are not."""
    if name == "caffe-age-net":
        request.getfixturevalue("micro_age_net")
    made_here = {
        "caffe-age-net": "random_caffemodel",
        "onnx": "exported_file",
        "spec": "spec_file",
        "torch": "trained_file",
    }
    if name in made_here:
        return f"{name}:{request.getfixturevalue(made_here[name])}"
    described = zoo_file(name)
    if described.is_file() and not read_spec(described).about.tried:
        pytest.skip(f"{name} was described without a file to try it on")
    _need_files(f"estimator:{name}", request)
    return name


def _need_files(plugin_key: str, request: pytest.FixtureRequest) -> None:
    """Skip, by name, where a file that does not come with the package is not here."""
    missing = [
        entry.file for entry in files_for(plugin_key) if not (bundled_dir() / entry.file).is_file()
    ]
    if not missing:
        return
    shared: Path = request.getfixturevalue("shared_weights")
    for file in missing:
        if not (shared / file).is_file():
            pytest.skip(f"needs {file}, which is not in ../shared/pretrained")


def test_all_are_found() -> None:
    ours = {f"multicrop-resnet{kind}" for kind in ("", "-small", "-open")}
    assert {"caffe-age-net-utkface", *ours} <= set(OWN_ESTIMATORS)
    assert {"caffe-age-net", "constant", "hse-mobilenet", "spec"} <= set(OWN_ESTIMATORS)
    assert {"aligned", "haar", "opencv-ssd", "yoloface-500k", "yolov8-face", "yunet"} <= set(
        OWN_DETECTORS
    )


@pytest.mark.parametrize("name", [name for name in OWN_ESTIMATORS if name not in NO_MODELS])
def test_estimator(name: str, request: pytest.FixtureRequest) -> None:
    estimator = load_estimator(_reference(name, request))
    own_names = {"spec": "generated", "onnx": "caffe-age-net"}
    assert estimator.spec.name == own_names.get(name, name)
    check_estimator(estimator)


def _detector(name: str, request: pytest.FixtureRequest) -> str:
    if name == "spec":
        published = request.getfixturevalue("shared_weights") / "yolov8-lite-t.onnx"
        folder = request.getfixturevalue("tmp_path")
        shutil.copy(published, folder)
        (folder / "detector.toml").write_text(DETECTOR_SPEC)
        return f"spec:{folder / 'detector.toml'}"
    _need_files(f"detector:{name}", request)
    return name


@pytest.mark.parametrize("name", OWN_DETECTORS)
def test_detector_on_a_face(
    name: str, request: pytest.FixtureRequest, astronaut_bgr: Image
) -> None:
    detector = load_detector(_detector(name, request))
    assert detector.spec.name == {"spec": "by-file"}.get(name, name)
    picture = np.ascontiguousarray(astronaut_bgr[:320, 60:380])
    check_detector(detector, picture)
    left, top, right, bottom = max(detector.detect(picture), key=lambda face: face.area).box_xyxy
    # The face's middle, about (165, 115) here, is in the largest box.
    assert left < 165 < right
    assert top < 115 < bottom
