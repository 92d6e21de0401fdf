"""facial-age: face pictures in one folder per age, ``001/`` to ``110/``."""

from __future__ import annotations

from pathlib import Path

from agebench.datasets.base import SampleList
from agebench.datasets.folders import list_by_folder
from agebench.protocols import DatasetSpec

SPEC = DatasetSpec(
    name="facial-age",
    label_kind="unknown",
    licence="not stated by its publisher (unverified)",
    source="https://www.kaggle.com/datasets/frabbisw/facial-age",
    notes=(
        "how its ages were obtained is not known",
        "it is part of the merged set 'kaggle-merged', where its names are lost",
    ),
)


def load(root: Path) -> SampleList:
    """List facial-age, at any depth below `root`: the parent folder of a picture is its age.

    Raises:
        DatasetError: `root` is not a folder or contains no usable picture.
    """
    return list_by_folder(SPEC, root, "one folder per age (001 to 110)", nearest=True)
