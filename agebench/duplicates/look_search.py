"""Searching perceptual hashes ("looks") for originals of a picture, even if cropped or rotated.

First the unchanged picture is compared.  Then it is transformed in a few ways (scaled, shifted,
rotated) and compared with the nearest ones; the best of these transformations are refined step by
step while the distance decreases.  This takes about ten milliseconds.

The limits are measured by benchmarks/near_copies.py, see docs/splits.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from agebench.types import Image
from agebench.vision.looks import AS_IT_IS, Looks, Move, bits_apart, moved_looks

SURE_BITS = 24
"""Without pixels to compare, looks that differ in at most so many bits are near copies."""

SURE_MOVED_BITS = 16
"""The same if one was transformed: with many transformations, unrelated pictures get close too."""

CANDIDATE_BITS = 39
"""Pictures whose looks differ in at most so many bits are compared by pixels."""

CANDIDATE_MOVED_BITS = 30
"""The same if one was transformed."""

MOST_CANDIDATES = 3
"""Largest number of pictures, the nearest ones, that one is compared with by pixels."""

_NEAREST = 2048  # as it is, that moves are tried on: copies turned by 10 degrees are hardly farther
_REFINED = 4  # of them, whose move is made finer
_WORTH_REFINING = 36  # bits
_ROUNDS = 3
_NEAR = 12  # bits from which on a finer move is not news


def _grid() -> tuple[Move, ...]:
    single = [Move(scale=scale) for scale in (0.9, 0.95, 1.055, 1.11)]
    single += [Move(degrees=degrees) for degrees in (-8.0, -4.0, 4.0, 8.0)]
    for fraction in (-0.05, -0.025, 0.025, 0.05):
        single += [Move(right=fraction), Move(down=fraction)]
    both = [Move(1.0, *offsets) for offsets in product((-0.025, 0.025), repeat=2)]
    for scale in (0.92, 1.08):
        both += [Move(scale, *offsets) for offsets in product((-0.03, 0.03), repeat=2)]
        both += [Move(scale, degrees=degrees) for degrees in (-5.0, 5.0)]
    return (AS_IT_IS, *single, *both)


GRID = _grid()
_STEPS = tuple(
    Move(1.0 + sign * scale, sign * right, sign * down, sign * degrees)
    for scale, right, down, degrees in (
        (0.025, 0.0, 0.0, 0.0),
        (0.0, 0.0125, 0.0, 0.0),
        (0.0, 0.0, 0.0125, 0.0),
        (0.0, 0.0, 0.0, 2.0),
    )
    for sign in (1, -1)
)


@dataclass(frozen=True, slots=True)
class Match:
    """A look that is similar to a picture's.

    Attributes:
        index: its index among the looks that were searched.
        bits: number of bits, of 192, in which the two differ.
        mirrored: whether it is similar to that of the mirrored picture.
        move: transformation of the picture before it was mirrored.
    """

    index: int
    bits: int
    mirrored: bool
    move: Move = AS_IT_IS

    @property
    def is_sure(self) -> bool:
        """Whether the picture is a near copy according to the looks alone."""
        return self.bits <= (SURE_BITS if self.move == AS_IT_IS else SURE_MOVED_BITS)

    @property
    def is_candidate(self) -> bool:
        """Whether the pictures should be compared by pixels."""
        limit = CANDIDATE_BITS if self.move == AS_IT_IS else CANDIDATE_MOVED_BITS
        return self.bits <= limit


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A picture to search for.

    Attributes:
        thumbnail: as `similarity.thumbnail` gives it.
        tried: its looks after each move of `GRID`, unmirrored and mirrored.
    """

    thumbnail: Image
    tried: tuple[Looks, Looks]

    @staticmethod
    def of(image_bgr: Image) -> Query:
        """Return the query of a picture, uint8 (height, width, 3)."""
        from agebench.vision.similarity import thumbnail

        small = thumbnail(image_bgr)
        return Query(small, moved_looks(small, GRID))


def search(query: Query, looks: Looks) -> tuple[Match, ...]:
    """Return the looks of pictures that one may be a copy of, at most three, the best first.

    Args:
        query: the picture.
        looks: of the others, uint64 (n, 3).
    """
    if not len(looks):
        return ()
    found: dict[tuple[int, bool], Match] = {}
    for mirrored, queries in zip((False, True), query.tried, strict=True):
        apart = bits_apart(queries[:1], looks)[0]
        for index in np.flatnonzero(apart <= CANDIDATE_BITS).tolist():
            found[index, mirrored] = Match(index, int(apart[index]), mirrored)
        nearest = np.argsort(apart, kind="stable")[:_NEAREST]
        by_move = bits_apart(queries, looks[nearest])
        least = by_move.min(axis=0)
        for place in np.argsort(least, kind="stable")[:_REFINED].tolist():
            index, move = int(nearest[place]), GRID[int(by_move[:, place].argmin())]
            known = found.get((index, mirrored))
            if least[place] > _WORTH_REFINING or (known is not None and known.is_sure):
                continue
            match = _refined(
                Match(index, int(least[place]), mirrored, move), query.thumbnail, looks[index]
            )
            if known is None or match.is_sure:
                found[index, mirrored] = match
    likely = [match for match in found.values() if match.is_candidate]
    likely.sort(key=lambda match: (not match.is_sure, match.bits, match.index, match.mirrored))
    return tuple(likely[:MOST_CANDIDATES])


def _refined(match: Match, thumbnail: Image, look: Looks) -> Match:
    """Refine a match by smaller moves while the distance decreases."""
    fraction = 1.0
    for _ in range(_ROUNDS):
        if match.bits <= _NEAR:
            break
        moves: Sequence[Move] = [match.move.plus(step, fraction) for step in _STEPS]
        apart = bits_apart(moved_looks(thumbnail, moves)[match.mirrored], look[None])[:, 0]
        if apart.min() < match.bits:
            at = int(apart.argmin())
            match = Match(match.index, int(apart[at]), match.mirrored, moves[at])
        else:
            fraction /= 2
    return match
