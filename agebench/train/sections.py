"""The tables of a settings file: data, teacher, optimiser, loss and augmentation.

Those of the network, the bootstrap and the stability rule are in `model_settings`, `bootstrap` and
`stability`.  None of these needs torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias, get_args

from agebench.types import frozen_mapping
from agebench.util.checks import require, require_known


@dataclass(frozen=True, slots=True)
class ExtraData:
    """A further data set, all pictures of which are trained on and none validated on.

    Attributes:
        dataset: name with options, as for `agebench compare`, such as "fairface part=train".
        root: where it lies; "" for a set that brings its own pictures.
        detector: finds the faces; "aligned" for chips.
        fraction: of its pictures that is used, drawn once by the run's seed.
        label_weight: weight of its labels in the loss, 0 to 1; below 1 for labels that are often
            wrong, 0 to learn from the teacher's answers alone.
    """

    dataset: str
    root: str = ""
    detector: str = "aligned"
    fraction: float = 1.0
    label_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is above 0 up to 1, got {self.fraction}")
        if not 0 <= self.label_weight <= 1:
            raise ValueError(f"label_weight is from 0 to 1, got {self.label_weight}")


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """Answers of other networks to the training pictures, learned beside the labels.

    Attributes:
        file: the answers, as `benchmarks/teacher_answers.py` writes them; "" for none.
        weight: fraction of the loss that is theirs where a picture has an answer, above 0 up to 1;
            the labels have the rest.
    """

    file: str = ""
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight is above 0 up to 1, got {self.weight}")


_EXTRA_NAME = re.compile("[a-z][a-z0-9_]*")


_ANY_PICTURES = frozenset({"csv", "folders", "names", "prepared"})
"""Data sets that say how pictures lie, and not which they are."""


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Which pictures are trained on.

    Attributes:
        dataset: name with options, as for `agebench compare`.
        root: where it lies; "" for a set that brings its own pictures.
        detector: finds the faces; "aligned" for chips.
        protocol: how it is split, or a split file.
        train_part, val_part, test_part: parts of that split.
        train_fraction: of the training part that is used, drawn once by the seed.
        longest_px: windows around faces are shrunk to this side.
        decode_threads: how many decode pictures; 0 decodes where they are used.
        extra: further data sets by a name of one's own, whose pictures are trained on too.
    """

    dataset: str = "utkface"
    root: str = ""
    detector: str = "aligned"
    protocol: str = "utkface-full"
    train_part: str = "train"
    val_part: str = "val"
    test_part: str = "test"
    train_fraction: float = 1.0
    longest_px: int = 256
    decode_threads: int = 2
    extra: Mapping[str, ExtraData] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "extra", frozen_mapping(self.extra))
        for name in self.extra:
            if not _EXTRA_NAME.fullmatch(name):
                raise ValueError(
                    "an extra data set's name must consist of lower-case letters, digits and "
                    f"'_', got {name!r:.80}"
                )
        if not 0 < self.train_fraction <= 1:
            raise ValueError(f"train_fraction is above 0 up to 1, got {self.train_fraction}")
        parts = {"val": self.val_part, "test": self.test_part}
        for name, part in parts.items():
            if part == self.train_part:
                raise ValueError(
                    f"{name}_part is {part!r}, which is used for training: its figures would mean "
                    "nothing"
                )
        if not 16 <= self.longest_px <= 4096:
            raise ValueError(f"longest_px is from 16 to 4096, got {self.longest_px}")
        if not 0 <= self.decode_threads <= 256:
            raise ValueError(f"decode_threads is from 0 to 256, got {self.decode_threads}")

    @property
    def roots(self) -> tuple[str, ...]:
        """Where all data sets lie; "" for one that brings its own pictures."""
        return (self.root, *(source.root for source in self.extra.values()))

    @property
    def extra_sets(self) -> tuple[str, ...]:
        """What the further sets are called: a known set's own name, else the one given here."""
        words = ((name, (source.dataset.split() or [""])[0]) for name, source in self.extra.items())
        return tuple(name if word in {"", *_ANY_PICTURES} else word for name, word in words)


