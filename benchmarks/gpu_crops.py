"""The crops of many pictures at once, on a device: the same pixels as `vision.crops` cuts.

A GPU that waits for a processor to cut crops is idle most of the time.  Here the pictures go over
as they are, and every view of all faces is cut by one call, in the same arithmetic as OpenCV's
``warpAffine``: positions in 1/32 of a pixel, products in whole numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agebench.errors import UsageError
from agebench.types import CropSpec, FaceFrame, ViewSpec
from agebench.vision.crops import (
    MAX_WARP_SIDE,
    patch_of,
    place_view,
    shrink_factor,
    warp_matrix,
    window_of,
)

_FRACTION = 32
"""Steps between two pixels in which OpenCV interpolates (INTER_TAB_SIZE)."""
_FIXED = 1024
"""Steps in which it adds up positions (AB_SCALE)."""


@dataclass(frozen=True, slots=True, eq=False)
class DeviceCrops:
    """The views of n faces on a device.

    Attributes:
        views: uint8 (n, 3, height, width), B, G, R, by name; black where missing.
        present: bool (n,), on the device, by name.
    """

    views: Mapping[str, Tensor]
    present: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class _Cut:
    """How one view of one face is cut: from a window, halved so many times, by a matrix."""

    window: tuple[int, int, int, int]
    halvings: int
    matrix: npt.NDArray[np.float64]


def _cut_of(view: ViewSpec, frame: FaceFrame, picture_hw: tuple[int, int]) -> _Cut | None:
    patch = patch_of(view, place_view(view, frame, picture_hw), picture_hw)
    if patch is None:
        return None
    left, top, right, bottom = window_of(patch, view.size_hw, picture_hw)
    factor, halvings, shortest = (
        shrink_factor(patch, view.size_hw),
        0,
        min(right - left, bottom - top),
    )
    while factor >= 2.0 and shortest >> halvings >= 2:
        factor, halvings = factor / 2, halvings + 1
    scale = 0.5**halvings
    matrix = warp_matrix(patch, view.size_hw, (left, top), (scale, scale))
    if not halvings:  # cut from the whole picture, so that all faces' windows are of one size
        matrix[:, 2] += (left, top)
        return _Cut((0, 0, picture_hw[1], picture_hw[0]), 0, matrix)
    return _Cut((left, top, right, bottom), halvings, matrix)


def _positions(
    matrices: Sequence[npt.NDArray[np.float64]], size_hw: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return x and y of every crop pixel in 1/32 source pixels, int32 (n, height, width)."""
    table = np.stack(matrices)
    rows, columns = (np.arange(side, dtype=np.float64) for side in size_hw)
    across = np.rint(table[:, :, :1] * columns * _FIXED).astype(np.int32)
    down = np.rint((table[:, :, 1:2] * rows + table[:, :, 2:]) * _FIXED).astype(np.int32)
    down += _FIXED // _FRACTION // 2
    steps = torch.from_numpy(across).to(device)[:, :, None, :]
    starts = torch.from_numpy(down).to(device)[:, :, :, None]
    found = (starts + steps) >> 5
    return found[:, 0], found[:, 1]


def warp_exactly(
    sources: Tensor, matrices: Sequence[npt.NDArray[np.float64]], size_hw: tuple[int, int]
) -> Tensor:
    """Cut crops as ``cv2.warpAffine`` does, bilinearly; beyond the border the edge is repeated.

    Args:
        sources: uint8 (n, height, width, 3).
        matrices: n maps (2, 3) from crop pixels to source pixels.
        size_hw: height and width of the crops.

    Returns:
        uint8 (n, 3, height, width).
    """
    count, height, width, _ = sources.shape
    x, y = _positions(matrices, size_hw, sources.device)
    picture = torch.arange(count, device=sources.device)[:, None, None]
    total = torch.zeros((count, *size_hw, 3), dtype=torch.int32, device=sources.device)
    right, low = (x & 31)[..., None], (y & 31)[..., None]
    for down in (0, 1):
        for across in (0, 1):
            rows = ((y >> 5) + down).clamp(0, height - 1)
            columns = ((x >> 5) + across).clamp(0, width - 1)
            weight = (right if across else 32 - right) * (low if down else 32 - low)
            total += sources[picture, rows, columns].int() * weight
    return ((total + 512) >> 10).to(torch.uint8).permute(0, 3, 1, 2)


