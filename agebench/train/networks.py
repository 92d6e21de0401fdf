"""The networks that can be trained: the multi-crop network, and Levi and Hassner's age network.

The multi-crop network has one residual network (or MobileNet) per view, joined by a dense layer
("late" fusion), or one over all views ("early" fusion).

The age network: G. Levi and T. Hassner, "Age and Gender Classification using Convolutional Neural
Networks", CVPR Workshops 2015; layers as `agebench.runtimes.age_net_layout` lists them.  Only the
last layer is as wide as there are age bins.  `agebench convert-caffe` makes a Caffe file of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor, nn

from agebench.errors import UsageError
from agebench.runtimes.age_net_layout import CHANNEL_MEAN
from agebench.train.layers import Backbone, Dropout, StepRng, draw_weights
from agebench.train.local_response import LocalResponseNorm
from agebench.train.mobilenet import MobileNet
from agebench.train.model_settings import BackboneSettings, InputMode, ModelSettings

# Each row of the matrix gives one channel of the mode from B, G, R: ITU-R BT.601, as cv2.cvtColor.
COLOUR: Mapping[InputMode, tuple[tuple[float, float, float], ...]] = MappingProxyType(
    {
        "bgr": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        "gray": ((0.114, 0.587, 0.299),),
        "yuv": ((0.114, 0.587, 0.299), (0.436, -0.289, -0.147), (-0.100, -0.515, 0.615)),
    }
)
_CENTRED = {"bgr": (127.5,) * 3, "gray": (127.5,), "yuv": (127.5, 0.0, 0.0)}
SCALE = 1 / 64.0
"""Factor that gives centred pixels a standard deviation of about 1."""


class Colours(nn.Module):
    """Converts B, G, R pixels, 0 to 255, to a backbone's centred and scaled channels."""

    matrix: Tensor
    centre: Tensor

    def __init__(self, mode: InputMode) -> None:
        super().__init__()
        self.channels = len(COLOUR[mode])
        matrix = torch.tensor(COLOUR[mode])[:, :, None, None]
        self.register_buffer("matrix", matrix, persistent=False)
        centre = torch.tensor(_CENTRED[mode])[:, None, None]
        self.register_buffer("centre", centre, persistent=False)
        self._plain = mode == "bgr"

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float (n, channels, height, width)."""
        if not self._plain:
            pixels = nn.functional.conv2d(pixels, self.matrix)
        return (pixels - self.centre) * SCALE


HeadMaker: TypeAlias = Callable[[int, int], nn.Module]


@dataclass(frozen=True, slots=True)
class Outputs:
    """The network's outputs for n faces.

    Attributes:
        final: (n, outputs), from which ages are decoded.
        auxiliary: per view (n, outputs) of its auxiliary head; empty in evaluation mode.
    """

    final: Tensor
    auxiliary: Mapping[str, Tensor]


def _backbone(channels: int, settings: BackboneSettings, rng: StepRng) -> Backbone | MobileNet:
    if settings.kind == "mobilenet":
        return MobileNet(channels, settings.width)
    return Backbone(channels, settings, rng)


def _channels_last(values: Tensor) -> Tensor:
    """Return (n, channels, height, width) with a pixel's channels side by side in memory.

    All layers after it keep this order, which oneDNN otherwise makes anew for every convolution
    (benchmarks/memory_layout.py).
    """
    return values.contiguous(memory_format=torch.channels_last)


class MultiCropResNet(nn.Module):
    """Ages from several views of a face.

    Args:
        settings: views, fusion and sizes.
        head: makes a last layer from its number of inputs and of bins.
    """

    def __init__(self, settings: ModelSettings, head: HeadMaker = nn.Linear) -> None:
        super().__init__()
        self.settings = settings
        self.rng = StepRng()
        bins = len(settings.bins)
        names = list(settings.views)
        for name in names:
            if hasattr(nn.ModuleDict(), name) or hasattr(nn.ParameterDict(), name):
                raise UsageError(
                    f"a view can't be called {name!r}, which PyTorch reserves: rename it"
                )
        self.colours = nn.ModuleDict({name: Colours(settings.views[name].input) for name in names})
        channels = {name: Colours(settings.views[name].input).channels for name in names}
        if settings.fusion == "late":
            widths = {name: settings.views[name].backbone.features for name in names}
            self.backbones = nn.ModuleDict(
                {
                    name: _backbone(channels[name], settings.views[name].backbone, self.rng)
                    for name in names
                }
            )
        else:
            shared = settings.views[names[0]].backbone
            widths = {"all": shared.features}
            # One more channel per view says whether it is present.
            inputs = sum(channels.values()) + len(names)
            self.backbones = nn.ModuleDict({"all": _backbone(inputs, shared, self.rng)})
        self.absent = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(width)) for name, width in widths.items()}
            if settings.fusion == "late"
            else {}
        )
        joined = sum(widths.values())
        self.dropout = Dropout(settings.dropout, self.rng)
        self.joint = nn.Linear(joined, settings.dense)
        self.head = head(settings.dense, bins)
        heads = widths if settings.auxiliary and settings.fusion == "late" else {}
        self.auxiliary = nn.ModuleDict({name: head(width, bins) for name, width in heads.items()})

    def features(self, name: str, pixels: Tensor, present: Tensor) -> Tensor:
        """Return one view's features (n, features); learned ones where it is missing.

        Args:
            name: of the view.
            pixels: float32 (n, 3, height, width), B, G, R, 0 to 255.
            present: float32 (n, 1), 1 where the view is present, else 0.
        """
        seen: Tensor = self.backbones[name](_channels_last(self.colours[name](pixels)))
        features: Tensor = seen * present + self.absent[name] * (1 - present)
        return features

    def forward(self, pixels: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Outputs:
        """Return the heads' outputs for n faces.

        Args:
            pixels: per view float32 (n, 3, height, width), B, G, R, 0 to 255; any finite numbers
                where a view is missing.
            present: per view float32 (n, 1) of 0 and 1.
        """
        if self.settings.fusion == "late":
            parts = {
                name: self.features(name, pixels[name], present[name])
                for name in self.settings.views
            }
        else:
            parts = {"all": self._early(pixels, present)}
        final = self.fuse(parts)
        own = {name: head(self.dropout(parts[name])) for name, head in self.auxiliary.items()}
        return Outputs(final, own if self.training else {})

    def fuse(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return the head's outputs, (n, outputs), for the features of all views."""
        joined = torch.cat(list(parts.values()), dim=1)
        dense = torch.relu(self.joint(self.dropout(joined)))
        final: Tensor = self.head(self.dropout(dense))
        return final

    def _early(self, pixels: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        planes = []
        for name in self.settings.views:
            flags = present[name][:, :, None, None]
            colours: Tensor = self.colours[name](pixels[name])
            planes += [colours * flags, flags.expand(-1, 1, *colours.shape[2:])]
        features: Tensor = self.backbones["all"](_channels_last(torch.cat(planes, dim=1)))
        return features


def drop_views(
    present: Mapping[str, Tensor], probability: float, rng: StepRng
) -> dict[str, Tensor]:
    """Drop views at random, so that the network copes with missing ones; at least one is kept.

    Args:
        present: per view float32 (n, 1) of 0 and 1.
        probability: that a view of a picture is dropped.
        rng: the randomness.
    """
    names = list(present)
    there = torch.cat([present[name] for name in names], dim=1)
    if probability == 0 or len(names) == 1:
        return dict(present)
    drawn = rng.uniform(*there.shape).to(there.device)
    kept = there * (drawn >= probability)
    # Where all views would be dropped, all are kept.
    kept = torch.where(kept.sum(1, keepdim=True) > 0, kept, there)
    return {name: kept[:, index : index + 1] for index, name in enumerate(names)}


FIRST_SCALE = 1 / 64
"""Factor on the first layer's initial weights: centred pixels have a deviation of about 64."""


def _convolution(inputs: int, outputs: int, side: int, stride: int, padding: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, side, stride, padding)
    draw_weights(layer.weight)
    nn.init.zeros_(layer.bias if layer.bias is not None else torch.empty(0))
    return layer


def _dense(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    draw_weights(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class AgeNet(nn.Module):
    """Levi and Hassner's age network over one view.

    Args:
        settings: one view of 227x227 pixels; `dropout` is that of fc6 and fc7.
        head: makes the last layer from its number of inputs and of bins.
    """

    mean: Tensor

    def __init__(self, settings: ModelSettings, head: HeadMaker = nn.Linear) -> None:
        super().__init__()
        self.settings = settings
        self.rng = StepRng()
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
        """Return the head's outputs for n faces; see `MultiCropResNet.forward`.

        A missing view is replaced by the mean picture.
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


AgeNetwork: TypeAlias = MultiCropResNet | AgeNet


def build_network(settings: ModelSettings, head: HeadMaker = nn.Linear) -> AgeNetwork:
    """Return the network that the settings describe, with new weights.

    Args:
        settings: of the network.
        head: makes a last layer from its number of inputs and of bins.
    """
    if settings.network == "age-net":
        return AgeNet(settings, head)
    return MultiCropResNet(settings, head)
