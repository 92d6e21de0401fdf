"""Averaged weights: smoother than the last ones, and better on pictures not seen."""

from __future__ import annotations

import torch
from torch import nn


class AveragedWeights:
    """An exponential moving average of a model's state.

    Args:
        model: what is averaged; its state is copied.
        decay: weight of the old average per step, 0 for the last weights themselves.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the model after a step; the first steps are forgotten faster."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)
