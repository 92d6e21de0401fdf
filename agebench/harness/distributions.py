"""A few scores are kept of each predicted distribution, not the distribution itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agebench.harness.records import ImageRecord
from agebench.metrics.calibration import LEVELS, score_distributions
from agebench.types import AgeBins, AgePrediction

DISTRIBUTION_FIELDS = (
    "nll",
    "crps_years",
    "pit",
    *(f"interval_{100 * level:.0f}" for level in LEVELS),
)
"""Fields of `Outcome` that hold these scores."""

_HEX_DIGITS = 8


def _jitter(record: ImageRecord) -> float:
    """Return a number from 0 to 1 that depends only on the picture; one half without a hash."""
    digits = record.sha256[:_HEX_DIGITS]
    return (int(digits, 16) + 0.5) / 16**_HEX_DIGITS if len(digits) == _HEX_DIGITS else 0.5


def score_predictions(
    predictions: Sequence[AgePrediction], records: Sequence[ImageRecord], bins: AgeBins | None
) -> list[dict[str, Any]]:
    """Score the distributions of a batch.

    The PIT is randomised by a number derived from each picture's hash, so that runs are repeatable.

    Args:
        predictions: of one estimator.
        records: the picture of each.
        bins: what the distributions are over; None for an estimator without any.

    Returns:
        For each prediction the fields `DISTRIBUTION_FIELDS` of its outcome; empty without a
        distribution.

    Raises:
        ValueError: a distribution does not fit the bins.
    """
    found: list[dict[str, Any]] = [{} for _ in predictions]
    distributions = [item.probabilities for item in predictions]
    with_one = [at for at, one in enumerate(distributions) if one is not None]
    if bins is None or not with_one:
        return found
    true = [records[at].sample.age_years for at in with_one]
    scores = score_distributions(
        np.stack([one for one in distributions if one is not None]),
        bins,
        [np.nan if age is None else age for age in true],
        [_jitter(records[at]) for at in with_one],
    )
    singles = (scores.nll.tolist(), scores.crps_years.tolist(), scores.pit.tolist())
    ends = [scores.intervals[level].tolist() for level in LEVELS]
    for row, (at, age) in enumerate(zip(with_one, true, strict=True)):
        numbers = [None if age is None else column[row] for column in singles]
        intervals = [tuple(side[row]) for side in ends]
        found[at] = dict(zip(DISTRIBUTION_FIELDS, [*numbers, *intervals], strict=True))
    return found
