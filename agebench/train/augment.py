"""Augmentation: warps and colour changes in batches on the device, slow filters on the host.

What is drawn for a person holds for all its views: they are turned, shifted, mirrored, tinted and
blurred together, as they are in a real photograph.  Only erasing is drawn per view.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from agebench.train.sections import LOW_RESOLUTIONS, AugmentSettings, FilterSettings
from agebench.types import Floats, Image
from agebench.vision.opencv import cv2

_GRAY = np.array([0.114, 0.587, 0.299])  # of B, G, R: ITU-R BT.601
_YIQ_OF_RGB = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_YIQ_OF_BGR = _YIQ_OF_RGB[:, ::-1].copy()
_BGR_OF_YIQ = np.linalg.inv(_YIQ_OF_BGR)
_YUV_ROWS = np.array([[0.114, 0.587, 0.299], [0.436, -0.289, -0.147], [-0.100, -0.515, 0.615]])


@dataclass(frozen=True, slots=True, eq=False)
class AugmentPlan:
    """The random parameters for the n pictures of a batch.

    Attributes:
        flipped: bool (n,).
        angles: float64 (n,), radians.
        scales: float64 (n,), factors.
        shifts: float64 (n, 2), frame heights.
        colours: float32 (n, 3, 4): matrix on B, G, R, and offset.
        low_resolution: int (n,): index into `LOW_RESOLUTIONS`, -1 for none.
        noise: float64 (n,): standard deviation, gray levels; 0 for none.
        keys: int64 (n,): seeds of per-pixel noise.
        erased: per view float64 (n, 4): left, top, right, bottom as fractions; all 0 for none.
    """

    flipped: npt.NDArray[np.bool_]
    angles: Floats
    scales: Floats
    shifts: Floats
    colours: npt.NDArray[np.float32]
    low_resolution: npt.NDArray[np.intp]
    noise: Floats
    keys: npt.NDArray[np.int64]
    erased: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.angles)

    def shard(self, rows: slice) -> AugmentPlan:
        """Return the plan of some rows."""
        return AugmentPlan(
            self.flipped[rows],
            self.angles[rows],
            self.scales[rows],
            self.shifts[rows],
            self.colours[rows],
            self.low_resolution[rows],
            self.noise[rows],
            self.keys[rows],
            {name: boxes[rows] for name, boxes in self.erased.items()},
        )


def _factors(rng: np.random.Generator, spread: float, count: int) -> Floats:
    """Draw factors between 1/(1+spread) and 1+spread, uniform on a logarithmic scale."""
    reach = math.log1p(spread)
    return np.exp(rng.uniform(-reach, reach, count))


def _colour_matrices(settings: AugmentSettings, rng: np.random.Generator, count: int) -> Floats:
    """Combine hue, saturation, channels, contrast and brightness to matrices (count, 3, 4)."""
    angle = np.radians(rng.uniform(-settings.hue_deg, settings.hue_deg, count))
    saturation = _factors(rng, settings.saturation, count)
    chroma = np.zeros((count, 3, 3))
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = np.cos(angle) * saturation
    chroma[:, 1, 2] = -np.sin(angle) * saturation
    chroma[:, 2, 1] = np.sin(angle) * saturation
    matrices = _BGR_OF_YIQ @ chroma @ _YIQ_OF_BGR
    offsets = np.zeros((count, 3))
    kind, channel = rng.random(count), rng.integers(0, 3, count)
    gray = kind < settings.gray
    matrices[gray] = np.tile(_GRAY, (3, 1))
    single = (kind >= settings.gray) & (kind < settings.gray + settings.single_channel)
    rows = np.eye(3) if settings.channel_space == "rgb" else _YUV_ROWS
    matrices[single] = np.repeat(rows[channel][single][:, None, :], 3, axis=1)
    if settings.channel_space == "yuv":  # U and V lie around 0
        offsets[single & (channel > 0)] = 127.5
    contrast = _factors(rng, settings.contrast, count)
    brightness = rng.uniform(-settings.brightness, settings.brightness, count) * 255
    matrices *= contrast[:, None, None]
    offsets = (offsets - 127.5) * contrast[:, None] + 127.5 + brightness[:, None]
    return np.concatenate([matrices, offsets[:, :, None]], axis=2)


def _rectangles(probability: float, rng: np.random.Generator, count: int) -> Floats:
    """Draw rectangles of 2 to 20 % of the area, aspect ratio 1:3 to 3:1 (Zhong et al. 2017)."""
    area = rng.uniform(0.02, 0.2, count)
    ratio = np.exp(rng.uniform(-math.log(3), math.log(3), count))
    width, height = np.minimum(np.sqrt([area * ratio, area / ratio]), 1.0)
    left, top = rng.random(count) * (1 - width), rng.random(count) * (1 - height)
    boxes = np.stack([left, top, left + width, top + height], axis=1)
    return np.where(rng.random(count)[:, None] < probability, boxes, 0.0)


def draw_plan(
    settings: AugmentSettings, views: tuple[str, ...], count: int, seed: tuple[int, ...]
) -> AugmentPlan:
    """Draw the augmentation of `count` pictures; the same seed gives the same plan."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, len(LOW_RESOLUTIONS), count)
    low[rng.random(count) >= settings.low_resolution] = -1
    noise = rng.uniform(0, settings.noise_levels, count) * (rng.random(count) < settings.noise)
    return AugmentPlan(
        flipped=rng.random(count) < settings.flip,
        angles=np.radians(rng.normal(0, 1, count).clip(-3, 3) * settings.rotation_deg),
        scales=_factors(rng, settings.scale, count),
        shifts=rng.normal(0, 1, (count, 2)).clip(-3, 3) * settings.shift,
        colours=_colour_matrices(settings, rng, count).astype(np.float32),
        low_resolution=low,
        noise=noise,
        keys=rng.integers(0, 1 << 62, count),
        erased={name: _rectangles(settings.erase, rng, count) for name in views},
    )


