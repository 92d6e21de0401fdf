"""`agebench check-spec`: what looks wrong about a described model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from agebench import load_dataset, load_detector, load_estimator
from agebench.cli.check_spec import command
from agebench.errors import ModelError, UsageError
from agebench.estimators.spec_checks import test_card as card_of
from agebench.harness import trial
from agebench.harness.spec_check import _alike as alike
from agebench.harness.spec_check import _wrong as wrong_about
from agebench.harness.spec_check import check_described
from agebench.protocols import Estimator, RuntimeInfo
from agebench.types import AgePrediction, Crops
from agebench.vision.images import read_image

TRY_MODELS = trial.try_models
SPEC = """
name = "net"
[files]
model = "net.onnx"
[crop]
name = "{crop}"
size = [8, 8]
[input]
channel_order = "bgr"
mean = [0, 0, 0]
[output]
kind = "years"
scale = {scale}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A network whose age is the mean of the blue channel over 8."""
    matrix = np.array([[0.125, 0, 0]], np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w"], ["y"], transB=1),
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    age = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])
    weights = [onnx.numpy_helper.from_array(matrix, "w")]
    graph = helper.make_graph(nodes, "net", [image], [age], weights)
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "net.onnx")
    path = tmp_path / "net.toml"
    path.write_text(SPEC.format(crop="chip", scale=1.0))
    return path


@pytest.fixture(autouse=True)
def _untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send no processes ahead to try a model: test_trial.py has them."""
    monkeypatch.setattr(trial, "try_models", lambda *_given: None)


def test_a_model_that_works(spec: Path, tmp_path: Path) -> None:
    seen, card = tmp_path / "seen.png", tmp_path / "card.png"
    done = CliRunner().invoke(command, [str(spec), "--crops", str(seen), "--card", str(card)])
    assert done.exit_code in (0, 1), done.output
    assert "red and blue exchanged" in done.output
    assert np.array_equal(read_image(card), card_of((8, 8)))
    assert read_image(seen).shape[0] > 160
    found = json.loads(CliRunner().invoke(command, [str(spec), "--json"]).output)
    assert found["swapped_differ_by"] > 0
    assert all("limited" not in sentence for sentence in found["wrong"])


@pytest.mark.parametrize(
    ("crop", "scale", "wrong"),
    [
        ("chip", 0.0001, "ages lie within 0.00 years"),
        ("face", 1.0, "faces come out 1.32 times too wide"),
    ],
)
def test_what_looks_wrong_is_said(spec: Path, crop: str, scale: float, wrong: str) -> None:
    spec.write_text(SPEC.format(crop=crop, scale=scale))
    done = CliRunner().invoke(command, [str(spec)])
    assert done.exit_code == 1
    assert wrong in done.output


def test_two_faces_of_the_same_age_are_said_only_if_colours_do_not_matter_either() -> None:
    same, other = np.array([30.0, 30.02]), np.array([30.01, 30.0])
    assert alike(same, other, 2).startswith("both ages lie within 0.02 years")
    assert alike(same, other, 1) == ""  # one picture given twice
    assert alike(same, other + 5, 2) == ""
    assert alike(np.array([30.0, 30.5]), other, 2) == ""
    assert alike(np.array([30.0, 30.5, 30.9]), np.zeros(3), 3).startswith("all 3 ages")
    assert alike(np.array([30.0, 30.5, 31.9]), np.zeros(3), 3) == ""


def test_a_model_that_gives_two_pictures_the_same_age_looks_wrong(spec: Path) -> None:
    spec.write_text(SPEC.format(crop="chip", scale=0.0001))
    faces = [str(sample.path) for sample in load_dataset("sample").samples[::40]]
    for chosen, told in ((faces, True), (faces[:1] * 2, False)):
        done = CliRunner().invoke(command, [str(spec), *chosen, "--detector", "aligned"])
        assert ("both ages lie within 0.00 years" in done.output) == told


