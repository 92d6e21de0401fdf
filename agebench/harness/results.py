"""The result of a comparison, and writing it to files.

``result.json`` holds everything, unrounded; docs/result-schema.md describes it and
``result.schema.json`` next to this file validates it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from agebench.errors import AgebenchError
from agebench.harness.columns import columns_of
from agebench.harness.contents_pictures import Picture
from agebench.harness.contents_statistics import Analysis
from agebench.harness.loading import Contender, reads_back_its_runtime
from agebench.harness.part_scores import PartScores
from agebench.harness.picture_store import PictureStore
from agebench.harness.prediction_rows import prediction_lines
from agebench.harness.records import ImageRecord, StoredRecords, image_json
from agebench.harness.scores import Score, common_subset
from agebench.timing.latency import Latency, StageTimes
from agebench.timing.pairs import Timing
from agebench.types import plain
from agebench.util.files import gone_if_empty, why_no_folder, write_together
from agebench.util.locks import alone_in
from agebench.util.private_paths import without_home

SCHEMA_VERSION = 4
READABLE_VERSIONS = (1, 2, 3, SCHEMA_VERSION)
"""Older files are read, see `former_names`; docs/result-schema.md lists the changes."""
RESULT_FILE = "result.json"
PREDICTIONS_FILE = "predictions.csv"


@dataclass(frozen=True, slots=True)
class EstimatorResult:
    """One estimator's part of the result.

    Attributes:
        contender: name and estimator.
        score: None if it was not available.
        latency: times by stage; empty where nothing was timed.
        parts: its errors over unseen and over unclipped pictures.
        contamination: why it gets no verdict; "" if it is not contaminated.
    """

    contender: Contender
    score: Score | None
    latency: Mapping[str, StageTimes]
    parts: PartScores = field(default_factory=PartScores)
    contamination: str = ""

    @property
    def name(self) -> str:
        """Its name in the result."""
        return self.contender.name

    @property
    def mae_years(self) -> float | None:
        """Mean absolute error over the common subset; None if there is none."""
        return None if self.score is None else self.score.errors.mae_years


@dataclass(frozen=True, slots=True)
class PictureCounts:
    """Numbers of pictures.

    Attributes:
        total: looked at.
        common_subset: that every ranked estimator gave an age for.
        several_faces: with more than one face; the labelled or largest was used.
        taken_over: of the total, processed by an earlier run that was interrupted.
    """

    total: int
    common_subset: int
    several_faces: int
    taken_over: int = 0


@dataclass(frozen=True, slots=True)
class CompareResult:
    """All figures of one comparison.

    Attributes:
        estimators: in the order given.
        records: one per picture, sorted by name; read from the disk on access.
        counts: how many pictures there are.
        latency: of the stages that all estimators share; None without timing.
        about: versions, machine, command, data set, detector, settings.
        analysis: from `agebench.harness.analysis.analyse`; None before it has run.
        timing: comparisons of times; None without timing.
        stage_seconds: processor time of this run's accuracy pass by stage (`StageSeconds`), without
            pictures taken over; not written to files.
    """

    estimators: tuple[EstimatorResult, ...]
    records: Sequence[ImageRecord]
    counts: PictureCounts
    latency: Latency | None
    about: Mapping[str, Any]
    analysis: Analysis | None = None
    timing: Timing | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def common(self) -> int:
        """Number of pictures that every ranked estimator gave an age for."""
        return self.counts.common_subset

    @property
    def pictures(self) -> Sequence[Picture]:
        """The JSON of every picture; read from the disk on access."""
        if isinstance(self.records, StoredRecords):
            return self.records.store
        names = [item.name for item in self.estimators]
        return [image_json(record, names) for record in self.records]

    def content(self) -> dict[str, Any]:
        """Return what `to_json` returns, with the `pictures` still on the disk."""
        shared = {} if self.latency is None else self.latency.shared
        return {
            "schema_version": SCHEMA_VERSION,
            **plain(self.about),
            "counts": plain(self.counts),
            "shared_latency": plain(shared),
            "timing": None if self.timing is None else self.timing.to_json(),
            "estimators": [_estimator_json(item) for item in self.estimators],
            "analysis": plain(self.analysis),
            "pictures": self.pictures,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the whole result as JSON-compatible values; see docs/result-schema.md."""
        return {**self.content(), "pictures": list(self.pictures)}

    def json_pieces(self) -> Iterator[str]:
        """Yield the JSON of the result in ASCII, at most one picture at a time."""
        content = self.content()
        images = content.pop("pictures")
        yield json.dumps(content, allow_nan=False)[:-1] + ', "pictures": ['
        for number, image in enumerate(images):
            yield (", " if number else "") + json.dumps(image, allow_nan=False)
        yield "]}"

    def save(self, folder: str | Path) -> Path:
        """Write result.json and predictions.csv into `folder`; return the former's path.

        Each file appears whole or not at all, and the result holds the hash of the table.

        Raises:
            AgebenchError: the folder can't be written to.
        """
        target = Path(folder)
        content = self.content()
        del content["pictures"]
        try:
            head = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise AgebenchError(
                f"{RESULT_FILE} not written: a setting or figure is not a finite number ({error})"
            ) from error
        digest = hashlib.sha256()
        # In this order, as the result ends with the hash of the table.
        table = (target / PREDICTIONS_FILE, self._table(digest))
        write_together([table, (target / RESULT_FILE, self._whole(head, digest))])
        return target / RESULT_FILE

    def forget_part(self) -> None:
        """Remove the file that an interrupted run would resume from."""
        if isinstance(self.records, StoredRecords):
            self.records.store.remove()

    def table_lines(self) -> Iterator[str]:
        """Yield the lines of predictions.csv."""
        names = [item.name for item in self.estimators if item.score is not None]
        common = common_subset(columns_of(self.pictures, names))
        return prediction_lines(self.records, self.estimators, common)

    def _table(self, digest: _Digest) -> Iterator[bytes]:
        for line in self.table_lines():
            data = line.encode()
            digest.update(data)
            yield data

    def _whole(self, head: str, digest: _Digest) -> Iterator[bytes]:
        """Yield the result's text, with one picture per line."""
        # A path that is not valid Unicode is written as escapes, which JSON reads back.
        yield f'{head[:-2]},\n "pictures": ['.encode("utf-8", "backslashreplace")
        separator = "\n  "
        for text in _texts(self.pictures):
            yield f"{separator}{text}".encode("utf-8", "backslashreplace")
            separator = ",\n  "
        yield f'\n ],\n "predictions_sha256": "{digest.hexdigest()}"\n}}\n'.encode()


