"""Building blocks of residual networks, and the layers whose randomness can be repeated.

Sources: He et al., "Deep Residual Learning for Image Recognition", 2015 (blocks); He et al., "Bag
of Tricks for Image Classification", 2018 (ResNet-D); Hu et al., "Squeeze-and-Excitation Networks",
2017; Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019 (blur-pool); Huang et al.,
"Deep Networks with Stochastic Depth", 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from agebench.train.rng import StepRng


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation whose statistics are taken over all processes, on any device.

    `torch.nn.SyncBatchNorm` refuses CPU tensors.  With one process it is `BatchNorm2d`.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the base class
        """Normalise (n, channels, height, width)."""
        shared = self.training and dist.is_initialized() and dist.get_world_size() > 1
        return self._shared(input) if shared else super().forward(input)

    def _shared(self, values: Tensor) -> Tensor:
        exact = values.float()  # the spread of half-precision numbers drowns in their rounding
        mean, variance, number = _over_processes(exact)
        with torch.no_grad():
            if self.running_mean is not None and self.running_var is not None:
                momentum = self.momentum or 0.0
                unbiased = variance * number / (number - 1)
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(unbiased, momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        centred = exact - mean[None, :, None, None]
        normal = centred * scale[None, :, None, None] + self.bias[None, :, None, None]
        return normal.to(values.dtype)


class _SumOverProcesses(torch.autograd.Function):
    """The sum of all processes' tensors, through which gradients flow to all of them."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        return _summed(values)

    @staticmethod
    def backward(_ctx: Any, *slopes: Tensor) -> Tensor:
        return _summed(slopes[0])


def _summed(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _over_processes(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and variance per channel, and how many values, over all processes' batches.

    Chan, Golub & LeVeque 1983: from each process's own mean and variance, since the mean of
    squares less the square of the mean loses what small variances consist of.
    """
    channels = values.shape[1]
    own_variance, own_mean = torch.var_mean(values, (0, 2, 3), correction=0)
    count = values.new_full((1,), values.numel() / channels)
    mine = torch.cat([own_mean, own_variance, count])
    place = functional.one_hot(torch.tensor(dist.get_rank()), dist.get_world_size())
    # A sum of tables with one row each hands every row to all.
    table: Tensor = _SumOverProcesses.apply(place.to(values)[:, None] * mine)  # type: ignore[no-untyped-call]  # not typed
    means, variances, counts = table[:, :channels], table[:, channels:-1], table[:, -1:]
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    variance = (counts * (variances + (means - mean).square())).sum(0) / total
    return mean, variance, total


class Dropout(nn.Module):
    """Dropout of single features, drawn per row of the batch."""

    def __init__(self, probability: float, rng: StepRng) -> None:
        super().__init__()
        self.probability = probability
        self._rng = rng

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` with some set to zero and the others scaled, while training."""
        if not self.training or self.probability == 0:
            return values
        drawn = self._rng.uniform(*self.drawn_shape(values)).to(values.device)
        return values * (drawn >= self.probability) / (1 - self.probability)

    def drawn_shape(self, values: Tensor) -> Sequence[int]:
        """Return the shape of what is kept or dropped on its own: each feature."""
        return values.shape


class DropPath(Dropout):
    """Stochastic depth: leaves a block's residual out for whole rows of the batch."""

    def drawn_shape(self, values: Tensor) -> Sequence[int]:
        """Return a shape of one draw for each row of (n, channels, height, width)."""
        return (len(values), 1, 1, 1)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from all channels' means."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        inner = max(8, channels // reduction)
        self.squeeze = nn.Conv2d(channels, inner, 1)
        self.excite = nn.Conv2d(inner, channels, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Return `values`, (n, channels, height, width), gated."""
        means = values.mean((2, 3), keepdim=True)
        return values * torch.sigmoid(self.excite(functional.relu(self.squeeze(means))))


class BlurPool(nn.Module):
    """Halves height and width after a fixed 3x3 binomial blur."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = (row[:, None] * row[None, :]).expand(channels, 1, 3, 3)
        self.register_buffer("kernel", kernel.clone(), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return (n, channels, ceil(height / 2), ceil(width / 2))."""
        return functional.conv2d(
            values, self.kernel, stride=2, padding=1, groups=self.kernel.shape[0]
        )


def convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size, divided by `stride`."""
    layer = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def normalised(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    """Return convolution and batch normalisation."""
    return nn.Sequential(convolution(inputs, outputs, side, stride), BatchNorm(outputs))


def strided(
    inputs: int, outputs: int, side: int, stride: int, *, blur: bool, relu: bool
) -> nn.Sequential:
    """Return convolution, normalisation, ReLU where asked for; strides blurred where asked for."""
    blurred = blur and stride == 2
    layers: list[nn.Module] = [normalised(inputs, outputs, side, 1 if blurred else stride)]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    if blurred:
        layers.append(BlurPool(outputs))
    return nn.Sequential(*layers)
