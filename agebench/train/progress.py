"""What a training run tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agebench.train.stability import Decision, EpochRecord


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step.

    Attributes:
        step: its number, from 0.
        total: steps planned.
        epoch: its epoch, from 0.
        loss: of the step.
        learning_rate: of the step.
        seconds_left: until the last planned step at the present speed.
    """

    step: int
    total: int
    epoch: int
    loss: float
    learning_rate: float
    seconds_left: float


class Watcher(Protocol):
    """Is told what happens."""

    def step(self, report: StepReport) -> None:
        """A step was made."""

    def epoch(self, record: EpochRecord, decision: Decision, seconds: float) -> None:
        """An epoch ended."""


class Silent:
    """A watcher that says nothing."""

    def step(self, report: StepReport) -> None:
        """See `Watcher.step`."""

    def epoch(self, record: EpochRecord, decision: Decision, seconds: float) -> None:
        """See `Watcher.epoch`."""
