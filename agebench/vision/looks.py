"""How a picture looks, in 24 bytes: enough to recognise its copies where there are no pixels.

192 signs: on which side of 192 fixed planes the detail of its thumbnail lies, so that the fraction
of signs that differ is the angle between two pictures' detail.  Source: Charikar, "Similarity
Estimation Techniques from Rounding Algorithms", 2002, section 3.  No face can be made of it.

A copy that was cut or turned has other detail where the thumbnail has its pixels.  Anyone who holds
the copy can move it back before it looks (`Move`), so what is kept of a picture stays 24 bytes.
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
from agebench.util.arrays import one_blas_thread

LOOK_BITS = 192
LOOK_BYTES = LOOK_BITS // 8
_DETAIL_PX = 32  # `similarity.DETAIL_PX`; importing that module takes OpenCV, which asking does not

LOOK_VERSION = 1
"""Of what follows; looks of different versions are not comparable."""

Looks: TypeAlias = npt.NDArray[np.uint64]
"""uint64 (n, 3)."""


@dataclass(frozen=True, slots=True)
class Move:
    """How a picture is moved before it is looked at.

    Attributes:
        scale: about its centre; above 1 its rim falls off.
        right, down: fractions of its width and height.
        degrees: about its centre, counter-clockwise.
    """

    scale: float = 1.0
    right: float = 0.0
    down: float = 0.0
    degrees: float = 0.0

    def plus(self, other: Move, times: float) -> Move:
        """Return a move that goes further by `times` the differences of `other` from none."""
        return Move(
            self.scale + times * (other.scale - 1.0),
            self.right + times * other.right,
            self.down + times * other.down,
            self.degrees + times * other.degrees,
        )


AS_IT_IS = Move()


def moved(image: Image, move: Move) -> Image:
    """Return a picture of the same size, moved; what comes in from outside repeats the rim.

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
    """Return the looks of pictures as they are, and in a mirror.

    Args:
        thumbnails: as `similarity.thumbnail` gives them.
    """
    from agebench.vision.similarity import detail_looks

    upright = detail_looks(np.asarray(thumbnails, np.uint8))
    signs = _signs(np.concatenate([upright, upright[:, :, ::-1]]))
    return signs[: len(upright)], signs[len(upright) :]


def moved_looks(thumbnail: Image, moves: Sequence[Move]) -> tuple[Looks, Looks]:
    """Return the looks of one picture after each move, and of the moved pictures in a mirror.

    Args:
        thumbnail: as `similarity.thumbnail` gives it.
        moves: how.
    """
    return looks_of([moved(thumbnail, move) for move in moves])


def _signs(detail: npt.NDArray[np.int8]) -> Looks:
    rows = detail.reshape(len(detail), -1).astype(np.float32)
    with one_blas_thread():  # whole numbers below 2**24: exact, whatever the order of the sums
        octets = np.packbits(rows @ _planes() > 0, axis=1)
    return np.ascontiguousarray(octets).view(np.uint64)


def bits_apart(looks: Looks, others: Looks) -> npt.NDArray[np.intp]:
    """Return in how many of the 192 signs looks (k, 3) differ from others (n, 3), intp (k, n)."""
    apart = np.bitwise_count(looks[:, None] ^ others)
    found: npt.NDArray[np.intp] = apart.sum(axis=2, dtype=np.intp)
    return found