def test_what_is_no_spec_file_is_told(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name, sentence in (
        ("models", "got the folder models: docs/spec-file.md"),
        ("net.onnx", "got the file net.onnx: docs/spec-file.md"),
        (str(spec.with_name("net.onnx")), "expected the TOML file that describes a model"),
        ("nodels", "unknown estimator 'nodels'"),
        ("spec:models", "expected a TOML file, got a folder"),
    ):
        error = CliRunner().invoke(command, [name]).exception
        assert isinstance(error, UsageError)
        assert sentence in str(error)


class Shifted:
    """The same model under a runtime that gives ages of three years more."""

    def __init__(self, model: Estimator) -> None:
        self._model = model
        self.spec = replace(model.spec, runtime=RuntimeInfo("torch"))

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        return [AgePrediction(answer.years + 3) for answer in self._model.predict(crops)]


def test_runtimes_that_do_not_agree_are_said(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "try_models", TRY_MODELS)
    model = load_estimator(f"spec:{spec}")
    check = check_described(model, (), load_detector("aligned"), Shifted(model))
    (said,) = (sentence for sentence in check.wrong if sentence.startswith("under torch"))
    assert "differ by up to 3.0 years from those under cv2dnn" in said
    done = CliRunner().invoke(command, [str(spec)])
    assert "  under onnxruntime: ages differ by up to " in done.output
    assert "computes this model wrongly" not in done.output


def test_a_face_detectors_file_is_refused_with_the_command_that_tries_it(tmp_path: Path) -> None:
    path = tmp_path / "faces.toml"
    path.write_text(
        'name = "faces"\nfiles.model = "faces.onnx"\noutput.kind = "yolov8"\n'
        '[input]\nchannel_order = "rgb"\nmean = [0, 0, 0]\nscale = 0.004\n',
        encoding="utf-8",
    )
    for name in (str(path), f"spec:{path}"):
        error = CliRunner().invoke(command, [name]).exception
        assert isinstance(error, UsageError)
        assert "'yolov8'" in str(error)
        assert f"--detector spec:{path}" in str(error)


def test_a_damaged_network_is_told_as_such(spec: Path) -> None:
    network = spec.with_name("net.onnx")
    whole, operator = network.read_bytes(), b"GlobalAveragePool"
    network.write_bytes(whole.replace(operator, bytes(255 - byte for byte in operator)))
    error = CliRunner().invoke(command, [f"spec:{spec}@onnxruntime"]).exception
    assert isinstance(error, ModelError)
    assert "is damaged: a name in it is not text: compare its size and sha256" in str(error)


def test_the_card_is_there_before_the_answer_about_it(tmp_path: Path) -> None:
    """A TFLite model is not loaded without the answer that its own library gives of the card."""
    (tmp_path / "net.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 64)
    path, card = tmp_path / "net.toml", tmp_path / "card.png"
    path.write_text(SPEC.format(crop="chip", scale=1.0).replace("net.onnx", "net.tflite"))
    done = CliRunner().invoke(command, [str(path), "--card", str(card)])
    assert "some TFLite models wrongly" in str(done.exception)
    assert "tf2onnx" in str(done.exception)
    assert np.array_equal(read_image(card), card_of((8, 8)))


@pytest.mark.parametrize("option", ["--crops", "--card"])
def test_no_input_is_overwritten(spec: Path, tmp_path: Path, option: str) -> None:
    face = tmp_path / "a.png"
    face.write_bytes(b"of a face")
    for target in (spec, spec.with_name("net.onnx"), face):
        before = target.read_bytes()
        error = CliRunner().invoke(command, [str(spec), str(face), option, str(target)]).exception
        assert isinstance(error, UsageError)
        assert f"{option} {target} is an input and would be overwritten" in str(error)
        assert target.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("notes.txt", "expected a file name that ends in .png"),
        ("no/such/a.png", "the folder {folder}/no/such does not exist"),
    ],
)
def test_a_picture_that_can_not_be_written_is_refused_before_the_model_is_read(
    spec: Path, tmp_path: Path, name: str, sentence: str
) -> None:
    spec.with_name("net.onnx").unlink()
    for option in ("--crops", "--card"):
        error = CliRunner().invoke(command, [str(spec), option, str(tmp_path / name)]).exception
        assert sentence.format(folder=tmp_path) in str(error)


def test_ages_beyond_the_range_and_swapped_channels_are_said() -> None:
    true = np.array([20.0, 30.0, 60.0])
    (limited,) = wrong_about(np.array([0.0, 30.0, 120.0]), np.array([1.0, 2.0, 3.0]), true, 1.0)
    assert limited.startswith("2 of 3 ages were limited")
    many = np.arange(50.0) - 1  # one baby below 0
    assert wrong_about(many, many, many, 1.0) == []
    (swapped,) = wrong_about(np.array([40.0, 10.0, 40.0]), true + 1, true, 0.5)
    assert "the error is 1.0 years instead of 20.0: channel_order" in swapped
    assert wrong_about(true + 2, true + 2, true, 1.0) == []


def test_ages_that_do_not_follow_those_of_the_composites_are_said(spec: Path) -> None:
    """The blue of a composite says little of the person's age."""
    done = CliRunner().invoke(command, [str(spec)])
    assert done.exit_code == 1
    assert "predicted ages hardly rise with true ages (rank correlation" in done.output
    assert "composites of 20 to 29 years (13): " in done.output
    true = np.array([20.0, 30.0, 60.0])
    (unrelated,) = wrong_about(true[::-1], true[::-1], true, -1.0)
    assert "rank correlation -1.00" in unrelated
