"""Where a run is: what going on from a checkpoint needs besides tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agebench.errors import WeightsError
from agebench.train.stability import EpochRecord, history_from_json, history_to_json
from agebench.types import plain


@dataclass(slots=True)
class RunState:
    """Where a run is; everything but tensors needed to resume exactly.

    Attributes:
        plan: steps that the run was planned for when it began: the warm-up and the stages are
            fractions of these, also where it goes on for longer.
        step: steps made so far.
        history: epochs ended so far.
        rate: product of the stability rule's cuts.
        before: losses of the last steps of the epoch before, for the jump.
        losses: losses of this epoch so far.
        best_mae: lowest validation MAE so far, years.
        decision: how the last epoch was decided.
        reason: why.
        seconds: spent in training so far.
    """

    plan: int = 0
    step: int = 0
    history: tuple[EpochRecord, ...] = ()
    rate: float = 1.0
    before: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best_mae: float = math.inf
    decision: str = "go on"
    reason: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON can hold it."""
        return {
            **plain(self),
            "history": json.loads(history_to_json(self.history)),
            "best_mae": None if math.isinf(self.best_mae) else self.best_mae,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> RunState:
        """Return the state that `to_json` gave.

        Raises:
            WeightsError: it did not.
            AgebenchError: the history of epochs is damaged.
        """
        try:
            best = values["best_mae"]
            return RunState(
                plan=int(values.get("plan", 0)),
                step=int(values["step"]),
                history=history_from_json(json.dumps(values["history"])),
                rate=float(values["rate"]),
                before=[float(loss) for loss in values["before"]],
                losses=[float(loss) for loss in values["losses"]],
                best_mae=math.inf if best is None else float(best),
                decision=str(values["decision"]),
                reason=str(values["reason"]),
                seconds=float(values["seconds"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise WeightsError(
                f"the checkpoint's state can't be read ({type(error).__name__}: {error})"
            ) from error

    @property
    def ended(self) -> bool:
        """Whether the stability rule has ended the run."""
        return self.decision in ("stable", "change structure")
