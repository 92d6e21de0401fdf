"""Detectors by file: a tiny network and its TOML file, tried on a blank picture at load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from agebench.api.export import darknet_of
from agebench.cli.main import cli
from agebench.detectors.spec_file import SpecFileDetector
from agebench.errors import AgebenchError, DatasetError, ModelError, UsageError, WeightsError
from agebench.export.detector_file import export_detector
from agebench.fitting.frames import fit_frame
from agebench.protocols import BoxToFrame, DetectorSpec
from agebench.registry.plugins import load_detector
from agebench.testing import check_detector
from agebench.types import FIVE_POINTS, Face, Image, Sample

SIDE = 64


def save_detector(path: Path, columns: int = 5, bias: float = 0.0) -> Path:
    """Write a YOLOv8-like network (1, 3, 64, 64) -> (1, columns, 64).

    Its answer is one box for each of 8x8 cells, of the cell's own place; the score of a cell is
    the mean of its reddest pixels plus `bias`.
    """
    cells = SIDE // 8
    grid = np.zeros((1, columns - 1, cells * cells), np.float32)
    y, x = np.mgrid[:cells, :cells]
    grid[0, 0], grid[0, 1] = x.ravel() * 8 + 4, y.ravel() * 8 + 4
    grid[0, 2], grid[0, 3] = 12, 16
    pick = np.zeros((1, 3, 1, 1), np.float32)
    pick[0, 0] = 1.0
    stored = [
        numpy_helper.from_array(pick, "pick"),
        numpy_helper.from_array(grid[:, :4], "boxes"),
        numpy_helper.from_array(grid[:, 4:], "rest"),
        numpy_helper.from_array(np.array([1, 1, cells * cells], np.int64), "shape"),
        numpy_helper.from_array(np.array([bias], np.float32), "bias"),
    ]
    nodes = [
        helper.make_node("Conv", ["images", "pick"], ["red"]),
        helper.make_node("MaxPool", ["red"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["pooled", "shape"], ["flat"]),
        helper.make_node("Add", ["flat", "bias"], ["score"]),
        helper.make_node(
            "Concat", ["boxes", "score", *(["rest"] if columns > 5 else [])], ["out"], axis=1
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, columns, cells * cells])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


TEXT = """
name = "tiny"
[files]
model = "tiny.onnx"
[input]
channel_order = "rgb"
mean = [0, 0, 0]
scale = 0.00392156862745098
[output]
kind = "yolov8"
[detect]
confidence = 0.6
pad = 0
"""


def write(folder: Path, text: str = TEXT, **network: float) -> Path:
    save_detector(folder / "tiny.onnx", **network)  # type: ignore[arg-type]  # columns is whole
    (folder / "tiny.toml").write_text(text, encoding="utf-8")
    return folder / "tiny.toml"


def red_square(height: int = 128, width: int = 64) -> Image:
    """A black picture, red in the cell of row 2, column 3 of its letterboxed input."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[36:44, 18:26, 2] = 255
    return picture


@pytest.mark.parametrize(("runtime", "units"), [("cv2dnn", "shares"), ("onnxruntime", "fractions")])
def test_colours_last_and_boxes_in_fractions(runtime: str, units: str, tmp_path: Path) -> None:
    """As tf2onnx makes an ONNX file of what Ultralytics' code exported to TFLite."""
    nhwc = f'layout = "nhwc"\n[output]\nunits = "{units}"'
    path = write(tmp_path, TEXT.replace("[output]", nhwc))
    model = onnx.load(tmp_path / "tiny.onnx")
    model.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, SIDE, SIDE, 3])
    )
    turn = helper.make_node("Transpose", ["pixels"], ["images"], perm=[0, 3, 1, 2])
    model.graph.node.insert(0, turn)
    for stored in model.graph.initializer:
        if stored.name == "boxes":
            stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored) / SIDE, "boxes"))
    onnx.save(model, tmp_path / "tiny.onnx")
    (face,) = load_detector(f"spec:{path}@{runtime}").detect(red_square())
    np.testing.assert_allclose(face.box_xyxy, (11.5, 23.5, 35.5, 55.5), atol=1e-4)


@pytest.mark.parametrize("runtime", ["cv2dnn", "onnxruntime"])
def test_a_face_is_found_where_it_is(runtime: str, tmp_path: Path) -> None:
    detector = load_detector(f"spec:{write(tmp_path)}@{runtime}")
    (face,) = detector.detect(red_square())
    # 128x64 in 64x64: halved, with 16 pixels on the left.  The square is 18..22 by 9..13 of 32x64,
    # so at column (18/2+16)/8 = 3 and row 2: centre (28, 20), 12 x 16 in the input.
    left, top, right, bottom = face.box_xyxy
    assert (left, top, right, bottom) == pytest.approx((11.5, 23.5, 35.5, 55.5), abs=0.01)
    assert face.score == pytest.approx(1.0, abs=1e-3)
    assert detector.spec.settings["size"] == "64x64"
    assert detector.spec.weights[0].file == "tiny.onnx"
    assert "not measured" in detector.spec.notes[0]


