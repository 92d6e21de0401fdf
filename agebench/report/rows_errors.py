"""Tables of how far off the ages are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeGuard

import numpy as np

from agebench.harness.contents_statistics import Group, Pair
from agebench.metrics.age_errors import METRICS, Metric
from agebench.metrics.error_summary import ErrorSummary
from agebench.metrics.label_accuracy import ClassAccuracy
from agebench.metrics.number_format import (
    NONE,
    bounds,
    counted,
    figure,
    milliseconds,
    number,
    of_people,
    percent,
    signed,
)
from agebench.report.cautions import cautions, looks_at_faces
from agebench.report.figures import drawn
from agebench.report.grid import Cell, Column, Grid, figure_cell
from agebench.report.joining import Entry, Joined
from agebench.report.svg import key

_Read: TypeAlias = Callable[[Joined, Entry, ErrorSummary], Cell]


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A column of the ranking.

    Attributes:
        column: its head.
        read: its cell, of an estimator that was available.
        badness: what is least for the best figure, which is set in bold; None for no such.
        of_times: on a busy machine nobody has the best.
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
    interval = errors.mae_interval
    return figure_cell(bounds(interval), None if interval is None else interval.low)


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
"""Figures that stand before the tests; all others follow them."""

_RANKING: Mapping[str, _Ranked] = {
    "mae": _FIGURES["mae"],
    "interval": _Ranked(Column("95 %", hint="interval of the MAE"), _interval, None),
    "bias": _FIGURES["bias"],
    "ms": _Ranked(
        Column("p50, ms", hint="median time per picture, all stages"), _time(50), of_times=True
    ),
    "vs": _Ranked(
        Column("against the first", numeric=False, hint="tested pair by pair, corrected for many"),
        lambda joined, entry, _: Cell(against_first(joined, entry)),
        None,
    ),
    "cs5": _Ranked(
        Column("\u2264 5 years, %", hint="cumulative score CS@5: share at most 5 years off"),
        lambda _joined, _entry, errors: figure_cell(percent(errors.cs[5]), errors.cs[5]),
        lambda share: -share,
    ),
    "misses": _Ranked(
        Column(
            "with misses", hint="MAE on all pictures; one without an age counts with the floor's"
        ),
        _with_misses,
    ),
    **{name: column for name, column in _FIGURES.items() if name not in _FIRST},
    "missing": _Ranked(
        Column("without age", hint="pictures without a face, not to be read, or that it failed on"),
        _without_age,
        None,
    ),
    "p99": _Ranked(
        Column("p99, ms", hint="99 % of the pictures took less"), _time(99), of_times=True
    ),
}

RANKING_COLUMNS: Sequence[str] = tuple(_RANKING)
"""What the ranking's columns after the name are called on the command line, in their order."""

NO_TEST = "not tested"

HEAT_LEVELS = 5
HEAT_END_YEARS = 10.0
"""Bias from which on a cell of the heat map has the full colour: the same in every report."""


def name_cell(joined: Joined, entry: Entry) -> Cell:
    """Return an estimator's name with the mark that it is drawn with."""
    for other, style in drawn(joined):
        if other is entry:
            return Cell(entry.label, kind="name", key=key(style))
    return Cell(entry.label, kind="name")


