"""Residual networks over one picture, and layers whose randomness can be repeated.

Sources: He et al., "Deep Residual Learning for Image Recognition", 2015 (blocks); He et al., "Bag
of Tricks for Image Classification", 2018 (ResNet-D); Hu et al., "Squeeze-and-Excitation Networks",
2017; Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019 (blur-pool); Huang et al.,
"Deep Networks with Stochastic Depth", 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from agebench.train.model_settings import EXPANSION, STAGES, BackboneSettings


class StepRng:
    """Uniform random numbers for the rows of one process's shard of a batch.

    Every call of `uniform` draws for the whole batch and keeps the rows of the shard, so the
    numbers do not depend on the number of processes.  The seed and the step determine them, so a
    resumed run draws the same ones.
    """

    def __init__(self) -> None:
        self._generator = torch.Generator()
        self._total = self._start = self._stop = 0

    def begin(self, seed: int, step: int, total: int, start: int = 0, stop: int = -1) -> None:
        """Start a step.

        Args:
            seed: of the run.
            step: number of the step, from 0.
            total: rows in the whole batch.
            start: first of this process's rows of it.
            stop: row after the last of them; -1 for all.
        """
        # Combines two integers to one 63-bit seed with the constant of SplitMix64.
        self._generator.manual_seed((seed * 0x9E3779B97F4A7C15 + step) % (1 << 63))
        self._total, self._start = total, start
        self._stop = total if stop < 0 else stop

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """Return numbers in [0, 1), float32 of shape (rows, *shape), on the CPU.

        Raises:
            ValueError: `rows` is not the number of rows passed to `begin`.
        """
        if rows != self._stop - self._start:
            raise ValueError(f"expected {self._stop - self._start} rows, got {rows}")
        drawn = torch.rand(self._total, *shape, generator=self._generator)
        return drawn[self._start : self._stop]


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation with statistics of all processes, on any device.

    `torch.nn.SyncBatchNorm` refuses CPU tensors.  With one process it is `BatchNorm2d`.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the base class
        """Normalise (n, channels, height, width)."""
        shared = self.training and dist.is_initialized() and dist.get_world_size() > 1
        return self._shared(input) if shared else super().forward(input)

    def _shared(self, values: Tensor) -> Tensor:
        exact = values.float()  # in half precision rounding errors would exceed the variance
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
    """The sum of all processes' tensors, with gradients to all of them."""

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
    """Return mean and variance per channel, and the number of values, over all processes.

    Chan, Golub & LeVeque 1983: computed from each process's mean and variance, because subtracting
    the square of the mean from the mean of squares cancels the digits of small variances.
    """
    channels = values.shape[1]
    own_variance, own_mean = torch.var_mean(values, (0, 2, 3), correction=0)
    count = values.new_full((1,), values.numel() / channels)
    mine = torch.cat([own_mean, own_variance, count])
    place = functional.one_hot(torch.tensor(dist.get_rank()), dist.get_world_size())
    # Summing tables that each have one row that is not zero gathers all rows.
    table: Tensor = _SumOverProcesses.apply(place.to(values)[:, None] * mine)  # type: ignore[no-untyped-call]  # not typed
    means, variances, counts = table[:, :channels], table[:, channels:-1], table[:, -1:]
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    variance = (counts * (variances + (means - mean).square())).sum(0) / total
    return mean, variance, total


class Dropout(nn.Module):
    """Dropout of single features, random per row of the batch."""

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
        """Return the shape of the random numbers: one for each feature."""
        return values.shape


