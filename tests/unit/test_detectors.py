"""Options, decoding and edge cases of the detectors, without published weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from agebench.detectors import yoloface_500k as yoloface
from agebench.detectors import yolov8_face as yolov8
from agebench.detectors import yunet
from agebench.detectors.aligned import Aligned
from agebench.detectors.common import (
    Candidates,
    PadMode,
    Placement,
    check_input_size,
    check_picture,
    find_twice,
    fit,
    overlaps,
    shrink,
    suppress,
    to_faces,
)
from agebench.detectors.haar import Haar
from agebench.errors import ModelError, UsageError, WeightsError
from agebench.modelfiles import weights
from agebench.protocols import FaceDetector, RuntimeInfo
from agebench.registry.plugins import load_detector
from agebench.runtimes import ModelSource
from agebench.runtimes.base import Tensor
from agebench.types import Floats, Image, WeightsFile
from agebench.vision.frames import canonical_frame, frame_box

ODD_SIZES = [(1, 1), (1, 300), (300, 1), (2, 3), (31, 33), (1, 20000), (20000, 1)]


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def candidates(*boxes: tuple[float, float, float, float], scores: Sequence[float]) -> Candidates:
    return Candidates(np.array(boxes, float).reshape(-1, 4), np.array(scores, float))


# Options


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, "much", True, None])
@pytest.mark.parametrize("option", ["confidence", "nms"])
def test_shares_out_of_range_are_refused(option: str, value: Any) -> None:
    given: dict[str, Any] = {option: value}
    with pytest.raises(UsageError, match=f"option {option} of 'haar'"):
        Haar(**given)


@pytest.mark.parametrize("size", [0, 31, 33, -32, "32x", "x", "640x480x3", 8224, True, 640.5, ""])
def test_input_sizes_that_no_network_takes_are_refused(size: Any) -> None:
    with pytest.raises(UsageError, match="multiples of 32"):
        check_input_size("yolov8-face", size)


def test_input_size_is_height_then_width() -> None:
    assert check_input_size("yoloface-500k", "352x288") == (288, 352)
    assert check_input_size("yoloface-500k", 64) == (64, 64)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("haar faces=biggest", "all, largest"),
        ("haar confidence=high", "expected a number"),
        ("haar size=10", "from 32"),
        ("haar neighbours=0", "from 1 to 100"),
        ("haar@onnxruntime", "takes no runtime"),
        ("yunet@cv2dnn:cuda", "takes no runtime"),
        ("aligned layout=square", "utkface"),
        ("aligned confidence=0.5", "no option"),
        ("yoloface-500k version=v3", "v2"),
        ("yolov8-face pad=3", "from 0 to 2"),
        ("yolov8-face pad=some", "auto"),
        ("yolov8-face size=100", "multiples of 32"),
        ("yoloface-500k pad=-1", "from 0 to 2"),
    ],
)
def test_wrong_references_are_usage_errors(reference: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_detector(reference)


def test_wrong_policy_from_python_is_a_usage_error() -> None:
    policy: Any = "biggest"
    with pytest.raises(UsageError, match="one of all, largest"):
        Haar(faces=policy)


@pytest.mark.parametrize("name", ["yolov8-face", "yunet", "haar", "yoloface-500k"])
def test_a_missing_or_foreign_model_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.onnx"):
        load_detector(f"{name}:{tmp_path / 'none.onnx'}")
    text = tmp_path / "text.onnx"
    text.write_text("this is not a model, but it is a file of a plausible length " * 9)
    text.with_suffix(".cfg").write_text("[net]\nwidth=\x00\n")
    with pytest.raises((ModelError, WeightsError), match=r"text\.onnx"):
        load_detector(f"{name}:{text}")


def test_own_darknet_weights_need_their_layout_beside_them(tmp_path: Path) -> None:
    file = tmp_path / "own.weights"
    file.write_bytes(bytes(5000))
    with pytest.raises(UsageError, match=r"own\.cfg"):
        load_detector(f"yoloface-500k:{file}")


# Pictures in and out of a network's input


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
)
def test_other_arrays_are_refused(picture: Any) -> None:
    with pytest.raises(UsageError, match="uint8 picture"):
        check_picture(picture)


def marked(height: int, width: int, x: int, y: int, side: int) -> Image:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y : y + side, x : x + side] = 255
    return picture


@pytest.mark.parametrize("pad", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("keep_aspect", [True, False])
@pytest.mark.parametrize(("height", "width"), [(100, 300), (900, 700), (320, 320), (64, 1000)])
def test_a_mark_is_found_again_where_it_was(
    height: int, width: int, keep_aspect: bool, pad: float
) -> None:
    picture = marked(height, width, width // 2, height // 4, 40)
    canvas, placement = fit(picture, (320, 640), pad=pad, keep_aspect=keep_aspect)
    assert canvas.shape == (320, 640, 3)
    rows, columns = np.nonzero(canvas[:, :, 0] > 127)
    # Edge-based coordinates: pixel i spans i to i + 1.
    box = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]], float)
    found = placement.to_picture(box)
    x, y = width // 2 - 0.5, height // 4 - 0.5
    pixel = 1.0 / np.array(placement.scale_xy)
    assert np.all(np.abs(found - [[x, y], [x + 40, y + 40]]) <= 0.5 * pixel + 0.5)


def test_letterbox_keeps_the_aspect_and_the_middle() -> None:
    canvas, placement = fit(np.full((100, 200, 3), 255, np.uint8), (640, 640))
    assert placement == Placement((3.2, 3.2), (0.0, 160.0))
    assert canvas[160:480].min() == 255
    assert canvas[:160].max() == canvas[480:].max() == 0


def test_padding_leaves_that_share_free_on_every_side() -> None:
    canvas, _ = fit(np.full((50, 50, 3), 255, np.uint8), (640, 640), pad=0.5)
    assert (canvas[:, :, 0] > 0).sum() == 320 * 320


def test_large_pictures_are_shrunk_and_small_ones_left() -> None:
    assert shrink(np.zeros((3000, 1000, 3), np.uint8), 600)[0].shape == (600, 200, 3)
    assert shrink(np.zeros((30, 10, 3), np.uint8), 600)[0].shape == (30, 10, 3)


@pytest.mark.parametrize(("height", "width"), ODD_SIZES)
def test_no_size_is_too_odd_to_fit(height: int, width: int) -> None:
    canvas, placement = fit(noise(height, width), (640, 640), pad=1.0)
    assert canvas.shape == (640, 640, 3)
    assert np.isfinite(placement.to_picture(np.array([320.0, 320.0]))).all()


# Suppression and policies


def test_overlaps_against_a_count_of_pixels() -> None:
    boxes = np.array([[0, 0, 4, 4], [2, 1, 7, 5], [10, 10, 12, 13]])
    masks = np.zeros((3, 20, 20), bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    expected = [[(a & b).sum() / (a | b).sum() for b in masks] for a in masks]
    assert np.allclose(overlaps(boxes.astype(float), boxes.astype(float)), expected)


def test_the_better_of_two_overlapping_boxes_stays() -> None:
    # IoU of the first two: 8/12.
    found = candidates((0, 0, 10, 10), (2, 0, 12, 10), (50, 0, 60, 10), scores=[0.6, 0.9, 0.7])
    assert suppress(found, 0.5).scores.tolist() == [0.9, 0.7]
    assert suppress(found, 0.7).scores.tolist() == [0.9, 0.7, 0.6]


def test_empty_and_infinite_boxes_are_dropped() -> None:
    found = candidates(
        (0, 0, 10, 10), (5, 5, 5, 9), (9, 9, 3, 3), (0, 0, math.inf, 1), (math.nan, 0, 1, 1),
        scores=[0.5, 0.9, 0.9, 0.9, 0.9],
    )  # fmt: skip
    assert suppress(found, 0.5).boxes_xyxy.tolist() == [[0, 0, 10, 10]]
    assert len(suppress(found.take(np.arange(1, 5)), 0.5)) == 0


def test_faces_come_best_first_or_only_the_largest() -> None:
    found = candidates((0, 0, 5, 5), (10, 0, 30, 20), (40, 0, 50, 10), scores=[0.5, 0.4, 0.9])
    assert [face.score for face in to_faces(found, "all")] == [0.9, 0.5, 0.4]
    assert [face.box_xyxy for face in to_faces(found, "largest")] == [(10, 0, 30, 20)]
    assert to_faces(found.take(np.arange(0)), "largest") == []


def looks(answers: Mapping[float, Candidates], pad: PadMode) -> tuple[list[float], list[float]]:
    """Return which looks were taken at a picture 100 high, and the scores that came out."""
    taken: list[float] = []

    def look_once(space: float) -> Candidates:
        taken.append(space)
        return answers[space]

    return taken, find_twice(look_once, pad, 100.0, 0.5).scores.tolist()


def test_a_large_face_is_looked_at_again_and_small_ones_are_kept() -> None:
    first = candidates((0, 0, 60, 60), (80, 80, 90, 90), scores=[0.5, 0.6])
    second = candidates((5, 5, 70, 70), (80, 80, 90, 91), (0, 90, 9, 99), scores=[0.8, 0.7, 0.4])
    taken, scores = looks({0.0: first, 0.5: second}, "auto")
    assert taken == [0.0, 0.5]
    assert sorted(scores) == [0.4, 0.6, 0.8]


def test_a_large_face_that_the_further_look_does_not_see_stays() -> None:
    first = candidates((0, 0, 60, 60), (80, 80, 90, 90), scores=[0.9, 0.8])
    again = candidates((80, 80, 90, 91), scores=[0.7])
    assert sorted(looks({0.0: first, 0.5: again}, "auto")[1]) == [0.8, 0.9]
    # A box of the same face, however badly the first look had it, takes its place.
    again = candidates((30, 0, 95, 70), scores=[0.7])
    assert sorted(looks({0.0: first, 0.5: again}, "auto")[1]) == [0.7, 0.8]


def test_small_faces_need_one_look() -> None:
    found = candidates((0, 0, 30, 39), scores=[0.5])
    assert looks({0.0: found}, "auto") == ([0.0], [0.5])


def test_an_empty_answer_is_looked_at_with_ever_more_space() -> None:
    none, found = candidates(scores=[]), candidates((0, 0, 30, 30), scores=[0.5])
    assert looks({0.0: none, 0.5: none, 1.0: found}, "auto") == ([0.0, 0.5, 1.0], [0.5])
    assert looks({0.0: none, 0.5: none, 1.0: none}, "auto") == ([0.0, 0.5, 1.0], [])


def test_a_given_pad_is_the_only_look() -> None:
    found = candidates((0, 0, 90, 90), scores=[0.5])
    assert looks({0.25: found}, 0.25) == ([0.25], [0.5])


# yolov8-face: decoding


def one_cell(row: int, col: int, logit: float) -> Tensor:
    """An output of 20x20 cells with one face: 1, 2, 3 and 4 strides to the four sides."""
    output = np.zeros((80, 20, 20), np.float32)
    output[64] = -20.0
    output[64, row, col] = logit
    for side in range(4):
        output[16 * side + side + 1, row, col] = 60.0
    output[65::3, row, col] = [0.1, 0.2, 0.3, 0.4, 0.5]
    output[66::3, row, col] = [0.5, 0.4, 0.3, 0.2, 0.1]
    return output


def test_a_cell_decodes_as_computed_by_hand() -> None:
    found = yolov8.decode({"a": one_cell(7, 11, 2.0)[None]}, 640, 0.5)
    # Cell centre (11.5, 7.5), stride 32.
    expected = [(11.5 - 1) * 32, (7.5 - 2) * 32, (11.5 + 3) * 32, (7.5 + 4) * 32]
    assert np.allclose(found.boxes_xyxy, [expected])
    assert np.allclose(found.scores, 1 / (1 + math.exp(-2.0)))
    assert found.points_xy is not None
    assert np.allclose(found.points_xy[0, 0], [(0.2 + 11) * 32, (1.0 + 7) * 32])
    assert np.allclose(found.points_xy[0, 4], [(1.0 + 11) * 32, (0.2 + 7) * 32])


def decode_by_loops(output: Tensor, stride: float, confidence: float) -> list[list[float]]:
    """Decode cell by cell, number by number, as the format is written down."""
    faces = []
    _, rows, cols = output.shape
    for row in range(rows):
        for col in range(cols):
            cell = [float(value) for value in output[:, row, col]]
            score = 1 / (1 + math.exp(-cell[64]))
            if score < confidence:
                continue
            sides = []
            for side in range(4):
                powers = [math.exp(value) for value in cell[16 * side : 16 * side + 16]]
                sides.append(sum(i * p for i, p in enumerate(powers)) / sum(powers) * stride)
            x, y = (col + 0.5) * stride, (row + 0.5) * stride
            face = [x - sides[0], y - sides[1], x + sides[2], y + sides[3], score]
            for point in range(5):
                face += [
                    (2 * cell[65 + 3 * point] + col) * stride,
                    (2 * cell[66 + 3 * point] + row) * stride,
                ]
            faces.append(face)
    return faces


def test_decoding_agrees_with_a_loop_over_cells() -> None:
    random = np.random.default_rng(3)
    outputs = {
        str(cells): random.normal(0, 2, (1, 80, cells, cells)).astype(np.float32)
        for cells in (5, 20, 10)
    }
    found = yolov8.decode(outputs, 160, 0.8)
    expected = [
        face
        for cells, stride in ((20, 8), (10, 16), (5, 32))
        for face in decode_by_loops(outputs[str(cells)][0], stride, 0.8)
    ]
    assert found.points_xy is not None
    got = np.concatenate(
        [found.boxes_xyxy, found.scores[:, None], found.points_xy.reshape(-1, 10)], axis=1
    )
    assert len(got) == len(expected) > 20
    assert np.allclose(got, expected, rtol=1e-5, atol=1e-3)


def test_extreme_logits_give_finite_scores() -> None:
    output = one_cell(0, 0, 1e4)
    output[64, 1, 1] = -1e4
    with np.errstate(over="raise"):
        found = yolov8.decode({"a": output[None]}, 640, 0.5)
    assert found.scores.tolist() == [1.0]
    assert len(suppress(found, 0.5)) == 1


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"a": np.zeros((1, 5, 8400), np.float32)},
        {"a": np.zeros((1, 80, 20, 20), np.float32), "b": np.zeros((1, 15, 8, 8), np.float32)},
        {"a": np.zeros((1, 80, 0, 20), np.float32)},
    ],
)
def test_outputs_of_other_networks_are_refused(outputs: dict[str, Tensor]) -> None:
    with pytest.raises(ModelError, match="another kind of network"):
        yolov8.decode(outputs, 640, 0.5)


def test_outputs_that_are_no_numbers_are_refused() -> None:
    output = one_cell(0, 0, 3.0)
    output[3, 4, 5] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        yolov8.decode({"a": output[None]}, 640, 0.5)


class FakeModel:
    """Finds a white mark in its input, as yolov8-face would a face."""

    def __init__(self) -> None:
        self.blobs: list[Tensor] = []
        self.info = RuntimeInfo("cv2dnn")
        self.input_names = ("images",)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        blob = inputs[""]
        self.blobs.append(blob)
        output = np.zeros((1, 80, 80, 80), np.float32)
        output[:, 64] = -20.0
        rows, columns = np.nonzero(blob[0, 2] > 0.5)
        if len(rows):
            left, right = columns.min() / 8, (columns.max() + 1) / 8
            top, bottom = rows.min() / 8, (rows.max() + 1) / 8
            col, row = int((left + right) / 2), int((top + bottom) / 2)
            output[0, 64, row, col] = 3.0
            sides = [col + 0.5 - left, row + 0.5 - top, right - col - 0.5, bottom - row - 0.5]
            for side, distance in enumerate(sides):
                whole = math.floor(distance)
                # Two bins whose expectation is the distance.
                output[0, 16 * side : 16 * side + 16, row, col] = -60.0
                share = max(distance - whole, 1e-9)
                output[0, 16 * side + whole, row, col] = math.log(1 - share)
                output[0, 16 * side + whole + 1, row, col] = math.log(share)
        return {"output": output}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeModel:
    model = FakeModel()

    def resolve(name: str, *, explicit: Path | None = None) -> weights.ResolvedWeights:
        return weights.ResolvedWeights(tmp_path / name, WeightsFile(name, "0" * 64), "given")

    def open_model(source: ModelSource, **_: Any) -> FakeModel:
        return model

    monkeypatch.setattr(weights, "resolve", resolve)
    monkeypatch.setattr(yolov8, "open_model", open_model)
    return model


@pytest.mark.parametrize("pad", ["auto", 0.0, 0.5])
def test_a_box_comes_back_in_the_pictures_pixels(
    fake: FakeModel, pad: float | Literal["auto"]
) -> None:
    picture = marked(400, 800, 600, 100, 80)
    faces = yolov8.YoloV8Face(pad=pad).detect(picture)
    assert len(faces) == 1
    assert np.allclose(faces[0].box_xyxy, (599.5, 99.5, 679.5, 179.5), atol=0.1)
    assert fake.blobs[0].shape == (1, 3, 640, 640)
    assert fake.blobs[0].max() <= 1.0


def test_the_networks_channels_are_red_green_blue(fake: FakeModel) -> None:
    picture = np.zeros((640, 640, 3), np.uint8)
    picture[:] = (10, 20, 30)
    yolov8.YoloV8Face(pad=0.0).detect(picture)
    assert np.allclose(fake.blobs[0][0, :, 5, 5] * 255, [30, 20, 10], atol=1e-3)


# yoloface-500k: decoding


def test_darknet_rows_decode_as_computed_by_hand() -> None:
    # The score is column 5; column 4, the objectness, must not decide.
    rows = np.array([[0.5, 0.25, 0.2, 0.1, 0.1, 0.9], [0.5, 0.5, 0.1, 0.1, 0.99, 0.2]])
    found = yoloface.decode([rows, np.zeros((0, 6))], (288, 352), 0.5)
    assert np.allclose(found.boxes_xyxy, [[0.4 * 352, 0.2 * 288, 0.6 * 352, 0.3 * 288]])
    assert found.scores.tolist() == [0.9]


@pytest.mark.parametrize("tables", [[], [np.zeros((3, 85))], [np.zeros(6)]])
def test_darknet_rows_of_other_networks_are_refused(tables: list[Tensor]) -> None:
    with pytest.raises(ModelError, match="another kind of network"):
        yoloface.decode(tables, (288, 352), 0.5)


def test_yunet_rows_decode_as_computed_by_hand() -> None:
    row: Floats = np.array([[10, 20, 30, 40, *range(10), 0.7]], float)
    found = yunet.decode(row)
    assert found.boxes_xyxy.tolist() == [[10, 20, 40, 60]]
    assert found.points_xy is not None
    assert found.points_xy.tolist() == [[[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]]
    assert found.scores.tolist() == [0.7]


# aligned


def test_aligned_gives_the_whole_picture() -> None:
    (face,) = Aligned().detect(noise(200, 100))
    assert face.box_xyxy == (-0.5, -0.5, 99.5, 199.5)
    assert (face.score, face.landmarks_xy) == (1.0, ())


def test_aligned_places_the_frame_where_chips_have_the_face() -> None:
    detector = Aligned()
    frame = canonical_frame(detector.detect(noise(200, 200))[0], detector.spec)
    assert frame.found_by == "layout"
    assert frame.center_xy == pytest.approx((99.5, 0.398 * 200), abs=1.0)
    assert frame.height == pytest.approx(1.11 * 200, rel=0.01)


def test_tight_chips_are_the_frame_itself() -> None:
    detector = Aligned(layout="tight")
    frame = canonical_frame(detector.detect(noise(100, 76))[0], detector.spec)
    assert frame_box(frame) == pytest.approx((-0.5, -0.5, 75.5, 99.5))


# Detectors that need no download, on hostile pictures


def head_of(astronaut_bgr: Image) -> Image:
    return astronaut_bgr[:230, 120:350].copy()


@pytest.fixture(params=["haar", "aligned"])
def detector(request: pytest.FixtureRequest) -> FaceDetector:
    return load_detector(request.param)


@pytest.mark.parametrize(("height", "width"), ODD_SIZES)
def test_odd_sizes_are_no_trouble(detector: FaceDetector, height: int, width: int) -> None:
    detector.detect(noise(height, width))


def test_read_only_and_strided_pictures_give_the_same(
    detector: FaceDetector, astronaut_bgr: Image
) -> None:
    portrait = head_of(astronaut_bgr)
    expected = detector.detect(portrait)
    assert expected
    read_only = portrait.copy()
    read_only.flags.writeable = False
    assert detector.detect(read_only) == expected
    assert detector.detect(portrait[:, :, ::-1].copy()[:, :, ::-1]) == expected
    assert np.array_equal(read_only, head_of(astronaut_bgr))


def test_haar_finds_the_astronaut(astronaut_bgr: Image) -> None:
    (face,) = Haar().detect(astronaut_bgr)
    left, top, right, bottom = face.box_xyxy
    assert (right - left, bottom - top) == (95.0, 95.0)
    assert abs((left + right) / 2 - 224) < 8
    assert abs((top + bottom) / 2 - 113) < 8


def test_haar_confidence_leaves_weaker_faces_out(astronaut_bgr: Image) -> None:
    portrait = head_of(astronaut_bgr)
    (face,) = Haar().detect(portrait)
    assert 0.0 < face.score < 1.0
    assert Haar(confidence=face.score).detect(portrait) == [face]
    assert Haar(confidence=min(1.0, face.score + 1e-3)).detect(portrait) == []