def _texts(images: Sequence[Picture]) -> Iterator[str]:
    if isinstance(images, PictureStore):
        return images.texts()
    return (json.dumps(image, ensure_ascii=False, allow_nan=False) for image in images)


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def _estimator_json(item: EstimatorResult) -> dict[str, Any]:
    estimator, score = item.contender.estimator, item.score
    content: dict[str, Any] = {
        "name": item.name,
        "available": estimator is not None,
        "unavailable_reason": without_home(item.contender.reason),
        "mae_years": item.mae_years,
        "spec": None if estimator is None else plain(estimator.spec),
        "latency": plain(item.latency),
    }
    if score is not None:
        content |= {
            "scored": score.scored,
            "missed": score.missed,
            "failed": score.failed,
            "clipped": score.clipped,
            "errors": plain(score.errors),
            "own_errors": plain(score.own_errors),
            "classes": plain(score.classes),
            "ranges": plain(score.ranges),
            "seen_in_training": _seen_json(item),
            "contamination": item.contamination or None,
            "unseen_errors": plain(item.parts.unseen),
            "unclipped_errors": plain(item.parts.unclipped),
            "runtime_proven": reads_back_its_runtime(estimator),
        }
    return content


def _seen_json(item: EstimatorResult) -> dict[str, Any] | None:
    """Return the scored pictures that the estimator was trained on; None if not known."""
    trained, score = item.contender.trained, item.score
    if trained is None or score is None or score.seen_in_training is None:
        return None
    seen = list(score.seen_in_training)
    near = score.near_copies
    copies = None
    if near is not None:
        copies = {
            "count": len(near.names),
            "pictures": list(near.names),
            "compared_by_pixels": near.by_pixels,
        }
    return {"what": trained.what, "count": len(seen), "pictures": seen, "near_copies": copies}


@contextmanager
def output_folder(out: str | Path | None) -> Iterator[None]:
    """Prepare an output folder; on failure it is removed again if it is new and empty.

    Raises:
        AgebenchError: it can't be created or written to, or another run is using it.
    """
    with gone_if_empty(out), ExitStack() as stack:
        if out is not None:
            prepare_folder(Path(out))
            stack.enter_context(alone_in(Path(out)))
        yield


def prepare_folder(folder: Path) -> None:
    """Create the output folder and check that it can be written to, before anything slow starts.

    Raises:
        UsageError: it is a file.
        AgebenchError: it can't be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        in_the_way = [name for name in (RESULT_FILE, PREDICTIONS_FILE) if (folder / name).is_dir()]
    except (OSError, ValueError) as error:
        kind, reason = why_no_folder(error)
        raise kind(
            f"the output folder {folder} can't be written to: {reason}; give another as out (--out)"
        ) from error
    if in_the_way:
        raise AgebenchError(
            f"the output folder {folder} holds a folder named {in_the_way[0]}: "
            "give another as out (--out)"
        )
