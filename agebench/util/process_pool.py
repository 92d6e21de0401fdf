"""Distributes work over child processes: ordered results, and tolerance for dying children.

Each process has its own pipe, unlike with `concurrent.futures`: a child whose parent was killed
sees the end of the pipe and stops (a pool's would wait forever), and it is known which task a child
died on.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from agebench.errors import AgebenchError
from agebench.util.child_processes import (
    end_with_parent,
    own_path_again,
    safe_path,
    silence_pillow,
)

Task = TypeVar("Task")
Result = TypeVar("Result")

TRIES = 2
"""A task whose process dies is tried once more before it is given up."""

AHEAD = 16
"""Number of tasks per process that may be finished ahead of the current one."""

STOP_S = 5.0
"""Time for a child to end before it is killed."""

_FROM_OUTSIDE = (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM))


def usable_cores() -> int:
    """Return the number of processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Death:
    """Why a task was given up.

    Attributes:
        code: exit code of the last process that worked on it.
    """

    code: int | None

    @property
    def reason(self) -> str:
        """A description, in words."""
        return f"the process at work on it died {TRIES} times (exit code {self.code})"

    @property
    def killed(self) -> bool:
        """Whether the process was killed, for example for lack of memory."""
        return self.code is not None and -self.code in _FROM_OUTSIDE


@dataclass(frozen=True, slots=True)
class Work(Generic[Task, Result]):
    """The work of the processes; it is sent to them, and so are tasks and results.

    Attributes:
        make: called once in each process, returns the function for one task.
        given_up: returns the result of a task whose process died `TRIES` times; may raise instead.
    """

    make: Callable[[], Callable[[Task], Result]]
    given_up: Callable[[Task, Death], Result]


def in_processes(
    work: Work[Task, Result], tasks: Iterable[Task], processes: int
) -> Generator[Result, None, None]:
    """Yield the result of each task, in the order of `tasks`, which is read on demand.

    Raises:
        AgebenchError: a process can't be started or can't work at all, or raised one.
    """
    pool = _Pool(work, tasks, processes)
    try:
        yield from pool.run()
    finally:
        pool.stop()


def serve(
    connection: Connection, make: Callable[[], Callable[[Any], object]], parent: int, tied: bool
) -> None:
    """Do the tasks from `connection` until it ends; runs in a child.

    Args:
        connection: to the parent.
        make: see `Work.make`.
        parent: its process ID.
        tied: see `end_with_parent`.
    """
    own_path_again()
    end_with_parent(parent, tied=tied)
    silence_pillow()
    with suppress(EOFError, OSError):  # the parent is gone
        try:
            do = make()
            connection.send(("ready", None))
            while (numbered := connection.recv()) is not None:
                connection.send(("done", do(numbered[1])))
        except AgebenchError as error:
            connection.send(("fatal", str(error)))


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Start children that ignore Ctrl-C, sent to them by a terminal too: the parent ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(slots=True, eq=False)
class _Child(Generic[Task]):
    process: SpawnProcess
    connection: Connection
    task: tuple[int, Task] | None = None
    ready: bool = False


class _Pool(Generic[Task, Result]):
    """A few children, each on one task at a time; early results wait for their turn."""

    def __init__(self, work: Work[Task, Result], tasks: Iterable[Task], count: int) -> None:
        self._work = work
        self._tasks = enumerate(tasks)
        self._count = count
        self._again: deque[tuple[int, Task]] = deque()
        self._failures: Counter[int] = Counter()
        self._children: dict[Connection, _Child[Task]] = {}
        self._early: dict[int, Result] = {}
        self._turn = 0
        self._started = 0

    def run(self) -> Iterator[Result]:
        for _ in range(self._count):
            self._start()
        while self._children:
            self._feed()
            busy = [item for item, child in self._children.items() if child.task or not child.ready]
            if not busy:
                return
            for connection in wait(busy):
                self._answer(self._children[connection])  # type: ignore[index]  # all are connections
            while self._turn in self._early:
                finished = self._early.pop(self._turn)
                self._turn += 1
                yield finished

    def stop(self) -> None:
        for child in self._children.values():
            child.connection.close()
            child.process.terminate()
        for child in self._children.values():
            child.process.join(STOP_S)
            if child.process.exitcode is None:  # stopped, or deaf to the signal
                child.process.kill()
                child.process.join()
        self._children.clear()

    def _start(self) -> None:
        context = mp.get_context("spawn")
        parent_end, child_end = context.Pipe()
        tied = threading.current_thread() is threading.main_thread()
        how = (child_end, self._work.make, os.getpid(), tied)
        process = context.Process(target=serve, args=how, daemon=True)
        try:
            with _interrupts_ignored(), safe_path():
                process.start()
        except OSError as error:
            raise AgebenchError(
                f"no more processes can be started: {error.strerror}; use fewer processes"
            ) from error
        finally:
            child_end.close()
        self._children[parent_end] = _Child(process, parent_end)

    def _feed(self) -> None:
        for child in self._children.values():
            if child.ready and child.task is None:
                child.task = self._next()
                if child.task is None:
                    return
                with suppress(OSError):  # it has just died, which its connection reports next
                    child.connection.send(child.task)

    def _next(self) -> tuple[int, Task] | None:
        if self._again:
            return self._again.popleft()
        if self._started - self._turn >= AHEAD * self._count:
            return None
        numbered = next(self._tasks, None)
        self._started += numbered is not None
        return numbered

    def _answer(self, child: _Child[Task]) -> None:
        try:
            kind, content = child.connection.recv()
        except (EOFError, OSError):
            self._died(child)
            return
        if kind == "fatal":
            raise AgebenchError(content)
        if child.task is not None:
            self._early[child.task[0]] = content
        child.ready, child.task = True, None

    def _died(self, child: _Child[Task]) -> None:
        """Replace a child that died; its task is tried again or given up."""
        del self._children[child.connection]
        child.process.join()
        child.connection.close()
        death = Death(child.process.exitcode)
        if not child.ready or child.task is None:
            raise AgebenchError(
                f"a process ended while it was starting (exit code {death.code}): try "
                f"one process to see why; a script must call this under "
                "if __name__ == '__main__'"
            )
        number, task = child.task
        self._failures[number] += 1
        if self._failures[number] < TRIES:
            self._again.append(child.task)
        else:
            self._early[number] = self._work.given_up(task, death)
        self._start()
