"""Child processes that run nothing out of the current folder, and end when their parent does.

An interpreter that is started with code (`-c`, which is how `multiprocessing` starts its children)
looks for modules in the current folder first.  That is where people keep their pictures: a file
`pickle.py` among them would be executed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that a process gets when the thread that started it ends."""

_ORPHANED = 75
_VARIABLE = "PYTHONSAFEPATH"
_OURS = "agebench"


@contextmanager
def safe_path() -> Iterator[None]:
    """Start interpreters inside that do not look for modules in the current folder.

    A child that is ours calls `own_path_again`, so that what it starts itself is as elsewhere.
    """
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = before or _OURS
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before


def own_path_again() -> None:
    """Take back, in a child, what `safe_path` set there."""
    if os.environ.get(_VARIABLE) == _OURS:
        del os.environ[_VARIABLE]


def end_with_parent(parent: int, watch: int | None = None, *, tied: bool = True) -> None:
    """Have this process end as soon as its parent does, however that ended.

    A model can keep a processor busy for hours; nobody is left to stop it once the parent was
    killed.  On Linux the kernel does it, whatever the process is in the middle of; elsewhere a
    thread, which waits while code outside of Python holds the interpreter.

    Args:
        parent: number of the parent's process.
        watch: a descriptor that ends when the parent does, such as the other end of a pipe; None
            looks at the parent's number once a second.
        tied: whether the parent started this from a thread that lives as long as it: Linux means
            the thread by "parent".
    """
    if tied and sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.name == "posix" and os.getppid() != parent:  # it ended before that took effect
        os._exit(_ORPHANED)
    waiting = _until_number_changes if watch is None else _until_end
    threading.Thread(target=waiting, args=(watch or parent,), daemon=True).start()


def _until_end(descriptor: int) -> None:
    with suppress(OSError):
        while os.read(descriptor, 1):
            pass
    os._exit(_ORPHANED)


def _until_number_changes(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(_ORPHANED)
