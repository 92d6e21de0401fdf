"""Adience: Flickr faces in eight age groups and five folds of different people.

The choice of rows determines to which published figures a result can be compared:

- ``labels=published`` keeps the rows whose age is written exactly as one of the eight groups.  That
  is what the authors' own script does (GilLevi/AgeGenderDeepLearning,
  DataPreparationCode/create_train_val_txt_files.py), so figures can be compared with published
  ones.  The script intends to map ``(25, 23)``, a misprint, to ``(25, 32)``, but searches for it
  without the comma and so drops it, as it drops all others.  Its five test lists have 17,424
  pictures together.
- ``labels=mapped`` also keeps the other forms, by `COMMON_CLASSES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

from agebench.datasets.base import (
    FoundFile,
    SampleList,
    finished,
    list_files,
    require_folder,
)
from agebench.datasets.csv_table import CsvRow, read_csv_table
from agebench.datasets.listed import Listed, by_ending, the_only, without_repeats
from agebench.datasets.names import AgeLabel, parse_age_label, shown
from agebench.datasets.suffixes import is_picture
from agebench.errors import DatasetError
from agebench.metrics.age_classes import ADIENCE_CLASSES, class_of_age
from agebench.protocols import DatasetSpec
from agebench.types import Problem, Sample

Pictures: TypeAlias = Literal["auto", "faces", "aligned"]
Labels: TypeAlias = Literal["published", "mapped"]

SPEC = DatasetSpec(
    name="adience",
    label_kind="apparent",
    licence="research only; see the terms on its page (unverified)",
    source="https://talhassner.github.io/home/projects/Adience/Adience-data.html",
    citation=(
        "Eidinger, Enbar, Hassner: Age and Gender Estimation of Unfiltered Faces, IEEE "
        "Transactions on Information Forensics and Security 9(12), 2014"
    ),
)

FOLDS = 5
PUBLISHED_PICTURES = 17_424
"""Number of pictures in the authors' five test lists."""

PREFIXES: Mapping[str, str] = MappingProxyType(
    {"aligned": "landmark_aligned_face", "faces": "coarse_tilt_aligned_face"}
)
"""Folder of the pictures, and prefix of their names; the published figures are of aligned ones."""

MISPRINTS: Mapping[str, str] = MappingProxyType({"(25, 23)": "(25, 32)"})

COMMON_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "3": "0-2",
        "13": "8-12",
        "22": "15-20",
        "23": "25-32",
        "34": "25-32",
        "35": "38-43",
        "36": "38-43",
        "45": "38-43",
        "46": "48-53",
        "55": "48-53",
        "56": "48-53",
        "57": "60-100",
        "58": "60-100",
        "(27, 32)": "25-32",
        "(38, 42)": "38-43",
        "(38, 48)": "38-43",
        "(8, 23)": "8-12",
    }
)
"""Class of each written age that is not a group, as in public evaluation scripts.

Sources: `AgeGenderEval` of hailo_model_zoo (edges 3, 7, 13.5, 22.5, 35, 45.5, 56.5), and a table of
single labels in a public comparison of face libraries.  They agree but for 35, the most frequent
(25-32 or 38-43, three years from both), and 55 (48-53 or 60-100).  Single ages inside a class, such
as 29, need no table.
"""

_GENDERS = {"m": "male", "f": "female"}
_COLUMNS = (("user_id",), ("original_image",), ("face_id",), ("age",))


@dataclass(frozen=True, slots=True)
class AgeClass:
    """The content of an age cell.

    Attributes:
        label: the age or range, with misprints corrected.
        class_name: one of the eight classes, "25-32".
        as_published: it is written exactly as one of the eight groups.
    """

    label: AgeLabel
    class_name: str
    as_published: bool


def parse_age(text: str) -> AgeClass | Problem:
    """Read an age cell of a fold file.

    >>> parse_age("(38, 48)").class_name, parse_age("29").class_name
    ('38-43', '25-32')
    >>> parse_age("None").reason
    'no age was noted for this face'
    """
    trimmed = " ".join(text.split())
    if trimmed in ("", "None"):
        return Problem(text, "no age was noted for this face")
    label = parse_age_label(MISPRINTS.get(trimmed, trimmed))
    if isinstance(label, Problem):
        return Problem(text, label.reason)
    if label.age_years is not None:
        index = int(class_of_age([label.age_years], ADIENCE_CLASSES)[0])
        name = COMMON_CLASSES.get(trimmed, "") if index < 0 else ADIENCE_CLASSES.labels[index]
    elif label.age_range in _CLASS_RANGES:
        name = _CLASS_RANGES[label.age_range]
    else:
        name = COMMON_CLASSES.get(trimmed, "")
    if not name:
        return Problem(text, f"age {shown(text)} belongs to none of the eight classes")
    return AgeClass(label, name, as_published=trimmed in _WRITTEN)


