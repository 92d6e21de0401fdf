"""The tables of a settings file: data, teacher, optimiser, loss and augmentation.

Those of the network, the bootstrap and the stability rule are in `model_settings`, `bootstrap` and
`stability`.  None of these needs torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from agebench.types import frozen_mapping
from agebench.util.checks import require, require_known, require_range


@dataclass(frozen=True, slots=True)
class ExtraData:
    """An additional data set: all its pictures are used for training, none for validation.

    Attributes:
        dataset: name with options, as for `agebench compare`, such as "fairface part=train".
        root: its folder or file; "" for a set that includes its pictures.
        detector: finds the faces; "aligned" for chips.
        fraction: of its pictures that is used, sampled once with the run's seed.
        label_weight: weight of its labels in the loss, 0 to 1; below 1 for labels that are often
            wrong, 0 to learn from the teacher's answers alone.
    """

    dataset: str
    root: str = ""
    detector: str = "aligned"
    fraction: float = 1.0
    label_weight: float = 1.0

    def __post_init__(self) -> None:
        require_range(self, ("fraction",), 0, 1, above=True)
        require_range(self, ("label_weight",), 0, 1)


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """Distributions that other networks predict for the training pictures, a second target.

    Attributes:
        file: the answers, as written by `benchmarks/teacher_answers.py`; "" for none.
        weight: weight of the teacher's loss for pictures with an answer, above 0 up to 1; the
            labels' loss has the rest.
    """

    file: str = ""
    weight: float = 0.5

    def __post_init__(self) -> None:
        require_range(self, ("weight",), 0, 1, above=True)


_EXTRA_NAME = re.compile("[a-z][a-z0-9_]*")


_ANY_PICTURES = frozenset({"csv", "folders", "names", "prepared"})
"""Names that describe a layout on disk, not one particular data set."""


@dataclass(frozen=True, slots=True)
class DataSettings:
    """The pictures of a run.

    Attributes:
        dataset: name with options, as for `agebench compare`.
        root: its folder or file; "" for a set that includes its pictures.
        detector: finds the faces; "aligned" for chips.
        protocol: how it is split, or a split file.
        train_part, val_part, test_part: parts of that split.
        train_fraction: of the training part that is used, sampled once with the seed.
        longest_px: cached face crops are shrunk so that neither side is longer.
        decode_threads: number of threads that decode pictures; 0 decodes in the calling thread.
        extra: additional training sets by freely chosen names.
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
        require_range(self, ("train_fraction",), 0, 1, above=True)
        require_range(self, ("longest_px",), 16, 4096)
        require_range(self, ("decode_threads",), 0, 256)
        parts = {"val": self.val_part, "test": self.test_part}
        for name, part in parts.items():
            if part == self.train_part:
                raise ValueError(
                    f"{name}_part is {part!r}, which is used for training: figures on it would be "
                    "meaningless"
                )

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders or files of all data sets; "" for one that includes its pictures."""
        return (self.root, *(source.root for source in self.extra.values()))

    @property
    def extra_sets(self) -> tuple[str, ...]:
        """Names of the additional sets: that of a known data set, else the one given here."""
        names = ((key, (source.dataset.split() or [""])[0]) for key, source in self.extra.items())
        return tuple(key if name in {"", *_ANY_PICTURES} else name for key, name in names)


@dataclass(frozen=True, slots=True)
class OptimSettings:
    """How the weights are updated.

    Attributes:
        optimiser: "adamw" (Loshchilov & Hutter 2017) or "sgd" with Nesterov momentum 0.9.
        learning_rate: the highest one of the schedule.
        weight_decay: on weights of convolutions and dense layers, not on norms and biases.
        schedule: after the warm-up, "cosine" falls to nearly 0 at the last planned epoch;
            "constant" is lowered by the stability rule only.
        warmup: fraction of the planned steps in which the rate rises.
        clip_norm: largest norm of the gradient; 0 for no limit.
        ema: decay of the averaged weights per step; 0 for none.
        auxiliary_weight: weight of the mean loss of the backbones' auxiliary heads.
        mixup: alpha of mixup's beta distribution (Zhang et al. 2017); 0 for none.
        staged: trains the backbones alone for this fraction of the steps, then the dense layer
            alone for half of the remaining steps, then everything; 0 trains everything jointly.
        small_fraction: fraction of the steps, from the first, with smaller crops.
        small_scale: factor on the sides of these crops.
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
        require_range(self, ("learning_rate", "small_scale"), 0, 10, above=True)
        require_range(self, ("warmup", "ema", "staged", "small_fraction"), 0, 1)
        require_range(self, ("weight_decay",), 0, 10)
        require_range(self, ("clip_norm",), 0, 1_000_000)
        require_range(self, ("auxiliary_weight",), 0, 1000)
        require_range(self, ("mixup",), 0, 100)


