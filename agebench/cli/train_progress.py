"""Progress of a training run on the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from agebench.cli.options import print_note
from agebench.errors import MissingDependencyError

if TYPE_CHECKING:
    from agebench.train.logs import StepReport, Watcher
    from agebench.train.stability import Decision, EpochRecord


def import_training() -> ModuleType:
    """Return `agebench.trainer.run`, which needs PyTorch.

    Raises:
        MissingDependencyError: the packages for training are not installed.
    """
    try:
        from agebench.trainer import run
    except ImportError as error:
        raise MissingDependencyError(
            f"training needs more packages ({error}): pip install 'agebench[train]'"
        ) from error
    return run


def print_renamed(note: str) -> None:
    """Report on stderr, in the leading process only, that a setting was given by its old name."""
    if os.environ.get("RANK", "0") == "0":
        print_note(note)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


class TerminalWatcher:
    """Shows steps as a bar and epochs as lines."""

    def __init__(self, console: Console, bars: Progress) -> None:
        self._console, self._bars = console, bars
        self._task: TaskID | None = None
        self._val = ""

    def step(self, report: StepReport) -> None:
        """See `agebench.train.logs.Watcher.step`."""
        if self._task is None:
            self._task = self._bars.add_task("Training", total=report.total)
        text = f"loss {report.loss:.3f}  rate {report.learning_rate:.1e}"
        left = f"  {_span(report.seconds_left)} left"
        self._bars.update(
            self._task, completed=report.step + 1, description=f"{text}{self._val}{left}"
        )

    def epoch(self, record: EpochRecord, decision: Decision, seconds: float) -> None:
        """See `agebench.train.logs.Watcher.epoch`."""
        self._val = f"  val MAE {record.val_mae:.2f}"
        jump = "" if record.jump is None else f", jump {record.jump:+.1%}"
        line = f"epoch {record.epoch}: val MAE {record.val_mae:.3f} years{jump}, {_span(seconds)}"
        if decision.kind != "go on":
            line += f": {decision.kind}: {decision.reason}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def watching(console: Console) -> Iterator[tuple[Watcher, Callable[[str, int, int], None]]]:
    """Show bars for reading and training; yields a watcher and a progress step.

    If the output is not a terminal, there is a line per stage and epoch instead.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
    )
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as bars:
        reading: dict[str, TaskID] = {}

        def step(stage: str, done: int, total: int) -> None:
            if done == total and not shown:  # a line in a log shows that it is running
                console.print(f"{stage} ({total:,})", markup=False, highlight=False)
            if stage not in reading:
                reading[stage] = bars.add_task(stage, total=total)
            bars.update(reading[stage], completed=done, visible=done < total)

        yield TerminalWatcher(console, bars), step
