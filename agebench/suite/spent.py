"""Processor time of the cells of a suite by stage, stored next to each result.

It depends on the machine, affects nothing, and is in no file of the leaderboard, so that an
interrupted suite makes the same page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from agebench.errors import UsageError
from agebench.harness.results import RESULT_FILE
from agebench.metrics.number_format import NONE
from agebench.report.grid import Cell, Column, Grid, figure_cell
from agebench.suite.board import read_board_file
from agebench.suite.board_structure import PictureCount
from agebench.suite.cells import AS_IS, RESULTS
from agebench.timing.stage_seconds import STAGES
from agebench.util.files import write_whole
from agebench.util.record_fields import By, Positive, one_of
from agebench.util.typed_records import keyed

SPENT_FILE = "seconds.json"
FORMAT = 1
REST = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentFile:
    """The stored times of a result."""

    format: Annotated[int, By(one_of((FORMAT,)))]
    pictures: PictureCount
    whole: Positive
    stages: Annotated[Mapping[str, float], By(keyed({name: name for name in STAGES}, Positive))]


@dataclass(frozen=True, slots=True)
class Spent:
    """Processor time of some cells.

    Attributes:
        cells: number of cells with times.
        untimed: number without: measured by another version, or in several runs.
        pictures: of those with times, counted once per model.
        seconds: by stage, and of the rest: statistics, writing, and the runtime's own threads.
    """

    cells: int
    untimed: int
    pictures: int
    seconds: Mapping[str, float]

    @property
    def whole_seconds(self) -> float:
        """The total time."""
        return sum(self.seconds.values())


def write_spent(folder: Path, pictures: int, whole: float, stages: Mapping[str, float]) -> None:
    """Store the processor time of a result.

    Args:
        folder: of the result.
        pictures: of the cell.
        whole: processor seconds.
        stages: those of each stage.

    Raises:
        AgebenchError: the file can't be written.
    """
    content = {"format": FORMAT, "pictures": pictures, "whole": whole, "stages": dict(stages)}
    write_whole(folder / SPENT_FILE, json.dumps(content) + "\n")


def spent_by_set(outs: Sequence[Path]) -> dict[str, Spent]:
    """Return the processor time of each set's cells, with changed pictures separately.

    Args:
        outs: folders of the suite; a cell in several folders counts once, by the first with times.

    Raises:
        UsageError: there is no such folder, or it has no results.
        AgebenchError: a file is damaged.
    """
    by_set: dict[str, dict[tuple[str, ...], SpentFile | None]] = {}
    for out in outs:
        found = sorted((out / RESULTS).glob(f"*/*/*/{RESULT_FILE}"))
        if not found:
            raise UsageError(f"{out} has no results of a suite: give the folder that was its --out")
        for result in found:
            place = result.parent.relative_to(out / RESULTS).parts
            cells = by_set.setdefault(_called(*place[:2]), {})
            cells[place] = cells.get(place) or _read(result.parent / SPENT_FILE)
    return {name: _sum(list(cells.values())) for name, cells in sorted(by_set.items())}


def _called(key: str, variant: str) -> str:
    return key if variant == AS_IS else f"{key}, changed"


def _read(file: Path) -> SpentFile | None:
    if not file.is_file():
        return None
    advice = "remove it, and the cell counts as one without times"
    return read_board_file(file, SpentFile, "a file of times of 'agebench suite'", advice)


def _sum(cells: Sequence[SpentFile | None]) -> Spent:
    known = [cell for cell in cells if cell is not None]
    seconds = {stage: sum(cell.stages[stage] for cell in known) for stage in STAGES}
    # As two clocks differ in resolution, the rest may be slightly negative.
    rest = max(0.0, sum(cell.whole for cell in known) - sum(seconds.values()))
    pictures = sum(cell.pictures for cell in known)
    return Spent(len(known), len(cells) - len(known), pictures, {**seconds, REST: rest})


def total(parts: Mapping[str, Spent]) -> Spent:
    """Return the sum of all."""
    return Spent(
        sum(spent.cells for spent in parts.values()),
        sum(spent.untimed for spent in parts.values()),
        sum(spent.pictures for spent in parts.values()),
        {stage: sum(spent.seconds[stage] for spent in parts.values()) for stage in (*STAGES, REST)},
    )


def spent_grid(parts: Mapping[str, Spent]) -> Grid:
    """Return the table: a row for each set, and one for all."""
    columns = [
        Column("set", numeric=False),
        Column("cells", hint="with times"),
        Column("pictures", hint="counted once per model"),
        *(Column(stage) for stage in (*STAGES, REST)),
        Column("all, s"),
    ]
    rows = [_row(name, spent) for name, spent in parts.items()]
    whole = total(parts)
    rows.append(_row("all", whole))
    percents = [_percent(whole.seconds[stage], whole.whole_seconds) for stage in (*STAGES, REST)]
    rows.append([Cell("per cent"), Cell(""), Cell(""), *percents, Cell("")])
    return Grid("Processor seconds by stage, summed over cells", columns, rows)


def _row(name: str, spent: Spent) -> list[Cell]:
    of_all = f" of {spent.cells + spent.untimed:,}" if spent.untimed else ""
    seconds = [spent.seconds[stage] for stage in (*STAGES, REST)]
    return [
        Cell(name),
        figure_cell(f"{spent.cells:,}{of_all}", spent.cells),
        figure_cell(f"{spent.pictures:,}", spent.pictures),
        *(figure_cell(f"{value:,.1f}", value) for value in (*seconds, spent.whole_seconds)),
    ]


def _percent(part: float, whole: float) -> Cell:
    return Cell(f"{100 * part / whole:.0f}" if whole else NONE)


def as_json(parts: Mapping[str, Spent]) -> dict[str, Any]:
    """Return it as JSON-compatible values."""

    def times(spent: Spent) -> dict[str, Any]:
        return {
            "cells": spent.cells,
            "untold": spent.untimed,
            "pictures": spent.pictures,
            "seconds": dict(spent.seconds),
        }

    sets = {name: times(spent) for name, spent in parts.items()}
    return {"sets": sets, "all": times(total(parts))}
