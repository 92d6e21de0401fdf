"""Heads of other people's face networks: each is encoded here by hand, and must come back.

The encoders are written from the training code of each network, the other way round than the
decoders: from a face in pixels to the numbers that the network would have to give.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from agebench.detectors.heads import HEADS, YOLOV5_FACE_ANCHORS, Head
from agebench.errors import ModelError

Array = npt.NDArray[np.float64]

SIZE_HW = (128, 160)
HEAD = Head(SIZE_HW, 0.5)
BOX = np.array([40.0, 30.0, 70.0, 72.0])
POINTS = np.array([[47.0, 45.0], [62.0, 46.0], [55.0, 52.0], [48.0, 62.0], [61.0, 63.0]])
SCORE = 0.9


def logit(share: float | Array) -> Array:
    odds: Array = np.asarray(share, np.float64) / (1 - np.asarray(share, np.float64))
    return np.asarray(np.log(odds))


def assert_found(kind: str, outputs: list[Array], *, points: bool) -> None:
    # In any order: runtimes do not keep it.
    for order in itertools.islice(itertools.permutations(outputs), 6):
        found = HEADS[kind](order, HEAD)
        assert len(found) == 1
        np.testing.assert_allclose(found.boxes_xyxy[0], BOX, atol=1e-6)
        np.testing.assert_allclose(found.scores[0], SCORE, atol=1e-6)
        assert (found.points_xy is not None) == points
        if found.points_xy is not None:
            np.testing.assert_allclose(found.points_xy[0], POINTS, atol=1e-6)


def centred(box: Array) -> Array:
    return np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])


def row_of(columns: int) -> Array:
    row = np.zeros(columns)
    row[:4], row[4] = centred(BOX), SCORE
    return row


def test_yolov5_face_decoded() -> None:
    row = row_of(16)
    row[4], row[15] = 0.95, SCORE / 0.95
    row[5:15] = POINTS.ravel()
    table = np.zeros((1, 30, 16))
    table[0, 7] = row
    assert_found("yolov5-face", [table], points=True)


def undecoded() -> list[Array]:
    """The face at stride 16, in the cell of its centre, by the second anchor; all else says no."""
    grids = [
        np.full((1, 3, 16, math.ceil(SIZE_HW[0] / s), math.ceil(SIZE_HW[1] / s)), -8.0)
        for s in (8, 16, 32)
    ]
    stride, anchor = 16, np.array(YOLOV5_FACE_ANCHORS[1][1], np.float64)
    centre = centred(BOX)
    col, row = (int(value // stride) for value in centre[:2])
    cell = np.array([col, row])
    numbers = np.zeros(16)
    numbers[0:2] = logit((centre[:2] / stride - cell + 0.5) / 2)
    numbers[2:4] = logit(np.sqrt(centre[2:] / anchor) / 2)
    numbers[4] = logit(0.95)
    numbers[15] = logit(SCORE / 0.95)
    numbers[5:15] = ((POINTS - cell * stride) / anchor).ravel()
    grids[1][0, 1, :, row, col] = numbers
    return grids


def test_yolov5_face_undecoded_in_each_shape() -> None:
    grids = undecoded()
    assert_found("yolov5-face", grids, points=True)
    flat = [grid.reshape(1, 48, *grid.shape[3:]) for grid in grids]
    assert_found("yolov5-face", flat, points=True)
    last = [grid.transpose(0, 1, 3, 4, 2) for grid in grids]
    assert_found("yolov5-face", last, points=True)


@pytest.mark.parametrize("columns", [5, 15, 20])
@pytest.mark.parametrize("swapped", [False, True])
def test_yolov8_with_and_without_points(columns: int, swapped: bool) -> None:
    row = row_of(columns)
    if columns > 5:
        row[5:] = np.column_stack([POINTS, np.ones((5, columns // 5 - 3))]).ravel()
    table = np.zeros((1, columns, 40))
    table[0, :, 3] = row
    assert_found("yolov8", [table.transpose(0, 2, 1) if swapped else table], points=columns > 5)


def test_units_of_boxes_and_points() -> None:
    """What Ultralytics' code exports to TensorFlow and TFLite has shares of the input."""
    row = row_of(20)
    row[5:] = np.column_stack([POINTS, np.ones((5, 1))]).ravel()
    table = np.zeros((1, 20, 40))
    table[0, :, 3] = row
    high, wide = HEAD.size_hw
    shares = table.copy()
    for column, side in ((0, wide), (1, high), (2, wide), (3, high)):
        shares[0, column] /= side
    shares[0, 5::3] /= wide
    shares[0, 6::3] /= high
    for kind, in_pixels, fractional in (
        ("yolov8", table, shares),
        ("yolov5-face", _as_yolov5(table), _as_yolov5(shares)),
    ):
        expected = HEADS[kind]([in_pixels], HEAD)
        found = HEADS[kind]([fractional], replace(HEAD, fractional=True))
        np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy)
        assert found.points_xy is not None
        assert expected.points_xy is not None
        np.testing.assert_allclose(found.points_xy, expected.points_xy)
        # The wrong unit gave a box of a fraction of a pixel, or one far outside, without a word.
        with pytest.raises(ModelError, match=r'in fractions of it: write units = "fractions" in'):
            HEADS[kind]([fractional], HEAD)
        with pytest.raises(ModelError, match=r'in pixels: leave units = "fractions" out'):
            HEADS[kind]([in_pixels], replace(HEAD, fractional=True))


