"""How busy other processes kept the machine while times were taken."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil

from agebench.util.process_pool import usable_cores

SPARE_PROCESSORS = 0.25
"""Accepted processor use by other processes, in processors: a system is never completely idle."""

_IDLE = ("idle", "iowait", "guest", "guest_nice")
"""Processor times of the system that are idle, or already counted as `user`."""


@dataclass(frozen=True, slots=True)
class Busyness:
    """The load by other processes.

    Attributes:
        load_average_before, load_average_after: runnable processes, mean of the last 1, 5 and 15
            minutes; None if the system does not report it.
        others_processors: how many processors other processes kept busy, on average; None if not
            known.
        cores: processors that the process may use.
        threads: that the estimators were allowed.
    """

    load_average_before: tuple[float, ...] | None
    load_average_after: tuple[float, ...] | None
    others_processors: float | None
    cores: int
    threads: int

    @property
    def reason(self) -> str:
        """Why times can't be compared; "" if the machine was free enough.

        >>> Busyness(None, None, 1.5, 2, 2).reason
        'the machine was too busy: other processes used 1.5 of its 2 processors'
        >>> Busyness(None, None, 1.5, 8, 2).reason
        ''
        """
        taken = self.others_processors
        if taken is None or taken + self.threads <= self.cores + SPARE_PROCESSORS:
            return ""
        return (
            f"the machine was too busy: other processes used {taken:.1f} of its {self.cores} "
            "processors"
        )


def load_average() -> tuple[float, ...] | None:
    """Return the number of runnable processes, mean of the last 1, 5 and 15 minutes."""
    return os.getloadavg() if hasattr(os, "getloadavg") else None


def _busy_s(cores: list[int]) -> float | None:
    """Return the processor time used on these processors by all processes since the start."""
    by_core = psutil.cpu_times(percpu=True)
    if max(cores, default=0) >= len(by_core):
        return None
    times: list[dict[str, float]] = [by_core[core]._asdict() for core in cores]
    return sum(seconds for core in times for state, seconds in core.items() if state not in _IDLE)


def _cores() -> list[int]:
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):
        return list(process.cpu_affinity() or [])
    return list(range(usable_cores()))


class Watch:
    """Monitors the processors from its creation until `stop`."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._cores = _cores()
        self._before = load_average()
        self._busy, self._own, self._start = (
            _busy_s(self._cores),
            time.process_time(),
            time.monotonic(),
        )

    def stop(self) -> Busyness:
        """Return the load since this was created by other processes than this one."""
        elapsed, busy = time.monotonic() - self._start, _busy_s(self._cores)
        others = None
        if busy is not None and self._busy is not None and elapsed > 0:
            used = busy - self._busy - (time.process_time() - self._own)
            others = min(max(0.0, used / elapsed), float(len(self._cores)))
        return Busyness(self._before, load_average(), others, len(self._cores), self._threads)
