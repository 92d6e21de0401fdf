"""Finding near-identical pictures among many: candidates by hash, confirmed by pixels.

Pictures that are already joined are not compared again, so that a chain of n copies takes n - 1
confirmations and not n²; and a picture that is similar to very many others without being a copy of
any is compared with at most `MOST_LOOKS` of them.  Memory: about 8 kB per picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from agebench.duplicates.decode_threads import Mapped, mapped_by
from agebench.duplicates.near_candidates import (
    Hashes,
    Indices,
    PairBatch,
    count_batches,
    near_batches,
)
from agebench.duplicates.near_memory import Refused, Unlike
from agebench.errors import ImageError
from agebench.protocols import ProgressStep
from agebench.types import Image, Sample

_COARSE_PAIRS = 1 << 14
_LOOKS_ROUND_BY = 0.06  # between the detail of `_Looks`, which is halved in size, and the whole
_PER_WORKER = 16

_Number = TypeVar("_Number", np.float32, np.int8)


@dataclass(frozen=True, slots=True)
class Criteria:
    """Criteria for two pictures to be copies of one.

    Attributes:
        max_distance_bits: largest number of bits in which their hashes may differ.
        min_correlation: smallest coarse correlation of the unaligned thumbnails that are aligned.
        sure_correlation: coarse correlation from which less similar detail is aligned too.
        min_lying: smallest correlation of the unaligned detail for an alignment; the second number
            applies from `sure_correlation` on.
        min_detail: smallest correlation of the aligned detail.
        mirrors: whether mirrored copies count.
        quick: skip the alignment of thumbnails that agree unaligned.
    """

    max_distance_bits: int = 16
    min_correlation: float = 0.85
    sure_correlation: float = 0.9
    min_lying: tuple[float, float] = (0.7, 0.62)
    min_detail: float = 0.88
    mirrors: bool = True
    quick: bool = True


CURRENT = Criteria()
"""On UTKFace's chips it finds 57 pairs more than `FIRST`, each of one photograph or sitting."""

FIRST = Criteria(
    max_distance_bits=12,
    min_correlation=0.9,
    min_lying=(0.7, 0.7),
    min_detail=0.9,
    mirrors=False,
    quick=False,
)
"""Criteria of the protocols of version 1, whose parts must not change."""


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two pictures that look alike.

    Attributes:
        first, second: their indices; first < second.
        distance_bits: number of bits in which their hashes differ.
        detail: see `similarity.detail_correlation`.
        mirrored: whether the second is the mirrored first.
    """

    first: int
    second: int
    distance_bits: int
    detail: float
    mirrored: bool = False


class DisjointSets:
    """Disjoint sets of indices (union-find with path halving)."""

    def __init__(self, size: int) -> None:
        self._parents = np.arange(size)

    def join(self, first: int, second: int) -> None:
        """Unite the sets of the two."""
        self._parents[self.root(second)] = self.root(first)

    def root(self, index: int) -> int:
        """Return the representative of an index's set."""
        parents = self._parents
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = int(parents[index])
        return index

    def roots(self) -> Indices:
        """Return the root of every index."""
        parents = self._parents
        while not np.array_equal(above := parents[parents], parents):
            parents = above
        self._parents = parents
        return parents

    def groups(self) -> list[list[int]]:
        """Return the sets of two and more, members ascending."""
        roots = self.roots()
        order = np.argsort(roots, kind="stable")
        starts = np.flatnonzero(np.diff(roots[order])) + 1
        return [group.tolist() for group in np.split(order, starts) if len(group) > 1]


