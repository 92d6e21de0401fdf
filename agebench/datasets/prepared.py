"""Reads the output of `agebench prepare`: its pictures as a data set, and its crops."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np

from agebench.datasets.base import SampleList, finished, require_folder
from agebench.datasets.csv_table import CsvRow, read_csv_table
from agebench.datasets.names import shown
from agebench.datasets.prepared_layout import (
    COLUMNS,
    GROUP,
    MANIFEST_FILE,
    NAME,
    ORIGINAL_FOLDER,
    SCHEMA_VERSION,
    SETTINGS_FILE,
    picture_file,
    view_columns,
)
from agebench.errors import AgebenchError, DatasetError, UsageError, inert, suggestion
from agebench.protocols import DatasetSpec
from agebench.types import (
    LABEL_KINDS,
    Box,
    Crops,
    CropSpec,
    Face,
    FaceFrame,
    LabelKind,
    Point,
    Problem,
    Sample,
    ViewSpec,
)
from agebench.util.checks import number_in
from agebench.util.files import read_whole

Faces: TypeAlias = Literal["largest", "all"]

_FrameSource: TypeAlias = Literal["landmarks", "box", "layout"]


@dataclass(frozen=True, slots=True)
class PreparedFace:
    """One row of the manifest.

    Attributes:
        sample: the face as a sample; its picture is the upright source, with the face's box if it
            has several.
        name: of its files, without suffix; `group` is the folder of its age group.
        source: the picture's name in the original data set; `sha256` of its bytes.
        split: its part; "" without a split.
        face_index: 0 for the largest face of its picture, which has `faces` faces.
        face: as detected, in pixels of the upright source.
        landmarks_from: "detector", "dataset" or "" without landmarks.
        frame: the canonical frame that the views were cut from.
        present: per view whether there is a file.
        outside: per view the fraction (0 to 1) outside of the picture.
    """

    sample: Sample
    name: str
    group: str
    source: str
    sha256: str
    split: str
    face_index: int
    faces: int
    face: Face
    landmarks_from: str
    frame: FaceFrame
    present: Mapping[str, bool]
    outside: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSet:
    """A prepared folder: implements `agebench.protocols.Dataset`.

    Attributes:
        root: the folder.
        spec: with the label kind and terms of the original data set.
        samples: sorted by name, which is the picture's path below `root`.
        problems: rows that can't be used.
        faces: the rows by the samples' names.
        views: that were cut, with their sizes.
    """

    root: Path
    spec: DatasetSpec
    samples: Sequence[Sample]
    problems: tuple[Problem, ...]
    faces: Mapping[str, PreparedFace]
    views: Mapping[str, ViewSpec] = field(repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def crop_spec(self, views: Sequence[str]) -> CropSpec:
        """Return the spec of `views`; `vision.crops.cut_crops` gives the same from the source.

        Raises:
            UsageError: a view was not prepared.
        """
        for view in views:
            if view not in self.views:
                raise UsageError(
                    f"view {view!r} was not prepared in {self.root}: {suggestion(view, self.views)}"
                )
        return CropSpec({view: self.views[view] for view in views})

    def crops(self, name: str, views: Sequence[str]) -> Crops:
        """Read the crops of one face.

        Args:
            name: of its sample.
            views: to read.

        Returns:
            Crops of one face; a view that does not exist is marked as missing.

        Raises:
            UsageError: there is no such face or view.
            DatasetError: a file is missing, damaged or of another size than when it was written.
        """
        if name not in self.faces:
            raise UsageError(f"no face {shown(name)} in {self.root}: see its {MANIFEST_FILE}")
        face, spec = self.faces[name], self.crop_spec(views)
        pixels, present, outside = {}, {}, {}
        for view, how in spec.views.items():
            pixels[view] = np.zeros((1, *how.size_hw, 3), np.uint8)
            present[view] = np.array([face.present[view]])
            outside[view] = np.array([face.outside[view]])
            if face.present[view]:
                pixels[view][0] = self._read(face, view, how.size_hw)
        return Crops(pixels, present, outside)

    def _read(self, face: PreparedFace, view: str, size_hw: tuple[int, int]) -> Any:
        from agebench.vision.images import read_image

        path = self.root / picture_file(face.group, view, face.name)
        reason = _why_unusable(self.root, path)
        if reason:
            raise DatasetError(f"{path} {reason}: prepare it again")
        try:
            image = read_image(path)
        except AgebenchError as error:
            raise DatasetError(f"{error}: prepare it again") from error
        if image.shape[:2] != size_hw:
            raise DatasetError(
                f"{path} must be {size_hw[0]} px high and {size_hw[1]} px wide as "
                f"{SETTINGS_FILE} says, got {image.shape[0]} and {image.shape[1]}: prepare it again"
            )
        return image


def load(root: Path, faces: Faces = "largest") -> PreparedSet:
    """List the output of `agebench prepare` in `root`.

    A sample's picture is the upright source, its labels are those of the original data set.  Rows
    that can't be used are listed as problems with their line numbers.

    Args:
        root: the folder with manifest.csv and prepare.json.
        faces: "largest" gives one sample per picture, the face to which its age belongs.

    Raises:
        DatasetError: `root` is not such a folder, is incomplete, or has no usable row.
    """
    require_folder(root, "prepared", f"{MANIFEST_FILE}, as 'agebench prepare' writes it")
    views, spec = _settings(root / SETTINGS_FILE)
    if not (root / MANIFEST_FILE).exists():
        raise DatasetError(
            f"there is no {root / MANIFEST_FILE}, which lists the faces: remove the folder and "
            "prepare it again"
        )
    _, rows = read_csv_table(
        root / MANIFEST_FILE, [(column,) for column in (*COLUMNS, *view_columns(views))]
    )
    found: dict[str, PreparedFace] = {}
    problems: list[Problem] = []
    for row in rows:
        reader = _RowReader(root, row, tuple(views))
        try:
            face = reader.face()
            if face.sample.name in found:
                raise ValueError("repeats a name of an earlier row")
        except ValueError as error:
            problems.append(Problem(reader.label, f"line {row.line}: {error}"))
            continue
        found[face.sample.name] = face
    listed = [face.sample for face in found.values() if faces == "all" or face.face_index == 0]
    checked: SampleList = finished(spec, root, listed, problems)
    by_name = {sample.name: found[sample.name] for sample in checked.samples}
    return PreparedSet(root, spec, checked.samples, checked.problems, by_name, views)


def _settings(path: Path) -> tuple[dict[str, ViewSpec], DatasetSpec]:
    """Read the views and the description of the original data set."""
    try:
        if path.exists() and not path.is_file():
            raise DatasetError(f"{path} is not a regular file: prepare it again")
        if not path.exists():
            raise DatasetError(
                f"there is no {path}: expected a folder that 'agebench prepare' has finished; "
                "give its command again to finish it"
            )
        content = json.loads(read_whole(path, "such settings", 1_000_000))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} can't be read: {error}; prepare it again") from error
    try:
        if content["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema {content['schema_version']!r} instead of {SCHEMA_VERSION}")
        views = {str(name): _view(view) for name, view in content["views"].items()}
        return views, _spec(content["dataset"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            f"{path} is not as 'agebench prepare' writes it ({type(error).__name__}: "
            f"{inert(str(error))}): prepare it again"
        ) from error


def _view(content: dict[str, Any]) -> ViewSpec:
    height, width = content["size_hw"]
    if not all(type(side) is int and 1 <= side <= 2**15 for side in (height, width)):
        raise ValueError(f"size_hw {content['size_hw']!r}")
    return ViewSpec(**{**content, "size_hw": (height, width)})


def _spec(content: dict[str, Any]) -> DatasetSpec:
    if content["label_kind"] not in LABEL_KINDS:
        raise ValueError(f"label kind {content['label_kind']!r}")
    return DatasetSpec(
        name="prepared",
        label_kind=cast("LabelKind", content["label_kind"]),
        aligned=bool(content["aligned"]),
        licence=str(content["licence"]),
        source=str(content["source"]),
        citation=str(content["citation"]),
        notes=(f"prepared from {content['name']}", *map(str, content["notes"])),
    )


def _why_unusable(root: Path, path: Path) -> str:
    """Return why a file below `root` can't be used, or ""."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "is not a regular file"
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
            return "is a link out of the prepared folder"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"can't be reached: {error.strerror}"
    return ""


