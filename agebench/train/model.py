"""The multi-crop network: one residual network per view, joined by a dense layer; or all in one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor, nn

from agebench.errors import UsageError
from agebench.train.layers import Dropout
from agebench.train.model_settings import InputMode, ModelSettings
from agebench.train.resnet import Backbone
from agebench.train.rng import StepRng

# Rows of the matrix turn B, G, R into the mode's channels: ITU-R BT.601, as cv2.cvtColor.
COLOUR: Mapping[InputMode, tuple[tuple[float, float, float], ...]] = MappingProxyType(
    {
        "bgr": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        "gray": ((0.114, 0.587, 0.299),),
        "yuv": ((0.114, 0.587, 0.299), (0.436, -0.289, -0.147), (-0.100, -0.515, 0.615)),
    }
)
_CENTRED = {"bgr": (127.5,) * 3, "gray": (127.5,), "yuv": (127.5, 0.0, 0.0)}
SCALE = 1 / 64.0
"""Pixels less their centre, times this, have a spread of about 1."""


class Colours(nn.Module):
    """From B, G, R pixels, 0 to 255, to a backbone's centred and scaled channels."""

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
    """What the network gives for n faces.

    Attributes:
        final: (n, outputs), what ages are decoded from.
        auxiliary: per view (n, outputs) of its own head; empty when not training.
    """

    final: Tensor
    auxiliary: Mapping[str, Tensor]


class MultiCropResNet(nn.Module):
    """Ages from several views of a face.

    Args:
        settings: views, fusion and sizes.
        head: makes a last layer from the width of what comes in and the number of bins.
        rng: the randomness of dropout; a new one if not given.
    """

    def __init__(
        self, settings: ModelSettings, head: HeadMaker = nn.Linear, rng: StepRng | None = None
    ) -> None:
        super().__init__()
        self.settings = settings
        self.rng = rng or StepRng()
        bins = len(settings.bins)
        names = list(settings.views)
        for name in names:
            if hasattr(nn.ModuleDict(), name) or hasattr(nn.ParameterDict(), name):
                raise UsageError(f"a view can't be called {name!r}: PyTorch uses it: rename it")
        self.colours = nn.ModuleDict({name: Colours(settings.views[name].input) for name in names})
        channels = {name: Colours(settings.views[name].input).channels for name in names}
        if settings.fusion == "late":
            widths = {name: settings.views[name].backbone.features for name in names}
            self.backbones = nn.ModuleDict(
                {
                    name: Backbone(channels[name], settings.views[name].backbone, self.rng)
                    for name in names
                }
            )
        else:
            shared = settings.views[names[0]].backbone
            widths = {"all": shared.features}
            # One more channel per view tells whether it is there.
            inputs = sum(channels.values()) + len(names)
            self.backbones = nn.ModuleDict({"all": Backbone(inputs, shared, self.rng)})
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
        """Return one view's features (n, features); where it is missing, what stands for that.

        Args:
            name: of the view.
            pixels: float32 (n, 3, height, width), B, G, R, 0 to 255.
            present: float32 (n, 1), 1 where there is a view, else 0.
        """
        seen: Tensor = self.backbones[name](self.colours[name](pixels))
        features: Tensor = seen * present + self.absent[name] * (1 - present)
        return features

    def forward(self, pixels: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Outputs:
        """Return the head's numbers for n faces.

        Args:
            pixels: per view float32 (n, 3, height, width), B, G, R, 0 to 255; where a view is
                missing, anything finite.
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
        """Join the views' features to the head's numbers, (n, outputs)."""
        joined = torch.cat(list(parts.values()), dim=1)
        dense = torch.relu(self.joint(self.dropout(joined)))
        final: Tensor = self.head(self.dropout(dense))
        return final

    def _early(self, pixels: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        planes = []
        for name in self.settings.views:
            there = present[name][:, :, None, None]
            colours: Tensor = self.colours[name](pixels[name])
            planes += [colours * there, there.expand(-1, 1, *colours.shape[2:])]
        features: Tensor = self.backbones["all"](torch.cat(planes, dim=1))
        return features


def withhold(present: Mapping[str, Tensor], probability: float, rng: StepRng) -> dict[str, Tensor]:
    """Withhold views at random, so that the network learns to do without; one always stays.

    Args:
        present: per view float32 (n, 1) of 0 and 1.
        probability: of a view to be withheld, per picture.
        rng: the randomness.
    """
    names = list(present)
    there = torch.cat([present[name] for name in names], dim=1)
    if probability == 0 or len(names) == 1:
        return dict(present)
    drawn = rng.uniform(*there.shape).to(there.device)
    kept = there * (drawn >= probability)
    # Where nothing would be left, nothing is withheld.
    kept = torch.where(kept.sum(1, keepdim=True) > 0, kept, there)
    return {name: kept[:, index : index + 1] for index, name in enumerate(names)}
