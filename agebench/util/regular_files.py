"""Opening files that a user names: only regular ones, so that nothing is ever waited for."""

from __future__ import annotations

import errno
import os
import stat
from functools import cache
from io import BufferedReader
from pathlib import Path

_OF_THE_SYSTEM = ("/proc", "/sys")
"""Their files look regular, but some are waited for without end (kmsg), and none has a size."""


def open_regular(path: str | Path) -> BufferedReader:
    """Open a file for reading, if it is a regular one.

    A pipe would be waited for, a device may do anything when it is opened.  What was opened is
    looked at again: another file may have taken the name since.

    Raises:
        OSError: it can't be opened, or is not a regular file; `strerror` says so.
        ValueError: the path can't be one.
    """
    _require_regular(os.stat(path), path)  # noqa: PTH116 - a text or a Path
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        _require_regular(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_regular(path: str | Path) -> bytes:
    """Return all bytes of a regular file; as `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def _require_regular(status: os.stat_result, path: str | Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not is_regular(status):
        what = "it is not a regular file (a pipe, a device, a socket or a file of the system)"
        raise OSError(errno.EINVAL, what, str(path))


def is_regular(status: os.stat_result) -> bool:
    """Tell whether it is a file that lies on a disk."""
    return stat.S_ISREG(status.st_mode) and status.st_dev not in _devices_of_the_system()


@cache
def _devices_of_the_system() -> frozenset[int]:
    there = filter(os.path.ismount, _OF_THE_SYSTEM)
    return frozenset(os.stat(folder).st_dev for folder in there)  # noqa: PTH116 - two texts
