"""Processor time by stage: where a comparison spends it, however busy the machine is.

For one's own planning, and no latency: batches, pictures that wait and kept detections are in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

STAGES = ("decode", "detect", "near copies", "crop", "infer")
"""Reading and decoding pictures; finding faces, or reading the kept ones; looking for near copies
of training pictures; changing pictures and cutting crops; the estimators."""


class StageSeconds:
    """Processor seconds by stage, of the threads that the stages are called in.

    A stage inside another one counts as itself alone.  What a runtime's own threads take is in none
    of them: with `threads=1` it has none.

    >>> seconds = StageSeconds()
    >>> with seconds.spent_on("crop"):
    ...     pass
    >>> seconds.add("crop", 1.5)
    >>> [stage for stage, spent in seconds.by_stage.items() if spent >= 1.5]
    ['crop']
    """

    def __init__(self) -> None:
        self._spent = dict.fromkeys(STAGES, 0.0)
        self._inside = 0.0

    @property
    def by_stage(self) -> Mapping[str, float]:
        """Seconds by stage, all of `STAGES`."""
        return dict(self._spent)

    def add(self, stage: str, seconds: float, *, inside: bool = False) -> None:
        """Add what another thread took, or this one `inside` the stage that is under way."""
        self._spent[stage] += seconds
        self._inside += seconds if inside else 0.0

    @contextmanager
    def spent_on(self, stage: str) -> Iterator[None]:
        """Add what this thread takes inside."""
        begun, before = time.thread_time(), self._inside
        try:
            yield
        finally:
            took = time.thread_time() - begun
            self._spent[stage] += max(0.0, took - (self._inside - before))
            self._inside = before + took
