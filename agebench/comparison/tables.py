"""A comparison's figures as pandas tables."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agebench.errors import MissingDependencyError

if TYPE_CHECKING:
    from types import ModuleType

    from pandas import DataFrame


def estimators_table(rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """Return one row per estimator.

    Raises:
        MissingDependencyError: pandas is not installed.
    """
    table: DataFrame = _pandas().DataFrame([dict(row) for row in rows])
    return table


def predictions_table(lines: Iterable[str]) -> DataFrame:
    """Return the lines of predictions.csv as a table: one row per picture and estimator.

    Raises:
        MissingDependencyError: pandas is not installed.
    """
    # A name such as "nan" or "007.jpg" is a name; empty cells of figures are NaN.
    names = ("image", "estimator", "identity", "status", "reason", "sha256")
    texts = dict.fromkeys(names, str)
    table: DataFrame = _pandas().read_csv(
        io.StringIO("".join(lines)), dtype=texts, na_values=[""], keep_default_na=False
    )
    return table


def _pandas() -> ModuleType:
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingDependencyError(
            f"tables need pandas ({error}): pip install 'agebench[notebook]'"
        ) from error
    return pd
