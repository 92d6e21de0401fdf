"""Processor time of a comparison by stage, independent of other load.

It is meant for planning and is not a latency, as it includes batching, prefetching and kept
detections.
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

    Time in a nested stage counts only there.  The time of a runtime's own threads is not included;
    with `threads=1` there are none.

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
        """Add the time of another thread, or of this one `inside` the current stage."""
        self._spent[stage] += seconds
        self._inside += seconds if inside else 0.0

    @contextmanager
    def spent_on(self, stage: str) -> Iterator[None]:
        """Add the time of this thread inside the context."""
        start, before = time.thread_time(), self._inside
        try:
            yield
        finally:
            seconds = time.thread_time() - start
            self._spent[stage] += max(0.0, seconds - (self._inside - before))
            self._inside = before + seconds
