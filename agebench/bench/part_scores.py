"""Errors over parts of the common subset that a reader must be able to see alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from agebench.bench.records import ImageRecord
from agebench.bench.scores import CLIPPED_SHARE, Score
from agebench.intervals import Interval
from agebench.metrics import summarise

Keep: TypeAlias = Callable[[ImageRecord], bool]


@dataclass(frozen=True, slots=True)
class PartError:
    """The mean error over a part of the common subset.

    Attributes:
        n: pictures of a known age in it.
        mae_years: their mean absolute error; None without any.
        mae_interval: its 95 % interval; None with too few.
        people: number of people in the pictures; None where they are not known.
    """

    n: int
    mae_years: float | None
    mae_interval: Interval | None
    people: int | None = None


@dataclass(frozen=True, slots=True)
class PartScores:
    """What remains of an estimator's error without pictures that speak for or against it.

    Attributes:
        unseen: over the pictures that it was trained neither on nor on near copies of; None where
            it has seen none of them, or does not know.
        unclipped: over the pictures of which no crop of it was clipped; None where none was.
    """

    unseen: PartError | None = None
    unclipped: PartError | None = None


def part_scores(common: Sequence[ImageRecord], index: int, score: Score) -> PartScores:
    """Score the estimator at position `index` over the unseen and over the unclipped pictures.

    Args:
        common: the pictures that every estimator gave an age for.
        index: the estimator's position in the outcomes.
        score: its figures over all of them.
    """
    seen = score.known_from_training

    def error(keep: Keep) -> PartError:
        return _error([record for record in common if keep(record)], index)

    return PartScores(
        unseen=error(lambda record: record.sample.name not in seen) if seen else None,
        unclipped=error(lambda record: record.outcomes[index].outside <= CLIPPED_SHARE)
        if score.clipped
        else None,
    )


def _error(records: Sequence[ImageRecord], index: int) -> PartError:
    true, predicted, people = [], [], []
    for record in records:
        # One that failed everywhere is not waited for: it has no outcome on the common pictures.
        years = record.outcomes[index].years if index in record.outcomes else None
        if record.sample.age_years is not None and years is not None:
            true.append(record.sample.age_years)
            predicted.append(years)
            people.append(record.sample.identity)
    known = any(person is not None for person in people)
    errors = summarise(true, predicted, clusters=people if known else None)
    return PartError(errors.n, errors.mae_years, errors.mae_interval, errors.people)