class DropPath(Dropout):
    """Stochastic depth: drops a block's residual for whole rows of the batch."""

    def drawn_shape(self, values: Tensor) -> Sequence[int]:
        """Return the shape of one number for each row of (n, channels, height, width)."""
        return (len(values), 1, 1, 1)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate that is computed from the means of all channels."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        inner = max(8, channels // reduction)
        self.squeeze = nn.Conv2d(channels, inner, 1)
        self.excite = nn.Conv2d(inner, channels, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Return the gated `values`, (n, channels, height, width)."""
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


def draw_weights(weights: Tensor, mode: Literal["fan_in", "fan_out"] = "fan_in") -> None:
    """Draw initial weights as He et al. (2015) do, but none on the device "meta".

    To draw nothing there, PyTorch would import its compiler, for more than a second.
    """
    if not weights.is_meta:
        nn.init.kaiming_normal_(weights, mode=mode, nonlinearity="relu")


def convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Conv2d:
    """Return a padded convolution without bias, whose output size is that of its input / stride."""
    layer = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)
    draw_weights(layer.weight, "fan_out")
    return layer


def normalised(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    """Return convolution and batch normalisation."""
    return nn.Sequential(convolution(inputs, outputs, side, stride), BatchNorm(outputs))


def strided(inputs: int, outputs: int, side: int, stride: int, *, blur: bool) -> nn.Sequential:
    """Return convolution, normalisation and ReLU, optionally with blur pooling."""
    blurred = blur and stride == 2
    layers: list[nn.Module] = [normalised(inputs, outputs, side, 1 if blurred else stride)]
    layers.append(nn.ReLU(inplace=True))
    if blurred:
        layers.append(BlurPool(outputs))
    return nn.Sequential(*layers)


class Block(nn.Module):
    """A residual block: basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1)."""

    def __init__(
        self, inputs: int, width: int, stride: int, settings: BackboneSettings, drop: DropPath
    ) -> None:
        super().__init__()
        blur = settings.blur_pool
        if STAGES[settings.depth][0] == "basic":
            self.outputs = width
            first = strided(inputs, width, 3, stride, blur=blur)
            self.residual = nn.Sequential(first, normalised(width, width, 3))
        else:
            self.outputs = width * EXPANSION
            self.residual = nn.Sequential(
                strided(inputs, width, 1, 1, blur=False),
                strided(width, width, 3, stride, blur=blur),
                normalised(width, self.outputs, 1),
            )
        # Blocks that start as the identity train more stably (Goyal et al. 2017, section 5.1).
        last = self.residual[-1]
        if isinstance(last, nn.Sequential) and isinstance(last[1], BatchNorm):
            nn.init.zeros_(last[1].weight)
        self.gate = SqueezeExcitation(self.outputs) if settings.squeeze_excitation else None
        self.shortcut = _shortcut(inputs, self.outputs, stride, average=settings.average_shortcut)
        self.drop = drop

    def forward(self, values: Tensor) -> Tensor:
        """Return (n, outputs, height / stride, width / stride)."""
        residual = self.residual(values)
        if self.gate is not None:
            residual = self.gate(residual)
        return functional.relu(self.drop(residual) + self.shortcut(values))


def _shortcut(inputs: int, outputs: int, stride: int, *, average: bool) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if stride == 2 and average:
        # Padding does not count, or it would darken the borders of odd sizes.
        pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
        return nn.Sequential(pool, *normalised(inputs, outputs, 1))
    return normalised(inputs, outputs, 1, stride)


def _stem(channels: int, settings: BackboneSettings) -> list[nn.Module]:
    width = settings.width
    if settings.stem == "classic":
        layers: list[nn.Module] = [*normalised(channels, width, 7, 2), nn.ReLU(inplace=True)]
    else:
        half = width // 2
        layers = [
            *normalised(channels, half, 3, 2),
            nn.ReLU(inplace=True),
            *normalised(half, half, 3),
            nn.ReLU(inplace=True),
            *normalised(half, width, 3),
            nn.ReLU(inplace=True),
        ]
    if settings.pool:
        layers.append(nn.MaxPool2d(3, 2, 1))
    return layers


class Backbone(nn.Module):
    """A residual network from a picture to one vector of features.

    Args:
        channels: of the picture.
        settings: depth, width and variants.
        rng: the randomness of stochastic depth.
    """

    def __init__(self, channels: int, settings: BackboneSettings, rng: StepRng) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_stem(channels, settings))
        stages = STAGES[settings.depth][1]
        count, number = sum(stages), 0
        blocks: list[Block] = []
        inputs = settings.width
        for stage, length in enumerate(stages):
            for index in range(length):
                number += 1
                drop = DropPath(settings.stochastic_depth * number / count, rng)
                stride = 2 if stage and not index else 1
                blocks.append(Block(inputs, settings.width << stage, stride, settings, drop))
                inputs = blocks[-1].outputs
        self.blocks = nn.Sequential(*blocks)
        self.features = inputs

    def forward(self, values: Tensor) -> Tensor:
        """Return (n, features) of normalised pictures (n, channels, height, width)."""
        features: Tensor = self.blocks(self.stem(values)).mean((2, 3))
        return features