class _RowReader:
    """Reads one row; every method raises ValueError with the expected and the actual value."""

    def __init__(self, root: Path, row: CsvRow, views: tuple[str, ...]) -> None:
        self._root = root
        self._row = row
        self._views = views
        self.label = row.cells.get("source") or row.cells.get("name") or f"line {row.line}"

    def face(self) -> PreparedFace:
        if self._row.surplus:
            raise ValueError(f"{self._row.surplus} more cells than headers")
        name, group = self._safe("name", NAME), self._safe("group", GROUP)
        present = {view: self._flag(f"{view}_present") for view in self._views}
        outside = {view: self._fraction(f"{view}_outside") for view in self._views}
        found, faces = self._found(), self._whole("faces")
        landmarks_from = self._text("landmarks_from")
        # Of several faces the labelled one need not be the largest.
        box = found.box_xyxy if faces > 1 else None
        return PreparedFace(
            sample=self._sample(picture_file(group, ORIGINAL_FOLDER, name), box),
            name=name,
            group=group,
            source=self._text("source"),
            sha256=self._text("sha256"),
            split=self._text("split"),
            face_index=self._whole("face_index"),
            faces=faces,
            face=found,
            landmarks_from=landmarks_from,
            # The data set's own landmarks have no box: theirs is the frame's.
            frame=self._frame(None if landmarks_from == "dataset" else found.box_xyxy),
            present=present,
            outside=outside,
        )

    def _text(self, column: str) -> str:
        return self._row.cells.get(column, "")

    def _safe(self, column: str, pattern: Any) -> str:
        """Return a part of a path, refusing anything that could lead out of the folder."""
        text = self._text(column)
        if not pattern.fullmatch(text):
            raise ValueError(f"{column} {shown(text)} is not one that 'agebench prepare' writes")
        return text

    def _number(self, column: str) -> float:
        text = self._text(column)
        value = number_in(text)
        if not math.isfinite(value):
            raise ValueError(f"{column} must be a finite number, got {shown(text)}")
        return value

    def _fraction(self, column: str) -> float:
        value = self._number(column)
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{column} must be from 0 to 1, got {value}")
        return value

    def _whole(self, column: str) -> int:
        text = self._text(column)
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise ValueError(f"{column} must be a whole number, got {shown(text)}")
        return int(text)

    def _flag(self, column: str) -> bool:
        if self._text(column) not in ("0", "1"):
            raise ValueError(f"{column} must be 0 or 1, got {shown(self._text(column))}")
        return self._text(column) == "1"

    def _json(self, column: str, default: Any) -> Any:
        text = self._text(column)
        try:
            return json.loads(text) if text else default
        except (ValueError, RecursionError):
            raise ValueError(f"{column} must be JSON, got {shown(text)}") from None

    def _points(self, column: str) -> tuple[Point, ...]:
        try:
            return tuple((float(x), float(y)) for x, y in self._json(column, []))
        except (TypeError, OverflowError):
            got = shown(self._text(column))
            raise ValueError(f"{column} must be a list of [x, y], got {got}") from None

    def _found(self) -> Face:
        left, top, right, bottom = (
            self._number(f"box_{side}") for side in ("left", "top", "right", "bottom")
        )
        return Face(
            (left, top, right, bottom),
            self._fraction("detector_score"),
            self._points("landmarks"),
            self._text("landmark_scheme"),
        )

    def _frame(self, box_xyxy: Box | None) -> FaceFrame:
        found_by = self._text("frame_from")
        if found_by not in get_args(_FrameSource):
            raise ValueError(f"frame_from {shown(found_by)} is none of {get_args(_FrameSource)}")
        return FaceFrame(
            (self._number("frame_center_x"), self._number("frame_center_y")),
            self._number("frame_height"),
            self._number("frame_roll_rad"),
            cast("_FrameSource", found_by),
            self._points("frame_points"),
            box_xyxy,
        )

    def _sample(self, name: str, box_xyxy: Box | None) -> Sample:
        path = self._root / name
        reason = _why_unusable(self._root, path)
        if reason:
            raise ValueError(f"{shown(name)} {reason}")
        attributes = self._json("attributes", {})
        if not isinstance(attributes, dict):
            raise ValueError(f"attributes must be a JSON object, got {attributes!r:.80}")
        age = self._number("age_years") if self._text("age_years") else None
        bounds = None
        if self._text("age_low") or self._text("age_high"):
            bounds = self._whole("age_low"), self._whole("age_high")
        return Sample(
            path=path,
            name=name,
            age_years=age,
            age_range=bounds,
            identity=self._text("identity") or None,
            attributes={str(key): str(value) for key, value in attributes.items()},
            box_xyxy=box_xyxy,
        )
