"""Settings of the multi-crop network, in a module that does not need torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Literal, TypeAlias

from agebench.errors import suggestion
from agebench.types import AgeBins, CropSpec, ViewSpec, frozen_mapping
from agebench.util.checks import require_range
from agebench.vision.regions import REGIONS

Flip: TypeAlias = bool | tuple[str, ...]
"""Whether the distributions for a face and its mirror image are averaged; or, by name, the views
that are mirrored for the second of the two, so that the others are processed only once."""

Depth: TypeAlias = Literal[10, 14, 18, 34, 50, 101]

STAGES: Mapping[int, tuple[Literal["basic", "bottleneck"], tuple[int, ...]]] = MappingProxyType(
    {
        10: ("basic", (1, 1, 1, 1)),
        14: ("basic", (1, 1, 2, 2)),
        18: ("basic", (2, 2, 2, 2)),
        34: ("basic", (3, 4, 6, 3)),
        50: ("bottleneck", (3, 4, 6, 3)),
        101: ("bottleneck", (3, 4, 23, 3)),
    }
)
"""Blocks per stage by depth; 18 to 101 as in table 1 of He et al. 2015."""

EXPANSION = 4
"""How many times wider than its 3x3 convolution a bottleneck's output is."""

MOBILENET_MIN_SIDE = 64
"""It shrinks sides to one 32nd, and cv2.dnn (4.14) computes depthwise convolutions of a plane that
is one pixel wide wrongly."""


@dataclass(frozen=True, slots=True)
class BackboneSettings:
    """The backbone of one view.

    Attributes:
        kind: "resnet", or "mobilenet" (Howard et al. 2017), of which only `width` can be set: the
            channels after its first convolution, 32 in MobileNet 1.0.
        depth: number of layers with weights: a key of `STAGES`.
        width: channels of the first stage; 64 in He et al.  Each stage doubles them.
        stem: "classic" is one 7x7 convolution, "deep" three of 3x3 (ResNet-D).
        pool: the stem ends in a max-pool that halves the size; false for small pictures.
        average_shortcut: shortcuts that halve the size use average pooling before their 1x1
            convolution (ResNet-D).
        squeeze_excitation: a squeeze-and-excitation gate at the end of every block.
        blur_pool: 3x3 convolutions of stride 2 become stride 1 followed by blur pooling.
        stochastic_depth: probability that the last block is skipped for a row during training;
            proportionally less for earlier blocks.
    """

    kind: Literal["resnet", "mobilenet"] = "resnet"
    depth: Depth = 18
    width: int = 64
    stem: Literal["classic", "deep"] = "classic"
    pool: bool = True
    average_shortcut: bool = True
    squeeze_excitation: bool = False
    blur_pool: bool = False
    stochastic_depth: float = 0.0

    def __post_init__(self) -> None:
        if self.depth not in STAGES:
            known = ", ".join(map(str, STAGES))
            raise ValueError(f"depth must be one of {known}, got {self.depth}")
        if not 4 <= self.width <= 1024 or self.width % 2:
            raise ValueError(f"width must be even and from 4 to 1024, got {self.width}")
        if not 0 <= self.stochastic_depth < 1:
            raise ValueError(
                f"stochastic_depth must be from 0 to below 1, got {self.stochastic_depth}"
            )
        if self.kind == "mobilenet":
            for item in fields(self):
                if item.name not in {"kind", "width"} and getattr(self, item.name) != item.default:
                    raise ValueError(f"a backbone of kind mobilenet has no {item.name}")

    @property
    def features(self) -> int:
        """Number of features that the backbone computes per picture."""
        if self.kind == "mobilenet":
            return 32 * self.width
        block, stages = STAGES[self.depth]
        last = self.width << (len(stages) - 1)
        return last * EXPANSION if block == "bottleneck" else last


