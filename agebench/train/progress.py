"""What a training run tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agebench.train.stability import Decision, RoundRecord


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step.

    Attributes:
        step: its number, from 0.
        total: steps planned.
        round: its bootstrap round, from 0.
        loss: of the step.
        learning_rate: of the step.
        seconds_left: until the last planned step at the present speed.
    """

    step: int
    total: int
    round: int
    loss: float
    learning_rate: float
    seconds_left: float


class Watcher(Protocol):
    """Is told what happens."""

    def step(self, report: StepReport) -> None:
        """A step was made."""

    def round(self, record: RoundRecord, decision: Decision, seconds: float) -> None:
        """A round ended."""


class Silent:
    """A watcher that says nothing."""

    def step(self, report: StepReport) -> None:
        """See `Watcher.step`."""

    def round(self, record: RoundRecord, decision: Decision, seconds: float) -> None:
        """See `Watcher.round`."""
