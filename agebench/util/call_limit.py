"""Time limit for calls of plug-ins: off by default in Python, on in the command line."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from agebench.errors import AgebenchError, ContractError, UsageError
from agebench.util.checks import number_in

SECONDS_VARIABLE = "AGEBENCH_CALL_SECONDS"
"""Environment variable, so that child processes have the same limit.  0 or not set: none."""

MOST_SECONDS = 1_000_000_000
"""Largest limit; the system's timers take no much larger one."""

COMMAND_SECONDS = 300.0
"""Limit of the command line."""

GRACE_S = 30.0
"""Time after the limit until the process is ended: code outside of Python can't be interrupted."""

MOST_SILENT = 3
"""Number of timeouts after which an object is not called again."""

_AGAIN_S = 5.0


class NoAnswerError(ContractError):
    """A call did not return in time, or is refused because earlier ones did not."""


class _Late(BaseException):
    """Raised within third-party code, which should be unable to catch it."""


class _Running:
    """The call that runs in the main thread."""

    def __init__(self) -> None:
        self.call = ""
        self.ends_at: float | None = None
        self.watched = False
        self.silent: dict[int, tuple[object, int]] = {}


_RUNNING = _Running()


def limit_seconds() -> float | None:
    """Return the limit set by the environment; None without one.

    Raises:
        UsageError: it is not a number of at least 0.
    """
    text = os.environ.get(SECONDS_VARIABLE, "")
    if not text:
        return None
    value = number_in(text)
    if not 0 <= value <= MOST_SECONDS:
        raise UsageError(
            f"{SECONDS_VARIABLE} must be a number from 0 to {MOST_SECONDS:,} (0: no limit), "
            f"got {text!r}"
        )
    return value or None


@contextmanager
def limited_by_default() -> Iterator[None]:
    """Set the command line's limit within the context, unless the environment sets one.

    Raises:
        UsageError: the environment's limit is not a number of at least 0.
    """
    limit_seconds()
    if SECONDS_VARIABLE in os.environ:
        yield
        return
    os.environ[SECONDS_VARIABLE] = f"{COMMAND_SECONDS:g}"
    try:
        yield
    finally:
        os.environ.pop(SECONDS_VARIABLE, None)


@contextmanager
def in_time(owner: object, call: str) -> Iterator[None]:
    """Interrupt the context if it takes too long; only in the main thread, and not nested.

    Args:
        owner: the plug-in's object.
        call: its name, such as "predict".

    Raises:
        NoAnswerError: it took too long, or this object has done so too often.
    """
    seconds = limit_seconds()
    here = threading.current_thread() is threading.main_thread()
    if seconds is None or not here or _RUNNING.ends_at is not None:
        yield
        return
    times = _RUNNING.silent.get(id(owner), (owner, 0))[1]
    if times >= MOST_SILENT:
        raise NoAnswerError(
            f"{call} of {owner_name(owner)} did not return within {seconds:g} s {times} times and "
            "is no longer called"
        )
    try:
        with _alarm(f"{call} of {owner_name(owner)}", seconds):
            yield
    except _Late:
        _RUNNING.silent[id(owner)] = (owner, times + 1)  # held, so that no other has its number
        raise NoAnswerError(
            f"{call} of {owner_name(owner)} did not return within {seconds:g} s "
            f"({SECONDS_VARIABLE} sets the limit, 0 removes it)"
        ) from None


@contextmanager
def _alarm(call: str, seconds: float) -> Iterator[None]:
    _watch()
    can_raise = hasattr(signal, "setitimer")
    before = signal.signal(signal.SIGALRM, _raise_late) if can_raise else None
    began = time.monotonic()
    _RUNNING.call, _RUNNING.ends_at = call, began + seconds + GRACE_S
    others = (0.0, 0.0)
    if can_raise:
        # Repeatedly: an `except BaseException` may swallow the first.
        others = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
    try:
        try:
            yield
        finally:
            _RUNNING.ends_at = None
    finally:
        _RUNNING.ends_at = None  # once more: the alarm may have come right before it was done
        if can_raise:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)
            if others[0]:  # another timer, which is slightly delayed at worst
                rest = max(others[0] - (time.monotonic() - began), 1e-3)
                signal.setitimer(signal.ITIMER_REAL, rest, others[1])


def _raise_late(_number: int, _frame: FrameType | None) -> None:
    if _RUNNING.ends_at is not None:
        raise _Late


def _watch() -> None:
    """Start a thread that ends the process if a library does not return to Python."""
    if not _RUNNING.watched:
        _RUNNING.watched = True
        with suppress(
            RuntimeError
        ):  # threads are not available: the process must be killed by hand
            threading.Thread(target=_end_if_late, daemon=True).start()


def _end_if_late() -> None:
    while True:
        time.sleep(1.0)
        ends_at = _RUNNING.ends_at
        if ends_at is not None and time.monotonic() > ends_at:
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(
                    f"agebench: {_RUNNING.call} does not return and can't be interrupted, since it "
                    "is not Python code: the work is not finished\n"
                )
                sys.stderr.flush()
            os._exit(AgebenchError.exit_code)


def owner_name(owner: object) -> str:
    """Return the name in the spec of an estimator or detector, or that of its class."""
    with suppress(BaseException):  # third-party code may raise anything
        name = owner.spec.name  # type: ignore[attr-defined]
        if isinstance(name, str) and name:
            return name
    return owner if isinstance(owner, str) else type(owner).__qualname__
