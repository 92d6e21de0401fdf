"""The ranking: the errors of all estimators, and their tests against the best one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from agebench.harness.contents_statistics import Pair
from agebench.metrics.age_errors import METRICS, Metric
from agebench.metrics.error_summary import ErrorSummary
from agebench.metrics.number_format import (
    NONE,
    bounds,
    counted,
    figure,
    milliseconds,
    number,
    of_people,
    percent,
)
from agebench.report.cautions import cautions, looks_at_faces
from agebench.report.figures import drawn
from agebench.report.grid import Cell, Column, Grid, figure_cell, interval_cell
from agebench.report.joining import Entry, Joined
from agebench.report.svg import key

_Read: TypeAlias = Callable[[Joined, Entry, ErrorSummary], Cell]


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A column of the ranking.

    Attributes:
        column: its heading.
        read: returns the cell of an estimator that was available.
        badness: of a figure; the lowest is the best, which is set in bold.  None for no best.
        of_times: whether it has times, which have no best on a busy machine.
    """

    column: Column
    read: _Read
    badness: Callable[[float], float] | None = abs
    of_times: bool = False


def _ranked_by(metric: Metric) -> _Ranked:
    def read(_joined: Joined, _entry: Entry, errors: ErrorSummary) -> Cell:
        return figure_cell(figure(errors, metric), errors.figure(metric))

    return _Ranked(Column(metric.title, hint=metric.hint), read)


def _interval(_joined: Joined, _entry: Entry, errors: ErrorSummary) -> Cell:
    return interval_cell(errors.mae_interval)


def _with_misses(_joined: Joined, entry: Entry, _errors: ErrorSummary) -> Cell:
    value = entry.mae_with_misses_years
    return figure_cell(number(value), value)


def _without_age(_joined: Joined, entry: Entry, _errors: ErrorSummary) -> Cell:
    count = entry.content.missed + entry.content.failed
    return Cell(f"{count:,}", count)


def _time(percentile: float) -> _Read:
    def read(_joined: Joined, entry: Entry, _errors: ErrorSummary) -> Cell:
        times = entry.samples_ms("total")
        value = float(np.percentile(times, percentile)) if len(times) else None
        return figure_cell(milliseconds(value), value)

    return read


_FIGURES = {metric.name: _ranked_by(metric) for metric in METRICS}
_FIRST = ("mae", "bias")
"""Metrics whose columns come before the tests; the others come after them."""

_RANKING: Mapping[str, _Ranked] = {
    "mae": _FIGURES["mae"],
    "interval": _Ranked(Column("95 %", hint="interval of the MAE"), _interval, None),
    "bias": _FIGURES["bias"],
    "ms": _Ranked(
        Column("p50, ms", hint="median time per picture, all stages"), _time(50), of_times=True
    ),
    "vs": _Ranked(
        Column("against the first", numeric=False, hint="paired tests, corrected for their number"),
        lambda joined, entry, _: Cell(against_first(joined, entry)),
        None,
    ),
    "cs5": _Ranked(
        Column("\u2264 5 years, %", hint="cumulative score CS@5: errors of at most 5 years"),
        lambda _joined, _entry, errors: figure_cell(percent(errors.cs[5]), errors.cs[5]),
        lambda fraction: -fraction,
    ),
    "misses": _Ranked(
        Column(
            "with misses", hint="MAE on all pictures; without an age, the baseline's error counts"
        ),
        _with_misses,
    ),
    **{name: column for name, column in _FIGURES.items() if name not in _FIRST},
    "missing": _Ranked(
        Column("without age", hint="pictures without a face, unreadable, or that it failed on"),
        _without_age,
        None,
    ),
    "p99": _Ranked(
        Column("p99, ms", hint="99 % of the pictures took less"), _time(99), of_times=True
    ),
}

RANKING_COLUMNS: Sequence[str] = tuple(_RANKING)
"""Names of the ranking's columns on the command line, in their order, without the first."""

