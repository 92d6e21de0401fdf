"""From frames to crops: one warp per view cuts, rotates and resizes at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from agebench.errors import UsageError, suggestion
from agebench.types import Crops, CropSpec, FaceFrame, Floats, Image, Point, ViewSpec
from agebench.vision.frames import frame_box
from agebench.vision.opencv import cv2
from agebench.vision.regions import REGIONS, Patch

MIN_SIDE_PX = 1.0
"""A region with a shorter side than this contains no usable pixel: the view is missing."""

MAX_WARP_SIDE = 32766
"""Longest side for `cv2.warpAffine`, whose coordinates are 16-bit integers."""


ROUNDING = 1e-5
"""Tolerance for a patch to be inside of the picture: float32 has errors of up to 6e-7."""

UPRIGHT = 1e-9
"""A patch is upright if the sine of its roll is smaller."""


def view_patch(view: ViewSpec, frame: FaceFrame, size_hw: tuple[int, int]) -> Patch:
    """Return the rectangle that `view` shows: its region with margins, rotated or upright."""
    if view.region not in REGIONS:
        raise UsageError(f"unknown region {view.region!r}: {suggestion(view.region, REGIONS)}")
    region = REGIONS[view.region](frame, size_hw)
    return Patch(
        region.center_xy,
        region.width * (1 + 2 * view.margin) + 2 * view.margin_px,
        region.height * (1 + 2 * view.margin) + 2 * view.margin_px,
        region.roll_rad if view.align else 0.0,
    )


def _clip(patch: Patch, size_hw: tuple[int, int]) -> Patch | None:
    """Clip an upright patch to integer pixels inside the picture, like array slicing."""
    height, width = size_hw
    x, y = patch.center_xy
    # Pixel i covers i-0.5 to i+0.5, so an edge at e starts with pixel floor(e+0.5); Python's round
    # would round every second half down.
    left, right = (_within(x + s * patch.width / 2, width) for s in (-1, 1))
    top, bottom = (_within(y + s * patch.height / 2, height) for s in (-1, 1))
    if right <= left or bottom <= top:
        return None
    center = ((left + right - 1) / 2, (top + bottom - 1) / 2)
    return Patch(center, float(right - left), float(bottom - top))


def _cut_slice(image_bgr: Image, frame: FaceFrame, view: ViewSpec) -> Image | None:
    """Cut a detector's box exactly as OpenCV's tutorials do; None if it is empty.

    Its edges are rounded towards zero, `margin_px` is added, negative edges become 0, and edges
    outside become the last row or column, which is excluded; the rest is resized bilinearly in one
    step, however much it shrinks.
    """
    box = frame.box_xyxy or frame_box(frame)
    # Boxes are relative to pixel centres here, and to the first pixel's edge in the tutorials.
    left, top, right, bottom = (int(edge + 0.5) for edge in box)
    margin, (height, width) = int(view.margin_px), image_bgr.shape[:2]
    rows = slice(max(0, top - margin), max(0, min(bottom + margin, height - 1)))
    columns = slice(max(0, left - margin), max(0, min(right + margin, width - 1)))
    part = image_bgr[rows, columns]
    if part.size == 0:
        return None
    return np.asarray(
        cv2.resize(part, view.size_hw[::-1], interpolation=cv2.INTER_LINEAR), np.uint8
    )


def _within(edge: float, length: int) -> int:
    return max(0, min(length, math.floor(edge + 0.5)))


def _fraction_outside(patch: Patch, size_hw: tuple[int, int]) -> float:
    """Fraction of the patch outside of the picture, 0 to 1."""
    if _is_inside(patch, size_hw):
        return 0.0
    fraction = 1.0 - _area_inside(patch, size_hw) / (patch.width * patch.height)
    return min(1.0, fraction) if fraction > ROUNDING else 0.0


def _is_inside(patch: Patch, size_hw: tuple[int, int]) -> bool:
    """Return whether no corner of the patch is outside of the picture."""
    half_x, half_y = _half_extent(patch)
    (x, y), (height, width) = patch.center_xy, size_hw
    return (
        x - half_x >= -0.5
        and x + half_x <= width - 0.5
        and y - half_y >= -0.5
        and y + half_y <= height - 0.5
    )


def _half_extent(patch: Patch) -> tuple[float, float]:
    """Return half the width and height of the upright rectangle around the patch."""
    cos, sin = abs(math.cos(patch.roll_rad)), abs(math.sin(patch.roll_rad))
    half_x = (patch.width * cos + patch.height * sin) / 2
    return half_x, (patch.width * sin + patch.height * cos) / 2


def _area_inside(patch: Patch, size_hw: tuple[int, int]) -> float:
    height, width = size_hw
    if abs(math.sin(patch.roll_rad)) < UPRIGHT:
        x, y = patch.center_xy
        inside_x = min(width - 0.5, x + patch.width / 2) - max(-0.5, x - patch.width / 2)
        inside_y = min(height - 0.5, y + patch.height / 2) - max(-0.5, y - patch.height / 2)
        return max(0.0, inside_x) * max(0.0, inside_y)
    degrees = math.degrees(patch.roll_rad)
    corners = cv2.boxPoints((patch.center_xy, (patch.width, patch.height), degrees))
    picture = np.array(
        [(-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)],
        np.float32,
    )
    inside, _ = cv2.intersectConvexConvex(corners, picture)
    return float(inside)


_Row: TypeAlias = tuple[float, float, float]


def _rows(patch: Patch, size_hw: tuple[int, int]) -> tuple[_Row, _Row]:
    """Return the 2x3 affine map from crop pixels to picture pixels; arrays would take longer."""
    height, width = size_hw
    cos, sin = math.cos(patch.roll_rad), math.sin(patch.roll_rad)
    across, down = patch.width / width, patch.height / height
    (x, y), right, low = patch.center_xy, width - 1, height - 1
    x_across, y_across, x_down, y_down = cos * across, sin * across, -sin * down, cos * down
    return (
        (x_across, x_down, x - x_across * right / 2 - x_down * low / 2),
        (y_across, y_down, y - y_across * right / 2 - y_down * low / 2),
    )


def _halved(image_bgr: Image, by_yx: tuple[int, int], *, drop: bool) -> Image:
    """Divide height and width by 1 or 2; an odd last row or column is dropped or duplicated."""
    odd = [side % by for side, by in zip(image_bgr.shape[:2], by_yx, strict=True)]
    if any(odd) and not drop:
        image_bgr = np.pad(image_bgr, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
    height, width = (image_bgr.shape[axis] // by_yx[axis] for axis in (0, 1))
    even = image_bgr[: height * by_yx[0], : width * by_yx[1]]
    return np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _shrunk(
    image_bgr: Image, patch: Patch, size_hw: tuple[int, int], *, drop: bool
) -> tuple[Image, Point]:
    """Halve the picture until the warp shrinks it by less than 2, to prevent aliasing.

    For a stretched view the side that shrinks less decides.  Only the part around the patch is
    shrunk. Returns the picture and the factors applied to x and y, which only differ if one side of
    the picture is longer than OpenCV can warp.
    """
    factor = shrink_factor(patch, size_hw)
    scale_x = scale_y = 1.0
    while factor >= 2.0 and min(image_bgr.shape[:2]) >= 2:
        image_bgr = _halved(image_bgr, (2, 2), drop=drop)
        factor, scale_x, scale_y = factor / 2, scale_x / 2, scale_y / 2
    while max(image_bgr.shape[:2]) > MAX_WARP_SIDE:
        down, across = (1 + (side > MAX_WARP_SIDE) for side in image_bgr.shape[:2])
        image_bgr = _halved(image_bgr, (down, across), drop=drop)
        scale_x, scale_y = scale_x / across, scale_y / down
    return image_bgr, (scale_x, scale_y)


def shrink_factor(patch: Patch, size_hw: tuple[int, int]) -> float:
    """Return the number of picture pixels per crop pixel, along the side that shrinks less."""
    return min(patch.width / size_hw[1], patch.height / size_hw[0])


def window_of(
    patch: Patch, crop_hw: tuple[int, int], picture_hw: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the part of the picture that a patch needs: (left, top, right, bottom), integers.

    It includes two more pixels on every side, and at the end as many as halving may drop.
    """
    height, width = picture_hw
    spare = int(shrink_factor(patch, crop_hw))
    half_x, half_y = _half_extent(patch)
    x, y = patch.center_xy
    left, top = max(0, math.floor(x - (half_x + 2))), max(0, math.floor(y - (half_y + 2)))
    right = min(width, math.ceil(x + (half_x + 2)) + 1 + spare)
    bottom = min(height, math.ceil(y + (half_y + 2)) + 1 + spare)
    return left, top, right, bottom


