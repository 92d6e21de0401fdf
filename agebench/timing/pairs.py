"""Who is faster in a comparison: the latency pass's totals, picture by picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agebench.timing.busy import Busyness
from agebench.timing.latency import Latency, StageTimes
from agebench.timing.ratios import (
    LEAST_RATIO_OF_ONE_LOAD,
    Comparison,
    Control,
    compare_speeds,
    measure_control,
)
from agebench.types import plain

STAGE = "total"
"""What is compared: all that a picture takes, the shared stages included."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Who is faster, and how far that can be told.

    Attributes:
        comparisons: every two estimators that have a time for every picture.
        control: the first of them measured twice; None where it was not.
        busyness: what else ran meanwhile.
    """

    comparisons: tuple[Comparison, ...]
    control: Control | None
    busyness: Busyness

    def to_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold; see docs/result-schema.md."""
        return {
            **busyness_json(self.busyness),
            "control": plain(self.control),
            "comparisons": plain(self.comparisons),
        }


def busyness_json(busyness: Busyness) -> dict[str, Any]:
    """Return what else ran as what JSON can hold."""
    return {
        "load_average_before": plain(busyness.load_average_before),
        "load_average_after": plain(busyness.load_average_after),
        "others_processors": busyness.others_processors,
        "too_busy": busyness.reason,
    }


def compare_times(names: Sequence[str], latency: Latency) -> Timing:
    """Compare every two estimators by the time that a picture takes.

    One that failed on a picture has no time for it, and is not compared.

    Args:
        names: of the estimators, in the order of the times.
        latency: what was measured.
    """
    pictures = len(latency.shared["decode"].samples_ms)
    samples = [
        (name, times)
        for name, own in zip(names, latency.own, strict=True)
        if (times := _complete(own, pictures))
    ]
    again = _complete(latency.again, pictures)
    control = None
    if again and samples and samples[0][0] == names[0]:
        control = measure_control(names[0], 1, samples[0][1], again)
    comparisons = compare_speeds(
        samples,
        1,
        control,
        number=math.comb(len(samples), 2),
        busy=latency.busyness.reason,
        least=LEAST_RATIO_OF_ONE_LOAD,
    )
    return Timing(tuple(comparisons), control, latency.busyness)


def _complete(stages: Mapping[str, StageTimes], pictures: int) -> tuple[float, ...]:
    """The times of every picture; none where one is missing, or the clock could not tell."""
    times = stages[STAGE].samples_ms if STAGE in stages else ()
    return times if len(times) == pictures and all(value > 0 for value in times) else ()
