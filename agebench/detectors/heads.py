"""From the outputs of other authors' face networks to boxes, scores and points.

One function per kind of head.  Outputs are identified by their shapes, since runtimes reorder and
rename them.  All return edge-based pixels of the network's input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy.special import expit, softmax

from agebench.detectors import yoloface_500k, yolov8_face
from agebench.detectors.common import Candidates
from agebench.errors import ModelError
from agebench.runtimes.base import Tensor
from agebench.types import Floats

Anchors = tuple[tuple[tuple[float, float], ...], ...]
"""Widths and heights of the anchors per stride, input pixels."""

YOLOV5_FACE_ANCHORS: Anchors = (
    ((4, 5), (8, 10), (13, 16)),
    ((23, 29), (43, 55), (73, 105)),
    ((146, 217), (231, 300), (335, 433)),
)
"""Of yolov5s-face, yolov5n-face and yolov5n-0.5 at strides 8, 16 and 32
(github.com/deepcam-cn/yolov5-face, models/*.yaml)."""

RETINAFACE_SIZES = ((16, 32), (64, 128), (256, 512))
RETINAFACE_STEPS = (8, 16, 32)
RETINAFACE_VARIANCES = (0.1, 0.2)
"""Of both published networks (github.com/biubug6/Pytorch_Retinaface, data/config.py)."""

SCORE_SLACK = 1e-3
"""Tolerance for scores outside of 0 to 1, as in half precision."""

MAX_FRACTION = 2.0
"""Centres of boxes up to here are fractions of the input; larger ones are pixels."""

_YOLOV5_COLUMNS = 16


@dataclass(frozen=True, slots=True)
class Head:
    """Parameters of a decoder besides the outputs.

    Attributes:
        size_hw: height and width of the network's input, pixels.
        confidence: faces with a lower score are dropped.
        anchors: of yolov5-face's undecoded outputs, the finest stride first.
        fractional: boxes and points of yolov5-face and yolov8 are fractions of the input, not
            pixels, as in networks that Ultralytics' code exported to TensorFlow or TFLite.
    """

    size_hw: tuple[int, int]
    confidence: float
    anchors: Anchors = YOLOV5_FACE_ANCHORS
    fractional: bool = False


Outputs = Sequence[Tensor]
Decoder = Callable[[Outputs, Head], Candidates]


def _refuse(kind: str, expected: str, outputs: Outputs) -> ModelError:
    shapes = ", ".join(str(tuple(value.shape)) for value in outputs) or "none"
    return ModelError(
        f'output.kind = "{kind}" expects {expected}, the network gave {shapes}: is the kind wrong?'
    )


def _chosen(boxes_xyxy: Floats, scores: Floats, points_xy: Floats | None, head: Head) -> Candidates:
    """Return the faces with a sufficient score.

    Raises:
        ModelError: the scores are not probabilities.
    """
    if len(scores) and not (scores.min() >= -SCORE_SLACK and scores.max() <= 1.0 + SCORE_SLACK):
        raise ModelError(
            f"scores run from {scores.min():.3g} to {scores.max():.3g}, expected 0 to 1: the kind "
            "of output or the scale of the input does not fit this model"
        )
    return Candidates(boxes_xyxy, scores, points_xy).take(scores >= head.confidence)


def _centred(rows: Floats) -> Floats:
    """Convert centre, width and height (n, 4) to left, top, right and bottom."""
    halves = rows[:, 2:4] / 2
    return np.concatenate([rows[:, :2] - halves, rows[:, :2] + halves], axis=1)


def _of_all_cells(rows: Floats, scores: Floats, points_xy: Floats | None, head: Head) -> Candidates:
    """Return the faces with a sufficient score, of a table with one row for every cell.

    Args:
        rows: centre, width and height, in input pixels or as fractions of the input, (n, 4).
        scores: (n,).
        points_xy: (n, 5, 2), in the same unit; or None.
        head: with the unit.

    Raises:
        ModelError: the scores are not probabilities, or the unit is wrong.
    """
    found = _chosen(_centred(rows), scores, points_xy, head)
    reach = rows[:, :2].max(initial=0.0)
    if head.fractional != (reach <= MAX_FRACTION) and len(rows):
        wanted = "leave" if head.fractional else "write"
        unit = "pixels" if head.fractional else "fractions of it"
        raise ModelError(
            f"its boxes lie all over the input and their centres reach {reach:.3g}, so they are in "
            f'{unit}: {wanted} units = "fractions" {"out" if head.fractional else "in [output]"}'
        )
    if not head.fractional:
        return found
    wide_high = np.array(head.size_hw[::-1], np.float64)
    points = None if found.points_xy is None else found.points_xy * wide_high
    return Candidates(found.boxes_xyxy * np.tile(wide_high, 2), found.scores, points)


def yolov5_face(outputs: Outputs, head: Head) -> Candidates:
    """Decode yolov5-face: rows of box, objectness, five points and class score.

    Either one table (1, n, 16) that the network has decoded, or per stride an undecoded output,
    (1, 48, rows, cols) or (1, 3, 16, rows, cols), with anchors.  Undecoded, boxes are as in
    YOLOv5, and a point is ``value * anchor + cell * stride``
    (github.com/deepcam-cn/yolov5-face, models/yolo.py).

    Raises:
        ModelError: the outputs have other shapes.
    """
    tables = [value for value in outputs if value.ndim == 3 and value.shape[2] == _YOLOV5_COLUMNS]
    raw = [grid for value in outputs if (grid := _anchor_grid(value, head)) is not None]
    if len(tables) == 1 and tables[0].shape[0] == 1:
        rows = tables[0][0].astype(np.float64)
    elif len(raw) == len(outputs) == len(head.anchors):
        ordered = sorted(raw, key=lambda grid: -grid.shape[1])
        cells = [
            _undecoded(grid, anchors, head.size_hw)
            for grid, anchors in zip(ordered, head.anchors, strict=True)
        ]
        rows = np.concatenate(cells)
    else:
        many = len(head.anchors)
        expected = f"one output (1, n, 16), or {many} of (1, 48, rows, cols)"
        raise _refuse("yolov5-face", expected, outputs)
    scores = rows[:, 4] * rows[:, 15]
    return _of_all_cells(rows[:, :4], scores, rows[:, 5:15].reshape(-1, 5, 2), head)


def _anchor_grid(value: Tensor, head: Head) -> Tensor | None:
    """Return an undecoded output as (anchors, rows, cols, 16); None for another shape."""
    each = len(head.anchors[0])
    if value.ndim == 4 and value.shape[:2] == (1, each * _YOLOV5_COLUMNS):
        rows, cols = value.shape[2:]
        return np.asarray(value).reshape(each, _YOLOV5_COLUMNS, rows, cols).transpose(0, 2, 3, 1)
    if value.ndim == 5 and value.shape[:3] == (1, each, _YOLOV5_COLUMNS):
        return np.asarray(value[0].transpose(0, 2, 3, 1))
    if value.ndim == 5 and value.shape[:2] == (1, each) and value.shape[4] == _YOLOV5_COLUMNS:
        return np.asarray(value[0])
    return None


def _undecoded(
    grid: Tensor, anchors: Sequence[tuple[float, float]], size_hw: tuple[int, int]
) -> Floats:
    _each, rows, cols, _columns = grid.shape
    stride = size_hw[0] / rows
    values = grid.astype(np.float64)
    cells = np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), axis=2)[None].astype(np.float64)
    sides = np.asarray(anchors, np.float64)[:, None, None, :]
    activated = expit(values)
    decoded = activated.copy()
    decoded[..., 0:2] = (activated[..., 0:2] * 2 - 0.5 + cells) * stride
    decoded[..., 2:4] = (activated[..., 2:4] * 2) ** 2 * sides
    for first in range(5, 15, 2):
        decoded[..., first : first + 2] = values[..., first : first + 2] * sides + cells * stride
    return decoded.reshape(-1, _YOLOV5_COLUMNS)


def yolov8(outputs: Outputs, head: Head) -> Candidates:
    """Decode YOLOv8 and YOLO11: one output (1, 5, n), or with points (1, 15, n) or (1, 20, n).

    Columns are centre, width, height in input pixels (or fractions of the input, see `Head`), the
    score, and five points as (x, y) or (x, y, visibility).  The last two axes may be swapped.

    Raises:
        ModelError: the output has another shape.
    """
    if len(outputs) != 1 or outputs[0].ndim != 3 or outputs[0].shape[0] != 1:
        raise _refuse("yolov8", "one output (1, 5, n), (1, 15, n) or (1, 20, n)", outputs)
    table = outputs[0][0]
    if table.shape[0] not in (5, 15, 20) or table.shape[1] in (5, 15, 20):
        table = table.T
    if table.shape[0] not in (5, 15, 20):
        raise _refuse("yolov8", "one class: (1, 5, n), (1, 15, n) or (1, 20, n)", outputs)
    rows = table.T.astype(np.float64)
    points = None
    if rows.shape[1] > 5:
        points = rows[:, 5:].reshape(len(rows), 5, -1)[:, :, :2]
    return _of_all_cells(rows[:, :4], rows[:, 4], points, head)


def yolov8_lite(outputs: Outputs, head: Head) -> Candidates:
    """Decode YOLOv8-lite's three outputs (1, 80, rows, cols); see `yolov8_face.decode`."""
    named = {str(index): value for index, value in enumerate(outputs)}
    return yolov8_face.decode(named, head.size_hw[0], head.confidence)


def darknet(outputs: Outputs, head: Head) -> Candidates:
    """Decode Darknet's rows of one class; see `yoloface_500k.decode`."""
    return yoloface_500k.decode(outputs, head.size_hw, head.confidence)


def ssd(outputs: Outputs, head: Head) -> Candidates:
    """Decode Caffe's and TensorFlow's DetectionOutput (1, 1, n, 7).

    Rows are image, class, score, and left, top, right and bottom as fractions of the input.

    Raises:
        ModelError: the output has another shape.
    """
    if len(outputs) != 1 or outputs[0].ndim != 4 or outputs[0].shape[3] != 7:
        raise _refuse("ssd", "one output (1, 1, n, 7)", outputs)
    rows = outputs[0].reshape(-1, 7).astype(np.float64)
    rows = rows[rows[:, 0] >= 0]  # an empty result is one row of image -1
    high, wide = head.size_hw
    return _chosen(rows[:, 3:7] * (wide, high, wide, high), rows[:, 2], None, head)


def _scores_of_two(value: Tensor) -> Floats:
    """Return the face's probability of (n, 2) rows of background and face."""
    rows = value.astype(np.float64)
    sums = rows.sum(axis=1)
    if not (rows.min() >= -SCORE_SLACK and np.abs(sums - 1).max() < 1e-2):
        rows = softmax(rows, axis=1)
    scores: Floats = rows[:, 1]
    return scores


def ultraface(outputs: Outputs, head: Head) -> Candidates:
    """Decode Ultra-Light-Fast (version-RFB, version-slim): scores (1, n, 2), boxes (1, n, 4).

    Boxes are left, top, right and bottom as fractions of the input.

    Raises:
        ModelError: the outputs have other shapes.
    """
    by_width = {value.shape[2]: value[0] for value in outputs if value.ndim == 3}
    if len(outputs) != 2 or by_width.keys() != {2, 4} or len(by_width[2]) != len(by_width[4]):
        raise _refuse("ultraface", "scores (1, n, 2) and boxes (1, n, 4)", outputs)
    high, wide = head.size_hw
    boxes = by_width[4].astype(np.float64) * (wide, high, wide, high)
    return _chosen(boxes, _scores_of_two(by_width[2]), None, head)


def retinaface(outputs: Outputs, head: Head) -> Candidates:
    """Decode RetinaFace: boxes (1, n, 4), scores (1, n, 2) and points (1, n, 10) about priors.

    Raises:
        ModelError: the outputs have other shapes, or n is not that of the priors.
    """
    by_width = {value.shape[2]: value[0] for value in outputs if value.ndim == 3}
    priors = _priors(head.size_hw)
    fits = by_width.keys() == {2, 4, 10} and all(len(v) == len(priors) for v in by_width.values())
    if len(outputs) != 3 or not fits:
        n = len(priors)
        expected = f"(1, {n}, 4), (1, {n}, 2) and (1, {n}, 10) for an input of "
        raise _refuse("retinaface", expected + f"{head.size_hw[1]}x{head.size_hw[0]}", outputs)
    boxes, points = by_width[4].astype(np.float64), by_width[10].astype(np.float64)
    near, size = RETINAFACE_VARIANCES
    centres = priors[:, :2] + boxes[:, :2] * near * priors[:, 2:]
    sides = priors[:, 2:] * np.exp(np.clip(boxes[:, 2:] * size, -20.0, 20.0))
    places = priors[:, None, :2] + points.reshape(-1, 5, 2) * near * priors[:, None, 2:]
    return _chosen(
        _centred(np.concatenate([centres, sides], axis=1)),
        _scores_of_two(by_width[2]),
        places,
        head,
    )


def _priors(size_hw: tuple[int, int]) -> Floats:
    """Return centre x, y, width and height of each prior, input pixels, in RetinaFace's order."""
    parts = []
    for step, sizes in zip(RETINAFACE_STEPS, RETINAFACE_SIZES, strict=True):
        rows, cols = (math.ceil(side / step) for side in size_hw)
        y, x = np.mgrid[:rows, :cols].astype(np.float64)
        centres = np.repeat(np.stack([x, y], axis=2).reshape(-1, 2) + 0.5, len(sizes), axis=0)
        sides = np.tile(np.asarray(sizes, np.float64), rows * cols)
        parts.append(np.column_stack([centres * step, sides, sides]))
    return np.concatenate(parts)


def scrfd(outputs: Outputs, head: Head) -> Candidates:
    """Decode SCRFD: per stride scores (n, 1), distances (n, 4) and, with points, (n, 10).

    Distances to left, top, right and bottom, and the points, count in strides from the cell's
    corner (github.com/deepinsight/insightface, detection/scrfd).  A leading axis of 1 is allowed.

    Raises:
        ModelError: the outputs have other shapes.
    """
    tables = [value[0] if value.ndim == 3 and len(value) == 1 else value for value in outputs]
    by_width: dict[int, list[Tensor]] = {1: [], 4: [], 10: []}
    for value in tables:
        by_width.get(value.shape[1] if value.ndim == 2 else 0, []).append(value)
    for column in by_width.values():
        column.sort(key=lambda value: -len(value))
    scores, boxes, points = by_width[1], by_width[4], by_width[10]
    levels = len(scores)
    shape = len(boxes) == levels and len(points) in (0, levels) and levels in (3, 5)
    if not shape or levels * (2 + bool(points)) != len(outputs):
        raise _refuse("scrfd", "per stride (n, 1), (n, 4) and perhaps (n, 10)", outputs)
    parts = []
    for level, stride in enumerate(8 * 2**at for at in range(levels)):
        cells = _cells(head.size_hw, stride, len(scores[level]), outputs)
        sides = boxes[level].astype(np.float64) * stride
        box = np.concatenate([cells - sides[:, :2], cells + sides[:, 2:]], axis=1)
        near = None
        if points:
            near = cells[:, None] + points[level].astype(np.float64).reshape(-1, 5, 2) * stride
        parts.append(_chosen(box, scores[level][:, 0].astype(np.float64), near, head))
    return Candidates.join(parts)


def _cells(size_hw: tuple[int, int], stride: int, count: int, outputs: Outputs) -> Floats:
    """Return the corner of each of `count` anchors' cells, input pixels."""
    rows, cols = (math.ceil(side / stride) for side in size_hw)
    each, rest = divmod(count, rows * cols)
    if rest or not each:
        expected = f"a whole number of anchors for {rows} x {cols} cells at stride {stride}"
        raise _refuse("scrfd", expected, outputs)
    y, x = np.mgrid[:rows, :cols].astype(np.float64)
    return np.repeat(np.stack([x, y], axis=2).reshape(-1, 2) * stride, each, axis=0)


HEADS: Mapping[str, Decoder] = MappingProxyType(
    {
        "darknet": darknet,
        "retinaface": retinaface,
        "scrfd": scrfd,
        "ssd": ssd,
        "ultraface": ultraface,
        "yolov5-face": yolov5_face,
        "yolov8": yolov8,
        "yolov8-lite": yolov8_lite,
    }
)
"""Decoders by the name that a spec file gives as output.kind."""
