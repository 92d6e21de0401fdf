"""From a network's outputs to years and distributions, as [output] in a spec file says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from agebench.errors import ModelError
from agebench.estimators.common import are_probabilities, checked_probabilities
from agebench.metrics.age_classes import expectation, median, top2_expectation
from agebench.types import AgeBins, Floats

Kind: TypeAlias = Literal["years", "probabilities", "logits", "ordinal", "class"]
OrdinalForm: TypeAlias = Literal["probabilities", "logits", "pairs"]
Rule: TypeAlias = Literal["expectation", "median", "midpoint", "top2-expectation", "count"]

_ROUNDING = 1e-3
"""Tolerance for probabilities outside 0 to 1, and for classes that are not integers."""


@dataclass(frozen=True, slots=True)
class AgeScale:
    """The age bins of a network's outputs.

    Attributes:
        bins: the ranges.
        years: the age that represents each, one per bin.
    """

    bins: AgeBins
    years: tuple[float, ...]


_PROBABILITIES_TO_YEARS: Mapping[str, Callable[[Floats, AgeScale], Floats]] = MappingProxyType(
    {
        "expectation": lambda probabilities, scale: expectation(probabilities, scale.years),
        "top2-expectation": lambda probabilities, scale: top2_expectation(
            probabilities, scale.years
        ),
        # The median moves linearly from one bin's midpoint to the next one's.
        "median": lambda probabilities, scale: np.interp(
            median(probabilities, scale.bins), scale.bins.midpoints, scale.years
        ),
        "midpoint": lambda probabilities, scale: np.asarray(scale.years)[
            probabilities.argmax(axis=1)
        ],
    }
)


@dataclass(frozen=True, slots=True)
class OutputReader:
    """How the numbers of one output become ages.

    Attributes:
        kind: the meaning of the numbers.
        part: which of them are used, first and last plus one; None for all.
        scale: for "years": factor on the number.
        offset: for "years": added afterwards.
        ages: the bins; None for "years".
        rule: from the numbers to years.
        ordinal: for "ordinal": the meaning of the numbers.
        label: the model's name in errors.
    """

    kind: Kind
    part: tuple[int, int] | None
    scale: float
    offset: float
    ages: AgeScale | None
    rule: Rule
    ordinal: OrdinalForm
    label: str

    @property
    def width(self) -> int:
        """Numbers per face that are needed."""
        if self.ages is None or self.kind == "class":
            return 1
        count = len(self.ages.bins)
        if self.kind != "ordinal":
            return count
        return (count - 1) * (2 if self.ordinal == "pairs" else 1)

    def take(self, rows: Floats) -> Floats:
        """Return the part of an output (n, numbers) that is used, (n, `width`).

        Raises:
            ModelError: there are fewer numbers.
        """
        got = rows.shape[1]
        if self.part is None and got != self.width:
            raise ModelError(
                f"{self.label}: expected an output of shape ({len(rows)}, {self.width}), got "
                f"{rows.shape}: {self._why()}"
            )
        first, end = self.part or (0, got)
        if end > got:
            raise ModelError(
                f"{self.label}: the output has {got} numbers per face, the spec file reads up to "
                f"number {end - 1} (the first one is 0)"
            )
        if end - first != self.width:
            count = 0 if self.ages is None else len(self.ages.bins)
            raise ModelError(
                f"{self.label}: slice = [{first}, {end}] takes {end - first} numbers, {count} bins "
                f"need {self.width}: write slice = [{first}, {first + self.width}]"
            )
        return rows[:, first:end]

    def _why(self) -> str:
        if self.ages is None or self.kind == "class":
            return "choose one of the numbers: index = 0, 1, ..."
        need = f"{len(self.ages.bins)} bins need {self.width} numbers"
        return f"{need}; choose the part of the output: slice = [first, end]"

    def check_trial(self, part: Floats) -> None:
        """Refuse numbers that are evidently not of the kind in the spec file.

        Raises:
            ModelError: they are not.
        """
        if self.kind == "probabilities":
            checked_probabilities(part, self.label)
        if self.kind == "logits" and part.shape[1] > 1 and are_probabilities(part):
            # A second softmax would give nearly the same age for every face.
            raise ModelError(
                f"{self.label}: expected logits, got numbers that sum to 1 and none negative for "
                'each trial: they are probabilities; write kind = "probabilities"'
            )
        if self.kind == "ordinal":
            self._older(part)
        if self.kind == "class":
            self._classes(part, len(self.ages.bins) if self.ages else 0)

    def answer(self, part: Floats) -> tuple[Floats, Floats | None]:
        """Return years (n,), and probabilities (n, bins) if the numbers are a distribution.

        Raises:
            ModelError: the numbers are not of the kind in the spec file.
        """
        if self.ages is None:
            return part[:, 0] * self.scale + self.offset, None
        middles = np.asarray(self.ages.years)
        if self.kind == "class":
            return middles[self._classes(part, len(middles))], None
        if self.kind == "ordinal":
            older = self._older(part)
            if self.rule == "count":
                return middles[np.count_nonzero(older > 0.5, axis=1)], None
            # Each probability of being beyond a limit adds the step beyond it.
            return middles[0] + older @ np.diff(middles), None
        probabilities = softmax(part, axis=1) if self.kind == "logits" else part
        probabilities = checked_probabilities(np.asarray(probabilities, np.float64), self.label)
        return _PROBABILITIES_TO_YEARS[self.rule](probabilities, self.ages), probabilities

    def _older(self, part: Floats) -> Floats:
        """Return the probability of being beyond each limit, (n, bins - 1)."""
        if self.ordinal == "logits":
            return np.asarray(expit(part), np.float64)
        if self.ordinal == "pairs":
            # Two numbers per limit, before a softmax over the two: not beyond, beyond.
            return np.asarray(expit(part[:, 1::2] - part[:, 0::2]), np.float64)
        if part.min() < -_ROUNDING or part.max() > 1 + _ROUNDING:
            raise ModelError(
                f"{self.label}: expected probabilities of being older than each limit, got numbers "
                f"from {part.min():.4g} to {part.max():.4g}: is there no sigmoid "
                '(ordinal = "logits")?'
            )
        return np.clip(part, 0.0, 1.0)

    def _classes(self, part: Floats, count: int) -> npt.NDArray[np.intp]:
        found = np.rint(part[:, 0])
        wrong = (np.abs(found - part[:, 0]) > _ROUNDING) | (found < 0) | (found >= count)
        if np.any(wrong):
            row = int(np.argmax(wrong))
            raise ModelError(
                f"{self.label}: expected the number of a class, 0 to {count - 1}, for face {row}, "
                f"got {part[row, 0]:g}"
            )
        return found.astype(np.intp)
