"""The manifest: one row per face, in the order of the sources' names; and what is left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from agebench.datasets.prepared_layout import (
    COLUMNS,
    MANIFEST_FILE,
    PROBLEM_COLUMNS,
    PROBLEMS_FILE,
    view_columns,
)
from agebench.prepare.pictures import PreparationTask
from agebench.prepare.records import FaceRecord, PictureRecord
from agebench.prepare.store import Store
from agebench.protocols import DatasetSpec
from agebench.splits.parts import UNUSED
from agebench.types import Point, Problem, Sample, plain
from agebench.util.files import csv_line

NOT_LISTED = "not_listed"
"""Status of entries that the data set itself left out, before any picture was opened."""

Finished: TypeAlias = tuple[Sample, PreparationTask, PictureRecord]
LeftOut: TypeAlias = tuple[str, str, str, str]
"""Source, status, reason, and hash of the file's bytes ("" if unknown)."""


@dataclass(slots=True)
class Counts:
    """Counts of a run.

    Attributes:
        pictures: listed by the data set.
        faces: rows of the manifest.
        several_faces: pictures in which more than one face was found.
        left_out: pictures without a row, by status.
        not_listed: entries left out by the data set: pictures, folders, lines of its list.
        views: files of each view.
        missing: faces without each view.
        groups: faces in each folder.
        frames: faces by the source of their frame.
    """

    pictures: int = 0
    faces: int = 0
    several_faces: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    not_listed: int = 0
    views: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    frames: Counter[str] = field(default_factory=Counter)

    def add(self, task: PreparationTask, record: PictureRecord) -> None:
        """Add one picture."""
        self.pictures += 1
        self.several_faces += record.found > 1
        if record.status != "ok":
            self.left_out[record.status] += 1
        for face in record.faces:
            self.faces += 1
            self.groups[task.group] += 1
            self.frames[face.frame.found_by] += 1
            for name, view in face.views.items():
                (self.views if view.present else self.missing)[name] += 1

    def to_json(self) -> dict[str, Any]:
        """Return the counts with sorted keys."""
        content: dict[str, Any] = plain(self)
        return {
            key: dict(sorted(value.items())) if isinstance(value, dict) else value
            for key, value in content.items()
        }


@dataclass(frozen=True, slots=True)
class Labels:
    """The source of a manifest's labels: the data set, and the split if there is one."""

    spec: DatasetSpec
    parts: Mapping[str, str] | None

    def part(self, source: str) -> str:
        """Return a picture's part; "" without a split."""
        return "" if self.parts is None else self.parts.get(source, UNUSED)


def _points(points: Sequence[Point]) -> str:
    return json.dumps(plain(list(points)), separators=(",", ":")) if points else ""


def _row(
    labels: Labels, sample: Sample, task: PreparationTask, record: PictureRecord, index: int
) -> list[object]:
    found: FaceRecord = record.faces[index]
    face, frame = found.face, found.frame
    attributes = json.dumps(plain(sample.attributes), ensure_ascii=False, sort_keys=True)
    columns = {
        "name": found.name,
        "group": task.group,
        "source": sample.name,
        "sha256": record.sha256,
        "dataset": labels.spec.name,
        "label_kind": labels.spec.label_kind,
        "split": labels.part(sample.name),
        "age_years": sample.age_years,
        "age_low": sample.age_range and sample.age_range[0],
        "age_high": sample.age_range and sample.age_range[1],
        "identity": sample.identity,
        "attributes": attributes,
        "face_index": index,
        "faces": record.found,
        "detector_score": face.score,
        "box_left": face.box_xyxy[0],
        "box_top": face.box_xyxy[1],
        "box_right": face.box_xyxy[2],
        "box_bottom": face.box_xyxy[3],
        "landmarks": _points(face.landmarks_xy),
        "landmark_scheme": face.landmark_scheme,
        "landmarks_from": found.landmarks_from,
        "frame_from": frame.found_by,
        "frame_center_x": frame.center_xy[0],
        "frame_center_y": frame.center_xy[1],
        "frame_height": frame.height,
        "frame_roll_rad": frame.roll_rad,
        "frame_points": _points(frame.points_xy),
    }
    views = [cell for view in found.views.values() for cell in (int(view.present), view.outside)]
    return [*(columns[name] for name in COLUMNS), *views]


def write_manifest(
    store: Store, views: Sequence[str], labels: Labels, finished: Iterable[Finished]
) -> tuple[Counts, list[LeftOut]]:
    """Write the manifest; return the counts and what is left out.

    Raises:
        AgebenchError: it can't be written.
    """
    counts = Counts()
    left_out: list[LeftOut] = []
    with store.stream(MANIFEST_FILE) as file:
        file.write(csv_line((*COLUMNS, *view_columns(views))))
        for sample, task, record in finished:
            counts.add(task, record)
            if record.status != "ok":
                left_out.append((sample.name, record.status, record.reason, record.sha256))
            for index in range(len(record.faces)):
                file.write(csv_line(_row(labels, sample, task, record, index)))
    return counts, left_out


def write_problems(store: Store, left_out: Iterable[LeftOut], listed: Iterable[Problem]) -> None:
    """Write the list of pictures without a row in the manifest, with reasons.

    Raises:
        AgebenchError: it can't be written.
    """
    rows: Iterator[LeftOut] = ((item.name, NOT_LISTED, item.reason, "") for item in listed)
    with store.stream(PROBLEMS_FILE) as file:
        file.write(csv_line(PROBLEM_COLUMNS))
        file.writelines(map(csv_line, sorted([*left_out, *rows])))
