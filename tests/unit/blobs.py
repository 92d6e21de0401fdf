"""Made-up pictures, of which no two seeds look alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agebench.types import Image
from agebench.vision.opencv import cv2


def blobs(seed: int, size: int = 200, sigmas: Sequence[float] = (2, 6, 20)) -> Image:
    """Return smooth blobs with some detail, uint8 (size, size, 3)."""
    rng = np.random.default_rng(seed)
    noise = rng.uniform(0, 255, (size, size, 3)).astype(np.float32)
    mixed = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in sigmas)
    low, high = np.min(mixed), np.max(mixed)
    return np.asarray((mixed - low) / (high - low) * 255, np.uint8)


def fine_blobs(seed: int) -> Image:
    """Return smaller blobs, uint8 (100, 100, 3)."""
    return blobs(seed, 100, (1.5, 4, 12))


def jpeg(image: Image, quality: int = 95) -> bytes:
    """Return the bytes of a JPEG file."""
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
