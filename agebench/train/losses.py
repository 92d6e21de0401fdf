"""The losses as the loop uses them: by name, for exact ages, ranges and pictures mixed by mixup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor, nn

from agebench.train.formulas import (
    CoralHead,
    coral,
    coral_interval_likelihood,
    coral_probabilities,
    cross_entropy,
    distillation,
    dldl,
    interval_likelihood,
    mean_variance,
    regression,
)
from agebench.train.sections import LossName, LossSettings


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """The targets of a batch of pictures.

    Attributes:
        ages: float32 (n,), years; ignored in rows with a range.
        lows: float32 (n,), lowest possible age in completed years; equal to `highs` if the age is
            exact.
        highs: float32 (n,), highest possible age, inclusive: 25 to 32 is eight years long.
        other: with mixup, the targets of the pictures that were mixed in, not mixed themselves;
            otherwise None.
        mixup_lambda: float32 (n,), 0 to 1, weight of the loss of these targets; the rest is that of
            `other`.
        label_weights: float32 (n,), 0 to 1, weight of each label; None if all are 1.
        answers: float32 (n, bins), a teacher's distributions; rows of 0 where it has none; None
            without a teacher.

    Raises:
        ValueError: the shapes differ, one of `other` and `mixup_lambda` is missing, or `other` is
            mixed itself.
    """

    ages: Tensor
    lows: Tensor
    highs: Tensor
    other: Targets | None = None
    mixup_lambda: Tensor | None = None
    label_weights: Tensor | None = None
    answers: Tensor | None = None

    def __post_init__(self) -> None:
        shape = self.ages.shape
        if len(shape) != 1 or self.lows.shape != shape or self.highs.shape != shape:
            got = ", ".join(str(tuple(part.shape)) for part in (self.ages, self.lows, self.highs))
            raise ValueError(f"expected ages, lows and highs of shape (n,), got {got}")
        if self.other is None or self.mixup_lambda is None:
            if self.other is not None or self.mixup_lambda is not None:
                raise ValueError("expected both other and mixup_lambda, or neither")
            return
        if self.other.other is not None or self.other.ages.shape != shape:
            raise ValueError(f"expected other to be {shape[0]} targets that are not mixed")
        if self.mixup_lambda.shape != shape:
            raise ValueError(
                f"expected mixup_lambda of shape (n,), got {tuple(self.mixup_lambda.shape)}"
            )

    @classmethod
    def exact(cls, ages: Tensor) -> Targets:
        """Return targets of exact ages, float (n,)."""
        ages = ages.float()
        return cls(ages, ages, ages)

    @classmethod
    def ranges(cls, lows: Tensor, highs: Tensor) -> Targets:
        """Return targets of ranges, float (n,) each; an age is exact where both are equal."""
        lows, highs = lows.float(), highs.float()
        return cls((lows + highs) / 2, lows, highs)

    def mixed(self, other: Targets, mixup_lambda: Tensor) -> Targets:
        """Return these targets, with weights `mixup_lambda`, float (n,), mixed with `other`."""
        return replace(self, other=other, mixup_lambda=mixup_lambda)

    def take(self, rows: Tensor) -> Targets:
        """Return the targets of some rows, int (m,), which must not be mixed."""
        return Targets(
            self.ages[rows],
            self.lows[rows],
            self.highs[rows],
            label_weights=None if self.label_weights is None else self.label_weights[rows],
            answers=None if self.answers is None else self.answers[rows],
        )

    def to(self, device: torch.device | str) -> Targets:
        """Return the targets on a device."""
        return Targets(
            self.ages.to(device),
            self.lows.to(device),
            self.highs.to(device),
            None if self.other is None else self.other.to(device),
            None if self.mixup_lambda is None else self.mixup_lambda.to(device),
            None if self.label_weights is None else self.label_weights.to(device),
            None if self.answers is None else self.answers.to(device),
        )


Exact: TypeAlias = Callable[[Tensor, Tensor, Tensor, LossSettings], Tensor]
Interval: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class LossSpec:
    """One loss as the loop uses it.

    Attributes:
        name: its key in `LOSSES`.
        outputs: the number of outputs per face for a number of bins.
        exact: the loss (n,) of exact ages, for outputs, ages, years and settings.
        interval: the loss (n,) of ranges, for outputs, lowest and highest ages, and years.
        to_probabilities: distributions, float32 (n, bins), for outputs (n, outputs).
        head: makes the last layer from its number of inputs and of bins.
    """

    name: LossName
    outputs: Callable[[int], int]
    exact: Exact
    interval: Interval
    to_probabilities: Callable[[Tensor], Tensor]
    head: Callable[[int, int], nn.Module]

    def per_sample(
        self,
        outputs: Tensor,
        targets: Targets,
        years: Tensor,
        settings: LossSettings,
        teacher_weight: float = 0.5,
    ) -> Tensor:
        """Return the loss of each picture, float32 (n,).

        Rows with a range use the interval likelihood; rows with a teacher's answer the weighted
        mean of the label's loss and the divergence from the teacher; mixed rows the weighted mean
        of the losses of both targets.

        Args:
            outputs: (n, outputs(bins)), any float type.
            targets: on the same device.
            years: of the bins, (bins,), on the same device.
            settings: parameters of the loss (`name` is ignored).
            teacher_weight: weight of the teacher, 0 to 1, in rows with an answer.

        Raises:
            ValueError: the shapes do not match.
        """
        expected = (len(targets.ages), self.outputs(len(years)))
        if tuple(outputs.shape) != expected:
            raise ValueError(
                f"{self.name}: expected outputs of shape {expected}, got {tuple(outputs.shape)}"
            )
        loss = self._taught(outputs, targets, years, settings, teacher_weight)
        if targets.other is None or targets.mixup_lambda is None:
            return loss
        others = self._taught(outputs, targets.other, years, settings, teacher_weight)
        return targets.mixup_lambda * loss + (1 - targets.mixup_lambda) * others

    def _taught(
        self,
        outputs: Tensor,
        targets: Targets,
        years: Tensor,
        settings: LossSettings,
        teacher_weight: float,
    ) -> Tensor:
        loss = self._labelled(outputs, targets, years, settings)
        if targets.label_weights is not None:
            loss = loss * targets.label_weights
        if targets.answers is None:
            return loss
        probabilities = self.to_probabilities(outputs)
        taught = distillation(probabilities, targets.answers, years, l1_weight=settings.l1_weight)
        weight = teacher_weight * (targets.answers.sum(dim=1) > 0)
        return (1 - weight) * loss + weight * taught

    def _labelled(
        self, outputs: Tensor, targets: Targets, years: Tensor, settings: LossSettings
    ) -> Tensor:
        lows, highs = targets.lows, targets.highs
        ranged = lows < highs
        # The branch that is not used must be finite too: its gradient is multiplied by 0, and
        # 0 * NaN is NaN.
        ages = torch.where(ranged, (lows + highs) / 2, targets.ages)
        exact = self.exact(outputs, ages, years, settings)
        return torch.where(ranged, self.interval(outputs, lows, highs, years), exact)


def _softmax(outputs: Tensor) -> Tensor:
    return outputs.float().softmax(dim=1)


def _over_bins(name: LossName, exact: Exact) -> LossSpec:
    return LossSpec(name, lambda bins: bins, exact, interval_likelihood, _softmax, nn.Linear)


LOSSES: Mapping[LossName, LossSpec] = MappingProxyType(
    {
        "ce": _over_bins("ce", lambda out, ages, years, _: cross_entropy(out, ages, years)),
        "dldl": _over_bins(
            "dldl",
            lambda out, ages, years, numbers: dldl(
                out,
                ages,
                years,
                sigma_years=numbers.sigma_years,
                l1_weight=numbers.l1_weight,
                divergence=numbers.divergence,
            ),
        ),
        "mean-variance": _over_bins(
            "mean-variance",
            lambda out, ages, years, numbers: mean_variance(
                out,
                ages,
                years,
                mean_weight=numbers.mean_weight,
                variance_weight=numbers.variance_weight,
            ),
        ),
        "regression": _over_bins(
            "regression",
            lambda out, ages, years, numbers: regression(
                out, ages, years, kind=numbers.regression, smooth_years=numbers.smooth_years
            ),
        ),
        "coral": LossSpec(
            "coral",
            lambda bins: bins - 1,
            lambda out, ages, years, _: coral(out, ages, years),
            coral_interval_likelihood,
            coral_probabilities,
            CoralHead,
        ),
    }
)
"""Every loss, by the name that settings use."""
