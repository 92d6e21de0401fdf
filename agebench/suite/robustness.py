"""Robustness: errors of the models on changed pictures, by kind and strength of the change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agebench.metrics.intervals import Interval, mean_interval
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
        variant: in its textual form.
        error_years: mean absolute error on the line's pictures, changed.
        interval: of this error.
        cost_years: increase of the error over the unchanged pictures.
        cost_interval: of this increase.
    """

    variant: str
    error_years: float
    interval: Interval | None
    cost_years: float
    cost_interval: Interval | None


@dataclass(frozen=True, slots=True)
class Line:
    """One model under one kind of change, on the same pictures throughout.

    Attributes:
        model: its name.
        n: number of pictures that it gave an age for, unchanged and at every step.
        untouched_years: mean absolute error on these, unchanged.
        steps: by increasing strength.
    """

    model: str
    n: int
    untouched_years: float
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """One kind of change on one set.

    Attributes:
        pictures: the set.
        kind: a key of `agebench.vision.variants.KINDS`, or a name of `CHART_OF`.
        variants: by increasing strength.
        lines: of the measured models.
    """

    pictures: BoardSet
    kind: str
    variants: tuple[str, ...]
    lines: tuple[Line, ...]


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
        drawn = {step.variant for line in lines for step in line.steps}
        steps = tuple(text for text in texts if text in drawn)
        found.append(Chart(pictures, kind, steps, tuple(lines)))
    return found


def _errors(model: BoardModel, pictures: BoardSet, variant: str) -> Floats | None:
    cell = model.cells.get((pictures.key, variant))
    if cell is None or not np.isfinite(cell.years).any():
        return None
    return pictures.signed_errors(cell.years)


def _line(model: BoardModel, pictures: BoardSet, texts: Sequence[str]) -> Line | None:
    found = {text: _errors(model, pictures, text) for text in (UNTOUCHED, *texts)}
    measured = {text: errors for text, errors in found.items() if errors is not None}
    if UNTOUCHED not in measured or len(measured) == 1:
        return None
    rows = np.flatnonzero(np.isfinite(list(measured.values())).all(axis=0))
    if not len(rows):
        return None
    people = pictures.clusters(rows)
    before = np.abs(measured.pop(UNTOUCHED)[rows])
    steps = []
    for text, errors in measured.items():
        after = np.abs(errors[rows])
        steps.append(
            Step(
                text,
                float(after.mean()),
                mean_interval(after, clusters=people),
                float((after - before).mean()),
                mean_interval(after - before, clusters=people, positive=False),
            )
        )
    return Line(model.name, len(rows), float(before.mean()), tuple(steps))