LossName: TypeAlias = Literal["ce", "dldl", "mean-variance", "coral", "regression"]
LOSS_NAMES: tuple[LossName, ...] = get_args(LossName)


@dataclass(frozen=True, slots=True)
class LossSettings:
    """The loss of exact ages and its parameters; the defaults are those of the papers.

    The loss of an age range is always the range's likelihood (`formulas.interval_likelihood`).

    Attributes:
        name: "ce", "dldl", "mean-variance", "coral" or "regression" (see `agebench.train.losses`).
        sigma_years: dldl: width of the Gaussian around the age; above 0.
        divergence: dldl: "kl", as published, or "ce", which differs only by the entropy of the
            Gaussian, so that the gradients are the same.
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
            require(0 < value < math.inf, "loss", f"{key} must be above 0, got {value}")
        for key in ("l1_weight", "mean_weight", "variance_weight"):
            value = getattr(self, key)
            require(0 <= value < math.inf, "loss", f"{key} must be 0 or more, got {value}")


LOW_RESOLUTIONS = (20, 28, 40, 56, 80)
"""Heights of the face, in pixels, that low-resolution augmentation simulates."""


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


PROBABILITIES = ("flip", "gray", "single_channel", "low_resolution", "noise", "erase")
"""The settings of `AugmentSettings` that are probabilities, in the order of the preview."""

STRENGTHS = (
    "rotation_deg",
    "scale",
    "shift",
    "brightness",
    "contrast",
    "saturation",
    "hue_deg",
)
"""The settings of `AugmentSettings` that say how strong an augmentation of every picture is."""


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """Augmentation of training pictures; 0 switches each one off.

    A new augmentation is named in `PROBABILITIES` or `STRENGTHS` too, and is off by default, so
    that earlier settings files mean what they did.

    Attributes:
        flip: probability that a picture is mirrored left to right.
        rotation_deg: standard deviation of the rotation, degrees.
        scale: the size varies by a factor between 1/(1+scale) and 1+scale.
        shift: standard deviation of the shift, in frame heights.
        brightness: largest change, as a fraction of the full range.
        contrast, saturation: factors between 1/(1+x) and 1+x.
        hue_deg: largest rotation of the hue, degrees.
        gray: probability that a picture is converted to gray.
        single_channel: probability that one randomly chosen channel replaces all three; with 1
            every picture is shown, over the epochs, as each of its channels.
        channel_space: the channels to choose from.
        low_resolution: probability that a picture is shrunk to one of `LOW_RESOLUTIONS` and
            enlarged again.
        noise: probability of Gaussian noise.
        noise_levels: its largest standard deviation, gray levels.
        erase: probability that a rectangle of a view is erased.
        filters: slow filters, applied on the host.
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
        require_range(self, PROBABILITIES, 0, 1)
        if self.gray + self.single_channel > 1:
            raise ValueError(
                "gray and single_channel exclude each other, so they must sum to at most 1, got "
                f"{self.gray} and {self.single_channel}"
            )
        require_range(self, ("scale", "shift", "brightness", "contrast", "saturation"), 0, 10)
        require_range(self, ("rotation_deg", "hue_deg"), 0, 180)
        require_range(self, ("noise_levels",), 0, 255)


def no_augmentation() -> AugmentSettings:
    """Return settings without any augmentation, as when an estimator is used."""
    off: dict[str, Any] = dict.fromkeys((*PROBABILITIES, *STRENGTHS), 0.0)
    return AugmentSettings(**off)
