"""The bundled sample: averages of twelve faces each, for demonstration and tests.

Its content and how it was made: pretrained/sample/README.md and benchmarks/make_sample.py.
"""

from __future__ import annotations

from pathlib import Path

from agebench.datasets.base import SampleList, finished
from agebench.datasets.csv_table import CsvRow, read_csv_table
from agebench.errors import DatasetError
from agebench.modelfiles.manifest import bundled_dir
from agebench.protocols import DatasetSpec
from agebench.types import MAX_AGE_YEARS, Sample

FOLDER = "sample"
LABELS_FILE = "labels.csv"
"""Columns image, age (mean of the sources' labels), gender, sources, youngest, oldest."""

SPEC = DatasetSpec(
    name="sample",
    label_kind="dex-estimated",
    aligned=True,
    licence="non-commercial research only (made from UTKFace)",
    source="agebench, pretrained/sample",
    citation=(
        "averages of faces from UTKFace: Zhang, Song, Qi: Age Progression/Regression by "
        "Conditional Adversarial Autoencoder, CVPR 2017"
    ),
    notes=(
        "FOR DEMONSTRATION AND TESTS ONLY: figures on it say nothing about how good a model is",
        "each picture is the average of twelve aligned faces of one gender and nearly one age, "
        "and shows no one person; fine wrinkles, by which age is told, average out",
    ),
    averages=True,
)


def load() -> SampleList:
    """List the bundled composites.

    Sample attributes: "gender".

    Raises:
        DatasetError: the package is damaged: a file is missing or the table is wrong.
    """
    folder = bundled_dir() / FOLDER
    table = folder / LABELS_FILE
    if not table.is_file():
        raise DatasetError(f"{table} is missing from the installation: reinstall agebench")
    _, rows = read_csv_table(table, [("image",), ("age",), ("gender",)])
    return finished(SPEC, folder, [_sample(folder, row) for row in rows], ())


def _sample(folder: Path, row: CsvRow) -> Sample:
    name, gender = row.cells.get("image", ""), row.cells.get("gender", "")
    try:
        years = float(row.cells.get("age", ""))
    except ValueError:
        years = -1.0
    path = folder / name
    if not (0 <= years <= MAX_AGE_YEARS and gender and Path(name).name == name and path.is_file()):
        raise DatasetError(
            f"line {row.line} of {folder / LABELS_FILE} is wrong or its picture {name!r} is not "
            "here: reinstall agebench"
        )
    return Sample(path, name, years, attributes={"gender": gender})