def test_it_keeps_the_promises_of_a_detector(tmp_path: Path) -> None:
    path = write(tmp_path, columns=20)
    check_detector(SpecFileDetector(path=path))
    check_detector(SpecFileDetector(path=path, pad="auto"), red_square())


def test_frame_and_options_of_the_file_and_of_the_reference(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT + "[frame]\ndx = 0.1\ndy = -0.2\nheight = 1.2\n")
    detector = SpecFileDetector(path=path, confidence=0.9)
    assert detector.spec.box_to_frame.height == 1.2
    assert detector.spec.notes == ()
    assert detector.spec.settings["confidence"] == 0.9
    assert detector.spec.settings["pad"] == 0
    pointed = SpecFileDetector(path=write(tmp_path, columns=15))
    assert pointed.spec.landmark_scheme == FIVE_POINTS


@pytest.mark.parametrize(
    ("changes", "network", "error", "said"),
    [
        # A wrong layout ends at load, not at each of thousands of pictures.
        ((), {"columns": 7}, ModelError, 'output.kind = "yolov8" expects one class'),
        (('"yolov8"', '"ultraface"'), {}, ModelError, "the network gave (1, 5, 64)"),
        (('"yolov8"', '"yolov9"'), {}, UsageError, "output.kind: unknown value"),
        ((), {"bias": 0.5}, ModelError, "finds 64 faces in a blank picture"),
        ((), {"bias": 5.0}, ModelError, "expected 0 to 1"),
        (
            ("mean = [0, 0, 0]", "mean = [0, 0, 0]\nsize = [32, 32]"),
            {},
            ModelError,
            "size = [64, 64]",
        ),
        (('"rgb"\nmean = [0, 0, 0]', '"gray"\nmean = [0]'), {}, ModelError, "3 channels"),
        (("[output]", 'name = "data"\n[output]'), {}, ModelError, "it has images"),
        (("[output]", 'layout = "nhwc"\n[output]'), {}, ModelError, 'layout = "nchw" in [input]'),
        (("[detect]", 'units = "shares"\n[detect]'), {}, ModelError, "so they are in pixels"),
        (('"yolov8"', '"ssd"\nunits = "shares"'), {}, UsageError, "'yolov8' only"),
        (("pad = 0", "pad = 9"), {}, UsageError, "pad must be 'auto' or 0 to 2"),
        (("[detect]", "anchors = [[1,2,3,4,5,6]]\n[detect]"), {}, UsageError, "'yolov5-face' only"),
        (('"tiny.onnx"', '"absent.onnx"'), {}, WeightsError, "is not a file"),
        (('"tiny.onnx"', '"tiny.onnx"\nsha256 = "' + "0" * 64 + '"'), {}, WeightsError, "expected"),
        (("confidence = 0.6", "confidance = 0.6"), {}, UsageError, "did you mean 'confidence'"),
    ],
)
def test_what_does_not_fit_ends_at_load(
    changes: tuple[str, str] | tuple[()],
    network: dict[str, float],
    error: type[AgebenchError],
    said: str,
    tmp_path: Path,
) -> None:
    text = TEXT.replace(*changes) if changes else TEXT
    with pytest.raises(error) as caught:
        SpecFileDetector(path=write(tmp_path, text, **network))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff" * 300, "not a complete ONNX file"),
        (b"PK\x03\x04" + b"\0" * 300, "is a zip archive: unpack it"),
    ],
)
def test_a_damaged_file_is_not_taken_for_one_of_any_size(
    content: bytes, said: str, tmp_path: Path
) -> None:
    path = write(tmp_path)
    (tmp_path / "tiny.onnx").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        SpecFileDetector(path=path)
    assert said in str(caught.value)


def test_no_path_and_an_option_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="write spec:my_detector"):
        load_detector("spec")
    with pytest.raises(UsageError, match="must be a number from 0 to 1"):
        SpecFileDetector(path=write(tmp_path), confidence=3)


# Proportions of boxes to faces.


class Marked:
    """Finds a face with landmarks around the brightest spot; another way of seeing it has none."""

    def __init__(self, points: bool) -> None:
        self.spec = DetectorSpec(name="marked", landmark_scheme=FIVE_POINTS if points else "")

    def detect(self, image_bgr: Image, /) -> list[Face]:
        row, col = np.unravel_index(int(image_bgr[:, :, 0].argmax()), image_bgr.shape[:2])
        x, y = float(col), float(row)
        # The canonical frame of height 100 about (x, y) has the eyes here (TEMPLATE_5).
        offsets = ((-17.9, -10), (17.9, -10), (0, 10), (-15.2, 25.2), (15.2, 25.2))
        points = tuple((x + dx, y + dy) for dx, dy in offsets) if self.spec.landmark_scheme else ()
        # Its box is 50 wide and 80 high, and lies 5 to the right and 8 above the frame's centre.
        box = (x + 5 - 25, y - 8 - 40, x + 5 + 25, y - 8 + 40)
        return [Face(box, 0.9, points, self.spec.landmark_scheme)]


