"""Child processes that import nothing from the current folder, and end when their parent does.

An interpreter started with code (`-c`, as `multiprocessing` does) searches the current folder for
modules first, which may be a folder of pictures: a file `pickle.py` among them would be executed.

"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PR_SET_PDEATHSIG = 1
"""From prctl(2): the signal that a process gets when the thread that started it ends."""

_ORPHANED = 75
_VARIABLE = "PYTHONSAFEPATH"
_OURS = "agebench"


@contextmanager
def safe_path() -> Iterator[None]:
    """Start interpreters within the context that do not search the current folder for modules.

    Our own children call `own_path_again`, so that their children behave as usual.
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
    """Undo `safe_path` in a child."""
    if os.environ.get(_VARIABLE) == _OURS:
        del os.environ[_VARIABLE]


def silence_pillow() -> None:
    """Ignore Pillow's warnings of odd metadata and sizes: pictures that fail are listed."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


def end_with_parent(parent: int, watch: int | None = None, *, tied: bool = True) -> None:
    """End this process as soon as its parent ends, for whatever reason.

    A model can keep a processor busy for hours, and after the parent was killed nothing would stop
    it. On Linux the kernel ends it at once; elsewhere a thread does, which has to wait while code
    outside of Python holds the interpreter.

    Args:
        parent: process ID of the parent.
        watch: a descriptor that is closed when the parent ends, such as the other end of a pipe;
            None checks the parent's process ID once a second.
        tied: whether the parent started this from a thread that lives as long as it: on Linux the
            signal depends on the thread.
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
