"""Threads and processors that a measurement may use: set, recorded, and restored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from agebench.errors import AgebenchError, UsageError
from agebench.runtimes.base import use_threads
from agebench.util.checks import require_whole
from agebench.util.process_pool import usable_cores
from agebench.vision.opencv import cv2

MAX_THREADS = 1024
"""More than any current machine has; OpenCV and others crash with larger numbers."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Variables that set the number of threads of numpy's matrix products."""


def check_threads(threads: int | None) -> None:
    """Raise a UsageError unless `threads` is None or a whole number from 1 to `MAX_THREADS`."""
    require_whole("threads", threads, 1, MAX_THREADS)


@contextmanager
def pinned(threads: int | None, *, pin: bool = False) -> Iterator[tuple[int, list[int] | None]]:
    """Set the number of threads of OpenCV, and of models that are opened within the context.

    Args:
        threads: None for the number of the process's processors.
        pin: also restrict the process and its children to that many processors.

    Yields:
        The number of threads, and the processors that the process is restricted to (None: any).

    Raises:
        UsageError: `threads` is out of range, or more than there are processors to pin to.
        AgebenchError: this system does not support pinning.
    """
    check_threads(threads)
    count = usable_cores() if threads is None else threads
    cores = _pin(count) if pin else None
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(count)
        with use_threads(count):
            yield count, None if cores is None else cores[0]
    finally:
        cv2.setNumThreads(before)
        if cores is not None:
            psutil.Process().cpu_affinity(cores[1])


def _pin(count: int) -> tuple[list[int], list[int]]:
    """Restrict the process to its first `count` processors; return those and the previous ones."""
    process = psutil.Process()
    if not hasattr(process, "cpu_affinity"):
        raise AgebenchError("this system can't pin a process to processors: omit --pin")
    before = process.cpu_affinity() or []
    if count > len(before):
        raise UsageError(
            f"{count} threads can't be pinned to {len(before)} processors: reduce --threads"
        )
    process.cpu_affinity(before[:count])
    return before[:count], before
