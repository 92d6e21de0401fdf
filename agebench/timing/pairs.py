"""Comparing the speeds of estimators by the latency pass's totals, picture by picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agebench.timing.busy import Busyness
from agebench.timing.latency import Latency, StageTimes
from agebench.timing.ratios import (
    MIN_RATIO_OF_ONE_LOAD,
    Comparison,
    Control,
    compare_speeds,
    measure_control,
)
from agebench.types import plain

STAGE = "total"
"""The compared stage: everything that a picture needs, including the shared stages."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Comparisons of speed, and what limits their accuracy.

    Attributes:
        comparisons: every two estimators that have a time for every picture.
        control: the first estimator measured twice; None if it was not.
        busyness: load by other processes.
    """

    comparisons: tuple[Comparison, ...]
    control: Control | None
    busyness: Busyness

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-compatible values; see docs/result-schema.md."""
        return {
            **busyness_json(self.busyness),
            "control": plain(self.control),
            "comparisons": plain(self.comparisons),
        }


def busyness_json(busyness: Busyness) -> dict[str, Any]:
    """Return the load by other processes as JSON-compatible values."""
    return {
        "load_average_before": plain(busyness.load_average_before),
        "load_average_after": plain(busyness.load_average_after),
        "others_processors": busyness.others_processors,
        "too_busy": busyness.reason,
    }


def compare_times(names: Sequence[str], latency: Latency) -> Timing:
    """Compare all pairs of estimators by their time per picture.

    An estimator that failed on a timed picture is not compared.

    Args:
        names: of the estimators, in the order of the times.
        latency: the measured times.
    """
    pictures = len(latency.shared["decode"].samples_ms)
    samples = [
        (name, times)
        for name, own in zip(names, latency.own, strict=True)
        if (times := _complete(own, pictures))
    ]
    second_copy = _complete(latency.second_copy, pictures)
    control = None
    if second_copy and samples and samples[0][0] == names[0]:
        control = measure_control(names[0], 1, samples[0][1], second_copy)
    comparisons = compare_speeds(
        samples,
        1,
        control,
        number=math.comb(len(samples), 2),
        busy=latency.busyness.reason,
        minimum_ratio=MIN_RATIO_OF_ONE_LOAD,
    )
    return Timing(tuple(comparisons), control, latency.busyness)


def _complete(stages: Mapping[str, StageTimes], pictures: int) -> tuple[float, ...]:
    """Return the times of all pictures; empty if one is missing or not above 0."""
    times = stages[STAGE].samples_ms if STAGE in stages else ()
    return times if len(times) == pictures and all(value > 0 for value in times) else ()
