"""How long it takes from nothing to the first age, in fresh processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agebench.protocols import ProgressStep, no_progress
from agebench.timing.children import ask_child
from agebench.timing.latency import StageTimes

STAGES = ("process", "import", "load", "first", "second", "total")
"""Process start, import of agebench with numpy and OpenCV, loading of the estimator (its runtime's
library among it), first and second call with one face; the total ends with the first call."""

_IN_TOTAL = ("process", "import", "load", "first")


def measure_cold_starts(
    references: Sequence[str],
    *,
    device: str | None,
    count: int,
    threads: int,
    progress: ProgressStep = no_progress,
) -> list[dict[str, StageTimes]]:
    """Start each estimator in `count` new processes, taking turns.

    The files lie in the system's cache after the first time: this is not the first start after
    the machine's own.

    Returns:
        Per estimator the times of each stage of `STAGES`.

    Raises:
        AgebenchError: one fails.
    """
    found: list[list[Mapping[str, float]]] = [[] for _ in references]
    total = count * len(references)
    for number in range(count):
        for offset in range(len(references)):
            index = (number + offset) % len(references)
            progress("cold starts", number * len(references) + offset, total)
            order = {"reference": references[index], "device": device}
            found[index].append(ask_child("cold_start", order, threads=threads))
    progress("cold starts", total, total)
    return [_by_stage(runs) for runs in found]


def _by_stage(runs: Sequence[Mapping[str, float]]) -> dict[str, StageTimes]:
    times = {
        stage: tuple(run[f"{stage}_ms"] for run in runs) for stage in STAGES if stage != "total"
    }
    times["total"] = tuple(sum(run[f"{stage}_ms"] for stage in _IN_TOTAL) for run in runs)
    return {stage: StageTimes(times[stage]) for stage in STAGES}
