"""Pictures prepared by one or several processes; the result is the same for any number."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial

from agebench.errors import AgebenchError
from agebench.prepare.pictures import PicturePreparer, PreparationPlan, Task
from agebench.prepare.records import PictureRecord
from agebench.util.process_pool import TRIES, Death, Work, in_processes
from agebench.vision.opencv import cv2

_OPTION = "--processes"


def prepare_pictures(
    plan: PreparationPlan, tasks: Sequence[Task], processes: int
) -> Generator[tuple[Task, str], None, None]:
    """Yield each task with its record's line, in order.

    Raises:
        AgebenchError: the output can't be written, or a process can't work at all.
    """
    count = min(processes, len(tasks))
    if count > 1:
        work = Work(partial(worker, plan), _given_up, _OPTION)
        yield from in_processes(work, tasks, count)
    else:
        yield from _in_this_process(plan, tasks)


def _in_this_process(plan: PreparationPlan, tasks: Sequence[Task]) -> Iterator[tuple[Task, str]]:
    before = cv2.getNumThreads()
    try:
        yield from map(worker(plan), tasks)
    finally:
        cv2.setNumThreads(before)


def worker(plan: PreparationPlan) -> Callable[[Task], tuple[Task, str]]:
    """Return what prepares one picture, on one thread; runs in a child too."""
    # Sums in another order would give other crops.
    cv2.setNumThreads(1)
    preparer = PicturePreparer(plan)
    return lambda task: (task, preparer.prepare(task).to_line())


def _given_up(task: Task, death: Death) -> tuple[Task, str]:
    if death.killed:
        raise AgebenchError(
            f"the process at work on {task.source!r} was killed {TRIES} times, maybe for want "
            f"of memory: start the same command again with fewer {death.option} to go on"
        )
    return task, PictureRecord(task.source, "crashed", death.reason).to_line()
