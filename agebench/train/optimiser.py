"""The optimiser and its state, the learning rate at each step, and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from agebench.errors import WeightsError
from agebench.train.sections import OptimSettings


def make_optimiser(model: nn.Module, settings: OptimSettings) -> torch.optim.Optimizer:
    """Return AdamW or SGD, without decay of norms, biases and features of missing views."""
    decaying = [value for value in model.parameters() if value.ndim > 1]
    others = [value for value in model.parameters() if value.ndim <= 1]
    groups = [
        {"params": decaying, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, settings.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, settings.learning_rate)


@dataclass(frozen=True, slots=True, eq=False)
class OptimiserState:
    """The state of an optimiser, as tensors named ``KEY/PARAMETER``."""

    tensors: Mapping[str, Tensor]

    @staticmethod
    def of(model: nn.Module, optimiser: torch.optim.Optimizer) -> OptimiserState:
        """Return the state of an optimiser of the model."""
        return OptimiserState(dict(_entries(model, optimiser)))

    def restore(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Copy it into a new optimiser of the same model.

        Raises:
            WeightsError: it is that of another model.
        """
        named = dict(model.named_parameters())
        for entry, value in self.tensors.items():
            key, _, name = entry.partition("/")
            if name not in named:
                raise WeightsError(
                    f"the checkpoint's optimiser has a parameter {name!r} that the model lacks"
                )
            parameter = named[name]
            if value.ndim and value.shape != parameter.shape:
                raise WeightsError(
                    f"the checkpoint's optimiser has shape {tuple(value.shape)} for {name!r}, the "
                    f"model has {tuple(parameter.shape)}"
                )
            # The step count stays on the CPU, as in a new optimiser; tensors get the device and
            # the memory layout of the weights.
            optimiser.state[parameter][key] = (
                torch.empty_like(parameter, dtype=value.dtype).copy_(value).detach()
                if value.ndim
                else value.clone()
            )


def _entries(model: nn.Module, optimiser: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                yield f"{key}/{name}", value


Stage: TypeAlias = Literal["backbones", "dense", "all"]

LOWEST = 1e-3
"""Fraction of the highest rate at the end of the cosine."""


def rate_factor(step: int, total: int, settings: OptimSettings) -> float:
    """Return the factor, 0 to 1, on the highest learning rate at a step.

    It rises linearly during the warm-up, then follows half a cosine or is constant.
    """
    warm = settings.warmup * total
    if step < warm:
        return (step + 1) / (warm + 1)
    if settings.schedule == "constant":
        return 1.0
    done = min(1.0, (step - warm) / max(1.0, total - warm))
    return LOWEST + (1 - LOWEST) * (1 + math.cos(math.pi * done)) / 2


def stage_of(step: int, total: int, settings: OptimSettings) -> Stage:
    """Return what is trained at a step: the backbones alone, the dense layer alone, or all."""
    alone = settings.staged * total
    if step < alone:
        return "backbones"
    return "dense" if settings.staged and step < (alone + total) / 2 else "all"


def crop_scale(step: int, total: int, settings: OptimSettings) -> float:
    """Return the factor on the sides of crops at a step."""
    return settings.small_scale if step < settings.small_fraction * total else 1.0


class AveragedWeights:
    """An exponential moving average of a model's state.

    Args:
        model: whose state is copied and averaged.
        decay: weight of the old average per step; 0 keeps the last weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Update the average after a step; the decay is faster in the first steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)
