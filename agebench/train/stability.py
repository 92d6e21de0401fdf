"""When to stop training: jumps of the loss at each new sample, and the validation error.

Every epoch of training draws a new bootstrap sample (`agebench.train.bootstrap`).  The loss of a
network that has learned what faces have in common hardly changes; that of one that has memorised
the sample, or that oscillates because of a high learning rate, jumps.  The jump is the relative
increase of the robustly averaged loss from just before the new sample to just after it.  From the
jumps and the validation error `decide` concludes:

- validation still improves: "go on";
- it does not, and the jumps stayed below the threshold: "stable", training ends;
- it does not, and a jump was larger: "cut" the learning rate and continue;
- no cuts are left: "change structure", training ends; training for longer would not help.

This module is independent of the network: it maps a history of `EpochRecord` to a `Decision`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from agebench.errors import AgebenchError
from agebench.util.checks import is_whole, require

Kind: TypeAlias = Literal["go on", "cut", "stable", "change structure"]
Average: TypeAlias = Literal["median", "trimmed-mean"]

KINDS: tuple[Kind, ...] = get_args(Kind)

TRIMMED_FRACTION = 0.2
"""Fraction of the losses that the average "trimmed-mean" drops at either end."""

_SMALLEST = 1e-12
"""Smaller losses are replaced by this one, so that the increase from a loss of 0 is defined."""


class DivergedError(AgebenchError):
    """A loss or the validation error is not finite: the run can't continue."""


DIVERGED = (
    "training has diverged: start a new run with a lower optim.learning_rate or a smaller "
    "optim.clip_norm, from an earlier checkpoint if there is one (--set start=FILE)"
)
"""What to do about it: a run can't be resumed with other settings."""


def _finite(name: str, value: float, where: str) -> None:
    if not math.isfinite(value):
        raise DivergedError(f"{name} is {value} {where}: {DIVERGED}")


@dataclass(frozen=True, slots=True)
class StabilitySettings:
    """Parameters of the rule.

    Attributes:
        threshold: an epoch is calm if its jump is below this fraction (0.05: 5 %); above 0.
        epochs: number of consecutive last epochs that must be calm for "stable"; from 1.
        patience: number of consecutive epochs without improvement that are a plateau; from 1.
        min_delta_years: an improvement is an MAE lower than the best by more than this.
        cut_factor: factor on the learning rate at a cut; above 0, below 1.
        max_cuts: number of cuts before "change structure"; from 0.
        window: training steps averaged before and after a new sample; from 1.
        average: how they are averaged: "median" or "trimmed-mean" (without the highest and the
            lowest 20 %).
        min_epochs: the decision is "go on" until so many epochs are done, such as the warm-up.

    Raises:
        UsageError: a value other than the above.
    """

    threshold: float = 0.05
    epochs: int = 3
    patience: int = 3
    min_delta_years: float = 0.01
    cut_factor: float = 0.3
    max_cuts: int = 2
    window: int = 20
    average: Average = "median"
    min_epochs: int = 0

    def __post_init__(self) -> None:
        checks = (
            ("threshold", 0 < self.threshold < math.inf, "above 0"),
            ("min_delta_years", 0 <= self.min_delta_years < math.inf, "0 or more"),
            ("cut_factor", 0 < self.cut_factor < 1, "above 0 and below 1"),
            ("average", self.average in get_args(Average), "'median' or 'trimmed-mean'"),
            *((name, is_whole(getattr(self, name), 1), "1 or more") for name in _FROM_ONE),
            *((name, is_whole(getattr(self, name), 0), "0 or more") for name in _FROM_ZERO),
        )
        for name, right, wanted in checks:
            require(right, "stability", f"{name} must be {wanted}, got {getattr(self, name)!r}")


