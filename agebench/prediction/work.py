"""Processing one picture of a run: predict, explain, draw."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agebench.prediction.drawing import draw_side_by_side, save_picture
from agebench.prediction.places import make_folder_of
from agebench.prediction.predictor import AgePredictor, detector_label, moved_years
from agebench.prediction.records import PredictedPicture
from agebench.prediction.sources import STDIN
from agebench.references import called
from agebench.runtimes.base import use_threads_for_good
from agebench.types import Image
from agebench.util.process_pool import Death, Work, in_processes
from agebench.vision.images import MAX_FILE_BYTES, MAX_PIXELS
from agebench.vision.opencv import cv2


@dataclass(frozen=True, slots=True)
class PredictionPlan:
    """The information that every process needs; references only, so that it can be sent.

    Attributes:
        estimators: references; each process loads its own.
        detector: reference.
        tiles: also search large pictures in parts.
        explain: report the effect of each view.
        max_pixels: larger pictures are refused.
    """

    estimators: tuple[str, ...]
    detector: str
    tiles: bool = False
    explain: bool = False
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class PredictionTask:
    """One picture: its path, which is its name, and the path of its drawing."""

    name: str
    draw_to: Path | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The result for one picture.

    Attributes:
        task: the picture.
        record: its JSON, as `PredictedPicture.to_json`.
        stage_ms: time of each stage.
        not_drawn: why there is no drawing of it, if there should be one.
    """

    task: PredictionTask
    record: dict[str, Any]
    stage_ms: dict[str, float]
    not_drawn: str = ""


class PictureWorker:
    """Processes tasks sequentially with models that are loaded once."""

    def __init__(self, plan: PredictionPlan, predictor: AgePredictor | None = None) -> None:
        self._plan = plan
        self._predictor = predictor or AgePredictor(
            plan.estimators,
            detector=plan.detector,
            max_pixels=plan.max_pixels,
            tiles=plan.tiles,
        )

    def do(self, task: PredictionTask) -> Finished:
        """Return the result for a picture; only raises if an output can't be written.

        Raises:
            AgebenchError: the drawing can't be written.
        """
        image, answer = self._examined(task)
        record = answer.to_json()
        if image is not None and self._plan.explain:
            self._explain(image, answer, record)
        not_drawn = ""
        if task.draw_to is not None and image is not None and answer.status == "ok":
            not_drawn = _draw(image, answer, task.draw_to)
        return Finished(task, record, dict(answer.stage_ms), not_drawn)

    def _examined(self, task: PredictionTask) -> tuple[Image | None, PredictedPicture]:
        picture: bytes | str = task.name
        if task.name == STDIN:
            picture = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        kept: list[Image] = []
        answer = self._predictor.predict_one(picture, task.name, keep=kept.append)
        return (kept[0] if kept else None), answer

    def _explain(self, image: Image, answer: PredictedPicture, record: dict[str, Any]) -> None:
        for name, estimator in self._predictor.estimators.items():
            crops = self._predictor.crops_of(
                image, [found.face for found in answer.faces], estimator.spec.crop
            )
            for face, moved in zip(record["faces"], moved_years(estimator, crops), strict=True):
                face.setdefault("moved_years", {})[name] = moved


def _draw(image_bgr: Image, answer: PredictedPicture, path: Path) -> str:
    try:
        drawn = draw_side_by_side(image_bgr, answer.faces, answer.estimators)
    except Exception as error:  # a picture of an unusual shape must not end the run
        return f"{type(error).__name__}: {error}"
    make_folder_of(path)
    save_picture(drawn, path)
    return ""


def predict_pictures(
    plan: PredictionPlan,
    tasks: Iterable[PredictionTask],
    processes: int,
    predictor: AgePredictor | None = None,
) -> Generator[Finished, None, None]:
    """Yield the results in the order of `tasks`, which is read on demand.

    Args:
        plan: of the work.
        tasks: the pictures.
        processes: number of processes; 1 works in this one.
        predictor: loaded models, used if this process does the work.

    Raises:
        AgebenchError: an output can't be written, or a process can't work at all.
    """
    if processes > 1:
        yield from in_processes(
            Work(partial(worker, plan), partial(_crashed, plan)), tasks, processes
        )
        return
    here = PictureWorker(plan, predictor)
    for task in tasks:
        yield here.do(task)


def worker(plan: PredictionPlan) -> Callable[[PredictionTask], Finished]:
    """Return the function for one picture; runs in a child process, on one thread."""
    cv2.setNumThreads(1)
    use_threads_for_good(1)
    return PictureWorker(plan).do


def _crashed(plan: PredictionPlan, task: PredictionTask, death: Death) -> Finished:
    names = tuple(map(called, plan.estimators))
    detector = detector_label(plan.detector, tiles=plan.tiles)
    reason = f"{death.reason}, maybe for lack of memory"
    answer = PredictedPicture(task.name, detector, names, status="crashed", reason=reason)
    return Finished(task, answer.to_json(), {})
