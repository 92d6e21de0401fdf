"""Locks on files and folders, which the system releases however a process ends."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from agebench.errors import AgebenchError

LOCK_FILE = ".lock"
"""In a folder that is used by a run."""

_TAKEN = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK})


def lock_file(file: IO[bytes]) -> bool:
    """Lock an open file for this process.

    Returns:
        False where another process has locked it.

    Raises:
        AgebenchError: the system does not support locks there, as on some network shares.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise AgebenchError(
            f"{file.name} can't be locked ({error.strerror}), so two runs could write it at once: "
            "use a disk that supports locks, such as a local one"
        ) from error
    return True


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder within the context.

    Raises:
        AgebenchError: it can't be written to, or another run uses it.
    """
    path = folder / LOCK_FILE
    try:
        lock = path.open("a+b")
    except OSError as error:
        raise AgebenchError(
            f"{folder} can't be written to: {error.strerror}: name another folder"
        ) from error
    with lock:
        if not (lock_file(lock) and _is_at(lock, path)):
            raise AgebenchError(
                f"another run is at work in {folder}: wait for it, or name another folder"
            )
        try:
            yield
        finally:
            # Some systems can't remove an open file, which does no harm.
            with suppress(OSError):
                path.unlink()


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Return whether a file still has its name, or the run that had it has just removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
