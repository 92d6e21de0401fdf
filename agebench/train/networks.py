"""From settings to a network."""

from __future__ import annotations

from typing import TypeAlias

from torch import nn

from agebench.train.age_net import AgeNet
from agebench.train.model import HeadMaker, MultiCropResNet
from agebench.train.model_settings import ModelSettings
from agebench.train.rng import StepRng

AgeNetwork: TypeAlias = MultiCropResNet | AgeNet


def build_network(
    settings: ModelSettings, head: HeadMaker = nn.Linear, rng: StepRng | None = None
) -> AgeNetwork:
    """Return the network that the settings describe, with new weights.

    Args:
        settings: which network, and of what.
        head: makes a last layer from the width of what comes in and the number of bins.
        rng: the randomness of dropout; a new one if not given.
    """
    if settings.network == "age-net":
        return AgeNet(settings, head, rng)
    return MultiCropResNet(settings, head, rng)
