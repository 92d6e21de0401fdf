"""MobileNet as a backbone: depthwise and pointwise convolutions in turn.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
2017, table 1.  Sides are padded as TensorFlow pads even ones, so that published weights fit.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional

from agebench.train.layers import BatchNorm, draw_weights

_WIDER_AND_STRIDE = (
    (2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), (16, 1), (16, 1), (16, 1), (16, 1), (16, 1),
    (32, 2), (32, 1),
)  # fmt: skip
"""Of each pair: its output channels in widths, and the stride of its depthwise convolution."""


class HalvingConvolution(nn.Conv2d):
    """A 3x3 convolution of stride 2 whose input gets a row below and a column to the right."""

    def __init__(self, inputs: int, outputs: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, 3, 2, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the base class
        """Return (n, outputs, height / 2, width / 2), rounded down."""
        return super().forward(functional.pad(input, (0, 1, 0, 1)))


def _normalised(layer: nn.Conv2d) -> Iterator[nn.Module]:
    """Yield a convolution without bias, batch normalisation and ReLU6."""
    # By inputs: PyTorch counts the outputs of all groups, too many for a depthwise convolution.
    draw_weights(layer.weight)
    yield from (layer, BatchNorm(layer.out_channels), nn.ReLU6(inplace=True))


def _pair(inputs: int, outputs: int, stride: int) -> Iterator[nn.Module]:
    """Yield a depthwise and a pointwise convolution, each with what follows it."""
    if stride == 2:
        yield from _normalised(HalvingConvolution(inputs, inputs, groups=inputs))
    else:
        yield from _normalised(nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False))
    yield from _normalised(nn.Conv2d(inputs, outputs, 1, bias=False))


class MobileNet(nn.Module):
    """MobileNet from a picture to one vector of features.

    Args:
        channels: of the picture.
        width: channels after the first convolution; 32 in MobileNet 1.0.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers = list(_normalised(HalvingConvolution(channels, width)))
        inputs = width
        for wider, stride in _WIDER_AND_STRIDE:
            layers += _pair(inputs, wider * width, stride)
            inputs = wider * width
        self.layers = nn.Sequential(*layers)
        self.features = inputs

    def forward(self, values: Tensor) -> Tensor:
        """Return (n, features) of normalised pictures (n, channels, height, width)."""
        features: Tensor = self.layers(values).mean((2, 3))
        return features
