"""Remembering pairs of pictures that are not copies, and how often each picture was compared."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agebench.duplicates.near_candidates import PairBatch

MOST_LOOKS = 128
"""Largest number of coarsely similar pictures that one is compared with."""

MOST_ALIGNMENTS = 16
"""Largest number of pictures that one is aligned to without being a copy."""

_PLACES_EACH, _MOST_PLACES_BITS = 64, 21  # of `Unlike`, for a picture and in all
_SCATTER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: Knuth, volume 3, 6.4


class _Pairs:
    """Encodes pairs as unique numbers."""

    def __init__(self, count: int) -> None:
        self._count = count

    def of(self, pairs: PairBatch) -> npt.NDArray[np.int64]:
        """Return a number per pair, int64."""
        place = pairs.first.astype(np.int64) * self._count + pairs.second
        return place * 2 + pairs.mirrored


class Unlike:
    """Pairs that are not even coarsely similar, in a table of limited size.

    Each pair has one slot, which a later pair may overwrite; the overwritten pair is then compared
    once more.  Most pairs occur in several orders of the hashes.
    """

    def __init__(self, count: int) -> None:
        bits = min(_MOST_PLACES_BITS, max(10, (_PLACES_EACH * count).bit_length()))
        self._keys = np.full(1 << bits, -1, np.int64)
        self._shift = np.uint64(64 - bits)
        self._pairs = _Pairs(count)

    def add(self, pairs: PairBatch) -> None:
        """Remember pairs."""
        keys = self._pairs.of(pairs)
        self._keys[self._places(keys)] = keys

    def still_open(self, pairs: PairBatch) -> npt.NDArray[np.bool_]:
        """Return which pairs are not remembered."""
        keys = self._pairs.of(pairs)
        return np.asarray(self._keys[self._places(keys)] != keys, np.bool_)

    def _places(self, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        return (keys.astype(np.uint64) * _SCATTER) >> self._shift


class Refused:
    """Pairs that were compared and are no copies, and their number for each picture.

    Keys are kept in sorted runs, each at least twice as long as the next: eight bytes a pair, where
    a set takes a hundred, and a key is sorted again only as often as its run doubles.
    """

    def __init__(self, count: int) -> None:
        self._pairs = _Pairs(count)
        self._runs: list[npt.NDArray[np.int64]] = []
        self._looks = np.zeros(count, np.int32)
        self._alignments = np.zeros(count, np.int32)

    def still_open(self, pairs: PairBatch) -> npt.NDArray[np.bool_]:
        """Return which pairs are new and have a picture that may be compared with more."""
        spent = (self._looks >= MOST_LOOKS) | (self._alignments >= MOST_ALIGNMENTS)
        open_ = ~(spent[pairs.first] & spent[pairs.second])
        keys = self._pairs.of(pairs)
        for known in self._runs:
            place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            open_ &= known[place] != keys
        return open_

    def add(self, pairs: PairBatch, *, aligned: bool) -> None:
        """Remember pairs that are not copies, as found by comparing or by aligning."""
        if not len(pairs):
            return
        tries = self._alignments if aligned else self._looks
        for end in (pairs.first, pairs.second):
            np.add.at(tries, end, 1)
        run = np.unique(self._pairs.of(pairs))
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.concatenate([self._runs.pop(), run])
            run.sort(kind="stable")  # two sorted runs are merged
        self._runs.append(run)
