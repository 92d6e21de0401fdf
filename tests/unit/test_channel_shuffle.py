"""Channel shuffles that cv2.dnn computes by another operation: the same numbers, or left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agebench.detectors.yolov8_face import YoloV8Face
from agebench.runtimes import ModelSource, open_model
from agebench.runtimes.base import Tensor
from agebench.runtimes.channel_shuffle import with_gathered_channels
from agebench.runtimes.cv2dnn import OpenCvModel
from agebench.types import Face
from tests.unit.scripts import load_script

SHAPE = (1, 6, 4, 5)


def _output(name: str, axes: int) -> onnx.ValueInfoProto:
    """An output of unknown sizes."""
    sizes = [f"{name}_{axis}" for axis in range(axes)]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)


def _model(
    split: tuple[int, ...] = (1, 2, 3, 4, 5),
    perm: tuple[int, ...] = (0, 2, 1, 3, 4),
    back: tuple[int, ...] = (1, -1, 4, 5),
    shape: tuple[Any, ...] = SHAPE,
    outputs: tuple[str, ...] = ("y",),
) -> onnx.ModelProto:
    """x + 0, reshaped, swapped and reshaped back, times 2."""
    numbers: dict[str, Tensor] = {
        "zero": np.zeros((1, 1, 1, 1), np.float32), "two": np.full((1, 1, 1, 1), 2, np.float32),
        "split": np.array(split, np.int64), "back": np.array(back, np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Add", ["x", "zero"], ["a"], name="first"),
        helper.make_node("Reshape", ["a", "split"], ["b"], name="parted"),
        helper.make_node("Transpose", ["b"], ["c"], name="swapped", perm=perm),
        helper.make_node("Reshape", ["c", "back"], ["d"], name="joined"),
        helper.make_node("Mul", ["d", "two"], ["y"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "shuffle",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [_output(name, 5 if name == "c" else 4) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return model


def _operators(content: bytes) -> list[str]:
    return [node.op_type for node in onnx.ModelProto.FromString(content).graph.node]


def _under_opencv(content: bytes, blob: Tensor) -> Tensor:
    net = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
    net.setInput(blob)
    return np.array(net.forward())


@pytest.mark.parametrize(
    ("split", "perm"),
    [
        ((1, 2, 3, 4, 5), (0, 2, 1, 3, 4)),
        ((1, 3, 2, 4, 5), (0, 2, 1, 3, 4)),
        ((1, 2, 3, 20), (0, 2, 1, 3)),  # rows and columns as one axis
    ],
)
def test_a_shuffle_is_a_new_order_of_channels(
    split: tuple[int, ...], perm: tuple[int, ...]
) -> None:
    content = _model(split, perm).SerializeToString()
    found = with_gathered_channels(content)
    assert _operators(found) == ["Add", "Gather", "Mul"]
    blob = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    by_hand = blob.reshape(split).swapaxes(1, 2).reshape(SHAPE) * 2
    np.testing.assert_array_equal(_under_opencv(found, blob), by_hand)
    np.testing.assert_array_equal(_under_opencv(content, blob), by_hand)
    assert with_gathered_channels(found) is found


def _read_between(name: str) -> bytes:
    """A model of which another node uses what is between."""
    model = _model()
    model.graph.node.append(helper.make_node("Identity", [name], ["also"], name="more"))
    model.graph.output.append(_output("also", 5))
    return model.SerializeToString()


@pytest.mark.parametrize(
    "content",
    [
        _model(perm=(0, 1, 2, 4, 3), back=(1, -1, 5, 4)).SerializeToString(),  # a picture turned
        _model(split=(1, 5, 4, 6, 1), back=SHAPE).SerializeToString(),  # groups of rows
        _model(back=(1, 4, 6, 5)).SerializeToString(),  # not back to where it was
        _model(split=(0, 2, 3, 4, 5), back=(0, -1, 4, 5), shape=("n", 6, 4, 5)).SerializeToString(),
        _model(outputs=("y", "c")).SerializeToString(),
        *(pytest.param(_read_between(name), id=f"{name} is used") for name in "bc"),
    ],
)
def test_everything_else_is_left_alone(content: bytes) -> None:
    assert with_gathered_channels(content) is content


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The ONNX files that OpenCV parses from now on."""
    seen: list[bytes] = []
    read = cv2.dnn.readNetFromONNX

    def parse(data: Any) -> Any:
        seen.append(data.tobytes())
        return read(data)

    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", parse)
    return seen


def test_other_files_are_parsed_as_they_are(tmp_path: Path, parsed: list[bytes]) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(_model().SerializeToString())
    source = ModelSource("onnx", path)
    for each in (source, replace(source, gathers_channels=True)):
        OpenCvModel(each)
    as_it_is, gathered = parsed
    assert as_it_is == path.read_bytes()
    assert "Gather" in _operators(gathered)


@pytest.mark.shared
def test_only_the_published_detector_is_changed(
    shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[ModelSource] = []

    def note(source: ModelSource, **given: Any) -> Any:
        opened.append(source)
        return open_model(source, **given)

    monkeypatch.setattr("agebench.detectors.yolov8_face.open_model", note)
    published = shared_dir / "pretrained" / "yolov8-lite-t.onnx"
    model = onnx.load(published)
    model.producer_name = "somebody"
    onnx.save(model, tmp_path / "other.onnx")
    for path in (published, tmp_path / "other.onnx"):
        YoloV8Face(path=path)
    assert [source.gathers_channels for source in opened] == [True, False]


@pytest.mark.shared
def test_the_detector_answers_as_before_to_the_bit(shared_dir: Path) -> None:
    path = shared_dir / "pretrained" / "yolov8-lite-t.onnx"
    content = path.read_bytes()
    assert _operators(with_gathered_channels(content)).count("Gather") == 12
    assert "Transpose" not in _operators(with_gathered_channels(content))
    blob = np.random.default_rng(0).uniform(size=(1, 3, 640, 640)).astype(np.float32)
    net = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
    net.setInput(blob)
    names = net.getUnconnectedOutLayersNames()
    before = dict(zip(names, net.forward(names), strict=True))
    model = OpenCvModel(ModelSource("onnx", path, gathers_channels=True))
    (name,) = model.input_names or ("images",)
    after = model.run({name: blob})
    assert after.keys() == before.keys()
    for name, value in after.items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.shared
@pytest.mark.usefixtures("shared_weights")
def test_the_benchmark_compares_with_the_file_as_published(parsed: list[bytes]) -> None:
    script = load_script("benchmarks.yolov8_face_speed")
    detectors = {name: script.WAYS[name]() for name in ("published", "gathered")}
    published, gathered = parsed
    assert gathered == with_gathered_channels(published) != published
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert detectors["published"].detect(picture) == detectors["gathered"].detect(picture)


def test_the_benchmark_says_how_far_faces_are_apart() -> None:
    differences = load_script("benchmarks.yolov8_face_speed").differences
    face = Face((0.0, 0.0, 10.0, 10.0), 0.5, ((2.0, 3.0),), "one")
    moved = Face((0.0, 0.0, 10.0, 10.25), 0.75, ((2.0, 2.0),), "one")
    assert differences([face, face], [face, moved]) == (1.0, 0.25)
    assert differences([], []) == (0.0, 0.0)
    assert differences([face], [face, moved]) == (np.inf, np.inf)
