"""How a picture looks, in 24 bytes: enough to recognise its copies where there are no pixels.

192 signs: on which side of 192 fixed planes the detail of its thumbnail lies, so that the share of
signs that differ is the angle between two pictures' detail.  Source: Charikar, "Similarity
Estimation Techniques from Rounding Algorithms", 2002, section 3.  No face can be made of it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agebench.types import Image

LOOK_BITS = 192
LOOK_BYTES = LOOK_BITS // 8
_DETAIL_PX = 32  # `similarity.DETAIL_PX`; importing that module takes OpenCV, which asking does not

LOOK_VERSION = 1
"""Of what follows; looks of different versions are not comparable."""

Looks: TypeAlias = npt.NDArray[np.uint64]
"""uint64 (n, 3)."""


@functools.cache
def _planes() -> npt.NDArray[np.float32]:
    """Return float32 (1024, 192) of -1 and 1, the same on every machine."""
    size = _DETAIL_PX * _DETAIL_PX
    blocks = range(LOOK_BITS * size // 256)
    octets = b"".join(
        hashlib.sha256(f"agebench look {block}".encode()).digest() for block in blocks
    )
    signs = np.unpackbits(np.frombuffer(octets, np.uint8)).astype(np.float32) * 2 - 1
    return np.ascontiguousarray(signs.reshape(LOOK_BITS, size).T)


def looks_of(thumbnails: Sequence[Image]) -> tuple[Looks, Looks]:
    """Return the looks of pictures as they are, and in a mirror.

    Args:
        thumbnails: as `similarity.thumbnail` gives them.
    """
    from agebench.vision.similarity import detail_looks

    upright = detail_looks(np.asarray(thumbnails, np.uint8))
    return _signs(upright), _signs(upright[:, :, ::-1])


def look_pair(image_bgr: Image) -> Looks:
    """Return the look of one picture as it is and in a mirror, uint64 (2, 3).

    Args:
        image_bgr: uint8 (height, width, 3), B, G, R.
    """
    from agebench.vision.similarity import thumbnail

    return np.concatenate(looks_of([thumbnail(image_bgr)]))


def _signs(detail: npt.NDArray[np.int8]) -> Looks:
    rows = detail.reshape(len(detail), -1).astype(np.float32)
    octets = np.packbits(rows @ _planes() > 0, axis=1)
    return np.ascontiguousarray(octets).view(np.uint64)


def bits_apart(look: npt.NDArray[np.uint64], others: Looks) -> npt.NDArray[np.intp]:
    """Return in how many of the 192 signs a look (3,) differs from others (n, 3), intp (n,)."""
    found: npt.NDArray[np.intp] = np.bitwise_count(others ^ look).sum(axis=1, dtype=np.intp)
    return found
