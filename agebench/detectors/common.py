"""Common code of detectors: option checks, letterboxing, NMS, and which faces are kept.

Networks count coordinates from the outer edge of the first pixel; the project counts from its
centre (`agebench.types`).  `Placement.to_picture` is the only place where half a pixel is
subtracted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from agebench.errors import UsageError
from agebench.types import FIVE_POINTS, Face, Floats, Image
from agebench.vision.opencv import cv2

FacePolicy: TypeAlias = Literal["all", "largest", "best"]
"""Which of a picture's faces are kept; the largest by its box, the best by its score."""

PadMode: TypeAlias = float | Literal["auto"]
"""Free space around the picture, as fractions of its sides; "auto" adds it if necessary."""

RETRY_PADS = (0.5, 1.0)
"""Free space on every side in the further passes of ``pad="auto"``, as fractions of the picture.

The second is only tried if nothing was found before.
"""

FILLS = 0.4
"""Boxes at least this tall, as a fraction of the input's height, cause a second pass.

On FG-NET, yolov8-face misplaces eye points by over a quarter of the eye distance in no picture
below this, in 0 to 3 % of them up to 0.7, in 11 % up to 0.8 and in all 9 above.
"""

ELSEWHERE = 0.1
"""A large box whose IoU with all boxes of the second pass is below this is another face."""

MAX_PAD = 2.0

UNMEASURED = (
    "its boxes are not measured and assumed to extend from forehead to chin: "
    "'agebench fit-frame' measures them"
)
"""Note of a detector without landmarks whose `BoxToFrame` was never measured."""

MAX_INPUT_SIDE = 8192
"""Larger inputs are refused: one of 8192x8192 takes 800 MB."""

_SIZE = re.compile(r"^(\d{1,6})(?:[xX](\d{1,6}))?$")


def _is_number(value: object, *kinds: type) -> bool:
    """Return whether a value from Python code is a number of these kinds, not a boolean."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def check_fraction(detector: str, option: str, value: float, *, high: float = 1.0) -> float:
    """Return `value` as a float if it is a number from 0 to `high`.

    Raises:
        UsageError: it is not.
    """
    if not (_is_number(value, int, float) and math.isfinite(value) and 0.0 <= value <= high):
        raise UsageError(
            f"option {option} of {detector!r} must be a number from 0 to {high:g}, got {value!r}"
        )
    return float(value)


def check_count(detector: str, option: str, value: int, *, low: int, high: int) -> int:
    """Return `value` if it is an integer from `low` to `high`.

    Raises:
        UsageError: it is not.
    """
    if not (_is_number(value, int) and low <= value <= high):
        raise UsageError(
            f"option {option} of {detector!r} must be an integer from {low} to {high}, "
            f"got {value!r}"
        )
    return value


def check_pad(detector: str, pad: PadMode) -> PadMode:
    """Return `pad` if it is "auto" or a number from 0 to `MAX_PAD`.

    Raises:
        UsageError: it is not.
    """
    if pad == "auto":
        return "auto"
    return check_fraction(detector, "pad", pad, high=MAX_PAD)


def check_choice(detector: str, option: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuse a `value` that is not one of `choices`.

    Raises:
        UsageError: it is none of them.
    """
    if value not in choices:
        known = ", ".join(map(str, choices))
        raise UsageError(f"option {option} of {detector!r} must be one of {known}, got {value!r}")


def check_faces(detector: str, faces: FacePolicy) -> FacePolicy:
    """Return `faces` if it is a known policy.

    Raises:
        UsageError: it is not.
    """
    check_choice(detector, "faces", faces, get_args(FacePolicy))
    return faces


def check_input_size(detector: str, size: int | str, *, multiple: int = 32) -> tuple[int, int]:
    """Return (height, width) of a network's input from ``640`` or ``"352x288"`` (width first).

    Raises:
        UsageError: it is not a size, not a multiple of `multiple`, or above `MAX_INPUT_SIDE`.
    """
    match = None if isinstance(size, bool) else _SIZE.match(str(size))
    if match is not None:
        width = int(match[1])
        height = int(match[2] or width)
        if all(0 < side <= MAX_INPUT_SIDE and side % multiple == 0 for side in (width, height)):
            return height, width
    raise UsageError(
        f"option size of {detector!r} must be N or WIDTHxHEIGHT in pixels, multiples of {multiple} "
        f"up to {MAX_INPUT_SIDE}, got {size!r}"
    )


