"""Finding pictures that are in a data set more than once: identical and near-identical copies.

Identical means the same bytes.  Near-identical means one photograph that was saved, resized or
brightened again, or cut a few pixels differently: candidates by a perceptual hash, confirmed by
comparing pixels (the error rate is measured by benchmarks/near_duplicates.py).  Mirrored copies
are found too; copies turned by more than a few degrees and other sections of a photograph are not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, TypeVar

import numpy as np

from agebench.duplicates.decode_threads import mapped_by, usual_threads
from agebench.duplicates.fingerprint_cache import CachedFingerprint, FingerprintCache, file_state
from agebench.duplicates.near_search import CURRENT, Criteria, DisjointSets, NearPair, NearSearch
from agebench.errors import ImageError
from agebench.protocols import ProgressStep
from agebench.types import Image, Sample

_Item = TypeVar("_Item")

MOST_KEPT = 32_768
"""Number of pictures whose thumbnails are kept from hashing to the search: 128 MiB."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Hashes by which copies of a picture are recognised.

    Attributes:
        name: the sample's name.
        sha256: of the file's bytes, 64 hex digits; "" if they can't be read.
        perceptual: 64-bit hash of the decoded picture; None if it can't be decoded.
        mirrored: the same for the mirrored picture.
        reason: why it can't be read or decoded; "" if it can.
        width, height: of the upright picture in pixels; 0 if it can't be decoded.
        thumbnail: uint8 (64, 64), kept so that the search for copies need not decode the picture
            again; None if the hashes were known, or of a large set's later pictures.
    """

    name: str
    sha256: str
    perceptual: int | None
    reason: str = ""
    width: int = 0
    height: int = 0
    mirrored: int | None = None
    thumbnail: Image | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Copies of one picture.

    Attributes:
        members: the samples' names, sorted; at least two.
        kind: "identical" if all are the same bytes, else "near".
        key: the smallest sha256 of the members: stable while other pictures come and go.
        ages: the members' ages in years, in the order of `members`; None without a single age.
        conflicting: whether the known ages (or age ranges) contradict each other.
    """

    members: tuple[str, ...]
    kind: Literal["identical", "near"]
    key: str
    ages: tuple[float | None, ...]
    conflicting: bool

    @property
    def age_gap_years(self) -> float:
        """Years between the youngest and the oldest known age; 0 if fewer than two are known.

        >>> DuplicateGroup(("a", "b"), "near", "0f", (20.0, 31.0), True).age_gap_years
        11.0
        """
        known = [age for age in self.ages if age is not None]
        return max(known) - min(known) if known else 0.0


def fingerprints(
    samples: Sequence[Sample],
    *,
    threads: int | None = None,
    progress: ProgressStep | None = None,
    use_cache: bool = True,
    keep: int = MOST_KEPT,
) -> list[Fingerprint]:
    """Hash every picture's bytes and pixels; files that can't be decoded are not an error.

    Args:
        samples: whose pictures are read.
        threads: number of threads that decode (decoding releases Python's lock); if not given,
            `usual_threads`.
        progress: called for each hundred pictures, as stage "fingerprints".
        use_cache: store the results in the cache folder, by path, size and time of change.
        keep: number of pictures whose thumbnails are kept for `find_duplicates`; each takes 4 kB.

    Returns:
        One fingerprint per sample, in order.
    """
    from agebench.vision.similarity import hash_version

    cache = FingerprintCache(
        (sample.path for sample in samples) if use_cache else (), hash_version()
    )
    with mapped_by(threads or usual_threads(samples)) as mapped:
        results = mapped(partial(_fingerprint, cache=cache, keep=keep), enumerate(samples))
        found = list(_counted(results, len(samples), "fingerprints", progress))
    cache.save()
    return found


def _fingerprint(item: tuple[int, Sample], cache: FingerprintCache, keep: int) -> Fingerprint:
    index, sample = item
    state, small = file_state(sample.path), None
    entry = cache.get(sample.path, state)
    if entry is None:
        entry, small = _read_entry(sample, small_too=index < keep)
        cache.put(sample.path, state, entry)
    return Fingerprint(
        name=sample.name,
        sha256=entry.sha256,
        perceptual=entry.perceptual,
        mirrored=entry.mirrored,
        reason=entry.reason,
        width=entry.width,
        height=entry.height,
        thumbnail=small,
    )


def _read_entry(sample: Sample, *, small_too: bool) -> tuple[CachedFingerprint, Image | None]:
    """Read a picture; return what is remembered of it, and its thumbnail if it is wanted."""
    from agebench.vision.images import decode_image, read_file
    from agebench.vision.similarity import hashes_and_thumbnail, picture_hashes

    sha256 = ""
    try:
        data = read_file(sample.path)
        sha256 = hashlib.sha256(data).hexdigest()
        image = decode_image(data, sample.name)
    except ImageError as error:
        reason = str(error).removeprefix(f"{sample.path}: ").removeprefix(f"{sample.name}: ")
        return CachedFingerprint(sha256, None, None, reason, 0, 0), None
    height, width = image.shape[:2]
    hashes, small = hashes_and_thumbnail(image) if small_too else (picture_hashes(image), None)
    return CachedFingerprint(sha256, *hashes, "", width, height), small


