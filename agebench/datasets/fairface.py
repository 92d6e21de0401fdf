"""FairFace: 97,698 labelled faces from Flickr; age groups, gender and race in two lists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
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
from agebench.datasets.listed import Listed, by_ending, path_ending, the_only, without_repeats
from agebench.datasets.names import OPEN_RANGE_TOP_YEARS, shown
from agebench.datasets.suffixes import is_picture
from agebench.errors import DatasetError
from agebench.protocols import DatasetSpec
from agebench.types import Problem, Sample

Part: TypeAlias = Literal["all", "train", "val"]

SPEC = DatasetSpec(
    name="fairface",
    label_kind="apparent",
    licence="CC BY 4.0",
    source="https://github.com/joojs/fairface",
    citation=(
        "Karkkainen, Joo: FairFace: Face Attribute Dataset for Balanced Race, Gender, and Age, "
        "WACV 2021"
    ),
    notes=("age groups, not ages: scored by hits and distance to the range",),
)

LISTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("fairface_label_train.csv", "train.csv"),
        "val": ("fairface_label_val.csv", "val.csv"),
    }
)
"""Names, in lower case, of the list of each part; the first that exists is used."""

AGE_GROUPS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "0-2": (0, 2),
        "3-9": (3, 9),
        "10-19": (10, 19),
        "20-29": (20, 29),
        "30-39": (30, 39),
        "40-49": (40, 49),
        "50-59": (50, 59),
        "60-69": (60, 69),
        "more than 70": (70, OPEN_RANGE_TOP_YEARS),
    }
)
"""The nine age groups as in the lists; "more than 70" follows 60-69, so it includes 70."""

_ALIASES = {"70+": "more than 70"}
# What spreadsheets make of "3-9" and "10-19"; the other groups can't be mistaken for a date.
_DAMAGED = (
    (re.compile(r"0?3[-. ]sep[a-z]*|sep[a-z]*[-. ]0?3", re.IGNORECASE), "3-9"),
    (re.compile(r"19[-. ]oct[a-z]*|oct[a-z]*[-. ]19", re.IGNORECASE), "10-19"),
)


@dataclass(frozen=True, slots=True)
class AgeGroup:
    """An age group from a cell.

    Attributes:
        name: a key of `AGE_GROUPS`.
        repaired: the cell was a date that a spreadsheet had made of it.
    """

    name: str
    repaired: bool = False


def parse_group(text: str) -> AgeGroup | Problem:
    """Read an age group; those that a spreadsheet turned into a date are repaired.

    >>> parse_group("03-Sep")
    AgeGroup(name='3-9', repaired=True)
    """
    trimmed = " ".join(text.split())
    name = trimmed.lower().replace("\u2013", "-")
    name = _ALIASES.get(name, name)
    if name in AGE_GROUPS:
        return AgeGroup(name)
    for pattern, meant in _DAMAGED:
        if pattern.fullmatch(trimmed):
            return AgeGroup(meant, repaired=True)
    return Problem(text, f"{shown(text)} is none of FairFace's nine age groups, such as 20-29")


def load(root: Path, part: Part = "all") -> SampleList:
    """List FairFace: its lists and the folders ``train`` and ``val``, at any depth below `root`.

    Samples have `age_range` and the attributes "gender" (lower case), "race", "service_test" and
    "part" ("train" or "val"); "label_note" if a damaged age group was repaired.

    Args:
        root: the folder with lists and pictures, of one of the two margins.
        part: of which list.

    Raises:
        DatasetError: `root` is not a folder, has no list or no usable picture, or a list is not
            a CSV file of this form.
    """
    holds = "fairface_label_train.csv, fairface_label_val.csv, train/ and val/"
    require_folder(root, SPEC.name, holds)
    files, problems = list_files(root, lambda name: is_picture(name) or name.lower() in _ALL_LISTS)
    lists = _lists(root, files, part)
    reader = _Reader(by_ending((file for file in files if is_picture(file.name)), 2))
    rows = (row for name, file in lists.items() for row in reader.rows(name, file))
    samples, repeats = without_repeats(rows)
    found = finished(SPEC, root, samples, [*problems, *reader.problems, *repeats])
    return replace(found, spec=replace(SPEC, notes=(*SPEC.notes, *reader.notes)))


_ALL_LISTS = frozenset(name for names in LISTS.values() for name in names)


def _lists(root: Path, files: list[FoundFile], part: Part) -> dict[str, FoundFile]:
    """Return the list of each wanted part, one at most."""
    found: dict[str, FoundFile] = {}
    for name in ("train", "val") if part == "all" else (part,):
        for known in LISTS[name]:
            named = [file for file in files if file.base_name.lower() == known]
            if len(named) > 1:
                names = ", ".join(sorted(file.name for file in named))
                raise DatasetError(
                    f"data set 'fairface' needs one list {known!r} in {str(root)!r}, but there are "
                    f"{len(named)} ({names}): give the folder of one"
                )
            if named:
                found[name] = named[0]
                break
    if not found:
        raise DatasetError(
            f"data set 'fairface' needs fairface_label_train.csv or fairface_label_val.csv in "
            f"{str(root)!r} (part={part}), but it has none: put the label lists there"
        )
    return found


@dataclass(slots=True)
class _Reader:
    """Converts rows to samples, counts repairs, and records problems."""

    pictures: Mapping[str, list[FoundFile]]
    problems: list[Problem] = field(default_factory=list)
    repaired: Counter[str] = field(default_factory=Counter)

    def rows(self, part: str, file: FoundFile) -> Iterator[Listed]:
        _, rows = read_csv_table(file.path, (("file",), ("age",)))
        for row in rows:
            place = f"{file.name}:{row.line}"
            found = self._sample(part, row)
            if isinstance(found, Problem):
                name = found.name or f"line {place}"
                self.problems.append(Problem(name, f"line {place}: {found.reason}"))
            else:
                yield Listed(place, found)

    def _sample(self, part: str, row: CsvRow) -> Sample | Problem:
        cells = dict(row.cells)
        written, age = cells.pop("file", ""), cells.pop("age", "")
        if not written:
            return Problem("", "no picture name")
        picture = the_only(self.pictures, path_ending(written, 2))
        if isinstance(picture, str):
            return Problem(written, picture)
        group = parse_group(age)
        if isinstance(group, Problem):
            return Problem(written, group.reason)
        known = ("gender", "race", "service_test")
        attributes = {"part": part} | {name: cells[name] for name in known if name in cells}
        if "gender" in attributes:
            attributes["gender"] = attributes["gender"].lower()
        if group.repaired:
            self.repaired[f"{age!r} read as {group.name}"] += 1
            attributes["label_note"] = f"age group was written {shown(age)}"
        return Sample(
            picture.path, picture.name, None, AGE_GROUPS[group.name], attributes=attributes
        )

    @property
    def notes(self) -> list[str]:
        return [
            f"{count} age groups {what}: a spreadsheet had damaged them"
            for what, count in sorted(self.repaired.items())
        ]
