"""The JSON of a result as arrays: what the statistics and the gates work on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from agebench.arrays import Bools
from agebench.metrics import LEAST_ANSWERED, common_pictures
from agebench.types import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """All pictures of a result whose true age is known, and what was said of them.

    Attributes:
        true_years: shape (n,).
        predicted_years: by name of every estimator that was available, shape (n,); NaN where it
            gave no age.
        common: shape (n,), the pictures that every ranked estimator gave an age for.
        apart: by name of the estimators that gave an age, but too few to be ranked, why; see
            `agebench.metrics.common_pictures`.
        identities: who each picture shows; None where no picture says it.
        attributes: further labels of each picture.
        outcomes: by name of the estimator, the prediction of each picture as in the JSON; None
            where it was not asked.
    """

    true_years: Floats
    predicted_years: Mapping[str, Floats]
    common: Bools
    apart: Mapping[str, str]
    identities: Sequence[str | None] | None
    attributes: Sequence[Mapping[str, str]]
    outcomes: Mapping[str, Sequence[Mapping[str, Any] | None]]

    def __post_init__(self) -> None:
        for name in ("predicted_years", "outcomes", "apart"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the estimators that have an age for the common subset, in their order."""
        return tuple(name for name in self.answering if name not in self.apart)

    @property
    def answering(self) -> tuple[str, ...]:
        """Names of the estimators that gave any age, in their order; some may stand apart."""
        given = self.predicted_years
        return tuple(name for name in given if not np.isnan(given[name]).all())

    @property
    def people(self) -> list[str | None] | None:
        """Who each picture shows; None where identities are not known."""
        return self.clusters_of(range(len(self.true_years)))

    def clusters_of(self, rows: Sequence[int]) -> list[str | None] | None:
        """Return who the pictures at `rows` show; None where identities are not known."""
        return None if self.identities is None else [self.identities[row] for row in rows]


def _years(outcomes: Sequence[Mapping[str, Any] | None]) -> Floats:
    years = [None if item is None else item["years"] for item in outcomes]
    return np.array([np.nan if age is None else age for age in years], dtype=np.float64)


def read_predictions(result: Mapping[str, Any]) -> Predictions:
    """Return the predictions of a result, from its JSON.

    Args:
        result: what result.json holds; only `estimators` and `images` are looked at.
    """
    names = [item["name"] for item in result["estimators"] if item["available"]]
    images = [image for image in result["images"] if image["true_years"] is not None]
    outcomes = {name: [image["predictions"].get(name) for image in images] for name in names}
    predicted = {name: _years(given) for name, given in outcomes.items()}
    # Over all pictures, those with a range for a label too, as in scores.common_subset.
    answered = np.array(
        [[_has_age(image["predictions"].get(name)) for image in result["images"]] for name in names]
    ).reshape(len(names), len(result["images"]))
    ranked, everywhere = common_pictures(answered)
    of_years = [image["true_years"] is not None for image in result["images"]]
    common = everywhere[np.asarray(of_years, np.bool_)]
    counts, most = answered.sum(axis=1), int(answered.any(axis=0).sum())
    apart = {
        name: not_ranked(int(count), most)
        for name, count, kept in zip(names, counts, ranked, strict=True)
        if count and not kept
    }
    identities = [image["identity"] for image in images]
    known = any(name is not None for name in identities)
    return Predictions(
        true_years=np.array([image["true_years"] for image in images], dtype=np.float64),
        predicted_years=predicted,
        common=common,
        apart=apart,
        identities=identities if known else None,
        attributes=[image["attributes"] for image in images],
        outcomes=outcomes,
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


def _has_age(outcome: Mapping[str, Any] | None) -> bool:
    return outcome is not None and outcome["years"] is not None
