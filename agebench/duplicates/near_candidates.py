"""Candidate pairs to compare: neighbours in many orders of the hashes.

The hashes are sorted by their bits in 32 random orders of the bits, and each is compared with the
32 that follow it in each.  Two hashes that differ in few bits are likely to agree in all leading
bits of some order, and so to be neighbours.  This takes n log n steps and memory proportional to n,
however many hashes are similar, while comparing all pairs would take n².  Source: Charikar,
"Similarity Estimation Techniques from Rounding Algorithms", 2002, section 3; the fraction of all
pairs that it finds is measured by benchmarks/near_duplicates_scale.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ORDERS = 32
"""Number of orders of the bits in which the hashes are sorted."""

WINDOW = 32
"""Number of following hashes that each is compared with, in each order."""

EXACT_UP_TO = 2048
"""Up to this number of hashes (two per picture if mirrored copies are searched), all pairs are
compared."""

SURE_BITS = 4
"""Pairs that differ in at most so many bits come first: pictures they join need no further
comparison."""

_SEED = 5
_CHUNK = 1 << 16

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """Pairs of pictures whose hashes differ in few bits.

    Attributes:
        first, second: their indices, intp (m,).
        mirrored: bool (m,), whether one is similar to the mirror image of the other.
    """

    first: Indices
    second: Indices
    mirrored: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)

    def where(self, wanted: npt.NDArray[np.bool_] | slice) -> PairBatch:
        """Return the pairs selected by a mask or a slice."""
        return PairBatch(self.first[wanted], self.second[wanted], self.mirrored[wanted])


def _plan(entries: int) -> tuple[int, int]:
    """Return the number of orders, and of followers in each."""
    return (1, max(0, entries - 1)) if entries <= EXACT_UP_TO else (ORDERS, WINDOW)


def count_batches(pictures: int, *, mirrors: bool, max_distance: int) -> int:
    """Return the number of batches of `near_batches`."""
    orders, window = _plan(pictures * (2 if mirrors else 1))
    return len(_rounds(max_distance)) * orders * window


def _rounds(max_distance: int) -> list[int]:
    return sorted({min(SURE_BITS, max_distance), max_distance})


def near_batches(hashes: Hashes, mirrored: Hashes | None, max_distance: int) -> Iterator[PairBatch]:
    """Yield the pairs of pictures to compare, those of the closest hashes first.

    A pair may be yielded several times.

    Args:
        hashes: of n pictures, uint64 (n,).
        mirrored: of the mirrored pictures; None to search no mirrored copies.
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
    """Convert indices of entries to pictures; pairs of two mirrored ones are redundant."""
    flipped_one, flipped_other = one >= pictures, other >= pictures
    first, second = one % pictures, other % pictures
    pairs = PairBatch(
        np.minimum(first, second), np.maximum(first, second), flipped_one | flipped_other
    )
    return pairs.where((first != second) & ~(flipped_one & flipped_other))


def _permuted(hashes: Hashes, bits: Indices) -> Hashes:
    """Return the hashes with permuted bits."""
    found = np.empty_like(hashes)
    for start in range(0, len(hashes), _CHUNK):
        chunk = np.ascontiguousarray(hashes[start : start + _CHUNK].astype(">u8"))
        octets = np.unpackbits(chunk.view(np.uint8).reshape(-1, 8), axis=1)[:, bits]
        packed = np.ascontiguousarray(np.packbits(octets, axis=1))
        found[start : start + _CHUNK] = packed.view(">u8")[:, 0]
    return found