def check_picture(image_bgr: Image) -> Image:
    """Return the picture as a contiguous array for OpenCV, copied only if necessary.

    Raises:
        UsageError: it is not uint8 of shape (height, width, 3), or it is empty.
    """
    fits = image_bgr.ndim == 3 and image_bgr.shape[2] == 3 and image_bgr.dtype == np.uint8
    if not fits or image_bgr.size == 0:
        raise UsageError(
            "expected a uint8 picture of shape (height, width, 3) with at least 1x1 pixel, "
            f"got {image_bgr.dtype} {image_bgr.shape}"
        )
    return np.ascontiguousarray(image_bgr)


@dataclass(frozen=True, slots=True)
class Placement:
    """The position of a picture in a network's input.

    Attributes:
        scale_xy: input pixels per picture pixel, across and down.
        offset_xy: the picture's top-left corner, input pixels.
    """

    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float] = (0.0, 0.0)

    def to_picture(self, points_xy: Floats) -> Floats:
        """Map points (..., 2) from the input's edge-based to the picture's pixel coordinates."""
        mapped: Floats = (points_xy - np.array(self.offset_xy)) / np.array(self.scale_xy) - 0.5
        return mapped


def resize(image_bgr: Image, size_hw: tuple[int, int]) -> Image:
    """Resize to (height, width): averaging areas where it shrinks, bilinear where it grows."""
    height, width = size_hw
    if image_bgr.shape[:2] == (height, width):
        return image_bgr
    shrinks = height * width < image_bgr.shape[0] * image_bgr.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image_bgr, (width, height), interpolation=how), np.uint8)


def stretch(image_bgr: Image, size_hw: tuple[int, int]) -> tuple[Image, Placement]:
    """Resize the picture to (height, width), ignoring its aspect ratio."""
    height, width = image_bgr.shape[:2]
    return resize(image_bgr, size_hw), Placement((size_hw[1] / width, size_hw[0] / height))


def fit(
    image_bgr: Image, size_hw: tuple[int, int], *, pad: float = 0.0, keep_aspect: bool = True
) -> tuple[Image, Placement]:
    """Place the picture in the middle of a network's input, with a black border.

    Args:
        image_bgr: uint8 (height, width, 3).
        size_hw: height and width of the input.
        pad: free space on every side, as a fraction of the picture's side; 0.5 halves the picture.
        keep_aspect: letterbox; otherwise the picture is stretched to the input's aspect ratio.
    """
    height, width = image_bgr.shape[:2]
    down, across = (side / (1.0 + 2.0 * pad) for side in (size_hw[0] / height, size_hw[1] / width))
    if keep_aspect:
        down = across = min(down, across)
    inner_hw = (max(1, round(height * down)), max(1, round(width * across)))
    inner, placement = stretch(image_bgr, inner_hw)
    if inner_hw == size_hw:
        return inner, placement
    top, left = (size_hw[0] - inner_hw[0]) // 2, (size_hw[1] - inner_hw[1]) // 2
    canvas = np.zeros((*size_hw, 3), np.uint8)
    canvas[top : top + inner_hw[0], left : left + inner_hw[1]] = inner
    # Rounding to integers makes the two axes' scales slightly different, very different for 1xN.
    return canvas, Placement(placement.scale_xy, (float(left), float(top)))


def shrink(image_bgr: Image, longest: int) -> tuple[Image, Placement]:
    """Shrink the picture until its longer side is at most `longest` pixels."""
    height, width = image_bgr.shape[:2]
    scale = min(1.0, longest / max(height, width))
    return stretch(image_bgr, (max(1, round(height * scale)), max(1, round(width * scale))))


def to_blob(image_bgr: Image) -> npt.NDArray[np.float32]:
    """Return the picture as float32 (1, 3, height, width), R, G, B, 0 to 1."""
    return np.asarray(cv2.dnn.blobFromImage(image_bgr, 1.0 / 255.0, swapRB=True), np.float32)


