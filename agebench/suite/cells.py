"""The cells of a suite: one model on the pictures of one set, unchanged or changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agebench import __version__
from agebench.harness.gathering import code_of
from agebench.harness.loading import reads_back_its_runtime
from agebench.harness.results import RESULT_FILE
from agebench.harness.settings import CompareSettings
from agebench.protocols import Dataset, Estimator, FaceDetector
from agebench.references import called
from agebench.suite.plan import PlannedContender, PlannedSet, SuitePlan, slug
from agebench.types import plain

AS_IS = "as-is"
"""Folder of the results on pictures that were not changed."""

RESULTS = "results"
KEY_LETTERS = 12


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one set.

    Attributes:
        contender: the model.
        pictures: the set.
        variant: how its pictures are changed; "" for no change.
        settings: of the comparison.
    """

    contender: PlannedContender
    pictures: PlannedSet
    variant: str
    settings: CompareSettings

    @property
    def title(self) -> str:
        """Its name in messages."""
        changed = f" {self.variant}" if self.variant else ""
        return f"{self.pictures.key}{changed}: {self.contender.name}"

    @property
    def place(self) -> str:
        """Subfolder of this set and variant in the folder of results."""
        return f"{self.pictures.key}/{self.variant or AS_IS}"

    def folder(self, out: Path, key: str) -> Path:
        """Return the folder of its result."""
        name = f"{slug(self.contender.name)}-{key[:KEY_LETTERS]}"
        return out / RESULTS / self.place / name

    def others(self, out: Path) -> list[Path]:
        """Return folders of results that may be of the same model on the same set, sorted.

        They may have other settings, and may be of another model whose folder name starts in the
        same way.
        """
        pattern = f"{slug(self.contender.name)}-{'[0-9a-f]' * KEY_LETTERS}"
        found = (out / RESULTS / self.place).glob(f"{pattern}/{RESULT_FILE}")
        return sorted(path.parent for path in found)


def cells_of(plan: SuitePlan) -> list[Cell]:
    """Return all cells: all models on each set in order; then those of changed pictures."""
    found = [
        _cell(plan, contender, pictures)
        for pictures in plan.sets
        for contender in plan.contenders
        if _takes_part(contender, pictures, None)
    ]
    return [*found, *_changed(plan)]


def _changed(plan: SuitePlan) -> Iterator[Cell]:
    axis = plan.robustness
    if axis is None:
        return
    for key in axis.sets:
        pictures = plan.find_set(key)
        for variant in ("untouched", *axis.variants):
            for contender in plan.contenders:
                if _takes_part(contender, pictures, axis.contenders):
                    yield _cell(plan, contender, pictures, variant, axis.sample)


def _takes_part(
    contender: PlannedContender, pictures: PlannedSet, chosen: Sequence[str] | None
) -> bool:
    wanted = chosen is None or contender.name in map(called, chosen)
    return wanted and (contender.sets is None or pictures.key in contender.sets)


def _cell(
    plan: SuitePlan,
    contender: PlannedContender,
    pictures: PlannedSet,
    variant: str = "",
    sample: int | None = None,
) -> Cell:
    settings = CompareSettings(
        limit=pictures.limit if sample is None else None,
        sample=pictures.sample if sample is None else sample,
        seed=plan.settings.seed,
        batch_size=plan.settings.batch_size,
        decode_threads=plan.settings.decode_threads,
        threads=plan.settings.threads,
        latency_pictures=0,
        protocol=pictures.protocol,
        part=pictures.part,
        variant=variant or None,
    )
    return Cell(contender, pictures, variant, settings)


def data_key(dataset: Dataset, *, attributes: bool = False) -> str:
    """Return a hash of the pictures that are scored: names, labels and sizes of their files.

    The content of files is hashed while they are measured, and stated in the result.

    Args:
        dataset: the pictures.
        attributes: hash these too, which define groups; no split depends on them.
    """
    digest = hashlib.sha256()
    for item in dataset.samples:
        try:
            size = item.path.stat().st_size
        except OSError:
            size = -1
        label = (item.name, item.age_years, item.age_range, item.identity, item.box_xyxy, size)
        further = sorted(item.attributes.items()) if attributes else []
        digest.update(json.dumps([*label, *further]).encode())
    return digest.hexdigest()


def described(model: Estimator | FaceDetector) -> dict[str, Any]:
    """Return what determines the answers of a loaded estimator or detector.

    This is its spec, which has the hashes of its weights, crops, runtime and settings.  The code of
    agebench's own classes is identified by its version, that of another package's class by its
    source.
    """
    own = reads_back_its_runtime(model)
    code = "" if own else hashlib.sha256(code_of(model)).hexdigest()
    return {"spec": plain(model.spec), "code": code}


def cell_key(cell: Cell, model: Mapping[str, Any], detector: Mapping[str, Any], data: str) -> str:
    """Return the hash of everything that determines a cell's figures.

    Args:
        cell: which.
        model: `described`.
        detector: its reference, and `described`.
        data: `data_key` of its pictures.
    """
    settings = plain(cell.settings)
    for name in ("batch_size", "decode_threads", "threads"):  # these do not affect figures
        del settings[name]
    decides = {
        "agebench": __version__,
        "model": cell.contender.name,
        "described": model,
        "dataset": cell.pictures.dataset,
        "detector": detector,
        "settings": settings,
        "data": data,
    }
    return hash_of(decides)


def hash_of(decides: Mapping[str, Any]) -> str:
    """Return a hash of what determines figures, which may have values of any type."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()
