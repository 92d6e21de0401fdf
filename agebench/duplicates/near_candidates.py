"""Which pictures are worth comparing: neighbours of one another in many orders of their hashes.

The hashes are sorted by their bits in 32 random orders, and each is held against the 32 that
follow it in each.  Two hashes that differ in few bits soon have all the bits in common that are
looked at first, and so come to lie side by side.  That takes n log n steps and memory in
proportion to n, however many hashes resemble each other, where a comparison of all with all would
take n².  Source: Charikar, "Similarity Estimation Techniques from Rounding Algorithms", 2002,
section 3; what is found of what all pairs would give is measured by
benchmarks/near_duplicates_scale.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ORDERS = 32
"""In how many orders of their bits the hashes are sorted."""

WINDOW = 32
"""How many of those that follow a hash it is held against, in each order."""

EXACT_UP_TO = 2048
"""So many hashes (of half as many pictures, where mirrored ones are looked for) are all compared
with all."""

SURE_BITS = 4
"""Pairs that differ in no more bits come first: what they join need not be compared again."""

_SEED = 5
_CHUNK = 1 << 16

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """Pairs of pictures whose hashes differ in few bits.

    Attributes:
        first, second: their indices, intp (m,).
        mirrored: bool (m,), one of the two resembles the other in a mirror.
    """

    first: Indices
    second: Indices
    mirrored: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)

    def where(self, wanted: npt.NDArray[np.bool_] | slice) -> PairBatch:
        """Return the pairs that a mask or a slice picks."""
        return PairBatch(self.first[wanted], self.second[wanted], self.mirrored[wanted])


def _plan(entries: int) -> tuple[int, int]:
    """Return how many orders, and how many followers in each."""
    return (1, max(0, entries - 1)) if entries <= EXACT_UP_TO else (ORDERS, WINDOW)


def count_batches(pictures: int, *, mirrors: bool, max_distance: int) -> int:
    """Return how many batches `near_batches` gives."""
    orders, window = _plan(pictures * (2 if mirrors else 1))
    return len(_rounds(max_distance)) * orders * window


def _rounds(max_distance: int) -> list[int]:
    return sorted({min(SURE_BITS, max_distance), max_distance})


def near_batches(hashes: Hashes, mirrored: Hashes | None, max_distance: int) -> Iterator[PairBatch]:
    """Give the pairs of pictures that are worth comparing, those of the closest hashes first.

    A pair may come several times.

    Args:
        hashes: of n pictures, uint64 (n,).
        mirrored: of the same pictures in a mirror; None to look for no mirrored copies.
        max_distance: bits in which the two may differ, 0 to 64.

    Yields:
        Batches of at most 2n pairs; some are empty.
    """
    entries = hashes if mirrored is None else np.concatenate([hashes, mirrored])
    orders, window = _plan(len(entries))
    for most in _rounds(max_distance):
        generator = np.random.default_rng(_SEED)
        for _ in range(orders):
            keys = _permuted(entries, generator.permutation(64))
            order = np.argsort(keys, kind="stable")
            ordered = entries[order]
            for offset in range(1, window + 1):
                apart = np.bitwise_count(ordered[offset:] ^ ordered[:-offset])
                near = np.flatnonzero(apart <= most)
                yield _batch(order[near], order[near + offset], len(hashes))


def _batch(one: Indices, other: Indices, pictures: int) -> PairBatch:
    """Turn places among the entries into pictures; two mirrored ones are no news."""
    flipped_one, flipped_other = one >= pictures, other >= pictures
    first, second = one % pictures, other % pictures
    pairs = PairBatch(
        np.minimum(first, second), np.maximum(first, second), flipped_one | flipped_other
    )
    return pairs.where((first != second) & ~(flipped_one & flipped_other))


def _permuted(hashes: Hashes, bits: Indices) -> Hashes:
    """Return the hashes with their bits in another order."""
    found = np.empty_like(hashes)
    for start in range(0, len(hashes), _CHUNK):
        chunk = np.ascontiguousarray(hashes[start : start + _CHUNK].astype(">u8"))
        octets = np.unpackbits(chunk.view(np.uint8).reshape(-1, 8), axis=1)[:, bits]
        packed = np.ascontiguousarray(np.packbits(octets, axis=1))
        found[start : start + _CHUNK] = packed.view(">u8")[:, 0]
    return found
