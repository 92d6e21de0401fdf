"""Pictures examined by one or several processes, in order, with a bounded number under way.

Own processes with a pipe each, not `concurrent.futures`: a child whose parent was killed sees its
pipe end and stops (a pool's would wait for ever), and when a child dies it is known on which
picture.
"""

from __future__ import annotations

import multiprocessing as mp
import signal
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Literal, TypeAlias

from agebench.errors import AgebenchError
from agebench.prediction.predictor import AgePredictor, detector_label
from agebench.prediction.records import PredictedPicture
from agebench.prediction.work import Finished, PictureWorker, Plan, Task
from agebench.runtimes.base import use_threads
from agebench.vision.opencv import cv2

_Message: TypeAlias = tuple[Literal["ready", "done", "fatal"], Finished | str]
_Numbered: TypeAlias = tuple[int, Task]

TRIES = 2
"""A picture whose process dies is tried once more; then it is left out."""

AHEAD = 16
"""Pictures per process that may be finished before the one whose turn it is."""


def examine(
    plan: Plan, tasks: Iterable[Task], workers: int, predictor: AgePredictor | None = None
) -> Generator[Finished, None, None]:
    """Yield what came of each picture, in the order of `tasks`, which is read as it is needed.

    Args:
        plan: what to do.
        tasks: the pictures.
        workers: number of processes; with 1 the work is done here.
        predictor: loaded models, used where the work is done here.

    Raises:
        AgebenchError: an output can't be written, or a process can't work at all.
    """
    if workers <= 1:
        worker = PictureWorker(plan, predictor)
        for task in tasks:
            yield worker.do(task)
        return
    pool = _Pool(plan, tasks, workers)
    try:
        yield from pool.run()
    finally:
        pool.stop()


def work(connection: Connection, plan: Plan) -> None:
    """Examine the pictures that come through `connection` until it ends; runs in a child."""
    with suppress(EOFError, OSError):  # the parent is gone
        cv2.setNumThreads(1)
        try:
            with use_threads(1):
                worker = PictureWorker(plan)
            connection.send(("ready", ""))
            while (task := connection.recv()) is not None:
                connection.send(("done", worker.do(task)))
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
    task: _Numbered | None = None
    ready: bool = False


class _Pool:
    """A few children, each on one picture at a time; what comes early waits for its turn."""

    def __init__(self, plan: Plan, tasks: Iterable[Task], count: int) -> None:
        self._plan = plan
        self._tasks = enumerate(tasks)
        self._count = count
        self._again: deque[_Numbered] = deque()
        self._failures: Counter[int] = Counter()
        self._children: dict[Connection, _Child] = {}
        self._early: dict[int, Finished] = {}
        self._turn = 0
        self._given = 0

    def run(self) -> Iterator[Finished]:
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
                f"no further process can be started: {error.strerror}; use fewer --workers"
            ) from error
        finally:
            theirs.close()
        self._children[ours] = _Child(process, ours)

    def _feed(self) -> None:
        for child in self._children.values():
            if child.ready and child.task is None:
                child.task = self._next()
                if child.task is None:
                    return
                with suppress(OSError):  # it died in between: its connection tells that next
                    child.connection.send(child.task[1])

    def _next(self) -> _Numbered | None:
        if self._again:
            return self._again.popleft()
        if self._given - self._turn >= AHEAD * self._count:
            return None
        numbered = next(self._tasks, None)
        self._given += numbered is not None
        return numbered

    def _answer(self, child: _Child) -> None:
        message: _Message
        try:
            message = child.connection.recv()
        except (EOFError, OSError):
            self._died(child)
            return
        kind, content = message
        if kind == "fatal":
            raise AgebenchError(str(content))
        if isinstance(content, Finished) and child.task is not None:
            self._early[child.task[0]] = content
        child.ready, child.task = True, None

    def _died(self, child: _Child) -> None:
        """Replace a child that died; the picture it was on is tried again or left out."""
        del self._children[child.connection]
        child.process.join()
        child.connection.close()
        code = child.process.exitcode
        if not child.ready or child.task is None:
            raise AgebenchError(
                f"a process ended while it was starting (exit code {code}): try --workers 1 to "
                "see why; a script must call this under if __name__ == '__main__'"
            )
        number, task = child.task
        self._failures[number] += 1
        if self._failures[number] < TRIES:
            self._again.append(child.task)
        else:
            reason = (
                f"the process at work on it died {TRIES} times (exit code {code}), maybe for want "
                "of memory"
            )
            self._early[number] = _crashed(self._plan, task, reason)
        self._start()


def _crashed(plan: Plan, task: Task, reason: str) -> Finished:
    names = tuple(" ".join(item.split()) for item in plan.estimators)
    detector = detector_label(plan.detector, tiles=plan.tiles)
    answer = PredictedPicture(task.name, detector, names, status="crashed", reason=reason)
    return Finished(task, answer.to_json(), {})
