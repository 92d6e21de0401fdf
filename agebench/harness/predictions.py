"""Predictions on pictures of known age, the input of the statistics and of `--fail-if`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from agebench.harness.columns import Columns, DistributionScores, EstimatorAnswers
from agebench.metrics.common_pictures import LEAST_ANSWERED, common_pictures
from agebench.types import Floats
from agebench.util.arrays import Bools, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """All pictures of a result whose true age is known, and what was said of them.

    Attributes:
        true_years: shape (n,).
        answers: by name of every estimator that was available, what it said of each picture.
        common: shape (n,), the pictures that every ranked estimator gave an age for.
        unranked: by name of the estimators that gave an age, but too few to be ranked, why; see
            `agebench.metrics.common_pictures.common_pictures`.
        identities: who each picture shows; None where no picture says it.
        attributes: further labels, as `agebench.harness.columns.Columns` has them.
    """

    true_years: Floats
    answers: Mapping[str, EstimatorAnswers]
    common: Bools
    unranked: Mapping[str, str]
    identities: Sequence[str | None] | None
    attributes: Mapping[str, tuple[tuple[str, ...], Ints]]

    def __post_init__(self) -> None:
        for name in ("answers", "unranked", "attributes"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the estimators that have an age for the common subset, in their order."""
        return tuple(name for name in self.answering if name not in self.unranked)

    @property
    def answering(self) -> tuple[str, ...]:
        """Names of the estimators that gave any age, in their order; some may stand apart."""
        return tuple(name for name, item in self.answers.items() if item.answered.any())

    @property
    def people(self) -> Sequence[str | None] | None:
        """Who each picture shows; None where identities are not known."""
        return self.identities

    def clusters_of(self, rows: Ints) -> list[str | None] | None:
        """Return who the pictures at `rows` show; None where identities are not known."""
        return None if self.identities is None else [self.identities[row] for row in rows.tolist()]


def predictions_in(columns: Columns) -> Predictions:
    """Return the predictions for the pictures of a known age."""
    # Over all pictures, those with a range for a label too, as in scores.common_subset.
    answered = columns.answered
    ranked, everywhere = common_pictures(answered)
    counts, most = answered.sum(axis=1), int(answered.any(axis=0).sum())
    unranked = {
        name: not_ranked(int(count), most)
        for name, count, kept in zip(columns.answers, counts, ranked, strict=True)
        if count and not kept
    }
    known = ~np.isnan(columns.true_years)
    identities = columns.identities
    if identities is not None and not known.all():
        identities = [identities[row] for row in np.flatnonzero(known).tolist()]
    if identities is not None and not any(name is not None for name in identities):
        identities = None  # only pictures of an unknown age say it
    return Predictions(
        true_years=columns.true_years[known],
        answers={name: _where(known, item) for name, item in columns.answers.items()},
        common=everywhere[known],
        unranked=unranked,
        identities=identities,
        attributes={
            name: (values, codes[known]) for name, (values, codes) in columns.attributes.items()
        },
    )


def _where(known: Bools, answers: EstimatorAnswers) -> EstimatorAnswers:
    """What was said of some of the pictures."""
    kept = known[answers.distributions.rows]
    place = np.cumsum(known) - 1
    distributions = DistributionScores(
        place[answers.distributions.rows[kept]], answers.distributions.values[kept]
    )
    return EstimatorAnswers(
        answers.years[known], answers.class_index[known], answers.outside[known], distributions
    )


def not_ranked(answered: int, of: int) -> str:
    """Say why an estimator stands apart.

    >>> not_ranked(2, 251)
    'an age for 2 of 251 pictures only: 50 % are needed to be ranked'
    """
    return (
        f"an age for {answered} of {of} pictures only: "
        f"{100 * LEAST_ANSWERED:.0f} % are needed to be ranked"
    )
