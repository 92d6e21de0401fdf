"""Checking a submitted file: recomputing all its figures from its ages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agebench.harness.contamination import sets_trained_on, why_contaminated
from agebench.metrics.age_errors import LATER_FIGURES
from agebench.metrics.number_format import counted, number
from agebench.suite.board import BoardCell, BoardSet, read_board, read_board_file, read_board_model
from agebench.suite.board_structure import ModelFile
from agebench.suite.compact import stated_figures
from agebench.suite.standing import SUSPECTED, set_standing
from agebench.types import plain

TOLERANCE = 1e-6
"""Accepted difference between a stated figure and the recomputed one."""


@dataclass(frozen=True, slots=True)
class CheckedCell:
    """One set of a model's file.

    Attributes:
        set: its key.
        variant: how its pictures were changed; "" for no change.
        pictures: number with a label and an age.
        error_years: mean over these; None without any.
        rank: among the models on the board; None if there is none.
    """

    set: str
    variant: str
    pictures: int
    error_years: float | None
    rank: int | None


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome of a check.

    Attributes:
        model: its name.
        weights: file and hash of each of its model files.
        cells: that were checked.
        problems: why the file can't be accepted; empty if it can.
        notes: what a maintainer should check.
    """

    model: str
    weights: Sequence[tuple[str, str]]
    cells: Sequence[CheckedCell]
    problems: Sequence[str]
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-compatible values."""
        return {
            "model": self.model,
            "weights": [{"file": name, "sha256": digest} for name, digest in self.weights],
            "cells": plain(self.cells),
            "problems": list(self.problems),
            "notes": list(self.notes),
        }

    def lines(self) -> Iterator[str]:
        """Yield the lines shown to a maintainer."""
        yield f"{self.model}"
        for name, digest in self.weights:
            yield f"  weights {name}: sha256 {digest}"
        for cell in self.cells:
            called = " ".join(filter(None, (cell.set, cell.variant)))
            rank = f", rank {cell.rank}" if cell.rank else ""
            error = number(cell.error_years)
            yield f"  {called}: {error} years on {counted(cell.pictures, 'picture')}{rank}"
        for line in self.notes:
            yield f"  please check: {line}"
        if not self.problems:
            yield "all figures agree with its ages, on the data of the leaderboard"


def check_submission(file: Path, board_folder: Path) -> Checked:
    """Check a model's file against a leaderboard.

    The hashes of its data must be those of the board, its figures must agree with its ages, and its
    contamination with its counts and training sets.  Only running the model can show that the ages
    are its own; the file states the hashes of its weights.

    Raises:
        UsageError: there is no leaderboard.
        AgebenchError: it is not the file of a model, or its pictures differ.
    """
    board = read_board(board_folder)
    sets = {item.key: item for item in board.sets}
    content = read_board_file(file, ModelFile)
    read = read_board_model(file, sets, board.changed)
    listed = {item.name: item.suspected for item in board.models}
    model = replace(read, suspected=listed.get(read.name, {}))
    problems, notes, cells = [], [], []
    unknown = sorted({cell.set for cell in content.cells} - set(sets))
    if unknown:
        notes.append(f"sets that the leaderboard does not have: {', '.join(unknown)}")
    if not model.cells:
        problems.append("it has no result on a set of the leaderboard")
    for (key, variant), cell in model.cells.items():
        pictures = board.changed[key] if variant else sets[key]
        called = " ".join(filter(None, (key, variant)))
        problems += [f"{called}: {line}" for line in _differences(pictures, cell)]
        notes += [f"{called}: {line}" for line in _notable(pictures, cell)]
        rank = None
        if not variant and key in model.suspected:
            notes.append(f"{key}: {SUSPECTED}: {model.suspected[key]}")
        if not variant:
            others = [item for item in board.models if item.name != model.name]
            standing = set_standing(pictures, [*others, model]).models.get(model.name)
            rank = None if standing is None else standing.rank
        errors = np.abs(pictures.signed_errors(cell.years))
        known = errors[np.isfinite(errors)]
        error = float(known.mean()) if len(known) else None
        cells.append(CheckedCell(key, variant, len(known), error, rank))
    missing = [key for key in sets if (key, "") not in model.cells]
    if missing:
        notes.append(f"not measured on {', '.join(missing)}")
    weights = [(item.file, item.sha256) for spec in content.specs for item in spec.weights]
    return Checked(content.model, list(dict.fromkeys(weights)), cells, problems, notes)


def _differences(pictures: BoardSet, cell: BoardCell) -> Iterator[str]:
    true = pictures.true_years
    ranges = np.stack([pictures.low_years, pictures.high_years], axis=1)
    of_range = np.isnan(true) & np.isfinite(ranges).all(axis=1)
    bounds = [
        pair if inside else None for pair, inside in zip(ranges.tolist(), of_range, strict=True)
    ]
    people = pictures.clusters(np.arange(len(true))) or [None] * len(true)
    recomputed = stated_figures(cell.numbers, cell.years, true, bounds, people)
    stated = plain(cell.content)
    if stated["errors"] is None:  # for changed pictures only the ages are required
        del recomputed["errors"], recomputed["ranges"]
    else:
        for later in LATER_FIGURES:
            if stated["errors"][later] is None:
                del recomputed["errors"][later]
    for name, value in recomputed.items():
        yield from _unequal(name, stated[name], value)
    contamination = cell.contamination(pictures.dataset)
    if contamination != cell.content.contamination:
        yield (
            f"contamination is stated as {cell.content.contamination!r}, but its "
            f"training data make it {contamination!r}"
        )


def _unequal(name: str, stated: Any, computed: Any) -> Iterator[str]:
    if isinstance(computed, dict) and isinstance(stated, dict):
        for part, value in computed.items():
            yield from _unequal(f"{name}.{part}", stated.get(part), value)
        return
    if isinstance(computed, list) and isinstance(stated, list) and len(stated) == len(computed):
        for at, pair in enumerate(zip(stated, computed, strict=True)):
            yield from _unequal(f"{name}[{at}]", *pair)
        return
    same = stated == computed
    if all(type(value) in (int, float) for value in (stated, computed)):
        same = math.isclose(stated, computed, rel_tol=0, abs_tol=TOLERANCE)
    if not same:
        yield f"{name} is stated as {stated}, but its ages give {computed}"


def _notable(pictures: BoardSet, cell: BoardCell) -> Iterator[str]:
    seen = cell.content.seen_in_training
    sets = sets_trained_on(cell.spec.trained_sets, cell.spec.trained_on)
    if seen is None and not sets:
        yield "its training data are not known: contamination can't be checked"
    elif (
        seen is not None
        and not seen.count
        and why_contaminated(pictures.dataset, cell.content.scored, None, sets)
    ):
        yield "it was trained on this set, but states that none of these pictures was used"
    if not cell.content.runtime_proven:
        yield "its runtime is only known from the model itself"
    errors = np.abs(pictures.signed_errors(cell.years))
    known = errors[np.isfinite(errors)]
    if len(known) > 50 and float((known < 0.05).mean()) > 0.5:
        yield "more than half of its ages are equal to the label"