InputMode: TypeAlias = Literal["bgr", "gray", "yuv"]


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """One view and its backbone.

    Attributes:
        region: part of the face, see `agebench.vision.regions.REGIONS`.
        size_hw: height and width of the backbone's input, pixels.
        margin: added on every side, as a fraction of the region.
        align: rotated upright by the frame's roll.
        max_outside: the view is missing if a larger fraction of it lies outside the picture.
        input: colour channels of the backbone's input.
        backbone: the network (with fusion "early" the first view's is used for all views).
    """

    region: str
    size_hw: tuple[int, int] = (112, 112)
    margin: float = 0.0
    align: bool = True
    max_outside: float = 0.6
    input: InputMode = "bgr"
    backbone: BackboneSettings = field(default_factory=BackboneSettings)

    def __post_init__(self) -> None:
        if not (min(self.size_hw) >= 16 and max(self.size_hw) <= 2048):
            raise ValueError(f"a view's sides must be 16 to 2048 pixels, got {self.size_hw}")
        if self.backbone.kind == "mobilenet" and min(self.size_hw) < MOBILENET_MIN_SIDE:
            raise ValueError(
                f"a mobilenet's view must be at least {MOBILENET_MIN_SIDE} pixels high and wide, "
                f"got {self.size_hw}"
            )
        if self.region not in REGIONS:
            raise ValueError(f"unknown region {self.region!r}: {suggestion(self.region, REGIONS)}")
        _ = self.view  # checks the rest

    @property
    def view(self) -> ViewSpec:
        """How the view is cut."""
        return ViewSpec(
            self.region,
            self.size_hw,
            margin=self.margin,
            align=self.align,
            max_outside=self.max_outside,
        )


def _default_views() -> Mapping[str, ViewSettings]:
    small = BackboneSettings(depth=10, width=24)
    return {
        "face": ViewSettings("chip", (112, 112), backbone=BackboneSettings(width=32)),
        "eyes": ViewSettings("eyes", (64, 128), backbone=small),
        "mouth": ViewSettings("mouth", (64, 96), backbone=small),
    }


_VIEW_NAME = re.compile("[a-z][a-z0-9_]{0,63}")
_TAKEN = frozenset({"present", "age", "probabilities", "shares"})
"""Names of other values in exported files, see `agebench.runtimes.onnx_metadata`."""

MAX_VIEWS = 16
"""As there."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The whole network.

    Attributes:
        views: by name.
        network: "resnet", or "age-net" for Levi and Hassner's network over one view of 227x227
            pixels, which ignores `backbone`, `fusion`, `dense` and `auxiliary`.
        fusion: "late" joins one backbone per view by a dense layer; "early" stacks all views, which
            must have one size, as channels of one network's input.
        dense: width of the joining layer.
        dropout: before the joining layer and before the head.
        view_dropout: probability that a view of a picture is dropped during training, so that the
            network copes with missing views; at least one view is kept.
        auxiliary: every backbone has an auxiliary head during training.
        youngest, oldest: ages of the first and last bin, years.
    """

    views: Mapping[str, ViewSettings] = field(default_factory=_default_views)
    fusion: Literal["late", "early"] = "late"
    dense: int = 256
    dropout: float = 0.3
    view_dropout: float = 0.1
    auxiliary: bool = True
    youngest: int = 0
    oldest: int = 116
    network: Literal["resnet", "age-net"] = "resnet"

    def __post_init__(self) -> None:
        object.__setattr__(self, "views", frozen_mapping(self.views))
        if not self.views:
            raise ValueError("a model needs at least one view")
        if len(self.views) > MAX_VIEWS:
            raise ValueError(f"a model has at most {MAX_VIEWS} views, got {len(self.views)}")
        for name in self.views:
            if not _VIEW_NAME.fullmatch(name):
                raise ValueError(
                    "a view's name must consist of at most 64 lower-case letters, digits and "
                    f"'_', got {name!r}"
                )
            if name in _TAKEN:
                raise ValueError(f"a view can't be called {name!r} in exported files: rename it")
        require_range(self, ("dense",), 1, 65_536)
        if not 0 <= self.youngest < self.oldest <= 120:
            raise ValueError(
                f"ages must be ascending and from 0 to 120, got {self.youngest} to {self.oldest}"
            )
        self._check_sizes()
        if not (0 <= self.dropout < 1 and 0 <= self.view_dropout < 1):
            raise ValueError(
                "dropout and view_dropout must be from 0 to below 1, got "
                f"{self.dropout} and {self.view_dropout}"
            )

    def _check_sizes(self) -> None:
        sizes = {view.size_hw for view in self.views.values()}
        if self.network == "age-net" and [*sizes, len(self.views)] != [(227, 227), 1]:
            raise ValueError("network age-net needs exactly one view of 227x227 pixels")
        if self.fusion == "early" and len(sizes) > 1:
            raise ValueError(f"early fusion needs views of one size, got {sorted(sizes)}")

    @property
    def bins(self) -> AgeBins:
        """One bin per year."""
        return AgeBins.single_years(self.youngest, self.oldest)

    @property
    def crop(self) -> CropSpec:
        """How all views are cut."""
        return CropSpec({name: view.view for name, view in self.views.items()})