@dataclass(frozen=True, slots=True)
class OptimSettings:
    """How the weights are moved.

    Attributes:
        optimiser: "adamw" (Loshchilov & Hutter 2017) or "sgd" with Nesterov momentum 0.9.
        learning_rate: at its highest.
        weight_decay: on weights of convolutions and dense layers, not on norms and biases.
        schedule: after the warm-up, "cosine" falls to nearly 0 at the last planned epoch,
            "constant" stays and is lowered by the stability rule alone.
        warmup: fraction of the planned steps in which the rate rises.
        clip_norm: longest gradient; 0 for no limit.
        ema: decay of the averaged weights per step; 0 for none.
        auxiliary_weight: weight of the mean of the backbones' own losses.
        mixup: alpha of mixup's beta distribution (Zhang et al. 2017); 0 for none.
        staged: instead of training all jointly, the backbones alone for this fraction of the
            steps, then the dense layer for half of what is left, then all; 0 for joint.
        small_fraction: of the steps, from the first, in which crops are smaller.
        small_scale: by how much.
    """

    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.1
    clip_norm: float = 2.0
    ema: float = 0.998
    auxiliary_weight: float = 0.3
    mixup: float = 0.0
    staged: float = 0.0
    small_fraction: float = 0.0
    small_scale: float = 0.75

    def __post_init__(self) -> None:
        for name in ("learning_rate", "small_scale"):
            if not 0 < getattr(self, name) <= 10:
                raise ValueError(f"{name} is above 0 up to 10, got {getattr(self, name)}")
        for name in ("warmup", "ema", "staged", "small_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is from 0 to 1, got {getattr(self, name)}")
        for name, largest in _OPTIM_LARGEST.items():
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} is from 0 to {largest:g}, got {getattr(self, name)}")


_OPTIM_LARGEST = {"weight_decay": 10, "clip_norm": 1e6, "auxiliary_weight": 1e3, "mixup": 100}


LossName: TypeAlias = Literal["ce", "dldl", "mean-variance", "coral", "regression"]
LOSS_NAMES: tuple[LossName, ...] = get_args(LossName)


@dataclass(frozen=True, slots=True)
class LossSettings:
    """The loss of exact ages and its numbers; the defaults are those of the papers.

    Age ranges are always trained by the likelihood of their range (`losses.interval_likelihood`).

    Attributes:
        name: "ce", "dldl", "mean-variance", "coral" or "regression" (see `agebench.train.losses`).
        sigma_years: dldl: width of the Gaussian around the age; above 0.
        divergence: dldl: "kl", as published, or "ce", which differs by the entropy of the
            Gaussian alone, a constant for the gradient.
        l1_weight: dldl: weight of the expectation's absolute error in years.
        mean_weight: mean-variance: weight of half the squared error of the mean.
        variance_weight: mean-variance: weight of the variance.
        regression: regression: "l1" or "smooth-l1".
        smooth_years: regression, smooth-l1: errors below this are squared; above 0.

    Raises:
        UsageError: a value other than the above; weights are 0 or more.
    """

    name: LossName = "dldl"
    sigma_years: float = 2.0
    divergence: Literal["kl", "ce"] = "kl"
    l1_weight: float = 1.0
    mean_weight: float = 0.2
    variance_weight: float = 0.05
    regression: Literal["l1", "smooth-l1"] = "l1"
    smooth_years: float = 1.0

    def __post_init__(self) -> None:
        require_known(self.name, LOSS_NAMES, "loss", "name")
        require_known(self.divergence, ("kl", "ce"), "loss", "divergence")
        require_known(self.regression, ("l1", "smooth-l1"), "loss", "regression")
        for key in ("sigma_years", "smooth_years"):
            value = getattr(self, key)
            require(0 < value < math.inf, "loss", f"{key} is above 0, got {value}")
        for key in ("l1_weight", "mean_weight", "variance_weight"):
            value = getattr(self, key)
            require(0 <= value < math.inf, "loss", f"{key} is 0 or more, got {value}")


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
        for name, largest in _AUGMENT_LARGEST.items():
            value = getattr(self, name)
            if not 0 <= value <= largest:
                raise ValueError(f"{name} is from 0 to {largest}, got {value}")


_AUGMENT_LARGEST = {
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
