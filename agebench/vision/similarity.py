"""Whether two pictures are copies of one: a hash to find candidates, pixels to confirm them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agebench.types import Image
from agebench.vision.opencv import cv2

HASH_BITS = 64
THUMBNAIL_PX = 64
FLATTEST = 4.0
"""Standard deviation, in gray levels, below which a picture shows too little to be compared."""

Thumbnail = npt.NDArray[np.float32]


def hash_version() -> str:
    """Name what decides a picture's hash; hashes of different versions are not comparable."""
    return f"phash64/opencv-{cv2.__version__}"


def picture_hash(image_bgr: Image) -> int:
    """Return the 64-bit pHash of a picture: the signs of its lowest cosine frequencies.

    Copies that were resized, compressed again or brightened differ in few bits; mirrored and
    turned copies do not look alike to it.  Source: OpenCV's img_hash module, after Zauner,
    "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010.

    Args:
        image_bgr: uint8 (height, width, 3), B, G, R.
    """
    digest = cv2.img_hash.PHash.create().compute(image_bgr)
    return int.from_bytes(np.asarray(digest, np.uint8).tobytes(), "big")


def thumbnail(image_bgr: Image) -> Thumbnail:
    """Return a picture as float32 (64, 64) gray levels, 0 to 255; its shape is not kept."""
    gray = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(gray, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two thumbnails are.

    Attributes:
        correlation: of their gray levels, -1 to 1; 0 where one of them is flat.
        difference: mean absolute difference in gray levels once brightness and contrast of the
            second were fitted to the first; infinite where one of them is flat.
    """

    correlation: float
    difference: float


def likeness(first: Thumbnail, second: Thumbnail) -> Likeness:
    """Compare two thumbnails pixel by pixel; brightness and contrast do not count."""
    a, b = first - first.mean(), second - second.mean()
    spread_a, spread_b = float(a.std()), float(b.std())
    if min(spread_a, spread_b) < FLATTEST:
        return Likeness(0.0, float("inf"))
    correlation = float((a * b).mean()) / (spread_a * spread_b)
    # Both are brought to their common contrast, so that the order of the two does not matter.
    common = (spread_a * spread_b) ** 0.5
    difference = float(np.abs(a / spread_a - b / spread_b).mean()) * common
    return Likeness(min(1.0, correlation), difference)


def near_hashes(hashes: npt.NDArray[np.uint64], max_distance: int) -> list[tuple[int, int]]:
    """Return all pairs (i < j) of hashes that differ in at most `max_distance` bits.

    The distance of two hashes follows from the product of their bits taken as -1 and 1, so that
    25,000 pictures take one matrix product in blocks, well under a second.

    Args:
        hashes: uint64 of shape (n,).
        max_distance: 0 to 64.

    Returns:
        Index pairs, sorted.
    """
    octets = np.ascontiguousarray(hashes.astype(">u8")).view(np.uint8).reshape(len(hashes), 8)
    signs = np.unpackbits(octets, axis=1).astype(np.float32) * 2 - 1
    least = HASH_BITS - 2 * max_distance
    pairs: list[tuple[int, int]] = []
    step = 512
    for start in range(0, len(signs), step):
        rows, columns = np.nonzero(signs[start : start + step] @ signs[start:].T >= least)
        keep = columns > rows
        firsts, seconds = rows[keep] + start, columns[keep] + start
        pairs.extend(zip(firsts.tolist(), seconds.tolist(), strict=True))
    return pairs
