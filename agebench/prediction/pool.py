"""Pictures examined by one or several processes, in order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import partial

from agebench.prediction.predictor import AgePredictor, detector_label
from agebench.prediction.records import PredictedPicture
from agebench.prediction.work import Finished, PictureWorker, PredictionPlan, Task
from agebench.references import called
from agebench.runtimes.base import use_threads_for_good
from agebench.util.process_pool import Death, Work, in_processes
from agebench.vision.opencv import cv2


def examine(
    plan: PredictionPlan, tasks: Iterable[Task], workers: int, predictor: AgePredictor | None = None
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
    if workers > 1:
        yield from in_processes(
            Work(partial(worker, plan), partial(_crashed, plan)), tasks, workers
        )
        return
    here = PictureWorker(plan, predictor)
    for task in tasks:
        yield here.do(task)


def worker(plan: PredictionPlan) -> Callable[[Task], Finished]:
    """Return what examines one picture; runs in a child, on one thread."""
    cv2.setNumThreads(1)
    use_threads_for_good(1)
    return PictureWorker(plan).do


def _crashed(plan: PredictionPlan, task: Task, death: Death) -> Finished:
    names = tuple(map(called, plan.estimators))
    detector = detector_label(plan.detector, tiles=plan.tiles)
    reason = f"{death.reason}, maybe for want of memory"
    answer = PredictedPicture(task.name, detector, names, status="crashed", reason=reason)
    return Finished(task, answer.to_json(), {})
