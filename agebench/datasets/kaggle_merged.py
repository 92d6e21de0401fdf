"""The merged set of UTKFace and facial-age on Kaggle, with nine altered copies per training face.

Its names were made by public notebooks: ``8_163.jpg`` is the 163rd face of age 8.  The folder
``combined_faces_train_augmented`` contains it again, and as ``8_163_rot_pos40.jpg``,
``8_163_rot_pos20.jpg``, ``8_163_rot_neg20.jpg``, ``8_163_rot_neg40.jpg``, ``8_163_fliplr.jpg``
and ``8_163_fliplr_rot_pos40.jpg`` to ``8_163_fliplr_rot_neg40.jpg``.  Source:
sreegeethi/Age-classification-using-facial-detection, 4_5_training_data_augmentation.ipynb, which
makes 234,400 pictures of 23,440; it is likely but not proven that it made the published archive.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from agebench.datasets.base import (
    ORIGIN,
    FoundFile,
    SampleList,
    finished,
    list_files,
    require_folder,
)
from agebench.datasets.csv_table import CsvRow, read_csv_table
from agebench.datasets.listed import path_ending
from agebench.datasets.names import UTKFACE_OLDEST_YEARS, parse_age_label, shown
from agebench.datasets.suffixes import is_picture
from agebench.errors import DatasetError
from agebench.protocols import DatasetSpec
from agebench.types import Problem, Sample

SPEC = DatasetSpec(
    name="kaggle-merged",
    label_kind="unknown",
    licence="not stated by its publisher (unverified); UTKFace is non-commercial research only",
    source=(
        "https://www.kaggle.com/datasets/skillcate/merged-augmented-utk-faces-facial-age-dataset"
    ),
    notes=(
        "most of it is UTKFace, whose ages DEX estimated; which ones is not recorded: a model "
        "trained on this set has seen UTKFace's test pictures",
        "copies of one original share the attribute 'origin'; that was told from their names "
        "alone, by the rule of a public notebook (unverified)",
    ),
)

KNOWN_ALTERATIONS = frozenset(
    flip + turn
    for flip in ("", "fliplr_")
    for turn in ("rot_pos40", "rot_pos20", "rot_neg20", "rot_neg40")
) | {"fliplr"}

_NAME = re.compile(
    r"(?P<origin>(?P<age>[0-9]{1,3})_[0-9]{1,7})"
    r"(?:_(?P<altered>[a-z][a-z0-9_-]{0,60}|[0-9]{1,3}))?"
    r"\.(?:jpe?g|png)",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class MergedName:
    """The content of a file name of the merged set.

    Attributes:
        age_years: 0 to 116.
        origin: the original's name without suffix: "8_163".
        altered: how the copy was altered, "rot_pos40"; "" for an unaltered picture.
    """

    age_years: int
    origin: str
    altered: str = ""


def parse_kaggle_merged(file_name: str) -> MergedName | Problem:
    """Read ``AGE_NUMBER.jpg`` or ``AGE_NUMBER_ALTERATION.jpg``.

    >>> parse_kaggle_merged("8_163_fliplr_rot_neg20.jpg")
    MergedName(age_years=8, origin='8_163', altered='fliplr_rot_neg20')
    """
    match = _NAME.fullmatch(file_name)
    if not match:
        reason = "expected a name such as 8_163.jpg (age 8) or 8_163_rot_pos40.jpg"
        return Problem(file_name, reason)
    if int(match["age"]) > UTKFACE_OLDEST_YEARS:
        return Problem(file_name, f"age {match['age']} is above {UTKFACE_OLDEST_YEARS} years")
    return MergedName(int(match["age"]), match["origin"], (match["altered"] or "").lower())


def load(root: Path, altered: bool = True) -> SampleList:
    """List the merged set, at any depth below `root`: pictures and CSV files ``filename,age``.

    A picture's age comes from the CSV files if one names it (by its file name: their folders are
    those of another machine), otherwise from its name.  If the two differ, or two CSV rows do, the
    picture is omitted.  Attributes: `ORIGIN`, equal for all copies of one original, in both
    folders; "altered", such as "rot_pos40", on altered copies.

    Args:
        root: the folder of one or both picture folders, and the CSV files.
        altered: include the rotated and mirrored copies, which measuring does not need.

    Raises:
        DatasetError: `root` is not a folder or contains no usable picture.
    """
    require_folder(root, SPEC.name, "combined_faces/ with names such as 8_163.jpg")
    files, problems = list_files(
        root, lambda name: is_picture(name) or name.lower().endswith(".csv")
    )
    ages = _CsvAges()
    for file in files:
        if not is_picture(file.name):
            ages.read(file)
    samples: list[Sample] = []
    for file in files:
        found = _sample(file, ages) if is_picture(file.name) else None
        if isinstance(found, Problem):
            problems.append(found)
        elif found is not None and (altered or "altered" not in found.attributes):
            samples.append(found)
    notes = (*SPEC.notes, *_notes(samples, ages))
    return finished(replace(SPEC, notes=notes), root, samples, [*problems, *ages.problems])


@dataclass(slots=True)
class _CsvAges:
    """The ages in the CSV files, by file name without folders."""

    years: dict[str, set[float]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def read(self, file: FoundFile) -> None:
        """Add all rows of one file; a file that is not such a list is one problem."""
        try:
            _, rows = read_csv_table(file.path, (("filename",), ("age",)))
            for row in rows:
                self._note(file, row)
        except DatasetError as error:
            self.problems.append(Problem(file.name, f"not used: {error}"))

    def _note(self, file: FoundFile, row: CsvRow) -> None:
        written = row.cells.get("filename", "")
        label = parse_age_label(row.cells.get("age", ""))
        reason = "" if written else "no picture name"
        if isinstance(label, Problem):
            reason = label.reason
        elif label.age_years is None:
            reason = f"age {shown(row.cells['age'])} is a range: expected a number"
        else:
            self.years.setdefault(path_ending(written, 1), set()).add(label.age_years)
        if reason:
            self.problems.append(Problem(f"{file.name}:{row.line}", reason))

    def of(self, base_name: str) -> float | Problem | None:
        """Return the age of a picture; None if no row names it."""
        self.used.add(base_name)
        years = self.years.get(base_name, set())
        if len(years) > 1:
            listed = ", ".join(f"{age:g}" for age in sorted(years))
            return Problem(base_name, f"the CSV files give different ages for it: {listed}")
        return next(iter(years), None)

    @property
    def unused(self) -> int:
        """Number of pictures that are named but do not exist."""
        return sum(name not in self.used for name in self.years)


def _sample(file: FoundFile, ages: _CsvAges) -> Sample | Problem:
    listed = ages.of(file.base_name)
    name = parse_kaggle_merged(file.base_name)
    if isinstance(listed, Problem):
        return Problem(file.name, listed.reason)
    if isinstance(name, Problem):
        if listed is None:
            return Problem(file.name, f"{name.reason}, and no CSV file gives its age")
        stem = file.base_name.rpartition(".")[0]
        return Sample(file.path, file.name, listed, attributes={ORIGIN: stem})
    if listed is not None and listed != name.age_years:
        reason = f"its name says {name.age_years} years, the CSV file {listed:g}: not used"
        return Problem(file.name, reason)
    attributes = {ORIGIN: name.origin} | ({"altered": name.altered} if name.altered else {})
    return Sample(file.path, file.name, float(name.age_years), attributes=attributes)


def _notes(samples: Iterable[Sample], ages: _CsvAges) -> list[str]:
    notes = []
    kinds = Counter(sample.attributes.get("altered", "") for sample in samples)
    unknown = sum(kinds.values()) - kinds[""] - sum(kinds[kind] for kind in KNOWN_ALTERATIONS)
    if unknown:
        example = min(kind for kind in kinds if kind and kind not in KNOWN_ALTERATIONS)
        notes.append(
            f"{unknown} pictures are named as copies in a way not known here, such as "
            f"'_{example}': treated as copies of the picture named before it"
        )
    if ages.unused:
        notes.append(f"{ages.unused} pictures that the CSV files name are not here")
    return notes
