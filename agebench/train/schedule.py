"""The learning rate and the stage of training, from the number of the step alone."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from agebench.train.settings import OptimSettings

Stage: TypeAlias = Literal["trunks", "dense", "all"]

LOWEST = 1e-3
"""Share of the highest rate that the cosine ends at."""


def rate_factor(step: int, total: int, settings: OptimSettings) -> float:
    """Return the factor, 0 to 1, on the highest learning rate at a step.

    Rises evenly during the warm-up, then follows half a cosine, or stays.
    """
    warm = settings.warmup * total
    if step < warm:
        return (step + 1) / (warm + 1)
    if settings.schedule == "constant":
        return 1.0
    done = min(1.0, (step - warm) / max(1.0, total - warm))
    return LOWEST + (1 - LOWEST) * (1 + math.cos(math.pi * done)) / 2


def stage_of(step: int, total: int, settings: OptimSettings) -> Stage:
    """Return what is trained at a step: the trunks alone, the dense layer alone, or all."""
    alone = settings.staged * total
    if step < alone:
        return "trunks"
    return "dense" if settings.staged and step < (alone + total) / 2 else "all"


def crop_scale(step: int, total: int, settings: OptimSettings) -> float:
    """Return the factor on the crops' sides at a step."""
    return settings.small_scale if step < settings.small_share * total else 1.0