def find_duplicates(
    samples: Sequence[Sample],
    prints: Sequence[Fingerprint],
    *,
    near: bool = True,
    criteria: Criteria = CURRENT,
    threads: int | None = None,
    progress: ProgressStep | None = None,
) -> tuple[DuplicateGroup, ...]:
    """Group the pictures that are copies of one another.

    Groups are disjoint: copies of copies are in one group.  With `near`, files of the same bytes
    are in one group with their near-identical copies, and that group's kind is "near".  Pictures
    that can't be decoded are in no group.

    Args:
        samples: of one data set; unique names.
        prints: their fingerprints, in the same order.
        near: also find near-identical pictures.
        criteria: when two pictures are near-identical.
        threads: number of candidates decoded or compared at a time; if not given, `usual_threads`.
        progress: called with the number of pictures decoded so far (stage "thumbnails") and the
            progress of the search ("near-duplicates").

    Returns:
        The groups, sorted by their first member.

    Raises:
        ValueError: `prints` are not those of `samples`.
    """
    if [sample.name for sample in samples] != [print_.name for print_ in prints]:
        raise ValueError("expected the fingerprints of these samples, in their order")
    joined = DisjointSets(len(samples))
    firsts: dict[str, int] = {}
    for index, print_ in enumerate(prints):
        if print_.perceptual is not None:
            joined.join(firsts.setdefault(print_.sha256, index), index)
    if near:
        one_each = sorted(firsts.values())
        for pair in near_links(
            [samples[index] for index in one_each],
            [prints[index] for index in one_each],
            criteria=criteria,
            threads=threads,
            progress=progress,
        ):
            joined.join(one_each[pair.first], one_each[pair.second])
    groups = (_group(members, samples, prints) for members in joined.groups())
    return tuple(sorted(groups, key=lambda group: group.members))


def near_links(
    samples: Sequence[Sample],
    prints: Sequence[Fingerprint],
    *,
    criteria: Criteria = CURRENT,
    threads: int | None = None,
    progress: ProgressStep | None = None,
) -> list[NearPair]:
    """Find near-identical pictures; arguments as `find_duplicates`.

    Returns:
        Confirmed pairs, sorted by index: as many as it takes to join all copies of one picture,
        one less than there are.  Identical files count as near, too.
    """
    known = np.array([i for i, print_ in enumerate(prints) if print_.perceptual is not None], int)
    search = NearSearch(
        [samples[index] for index in known],
        np.array([prints[index].perceptual for index in known], np.uint64),
        np.array([prints[index].mirrored for index in known], np.uint64),
        thumbnails=[prints[index].thumbnail for index in known],
        criteria=criteria,
        threads=threads or usual_threads(samples),
        progress=progress,
    )
    found = [
        replace(pair, first=int(known[pair.first]), second=int(known[pair.second]))
        for pair in search.run()
    ]
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _counted(
    items: Iterable[_Item], total: int, stage: str, progress: ProgressStep | None
) -> Iterator[_Item]:
    """Yield `items`, and report every hundredth and the last."""
    for done, item in enumerate(items, start=1):
        yield item
        if progress and (done % 100 == 0 or done == total):
            progress(stage, done, total)


def _group(
    members: Sequence[int], samples: Sequence[Sample], prints: Sequence[Fingerprint]
) -> DuplicateGroup:
    ordered = sorted(members, key=lambda index: samples[index].name)
    hashes = {prints[index].sha256 for index in ordered}
    labelled = [samples[index] for index in ordered]
    return DuplicateGroup(
        members=tuple(sample.name for sample in labelled),
        kind="identical" if len(hashes) == 1 else "near",
        key=min(hashes),
        ages=tuple(sample.age_years for sample in labelled),
        conflicting=labels_conflict(labelled),
    )


def labels_conflict(samples: Iterable[Sample]) -> bool:
    """Return whether the known ages of copies of one picture contradict each other.

    Single ages conflict if they differ at all; ranges if they have no year in common.  Labels of
    boxes never do: each is of a different face in the picture.
    """
    listed = list(samples)
    if any(sample.box_xyxy is not None for sample in listed):
        return False
    spans = [span for sample in listed if (span := _span(sample)) is not None]
    return bool(spans) and max(low for low, _ in spans) > min(high for _, high in spans)


def _span(sample: Sample) -> tuple[float, float] | None:
    if sample.age_years is not None:
        return sample.age_years, sample.age_years
    if sample.age_range is not None:
        low, high = sample.age_range
        return float(low), math.nextafter(high + 1.0, 0.0)  # completed years: up to the birthday
    return None