def ranking(joined: Joined, columns: Sequence[str] | None = None) -> Grid:
    """All estimators, best mean error first; the best figure of a column is in bold.

    Args:
        joined: what it is of.
        columns: some of `RANKING_COLUMNS`, in the order they are to stand; None for all.
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
        if item.badness is not None and not (busy and item.of_times):  # nobody is faster then
            _embolden(rows, judged, at, item.badness)
    heads = [Column("estimator", numeric=False), *(item.column for item in shown)]
    return Grid(f"Error in years on {count}", heads, rows, sortable=True)


def _embolden(
    rows: Sequence[list[Cell]],
    judged: Sequence[int],
    column: int,
    badness: Callable[[float], float],
) -> None:
    """Set the best figure of a column in bold, and those that look the same; of two or more."""
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
    """Say whether an estimator was shown to be worse than the one with the lowest error."""
    first = joined.best
    if entry.mae_years is None:
        return NONE
    if entry.contamination or first is None:
        return "no verdict"
    if entry is first:
        return "only one judged" if joined.judged_alone else "lowest error"
    pair = pair_with_best(joined, entry)
    return "not tested" if pair is None else _verdict(pair, -1 if pair.first == first.label else 1)


def pair_with_best(joined: Joined, entry: Entry) -> Pair | None:
    """Return the test of an estimator against the best one; None where they were not tested."""
    labels = {entry.label, joined.best.label if joined.best is not None else ""}
    pairs = (pair for pair in joined.pairs if {pair.first, pair.second} == labels)
    return next(pairs, None)


def _verdict(pair: Pair, sign: int) -> str:
    """In words, of the pair's one that is not the first; `sign` turns the difference to it."""
    if pair.difference_years is None or not pair.verdict.endswith("better"):
        return str(pair.verdict)
    difference = sign * float(pair.difference_years)
    word = "worse" if difference > 0 else "better"
    # The corrected test may show what an interval that holds 0 does not: signs are kept.
    towards = sign if difference > 0 else -sign
    ends = pair.interval
    shown = "" if ends is None else " " + bounds(sorted(towards * end for end in ends.ends))
    return f"{word} by {number(abs(difference))}{shown}"


def pair_grid(joined: Joined) -> Grid | None:
    """Every two estimators as a matrix; None without any pair."""
    pairs = {(pair.first, pair.second): pair for pair in joined.pairs}
    if not pairs:
        return None
    labels = [
        entry.label for entry in joined.scored if any(entry.label in names for names in pairs)
    ]
    columns = [Column("this one", numeric=False), *(Column(f"than {label}") for label in labels)]
    rows = [
        [Cell(row, kind="name"), *(_against(pairs, row, column) for column in labels)]
        for row in labels
    ]
    title = "Every two: MAE of the row minus that of the column, years, and its 95 % interval"
    return Grid(title, columns, rows, heads=1)


def _against(pairs: Mapping[tuple[str, str], Pair], row: str, column: str) -> Cell:
    if row == column:
        return Cell("")
    sign, pair = 1, pairs.get((row, column))
    if pair is None:
        sign, pair = -1, pairs.get((column, row))
    if pair is None or pair.difference_years is None:
        return Cell(NONE)
    difference = sign * float(pair.difference_years)
    ends = pair.interval
    interval = "" if ends is None else _signed_bounds(sorted(sign * end for end in ends.ends))
    if not pair.verdict.endswith("better"):
        told = _SHORT.get(pair.verdict, "")
        return Cell(" ".join(filter(None, (signed(difference), interval, told))), kind="pair")
    word = "worse" if difference > 0 else "better"
    told = " ".join(filter(None, (signed(difference), interval, word)))
    return Cell(told, kind="pair shown")


_SHORT = {"no difference shown": "not\u00a0shown", "no verdict": "no\u00a0verdict"}


def _signed_bounds(interval: Sequence[float]) -> str:
    return f"[{signed(interval[0])},\u00a0{signed(interval[1])}]"


def _groups(entry: Entry) -> Sequence[Group]:
    if entry.analysis is not None and entry.analysis.groups:
        return entry.analysis.groups
    decades = () if entry.errors is None else entry.errors.by_decade
    return [
        Group(
            attribute="decade",
            value=part.decade,
            n=part.n,
            people=part.people,
            mae_years=part.mae_years,
            mae_interval=part.mae_interval,
            bias_years=part.bias_years,
        )
        for part in decades
    ]


def groups_by_label(joined: Joined) -> dict[tuple[str, str], dict[str, Group]]:
    """Return figures of each group by the estimator's label, in the order of the groups."""
    found: dict[tuple[str, str], dict[str, Group]] = {}
    for entry in joined.scored:
        for group in _groups(entry):
            found.setdefault((group.attribute, group.value), {})[entry.label] = group
    return found


def heat_kind(bias: float | None) -> str:
    """Return the CSS class of a bias in years: o5 (taken for much older) to u5 (younger).

    >>> heat_kind(9.0), heat_kind(-1.5), heat_kind(0.2), heat_kind(None)
    ('o5', 'u1', 'h0', 'none')
    """
    if bias is None:
        return "none"
    level = min(HEAT_LEVELS, round(abs(bias) / HEAT_END_YEARS * (HEAT_LEVELS + 0.5)))
    return "h0" if level == 0 else f"{'o' if bias > 0 else 'u'}{level}"