NO_TEST = "not tested"


def name_cell(joined: Joined, entry: Entry) -> Cell:
    """Return an estimator's name with the mark that it is drawn with."""
    for other, style in drawn(joined):
        if other is entry:
            return Cell(entry.label, kind="name", key=key(style))
    return Cell(entry.label, kind="name")


def ranking(joined: Joined, columns: Sequence[str] | None = None) -> Grid:
    """Return all estimators, best mean error first; the best figure of a column is in bold.

    Args:
        joined: the results.
        columns: some of `RANKING_COLUMNS`, in any order; None for all.
    """
    shown = [_RANKING[name] for name in columns or RANKING_COLUMNS]
    rows = [_ranked(joined, entry, shown) for entry in joined.entries]
    count = of_people(counted(int(joined.rows.sum()), "common picture"), joined.number_of_people)
    judged = [
        at
        for at, entry in enumerate(joined.entries)
        if entry.mae_years is not None and not entry.contamination and looks_at_faces(entry)
    ]
    busy = any(result.too_busy for result in joined.results)
    for at, item in enumerate(shown, start=1):
        if item.badness is not None and not (busy and item.of_times):
            _embolden(rows, judged, at, item.badness)
    heads = [Column("estimator", numeric=False), *(item.column for item in shown)]
    return Grid(f"Error in years on {count}", heads, rows, sortable=True)


def _embolden(
    rows: Sequence[list[Cell]],
    judged: Sequence[int],
    column: int,
    badness: Callable[[float], float],
) -> None:
    """Set the best of two or more figures of a column in bold, and those displayed the same."""
    values = {
        at: badness(value)
        for at in judged
        if isinstance(value := rows[at][column].value, (int, float)) and math.isfinite(value)
    }
    if len(values) < 2:
        return
    best = rows[min(values, key=lambda at: values[at])][column].text
    for at in values:
        if rows[at][column].text == best:
            rows[at][column] = replace(rows[at][column], kind="strong")


def _ranked(joined: Joined, entry: Entry, shown: Sequence[_Ranked]) -> list[Cell]:
    errors = entry.errors
    if errors is None:
        cells = [figure_cell(NONE, None) for _ in shown]
        for at, item in enumerate(shown):
            if item is _RANKING["mae"]:
                cells[at] = figure_cell("not available", None)
        return [name_cell(joined, entry), *cells]
    name = replace(name_cell(joined, entry), notes=cautions(joined, entry))
    return [name, *(item.read(joined, entry, errors) for item in shown)]


def against_first(joined: Joined, entry: Entry) -> str:
    """Return whether an estimator was shown to be worse than the one with the lowest error."""
    first = joined.best
    if entry.mae_years is None:
        return NONE
    if entry.contamination or first is None:
        return "no verdict"
    if entry is first:
        return "only one judged" if joined.judged_alone else "lowest error"
    pair = pair_with_best(joined, entry)
    return NO_TEST if pair is None else _verdict(pair, -1 if pair.first == first.label else 1)


def pair_with_best(joined: Joined, entry: Entry) -> Pair | None:
    """Return the test of an estimator against the best one; None if they were not tested."""
    labels = {entry.label, joined.best.label if joined.best is not None else ""}
    pairs = (pair for pair in joined.pairs if {pair.first, pair.second} == labels)
    return next(pairs, None)


def _verdict(pair: Pair, sign: int) -> str:
    """Return the verdict on the one that is not the best; `sign` turns the difference to it."""
    if pair.difference_years is None or not pair.verdict.endswith("better"):
        return str(pair.verdict)
    difference = sign * float(pair.difference_years)
    worse = difference > 0
    # The signs of the ends are kept, as the corrected test may be significant while the interval
    # contains 0.
    direction = sign if worse else -sign
    ends = pair.interval
    interval = "" if ends is None else " " + bounds(sorted(direction * end for end in ends.ends))
    return f"{'worse' if worse else 'better'} by {number(abs(difference))}{interval}"
