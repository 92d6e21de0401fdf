"""Runs third-party code so that exceptions, output or forks only affect its own call."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from agebench.errors import ContractError, interruption
from agebench.protocols import FaceDetector
from agebench.types import Face, Image, read_only
from agebench.util.call_limit import in_time

_FORK_ENDS = 70


@contextmanager
def foreign_code(owner: object = None, call: str = "") -> Iterator[None]:
    """Run code of a plug-in, or of an object from the caller.

    Any exception becomes an `Exception`, except Ctrl-C: `sys.exit(0)` in a third-party `predict`
    would end a run in the middle, as if it were complete.  Its output goes to stderr, since stdout
    is for results.  A process that it forked ends here and does not continue the run.

    Not for blocks that yield.

    Args:
        owner: the object, whose calls are limited by `agebench.util.call_limit`; None for
            no limit.
        call: its name, such as "predict".

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, even if the code caught it.
        NoAnswerError: it did not return in time.
        ContractError: it raised an exception that is meant to end a program.

    >>> with foreign_code():
    ...     raise SystemExit(0)
    Traceback (most recent call last):
        ...
    agebench.errors.ContractError: third-party code raised SystemExit(0), which ...
    """
    process = os.getpid()
    try:
        with _prints_aside(), contextlib.nullcontext() if owner is None else in_time(owner, call):
            yield
    except KeyboardInterrupt:
        raise
    except Exception as error:
        pressed = interruption(error)
        if pressed is not None:  # compiled code made it its own error, and the run would go on
            raise pressed from None
        raise
    except BaseException as error:
        raise ContractError(
            f"third-party code raised {_named(error)}, which would end the program"
        ) from error
    finally:
        if os.getpid() != process:
            os._exit(_FORK_ENDS)


def found_faces(detector: FaceDetector, image_bgr: Image) -> list[Face]:
    """Call any detector for the faces of a picture, which it can't modify.

    Raises:
        Exception: whatever the detector raises; see `foreign_code`.
    """
    with foreign_code(detector, "detect"):
        return list(detector.detect(read_only(image_bgr)))


class _Aside(io.TextIOBase):
    """Replaces stdout and stderr: output goes to stderr, which can't be closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        return self._stream.write(text)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def close(self) -> None:
        """Keep the stream: others write there too."""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only here as in the stream
        return self._stream.encoding


class _Asides:
    """Replaces the streams while third-party code runs, in any number of threads.

    The last thread restores them: if each restored what it found, one that started while another
    ran would leave the other's replacement, and results would go to stderr.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._kept: tuple[TextIO, TextIO] | None = None
        self._aside: TextIO | None = None
        if hasattr(os, "register_at_fork"):  # another thread may hold the lock just then
            os.register_at_fork(after_in_child=self._new_lock)

    def _new_lock(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._running and sys.stderr is not None:
                self._kept = sys.stdout, sys.stderr
                self._aside = cast("TextIO", _Aside(sys.stderr))
            self._running += 1
            self._put()
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._put()

    def _put(self) -> None:
        """Set the streams again, whatever third-party code did with them."""
        if self._kept is None or self._aside is None:
            return
        sys.stdout, sys.stderr = (self._aside, self._aside) if self._running else self._kept
        if not self._running:
            self._kept = self._aside = None


_prints_aside = _Asides()


def _named(error: BaseException) -> str:
    code = error.code if isinstance(error, SystemExit) else ""
    return f"{type(error).__name__}({code})" if isinstance(code, (int, str)) else "SystemExit"
