"""Errors over parts of the common subset that are reported separately."""

from __future__ import annotations

from dataclasses import dataclass

from agebench.harness.columns import Columns
from agebench.harness.known_pictures import Known
from agebench.harness.scores import CLIPPED_FRACTION, Score, errors_at
from agebench.metrics.intervals import YearsInterval
from agebench.util.arrays import Bools
from agebench.util.record_fields import Count, Years


@dataclass(frozen=True, slots=True, kw_only=True)
class PartError:
    """The mean error over a part of the common subset.

    Attributes:
        n: number of pictures of known age in it.
        people: number of people in the pictures; None if not known.
        mae_years: their mean absolute error; None without any.
        mae_interval: its 95 % interval; None with too few.
    """

    n: Count
    people: Count | None = None
    mae_years: Years | None
    mae_interval: YearsInterval | None


@dataclass(frozen=True, slots=True)
class PartScores:
    """An estimator's error without the pictures that favour it or put it at a disadvantage.

    Attributes:
        unseen: over the pictures that it was not trained on, near copies included; None if it has
            seen none of them, or does not know.
        unclipped: over the pictures without a clipped crop; None if none was clipped.
    """

    unseen: PartError | None = None
    unclipped: PartError | None = None


def part_scores(
    columns: Columns, common: Bools, name: str, score: Score, known: Known
) -> PartScores:
    """Score an estimator over the unseen and over the unclipped pictures.

    Args:
        columns: of all pictures.
        common: shape (n,): those that every ranked estimator gave an age for.
        name: of the estimator.
        score: its figures over the common subset.
        known: the pictures it was trained on.
    """
    answers = columns.answers[name]

    def error(keep: Bools) -> PartError:
        errors = errors_at(columns, answers, common & keep)
        return PartError(
            n=errors.n,
            people=errors.people,
            mae_years=errors.mae_years,
            mae_interval=errors.mae_interval,
        )

    return PartScores(
        unseen=error(~known.rows) if known.rows.any() else None,
        unclipped=error(answers.outside <= CLIPPED_FRACTION) if score.clipped else None,
    )
