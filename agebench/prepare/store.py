"""The output folder: files are written completely or not at all, and only by one run at a time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from agebench.errors import AgebenchError
from agebench.util.locks import lock_file

WORK_FOLDER = ".prepare"
"""In the output folder during a run: the journal, the lock and temporary files."""

_LOCK_FILE = "lock"


def cannot_write(path: Path, error: OSError) -> AgebenchError:
    """Return the error for a file that can't be written, with advice."""
    return AgebenchError(
        f"{path} can't be written: {error.strerror or error}; finished work is kept: make room "
        "or fix that, and run the same command again to resume"
    )


class Store:
    """Writes files below `out` through `scratch`, a folder of this run on the same disk."""

    def __init__(self, out: Path, scratch: Path) -> None:
        self._out = out
        self._scratch = scratch
        self._made: set[Path] = set()

    def write(self, name: str, content: bytes) -> None:
        """Write one file.

        Args:
            name: relative to the output folder, with forward slashes.
            content: its bytes.

        Raises:
            AgebenchError: the folder can't be written to, or the disk is full.
        """
        target = self._out / name
        # One file at a time is made per process, so its number is name enough.
        temporary = self._scratch / f"{os.getpid()}.tmp"
        try:
            if target.parent not in self._made:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._made.add(target.parent)
            temporary.write_bytes(content)
            temporary.replace(target)
        except OSError as error:
            raise cannot_write(target, error) from error

    @contextmanager
    def stream(self, name: str) -> Iterator[IO[str]]:
        """Open a text file (UTF-8, line ends unchanged) that gets its name when it is complete.

        Raises:
            AgebenchError: as `write`.
        """
        temporary = self._scratch / f"{os.getpid()}.text.tmp"
        try:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._out / name)
        except OSError as error:
            raise cannot_write(self._out / name, error) from error


@contextmanager
def working_folder(out: Path) -> Iterator[Path]:
    """Create and lock the work folder; yield it.  Leftovers of killed runs are removed first.

    Raises:
        AgebenchError: `out` can't be written to, or another run uses it.
    """
    work = out / WORK_FOLDER
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / _LOCK_FILE).open("a+b")
    except OSError as error:
        raise AgebenchError(
            f"the output folder {out} can't be written to: {error.strerror}; "
            "give another one with --out"
        ) from error
    with lock:
        if not lock_file(lock):
            raise AgebenchError(f"another run is at work in {out}: wait for it or stop it")
        for leftover in work.glob("run-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield work


def new_scratch(work: Path) -> Path:
    """Create a folder for this run's temporary files.

    Raises:
        AgebenchError: it can't be created.
    """
    try:
        return Path(tempfile.mkdtemp(prefix="run-", dir=work))
    except OSError as error:
        raise cannot_write(work, error) from error


def remove_work_folder(out: Path) -> None:
    """Remove the work folder of a finished run; leftovers do no harm."""
    with suppress(OSError):
        shutil.rmtree(out / WORK_FOLDER)
