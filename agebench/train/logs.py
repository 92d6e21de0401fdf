"""What a run reports: CSV files, TensorBoard's event files, and calls of whoever watches it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agebench.errors import AgebenchError, MissingDependencyError
from agebench.train.stability import Decision, EpochRecord
from agebench.util.files import append_whole, csv_line, write_whole

STEPS_FILE = "steps.csv"
EPOCHS_FILE = "epochs.csv"
OLD_EPOCHS_FILE = "rounds.csv"
"""The name of `EPOCHS_FILE` in earlier versions, with the column "round"."""

STEP_COLUMNS = ("step", "epoch", "loss", "learning_rate")
EPOCH_COLUMNS = (
    "epoch",
    "step",
    "train_loss",
    "jump",
    "val_mae",
    "learning_rate",
    "seconds",
    "decision",
    "reason",
    "drawn",
)

OLD_COLUMNS = {"epoch": "round"}
"""Names of columns in the logs of earlier versions."""


class RunLog:
    """Appends to the CSV files of a folder, and optionally to TensorBoard's event files.

    Args:
        folder: of the run.
        first_step: lines of this step and later ones are dropped: they are trained again.
        first_epoch: likewise.  The logs of an earlier version are continued.
        tensorboard: also write TensorBoard's event files.

    Raises:
        MissingDependencyError: `tensorboard` is true and TensorBoard is not installed.
    """

    def __init__(
        self, folder: Path, first_step: int, first_epoch: int, *, tensorboard: bool
    ) -> None:
        _rename_old_log(folder)
        self._steps = _Table(folder / STEPS_FILE, STEP_COLUMNS, "step", first_step)
        self._epochs = _Table(folder / EPOCHS_FILE, EPOCH_COLUMNS, "epoch", first_epoch)
        self._board = _board(folder, first_step) if tensorboard else None

    def step(self, values: Mapping[str, Any]) -> None:
        """Add a step; kept in memory until `flush`."""
        self._steps.add(values)

    def epoch(self, values: Mapping[str, Any]) -> None:
        """Add an epoch, and flush."""
        self._epochs.add(values)
        if self._board is not None:
            for name in ("train_loss", "jump", "val_mae", "learning_rate"):
                if isinstance(values[name], float):
                    self._board.add_scalar(name, values[name], values["step"])
        self.flush()

    def flush(self) -> None:
        """Write everything that was added.

        Raises:
            AgebenchError: the disk is full or the folder was removed.
        """
        self._steps.flush()
        self._epochs.flush()
        if self._board is not None:
            self._board.flush()


def tensorboard_writer() -> Any:
    """Return TensorBoard's writer of event files.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError(
            f"TensorBoard's event files can't be written ({error}): pip install tensorboard, or "
            "omit --tensorboard"
        ) from error
    return SummaryWriter


def _board(folder: Path, first_step: int) -> Any:
    return tensorboard_writer()(str(folder / "tensorboard"), purge_step=first_step)


def _rename_old_log(folder: Path) -> None:
    """Give the log of epochs that an earlier version wrote its current name."""
    old, new = folder / OLD_EPOCHS_FILE, folder / EPOCHS_FILE
    try:
        if old.is_file() and not new.exists():
            old.rename(new)
    except OSError as error:
        raise AgebenchError(f"{old} can't be renamed to {new.name}: {error.strerror}") from error


class _Table:
    def __init__(self, path: Path, columns: tuple[str, ...], key: str, first: int) -> None:
        self._path, self._columns = path, columns
        self._waiting: list[str] = []
        rows = [row for row in _rows(path, columns) if int(row[key]) < first]
        lines = [csv_line(columns)]
        lines += [csv_line(row[name] for name in columns) for row in rows]
        write_whole(path, "".join(lines))

    def add(self, values: Mapping[str, Any]) -> None:
        self._waiting.append(csv_line(values[name] for name in self._columns))

    def flush(self) -> None:
        try:
            with self._path.open("ab") as file:
                append_whole(file, "".join(self._waiting).encode())
        except OSError as error:
            raise AgebenchError(f"{self._path} can't be written: {error.strerror}") from error
        self._waiting.clear()


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the complete rows of a log, without a last one that is truncated."""
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                {name: row.get(name, row.get(OLD_COLUMNS.get(name, name))) for name in columns}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, csv.Error) as error:
        raise AgebenchError(f"{path} is not the log of a run ({error}): move it away") from error
    whole = [
        {name: cell for name, cell in row.items() if cell is not None}
        for row in rows
        if None not in row.values()
    ]
    return [row for row in whole if row[columns[0]].isdecimal()]


@dataclass(frozen=True, slots=True)
class StepReport:
    """A completed step.

    Attributes:
        step: its number, from 0.
        total: steps planned.
        epoch: its epoch, from 0.
        loss: of the step.
        learning_rate: of the step.
        seconds_left: until the last planned step at the current speed.
    """

    step: int
    total: int
    epoch: int
    loss: float
    learning_rate: float
    seconds_left: float


class Watcher(Protocol):
    """Called as training proceeds."""

    def step(self, report: StepReport) -> None:
        """A step was completed."""

    def epoch(self, record: EpochRecord, decision: Decision, seconds: float) -> None:
        """An epoch ended."""


class Silent:
    """A watcher that ignores everything."""

    def step(self, report: StepReport) -> None:
        """See `Watcher.step`."""

    def epoch(self, record: EpochRecord, decision: Decision, seconds: float) -> None:
        """See `Watcher.epoch`."""