def _halved(window: Tensor, times: int) -> Tensor:
    """Average two by two, as ``cv2.INTER_AREA``; an odd last row or column is dropped."""
    for _ in range(times):
        height, width = (side // 2 * 2 for side in window.shape[:2])
        even = window[:height, :width].int()
        total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
        window = ((total + 2) >> 2).to(torch.uint8)
    return window


def _padded(window: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Repeat the last row and column up to a size."""
    rows, columns = (
        torch.arange(side, device=window.device).clamp(max=own - 1)
        for side, own in zip(size_hw, window.shape[:2], strict=True)
    )
    return window[rows][:, columns]


def _sources(pictures: Tensor, cuts: Sequence[tuple[int, _Cut]]) -> Tensor:
    """Return what each face's crop is cut from, padded to one size."""
    if not any(cut.halvings for _, cut in cuts):
        faces = torch.tensor([face for face, _ in cuts], device=pictures.device)
        return pictures if len(cuts) == len(pictures) else pictures[faces]
    windows = []
    for face, cut in cuts:
        left, top, right, bottom = cut.window
        windows.append(_halved(pictures[face, top:bottom, left:right], cut.halvings))
    size = tuple(max(window.shape[axis] for window in windows) for axis in (0, 1))
    return torch.stack([_padded(window, (size[0], size[1])) for window in windows])


def cut_on_device(pictures: Tensor, frames: Sequence[FaceFrame], spec: CropSpec) -> DeviceCrops:
    """Cut the views of one face in each of n pictures.

    Args:
        pictures: uint8 (n, height, width, 3), B, G, R, on the device; of one size.
        frames: the face of each.
        spec: the views.

    Returns:
        The same pixels as `agebench.vision.crops.cut_crops`, on the device.

    Raises:
        UsageError: a view has ``border="constant"`` or ``"slice"``, or the pictures are too large
            to warp.
    """
    height, width = int(pictures.shape[1]), int(pictures.shape[2])
    if max(height, width) > MAX_WARP_SIDE:
        raise UsageError(f"pictures of {width}x{height} pixels are too large to be cut on a device")
    views, present = {}, {}
    for name, view in spec.views.items():
        if view.border in {"constant", "slice"}:
            raise UsageError(f"border={view.border!r} is cut on the host: use cut_crops")
        found = [_cut_of(view, frame, (height, width)) for frame in frames]
        there = np.array([cut is not None for cut in found], np.bool_)
        cuts = [(face, cut) for face, cut in enumerate(found) if cut is not None]
        views[name] = _cut_view(pictures, cuts, view, len(frames))
        present[name] = torch.from_numpy(there).to(pictures.device)
    return DeviceCrops(views, present)


def _cut_view(
    pictures: Tensor, cuts: Sequence[tuple[int, _Cut]], view: ViewSpec, count: int
) -> Tensor:
    if not cuts:
        return torch.zeros((count, 3, *view.size_hw), dtype=torch.uint8, device=pictures.device)
    matrices = [cut.matrix for _, cut in cuts]
    crops = warp_exactly(_sources(pictures, cuts), matrices, view.size_hw)
    if len(cuts) == count:
        return crops
    whole = torch.zeros((count, 3, *view.size_hw), dtype=torch.uint8, device=pictures.device)
    whole[torch.tensor([face for face, _ in cuts], device=pictures.device)] = crops
    return whole
