"""Levi and Hassner's age network in PyTorch, to be trained like the multi-crop network.

Source: G. Levi and T. Hassner, "Age and Gender Classification using Convolutional Neural
Networks", CVPR Workshops 2015; layers as `agebench.runtimes.age_net_layout` lists them.  Only the
last layer is as wide as there are age bins.  `agebench convert-caffe` makes a Caffe file of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from agebench.runtimes.age_net_layout import CHANNEL_MEAN
from agebench.train.layers import Dropout
from agebench.train.local_response import LocalResponseNorm
from agebench.train.model import HeadMaker, Outputs
from agebench.train.model_settings import ModelSettings
from agebench.train.rng import StepRng

FIRST_SCALE = 1 / 64
"""Pixels less the mean have a spread of about 64: the first layer starts that much smaller."""


def _convolution(inputs: int, outputs: int, side: int, stride: int, padding: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, side, stride, padding)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias if layer.bias is not None else torch.empty(0))
    return layer


def _dense(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


class AgeNet(nn.Module):
    """The age network over its one view.

    Args:
        settings: one view of 227x227 pixels; `dropout` is that of fc6 and fc7.
        head: makes the last layer from its inputs and the number of bins.
        rng: the randomness of dropout; a new one if not given.
    """

    mean: Tensor

    def __init__(
        self, settings: ModelSettings, head: HeadMaker = nn.Linear, rng: StepRng | None = None
    ) -> None:
        super().__init__()
        self.settings = settings
        self.rng = rng or StepRng()
        (self._view,) = settings.views
        self.register_buffer("mean", torch.tensor(CHANNEL_MEAN)[:, None, None], persistent=False)
        self.conv1 = _convolution(3, 96, 7, 4, 0)
        with torch.no_grad():
            self.conv1.weight *= FIRST_SCALE
        self.conv2 = _convolution(96, 256, 5, 1, 2)
        self.conv3 = _convolution(256, 384, 3, 1, 1)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm1 = LocalResponseNorm(96)
        self.norm2 = LocalResponseNorm(256)
        self.fc6 = _dense(384 * 7 * 7, 512)
        self.fc7 = _dense(512, 512)
        self.fc8 = head(512, len(settings.bins))
        self.dropout = Dropout(settings.dropout, self.rng)

    def forward(self, pixels: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Outputs:
        """Return the head's numbers for n faces; see `MultiCropResNet.forward`.

        A missing view is seen as the mean picture: nothing is known then.
        """
        there = present[self._view][:, :, None, None]
        values = (pixels[self._view] - self.mean) * there
        values = self.norm1(self.pool(self.conv1(values).relu()))
        values = self.norm2(self.pool(self.conv2(values).relu()))
        values = self.pool(self.conv3(values).relu())
        # Caffe flattens channels first, whatever the layout in memory.
        values = self.dropout(self.fc6(values.contiguous().flatten(1)).relu())
        final: Tensor = self.fc8(self.dropout(self.fc7(values).relu()))
        return Outputs(final, {})