def warp_matrix(
    patch: Patch, crop_hw: tuple[int, int], corner_xy: tuple[int, int], scale_xy: Point
) -> Floats:
    """Return the 2x3 map from crop pixels to pixels of a part of the picture after shrinking.

    Args:
        patch: in the picture.
        crop_hw: height and width of the crop.
        corner_xy: first pixel of the part.
        scale_xy: size of the part after shrinking over that before, in x and y.
    """
    rows = zip(_rows(patch, crop_hw), corner_xy, scale_xy, strict=True)
    # Pixel centres: a halved picture's pixel i covers the pixels 2i and 2i+1.
    return np.array(
        [
            (across * scale, down * scale, (origin - corner + 0.5) * scale - 0.5)
            for (across, down, origin), corner, scale in rows
        ]
    )


def cut_patch(
    image_bgr: Image,
    patch: Patch,
    size_hw: tuple[int, int],
    *,
    replicate: bool = True,
    into: Image | None = None,
) -> Image:
    """Cut, rotate and resize one patch to uint8 (height, width, 3).

    Outside of the picture the nearest edge pixel is repeated, or pixels are black if `replicate` is
    false.  Large regions are first halved by area averaging, then warped bilinearly. The result is
    written to `into`, a contiguous array, if there is one.
    """
    left, top, right, bottom = window_of(patch, size_hw, (image_bgr.shape[0], image_bgr.shape[1]))
    window = image_bgr[top:bottom, left:right]
    # Pixels at the picture's edge must not be mistaken for pixels outside, and be black.
    source, scale_xy = _shrunk(window, patch, size_hw, drop=replicate)
    crop = cv2.warpAffine(
        source,
        warp_matrix(patch, size_hw, (left, top), scale_xy),
        (size_hw[1], size_hw[0]),
        into,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT,
    )
    return np.asarray(crop, np.uint8)


