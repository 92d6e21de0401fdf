"""Tables of errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

from agebench.harness.contents_statistics import Group, Pair
from agebench.metrics.age_classes import ADIENCE_CLASSES
from agebench.metrics.label_accuracy import ClassAccuracy
from agebench.metrics.number_format import NONE, bounds, number, percent, signed
from agebench.report.grid import Cell, Column, Grid
from agebench.report.joining import Entry, Joined
from agebench.report.rows_ranking import name_cell

HEAT_LEVELS = 5
HEAT_END_YEARS = 10.0
"""Bias from which on a cell of the heat map has the full colour, the same in every report."""


def pair_grid(joined: Joined) -> Grid | None:
    """Return all pairs of estimators as a matrix; None without any pair."""
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
    title = "All pairs: MAE of the row minus MAE of the column, years, with its 95 % interval"
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
    shown = pair.verdict.endswith("better")
    verdict = "worse" if difference > 0 else "better"
    if not shown:
        verdict = _SHORT_VERDICTS.get(pair.verdict, "")
    text = " ".join(filter(None, (signed(difference), interval, verdict)))
    return Cell(text, kind="pair shown" if shown else "pair")


_SHORT_VERDICTS = {"no difference shown": "not\u00a0shown", "no verdict": "no\u00a0verdict"}


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
    """Return the figures of each group by estimator label, in the order of the groups."""
    found: dict[tuple[str, str], dict[str, Group]] = {}
    for entry in joined.scored:
        for group in _groups(entry):
            found.setdefault((group.attribute, group.value), {})[entry.label] = group
    return found


def heat_class(bias: float | None) -> str:
    """Return the CSS class of a bias in years: o5 (estimated much too old) to u5 (too young).

    >>> heat_class(9.0), heat_class(-1.5), heat_class(0.2), heat_class(None)
    ('o5', 'u1', 'h0', 'none')
    """
    if bias is None:
        return "none"
    level = min(HEAT_LEVELS, round(abs(bias) / HEAT_END_YEARS * (HEAT_LEVELS + 0.5)))
    return "h0" if level == 0 else f"{'o' if bias > 0 else 'u'}{level}"


def group_grids(joined: Joined) -> list[Grid]:
    """Return signed bias and mean error by group, one column per estimator; empty if no groups."""
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
    """Return the largest number of people in a group's pictures for any estimator; 0 if unknown."""
    return max((group.people or 0 for group in figures.values()), default=0)


def _without_figures(figures: Mapping[str, Group]) -> bool:
    return all(group.mae_years is None for group in figures.values())


def small_groups(joined: Joined) -> list[str]:
    """Return the groups without figures for any estimator, as they have too few pictures."""
    return [
        f"{attribute}: {value}"
        for (attribute, value), figures in groups_by_label(joined).items()
        if _without_figures(figures)
    ]


def _bias_cell(group: Group | None) -> Cell:
    bias = None if group is None else group.bias_years
    return Cell(signed(bias, 1), bias, kind=f"heat {heat_class(bias)}")


def _mean_cell(group: Group | None) -> Cell:
    if group is None or group.mae_years is None:
        return Cell(NONE)
    shown = f"{number(group.mae_years)} {bounds(group.mae_interval)}".strip()
    return Cell(shown, group.mae_years)


def _has_class(classes: ClassAccuracy | None) -> TypeGuard[ClassAccuracy]:
    return classes is not None and classes.exact is not None


def adience_accuracy(entry: Entry) -> ClassAccuracy | None:
    """Return how often one of the eight Adience classes was right; None if it is never known.

    Labels that are ranges have a class too, but no mean error.
    """
    by_known_age = entry.analysis.buckets if entry.analysis else None
    stated = entry.classes if entry.own_classes == ADIENCE_CLASSES else None
    classes = by_known_age if _has_class(by_known_age) else stated
    return classes if _has_class(classes) else None


def class_grid(joined: Joined) -> Grid | None:
    """Return how often the Adience class, or an adjacent one, was right; None if never known."""
    found = [(entry, adience_accuracy(entry)) for entry in joined.entries]
    return _class_grid("The eight Adience classes", joined, found)


def own_class_grid(joined: Joined) -> Grid | None:
    """Return the same of estimators with classes of their own; None if there are none."""
    found = [
        (entry, entry.classes) for entry in joined.entries if entry.own_classes != ADIENCE_CLASSES
    ]
    return _class_grid("Classes of their own", joined, found)


def _class_grid(
    title: str, joined: Joined, found: Iterable[tuple[Entry, ClassAccuracy | None]]
) -> Grid | None:
    rows = [
        [
            name_cell(joined, entry),
            Cell(percent(classes.exact), classes.exact),
            Cell(percent(classes.one_off), classes.one_off),
            *(
                Cell(f"{count:,}", count)
                for count in (classes.n, classes.n_in_gap, classes.n_unclassified)
            ),
        ]
        for entry, classes in found
        if _has_class(classes)
    ]
    columns = (
        Column("estimator", numeric=False),
        Column("right class, %"),
        Column("right or adjacent, %"),
        Column("pictures"),
        Column("in a gap", hint="true age between classes: not counted"),
        Column("without a class", hint="counted as wrong"),
    )
    return Grid(title, columns, rows, sortable=True) if rows else None


def range_grid(joined: Joined) -> Grid | None:
    """Return the scores against labels that are age ranges; None if there are none."""
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
