"""Augmentation that is too slow for every picture of every batch: done on the host, on windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType

import numpy as np

from agebench.train.augment_settings import FilterSettings
from agebench.types import Image
from agebench.vision.opencv import cv2


def _on_luma(image_bgr: Image, change: Callable[[Image], Image]) -> Image:
    """Apply a filter to the brightness and keep the colours."""
    yuv = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2YUV)
    yuv[:, :, 0] = change(np.ascontiguousarray(yuv[:, :, 0]))
    return np.asarray(cv2.cvtColor(yuv, cv2.COLOR_YUV2BGR), np.uint8)


def equalise(image_bgr: Image) -> Image:
    """Equalise the histogram of the brightness."""
    return _on_luma(image_bgr, lambda luma: np.asarray(cv2.equalizeHist(luma), np.uint8))


def clahe(image_bgr: Image) -> Image:
    """Equalise the brightness in 4x4 tiles, contrast limited (Zuiderveld 1994)."""
    tiles = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(4, 4))
    return _on_luma(image_bgr, lambda luma: np.asarray(tiles.apply(luma), np.uint8))


def bilateral(image_bgr: Image) -> Image:
    """Smooth, but not across edges (Tomasi & Manduchi 1998)."""
    return np.asarray(cv2.bilateralFilter(image_bgr, 7, 40, 5), np.uint8)


def non_local_means(image_bgr: Image) -> Image:
    """Replace each pixel by a mean over pixels with like surroundings (Buades et al. 2005)."""
    return np.asarray(cv2.fastNlMeansDenoisingColored(image_bgr, None, 6, 6, 5, 11), np.uint8)


def jpeg(image_bgr: Image) -> Image:
    """Compress strongly, as old or much-forwarded pictures are."""
    _, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, 30])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def blur(image_bgr: Image) -> Image:
    """Blur by a Gaussian of 1.5 % of the window's side."""
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
"""All of them by the name of their setting; each maps uint8 (height, width, 3) to the same."""


def choose_filters(settings: FilterSettings, count: int, seed: tuple[int, ...]) -> list[str]:
    """Draw a filter for each of `count` pictures; "" for none.  The same for the same seed."""
    names = [field.name for field in fields(settings)]
    edges = np.cumsum([getattr(settings, name) for name in names])
    drawn = np.random.default_rng(seed).random(count)
    chosen = np.searchsorted(edges, drawn, side="right")
    return [names[index] if index < len(names) else "" for index in chosen]


class FilterCache:
    """Filters windows and keeps what the slow filters gave, up to a number of bytes.

    Args:
        limit_bytes: how much is kept; beyond it filters are applied anew each time.
    """

    SLOW = frozenset({"non_local_means", "bilateral"})

    def __init__(self, limit_bytes: int = 1 << 30) -> None:
        self._limit = limit_bytes
        self._held: dict[tuple[int, str], Image] = {}
        self._bytes = 0

    def apply(self, name: str, index: int, window_bgr: Image) -> Image:
        """Return picture `index`'s window with the filter applied; the window is not changed."""
        if name not in self.SLOW:
            return FILTERS[name](window_bgr)
        held = self._held.get((index, name))
        if held is None:
            held = FILTERS[name](window_bgr)
            if self._bytes + held.nbytes <= self._limit:
                self._held[index, name] = held
                self._bytes += held.nbytes
        return held
