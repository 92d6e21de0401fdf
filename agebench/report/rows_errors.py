"""Tables of how far off the ages are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from agebench.harness.contents_statistics import Group, Pair
from agebench.metrics.label_accuracy import ClassAccuracy
from agebench.metrics.number_format import (
    NONE,
    bounds,
    number,
    percent,
    signed,
)
from agebench.report.grid import Cell, Column, Grid
from agebench.report.joining import Entry, Joined
from agebench.report.rows_ranking import name_cell

HEAT_LEVELS = 5
HEAT_END_YEARS = 10.0
"""Bias from which on a cell of the heat map has the full colour: the same in every report."""


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
