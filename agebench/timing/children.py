"""Measurements that need a new child process.

The child answers through the pipe that was its stdout, which it duplicates before anything is
imported: what a plug-in prints goes to stderr, and no file is left behind however the two end.  It
ends when its parent does (`agebench.util.child_processes.end_with_parent`).
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

import psutil

from agebench.errors import AgebenchError, inert
from agebench.runtimes.threads import THREAD_VARIABLES

TIMEOUT_S = 900.0
"""A child that takes longer is considered to hang."""


class ChildDiedError(AgebenchError):
    """A child process crashed, was killed or hung before it could answer."""


MAX_ANSWER_BYTES = 1 << 26
_MAX_STDERR_BYTES = 1 << 16
_PIPE_S = 5.0
_CHECK_S = 0.05
"""Interval between two checks of a child's memory."""

# The clock is read before anything is imported: the time before is the start of the process.
_CODE = (
    "import time; started = time.perf_counter(); "
    "import os; answer, watch = os.dup(1), os.dup(0); os.dup2(2, 1); "
    "os.dup2(os.open(os.devnull, os.O_RDONLY), 0); "
    "from agebench.timing.child import main; main(started, answer, watch)"
)
_MAX_ERROR = 300


def ask_child(
    task: str,
    arguments: Mapping[str, Any],
    *,
    threads: int,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: float = math.inf,
) -> dict[str, Any]:
    """Run one task of `agebench.timing.child` in a new process and return its answer.

    Args:
        task: "cold_start", "resources", "peaks" or "trial".
        arguments: of the task, as JSON-compatible values.
        threads: for numpy's matrix products, which read it from the environment at start.
        timeout_s: a child that takes longer is considered to hang.
        memory_bytes: a child that uses more is killed.

    Raises:
        ChildDiedError: it gave no answer; includes its last output.
        AgebenchError: it failed with this message.
    """
    # perf_counter is one clock for all processes of a machine.
    request = {**arguments, "task": task, "threads": threads, "parent": os.getpid()}
    request["spawned"] = time.perf_counter()
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    # -P: a file in the current folder must not be imported instead of a library.
    command = [sys.executable, "-P", "-c", _CODE, json.dumps(request)]
    description = _describe(task, arguments)
    read_end, write_end = os.pipe()
    try:
        with os.fdopen(read_end, "rb") as stdin:
            child = subprocess.Popen(  # noqa: S603 - this interpreter and own code
                command,
                env=environment,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        answer, stderr = _wait(child, timeout_s, memory_bytes)
    except _TooMuchMemoryError as error:
        raise ChildDiedError(
            f"{description}: it took more than {memory_bytes / 1e9:g} GB of memory"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ChildDiedError(
            f"{description}: no answer after {timeout_s:g} s: does the model hang?"
        ) from error
    finally:
        os.close(write_end)
    return _parse(answer, stderr, child.returncode, description)


class _TooMuchMemoryError(Exception):
    pass


def _wait(
    child: subprocess.Popen[bytes], timeout_s: float, memory_bytes: float
) -> tuple[bytes, bytes]:
    """Wait for a child to end; return its answer, and the end of its stderr.

    Raises:
        _TooMuchMemoryError: it used more; it has been killed.
        subprocess.TimeoutExpired: it took longer; it has been killed.
    """
    assert child.stdout is not None  # noqa: S101 - both are pipes
    assert child.stderr is not None  # noqa: S101
    answer = _PipeReader(child.stdout, MAX_ANSWER_BYTES)
    stderr = _PipeReader(child.stderr, _MAX_STDERR_BYTES)
    try:
        if memory_bytes < math.inf:
            _watch_memory(child, time.monotonic() + timeout_s, memory_bytes)
        child.wait(timeout_s)
    finally:
        child.kill()  # no effect if it has ended
        child.wait()
    return answer.all(), stderr.all()


def _watch_memory(child: subprocess.Popen[bytes], until_s: float, memory_bytes: float) -> None:
    """Wait for a child to end, and check its memory meanwhile.

    Raises:
        _TooMuchMemoryError: it uses more.
        subprocess.TimeoutExpired: it is still running at `until_s` of `time.monotonic()`.
    """
    process = psutil.Process(child.pid)
    while True:
        with suppress(psutil.Error):  # it has just ended
            if process.memory_info().rss > memory_bytes:
                raise _TooMuchMemoryError
        left_s = until_s - time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, min(_CHECK_S, left_s)))
            return
        if left_s <= 0:
            raise subprocess.TimeoutExpired(child.args, 0)


class _PipeReader:
    """Reads a pipe to its end in a separate thread, and keeps the last bytes."""

    def __init__(self, pipe: IO[bytes], limit_bytes: int) -> None:
        self._pipe, self._limit = pipe, limit_bytes
        self._kept = b""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._pipe:
            while data := self._pipe.read1(1 << 16):  # type: ignore[attr-defined]  # it is buffered
                self._kept = (self._kept + data)[-self._limit :]

    def all(self) -> bytes:
        # A process left behind by the child may keep the pipe open.
        self._thread.join(_PIPE_S)
        return self._kept


def _signal_text(number: int) -> str:
    if number == getattr(signal, "SIGKILL", 9):
        return "was killed (out of memory?)"
    names = {int(item): item.name for item in signal.Signals}
    return f"crashed ({names.get(number, f'signal {number}')})"


def _describe(task: str, arguments: Mapping[str, Any]) -> str:
    name = arguments.get("reference", "")
    return f"{task.replace('_', ' ')} of {name}" if name else f"{task} in a child process"


def _parse(answer: bytes, stderr: bytes, code: int, description: str) -> dict[str, Any]:
    if not answer:
        lines = inert(stderr.decode(errors="replace"), lines=True).strip().splitlines()
        last_line = f": {lines[-1][:_MAX_ERROR]}" if lines else ""
        outcome = "failed" if code >= 0 else _signal_text(-code)
        raise ChildDiedError(f"{description} {outcome}, exit code {code}{last_line}")
    content: dict[str, Any] = json.loads(answer)
    if "error" in content:
        raise AgebenchError(f"{description}: {content['error']}")
    return content
