"""The optimiser, and its state by the parameters' names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agebench.errors import WeightsError
from agebench.train.settings import OptimSettings


def make_optimiser(model: nn.Module, settings: OptimSettings) -> torch.optim.Optimizer:
    """Return AdamW or SGD; norms, biases and what stands for missing views do not decay."""
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
    """What an optimiser remembers, as tensors named ``KEY/PARAMETER``."""

    tensors: Mapping[str, Tensor]

    @staticmethod
    def of(model: nn.Module, optimiser: torch.optim.Optimizer) -> OptimiserState:
        """Read it from an optimiser of the model."""
        return OptimiserState(dict(_entries(model, optimiser)))

    def restore(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Put it into a new optimiser of the same model.

        Raises:
            WeightsError: it is of another model.
        """
        named = dict(model.named_parameters())
        for entry, value in self.tensors.items():
            key, _, name = entry.partition("/")
            if name not in named:
                raise WeightsError(f"the checkpoint's optimiser knows {name!r}, the model does not")
            parameter = named[name]
            if value.ndim and value.shape != parameter.shape:
                raise WeightsError(
                    f"the checkpoint's optimiser has {tuple(value.shape)} for {name!r}, the model "
                    f"{tuple(parameter.shape)}"
                )
            # The step count stays on the CPU, as the optimiser keeps it; what is kept per weight
            # lies in memory as the weights do.
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
