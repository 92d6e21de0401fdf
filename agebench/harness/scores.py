"""Scores of the estimators, all on the same pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agebench.harness.columns import Columns, EstimatorAnswers
from agebench.harness.known_pictures import Known
from agebench.harness.near_copies import NearCopies
from agebench.metrics.age_classes import class_of_age
from agebench.metrics.common_pictures import common_pictures
from agebench.metrics.error_summary import ErrorSummary, summarise
from agebench.metrics.intervals import people_in
from agebench.metrics.label_accuracy import (
    ClassAccuracy,
    class_accuracy,
    distance_to_range,
    range_hit,
)
from agebench.types import AgeBins, Floats, Sample
from agebench.util.arrays import Bools, Ints
from agebench.util.record_fields import Count, Fraction, FromOne, Years

CLIPPED_FRACTION = 0.05
"""A crop with more than this fraction outside the picture counts as clipped."""


@dataclass(frozen=True, slots=True)
class RangeScore:
    """Against labels that are age ranges: fraction inside, and mean distance in years."""

    n: FromOne
    hit_rate: Fraction
    distance_years: Years
    people: Count | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """The figures of one estimator.

    Attributes:
        errors: over the common subset, the pictures that every ranked estimator gave an age for;
            empty for one that gave an age for too few pictures to be ranked.
        own_errors: over all pictures that this estimator gave an age for.
        scored: number of pictures with an age.
        missed: number of pictures without a face.
        failed: number of pictures that could not be read, or that detector or estimator failed on.
        clipped: scored pictures of which a crop lies more than `CLIPPED_FRACTION` outside.
        classes: class accuracy over the common subset, where a label that is a range counts if it
            lies in one class; None for estimators without classes.
        ranges: against range labels; None if the data set has none.
        seen_in_training: names of the scored pictures that it was trained on; None if not known.
        near_copies: the scored pictures that are near copies of training pictures, without the same
            bytes; None if there are no perceptual hashes of its training pictures.
    """

    errors: ErrorSummary
    own_errors: ErrorSummary
    scored: int
    missed: int
    failed: int
    clipped: int
    classes: ClassAccuracy | None
    ranges: RangeScore | None
    seen_in_training: tuple[str, ...] | None = None
    near_copies: NearCopies | None = None


def common_subset(columns: Columns) -> Bools:
    """Return which pictures every ranked estimator gave an age for, shape (n,).

    An estimator that gave an age for few of them does not shrink the subset; see
    `agebench.metrics.common_pictures.common_pictures`.
    """
    return common_pictures(columns.answered)[1]


def people_at(columns: Columns, rows: Ints) -> list[str | None] | None:
    """Return who the pictures at `rows` show; None if nobody is known."""
    if columns.identities is None:
        return None
    who = [columns.identities[row] for row in rows.tolist()]
    return who if any(name is not None for name in who) else None


def errors_at(columns: Columns, answers: EstimatorAnswers, rows: Bools) -> ErrorSummary:
    """Return the errors over those of some pictures that have a true and a predicted age."""
    scored = np.flatnonzero(rows & answers.answered & ~np.isnan(columns.true_years))
    true, years = columns.true_years[scored], answers.years[scored]
    return summarise(true, years, clusters=people_at(columns, scored))


def age_for_class(sample: Sample, classes: AgeBins) -> float | None:
    """Return an age of the sample's true class; None if a range does not fit in one class."""
    if sample.age_years is not None or sample.age_range is None:
        return sample.age_years
    first, last = class_of_age(sample.age_range, classes).tolist()
    return float(sample.age_range[0]) if first == last >= 0 else None


def _ages_for_class(columns: Columns, classes: AgeBins) -> Floats:
    """As `age_for_class`, of all pictures; NaN if there is none."""
    found = columns.true_years.copy()
    of_range = np.flatnonzero(np.isnan(found) & (columns.ranges[:, 0] >= 0))
    first, last = (class_of_age(columns.ranges[of_range, end], classes) for end in (0, 1))
    in_one = (first == last) & (first >= 0)
    found[of_range[in_one]] = columns.ranges[of_range[in_one], 0]
    return found


def classes_at(
    columns: Columns, answers: EstimatorAnswers, rows: Bools, classes: AgeBins | None
) -> ClassAccuracy | None:
    """Return the accuracy of an estimator's own classes over some pictures; None without any."""
    if classes is None:
        return None
    ages = _ages_for_class(columns, classes)
    scored = np.flatnonzero(rows & answers.answered & ~np.isnan(ages))
    people = people_at(columns, scored)
    return class_accuracy(ages[scored], answers.class_index[scored], classes, people)


def ranges_at(columns: Columns, answers: EstimatorAnswers, rows: Bools) -> RangeScore | None:
    """Return the score against labels that are ranges, over some pictures; None without any."""
    scored = np.flatnonzero(rows & answers.answered & (columns.ranges[:, 0] >= 0))
    if not len(scored):
        return None
    ranges, years = columns.ranges[scored].astype(np.float64), answers.years[scored]
    hits, distances = range_hit(ranges, years), distance_to_range(ranges, years)
    people = people_in(people_at(columns, scored))
    return RangeScore(len(scored), float(hits.mean()), float(distances.mean()), people)


def score_estimator(
    columns: Columns,
    common: Bools,
    name: str,
    classes: AgeBins | None,
    known: Known | None = None,
) -> Score:
    """Compute all figures of an estimator.

    Args:
        columns: of all pictures.
        common: shape (n,), see `common_subset`.
        name: of the estimator.
        classes: that it answers with; None for none.
        known: the scored pictures that it was trained on, which are scored and listed.
    """
    answers = columns.answers[name]
    answered = answers.answered
    scored = int(answered.sum())
    everywhere = bool(answered[common].all())  # an unranked one gave no age for some
    ranked = common if everywhere else np.zeros_like(common)
    return Score(
        errors=errors_at(columns, answers, ranked),
        own_errors=errors_at(columns, answers, answered),
        scored=scored,
        missed=columns.no_face,
        failed=len(columns) - scored - columns.no_face,
        clipped=int((answers.outside[answered] > CLIPPED_FRACTION).sum()),
        classes=classes_at(columns, answers, ranked, classes),
        ranges=ranges_at(columns, answers, ranked),
        seen_in_training=None if known is None else known.seen,
        near_copies=None if known is None else known.near,
    )
