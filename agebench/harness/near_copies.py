"""Which scored pictures are near copies of an estimator's training pictures.

Every decoded picture is compared with the perceptual hashes stored next to a model's list of
training pictures; the outcome is kept with the detections, since a search takes as long as many a
network.  If the data set that is split holds the training picture too, its pixels decide, as in
`agebench doctor`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from agebench.duplicates.look_search import Match, Query
from agebench.duplicates.near_search import pictures_agree
from agebench.duplicates.training_hashes import PREFIX_BYTES, TrainingHashes
from agebench.duplicates.training_looks import LooksLike, TrainingLooks
from agebench.errors import ImageError
from agebench.harness.kept_detections import KeptDetections, sources_sha256
from agebench.harness.records import ImageRecord
from agebench.protocols import Dataset, ProgressStep
from agebench.splits.parts import Split
from agebench.types import Image, Sample
from agebench.vision.images import read_image
from agebench.vision.looks import Move, moved
from agebench.vision.opencv import cv2
from agebench.vision.similarity import without_frame

SEARCHING = ("duplicates/look_search.py", "vision")
"""Sources, below the package, that determine a picture's perceptual hash."""


@dataclass(frozen=True, slots=True)
class NearCopies:
    """The near copies among the scored pictures of one estimator.

    Attributes:
        names: of the scored pictures, sorted.
        by_pixels: number of pictures compared with a training picture pixel by pixel; the others
            were judged by perceptual hashes, as the training picture is missing.
    """

    names: tuple[str, ...] = ()
    by_pixels: int = 0


class NearCopyWatch:
    """Examines every picture of a pass.

    Args:
        trained: training pictures of each contender; None if not known.
        pictures: the whole data set, which may include training pictures.
        split: of it, with hashes that identify pictures.  None if it was not split.
        kept: findings of earlier runs, to be used and extended; None keeps nothing.
    """

    def __init__(
        self,
        trained: Sequence[TrainingHashes | None],
        pictures: Dataset,
        split: Split | None,
        kept: KeptDetections | None = None,
    ) -> None:
        self.split = split
        self._kept = kept
        self._pictures = pictures
        looked_for = [
            None if one is None or not one.looks or pictures.spec.averages else one
            for one in trained
        ]
        known = {one.body_sha256: one for one in looked_for if one is not None}
        self._lists = known
        self._kept_as = {
            key: search_key(one.looks) for key, one in known.items() if one.looks is not None
        }
        self._of = [None if one is None else one.body_sha256 for one in looked_for]
        self._like: dict[str, dict[str, tuple[LooksLike, ...]]] = {key: {} for key in known}

    @property
    def needs_pixels(self) -> bool:
        """Whether any contender has perceptual hashes of its training pictures."""
        return bool(self._lists)

    def look(self, record: ImageRecord, image_bgr: Image) -> None:
        """Record which training pictures a picture looks like, unless its bytes were trained on."""
        query = None
        for key, one in self._lists.items():
            if one.looks is None or one.contains(record.sha256):
                continue
            like = self._recalled(self._kept_as[key], record.sha256)
            if like is None:
                query = query or Query.of(image_bgr)
                like = one.looks.like(query)
                self._keep(self._kept_as[key], record.sha256, like)
            if like:
                self._like[key][record.sample.name] = like

    def _recalled(self, key: str, sha256: str) -> tuple[LooksLike, ...] | None:
        return None if self._kept is None else self._kept.recall(key, sha256, _matches)

    def _keep(self, key: str, sha256: str, like: Sequence[LooksLike]) -> None:
        if self._kept is not None:
            found = [[item.prefix.hex(), *astuple(item.match)] for item in like]
            self._kept.keep(key, sha256, found)

    def found(
        self, records: Sequence[ImageRecord], progress: ProgressStep
    ) -> list[NearCopies | None]:
        """Return the near copies of each contender's training pictures; None if not known.

        Args:
            records: of the pass.
            progress: called with the number compared, as stage "near copies".
        """
        at_hand = _by_prefix(self._pictures, self.split) if any(self._like.values()) else {}
        liked = {name for like in self._like.values() for name in like}
        samples = {
            record.sample.name: record.sample
            for record in (records if liked else ())
            if record.sample.name in liked
        }
        judged = {}
        for key, like in self._like.items():
            judged[key] = _judge(like, samples, at_hand, progress)
        return [None if key is None else judged[key] for key in self._of]


def search_key(looks: TrainingLooks) -> str:
    """Return the hash of everything that affects which training pictures a picture looks like."""
    digest = hashlib.sha256(f"{cv2.__version__} {sources_sha256(*SEARCHING)}".encode())
    digest.update(b"".join(looks.prefixes))
    digest.update(looks.looks.tobytes())
    return digest.hexdigest()


def _matches(content: list[Any]) -> tuple[LooksLike, ...]:
    return tuple(
        LooksLike(bytes.fromhex(prefix), Match(index, bits, mirrored, Move(*move)))
        for prefix, index, bits, mirrored, move in content
    )


def _by_prefix(pictures: Dataset, split: Split | None) -> dict[bytes, Sample]:
    """Return the pictures of a split data set by the start of their hash."""
    if split is None:
        return {}
    return {
        bytes.fromhex(split.sha256[item.name][: 2 * PREFIX_BYTES]): item
        for item in pictures.samples
        if item.name in split.sha256
    }


def _judge(
    like: Mapping[str, Sequence[LooksLike]],
    samples: Mapping[str, Sample],
    at_hand: Mapping[bytes, Sample],
    progress: ProgressStep,
) -> NearCopies:
    names, compared = [], 0
    for done, (name, candidates) in enumerate(like.items(), start=1):
        here = [item for item in candidates if item.prefix in at_hand]
        near = any(item.match.is_sure for item in candidates if item.prefix not in at_hand)
        if here and not near:
            near, by_pixels = _confirmed(samples[name], here, at_hand)
            compared += by_pixels
        if near:
            names.append(name)
        if done % 32 == 0 or done == len(like):
            progress("near copies", done, len(like))
    return NearCopies(tuple(sorted(names)), compared)


def _confirmed(
    sample: Sample, candidates: Sequence[LooksLike], at_hand: Mapping[bytes, Sample]
) -> tuple[bool, bool]:
    """Compare a picture with the available training pictures, pixel by pixel.

    If one of the two can't be read, for example because it was deleted, the perceptual hashes
    decide.

    Returns:
        Whether it is a near copy, and whether any pixels were compared.
    """
    image, compared, by_looks = _readable(sample), False, False
    for item in candidates:
        training = None if image is None else _readable(at_hand[item.prefix])
        if image is None or training is None:
            by_looks |= item.match.is_sure
            continue
        compared = True
        if is_copy(image, training, item.match):
            return True, True
    return by_looks, compared


def _readable(sample: Sample) -> Image | None:
    try:
        return read_image(sample.path)
    except ImageError:
        return None


def is_copy(image_bgr: Image, training_bgr: Image, match: Match) -> bool:
    """Return whether a picture is a copy of a training picture, by their pixels.

    Args:
        image_bgr: uint8 (height, width, 3).
        training_bgr: the same of the training picture.
        match: of their perceptual hashes.
    """
    fitted = moved(without_frame(image_bgr), match.move)
    if match.mirrored:
        fitted = np.ascontiguousarray(fitted[:, ::-1])
    return pictures_agree(training_bgr, fitted)
