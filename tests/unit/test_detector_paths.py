"""Built-in detectors given another file: tried on a blank picture, and at its own size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agebench.detectors import opencv_ssd, yolov8_face
from agebench.detectors.haar import TO_FRAME, _cascade_file
from agebench.errors import ModelError, UsageError
from agebench.modelfiles import weights
from agebench.protocols import BoxToFrame, RuntimeInfo
from agebench.registry.plugins import load_detector
from agebench.runtimes.base import ModelSource, Tensor
from agebench.types import Image, WeightsFile


def save_grid(path: Path, logit: float, channels: int = 80, side: int | None = 64) -> Path:
    """Write a network of yolov8-lite's layout at one stride of 8, all cells of that class logit."""
    bias = np.zeros(channels, np.float32)
    bias[64:65] = logit
    stored = [
        numpy_helper.from_array(np.zeros((channels, 3, 8, 8), np.float32), "weight"),
        numpy_helper.from_array(bias, "bias"),
    ]
    node = helper.make_node("Conv", ["images", "weight", "bias"], ["out"], strides=[8, 8])
    cells = None if side is None else side // 8
    graph = helper.make_graph(
        [node],
        "grid",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, channels, cells, cells])],
        stored,
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path
    )
    return path


def black(height: int = 40, width: int = 60) -> Image:
    return np.zeros((height, width, 3), np.uint8)


@pytest.mark.parametrize("runtime", ["cv2dnn", "onnxruntime"])
def test_yolov8_face_of_another_file(runtime: str, tmp_path: Path) -> None:
    detector = load_detector(f"yolov8-face:{save_grid(tmp_path / 'own.onnx', -9.0)}@{runtime}")
    assert detector.spec.settings["size"] == 64  # the file's own: 640 ended at the first picture
    assert detector.spec.box_to_frame == BoxToFrame()
    assert detector.detect(black()) == []


def test_yolov8_face_says_which_size_a_file_takes(tmp_path: Path) -> None:
    fixed = save_grid(tmp_path / "own.onnx", -9.0)
    with pytest.raises(UsageError, match=r"own\.onnx.*64x64.*got 96"):
        load_detector(f"yolov8-face:{fixed} size=96")
    free = f"yolov8-face:{save_grid(tmp_path / 'free.onnx', -9.0, side=None)}@onnxruntime"
    assert load_detector(free).spec.settings["size"] == yolov8_face.DEFAULT_SIZE
    assert load_detector(f"{free} size=96").spec.settings["size"] == 96


@pytest.mark.parametrize(
    ("logit", "channels", "said"),
    [
        (3.0, 80, r"own\.onnx finds 64 faces in a blank picture, the best with a score of 0\.95"),
        (-9.0, 84, r"gives outputs of shape \(1, 80, rows, cols\)"),
        (float("nan"), 80, "not finite"),
    ],
)
def test_yolov8_face_is_tried_at_load(
    logit: float, channels: int, said: str, tmp_path: Path
) -> None:
    path = save_grid(tmp_path / "own.onnx", logit, channels)
    with pytest.raises(ModelError, match=said):
        load_detector(f"yolov8-face:{path}@onnxruntime confidence=0.1")


def test_yunet_is_tried_at_load(tmp_path: Path) -> None:
    path = save_grid(tmp_path / "own.onnx", 0.0, side=320)
    with pytest.raises(ModelError, match=r"own\.onnx: cv2\.FaceDetectorYN"):
        load_detector(f"yunet:{path}")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"own\.onnx is truncated"):
        load_detector(f"yunet:{path}")


def save_darknet(folder: Path, missing: int = 0) -> Path:
    """Write a network of one convolution and one YOLO layer without its last bytes."""
    (folder / "own.cfg").write_text(
        "[net]\nwidth=32\nheight=32\nchannels=3\n"
        "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
        "[convolutional]\nfilters=6\nsize=1\nstride=1\npad=1\nactivation=linear\n"
        "[yolo]\nmask=0\nanchors=4,5\nclasses=1\nnum=1\n"
    )
    header = np.array([0, 2, 5, 0, 0], "<i4").tobytes()
    first = [np.zeros(4), np.ones(4), np.zeros(4), np.ones(4), np.zeros(4 * 3 * 9)]
    numbers = np.concatenate([*first, np.full(6, -9.0), np.zeros(6 * 4)]).astype("<f4").tobytes()
    path = folder / "own.weights"
    path.write_bytes((header + numbers)[: len(header + numbers) - missing])
    return path


@pytest.mark.parametrize("reference", ["yoloface-500k:own.weights", "spec:own.toml"])
def test_darknet_weights_that_are_cut_off(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_darknet(tmp_path)
    (tmp_path / "own.toml").write_text(
        'name = "own"\n[files]\nmodel = "own.weights"\nconfig = "own.cfg"\n'
        '[input]\nchannel_order = "rgb"\nmean = [0, 0, 0]\n[output]\nkind = "darknet"\n'
    )
    assert load_detector(reference).spec.settings["size"] == "32x32"
    save_darknet(tmp_path, missing=4)  # OpenCV takes what its memory holds for the last number
    with pytest.raises(ModelError, match=r"truncated.*it has 632 bytes, its layout needs 636"):
        load_detector(reference)


class GivesRows:
    """Stands for an SSD that answers every picture with one face of this score."""

    info = RuntimeInfo("cv2dnn")

    def __init__(self, score: float) -> None:
        self.score = score

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        row = np.array([0, 1, self.score, 0.1, 0.1, 0.6, 0.6], np.float32)
        return {opencv_ssd.OUTPUT: row[None, None, None]}


def test_opencv_ssd_of_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.pb"
    path.write_bytes(b"graph")
    path.with_suffix(".pbtxt").write_text("layout")
    model = GivesRows(0.3)

    def resolve(name: str, *, explicit: Path, **_: Any) -> weights.ResolvedWeights:
        return weights.ResolvedWeights(explicit, WeightsFile(explicit.name, "0" * 64), "given")

    def open_model(source: ModelSource, **_: Any) -> GivesRows:
        assert source.config == "layout"
        return model

    monkeypatch.setattr(weights, "resolve", resolve)
    monkeypatch.setattr(opencv_ssd, "open_model", open_model)
    spec = load_detector(f"opencv-ssd:{path} confidence=0.1").spec
    assert spec.box_to_frame == BoxToFrame()
    assert "not measured" in spec.notes[1]
    model.score = 0.9
    with pytest.raises(ModelError, match=r"own\.pb.* 1 .*blank"):
        load_detector(f"opencv-ssd:{path}")


def test_the_proportions_are_those_of_the_cascade_that_they_were_measured_with(
    tmp_path: Path,
) -> None:
    shipped, _info = _cascade_file()
    copy = tmp_path / "copy.xml"
    copy.write_bytes(shipped.read_bytes())
    assert load_detector(f"haar:{copy}").spec.box_to_frame == TO_FRAME
    copy.write_bytes(shipped.read_bytes() + b"<!-- another -->\n")
    spec = load_detector(f"haar:{copy}").spec
    assert spec.box_to_frame == BoxToFrame()
    assert "not measured" in spec.notes[1]
