"""`prepare`: list, check, prepare what is not done yet, write the manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agebench.datasets.base import limit, sample
from agebench.datasets.prepared_layout import SCHEMA_VERSION, SETTINGS_FILE
from agebench.errors import DatasetError, UsageError
from agebench.prepare.completeness import require_complete, require_same_sources
from agebench.prepare.groups import AgeGroups, parse_groups
from agebench.prepare.identity import (
    finished_settings,
    made_of,
    made_with,
    refuse_foreign,
    refuse_other,
)
from agebench.prepare.journal import JOURNAL_FILE, Journal, read_header
from agebench.prepare.manifest import Labels, write_manifest, write_problems
from agebench.prepare.pictures import (
    JPEG_QUALITY,
    JPEG_SAMPLING,
    PreparationPlan,
    PreparationTask,
    prepare_pictures,
    stems,
)
from agebench.prepare.records import UNREADABLE
from agebench.prepare.settings import PrepareSettings
from agebench.prepare.store import (
    WORK_FOLDER,
    Store,
    new_scratch,
    remove_work_folder,
    working_folder,
)
from agebench.protocols import Dataset, DatasetSpec, ProgressStep, no_progress
from agebench.references import user_path
from agebench.registry.defaults import CHIP_DETECTOR, choose_detector
from agebench.registry.plugins import load_dataset, load_detector
from agebench.splits.align import align
from agebench.splits.files import read_split
from agebench.types import plain
from agebench.util.files import refuse_nested

STAGE = "prepare"


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """The result of `prepare`.

    Attributes:
        out: the folder.
        counts: see `manifest.Counts`, as in prepare.json.
        resumed: pictures that an earlier run had finished.
        was_complete: the folder was already complete; nothing was done.
        detector_reason: which detector was chosen and why; "" if it was named.
    """

    out: Path
    counts: Mapping[str, Any]
    resumed: int = 0
    was_complete: bool = False
    detector_reason: str = ""


def prepare(
    dataset: str | Dataset,
    out: str | Path,
    *,
    root: str | Path | None = None,
    detector: str | None = None,
    settings: PrepareSettings | None = None,
    split: str | Path | None = None,
    progress: ProgressStep = no_progress,
) -> PrepareReport:
    """Implements `agebench.prepare_dataset`, with the same arguments.

    A run that was interrupted is resumed when it is called again with the same arguments; the
    result is the same, byte for byte.  Every process loads its own detector by its reference.
    Loading is tried here first.
    """
    settings = settings or PrepareSettings()
    folder = user_path(out)
    if root is not None:
        refuse_nested(folder, user_path(root))
    pictures, parts = _listed(dataset, root, settings, split)
    chosen, reason = choose_detector(detector, pictures.spec)
    name = str(chosen)  # a reference, as `detector` is one
    wanted = made_of(pictures, parts, name, settings)
    finished = finished_settings(folder)
    if finished is not None:
        refuse_other(finished["made_of"], wanted, folder)
        if finished.get("counts", {}).get("faces"):
            require_complete(folder, pictures, progress)
        remove_work_folder(folder)
        return PrepareReport(folder, finished.get("counts", {}), was_complete=True)
    if read_header(folder / WORK_FOLDER / JOURNAL_FILE) is None:
        refuse_foreign(folder)
    about = {"made_of": wanted, "made_with": made_with(load_detector(name))}
    with working_folder(folder) as work:
        run = _Run(folder, work, pictures, Labels(pictures.spec, parts), settings)
        report = run.finish(name, about, progress)
    remove_work_folder(folder)
    return replace(report, detector_reason=reason and f"{name}: {reason}")


def _listed(
    dataset: str | Dataset,
    root: str | Path | None,
    settings: PrepareSettings,
    split: str | Path | None,
) -> tuple[Dataset, Mapping[str, str] | None]:
    """Return the pictures to prepare, and the part of each where there is a split."""
    listed = load_dataset(dataset, root) if isinstance(dataset, str) else dataset
    if not listed.samples:
        raise DatasetError(f"data set {listed.spec.name!r} holds no usable picture")
    # Aligned with the whole set: a part of it may contain none of the split's pictures.
    parts = None if split is None else align(read_split(split), listed).parts
    if settings.limit is not None:
        listed = limit(listed, settings.limit)
    elif settings.sample is not None:
        listed = sample(listed, settings.sample, settings.seed)
    with_landmarks = any(item.landmarks_path is not None for item in listed.samples)
    if settings.landmarks == "dataset" and not with_landmarks:
        raise UsageError(
            f"data set {listed.spec.name!r} has no landmarks of its own here: "
            "leave out --landmarks dataset"
        )
    return listed, parts


def _tasks(pictures: Dataset, groups: AgeGroups) -> list[PreparationTask]:
    names = stems(item.name for item in pictures.samples)
    return [
        PreparationTask(
            item.path,
            item.name,
            names[item.name],
            groups.folder(item.age_years, item.age_range),
            item.landmarks_path,
            item.box_xyxy,
        )
        for item in pictures.samples
    ]


class _Run:
    """One run in a locked folder."""

    def __init__(
        self,
        out: Path,
        work: Path,
        pictures: Dataset,
        labels: Labels,
        settings: PrepareSettings,
    ) -> None:
        self._out = out
        self._work = work
        self._pictures = pictures
        self._labels = labels
        self._settings = settings
        self._tasks = _tasks(pictures, parse_groups(settings.groups))

    def finish(
        self, detector: str, about: Mapping[str, Any], progress: ProgressStep
    ) -> PrepareReport:
        """Prepare what is not done yet and write the manifest."""
        path = self._work / JOURNAL_FILE
        started_with = read_header(path)
        if started_with is not None:
            refuse_other(started_with, about, self._out)
        scratch = new_scratch(self._work)
        plan = PreparationPlan(detector, self._settings, self._out, scratch)
        with Journal(path, about, self._out) as journal:
            before = [task.source for task in self._tasks if task.source in journal]
            records = (journal.read(source) for source in before)
            hashes = {
                record.source: record.sha256
                for record in records
                if record.sha256 or record.status == UNREADABLE
            }
            require_same_sources(self._out, self._pictures, hashes, progress)
            resumed = len(before)
            self._prepare(plan, journal, progress)
            counts = self._write(Store(self._out, scratch), journal, about)
        return PrepareReport(self._out, counts, resumed)

    def _prepare(self, plan: PreparationPlan, journal: Journal, progress: ProgressStep) -> None:
        missing: Sequence[PreparationTask] = [
            task for task in self._tasks if task.source not in journal
        ]
        total = len(self._tasks)
        before = total - len(missing)
        progress(STAGE, before, total)
        with closing(prepare_pictures(plan, missing, self._settings.processes)) as finished:
            for done, (task, line) in enumerate(finished, start=before + 1):
                journal.append(task.source, line)
                progress(STAGE, done, total)

    def _write(self, store: Store, journal: Journal, about: Mapping[str, Any]) -> dict[str, Any]:
        views = self._settings.crop_spec().views
        finished = (
            (item, task, journal.read(task.source))
            for item, task in zip(self._pictures.samples, self._tasks, strict=True)
        )
        counts, left_out = write_manifest(store, list(views), self._labels, finished)
        counts.not_listed = len(self._pictures.problems)
        write_problems(store, left_out, self._pictures.problems)
        content = {
            "schema_version": SCHEMA_VERSION,
            **about,
            "dataset": plain(self._spec_for_readers(about)),
            "views": plain(views),
            "jpeg": {"quality": JPEG_QUALITY, "sampling": JPEG_SAMPLING},
            "counts": counts.to_json(),
        }
        # The last file to be written: a folder with it is complete.
        with store.stream(SETTINGS_FILE) as file:
            file.write(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return counts.to_json()

    def _spec_for_readers(self, about: Mapping[str, Any]) -> DatasetSpec:
        """The data set's spec; its pictures are chips too if they are treated as chips here."""
        spec = self._pictures.spec
        chips = about["made_of"]["detector"] == CHIP_DETECTOR
        return replace(spec, aligned=spec.aligned or chips)
