"""Error against strength: what each way of changing the pictures costs each model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agebench.intervals import Interval, mean_interval
from agebench.suite.board import Board, BoardModel, BoardSet
from agebench.types import Floats
from agebench.vision.variants import KINDS, parse_variant

UNTOUCHED = "untouched"

CHART_OF = {"cover-eyes": "covered", "cover-mouth": "covered", "gray": "covered"}
"""Kinds without a strength, which share a chart."""


@dataclass(frozen=True, slots=True)
class Step:
    """One strength of a change.

    Attributes:
        variant: as it is written.
        strength: in the kind's unit.
        n: pictures that the model gave an age for, as they are and changed alike.
        error_years: mean absolute error on these, changed.
        interval: of it.
        cost_years: by how much that is more than on the same pictures as they are.
        cost_interval: of it.
    """

    variant: str
    strength: float
    n: int
    error_years: float
    interval: Interval | None
    cost_years: float
    cost_interval: Interval | None


@dataclass(frozen=True, slots=True)
class Line:
    """One model under one kind of change: its steps by rising strength."""

    model: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """One kind of change on one set.

    Attributes:
        pictures: the set.
        kind: a key of `agebench.vision.variants.KINDS`, or a name of `CHART_OF`.
        lines: of the models that were asked.
        untouched: by model the error on the pictures as they are.
    """

    pictures: BoardSet
    kind: str
    lines: tuple[Line, ...]
    untouched: dict[str, float]


def charts(board: Board) -> list[Chart]:
    """Return one chart for each set and kind of change, in the order of the kinds."""
    return [chart for pictures in board.changed.values() for chart in _of_set(pictures, board)]


def _of_set(pictures: BoardSet, board: Board) -> list[Chart]:
    variants: dict[str, list[str]] = {}
    for model in board.models:
        for key, text in model.cells:
            if key == pictures.key and text not in ("", UNTOUCHED):
                kind = parse_variant(text).kind
                known = variants.setdefault(CHART_OF.get(kind, kind), [])
                known += [] if text in known else [text]
    order = list(dict.fromkeys(CHART_OF.get(kind, kind) for kind in KINDS))
    found = []
    for kind in (kind for kind in order if kind in variants):
        texts = sorted(variants[kind], key=lambda text: (parse_variant(text).strength, text))
        lines = [line for model in board.models if (line := _line(model, pictures, texts))]
        untouched = {
            line.model: float(np.nanmean(np.abs(errors)))
            for line in lines
            if (errors := _errors(_named(board, line.model), pictures, UNTOUCHED)) is not None
        }
        found.append(Chart(pictures, kind, tuple(lines), untouched))
    return found


def _named(board: Board, name: str) -> BoardModel:
    return next(model for model in board.models if model.name == name)


def _errors(model: BoardModel, pictures: BoardSet, variant: str) -> Floats | None:
    cell = model.cells.get((pictures.key, variant))
    if cell is None or not np.isfinite(cell.years).any():
        return None
    return pictures.signed_errors(cell.years)


def _line(model: BoardModel, pictures: BoardSet, texts: Sequence[str]) -> Line | None:
    before = _errors(model, pictures, UNTOUCHED)
    if before is None:
        return None
    steps = []
    for text in texts:
        after = _errors(model, pictures, text)
        if after is None:
            continue
        rows = np.flatnonzero(np.isfinite(before) & np.isfinite(after))
        if not len(rows):
            continue
        changed, cost = np.abs(after[rows]), np.abs(after[rows]) - np.abs(before[rows])
        people = pictures.clusters(rows)
        steps.append(
            Step(
                text,
                parse_variant(text).strength,
                len(rows),
                float(changed.mean()),
                mean_interval(changed, clusters=people),
                float(cost.mean()),
                mean_interval(cost, clusters=people, positive=False),
            )
        )
    return Line(model.name, tuple(steps)) if steps else None