_FROM_ONE = ("epochs", "patience", "window")
_FROM_ZERO = ("max_cuts", "min_epochs")


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """The record of an epoch, that is of training on one bootstrap sample.

    Attributes:
        epoch: its number, from 0.
        step_start: number of its first training step, from 0.
        step_end: number of the step after its last one.
        loss_before: averaged loss of the last steps before it; None in the first epoch.
        loss_after: averaged loss of its own first steps.
        jump: relative increase from the one to the other (see `jump`); None in the first epoch.
        val_mae: mean absolute error on the validation part after it, years.
        decision: the decision after it; `decide` ignores that of a history's last record.

    Raises:
        DivergedError: a loss, the jump or the error is NaN or infinite.
        ValueError: a negative number, descending steps, or one of `loss_before` and `jump` without
            the other.
    """

    epoch: int
    step_start: int
    step_end: int
    loss_before: float | None
    loss_after: float
    jump: float | None
    val_mae: float
    decision: Kind = "go on"

    def __post_init__(self) -> None:
        for name in ("loss_before", "loss_after", "jump", "val_mae"):
            value = getattr(self, name)
            if value is not None:
                _finite(name, value, f"in epoch {self.epoch}")
        if self.epoch < 0 or not 0 <= self.step_start <= self.step_end or self.val_mae < 0:
            raise ValueError(f"expected an epoch and ascending steps from 0, got {self}")
        if (self.loss_before is None) != (self.jump is None):
            raise ValueError(f"expected both loss_before and jump, or neither, got {self}")
        if self.decision not in KINDS:
            raise ValueError(f"expected a decision of {KINDS}, got {self.decision!r}")

    @classmethod
    def measured(
        cls,
        number: int,
        steps: tuple[int, int],
        before: Sequence[float],
        after: Sequence[float],
        val_mae: float,
        settings: StabilitySettings,
    ) -> EpochRecord:
        """Return the record of an epoch from the losses of its steps.

        Args:
            number: of the epoch, from 0.
            steps: its first step, and the step after its last.
            before: losses of the previous epoch in the order of steps, of which the last
                `settings.window` are used; empty in the first epoch.
            after: losses of this epoch, of which the first `settings.window` are used; not empty.
            val_mae: years.
            settings: the window and how to average.

        Raises:
            DivergedError: a loss that is used, or `val_mae`, is NaN or infinite.
            ValueError: as the class, or `after` is empty.
        """
        last, first = before[-settings.window :], after[: settings.window]
        known = len(last) > 0
        return cls(
            epoch=number,
            step_start=steps[0],
            step_end=steps[1],
            loss_before=robust_average(last, settings.average) if known else None,
            loss_after=robust_average(first, settings.average),
            jump=jump(last, first, settings.average) if known else None,
            val_mae=val_mae,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do next, and why.

    Attributes:
        kind: "go on", "cut" (the learning rate), "stable" or "change structure".
        reason: one sentence with the figures behind the decision.
    """

    kind: Kind
    reason: str

    @property
    def ends(self) -> bool:
        """Whether training ends here."""
        return self.kind in ("stable", "change structure")


def robust_average(losses: Sequence[float], average: Average = "median") -> float:
    """Return an average that outliers do not affect.

    Raises:
        DivergedError: a loss is NaN or infinite.
        ValueError: there are no losses.

    >>> robust_average([1.0, 1.2, 9.0])
    1.2
    """
    if not len(losses):
        raise ValueError("losses: expected at least one, got none")
    for index, loss in enumerate(losses):
        _finite("the loss", loss, f"at step {index} of {len(losses)} averaged")
    if average == "median":
        return float(np.median(losses))
    cut = int(TRIMMED_FRACTION * len(losses))
    return float(np.mean(np.sort(np.asarray(losses, dtype=np.float64))[cut : len(losses) - cut]))


def jump(before: Sequence[float], after: Sequence[float], average: Average = "median") -> float:
    """Return the relative increase of the averaged loss at a new sample.

    Args:
        before: losses of the steps just before it, not empty.
        after: losses of the steps just after it, not empty.
        average: as in `StabilitySettings`.

    Returns:
        (after - before) / before of the averages; negative if the loss fell.

    Raises:
        DivergedError: a loss is NaN or infinite.
        ValueError: one of the two is empty.

    >>> round(jump([2.0, 2.0, 50.0], [2.2, 2.2, 0.0]), 6)
    0.1
    """
    old, new = robust_average(before, average), robust_average(after, average)
    return (new - old) / max(abs(old), _SMALLEST)


def decide(history: Sequence[EpochRecord], settings: StabilitySettings) -> Decision:
    """Return what to do after the last epoch of a history.

    Both counts, of calm epochs and of epochs without improvement, restart after a cut, because
    what happened at a higher rate says nothing about the new one.  The best validation error is
    kept over cuts.  With fewer than `settings.epochs` jumps at the current rate, stability can't be
    judged yet, and the decision is "go on".

    Args:
        history: one record per epoch, in order, with the decision after each (`extended` adds a
            record with its decision).
        settings: of the rule.

    Raises:
        ValueError: the history is empty, out of order, or had ended before its last record.
    """
    _check_history(history)
    jumps = _jumps_at_this_rate(history)
    best, waited = _plateau(history, settings.min_delta_years)
    so_far = f"best validation MAE {best:.2f} years, {_epochs(waited)} without improvement"
    if waited < settings.patience:
        return Decision("go on", f"validation may still improve: {so_far}")
    if len(history) < settings.min_epochs:
        return Decision("go on", f"no decision before epoch {settings.min_epochs}: {so_far}")
    if len(jumps) < settings.epochs:
        return Decision("go on", f"only {len(jumps)} jumps known at this learning rate: {so_far}")
    largest = max(jumps[-settings.epochs :])
    basis = f"largest jump {largest:+.1%} in {_epochs(settings.epochs)}; {so_far}"
    if largest < settings.threshold:
        return Decision("stable", f"new samples no longer affect the loss: {basis}")
    cuts = sum(record.decision == "cut" for record in history[:-1])
    if cuts < settings.max_cuts:
        return Decision("cut", f"not stable and not improving, cut {cuts + 1}: {basis}")
    return Decision(
        "change structure",
        f"not stable and not improving after {cuts} cuts of the learning rate: {basis}; change "
        "the structure (fewer or narrower layers, more dropout or augmentation, or more pictures)",
    )


def _epochs(count: int) -> str:
    return f"{count} epoch" if count == 1 else f"{count} epochs"


def _check_history(history: Sequence[EpochRecord]) -> None:
    if not history:
        raise ValueError("history: expected at least one epoch, got none")
    numbers = [record.epoch for record in history]
    if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
        raise ValueError(f"history: expected ascending epochs, got {numbers}")
    if any(Decision(record.decision, "").ends for record in history[:-1]):
        raise ValueError("history: training had ended before the last epoch")


def _jumps_at_this_rate(history: Sequence[EpochRecord]) -> list[float]:
    jumps: list[float] = []
    for index, record in enumerate(history):
        if index and history[index - 1].decision == "cut":
            jumps.clear()
        if record.jump is not None:
            jumps.append(record.jump)
    return jumps


def _plateau(history: Sequence[EpochRecord], min_delta_years: float) -> tuple[float, int]:
    """Return the best MAE, and epochs since it improved or the learning rate was cut."""
    best, waited = math.inf, 0
    for index, record in enumerate(history):
        if index and history[index - 1].decision == "cut":
            waited = 0
        waited += 1
        if record.val_mae < best - min_delta_years:
            best, waited = record.val_mae, 0
    return best, waited


def extended(
    history: Sequence[EpochRecord], record: EpochRecord, settings: StabilitySettings
) -> tuple[tuple[EpochRecord, ...], Decision]:
    """Return the history with one more epoch and its decision, and that decision.

    Raises:
        ValueError: as `decide`.
    """
    decision = decide([*history, record], settings)
    decided = dataclasses.replace(record, decision=decision.kind)
    return (*history, decided), decision


def history_to_json(history: Sequence[EpochRecord]) -> str:
    """Return a history as JSON, for a checkpoint."""
    return json.dumps([dataclasses.asdict(record) for record in history], allow_nan=False)


def history_from_json(text: str) -> tuple[EpochRecord, ...]:
    """Return the history that `history_to_json` wrote, with identical numbers.

    In checkpoints of earlier versions a record's "epoch" is called "round".

    Raises:
        AgebenchError: it is not JSON of that form; the message names the record.
    """
    try:
        records: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AgebenchError(f"the history of epochs is not JSON: {error}") from error
    if not isinstance(records, list):
        raise AgebenchError("the history of epochs: expected a list of records")
    return tuple(_record(index, record) for index, record in enumerate(records))


def _record(index: int, values: object) -> EpochRecord:
    where = f"the history of epochs, record {index}"
    fields = {field.name for field in dataclasses.fields(EpochRecord)}
    if isinstance(values, dict) and "round" in values and "epoch" not in values:
        values = {"epoch" if name == "round" else name: value for name, value in values.items()}
    if not isinstance(values, dict) or set(values) != fields:
        raise AgebenchError(f"{where}: expected the keys {', '.join(sorted(fields))}")
    whole = all(is_whole(values[name], 0) for name in ("epoch", "step_start", "step_end"))
    optional = {"loss_before", "jump"}
    numbers = all(
        (values[name] is None and name in optional)
        or (isinstance(values[name], int | float) and not isinstance(values[name], bool))
        for name in ("loss_before", "loss_after", "jump", "val_mae")
    )
    if not (whole and numbers and values["decision"] in KINDS):
        raise AgebenchError(f"{where}: expected numbers and a known decision, got {values}")
    try:
        return EpochRecord(**values)
    except (ValueError, OverflowError) as error:
        raise AgebenchError(f"{where}: {error}") from error