class NearSearch:
    """One search; see `near_links`.

    Args:
        samples: whose pictures are compared.
        hashes: of each, unmirrored.
        mirrored: hashes of the mirror images.
        thumbnails: of each, as far as they are known; the others are decoded if needed.
        criteria: to confirm a pair.
        threads: number of pictures decoded or compared at a time.
        progress: called for decoded pictures and for batches.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        hashes: Hashes,
        mirrored: Hashes,
        *,
        thumbnails: Sequence[Image | None],
        criteria: Criteria,
        threads: int,
        progress: ProgressStep | None,
    ) -> None:
        self._samples = samples
        self._hashes, self._mirrored = hashes, mirrored
        self._thumbnails = thumbnails
        self._criteria = criteria
        self._threads = threads
        self._each: Mapped = map  # until `run`
        self._at_once = _PER_WORKER * max(1, threads)
        self._progress = progress
        self._looks = _Looks(len(samples))
        self._joined = DisjointSets(len(samples))
        self._unlike = Unlike(len(samples))
        self._refused = Refused(len(samples))
        self._found: list[NearPair] = []

    def run(self) -> list[NearPair]:
        """Return the confirmed pairs that join something new."""
        bits, mirrors = self._criteria.max_distance_bits, self._criteria.mirrors
        total = count_batches(len(self._samples), mirrors=mirrors, max_distance=bits)
        batches = near_batches(self._hashes, self._mirrored if mirrors else None, bits)
        with mapped_by(self._threads) as self._each:
            for done, pairs in enumerate(batches, start=1):
                self._look(self._news(pairs))
                if self._progress and (done % 32 == 0 or done == total):
                    self._progress("near-duplicates", done, total)
        return self._found

    def _news(self, pairs: PairBatch) -> PairBatch:
        """Leave out pairs that are joined, were rejected, or reached the limit of comparisons."""
        roots = self._joined.roots()
        pairs = pairs.where(roots[pairs.first] != roots[pairs.second])
        if len(pairs):
            pairs = pairs.where(self._unlike.still_open(pairs))
        return pairs.where(self._refused.still_open(pairs)) if len(pairs) else pairs

    def _look(self, pairs: PairBatch) -> None:
        if not len(pairs):
            return
        self._decode(np.unique(np.concatenate([pairs.first, pairs.second])))
        for start in range(0, len(pairs), _COARSE_PAIRS):
            chunk = pairs.where(slice(start, start + _COARSE_PAIRS))
            coarse = self._looks.coarse(chunk)
            is_alike = coarse >= self._criteria.min_correlation
            alike = chunk.where(is_alike)
            sure = coarse[is_alike] >= self._criteria.sure_correlation
            least = np.where(sure, *self._criteria.min_lying[::-1]) - _LOOKS_ROUND_BY
            worth = self._looks.detail(alike) >= least
            self._unlike.add(chunk.where(~is_alike))
            self._refused.add(alike.where(~worth), aligned=False)
            self._confirm(alike.where(worth))

    def _decode(self, wanted: Indices) -> None:
        missing = self._looks.missing(wanted)
        for start in range(0, len(missing), 100):
            chunk = missing[start : start + 100]
            self._looks.put(chunk, list(self._each(self._thumbnail, chunk)))
            if self._progress:
                self._progress("thumbnails", self._looks.decoded, len(self._samples))

    def _thumbnail(self, index: int) -> Image | None:
        known = self._thumbnails[index]
        return _thumbnail(self._samples[index]) if known is None else known

    def _confirm(self, pairs: PairBatch) -> None:
        """Compare pixels, a few pairs at a time: one joined pair may make others redundant."""
        for start in range(0, len(pairs), self._at_once):
            chunk = self._news(pairs.where(slice(start, start + self._at_once)))
            found = self._each(partial(self._detail, chunk), range(len(chunk)))
            details = np.array(list(found), np.float64)
            good = details >= self._criteria.min_detail
            for index in np.flatnonzero(good):
                self._note(chunk, int(index), float(details[index]))
            self._refused.add(chunk.where(~good), aligned=True)

    def _detail(self, pairs: PairBatch, index: int) -> float:
        from agebench.vision.similarity import detail_correlation

        second = self._looks.thumbnails[pairs.second[index]]
        if pairs.mirrored[index]:
            second = np.ascontiguousarray(second[:, ::-1])
        return detail_correlation(
            self._looks.thumbnails[pairs.first[index]],
            second,
            worth_aligning=min(self._criteria.min_lying),
            quick=self._criteria.quick,
        )

    def _note(self, pairs: PairBatch, index: int, detail: float) -> None:
        first, second = int(pairs.first[index]), int(pairs.second[index])
        if self._joined.root(first) == self._joined.root(second):
            return
        self._joined.join(first, second)
        apart = self._hashes[second]
        if pairs.mirrored[index]:
            apart = self._mirrored[second]
        bits = int(np.bitwise_count(self._hashes[first] ^ apart))
        self._found.append(NearPair(first, second, bits, detail, bool(pairs.mirrored[index])))


def _thumbnail(sample: Sample) -> Image | None:
    """Decode a picture; None if it can no longer be read."""
    from agebench.vision.images import read_image
    from agebench.vision.similarity import thumbnail

    with suppress(ImageError):
        return thumbnail(read_image(sample.path))
    return None


def pictures_agree(first_bgr: Image, second_bgr: Image) -> bool:
    """Return whether two pictures are copies of one, by their pixels alone.

    Args:
        first_bgr: uint8 (height, width, 3).
        second_bgr: the same; already mirrored to test for a mirrored copy.
    """
    from agebench.vision.similarity import coarse_looks, detail_correlation, thumbnail

    first, second = thumbnail(first_bgr), thumbnail(second_bgr)
    coarse = coarse_looks(np.stack([first, second]))
    correlation = float((coarse[0] * coarse[1]).sum())
    if correlation < CURRENT.min_correlation:
        return False
    least = CURRENT.min_lying[int(correlation >= CURRENT.sure_correlation)]
    found = detail_correlation(first, second, worth_aligning=least, quick=CURRENT.quick)
    return found >= CURRENT.min_detail


class _Looks:
    """Thumbnails of the decoded pictures.

    Attributes:
        thumbnails: uint8 (n, 64, 64).
        decoded: their number.
    """

    def __init__(self, count: int) -> None:
        from agebench.vision.similarity import COARSE_PX, DETAIL_PX, THUMBNAIL_PX

        # The system allocates memory only when it is written to.
        self.thumbnails = np.zeros((count, THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
        self._coarse = np.zeros((count, COARSE_PX, COARSE_PX), np.float32)
        self._detail = np.zeros((count, DETAIL_PX, DETAIL_PX), np.int8)
        self._known = np.zeros(count, np.bool_)
        self.decoded = 0

    def missing(self, wanted: Indices) -> Indices:
        """Return those that were not decoded yet."""
        return wanted[~self._known[wanted]]

    def put(self, indices: Indices, thumbnails: Sequence[Image | None]) -> None:
        """Store thumbnails; None is stored as a flat one, which is similar to no other."""
        from agebench.vision.similarity import coarse_looks, detail_looks

        for index, small in zip(indices, thumbnails, strict=True):
            if small is not None:
                self.thumbnails[index] = small
        self._coarse[indices] = coarse_looks(self.thumbnails[indices])
        self._detail[indices] = detail_looks(self.thumbnails[indices])
        self._known[indices] = True
        self.decoded += len(indices)

    def coarse(self, pairs: PairBatch) -> npt.NDArray[np.float32]:
        """Return coarse correlations, see `similarity.coarse_looks`; -1 to 1."""
        second = _turned(self._coarse[pairs.second], pairs.mirrored)
        found: npt.NDArray[np.float32] = np.einsum("ijk,ijk->i", self._coarse[pairs.first], second)
        return found

    def detail(self, pairs: PairBatch) -> npt.NDArray[np.float32]:
        """Return correlations of the unaligned detail, see `similarity.detail_looks`; -1 to 1."""
        second = _turned(self._detail[pairs.second], pairs.mirrored).astype(np.float32)
        first = self._detail[pairs.first].astype(np.float32)
        product, one, other = (
            np.einsum("ijk,ijk->i", x, y)
            for x, y in ((first, second), (first, first), (second, second))
        )
        return np.asarray(product / np.maximum(np.sqrt(one * other), 1.0), np.float32)


def _turned(values: npt.NDArray[_Number], mirrored: npt.NDArray[np.bool_]) -> npt.NDArray[_Number]:
    """Mirror those of the pictures (n, height, width) that are flagged."""
    values[mirrored] = values[mirrored][:, :, ::-1]
    return values
