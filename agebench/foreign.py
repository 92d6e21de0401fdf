"""Code of others: what it raises, prints or forks ends no more than its own call."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from agebench.errors import ContractError
from agebench.protocols import FaceDetector
from agebench.types import Face, Image, read_only

_FORK_ENDS = 70


@contextmanager
def foreign_code() -> Iterator[None]:
    """Run code of a plug-in, or of an object that a caller handed over.

    Whatever it raises is an `Exception` outside, but for Ctrl-C: `sys.exit(0)` in a stranger's
    `predict` would end a run in the middle, as if it had done all.  What it prints goes to stderr,
    since stdout belongs to results.  A process that it forked ends here and does not go on with
    the rest of the run.

    Not for a block that yields.

    Raises:
        ContractError: it raised what is meant to end a program.

    >>> with foreign_code():
    ...     raise SystemExit(0)
    Traceback (most recent call last):
        ...
    agebench.errors.ContractError: code of others raised SystemExit(0), which would end the program
    """
    process = os.getpid()
    try:
        with _prints_aside():
            yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ContractError(
            f"code of others raised {_named(error)}, which would end the program"
        ) from error
    finally:
        if os.getpid() != process:
            os._exit(_FORK_ENDS)


def found_faces(detector: FaceDetector, image_bgr: Image) -> list[Face]:
    """Ask anybody's detector for the faces of a picture, which it can't write into.

    Raises:
        Exception: whatever the detector raises; see `foreign_code`.
    """
    with foreign_code():
        return list(detector.detect(read_only(image_bgr)))


@contextmanager
def _prints_aside() -> Iterator[None]:
    if sys.stdout is sys.stderr or sys.stderr is None:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _named(error: BaseException) -> str:
    code = error.code if isinstance(error, SystemExit) else ""
    return f"{type(error).__name__}({code})" if isinstance(code, (int, str)) else "SystemExit"
