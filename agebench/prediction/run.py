"""A run over many pictures: what is asked, checked before anything long begins, then streamed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from agebench.errors import AgebenchError, UsageError
from agebench.prediction.drawing import FORMATS
from agebench.prediction.explaining import check_explainable
from agebench.prediction.lines import LineFile
from agebench.prediction.pool import examine
from agebench.prediction.predictor import AgePredictor
from agebench.prediction.sources import STDIN, Sources, is_video
from agebench.prediction.work import Finished, Plan, Task
from agebench.types import Problem
from agebench.vision.images import MAX_PIXELS

MOST_WORKERS = 256

LEFT_OUT = "left out"
"""What is counted for whatever was no picture file when the folders were listed."""

KEPT_PROBLEMS = 20
"""So many are kept with their reasons; all are counted, and in the JSON."""


@dataclass(frozen=True, slots=True)
class PredictSettings:
    """What a run is to do.

    Attributes:
        estimators: references; empty for the default one.
        detector: reference; None for the best at hand.
        tiles: look at large pictures in parts too; None does so where no detector is named.
        draw: file or folder for annotated pictures.
        explain: say what each view moved.
        workers: processes.
        max_pixels: larger pictures are refused.

    Raises:
        UsageError: a number is out of range.
    """

    estimators: tuple[str, ...] = ()
    detector: str | None = None
    tiles: bool | None = None
    draw: Path | None = None
    explain: bool = False
    workers: int = 1
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MOST_WORKERS:
            raise UsageError(f"--workers must be 1 to {MOST_WORKERS}, got {self.workers}")
        if self.max_pixels < 1:
            raise UsageError(f"--max-pixels must be at least 1, got {self.max_pixels}")


@dataclass(slots=True)
class Tally:
    """What came of a run so far.

    Attributes:
        pictures: examined in this run.
        faces: found in them.
        resumed: pictures that an earlier run had finished.
        failures: pictures without an answer, by status.
        problems: the first of them, and of what was left out while listing.
        not_drawn: pictures with an answer of which no drawing could be made.
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
        for stage, spent in finished.stage_ms.items():
            self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + spent
        if record["status"] != "ok":
            self.failures[record["status"]] += 1
            self.note(record["picture"], record["reason"])
        if finished.not_drawn:
            self.not_drawn += 1
            self.note(record["picture"], f"not drawn: {finished.not_drawn}")

    @property
    def answered(self) -> int:
        """Pictures of this run with an answer, be it that there is no face."""
        failed = sum(count for status, count in self.failures.items() if status != LEFT_OUT)
        return self.pictures - failed

    def note(self, name: str, reason: str) -> None:
        """Keep a problem, if there is room."""
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(Problem(name, reason))


class PictureRun:
    """Loads the models, checks the call, then yields pictures as they are finished.

    Raises:
        UsageError: the call is wrong.
        AgebenchError: a model can't be loaded.
    """

    def __init__(self, sources: Sources, settings: PredictSettings) -> None:
        self._sources = sources
        self._settings = settings
        self._names = [name for name in sources.names if not is_video(name)]
        self.videos = [name for name in sources.names if is_video(name)]
        if settings.workers > 1 and self.videos:
            raise UsageError("a video is examined by one process: leave --workers out")
        if settings.workers > 1 and STDIN in sources.names:
            raise UsageError("a picture from standard input is one: leave --workers out")
        self.predictor = AgePredictor(
            settings.estimators or None,
            detector=settings.detector,
            max_pixels=settings.max_pixels,
            tiles=settings.tiles,
        )
        if settings.explain:
            for name, estimator in self.predictor.estimators.items():
                check_explainable(name, estimator)
        self._places = None
        if settings.draw is not None and self._names:
            self._places = DrawPlaces(settings.draw, sources, self._names)
        self.tally = Tally()
        for problem in sources.problems:
            self.tally.failures[LEFT_OUT] += 1
            self.tally.note(problem.name, problem.reason)

    @property
    def total(self) -> int:
        """Number of pictures that were listed."""
        return len(self._names)

    def finished(self, lines: LineFile | None = None) -> Generator[Finished, None, None]:
        """Yield the pictures in order; those in `lines` are passed over, the others added to it.

        Raises:
            AgebenchError: an output can't be written, or a process can't work.
        """
        plan = Plan(
            tuple(self.predictor.estimators),
            self.predictor.detector_reference,
            self.predictor.tiles,
            self._settings.explain,
            self._settings.max_pixels,
        )
        workers = min(self._settings.workers, max(1, self.total))
        with closing(examine(plan, self._tasks(lines), workers, self.predictor)) as pictures:
            for finished in pictures:
                if lines is not None:
                    lines.append(finished.record)
                self.tally.add(finished)
                yield finished

    def _tasks(self, lines: LineFile | None) -> Iterator[Task]:
        for name in self._names:
            place = self._places.of(name) if self._places is not None else None
            if lines is not None and name in lines:
                self.tally.resumed += 1
            else:
                yield Task(name, place)


class DrawPlaces:
    """Where each picture is drawn to: one file, or below a folder as the pictures lie in theirs.

    Raises:
        UsageError: a drawing would lie among the pictures, or have a format that can't be written.
    """

    def __init__(self, out: Path, sources: Sources, names: Sequence[str]) -> None:
        self._out = out
        self._roots = [(str(root), Path(root)) for root in sources.roots]
        self._used: set[str] = set()
        self._file = sources.single and not out.is_dir() and bool(out.suffix)
        if self._file:
            self._check_file(names[0])
        else:
            self._check_folder(names)

    def _check_file(self, name: str) -> None:
        if self._out.suffix.lower() not in FORMATS:
            known = ", ".join(FORMATS)
            raise UsageError(f"--draw {self._out}: expected one of {known}, or a folder")
        if name != STDIN and self._out.exists() and self._out.samefile(name):
            raise UsageError(f"--draw {self._out} is the picture itself: name another file")
        if not self._out.parent.is_dir():
            raise AgebenchError(f"there is no folder {self._out.parent} for --draw: make it")

    def _check_folder(self, names: Sequence[str]) -> None:
        out = self._out.resolve()
        named_as_file = self._out.suffix.lower() in FORMATS and not self._out.is_dir()
        if named_as_file or (self._out.exists() and not self._out.is_dir()):
            raise UsageError(f"--draw {self._out} is no folder: several pictures need one")
        folders = {str(Path(name).parent) for name in names if name != STDIN}
        among = any(out == Path(folder).resolve() for folder in folders)
        below = any(out.is_relative_to(root.resolve()) for _, root in self._roots)
        if among or below:
            raise UsageError(
                f"--draw {self._out} lies among the pictures, which would be overwritten or mixed "
                "with their drawings: give a folder elsewhere"
            )

    def of(self, name: str) -> Path:
        """Return where a picture is drawn to; no two share a place if asked in the same order."""
        if self._file:
            return self._out
        inner = self._inner(name)
        place = inner if inner.suffix.lower() in FORMATS else Path(f"{inner}.png")
        number = 2
        while str(place) in self._used:
            place = place.with_name(f"{inner.stem}-{number}{place.suffix}")
            number += 1
        self._used.add(str(place))
        return self._out / place

    def _inner(self, name: str) -> Path:
        for text, root in self._roots:
            if name.startswith(text) and Path(name).is_relative_to(root):
                return Path(name).relative_to(root)
        return Path("stdin" if name == STDIN else Path(name).name)