@dataclass(frozen=True, slots=True)
class ViewPlace:
    """The position of a view in a picture.

    Attributes:
        patch: its rectangle.
        outside: fraction of it (0 to 1) outside of the picture.
        missing: whether it is smaller than a pixel, or too much of it is outside.
    """

    patch: Patch
    outside: float
    missing: bool

    def matrix(self, size_hw: tuple[int, int]) -> Floats:
        """Return the map from pixels of a crop of that size to picture pixels, float64 (2, 3)."""
        return np.array(_rows(self.patch, size_hw))


def patch_of(view: ViewSpec, place: ViewPlace, size_hw: tuple[int, int]) -> Patch | None:
    """Return the patch that is cut, clipped if its border says so; None if it is missing."""
    if place.missing:
        return None
    return _clip(place.patch, size_hw) if view.border == "clip" else place.patch


def place_view(view: ViewSpec, frame: FaceFrame, size_hw: tuple[int, int]) -> ViewPlace:
    """Return the position of a face's `view` in a picture of that height and width."""
    patch = view_patch(view, frame, size_hw)
    if min(patch.width, patch.height) < MIN_SIDE_PX:
        return ViewPlace(patch, 0.0, True)
    outside = _fraction_outside(patch, size_hw)
    return ViewPlace(patch, outside, outside >= 1.0 or outside > view.max_outside)


def _cut_view(
    image_bgr: Image, frame: FaceFrame, view: ViewSpec, pixels: Image
) -> tuple[bool, float]:
    """Cut a view into `pixels`; return whether it exists, and the fraction outside.

    The pixels of a missing view are left as they are.
    """
    size_hw = (image_bgr.shape[0], image_bgr.shape[1])
    place = place_view(view, frame, size_hw)
    if view.border == "slice":
        cut = None if place.missing else _cut_slice(image_bgr, frame, view)
        if cut is not None:
            pixels[:] = cut
        return cut is not None, place.outside
    patch = patch_of(view, place, size_hw)
    if patch is not None:
        replicate = view.border != "constant"
        cut_patch(image_bgr, patch, view.size_hw, replicate=replicate, into=pixels)
    return patch is not None, place.outside


def cut_crops(image_bgr: Image, frames: Sequence[FaceFrame], spec: CropSpec) -> Crops:
    """Cut the views of `spec` for each frame of one picture.

    Args:
        image_bgr: uint8 (height, width, 3).
        frames: the faces; without any, the crops have length 0.
        spec: the views.

    Returns:
        One entry per frame, in order.  A region that does not touch the picture, or is smaller than
        a pixel, is marked as missing and black.
    """
    views, present, outside = {}, {}, {}
    for name, view in spec.views.items():
        pixels = np.zeros((len(frames), *view.size_hw, 3), np.uint8)
        cut = [
            _cut_view(image_bgr, frame, view, face)
            for frame, face in zip(frames, pixels, strict=True)
        ]
        views[name] = pixels
        present[name] = np.array([exists for exists, _ in cut], np.bool_)
        outside[name] = np.array([fraction for _, fraction in cut], np.float64)
    return Crops(views, present, outside)


def cut_shared(
    image_bgr: Image, frames: Sequence[FaceFrame], specs: Sequence[CropSpec]
) -> list[Crops]:
    """Cut the crops of several estimators; equal specs share theirs (see `cut_crops`)."""
    done: list[tuple[CropSpec, Crops]] = []
    for spec in specs:
        if not any(known == spec for known, _ in done):
            done.append((spec, cut_crops(image_bgr, frames, spec)))
    return [next(crops for known, crops in done if known == spec) for spec in specs]
