"""Finds small faces in large pictures: detectors shrink their input, so parts are searched too.

A picture whose longer side is above `LARGE_PX` is searched as a whole, and in tiles that overlap by
more than the size of the faces found in them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from agebench.protocols import FaceDetector
from agebench.types import Box, Face, Image
from agebench.util.foreign_code import found_faces
from agebench.vision.frames import box_iou

LARGE_PX = 2560
"""Four times the input of `yolov8-face`, in which a face of 40 pixels has 10."""

TILE_PX = 1280
OVERLAP_PX = 400

LARGEST_PX = 320
"""Larger faces are those found in the whole picture."""

SAME_IOU = 0.3
"""IoU above which two boxes are the same face."""

_EDGE_PX = 2.0


def starts(length: int) -> list[int]:
    """Return the starts of tiles along a side, evenly spaced with enough overlap.

    >>> starts(1000), starts(2560)
    ([0], [0, 640, 1280])
    """
    if length <= TILE_PX:
        return [0]
    count = -(-(length - OVERLAP_PX) // (TILE_PX - OVERLAP_PX))
    return [round(place) for place in np.linspace(0, length - TILE_PX, count)]


def detect_in_tiles(detector: FaceDetector, image_bgr: Image) -> list[Face]:
    """Return the faces of a picture, best score first; large pictures are also searched in tiles.

    Args:
        detector: any; one for a fixed layout is only called once.
        image_bgr: uint8 (height, width, 3).
    """
    whole = found_faces(detector, image_bgr)
    if detector.spec.layout or max(image_bgr.shape[:2]) <= LARGE_PX:
        return whole
    # Best first, so that of two boxes of the same face the better one is kept.
    small = sorted(_in_tiles(detector, image_bgr), key=lambda face: -face.score)
    kept: list[Face] = []
    for face in [*small, *whole]:
        if not any(_same(face.box_xyxy, other.box_xyxy) for other in kept):
            kept.append(face)
    policy = detector.spec.settings.get("faces")
    if kept and policy == "largest":
        return [max(kept, key=lambda face: face.area)]
    best_first = sorted(kept, key=lambda face: -face.score)
    return best_first[:1] if policy == "best" else best_first


def _same(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and box_iou(first, second) > SAME_IOU


def _in_tiles(detector: FaceDetector, image_bgr: Image) -> Iterator[Face]:
    height, width = image_bgr.shape[:2]
    for top in starts(height):
        for left in starts(width):
            tile = np.ascontiguousarray(image_bgr[top : top + TILE_PX, left : left + TILE_PX])
            for face in found_faces(detector, tile):
                moved = _moved(face, left, top)
                if _is_whole(face.box_xyxy, (left, top), (width, height)):
                    yield moved


def _is_whole(box_xyxy: Box, at: tuple[int, int], picture_wh: tuple[int, int]) -> bool:
    """Return whether a face is small and not cut by its tile, except at the picture's own edge."""
    left, top, right, bottom = box_xyxy
    if max(right - left, bottom - top) > LARGEST_PX:
        return False
    inner_left, inner_top = at[0] > 0, at[1] > 0
    inner_right = at[0] + TILE_PX < picture_wh[0]
    inner_bottom = at[1] + TILE_PX < picture_wh[1]
    last = TILE_PX - 1 - _EDGE_PX
    return not (
        (inner_left and left < _EDGE_PX)
        or (inner_top and top < _EDGE_PX)
        or (inner_right and right > last)
        or (inner_bottom and bottom > last)
    )


def _moved(face: Face, by_x: int, by_y: int) -> Face:
    left, top, right, bottom = face.box_xyxy
    return Face(
        (left + by_x, top + by_y, right + by_x, bottom + by_y),
        face.score,
        tuple((x + by_x, y + by_y) for x, y in face.landmarks_xy),
        face.landmark_scheme,
    )
