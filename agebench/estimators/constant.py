"""`constant`: the same age for everybody, the baseline that every estimator should beat."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import numpy as np

from agebench.errors import DatasetError, UsageError
from agebench.protocols import EstimatorSpec
from agebench.types import MAX_AGE_YEARS, AgePrediction, Crops, CropSpec, Setting, ViewSpec
from agebench.util.checks import number_in
from agebench.util.regular_files import read_regular

DEFAULT_YEARS = 30.0
"""A round number near UTKFace's median age, not computed from the scored pictures."""

_MAX_FILE_BYTES = 256 * 1024 * 1024


class Constant:
    """Predicts the same age for every face.

    Args:
        years: the age; 0 to `MAX_AGE_YEARS`.
        median_of: a CSV file with a column ``age``, whose median is used: that of a *training*
            part, never of the scored pictures, which would leak the answers.

    Raises:
        UsageError: both are given, or `years` is not an age.
        DatasetError: the CSV can't be read, has no column ``age``, no rows, or a wrong age.

    >>> Constant(years=40).spec.settings["years"]
    40.0
    """

    def __init__(self, years: float | None = None, median_of: Path | None = None) -> None:
        if years is not None and median_of is not None:
            raise UsageError("constant takes either years or median_of: omit one")
        settings: dict[str, Setting] = {}
        if median_of is not None:
            ages, sha256 = _read_ages(median_of)
            years = float(np.median(ages))
            settings = {"median_of": median_of.name, "sha256": sha256, "count": len(ages)}
            note = f"the median of {len(ages)} ages in {median_of.name}"
        elif years is not None:
            note = "a given age"
        else:
            years = DEFAULT_YEARS
            note = "a round number, not fitted to data; 'median_of=TRAIN.csv' fits it"
        if not 0.0 <= years <= MAX_AGE_YEARS:
            raise UsageError(f"constant: years must be 0..{MAX_AGE_YEARS:g}, got {years}")
        self._years = float(years)
        self._spec = EstimatorSpec(
            name="constant",
            crop=CropSpec({"face": ViewSpec("face", (1, 1))}),
            decode="constant",
            settings={"years": self._years, **settings},
            licence="Apache-2.0",
            notes=(f"predicts {self._years:g} years for everybody: {note}",),
        )

    @property
    def spec(self) -> EstimatorSpec:
        """See `agebench.protocols.Estimator.spec`."""
        return self._spec

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        """Return the same age for each face; it needs no view, so none can be missing."""
        return [AgePrediction(self._years) for _ in range(len(crops))]


def _read_ages(path: Path) -> tuple[list[float], str]:
    """Return the ages of a CSV file and the sha256 of its bytes."""
    try:
        if not path.is_file():
            raise DatasetError(f"{path}: expected a CSV file with a column 'age', found no file")
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise DatasetError(f"{path}: larger than {_MAX_FILE_BYTES} bytes, expected a CSV file")
        content = read_regular(path)
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        if "age" not in (rows.fieldnames or ()):
            raise DatasetError(f"{path}: expected a column 'age', got {rows.fieldnames}")
        ages = [_age(row["age"], path, rows.line_num) for row in rows]
    except OSError as error:
        raise DatasetError(f"{path}: can't be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: expected a CSV file in UTF-8: {error}") from error
    if not ages:
        raise DatasetError(f"{path}: expected at least one row under the column 'age', got none")
    return ages, hashlib.sha256(content).hexdigest()


def _age(text: str | None, path: Path, line: int) -> float:
    age = number_in(text)
    if not 0.0 <= age <= MAX_AGE_YEARS:
        raise DatasetError(
            f"{path}, line {line}: expected an age of 0..{MAX_AGE_YEARS:g} years, got {text!r}"
        )
    return age
