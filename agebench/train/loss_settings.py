"""Which loss is trained, and its numbers; apart from the losses, so that it loads without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from agebench.train.checks import require, require_known

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