def jittered(matrices: Floats, plan: AugmentPlan, centers_xy: Floats, heights: Floats) -> Floats:
    """Rotate, scale and shift crops about the face.

    Args:
        matrices: float (n, 2, 3), from crop pixels to pixels of the cached face, without jitter.
        plan: the random parameters.
        centers_xy: float (n, 2), centre of the face.
        heights: float (n,), its height.
    """
    cos, sin = np.cos(plan.angles) * plan.scales, np.sin(plan.angles) * plan.scales
    turn = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
    turned = turn @ matrices
    about = centers_xy - np.einsum("nij,nj->ni", turn, centers_xy)
    turned[:, :, 2] += about + plan.shifts * heights[:, None]
    return turned


def warp(sources: Tensor, matrices: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Cut crops with bilinear interpolation; pixels outside repeat the border.

    Args:
        sources: float32 (n, 3, side, side).
        matrices: float32 (n, 2, 3): from crop pixels to source pixels.
        size_hw: height and width of the crops.
    """
    height, width = size_hw
    rows = torch.arange(height, dtype=torch.float32, device=sources.device)
    columns = torch.arange(width, dtype=torch.float32, device=sources.device)
    # (n, 2, height, width): x and y of every crop pixel in the source.
    grid = (
        matrices[:, :, 0, None, None] * columns
        + matrices[:, :, 1, None, None] * rows[:, None]
        + matrices[:, :, 2, None, None]
    )
    extent = torch.tensor(
        [sources.shape[3] - 1, sources.shape[2] - 1], dtype=torch.float32, device=sources.device
    ).clamp_min(1)
    normal = grid.permute(0, 2, 3, 1) * (2 / extent) - 1
    return functional.grid_sample(sources, normal, padding_mode="border", align_corners=True)


def recolour(pixels: Tensor, colours: Tensor) -> Tensor:
    """Apply a matrix and an offset (n, 3, 4) to the channels of (n, 3, height, width)."""
    flat = pixels.flatten(2)
    mixed = torch.baddbmm(colours[:, :, 3:], colours[:, :, :3], flat)
    return mixed.view_as(pixels).clamp_(0, 255)


def lower_resolution(pixels: Tensor, levels: npt.NDArray[np.intp], frame_px: float) -> Tensor:
    """Shrink and enlarge the rows whose level is not -1, in place.

    Args:
        pixels: float32 (n, 3, height, width).
        levels: indices into `LOW_RESOLUTIONS`.
        frame_px: pixels per frame height in these crops.
    """
    height, width = pixels.shape[2:]
    for level, target in enumerate(LOW_RESOLUTIONS):
        rows = np.flatnonzero(levels == level)
        factor = target / frame_px
        if not len(rows) or factor >= 1:
            continue
        small = (max(2, round(height * factor)), max(2, round(width * factor)))
        chosen = torch.from_numpy(rows).to(pixels.device)
        shrunk = functional.interpolate(pixels[chosen], small, mode="area")
        pixels[chosen] = functional.interpolate(
            shrunk, (height, width), mode="bilinear", align_corners=False
        )
    return pixels


def add_noise(pixels: Tensor, levels: Floats, keys: npt.NDArray[np.int64]) -> Tensor:
    """Add Gaussian noise to the rows whose level is not 0, in place."""
    generator = torch.Generator()
    for row in np.flatnonzero(levels):
        generator.manual_seed(int(keys[row]))
        noise = torch.randn(pixels.shape[1:], generator=generator) * float(levels[row])
        pixels[row] = (pixels[row] + noise.to(pixels.device)).clamp_(0, 255)
    return pixels


def erase(pixels: Tensor, boxes: Floats) -> Tensor:
    """Fill the rectangles (n, 4; fractions of width and height) with middle gray, in place."""
    height, width = pixels.shape[2:]
    for row in np.flatnonzero(boxes[:, 2] > boxes[:, 0]):
        left, right = (round(float(boxes[row, side]) * width) for side in (0, 2))
        top, bottom = (round(float(boxes[row, side]) * height) for side in (1, 3))
        pixels[row, :, top:bottom, left:right] = 127.5
    return pixels


def _on_luma(image_bgr: Image, change: Callable[[Image], Image]) -> Image:
    """Apply a filter to the brightness and keep the colours."""
    yuv = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2YUV)
    yuv[:, :, 0] = change(np.ascontiguousarray(yuv[:, :, 0]))
    return np.asarray(cv2.cvtColor(yuv, cv2.COLOR_YUV2BGR), np.uint8)


def equalise(image_bgr: Image) -> Image:
    """Equalise the histogram of the brightness."""
    return _on_luma(image_bgr, lambda luma: np.asarray(cv2.equalizeHist(luma), np.uint8))


def clahe(image_bgr: Image) -> Image:
    """Equalise the brightness in 4x4 tiles with limited contrast (Zuiderveld 1994)."""
    tiles = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(4, 4))
    return _on_luma(image_bgr, lambda luma: np.asarray(tiles.apply(luma), np.uint8))


def bilateral(image_bgr: Image) -> Image:
    """Smooth, but not across edges (Tomasi & Manduchi 1998)."""
    return np.asarray(cv2.bilateralFilter(image_bgr, 7, 40, 5), np.uint8)


def non_local_means(image_bgr: Image) -> Image:
    """Replace each pixel by a mean over pixels with similar surroundings (Buades et al. 2005)."""
    return np.asarray(cv2.fastNlMeansDenoisingColored(image_bgr, None, 6, 6, 5, 11), np.uint8)


def jpeg(image_bgr: Image) -> Image:
    """Compress strongly, like old or often forwarded pictures."""
    _, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, 30])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def blur(image_bgr: Image) -> Image:
    """Blur with a Gaussian whose sigma is 1.5 % of the longer side."""
    return np.asarray(cv2.GaussianBlur(image_bgr, (0, 0), 0.015 * max(image_bgr.shape)), np.uint8)


FILTERS: Mapping[str, Callable[[Image], Image]] = MappingProxyType(
    {
        "equalise": equalise,
        "clahe": clahe,
        "bilateral": bilateral,
        "non_local_means": non_local_means,
        "jpeg": jpeg,
        "blur": blur,
    }
)
"""All filters by the name of their setting, from uint8 (height, width, 3) to the same shape."""


def choose_filters(settings: FilterSettings, count: int, seed: tuple[int, ...]) -> list[str]:
    """Draw a filter for each of `count` pictures; "" for none."""
    names = [field.name for field in fields(settings)]
    edges = np.cumsum([getattr(settings, name) for name in names])
    drawn = np.random.default_rng(seed).random(count)
    chosen = np.searchsorted(edges, drawn, side="right")
    return [names[index] if index < len(names) else "" for index in chosen]


class FilterCache:
    """Applies filters and caches the results of slow ones.

    Args:
        limit_bytes: size of the cache; results that don't fit are computed again each time.
    """

    SLOW = frozenset({"non_local_means", "bilateral"})

    def __init__(self, limit_bytes: int = 1 << 30) -> None:
        self._limit = limit_bytes
        self._cached: dict[tuple[int, str], Image] = {}
        self._bytes = 0

    def apply(self, name: str, index: int, image_bgr: Image) -> Image:
        """Return `image_bgr`, that of picture `index`, with the filter applied to a copy."""
        if name not in self.SLOW:
            return FILTERS[name](image_bgr)
        cached = self._cached.get((index, name))
        if cached is None:
            cached = FILTERS[name](image_bgr)
            if self._bytes + cached.nbytes <= self._limit:
                self._cached[index, name] = cached
                self._bytes += cached.nbytes
        return cached
