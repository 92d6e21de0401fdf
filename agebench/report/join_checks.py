"""Checks of results before they are joined in one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agebench.errors import AgebenchError, UsageError
from agebench.harness.comparability import comparable
from agebench.harness.reading import ResultFile
from agebench.harness.selection import scored_on
from agebench.metrics.age_errors import LATER_FIGURES, METRICS
from agebench.types import Floats
from agebench.util.arrays import Bools

TOLERANCE_YEARS = 1e-6
"""Accepted difference between an error that a file states and that of its predictions."""


def require_comparable(results: Sequence[ResultFile]) -> None:
    """Require results on the same data, with the same protocol and kind of label, each given once.

    Raises:
        UsageError: they are not; states the difference.
    """
    first = results[0]
    seen = {first.path.resolve()}
    for other in results[1:]:
        if other.path.resolve() in seen:
            raise UsageError(f"{other.path} is given twice: give it once")
        seen.add(other.path.resolve())
        reason = comparable(scored_on(first.dataset), scored_on(other.dataset))
        if not reason and [image["picture"] for image in first.pictures] != [
            image["picture"] for image in other.pictures
        ]:
            reason = "they state the same data, but list different pictures"
        if reason:
            raise UsageError(f"{first.path} and {other.path} can't be in one report: {reason}")


def require_consistent_figures(
    result: ResultFile, predictions: Mapping[str, Floats], rows: Bools, true: Floats
) -> None:
    """Require that the errors that a result states are those of the ages that it lists.

    Args:
        result: the result.
        predictions: ages by estimator, shape (n,), NaN if there is none.
        rows: which pictures the errors are over, shape (n,).
        true: known ages, shape (n,).

    Raises:
        AgebenchError: an error differs by more than `TOLERANCE_YEARS`.
    """
    for item in result.estimators:
        stated = item.errors if item.available else None
        stated_n = 0 if stated is None else stated.n
        years = predictions[item.name][rows]
        complete = bool(len(years)) and bool(np.isfinite(years).all())
        count = len(years) if complete else 0
        for metric in METRICS:
            computed = metric.compute(true[rows], years) if complete else None
            stated_years = None if stated is None else stated.figure(metric)
            if stated_years is None and metric.key in LATER_FIGURES:
                continue
            if stated_n != count or not _same(computed, stated_years):
                raise AgebenchError(
                    f"{result.path}: the {metric.name_in_text} of {item.name!r} is stated as "
                    f"{stated_years} years on {stated_n} pictures, but its predictions "
                    f"give {computed} on {count}: the file was altered; compare again"
                )


def _same(computed: float | None, stated: float | None) -> bool:
    if computed is None or stated is None:
        return computed is stated
    return abs(computed - stated) <= TOLERANCE_YEARS