def _as_yolov5(table: Array) -> Array:
    """Return a table of yolov8 (1, 20, n) as one of yolov5-face (1, n, 16)."""
    rows = table[0].T
    points = rows[:, 5:].reshape(-1, 5, 3)[:, :, :2].reshape(-1, 10)
    ones = np.ones((len(rows), 1))
    return np.concatenate([rows[:, :5], points, ones], axis=1)[None]


def test_ssd_and_its_empty_answer() -> None:
    table = np.zeros((1, 1, 5, 7))
    table[0, 0, :, 0] = -1
    assert len(HEADS["ssd"]([table], HEAD)) == 0
    high, wide = SIZE_HW
    table[0, 0, 0] = [0, 1, SCORE, *(BOX / (wide, high, wide, high))]
    assert_found("ssd", [table], points=False)


@pytest.mark.parametrize("logits", [False, True])
def test_ultraface_by_probabilities_and_by_logits(logits: bool) -> None:
    scores, boxes = np.tile([1.0, 0.0], (1, 50, 1)), np.zeros((1, 50, 4))
    scores[0, 9] = [1 - SCORE, SCORE]
    high, wide = SIZE_HW
    boxes[0, 9] = BOX / (wide, high, wide, high)
    if logits:
        scores = np.log(np.clip(scores, 1e-9, 1)) + 3.0
    assert_found("ultraface", [scores, boxes], points=False)


def test_retinaface_about_its_priors() -> None:
    priors = [
        (col * step + step / 2, row * step + step / 2, size)
        for step, sizes in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
        for row in range(math.ceil(SIZE_HW[0] / step))
        for col in range(math.ceil(SIZE_HW[1] / step))
        for size in sizes
    ]
    n, at = len(priors), 2 * (6 * 20 + 6) + 1  # row 6, column 6 at step 8, the larger size
    x, y, size = priors[at]
    assert (x, y, size) == (52.0, 52.0, 32)
    boxes, points = np.zeros((1, n, 4)), np.zeros((1, n, 10))
    centre = centred(BOX)
    boxes[0, at, :2] = (centre[:2] - (x, y)) / (0.1 * size)
    boxes[0, at, 2:] = np.log(centre[2:] / size) / 0.2
    points[0, at] = ((POINTS - (x, y)) / (0.1 * size)).ravel()
    scores = np.tile([1.0, 0.0], (1, n, 1))
    scores[0, at] = [1 - SCORE, SCORE]
    assert_found("retinaface", [boxes, scores, points], points=True)


@pytest.mark.parametrize(
    ("anchors", "batch", "kps"), [(2, True, True), (2, False, False), (1, True, True)]
)
def test_scrfd_distances_in_strides(anchors: int, batch: bool, kps: bool) -> None:
    outputs: list[Array] = []
    for stride in (8, 16, 32):
        rows, cols = (math.ceil(side / stride) for side in SIZE_HW)
        n = rows * cols * anchors
        score, box, near = np.zeros((n, 1)), np.zeros((n, 4)), np.zeros((n, 10))
        if stride == 16:
            at = (3 * cols + 3) * anchors + anchors - 1  # the cell whose corner is (48, 48)
            score[at] = SCORE
            box[at] = np.array([48 - BOX[0], 48 - BOX[1], BOX[2] - 48, BOX[3] - 48]) / stride
            near[at] = ((POINTS - 48) / stride).ravel()
        level = [score, box, near] if kps else [score, box]
        outputs += [value[None] for value in level] if batch else level
    assert_found("scrfd", outputs, points=kps)


def test_darknet_rows() -> None:
    table = np.zeros((10, 6))
    high, wide = SIZE_HW
    table[4] = [*(centred(BOX) / (wide, high, wide, high)), 0.95, SCORE]
    assert_found("darknet", [table], points=False)


WRONG: list[tuple[str, list[tuple[int, ...]]]] = [
    ("yolov5-face", [(1, 25200, 6)]),
    ("yolov5-face", [(1, 48, 16, 20), (1, 48, 8, 10)]),
    ("yolov8", [(1, 84, 8400)]),
    ("yolov8", [(1, 20, 8400), (1, 5, 10)]),
    ("yolov8-lite", [(1, 64, 16, 20)]),
    ("ssd", [(1, 100, 7)]),
    ("ultraface", [(1, 4420, 2)]),
    ("ultraface", [(1, 4420, 2), (1, 4420, 10)]),
    ("retinaface", [(1, 99, 4), (1, 99, 2), (1, 99, 10)]),
    ("scrfd", [(1, 320, 1), (1, 80, 1), (1, 20, 1)]),
    ("scrfd", [(321, 1), (80, 1), (20, 1), (321, 4), (80, 4), (20, 4)]),
    ("darknet", [(10, 85)]),
]


@pytest.mark.parametrize(("kind", "shapes"), WRONG)
def test_other_shapes_are_one_sentence_with_the_shapes(
    kind: str, shapes: list[tuple[int, ...]]
) -> None:
    with pytest.raises(ModelError) as error:
        HEADS[kind]([np.zeros(shape) for shape in shapes], HEAD)
    assert str(shapes[0][-1]) in str(error.value)
    assert "kind" in str(error.value)


def test_scores_that_are_no_probabilities() -> None:
    table = np.zeros((1, 5, 40))
    table[0, 4] = 300.0
    with pytest.raises(ModelError, match="scores run from 300 to 300, expected 0 to 1"):
        HEADS["yolov8"]([table], HEAD)
