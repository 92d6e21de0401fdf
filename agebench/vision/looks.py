"""A picture's appearance in 24 bytes: enough to recognise its copies without its pixels.

192 signs: the side of 192 fixed planes on which the detail of its thumbnail is, so that the
fraction of signs that differ is the angle between two pictures' detail.  Source: Charikar,
"Similarity Estimation Techniques from Rounding Algorithms", 2002, section 3.  No face can be
reconstructed.

A copy that was cropped or rotated has its detail in other pixels.  Whoever has the copy can move it
back before computing its signs (`Move`), so that 24 bytes per picture are enough.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agebench.types import Image
from agebench.util.arrays import one_numpy_thread

LOOK_BITS = 192
LOOK_BYTES = LOOK_BITS // 8
_DETAIL_PX = 32  # `similarity.DETAIL_PX`, whose module needs OpenCV, while comparing does not

LOOK_VERSION = 1
"""Version of this method; looks of different versions are not comparable."""

Looks: TypeAlias = npt.NDArray[np.uint64]
"""uint64 (n, 3)."""


@dataclass(frozen=True, slots=True)
class Move:
    """A transformation of a picture before its look is computed.

    Attributes:
        scale: about its centre; above 1 its border is cropped.
        right, down: fractions of its width and height.
        degrees: about its centre, counter-clockwise.
    """

    scale: float = 1.0
    right: float = 0.0
    down: float = 0.0
    degrees: float = 0.0

    def plus(self, other: Move, times: float) -> Move:
        """Return this move plus `times` the difference of `other` from the identity."""
        return Move(
            self.scale + times * (other.scale - 1.0),
            self.right + times * other.right,
            self.down + times * other.down,
            self.degrees + times * other.degrees,
        )


AS_IT_IS = Move()


def moved(image: Image, move: Move) -> Image:
    """Return a picture of the same size, transformed; pixels from outside repeat the border.

    Args:
        image: uint8 (height, width) or (height, width, 3).
        move: how.
    """
    from agebench.vision.opencv import cv2

    if move == AS_IT_IS:
        return image
    height, width = image.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    warp = cv2.getRotationMatrix2D(centre, move.degrees, move.scale)
    warp[:, 2] += move.right * width, move.down * height
    found = cv2.warpAffine(image, warp, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.uint8)


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
    """Return the looks of pictures and of their mirror images.

    Args:
        thumbnails: from `similarity.thumbnail`.
    """
    from agebench.vision.similarity import detail_looks

    upright = detail_looks(np.asarray(thumbnails, np.uint8))
    signs = _signs(np.concatenate([upright, upright[:, :, ::-1]]))
    return signs[: len(upright)], signs[len(upright) :]


def moved_looks(thumbnail: Image, moves: Sequence[Move]) -> tuple[Looks, Looks]:
    """Return the looks of one picture after each move, and of the mirror images of those.

    Args:
        thumbnail: from `similarity.thumbnail`.
        moves: how.
    """
    return looks_of([moved(thumbnail, move) for move in moves])


def _signs(detail: npt.NDArray[np.int8]) -> Looks:
    rows = detail.reshape(len(detail), -1).astype(np.float32)
    with one_numpy_thread():  # integers below 2**24: exact, in any order of summation
        octets = np.packbits(rows @ _planes() > 0, axis=1)
    return np.ascontiguousarray(octets).view(np.uint64)


def bits_apart(looks: Looks, others: Looks) -> npt.NDArray[np.intp]:
    """Return the number of the 192 signs in which looks (k, 3) and others (n, 3) differ, (k, n)."""
    apart = np.bitwise_count(looks[:, None] ^ others)
    found: npt.NDArray[np.intp] = apart.sum(axis=2, dtype=np.intp)
    return found
