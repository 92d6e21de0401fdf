"""Age thresholds: how many people are wrongly let pass, and how many are wrongly stopped.

A check has a legal age (the threshold) and a challenge age, the threshold plus a buffer: whoever is
estimated at the challenge age or above passes, everyone else is challenged, for example asked for
an identity document.  This is the "Challenge-T" policy of NIST's FATE Age Estimation and
Verification (NIST IR 8525, 2024), where a false positive is a person under age who is estimated at
or above the challenge age.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agebench.metrics.intervals import (
    LEVEL,
    MINIMUM_PICTURES,
    Interval,
    ProportionInterval,
    cluster_codes,
    people_in,
)
from agebench.metrics.proportions import proportion_interval
from agebench.util.arrays import ages, finite_floats, same_length
from agebench.util.record_fields import Count, Fraction, Years

THRESHOLDS_YEARS = (13, 16, 18, 21, 25)
"""Legal ages in use: data protection, social networks, adulthood, alcohol in places, and 25."""

BUFFERS_YEARS = tuple(range(11))
"""Whole years added to the threshold."""


@dataclass(frozen=True, slots=True)
class ThresholdRates:
    """Error rates at one threshold and buffer, over pictures with a known age.

    Attributes:
        threshold_years: the legal age.
        buffer_years: added to the legal age to give the challenge age.
        minors: pictures of people below the legal age.
        adults: pictures of people at or above it.
        false_pass_rate: fraction of the minors estimated at or above the challenge age (NIST: false
            positive rate); None with too few minors.
        false_pass_interval: its interval; None without one.
        false_stop_rate: fraction of the adults estimated below the challenge age (false negative
            rate); None with too few adults.
        false_stop_interval: its interval.
        minor_people, adult_people: number of people in these pictures; None if not known.
    """

    threshold_years: Years
    buffer_years: Years
    minors: Count
    adults: Count
    false_pass_rate: Fraction | None
    false_pass_interval: ProportionInterval | None
    false_stop_rate: Fraction | None
    false_stop_interval: ProportionInterval | None
    minor_people: Count | None = None
    adult_people: Count | None = None


def threshold_rates(
    true_years: npt.ArrayLike,
    predicted_years: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    thresholds_years: Sequence[int] = THRESHOLDS_YEARS,
    buffers_years: Sequence[int] = BUFFERS_YEARS,
    minimum: int = MINIMUM_PICTURES,
    level: float = LEVEL,
) -> tuple[ThresholdRates, ...]:
    """Return the error rates, by threshold and then by buffer.

    Args:
        true_years: shape (n,), 0 to `MAX_AGE_YEARS`; n may be 0.
        predicted_years: shape (n,), finite.
        clusters: who each picture shows; the intervals are then over people, see `proportions`.
        thresholds_years: legal ages.
        buffers_years: years added to each.
        minimum: pictures needed on a side of the legal age to give the rate of that side.
        level: confidence of the intervals.

    Raises:
        ValueError: a shape, length or value is not as above.

    >>> true, predicted = [15, 17, 18, 40], [19, 15, 22, 45]
    >>> rates = threshold_rates(true, predicted, buffers_years=[0], minimum=2)[2]
    >>> rates.threshold_years, rates.minors, rates.false_pass_rate, rates.false_stop_rate
    (18, 2, 0.5, 0.0)
    """
    true = ages("true_years", true_years)
    predicted = finite_floats("predicted_years", predicted_years)
    same_length(true_years=true, predicted_years=predicted)
    codes = None if clusters is None else cluster_codes(clusters)

    def by_buffer() -> Iterator[ThresholdRates]:
        for threshold in thresholds_years:
            minor = np.flatnonzero(true < threshold)
            adult = np.flatnonzero(true >= threshold)
            who = [
                None if clusters is None else people_in([clusters[row] for row in rows.tolist()])
                for rows in (minor, adult)
            ]
            for buffer in buffers_years:
                passed = predicted >= threshold + buffer
                rates: list[float | None] = []
                bounds: list[Interval | None] = []
                for rows, wrong in ((minor, passed[minor]), (adult, ~passed[adult])):
                    people = None if codes is None else codes[rows]
                    enough = len(rows) >= max(1, minimum)
                    rates.append(float(wrong.mean()) if enough else None)
                    bounds.append(proportion_interval(wrong, people, level) if enough else None)
                yield ThresholdRates(
                    threshold,
                    buffer,
                    len(minor),
                    len(adult),
                    rates[0],
                    bounds[0],
                    rates[1],
                    bounds[1],
                    *who,
                )

    return tuple(by_buffer())
