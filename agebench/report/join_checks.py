"""What is asked of results before they stand in one report."""

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
"""By how much an error that a file states may differ from that of its predictions."""


def require_comparable(results: Sequence[ResultFile]) -> None:
    """Refuse results of other data, protocols or kinds of label, and one that is given twice.

    Raises:
        UsageError: they are such; says what differs.
    """
    first = results[0]
    seen = {first.path.resolve()}
    for other in results[1:]:
        if other.path.resolve() in seen:
            raise UsageError(f"{other.path} is given twice")
        seen.add(other.path.resolve())
        reason = comparable(scored_on(first.dataset), scored_on(other.dataset))
        if not reason and [image["picture"] for image in first.pictures] != [
            image["picture"] for image in other.pictures
        ]:
            reason = "they say that their data are the same, but list other pictures"
        if reason:
            raise UsageError(f"{first.path} and {other.path} can't stand in one report: {reason}")


def require_own_figures(
    result: ResultFile, predictions: Mapping[str, Floats], rows: Bools, true: Floats
) -> None:
    """Refuse a result whose errors in years are not those of the ages that it lists.

    Args:
        result: with its errors.
        predictions: ages by estimator, shape (n,), NaN where there is none.
        rows: the pictures that the errors are over, shape (n,).
        true: known ages, shape (n,).

    Raises:
        AgebenchError: one differs by more than `TOLERANCE_YEARS`.
    """
    for item in result.estimators:
        stated = item.errors if item.available else None
        stated_n = 0 if stated is None else stated.n
        years = predictions[item.name][rows]
        alive = bool(len(years)) and bool(np.isfinite(years).all())
        count = len(years) if alive else 0
        for metric in METRICS:
            own = metric.compute(true[rows], years) if alive else None
            told = None if stated is None else stated.figure(metric)
            if told is None and metric.key in LATER_FIGURES:
                continue
            if stated_n != count or not _same(own, told):
                raise AgebenchError(
                    f"{result.path}: the {metric.name_in_text} of {item.name!r} is stated as "
                    f"{told} years on {stated_n} pictures, but its predictions "
                    f"give {own} on {count}: the file was altered; compare again"
                )


def _same(own: float | None, stated: float | None) -> bool:
    if own is None or stated is None:
        return own is stated
    return abs(own - stated) <= TOLERANCE_YEARS
