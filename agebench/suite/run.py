"""Running the missing cells of a suite one after the other, through `compare`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from agebench.errors import AgebenchError, error_text
from agebench.harness.compare import compare
from agebench.harness.kept_detections import KeptDetections, KeptDetectionsError
from agebench.harness.results import RESULT_FILE
from agebench.protocols import ProgressStep, no_progress
from agebench.runtimes.threads import pinned
from agebench.suite.cells import Cell, cells_of
from agebench.suite.kept_cells import cells_elsewhere, kept_cell
from agebench.suite.loaded import Loader, UnavailableError
from agebench.suite.plan import SuitePlan
from agebench.suite.spent import write_spent
from agebench.suite.timing_run import find_times, time_models
from agebench.util.files import make_folder
from agebench.util.locks import alone_in

DETECTIONS = "detections.sqlite"

State: TypeAlias = Literal["kept", "joined", "measured", "left", "broken", "not there"]
"""State of a cell after a run: had a result; measured elsewhere; measured now; left to another run;
failed, or its result is damaged; model or set not available."""


@dataclass(frozen=True, slots=True)
class CellReport:
    """The outcome of a cell.

    Attributes:
        cell: the cell.
        state: see `State`.
        reason: why it has no result; "" if it has one, or is left to another run.
        folder: of its result; None without one.
        pictures: number of its pictures; 0 if not known.
        seconds: time taken in this run.
        weights: hashes of the model's files here; None if it is not available.
    """

    cell: Cell
    state: State
    reason: str = ""
    folder: Path | None = None
    pictures: int = 0
    seconds: float = 0.0
    weights: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class SuiteReport:
    """The outcome of a suite.

    Attributes:
        cells: in their order.
        times: folder of the run that timed all models; None without one.
        why_no_times: why that run failed; "" otherwise.
        detected: number of pictures whose faces were detected; those of others were kept.
        detect_seconds: time taken by that.
        seconds: time taken by the whole run.
    """

    cells: Sequence[CellReport]
    times: Path | None = None
    why_no_times: str = ""
    detected: int = 0
    detect_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def failures(self) -> list[CellReport]:
        """Cells that failed, or whose model or set is not available."""
        return [item for item in self.cells if item.state in ("broken", "not there")]

    @property
    def has_results(self) -> bool:
        """Whether there is a result of any cell."""
        return any(item.state in ("kept", "joined", "measured") for item in self.cells)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a suite is run.

    Attributes:
        out: the suite's folder.
        data: folder that the roots of sets are relative to.
        minutes: no cell is started after this time; None for no limit.
        dry: whether nothing is measured.
        times: whether only times are measured, again if they exist.
    """

    out: Path
    data: Path
    minutes: float | None = None
    dry: bool = False
    times: bool = False


@dataclass(slots=True)
class _Run:
    """A run in progress."""

    options: RunOptions
    loader: Loader
    progress: ProgressStep
    log: Callable[[str], None]
    total: int = 0
    done: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def out_of_time(self) -> bool:
        minutes = self.options.minutes
        return minutes is not None and time.monotonic() - self.started > 60 * minutes

    def measure(self, cell: Cell, folder: Path, kept: KeptDetections) -> None:
        """Measure a cell, reporting its pictures on the progress bar of the suite."""

        def step(stage: str, done: int, _total: int) -> None:
            if stage == "accuracy":
                self.progress("pictures", self.done + done, self.total)

        model = self.loader.model(cell.contender)
        own = "" if model.estimator is None else model.estimator.spec.detector
        start = time.process_time()
        result = compare(
            [model],
            self.loader.pictures(cell.pictures).dataset,
            detector=None if own else cell.pictures.detector or None,
            out=folder,
            settings=self.loader.settings(cell),
            progress=step,
            detections=kept,
        )
        counts = result.counts
        if not counts.taken_over:  # an interrupted cell has no complete times
            whole = time.process_time() - start
            write_spent(folder, counts.total, whole, result.stage_seconds)