def _iou_of_boxes() -> float:
    """Of the frame of height 100 and the box's own, by hand; a frame is 0.76 as wide as high."""
    wide, high = 0.76 * 80, 80.0
    across = min(38.0, 5 + wide / 2) - max(-38.0, 5 - wide / 2)
    down = min(50.0, -8 + high / 2) - max(-50.0, -8 - high / 2)
    return across * down / (76 * 100 + wide * high - across * down)


def spots(folder: Path, count: int) -> list[Sample]:
    import cv2

    samples = []
    for index in range(count):
        picture = np.zeros((200, 200, 3), np.uint8)
        picture[80 + index, 90 + index] = 255
        path = folder / f"{index:02d}.png"
        path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        samples.append(Sample(path, path.name, 30.0))
    return samples


def test_proportions_are_measured_against_landmarks(tmp_path: Path) -> None:
    fitted = fit_frame(Marked(False), Marked(True), spots(tmp_path, 20), max_pixels=10**6)
    assert (fitted.frame.dx, fitted.frame.dy) == pytest.approx((-5 / 50, 8 / 80), abs=1e-3)
    assert fitted.frame.height == pytest.approx(100 / 80, abs=1e-3)
    assert (fitted.faces, fitted.missed) == (20, 0)
    assert fitted.median_iou == pytest.approx(1.0, abs=1e-3)
    # The box's own frame is 60.8 x 80, 5 to the right of and 8 above one of 76 x 100.
    assert fitted.boxes_median_iou == pytest.approx(_iou_of_boxes(), abs=1e-3)
    assert "dx = -0.100\ndy = 0.100\nheight = 1.250\n" in fitted.toml()


def test_proportions_need_landmarks_and_faces(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="finds no landmarks"):
        fit_frame(Marked(True), Marked(False), [], max_pixels=10**6)
    with pytest.raises(DatasetError, match="in 3 of 3 pictures, expected at least 20"):
        fit_frame(Marked(True), Marked(True), spots(tmp_path, 3), max_pixels=10**6)


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    run = CliRunner().invoke(cli, ["fit-frame", "haar", "yunet", "--dataset", "demo"])
    assert isinstance(run.exception, UsageError)
    assert "expected one detector, got 2" in str(run.exception)


# Other Darknet networks behind yoloface-500k:PATH.

CONVOLUTION = "[convolutional]\nfilters={}\nsize={}\nstride={}\npad=1\nactivation={}\n"
DARKNET = (
    "[net]\nwidth=56\nheight=48\nchannels=3\n"
    + CONVOLUTION.format(8, 3, 2, "leaky") * 3
    + CONVOLUTION.format(18, 1, 1, "linear")
    + "[yolo]\nmask=0,1,2\nanchors=9,14, 12,17, 22,21\nclasses=1\nnum=3\n"
)


def test_another_darknet_network_runs_at_its_own_size_and_with_no_ones_proportions(
    tmp_path: Path,
) -> None:
    # All weights zero: every cell says one half for object and class, a quarter in all.
    numbers = (8 + 8 * 3 * 9) + 2 * (8 + 8 * 8 * 9) + (18 + 18 * 8)
    header = np.array([0, 2, 0, 0, 0], "<i4").tobytes()  # version 0.2.0, no pictures seen
    (tmp_path / "own.weights").write_bytes(header + bytes(4 * numbers))
    (tmp_path / "own.cfg").write_text(DARKNET)
    detector = load_detector(f"yoloface-500k:{tmp_path / 'own.weights'}")
    assert detector.spec.settings["size"] == "56x48"
    assert detector.spec.settings["version"] == "own"
    assert detector.spec.box_to_frame == BoxToFrame()
    assert "not measured" in detector.spec.notes[0]
    assert detector.detect(np.zeros((60, 80, 3), np.uint8)) == []
    asked = load_detector(f"yoloface-500k:{tmp_path / 'own.weights'} size=64x40")
    assert asked.spec.settings["size"] == "64x40"
    by_file = TEXT.replace("tiny.onnx", 'own.weights"\nconfig = "own.cfg').replace(
        '"yolov8"', '"darknet"'
    )
    (tmp_path / "own.toml").write_text(by_file)
    assert SpecFileDetector(path=tmp_path / "own.toml").spec.settings["size"] == "56x48"
    _own_network_is_exported_at_its_own_size(tmp_path)


def _own_network_is_exported_at_its_own_size(folder: Path) -> None:
    out = folder / "own.onnx"
    assert darknet_of(f"yoloface-500k:{folder / 'own.weights'} size=64x40").size_hw == (40, 64)
    files = darknet_of(f"yoloface-500k:{folder / 'own.weights'}")
    assert (files.version, files.size_hw) == ("own", (48, 56))
    assert export_detector(files, out).report is not None
    loaded = load_detector(f"yoloface-500k:{out}")
    assert loaded.spec.settings["size"] == "56x48"
    assert loaded.spec.settings["version"] == "own"
    assert loaded.spec.box_to_frame == BoxToFrame()
    assert "not measured" in loaded.spec.notes[0]