def group_grids(joined: Joined) -> list[Grid]:
    """Signed bias and mean error of every group, one column per estimator; empty without any."""
    groups = groups_by_label(joined)
    if not groups:
        return []
    labels = [entry.label for entry in joined.scored]
    known = any(_most_people(figures) for figures in groups.values())
    counts = ["pictures", "people"] if known else ["pictures"]
    columns = [Column("group", numeric=False), *map(Column, [*counts, *labels])]
    bias, mean = [], []
    for (attribute, value), figures in groups.items():
        if _without_figures(figures):
            continue
        n = max(group.n for group in figures.values())
        head = [Cell(f"{attribute}: {value}"), Cell(f"{n:,}", n)]
        if known:
            people = _most_people(figures)
            head.append(Cell(f"{people:,}", people))
        bias.append([*head, *(_bias_cell(figures.get(label)) for label in labels)])
        mean.append([*head, *(_mean_cell(figures.get(label)) for label in labels)])
    if not bias:
        return []
    return [
        Grid(title, columns, rows, heads=1 + len(counts))
        for title, rows in (
            ("Signed bias by group: mean of predicted minus true, years", bias),
            ("MAE by group, years, with 95 % intervals", mean),
        )
    ]


def _most_people(figures: Mapping[str, Group]) -> int:
    """How many people are in a group's pictures, of the estimator with most; 0 if not known."""
    return max((group.people or 0 for group in figures.values()), default=0)


def _without_figures(figures: Mapping[str, Group]) -> bool:
    return all(group.mae_years is None for group in figures.values())


def small_groups(joined: Joined) -> list[str]:
    """Return the groups that no estimator has a figure for, as they have too few pictures."""
    return [
        f"{attribute}: {value}"
        for (attribute, value), figures in groups_by_label(joined).items()
        if _without_figures(figures)
    ]


def _bias_cell(group: Group | None) -> Cell:
    bias = None if group is None else group.bias_years
    return Cell(signed(bias, 1), bias, kind=f"heat {heat_kind(bias)}")


def _mean_cell(group: Group | None) -> Cell:
    if group is None or group.mae_years is None:
        return Cell(NONE)
    shown = f"{number(group.mae_years)} {bounds(group.mae_interval)}".strip()
    return Cell(shown, group.mae_years)


def _has_class(classes: ClassAccuracy | None) -> TypeGuard[ClassAccuracy]:
    return classes is not None and classes.exact is not None


def class_grid(joined: Joined) -> Grid | None:
    """How often the Adience class was right, or the one next to it."""
    rows = []
    for entry in joined.entries:  # labels that are ranges have a class, too, but no mean error
        of_analysis = entry.analysis.buckets if entry.analysis else None  # over known ages alone
        classes = of_analysis if _has_class(of_analysis) else entry.content.classes
        if _has_class(classes):
            counts = (classes.n, classes.n_in_gap, classes.n_unclassified)
            rows.append(
                [
                    name_cell(joined, entry),
                    Cell(percent(classes.exact), classes.exact),
                    Cell(percent(classes.one_off), classes.one_off),
                    *(Cell(f"{count:,}", count) for count in counts),
                ]
            )
    columns = (
        Column("estimator", numeric=False),
        Column("right class, %"),
        Column("right or next, %"),
        Column("pictures"),
        Column("in a gap", hint="true age in no class: not counted"),
        Column("without a class", hint="counted as wrong"),
    )
    return Grid("The eight Adience classes", columns, rows, sortable=True) if rows else None


def range_grid(joined: Joined) -> Grid | None:
    """Against labels that are age ranges; None where the data have none."""
    rows = [
        [
            name_cell(joined, entry),
            Cell(percent(ranges.hit_rate), ranges.hit_rate),
            Cell(number(ranges.distance_years), ranges.distance_years),
            Cell(f"{ranges.n:,}", ranges.n),
        ]
        for entry in joined.entries
        if (ranges := entry.ranges) is not None
    ]
    columns = (
        Column("estimator", numeric=False),
        Column("in the range, %"),
        Column("years to the range"),
        Column("pictures"),
    )
    return Grid("Against age ranges", columns, rows, sortable=True) if rows else None