def run_suite(
    plan: SuitePlan,
    options: RunOptions,
    progress: ProgressStep = no_progress,
    log: Callable[[str], None] = lambda _line: None,
    *,
    elsewhere: Sequence[Path] = (),
) -> SuiteReport:
    """Measure the cells that have no result yet.

    Models and sets that are not available, and cells that fail or whose result is damaged, are
    reported; the others are measured.

    Args:
        plan: of the suite.
        options: folders and time limit.
        progress: called with the number of pictures done and in total.
        log: called with a line for each measured cell.
        elsewhere: folders of the same suite, whose cells are not measured again.

    Raises:
        AgebenchError: the folder can't be written to, another run is using it, or the kept
            detections can't be used.
    """
    make_folder(options.out, f"the folder {options.out}", "name another one")
    loader = Loader(options.out, options.data, progress)
    run = _Run(options, loader, progress, log)
    with alone_in(options.out), pinned(plan.settings.threads):
        waiting = [_look(cell, run, elsewhere) for cell in cells_of(plan)]
        run.total = sum(item.pictures for item in waiting if item.state == "left")
        if options.dry:
            return SuiteReport(waiting, find_times(plan, loader))
        with KeptDetections(options.out / DETECTIONS) as kept:
            reports = [_measure(item, run, kept) for item in waiting]
            times, why = _time(plan, run)
            seconds = time.monotonic() - run.started
            return SuiteReport(reports, times, why, kept.added, kept.seconds, seconds)


def _time(plan: SuitePlan, run: _Run) -> tuple[Path | None, str]:
    """Time all models in turns, if not done yet; return the folder, or why it failed."""
    if plan.times is None:
        return None, ""
    existing = find_times(plan, run.loader)
    if not run.options.times and (existing is not None or run.out_of_time):
        return existing, ""
    try:
        folder = time_models(plan, run.loader, run.progress)
    except Exception as error:  # as with a cell, a failure must not end the run
        run.log(f"times: failed: {error_text(error)}")
        return None, error_text(error)
    run.log(f"times: {plan.times.pictures} pictures")
    return folder, ""


def _look(cell: Cell, run: _Run, elsewhere: Sequence[Path]) -> CellReport:
    """Determine the state of a cell."""
    folder: Path | None = None
    pictures, why = 0, ""
    try:
        pictures, key = run.loader.size_and_key(cell)
        folder = cell.folder(run.options.out, key)
    except UnavailableError as error:
        why = str(error)
    weights = run.loader.weights(cell.contender)
    try:
        if folder is not None and (folder / RESULT_FILE).is_file():
            kept_cell(cell, folder)
            return CellReport(cell, "kept", folder=folder, pictures=pictures)
        # All of them are read, as the latest is chosen later.
        if list(cells_elsewhere(cell, elsewhere, weights)):
            return CellReport(cell, "joined", folder=folder, pictures=pictures, weights=weights)
    except AgebenchError as error:  # one damaged result must not stop the others
        return CellReport(cell, "broken", str(error), pictures=pictures)
    return CellReport(cell, "not there" if why else "left", why, folder, pictures)


def _measure(item: CellReport, run: _Run, kept: KeptDetections) -> CellReport:
    if item.state != "left" or item.folder is None or run.out_of_time or run.options.times:
        return item
    cell, start = item.cell, time.monotonic()
    try:
        run.measure(cell, item.folder, kept)
    except KeptDetectionsError:
        raise
    except Exception as error:  # one cell that fails must not stop the others
        run.log(f"{cell.title}: failed: {error_text(error)}")
        return CellReport(cell, "broken", error_text(error), pictures=item.pictures)
    finally:
        run.done += item.pictures
        run.progress("pictures", run.done, run.total)
    seconds = time.monotonic() - start
    run.log(f"{cell.title}: {item.pictures} pictures in {seconds:.0f} s")
    return CellReport(cell, "measured", "", item.folder, item.pictures, seconds)
