"""Writing the accuracy pass to the disk, and resuming one that was interrupted."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agebench.errors import ImageError
from agebench.harness.accuracy import PassSettings, run_accuracy
from agebench.harness.columns import Columns, ColumnsBuilder
from agebench.harness.contents_pictures import StoredPicture
from agebench.harness.loading import Contender
from agebench.harness.near_copies import NearCopyWatch
from agebench.harness.picture_store import PictureStore, open_part
from agebench.harness.records import ImageRecord, StoredRecords, image_json, record_of
from agebench.protocols import FaceDetector, ProgressStep
from agebench.splits.parts import Split
from agebench.types import Sample, plain
from agebench.util.regular_files import read_regular
from agebench.vision.decoding import decode_all
from agebench.vision.images import read_file

STAGE = "checking earlier pictures"
"""Progress stage of checking the pictures that an earlier run processed."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The input of an accuracy pass.

    Attributes:
        samples: the pictures.
        detector: None if no face has to be found.
        contenders: the available ones.
        settings: of the pass.
        watch: sees every picture, too.
    """

    samples: Sequence[Sample]
    detector: FaceDetector | None
    contenders: Sequence[Contender]
    settings: PassSettings
    watch: NearCopyWatch

    @property
    def names(self) -> list[str]:
        """The names of the contenders."""
        return [item.name for item in self.contenders]


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """The outcome of a pass.

    Attributes:
        records: of all pictures, on the disk.
        columns: their numbers.
        content_sha256: over all names, labels and file contents: equal hashes mean equal data.
        notes: on pictures that changed since they were split.
        taken_over: number of pictures that an earlier run processed.
    """

    records: StoredRecords
    columns: Columns
    content_sha256: str
    notes: tuple[str, ...]
    taken_over: int


def gather(what: Pass, folder: Path | None, identity: str, progress: ProgressStep) -> Gathered:
    """Run the accuracy pass, or resume one that was interrupted.

    Args:
        what: the input.
        folder: where the records are kept until the result is complete; None keeps them in a
            temporary file, so that the run can't be resumed.
        identity: of the run, see `identity_of`.
        progress: called with the number of pictures checked and processed.

    Raises:
        AgebenchError: the records can't be written.
    """
    store = open_part(folder, identity)
    notes = _Notes(what.names, what.watch.split)
    try:
        for group in _still_true(store, what, progress):
            notes.take(group)
        taken_over = len(store)
        estimators = [item.estimator for item in what.contenders if item.estimator is not None]
        passed = run_accuracy(
            what.samples,
            what.detector,
            estimators,
            what.settings,
            progress,
            what.watch.look,
            done=taken_over,
        )
        for records in passed:
            images = [image_json(record, what.names) for record in records]
            store.add(images)
            notes.take(list(zip(images, (record.sample for record in records), strict=True)))
    except BaseException:
        if not len(store):
            store.remove()
        raise
    records_there = StoredRecords(store, what.samples, what.names)
    return Gathered(
        records_there, notes.columns(), notes.digest.hexdigest(), notes.changed(), taken_over
    )


def _still_true(
    store: PictureStore, what: Pass, progress: ProgressStep
) -> Iterator[list[tuple[StoredPicture, Sample]]]:
    """Yield the groups of an earlier run whose pictures are unchanged; discard the others."""
    done = 0
    for images in store.groups():
        samples = what.samples[done : done + len(images)]
        if not (images and _fits(images, samples, what)):
            store.forget_from(done)
            return
        yield list(zip(images, samples, strict=True))
        done += len(images)
        progress(STAGE, done, len(store))


def _fits(images: Sequence[StoredPicture], samples: Sequence[Sample], what: Pass) -> bool:
    try:
        pairs = zip(images, samples, strict=True)
        records = [record_of(image, sample, what.names) for image, sample in pairs]
    except (ValueError, LookupError, TypeError, AttributeError):  # someone altered the file
        return False
    if not what.watch.needs_pixels:
        return all(record.sha256 == _hash_of(record.sample) for record in records)
    return all(_seen_again(records, what))


def _seen_again(records: Sequence[ImageRecord], what: Pass) -> Iterator[bool]:
    how = what.settings
    samples = [record.sample for record in records]
    decoded = decode_all(samples, workers=how.decode_threads, max_pixels=how.max_pixels)
    for record, item in zip(records, decoded, strict=True):
        same = item.sha256 == record.sha256
        if same and item.image_bgr is not None:
            what.watch.look(record, item.image_bgr)
        yield same


def _hash_of(sample: Sample) -> str:
    try:
        return hashlib.sha256(read_file(sample.path)).hexdigest()
    except ImageError:
        return ""


class _Notes:
    """Collects columns, hash and notes of all pictures, one after the other."""

    def __init__(self, names: Iterable[str], split: Split | None) -> None:
        self._builder = ColumnsBuilder(names)
        self._split = split
        self._changed: list[str] = []
        self._changes = 0
        self._total = 0
        self.digest = hashlib.sha256()

    def take(self, group: Iterable[tuple[StoredPicture, Sample]]) -> None:
        for image, sample in group:
            self._builder.add(image)
            self._total += 1
            sha256 = image["sha256"]
            self.digest.update(f"{sample.name}|{_label(sample)}|{sha256}\n".encode())
            split = self._split
            if split is not None and sha256 and split.sha256.get(sample.name, sha256) != sha256:
                self._changes += 1
                self._changed = self._changed or [sample.name]

    def columns(self) -> Columns:
        return self._builder.columns()

    def changed(self) -> tuple[str, ...]:
        """Return a note on how many pictures changed since they were split."""
        return tuple(
            f"{self._changes} of {self._total} pictures have changed since they were "
            f"split, such as {name}: the parts may share copies"
            for name in self._changed
        )


def _label(sample: Sample) -> str:
    label = f"{sample.age_years}|{sample.age_range}|{sample.identity}"
    return label if sample.box_xyxy is None else f"{label}|{sample.box_xyxy}"


def identity_of(what: Pass, about: Mapping[str, Any]) -> str:
    """Return a hash of everything that a picture's record depends on, except the picture itself.

    Args:
        what: the input.
        about: the header of the result: versions, machine, data set, detector, settings.
    """
    head = {name: value for name, value in about.items() if name not in ("created", "command")}
    models = [what.detector, *(item.estimator for item in what.contenders)]
    digest = hashlib.sha256(json.dumps(plain(head), sort_keys=True).encode())
    for item in what.contenders:
        assert item.estimator is not None  # noqa: S101 - only available ones are in a pass
        spec = plain(item.estimator.spec)
        digest.update(json.dumps([item.name, spec], sort_keys=True, default=str).encode())
    for model in models:
        digest.update(code_of(model))
    for sample in what.samples:
        attributes = sorted(sample.attributes.items())
        digest.update(f"{sample.name}|{_label(sample)}|{attributes}\n".encode())
    return digest.hexdigest()


def code_of(model: object) -> bytes:
    """Return the source file of a model's class, b"" if it can't be read.

    After a change to the class its earlier predictions must not be used.
    """
    try:
        return read_regular(inspect.getfile(type(model)))
    except (OSError, TypeError, ValueError):
        return b""
