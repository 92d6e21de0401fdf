"""The plot of a run: loss, jumps and validation error by step, drawn from its logs.

The logs are two CSV files with a header line, columns in any order, and possibly more columns:

- steps (`STEP_COLUMNS`): ``step`` (from 0), ``epoch``, ``loss`` (averaged over the batch),
  ``learning_rate``;
- epochs (`EPOCH_COLUMNS`): ``epoch``, ``step`` (the step after the epoch's last one, at which
  validation ran), ``jump`` (empty in the first epoch), ``val_mae`` (years), ``decision`` (see
  `agebench.train.stability`), and optionally a second error, ``val_mae_ema``.

In the logs of earlier versions ``epoch`` is called ``round``.

A run that was interrupted and resumed may have written a step twice: the later line is used.  A
last line without a line end is incomplete and ignored.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agebench.errors import AgebenchError, MissingDependencyError, UsageError
from agebench.train.stability import KINDS
from agebench.types import Floats
from agebench.util.checks import number_in
from agebench.util.files import check_target, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEP_COLUMNS = ("step", "epoch", "loss", "learning_rate")
EPOCH_COLUMNS = ("epoch", "step", "jump", "val_mae", "decision")
_NEW_COLUMNS = {"round": "epoch"}
SUFFIXES = (".png", ".svg")

_BLUE, _ORANGE, _RED, _GREEN, _GREY = "#1f5fa8", "#d9700e", "#b3241c", "#1d7a3a", "#8a8a8a"
_COLOURS = {"go on": _GREY, "cut": _ORANGE, "stable": _GREEN, "change structure": _RED}
_LEGEND: dict[str, Any] = {"loc": "upper right", "edgecolor": "none", "framealpha": 0.9}


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """The data of the plot; cells that are empty in the log are NaN.

    Attributes:
        steps: numbers of the steps, ascending, shape (steps,).
        losses: of each step.
        rates: learning rate of each step.
        ends: step after each epoch's last one, ascending, shape (epochs,).
        jumps: of each epoch, as a fraction.
        maes: validation error after each epoch, years.
        maes_ema: the same for averaged weights.
        decisions: after each epoch.
    """

    steps: Floats
    losses: Floats
    rates: Floats
    ends: Floats
    jumps: Floats
    maes: Floats
    maes_ema: Floats
    decisions: tuple[str, ...]


def read_curves(steps_csv: Path, epochs_csv: Path) -> Curves:
    """Read the two logs of a run.

    Raises:
        AgebenchError: one is missing, is not a CSV file with these columns, has a cell that is not
            a number (the message names the file and the line), or there are no steps.
    """
    by_step = _rows(steps_csv, STEP_COLUMNS, "step")
    by_epoch = _rows(epochs_csv, EPOCH_COLUMNS, "epoch")
    if not by_step:
        raise AgebenchError(f"{steps_csv} contains no steps yet: train first")
    return Curves(
        steps=_numbers(steps_csv, by_step, "step"),
        losses=_numbers(steps_csv, by_step, "loss"),
        rates=_numbers(steps_csv, by_step, "learning_rate"),
        ends=_numbers(epochs_csv, by_epoch, "step"),
        jumps=_numbers(epochs_csv, by_epoch, "jump"),
        maes=_numbers(epochs_csv, by_epoch, "val_mae"),
        maes_ema=_numbers(epochs_csv, by_epoch, "val_mae_ema"),
        decisions=_decisions(epochs_csv, by_epoch),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    cells: Mapping[str, str]


def _rows(path: Path, columns: Sequence[str], key: str) -> list[_Row]:
    """Return the rows of a log sorted by `key`; of several with the same number the last."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AgebenchError(f"the log {path} can't be read: {error}") from error
    whole = text[: text.rfind("\n") + 1]
    reader = csv.reader(io.StringIO(whole, newline=""))
    rows: dict[float, _Row] = {}
    try:
        headings = [_NEW_COLUMNS.get(name, name) for name in next(reader, [])]
        if missing := [name for name in columns if name not in headings]:
            raise AgebenchError(f"the log {path} has no column {', '.join(missing)}")
        for cells in reader:
            row = _Row(reader.line_num, dict(zip(headings, cells, strict=False)))
            if len(cells) != len(headings):
                raise AgebenchError(
                    f"{path}, line {row.line}: expected {len(headings)} cells, got {len(cells)}"
                )
            rows[_number(path, row, key, empty=False)] = row
    except csv.Error as error:
        raise AgebenchError(f"the log {path} is not a CSV file: {error}") from error
    return [rows[number] for number in sorted(rows)]


def _number(path: Path, row: _Row, name: str, *, empty: bool) -> float:
    cell = row.cells.get(name, "").strip()
    if empty and not cell:
        return math.nan
    value = number_in(cell)
    if not math.isfinite(value):
        raise AgebenchError(f"{path}, line {row.line}: expected a number as {name}, got {cell!r}")
    return value


def _numbers(path: Path, rows: Sequence[_Row], name: str) -> Floats:
    empty = name in ("jump", "val_mae", "val_mae_ema")
    return np.asarray([_number(path, row, name, empty=empty) for row in rows], dtype=np.float64)


def _decisions(path: Path, rows: Sequence[_Row]) -> tuple[str, ...]:
    for row in rows:
        decision = row.cells["decision"]
        if decision not in KINDS:
            known = ", ".join(KINDS)
            raise AgebenchError(
                f"{path}, line {row.line}: expected a decision ({known}), got {decision!r}"
            )
    return tuple(row.cells["decision"] for row in rows)


