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
    """All pictures of a result whose true age is known, and their predictions.

    Attributes:
        true_years: shape (n,).
        answers: predictions by name of the available estimator.
        common: shape (n,), the pictures that every ranked estimator gave an age for.
        unranked: the reason, by name of the estimators that gave too few ages to be ranked; see
            `agebench.metrics.common_pictures.common_pictures`.
        identities: who each picture shows; None if no picture has an identity.
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
        """Names of the ranked estimators, in their order."""
        return tuple(name for name in self.answering if name not in self.unranked)

    @property
    def answering(self) -> tuple[str, ...]:
        """Names of the estimators that gave any age, in their order, ranked or not."""
        return tuple(name for name, item in self.answers.items() if item.answered.any())

    @property
    def people(self) -> Sequence[str | None] | None:
        """Who each picture shows; None if identities are not known."""
        return self.identities

    def clusters_of(self, rows: Ints) -> list[str | None] | None:
        """Return who the pictures at `rows` show; None if identities are not known."""
        return None if self.identities is None else [self.identities[row] for row in rows.tolist()]


def predictions_in(columns: Columns) -> Predictions:
    """Return the predictions for the pictures of a known age."""
    # Over all pictures, including those with range labels, as in scores.common_subset.
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
        identities = None  # only pictures of unknown age have it
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
    """Return the predictions for some of the pictures."""
    kept = known[answers.distributions.rows]
    place = np.cumsum(known) - 1
    distributions = DistributionScores(
        place[answers.distributions.rows[kept]], answers.distributions.values[kept]
    )
    return EstimatorAnswers(
        answers.years[known], answers.class_index[known], answers.outside[known], distributions
    )


def not_ranked(answered: int, of: int) -> str:
    """Return why an estimator is not ranked.

    >>> not_ranked(2, 251)
    'an age for only 2 of 251 pictures: 50 % is needed for a rank'
    """
    return (
        f"an age for only {answered} of {of} pictures: "
        f"{100 * LEAST_ANSWERED:.0f} % is needed for a rank"
    )
