"""What may happen to a training picture; apart from the code that does it, which needs torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

LOW_RESOLUTIONS = (20, 28, 40, 56, 80)
"""Heights of the face, in pixels, that low resolution imitates."""


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """Probability of each filter; at most one is applied to a picture."""

    equalise: float = 0.0
    clahe: float = 0.0
    bilateral: float = 0.0
    non_local_means: float = 0.0
    jpeg: float = 0.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        probabilities = [getattr(self, item.name) for item in fields(self)]
        if min(probabilities) < 0 or sum(probabilities) > 1:
            raise ValueError(
                f"probabilities of filters must be 0 or more and sum to at most 1, got {self}"
            )


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """What may happen to a training picture.  All is off at 0.

    Attributes:
        flip: probability that a picture is mirrored left to right.
        rotation_deg: standard deviation of the turn, degrees.
        scale: the size varies by a factor between 1/(1+scale) and 1+scale.
        shift: standard deviation of the shift, in frame heights.
        brightness: largest change, as a fraction of the full range.
        contrast, saturation: factors between 1/(1+x) and 1+x.
        hue_deg: largest turn of the hue, degrees.
        gray: probability that a picture is made gray.
        single_channel: probability that one channel is drawn and shown three times; 1
            makes of every picture, over the epochs, three: one per channel.
        channel_space: the channels that are drawn from.
        low_resolution: probability that a picture is shrunk to one of `LOW_RESOLUTIONS` and
            enlarged again.
        noise: probability of Gaussian noise.
        noise_levels: its largest standard deviation, gray levels.
        erase: probability that a rectangle of a view is erased.
        filters: slow ones, done on the host.
    """

    flip: float = 0.5
    rotation_deg: float = 8.0
    scale: float = 0.12
    shift: float = 0.025
    brightness: float = 0.2
    contrast: float = 0.3
    saturation: float = 0.4
    hue_deg: float = 12.0
    gray: float = 0.15
    single_channel: float = 0.05
    channel_space: Literal["rgb", "yuv"] = "rgb"
    low_resolution: float = 0.15
    noise: float = 0.1
    noise_levels: float = 12.0
    erase: float = 0.15
    filters: FilterSettings = field(default_factory=FilterSettings)

    def __post_init__(self) -> None:
        for name in ("flip", "gray", "single_channel", "low_resolution", "noise", "erase"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is a probability from 0 to 1, got {value}")
        if self.gray + self.single_channel > 1:
            raise ValueError(
                "gray and single_channel exclude each other: they sum to at most 1, got "
                f"{self.gray} and {self.single_channel}"
            )
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if not 0 <= value <= largest:
                raise ValueError(f"{name} is from 0 to {largest}, got {value}")


_LARGEST = {
    "rotation_deg": 180,
    "scale": 10,
    "shift": 10,
    "brightness": 10,
    "contrast": 10,
    "saturation": 10,
    "hue_deg": 180,
    "noise_levels": 255,
}


def no_augmentation() -> AugmentSettings:
    """Return the settings under which nothing happens, as when an estimator is used."""
    return AugmentSettings(
        flip=0.0,
        rotation_deg=0.0,
        scale=0.0,
        shift=0.0,
        brightness=0.0,
        contrast=0.0,
        saturation=0.0,
        hue_deg=0.0,
        gray=0.0,
        single_channel=0.0,
        low_resolution=0.0,
        noise=0.0,
        erase=0.0,
    )