def plain_blob(image_bgr: Image) -> npt.NDArray[np.float32]:
    """Return the picture as float32 (1, 3, height, width), B, G, R, 0 to 255."""
    return np.asarray(cv2.dnn.blobFromImage(image_bgr), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Faces as arrays, before and after non-maximum suppression.

    Attributes:
        boxes_xyxy: float64 (n, 4).
        scores: float64 (n,), 0 to 1.
        points_xy: float64 (n, 5, 2), or None for a detector without landmarks.
    """

    boxes_xyxy: Floats
    scores: Floats
    points_xy: Floats | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: npt.NDArray[Any]) -> Candidates:
        """Return some of them, by index or mask."""
        points = None if self.points_xy is None else self.points_xy[index]
        return Candidates(self.boxes_xyxy[index], self.scores[index], points)

    def placed(self, placement: Placement) -> Candidates:
        """Return them in the picture's pixels."""
        boxes = placement.to_picture(self.boxes_xyxy.reshape(-1, 2, 2)).reshape(-1, 4)
        points = None if self.points_xy is None else placement.to_picture(self.points_xy)
        return Candidates(boxes, self.scores, points)

    @staticmethod
    def join(parts: Sequence[Candidates]) -> Candidates:
        """Return one with the faces of all `parts`, in order; all or none have points."""
        points = [part.points_xy for part in parts if part.points_xy is not None]
        return Candidates(
            np.concatenate([part.boxes_xyxy for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate(points) if points else None,
        )


def suppress(found: Candidates, overlap: float) -> Candidates:
    """Drop boxes that overlap a better one by an IoU above `overlap`; return the best score first.

    Boxes that are empty or not finite are dropped as well.
    """
    sizes = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
    # An empty box makes OpenCV's overlap 0/0.
    numbers = np.concatenate([found.boxes_xyxy, sizes], axis=1)
    if found.points_xy is not None:
        numbers = np.concatenate([numbers, found.points_xy.reshape(-1, 10)], axis=1)
    sound = np.flatnonzero(np.isfinite(numbers).all(axis=1) & (sizes > 0).all(axis=1))
    found, sizes = found.take(sound), sizes[sound]
    if not len(found):
        return found
    rectangles = np.concatenate([found.boxes_xyxy[:, :2], sizes], axis=1)
    kept = cv2.dnn.NMSBoxes(rectangles.tolist(), found.scores.tolist(), 0.0, overlap)
    return found.take(np.asarray(kept, np.intp).reshape(-1))


def overlaps(boxes_xyxy: Floats, others_xyxy: Floats) -> Floats:
    """Return the IoU of each of n boxes with each of m others, float64 (n, m).

    >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).round(3)
    array([[0.333, 0.   ]])
    """
    low = np.maximum(boxes_xyxy[:, None, :2], others_xyxy[None, :, :2])
    high = np.minimum(boxes_xyxy[:, None, 2:], others_xyxy[None, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=2)
    areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    other_areas = (others_xyxy[:, 2:] - others_xyxy[:, :2]).prod(axis=1)
    iou: Floats = shared / (areas[:, None] + other_areas[None] - shared)
    return iou


def merge(first: Candidates, second: Candidates, overlap: float) -> Candidates:
    """Add to `first` the faces of `second` that overlap none of them by over `overlap`."""
    if len(first) and len(second):
        second = second.take(overlaps(second.boxes_xyxy, first.boxes_xyxy).max(axis=1) <= overlap)
    return Candidates.join([first, second])


def find_twice(
    look_once: Callable[[float], Candidates], pad: PadMode, full_height: float, overlap: float
) -> Candidates:
    """Find faces, and with ``pad="auto"`` search again if a face is large or none was found.

    Small faces are those of the first pass; large ones are replaced by those of the second, except
    where it found nothing.

    Args:
        look_once: returns the faces, in the picture's pixels, for a free space around it (as for
            `fit`).
        pad: that free space, or "auto".
        full_height: picture pixels that fill the input's height.
        overlap: IoU above which faces of two passes are the same.
    """
    if pad != "auto":
        return look_once(pad)
    found = look_once(0.0)
    large = found.boxes_xyxy[:, 3] - found.boxes_xyxy[:, 1] >= FILLS * full_height
    if len(found) and not large.any():
        return found
    for space in RETRY_PADS:
        again = look_once(space)
        if len(again):
            both = merge(found.take(~large), again, overlap)
            return merge(both, found.take(large), ELSEWHERE)
    return found


def to_faces(found: Candidates, policy: FacePolicy) -> list[Face]:
    """Return the faces that `policy` keeps, best score first, in stable order."""
    order = np.argsort(-found.scores, kind="stable")
    if policy == "largest" and len(found):
        sizes = found.boxes_xyxy[order, 2:] - found.boxes_xyxy[order, :2]
        order = order[[int(np.argmax(sizes.prod(axis=1)))]]
    elif policy == "best":
        order = order[:1]
    points = None if found.points_xy is None else found.points_xy[order].tolist()
    boxes, scores = found.boxes_xyxy[order].tolist(), found.scores[order].tolist()
    return [
        Face(
            (left, top, right, bottom),
            min(1.0, max(0.0, score)),
            tuple((x, y) for x, y in points[index]) if points else (),
            FIVE_POINTS if points else "",
        )
        for index, ((left, top, right, bottom), score) in enumerate(zip(boxes, scores, strict=True))
    ]
