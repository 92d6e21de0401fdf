"""Ending on signals after cleaning up."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import ExtensionFileLoader
from types import FrameType

from agebench.cli.process_limits import spare_processor_time

GRACE_S = 10.0
"""Seconds that the clean-up, and running native code, may take before the process ends."""

_NAMES = ("SIGTERM", "SIGHUP", "SIGXCPU")
_REASONS = {
    "SIGXCPU": "the processor time that this shell allows (ulimit -t) is used up: raise the limit; "
    "no incomplete file was left"
}


class Terminated(KeyboardInterrupt):
    """The process received a signal to end, other than that of Ctrl-C."""

    @property
    def reason(self) -> str:
        """Message on the signal's cause; "" if not known."""
        return _REASONS.get(str(self), "")


_PATIENCE_S = 5.0
"""Seconds after which a deferred signal is raised again."""
_AGAIN_S = 0.02


class _Postponed:
    """Defers signals that arrive where an exception would be lost.

    While a compiled module is loaded, its code may not handle one: pybind11 converts it to an
    ImportError, or the process aborts without a message.  In finalizers and callbacks of weak
    references Python prints it and continues.
    """

    def __init__(self) -> None:
        self._since: float | None = None

    def put_off(self, number: int, frame: FrameType | None) -> bool:
        """Return whether the signal is to be ignored now, as it will be raised again."""
        if not _out_of_reach(frame):
            self._since = None
            return False
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since > _PATIENCE_S:
            return False
        again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
        again.daemon = True
        try:
            again.start()
        except RuntimeError:  # no thread can be started
            return False
        return True


def _out_of_reach(frame: FrameType | None) -> bool:
    """Return whether an exception raised here would not reach the running verb."""
    if frame is not None and frame.f_globals.get("__name__") in _OF_CALLBACKS:
        return True
    while frame is not None:
        if frame.f_code in _LOADERS or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


_LOADERS = frozenset(
    {ExtensionFileLoader.create_module.__code__, ExtensionFileLoader.exec_module.__code__}
)
_OF_CALLBACKS = frozenset({"_frozen_importlib", "importlib._bootstrap", "_weakrefset", "weakref"})
"""Modules some of whose functions are callbacks of weak references."""


class Ended:
    """Records which signal asked for the end, if any."""

    def __init__(self) -> None:
        self.by: int | None = None
        self._heard = False
        self._put_off = _Postponed().put_off

    @property
    def code(self) -> int | None:
        """Exit code as in shells, 128 + the signal's number; None without a signal."""
        return None if self.by is None else 128 + self.by

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Make the signals raise `Terminated` inside; an earlier one raises it at once."""
        self._heard = True
        try:
            if self.by is not None:
                raise Terminated(signal.Signals(self.by).name)
            yield
        finally:
            self._heard = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal; only the first one counts, so that the clean-up is not interrupted."""
        if self.by is not None:
            return
        if not self._heard:
            self.by = number
        elif not self._put_off(number, frame):
            self.by = number
            raise Terminated(signal.Signals(number).name)


class Interrupts:
    """Handles Ctrl-C: it is deferred until a verb starts, and does not interrupt the clean-up."""

    def __init__(self) -> None:
        self._heard, self._waiting = False, False
        self._put_off = _Postponed().put_off

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Make Ctrl-C raise KeyboardInterrupt inside; an earlier one raises it at once."""
        self._heard = True
        try:
            if self._waiting:
                raise KeyboardInterrupt
            yield
        finally:
            self._heard, self._waiting = False, False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal; outside, a second one ends the process at once."""
        if self._heard:
            if self._put_off(number, frame):
                return
            raise KeyboardInterrupt
        if self._waiting:
            os._exit(128 + number)
        self._waiting = True


@contextmanager
def held_interrupts(*, to_the_end: bool) -> Iterator[Interrupts]:
    """Make Ctrl-C raise an exception only inside `Interrupts.heard`.

    Args:
        to_the_end: keep this until the process ends.
    """
    interrupts = Interrupts()
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or not usual:
        yield interrupts
        return
    signal.signal(signal.SIGINT, interrupts.note)
    try:
        yield interrupts
    finally:
        if not to_the_end:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def orderly_ends() -> Iterator[Ended]:
    """Make SIGTERM, SIGHUP and the processor time limit raise an exception inside `Ended.heard`.

    By default they end a process at once, leaving temporary folders behind.  Ignored signals (as
    with `nohup`) stay ignored.
    """
    ended = Ended()
    spare_processor_time()
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    unhandled = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread() or not unhandled:
        yield ended
        return
    before = {number: signal.signal(number, ended.note) for number in unhandled}
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    earlier = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_insist, args=(read_end, frozenset(unhandled)), daemon=True)
    with suppress(RuntimeError):  # no thread can be started: what hangs has to be killed
        watcher.start()
    try:
        yield ended
    finally:
        signal.set_wakeup_fd(earlier)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(write_end)


def _insist(read_end: int, numbers: frozenset[int]) -> None:
    """End the process if it is still running some time after the signal, as a library may hang."""
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] in numbers:
                time.sleep(GRACE_S)
                os._exit(128 + number[0])
