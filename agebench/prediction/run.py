"""A run over many pictures: checked before anything long begins, then streamed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from agebench.datasets.suffixes import is_video
from agebench.errors import UsageError
from agebench.prediction.lines import LineFile
from agebench.prediction.places import DrawPlaces, Source
from agebench.prediction.predictor import AgePredictor, check_explainable
from agebench.prediction.records import add_times
from agebench.prediction.sources import STDIN, Sources
from agebench.prediction.work import Finished, PredictionPlan, PredictionTask, predict_pictures
from agebench.types import Problem
from agebench.vision.images import MAX_PIXELS

MOST_PROCESSES = 256

TRIED_AGAIN = frozenset({"unreadable", "crashed"})
"""Pictures with these are processed again when a run is resumed, because they may be repaired."""

LEFT_OUT = "left out"
"""What is counted for whatever was not a picture file when the folders were listed."""

KEPT_PROBLEMS = 20
"""Number of problems that are listed with their reasons; all are counted."""


@dataclass(frozen=True, slots=True)
class PredictSettings:
    """The settings of a run.

    Attributes:
        estimators: references; empty for the default one.
        detector: reference; None for the best available.
        tiles: also search large pictures in parts; None does so if no detector is named.
        draw: file or folder for annotated pictures.
        explain: report the effect of each view.
        processes: number of processes.
        max_pixels: larger pictures are refused.

    Raises:
        UsageError: a number is out of range.
    """

    estimators: tuple[str, ...] = ()
    detector: str | None = None
    tiles: bool | None = None
    draw: Path | None = None
    explain: bool = False
    processes: int = 1
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if not 1 <= self.processes <= MOST_PROCESSES:
            raise UsageError(f"--processes must be 1 to {MOST_PROCESSES}, got {self.processes}")
        if self.max_pixels < 1:
            raise UsageError(f"--max-pixels must be at least 1, got {self.max_pixels}")


@dataclass(slots=True)
class Tally:
    """The results of a run so far.

    Attributes:
        pictures: processed in this run.
        faces: found in them.
        resumed: pictures that an earlier run had finished.
        failures: pictures without an answer, by status.
        problems: the first of them, and of entries left out while listing.
        not_drawn: pictures with an answer that could not be drawn.
        stage_ms: time by stage, all processes together.
    """

    pictures: int = 0
    faces: int = 0
    resumed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    not_drawn: int = 0
    stage_ms: dict[str, float] = field(default_factory=dict)

    def add(self, finished: Finished) -> None:
        """Count one picture."""
        record = finished.record
        self.pictures += 1
        self.faces += len(record["faces"])
        add_times(self.stage_ms, finished.stage_ms)
        if record["status"] != "ok":
            self.failures[record["status"]] += 1
            self.note(record["picture"], record["reason"])
        if finished.not_drawn:
            self.not_drawn += 1
            self.note(record["picture"], f"not drawn: {finished.not_drawn}")

    def add_resumed(self, name: str, failure: tuple[str, str] | None) -> None:
        """Count a picture that an earlier run had finished, with status and reason of a failure."""
        self.resumed += 1
        if failure is not None:
            status, reason = failure
            self.failures[status] += 1
            self.note(name, reason)

    @property
    def answered(self) -> int:
        """Pictures with an answer, of this run or an earlier one, possibly without any face."""
        failed = sum(count for status, count in self.failures.items() if status != LEFT_OUT)
        return self.pictures + self.resumed - failed

    def note(self, name: str, reason: str) -> None:
        """Add a problem, if there is space."""
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(Problem(name, reason))


class PictureRun:
    """Checks the call, loads the models, then yields pictures as they are finished.

    Args:
        sources: pictures and videos.
        settings: of the run.
        camera: the number of a camera, which is then the only source.

    Raises:
        UsageError: the call is wrong.
        AgebenchError: a model can't be loaded.
    """

    def __init__(
        self, sources: Sources, settings: PredictSettings, *, camera: int | None = None
    ) -> None:
        self._settings = settings
        self._names = [name for name in sources.names if not is_video(name)]
        self.videos: list[Source] = [name for name in sources.names if is_video(name)]
        if camera is not None:
            self.videos.append(camera)
        self._check_options()
        self._places = None
        if settings.draw is not None:
            self._places = DrawPlaces(settings.draw, sources, camera)
        self.predictor = AgePredictor(
            settings.estimators or None,
            detector=settings.detector,
            max_pixels=settings.max_pixels,
            tiles=settings.tiles,
        )
        if settings.explain:
            for name, estimator in self.predictor.estimators.items():
                check_explainable(name, estimator)
        self.tally = Tally()
        for problem in sources.problems:
            self.tally.failures[LEFT_OUT] += 1
            self.tally.note(problem.name, problem.reason)

    def _check_options(self) -> None:
        if STDIN in self._names and sys.stdin is None:  # the shell closed it: `<&-`
            raise UsageError(
                f"standard input is closed, expected a picture for {STDIN!r}: pipe one into it, or "
                "name a file"
            )
        if self._settings.processes > 1:
            self.refuse_moving("--processes")
        if self._settings.explain:
            self.refuse_moving("--explain")
        if self._settings.processes > 1 and STDIN in self._names:
            raise UsageError("standard input holds a single picture: leave --processes out")

    @property
    def total(self) -> int:
        """Number of pictures that were listed."""
        return len(self._names)

    def refuse_moving(self, option: str) -> None:
        """Refuse an option for pictures if there is a video or a camera.

        Raises:
            UsageError: there is one; the message names it.
        """
        for video in self.videos:
            what = f"camera {video}" if isinstance(video, int) else f"the video {video!r}"
            raise UsageError(
                f"{option} is for pictures, got {what}: leave {option} out, or name only "
                "pictures, for example with a pattern ('PHOTOS/**/*.jpg')"
            )

    def lines(self, out: Path) -> LineFile:
        """Return the file of results, new or of an earlier run.

        Raises:
            UsageError: it contains something else, or another run's results.
            AgebenchError: it can't be written, or another run is writing it.
        """
        return LineFile(
            out,
            self.predictor.detector_name,
            tuple(self.predictor.estimators),
            explain=self._settings.explain,
            pictures=self._names,
        )

    def finished(self, lines: LineFile | None = None) -> Generator[Finished, None, None]:
        """Yield the pictures in order; those in `lines` are skipped, the others added to it.

        Pictures that could not be read or crashed are not skipped, and their new lines replace the
        old ones; nor are those that still need a drawing, whose lines are kept.

        Raises:
            AgebenchError: an output can't be written, or a process can't work.
        """
        plan = PredictionPlan(
            tuple(self.predictor.estimators),
            self.predictor.detector_reference,
            self.predictor.tiles,
            self._settings.explain,
            self._settings.max_pixels,
        )
        if lines is not None:
            lines.drop(name for name in self._names if _failed_for_now(name, lines))
        processes = min(self._settings.processes, max(1, self.total))
        with closing(
            predict_pictures(plan, self._tasks(lines), processes, self.predictor)
        ) as pictures:
            for finished in pictures:
                if lines is not None and finished.task.name not in lines:
                    lines.append(finished.record)
                self.tally.add(finished)
                yield finished

    def _tasks(self, lines: LineFile | None) -> Iterator[PredictionTask]:
        for name in self._names:
            place = self.place_of(name)
            if lines is None or name not in lines:
                yield PredictionTask(name, place)
                continue
            failure = lines.failure(name)
            if failure is None and place is not None and not place.exists():
                yield PredictionTask(name, place)
            else:
                self.tally.add_resumed(name, failure)

    def place_of(self, name: Source) -> Path | None:
        """Return the path of the drawing of a picture, a video or the camera, if it is drawn."""
        return None if self._places is None else self._places.of(name)


def _failed_for_now(name: str, lines: LineFile) -> bool:
    failure = lines.failure(name)
    return failure is not None and failure[0] in TRIED_AGAIN
