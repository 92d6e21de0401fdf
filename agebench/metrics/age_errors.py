"""Errors of predicted ages: pure functions on arrays of true and predicted ages.

Errors are predicted minus true, in years; a positive bias means that people are estimated too old.
Nothing is rounded or clipped here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType
from typing import Annotated, TypeAlias

import numpy as np
import numpy.typing as npt

from agebench.metrics.intervals import YearsInterval
from agebench.types import Floats
from agebench.util.arrays import finite_floats, same_length
from agebench.util.record_fields import By, Count, Fraction, SignedYears, Years
from agebench.util.typed_records import keyed

CS_YEARS = (1, 3, 5, 10)
"""The k of the cumulative scores CS@k in a summary."""

ROUNDING_YEARS = 1e-9
"""An error above k by less counts as k: in floats, 16.1 - 15.1 is a little more than 1."""

Scores: TypeAlias = Annotated[
    Mapping[int, float | None], By(keyed({k: str(k) for k in CS_YEARS}, Fraction | None))
]


def signed_errors(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> Floats:
    """Return predicted minus true age.

    Args:
        true_years: shape (n,), finite; n may be 0.
        predicted_years: the same.

    Returns:
        Years, shape (n,).

    Raises:
        ValueError: not one-dimensional, not finite, or of different lengths.

    >>> signed_errors([20, 30], [25, 27])
    array([ 5., -3.])
    """
    true = finite_floats("true_years", true_years)
    predicted = finite_floats("predicted_years", predicted_years)
    same_length(true_years=true, predicted_years=predicted)
    errors: Floats = predicted - true
    return errors


def absolute_errors(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> Floats:
    """Return the absolute error of each age; arguments as in `signed_errors`.

    >>> absolute_errors([20, 30], [25, 27])
    array([5., 3.])
    """
    return np.abs(signed_errors(true_years, predicted_years))


def _errors_of_any(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> Floats:
    """Return signed errors, at least one."""
    errors = signed_errors(true_years, predicted_years)
    if not len(errors):
        raise ValueError("expected at least one age, got none")
    return errors


def mae(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> float:
    """Return the mean absolute error in years.

    Args:
        true_years: shape (n,), finite, n from 1.
        predicted_years: the same.

    Raises:
        ValueError: as `signed_errors`, or there are no ages.

    >>> mae([20, 30], [25, 27])
    4.0
    """
    return float(np.abs(_errors_of_any(true_years, predicted_years)).mean())


def rmse(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> float:
    """Return the root of the mean squared error in years; arguments as in `mae`.

    >>> rmse([20, 30], [21, 37])
    5.0
    """
    return float(np.sqrt(np.mean(_errors_of_any(true_years, predicted_years) ** 2)))


def median_absolute_error(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> float:
    """Return the median absolute error in years; arguments as in `mae`.

    For an even number of errors it is the mean of the middle two.

    >>> median_absolute_error([20, 20, 20], [21, 60, 18])
    2.0
    """
    return float(np.median(np.abs(_errors_of_any(true_years, predicted_years))))


def signed_bias(true_years: npt.ArrayLike, predicted_years: npt.ArrayLike) -> float:
    """Return the mean of predicted minus true, in years; arguments as in `mae`.

    >>> signed_bias([20, 30], [25, 27])
    1.0
    """
    return float(_errors_of_any(true_years, predicted_years).mean())


def cumulative_score(
    true_years: npt.ArrayLike, predicted_years: npt.ArrayLike, years: float
) -> float:
    """Return CS@k: the fraction (0 to 1) of ages that are at most k years off.

    Args:
        true_years: shape (n,), finite, n from 1.
        predicted_years: the same.
        years: k, finite, from 0; an error of exactly k counts as within.

    Raises:
        ValueError: as `mae`, or `years` is negative or not finite.

    >>> cumulative_score([20, 30, 40], [25, 27, 60], years=5)
    0.6666666666666666
    """
    if not (np.isfinite(years) and years >= 0):
        raise ValueError(f"years: expected a number from 0, got {years}")
    errors = np.abs(_errors_of_any(true_years, predicted_years))
    return float(np.mean(errors <= years + ROUNDING_YEARS))


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of errors in years: how it is computed and displayed.

    Attributes:
        name: in `--fail-if`, in the names of ranking columns and in model cards, such as "rmse".
        key: the field of `ErrorFigures`, result.json and report.csv, such as "rmse_years".
        compute: computes it from true and predicted ages, as `mae`.
        title: heading of its column.
        name_in_text: its name in a sentence.
        hint: explanation shown when the reader points at the title.
        signed: may be negative and is shown with its sign; the best value is the one closest to 0.
        decimals: number of decimals shown.
        in_terminal: priority of its column in the terminal: if not all fit, those with the lowest
            numbers are left out first; 0 for no column.  Others: interval 8, against the best 7,
            milliseconds 5, within 5 years 4.
        in_card: whether a model card's front matter, which model hubs read, includes it.
    """

    name: str
    key: str
    compute: Callable[[npt.ArrayLike, npt.ArrayLike], float]
    title: str
    name_in_text: str
    hint: str
    signed: bool = False
    decimals: int = 2
    in_terminal: int = 0
    in_card: bool = False


METRICS = (
    Metric(
        "mae",
        "mae_years",
        mae,
        "MAE",
        "mean error",
        "mean absolute error, years, on the common pictures",
        in_terminal=9,
        in_card=True,
    ),
    Metric(
        "rmse",
        "rmse_years",
        rmse,
        "RMSE",
        "RMSE",
        "root of the mean squared error, years",
        in_card=True,
    ),
    Metric(
        "median",
        "median_years",
        median_absolute_error,
        "median",
        "median error",
        "median absolute error, years",
    ),
    Metric(
        "bias",
        "bias_years",
        signed_bias,
        "bias",
        "bias",
        "mean of predicted minus true, years",
        signed=True,
        in_terminal=6,
        in_card=True,
    ),
)
"""All metrics in years of `ErrorFigures`, starting with the one that estimators are ranked by.

Results, reports, `--fail-if`, model cards and leaderboard files take theirs from this table.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFigures:
    """The error figures of one estimator over one set of pictures.

    With `n` = 0 every figure is None: an estimator that failed on all pictures still has a row.  A
    metric added to `METRICS` gets a field at the end, None by default, as older results lack it.

    Attributes:
        n: number of pictures scored.
        mae_years: mean absolute error.
        mae_interval: its interval; None with too few people, see `mean_interval`.
        rmse_years: root of the mean squared error.
        median_years: median absolute error.
        bias_years: mean of predicted minus true.
        cs: fraction (0 to 1) of pictures at most k years off, by k.
    """

    n: Count
    mae_years: Years | None
    mae_interval: YearsInterval | None
    rmse_years: Years | None
    median_years: Years | None
    bias_years: SignedYears | None
    cs: Scores

    def __post_init__(self) -> None:
        if self.mae_years is not None and not self.n:
            raise ValueError(
                "expected a mean absolute error of at least one picture, got that of none"
            )
        object.__setattr__(self, "cs", MappingProxyType(dict(self.cs)))

    def figure(self, metric: Metric) -> float | None:
        """Return one of `METRICS`, in years."""
        value: float | None = getattr(self, metric.key)
        return value


LATER_FIGURES = frozenset(
    field.name for field in fields(ErrorFigures) if field.default is not MISSING
)
"""Metrics that older results lack."""
