"""Pictures prepared by one or several processes; the result is the same for any number.

Own processes with a pipe each, not `concurrent.futures`: a child whose parent was killed sees its
pipe end and stops (a pool's would wait for ever), and when a child dies it is known on which
picture.
"""

from __future__ import annotations

import multiprocessing as mp
import signal
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Literal, TypeAlias

from agebench.errors import AgebenchError
from agebench.prepare.pictures import PicturePreparer, Plan, Task
from agebench.prepare.records import PictureRecord
from agebench.vision.opencv import cv2

_Message: TypeAlias = tuple[Literal["ready", "done", "fatal"], str]

TRIES = 2
"""A picture whose process dies is tried once more; then it is left out."""

_FROM_OUTSIDE = (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM))


def prepare_pictures(
    plan: Plan, tasks: Sequence[Task], processes: int
) -> Generator[tuple[Task, str], None, None]:
    """Yield each task with its record's line, in the order in which they are finished.

    Raises:
        AgebenchError: the output can't be written, or a process can't work at all.
    """
    count = min(processes, len(tasks))
    if count <= 1:
        yield from _in_this_process(plan, tasks)
        return
    pool = _Pool(plan, tasks)
    try:
        yield from pool.run(count)
    finally:
        pool.stop()


def _in_this_process(plan: Plan, tasks: Sequence[Task]) -> Iterator[tuple[Task, str]]:
    before = cv2.getNumThreads()
    # As in the children: sums in another order would give other crops.
    cv2.setNumThreads(1)
    try:
        preparer = PicturePreparer(plan)
        for task in tasks:
            yield task, preparer.prepare(task).to_line()
    finally:
        cv2.setNumThreads(before)


def work(connection: Connection, plan: Plan) -> None:
    """Prepare the pictures that come through `connection` until it ends; runs in a child."""
    with suppress(EOFError, OSError):  # the parent is gone
        cv2.setNumThreads(1)
        try:
            preparer = PicturePreparer(plan)
            connection.send(("ready", ""))
            while (task := connection.recv()) is not None:
                connection.send(("done", preparer.prepare(task).to_line()))
        except AgebenchError as error:
            connection.send(("fatal", str(error)))


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Start children deaf to Ctrl-C, which a terminal sends to them too: the parent ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(slots=True, eq=False)
class _Child:
    process: SpawnProcess
    connection: Connection
    task: Task | None = None
    ready: bool = False


class _Pool:
    """A few children, each on one picture at a time."""

    def __init__(self, plan: Plan, tasks: Sequence[Task]) -> None:
        self._plan = plan
        self._waiting = deque(tasks)
        self._failures: Counter[str] = Counter()
        self._children: dict[Connection, _Child] = {}

    def run(self, count: int) -> Iterator[tuple[Task, str]]:
        for _ in range(count):
            self._start()
        while self._children:
            for connection in wait(list(self._children)):
                child = self._children[connection]  # type: ignore[index]  # all are connections
                finished = self._answer(child)
                if finished is not None:
                    yield finished

    def stop(self) -> None:
        for child in self._children.values():
            child.connection.close()
            child.process.terminate()
        for child in self._children.values():
            child.process.join()
        self._children.clear()

    def _start(self) -> None:
        context = mp.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, self._plan), daemon=True)
        try:
            with _interrupts_ignored():
                process.start()
        except OSError as error:
            raise AgebenchError(
                f"no further process can be started: {error.strerror}; use fewer --processes"
            ) from error
        finally:
            theirs.close()
        self._children[ours] = _Child(process, ours)

    def _answer(self, child: _Child) -> tuple[Task, str] | None:
        try:
            kind, text = child.connection.recv()
        except (EOFError, OSError):
            return self._died(child)
        if kind == "fatal":
            raise AgebenchError(text)
        done = (child.task, text) if child.task is not None else None
        child.ready = True
        self._next(child)
        return done

    def _next(self, child: _Child) -> None:
        child.task = self._waiting.popleft() if self._waiting else None
        with suppress(OSError):  # it died in between: its connection tells that next
            child.connection.send(child.task)
        if child.task is None:
            self._retire(child)

    def _retire(self, child: _Child) -> None:
        del self._children[child.connection]
        child.process.join()
        child.connection.close()

    def _died(self, child: _Child) -> tuple[Task, str] | None:
        """Replace a child that died; the picture it was on is tried again or left out."""
        self._retire(child)
        code, task = child.process.exitcode, child.task
        if not child.ready or task is None:
            raise AgebenchError(
                f"a process ended while it was starting (exit code {code}): try --processes 1 to "
                "see why; a script must call this under if __name__ == '__main__'"
            )
        self._failures[task.source] += 1
        finished = None
        if self._failures[task.source] < TRIES:
            self._waiting.appendleft(task)
        elif code is not None and -code in _FROM_OUTSIDE:
            raise AgebenchError(
                f"the process at work on {task.source!r} was killed {TRIES} times, maybe for want "
                "of memory: start the same command again with fewer --processes to go on"
            )
        else:
            reason = f"the process at work on it died {TRIES} times (exit code {code})"
            finished = task, PictureRecord(task.source, "crashed", reason).to_line()
        if self._waiting:
            self._start()
        return finished