_CLASS_RANGES = {
    (low, high): name
    for low, high, name in zip(
        ADIENCE_CLASSES.lows, ADIENCE_CLASSES.highs, ADIENCE_CLASSES.labels, strict=True
    )
}
_WRITTEN = frozenset(f"({low}, {high})" for low, high in _CLASS_RANGES)


def load(
    root: Path,
    pictures: Pictures = "auto",
    labels: Labels = "published",
    frontal: bool = False,
) -> SampleList:
    """List Adience: the fold files, and the pictures in ``aligned`` or ``faces``.

    `Sample.age_range` is the group as written (`age_years` where a single age is written).
    Attributes: "class", one of the eight as "25-32"; "fold", "0" to "4"; "gender", if known;
    "label_note" if the age is not written as one of the eight groups.
    `Sample.identity` is album and face number: a number keeps one age group and one gender
    throughout an album.

    Args:
        root: the folder with ``fold_0_data.txt`` to ``fold_4_data.txt``.
        pictures: which ones; "auto" uses the aligned ones if there are any.
        labels: which rows; see the module's text.
        frontal: use ``fold_frontal_0_data.txt`` to ``fold_frontal_4_data.txt`` instead.

    Raises:
        DatasetError: `root` is not a folder, has no fold file or no usable picture, or a fold file
            is not a table of this form.
    """
    stem = "fold_frontal" if frontal else "fold"
    fold_files = {f"{stem}_{fold}_data.txt": str(fold) for fold in range(FOLDS)}
    require_folder(root, SPEC.name, "fold_0_data.txt to fold_4_data.txt, and aligned/ or faces/")
    files, problems = list_files(root, lambda name: name in fold_files or is_picture(name))
    folds = _folds(root, files, fold_files)
    kind = _kind(files, pictures)
    reader = _Reader(kind, labels, by_ending(files, 3))
    rows = (row for file in folds for row in reader.rows(fold_files[file.base_name], file))
    samples, repeats = without_repeats(rows)
    notes = (
        f"{kind} pictures, labels={labels}, {len(folds)} of {FOLDS} fold files of {stem}_*",
        f"{len(samples)} of {reader.count} rows kept; the authors' five test lists (labels="
        f"published, not frontal) hold {PUBLISHED_PICTURES:,} pictures",
    )
    found = [*problems, *reader.problems, *repeats]
    return finished(replace(SPEC, notes=notes), root, samples, found)


def _folds(root: Path, files: Iterable[FoundFile], names: Mapping[str, str]) -> list[FoundFile]:
    found = sorted((file for file in files if file.base_name in names), key=lambda file: file.name)
    if not found:
        raise DatasetError(
            f"data set 'adience' needs the fold files {next(iter(names))} and so on in "
            f"{str(root)!r}, but there are none: put them there"
        )
    twice = {file.base_name for file in found}
    if len(twice) < len(found):
        listed = ", ".join(file.name for file in found)
        raise DatasetError(
            f"data set 'adience' needs each fold file once, got {listed}: keep only one"
        )
    return found


def _kind(files: Iterable[FoundFile], pictures: Pictures) -> str:
    if pictures != "auto":
        return pictures
    prefix = PREFIXES["aligned"] + "."
    return "aligned" if any(file.base_name.startswith(prefix) for file in files) else "faces"


@dataclass(slots=True)
class _Reader:
    """Converts rows to samples, and records problems."""

    kind: str
    labels: Labels
    pictures: Mapping[str, list[FoundFile]]
    problems: list[Problem] = field(default_factory=list)
    count: int = 0

    def rows(self, fold: str, file: FoundFile) -> Iterator[Listed]:
        _, rows = read_csv_table(file.path, _COLUMNS)
        for row in rows:
            self.count += 1
            place = f"{file.name}:{row.line}"
            found = self._sample(fold, row)
            if isinstance(found, Problem):
                self.problems.append(Problem(found.name, f"line {place}: {found.reason}"))
            else:
                yield Listed(place, found)

    def _sample(self, fold: str, row: CsvRow) -> Sample | Problem:
        user, image, face = (
            row.cells.get(name, "") for name in ("user_id", "original_image", "face_id")
        )
        name = f"{self.kind}/{user}/{PREFIXES[self.kind]}.{face}.{image}"
        age = parse_age(row.cells.get("age", ""))
        if isinstance(age, Problem):
            return Problem(name, age.reason)
        if self.labels == "published" and not age.as_published:
            written = shown(row.cells["age"])
            reason = f"{written} is not one of the eight groups as written (labels=mapped keeps it)"
            return Problem(name, reason)
        picture = the_only(self.pictures, name)
        if isinstance(picture, str):
            return Problem(name, picture)
        attributes = {"class": age.class_name, "fold": fold}
        if gender := _GENDERS.get(row.cells.get("gender", "").lower()):
            attributes["gender"] = gender
        if not age.as_published:
            attributes["label_note"] = f"age was written {shown(row.cells['age'])}"
        return Sample(
            picture.path,
            picture.name,
            age.label.age_years,
            age.label.age_range,
            identity=f"{user}/{face}",
            attributes=attributes,
        )