def running_median(values: Floats, width: int) -> Floats:
    """Return the median of `width` values around each value, of fewer at the ends.

    >>> running_median(np.array([1.0, 9.0, 2.0, 3.0]), 3)
    array([5. , 2. , 3. , 2.5])
    """
    reach = width // 2
    return np.asarray(
        [
            np.median(values[max(0, place - reach) : place + reach + 1])
            for place in range(len(values))
        ]
    )


def draw_curves(
    steps_csv: Path, epochs_csv: Path, target: Path, *, threshold: float | None = None
) -> None:
    """Draw a run's curves as a PNG or SVG file, which is written completely or not at all.

    Args:
        steps_csv: the log of steps.
        epochs_csv: the log of epochs.
        target: ends in ``.png`` or ``.svg``; an existing file is replaced.
        threshold: largest jump of a calm epoch, drawn as a line; None draws none.

    Raises:
        UsageError: `target` has another ending.
        MissingDependencyError: matplotlib is not installed.
        AgebenchError: a log can't be read, or the file can't be written.
    """
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"curves must end in {' or '.join(SUFFIXES)}, got {target.name!r}")
    check_target(target)
    curves = read_curves(steps_csv, epochs_csv)
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"matplotlib can't be imported: {error}. Install it with: pip install 'agebench[train]'"
        ) from error
    kind = target.suffix.lower()[1:]
    data = io.BytesIO()
    # Without a date and with fixed ids the same logs give the same file.
    with mpl.rc_context({"svg.hashsalt": "agebench", "font.size": 9.0}):
        figure = Figure(figsize=(10.0, 7.5), layout="constrained")
        _draw(figure, curves, threshold)
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(data, format=kind, dpi=120, metadata=metadata)
    write_whole(target, data.getvalue())


def _draw(figure: Figure, curves: Curves, threshold: float | None) -> None:
    top, middle, bottom = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1.5, 4]}
    )
    _draw_losses(top, curves)
    _draw_jumps(middle, curves, threshold)
    _draw_maes(bottom, curves)
    for axes in (top, middle, bottom):
        for end in curves.ends:
            axes.axvline(end, color=_GREY, linewidth=0.5, alpha=0.5, zorder=0)
        for end, decision in _notable(curves):
            axes.axvline(end, color=_COLOURS[decision], linewidth=1.4, linestyle="--", zorder=1)
    for end, decision in _notable(curves):
        top.annotate(
            decision,
            (end, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            color=_COLOURS[decision],
            ha="center",
        )
    bottom.set_xlabel("step (thin lines: a new bootstrap sample)")


def _notable(curves: Curves) -> list[tuple[float, str]]:
    pairs = zip(curves.ends.tolist(), curves.decisions, strict=True)
    return [(end, decision) for end, decision in pairs if decision != "go on"]


def _draw_losses(axes: Axes, curves: Curves) -> None:
    count = len(curves.steps)
    axes.plot(curves.steps, curves.losses, color=_BLUE, alpha=0.3, linewidth=0.6)
    width = max(1, min(51, count // 20))
    smooth = running_median(curves.losses, width)
    label = f"loss, median of {2 * (width // 2) + 1} steps"
    axes.plot(curves.steps, smooth, color=_BLUE, linewidth=1.4, label=label)
    # A very large loss in the first steps would flatten the rest of the curve.
    low, high = float(curves.losses.min()), float(np.quantile(curves.losses, 0.995))
    room = 0.05 * (high - low) or 0.5
    axes.set_ylim(low - room, high + room)
    axes.set_ylabel("loss", color=_BLUE)
    rates = axes.twinx()
    rates.plot(curves.steps, curves.rates, color=_ORANGE, linewidth=1.0, label="learning rate")
    if curves.rates.min() > 0:
        rates.set_yscale("log")
    rates.set_ylabel("learning rate", color=_ORANGE)
    lines = [axes.lines[1], rates.lines[0]]
    # In the upper of the two axes, or its line would cover the legend.
    rates.legend(lines, [str(line.get_label()) for line in lines], **_LEGEND)


def _draw_jumps(axes: Axes, curves: Curves, threshold: float | None) -> None:
    # An epoch's jump is at its start, which is the end of the previous one.
    starts = np.asarray([curves.steps[0], *curves.ends[:-1].tolist()])[: len(curves.ends)]
    limit = math.inf if threshold is None else threshold
    colours = [_RED if rise >= limit else _BLUE for rise in curves.jumps]
    axes.vlines(starts, 0, 100 * curves.jumps, colors=colours, linewidth=3)
    axes.axhline(0, color="black", linewidth=0.6)
    if threshold is not None:
        axes.axhline(100 * threshold, color=_RED, linewidth=0.8, linestyle=":")
    axes.set_ylabel("jump of loss, %")


def _draw_maes(axes: Axes, curves: Curves) -> None:
    for values, colour, label in (
        (curves.maes, _GREY, "validation MAE"),
        (curves.maes_ema, _BLUE, "validation MAE, averaged weights"),
    ):
        known = np.isfinite(values)
        if not known.any():
            continue
        axes.plot(curves.ends[known], values[known], "o-", color=colour, markersize=3, label=label)
    every = np.fmin(curves.maes, curves.maes_ema)
    if np.isfinite(every).any():
        best = int(np.nanargmin(every))
        axes.annotate(
            f"best {every[best]:.2f}",
            (curves.ends[best], every[best]),
            xytext=(0, -12),
            textcoords="offset points",
            ha="center",
            color=_GREEN,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )
        axes.margins(y=0.15)
        axes.legend(**_LEGEND)
    axes.set_ylabel("MAE on validation, years")
