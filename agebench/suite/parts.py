"""Dividing a suite among machines: each part is a suite of one model.

Distributing the parts (Ray, a queue, a shell) is up to the caller; docs/leaderboard.md shows it
with Ray.  Everything here can be pickled.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agebench.references import called
from agebench.suite.plan import SuitePlan
from agebench.suite.run import RunOptions, run_suite


def parts_of(plan: SuitePlan) -> list[SuitePlan]:
    """Return a suite for each model, which together have the cells of `plan`.

    They have no times, for which all models have to take turns on one machine.
    """
    found = []
    for contender in plan.contenders:
        axis = plan.robustness
        if axis is not None and axis.contenders is not None:
            chosen = contender.name in map(called, axis.contenders)
            axis = replace(axis, contenders=(contender.model,)) if chosen else None
        found.append(replace(plan, contenders=(contender,), robustness=axis, times=None))
    return found


def measure_part(part: SuitePlan, out: str | Path, data: str | Path) -> Path:
    """Measure what is missing from a part; return its folder, for `make_leaderboard` to join.

    A cell that fails has no result there, and is measured again, or reported, when all are joined.

    Args:
        part: one of `parts_of`.
        out: a separate folder, accessible to the joining machine.
        data: folder that the roots of sets are relative to.

    Raises:
        AgebenchError: as `run_suite`.
    """
    folder = Path(out)
    run_suite(part, RunOptions(folder, Path(data)))
    return folder
