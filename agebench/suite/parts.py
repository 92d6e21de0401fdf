"""A suite in parts, for machines that share it: each part is a suite of one model.

What shares the parts out (Ray, a queue, a shell) is the caller's; docs/leaderboard.md has it with
Ray.  Everything here can be pickled.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agebench.references import called
from agebench.suite.plan import SuitePlan
from agebench.suite.run import RunOptions, run_suite


def parts_of(plan: SuitePlan) -> list[SuitePlan]:
    """Return a suite for each model: together they have the cells of `plan`.

    Times are in none of them: all models have to take turns for these, on one machine.
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
    """Measure what is missing of a part; return its folder, for `make_leaderboard` to join.

    A cell that fails has no result there, and is measured again, or told, where all is joined.

    Args:
        part: one of `parts_of`.
        out: a folder of its own, on a disk that the joining machine sees too.
        data: folder that the roots of sets start from.

    Raises:
        AgebenchError: as `run_suite`.
    """
    folder = Path(out)
    run_suite(part, RunOptions(folder, Path(data)))
    return folder
