"""A residual network over one picture: He et al. 2015, with the variants that are used today."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from agebench.train.layers import (
    BatchNorm,
    DropPath,
    SqueezeExcitation,
    normalised,
    strided,
)
from agebench.train.model_settings import EXPANSION, STAGES, BackboneSettings
from agebench.train.rng import StepRng


class Block(nn.Module):
    """A residual block: basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1)."""

    def __init__(
        self, inputs: int, width: int, stride: int, settings: BackboneSettings, drop: DropPath
    ) -> None:
        super().__init__()
        blur = settings.blur_pool
        if STAGES[settings.depth][0] == "basic":
            self.outputs = width
            first = strided(inputs, width, 3, stride, blur=blur, relu=True)
            self.residual = nn.Sequential(first, normalised(width, width, 3))
        else:
            self.outputs = width * EXPANSION
            self.residual = nn.Sequential(
                strided(inputs, width, 1, 1, blur=False, relu=True),
                strided(width, width, 3, stride, blur=blur, relu=True),
                normalised(width, self.outputs, 1),
            )
        # A block that begins as the identity trains more evenly (Goyal et al. 2017, section 5.1).
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
        # Borders count only the pixels that are there, or an odd size would darken them.
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
    """From a picture to one vector of features.

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
