"""Threads and processors that a measurement may use: set, stated, and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from agebench.errors import AgebenchError, UsageError
from agebench.runtimes.base import use_threads
from agebench.util.process_pool import usable_cores
from agebench.vision.opencv import cv2

MAX_THREADS = 1024
"""More than any machine of today has; larger numbers make OpenCV and others fall over."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""What numpy's matrix products take their number of threads from, whoever built them."""


def check_threads(threads: int | None) -> None:
    """Raise a UsageError unless `threads` is None or 1 to `MAX_THREADS`."""
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"threads must be 1 to {MAX_THREADS}, got {threads}")


@contextmanager
def pinned(threads: int | None, *, pin: bool = False) -> Iterator[tuple[int, list[int] | None]]:
    """Let OpenCV, and models that are opened inside, use so many threads.

    Args:
        threads: how many; None for as many as the process has processors.
        pin: also keep the whole process, and what it starts, on that many processors.

    Yields:
        The number of threads, and the processors that the process is kept on (None: any).

    Raises:
        UsageError: `threads` is out of range, or more than there are processors to pin to.
        AgebenchError: this system knows no pinning.
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
    """Keep the process on its first `count` processors; return those and what it had before."""
    process = psutil.Process()
    if not hasattr(process, "cpu_affinity"):
        raise AgebenchError("this system can't pin a process to processors: leave --pin out")
    before = process.cpu_affinity() or []
    if count > len(before):
        raise UsageError(
            f"{count} threads can't be pinned to {len(before)} processors: lower --threads"
        )
    process.cpu_affinity(before[:count])
    return before[:count], before
