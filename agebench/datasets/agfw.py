"""AGFW, AginG Faces in the Wild: one folder per age group, as the user supplies it."""

from __future__ import annotations

import re
from pathlib import Path

from agebench.datasets.base import SampleList
from agebench.datasets.folders import list_by_folder
from agebench.datasets.names import GENDERS, AgeLabel, parse_age_label
from agebench.protocols import DatasetSpec
from agebench.types import Problem

SPEC = DatasetSpec(
    name="agfw",
    label_kind="unknown",
    licence="unverified: ask its makers",
    source="available from its makers; no public archive is known to be theirs",
    citation=(
        "Duong, Luu, Quach, Bui: Longitudinal Face Modeling via Temporal Deep Restricted "
        "Boltzmann Machines, CVPR 2016"
    ),
    notes=(
        "age groups, not ages: scored by hits and distance to the range",
        "the layout is unverified: told from public scripts that read "
        "cropped/128/{male,female}/age_15_19/",
    ),
)

_PREFIX = re.compile(r"\Aages?[ _-]?", re.IGNORECASE)
_UNDERSCORED = re.compile(r"([0-9]{1,3})_([0-9]{1,3})")


def load(root: Path) -> SampleList:
    """List AGFW, at any depth below `root`: the parent folder of a picture is its age group.

    Groups are written ``age_15_19``, ``15_19``, or as `names.parse_age_label` reads them.  A
    folder named ``male`` or ``female`` on the way gives the attribute "gender".

    Raises:
        DatasetError: `root` is not a folder or contains no usable picture.
    """
    return list_by_folder(
        SPEC,
        root,
        "one folder per age group (age_15_19)",
        nearest=True,
        parse=parse_group,
        attributes=_gender,
    )


def parse_group(folder: str) -> AgeLabel | Problem:
    """Read the name of an age group's folder.

    >>> parse_group("age_60_94")
    AgeLabel(age_years=None, age_range=(60, 94))
    """
    label = parse_age_label(_UNDERSCORED.sub(r"\1-\2", _PREFIX.sub("", folder), count=1))
    return Problem(folder, label.reason) if isinstance(label, Problem) else label


def _gender(name: str) -> dict[str, str]:
    folders = name.lower().split("/")[:-1]
    return next(({"gender": folder} for folder in reversed(folders) if folder in GENDERS), {})
