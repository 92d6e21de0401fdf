"""The leaderboard's tables, as grids like those of the report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from agebench.harness.comparability import LABEL_SOURCES
from agebench.metrics.age_errors import METRICS, Metric
from agebench.metrics.number_format import (
    NONE,
    bounds,
    counted,
    milliseconds,
    number,
    of_people,
    percent,
    percent_bounds,
    signed,
)
from agebench.report.grid import Cell, Column, Grid, Note, figure_cell, interval_cell
from agebench.report.svg import key
from agebench.suite.board import Board, BoardModel, BoardSet
from agebench.suite.drawings import CHART_TITLES, model_looks
from agebench.suite.fairness import ADULT_YEARS, Fairness, fairness
from agebench.suite.robustness import Chart
from agebench.suite.standing import SetStanding, Standing
from agebench.suite.times import median_ms

UNRANKED_BELOW = 1000.0
"""Added to the sort key of unranked errors, so that they come after ranked ones."""

SHORT_LABELS = {
    "birth-age": "birth ages",
    "apparent": "guessed ages",
    "dex-estimated": "estimated ages",
    "unknown": "ages of unknown origin",
}


def label_text(pictures: BoardSet) -> str:
    """Return a short description of the labels of a set."""
    if pictures.of_ranges:
        return "guessed ranges of ages"
    return SHORT_LABELS[pictures.dataset.label_kind]


def overview(board: Board, found: Sequence[SetStanding], *, inline: bool = False) -> Grid:
    """Return a table of all models on all sets: errors in years, with ranks within each set.

    Args:
        board: the leaderboard.
        found: the scores of the models.
        inline: put ranks and intervals into the cells instead of notes, for Markdown.
    """
    columns = [Column("model", numeric=False)]
    columns += [
        Column(
            f"{standing.pictures.title} ({label_text(standing.pictures)})",
            hint=f"{standing.pictures.dataset.protocol}; errors over "
            f"{counted(standing.common, 'common picture')}",
        )
        for standing in found
    ]
    columns += [Column(f"{title} (nothing measured)") for title in board.empty_sets.values()]
    columns.append(Column("ms", hint="median of crop plus that of network, one face; see below"))
    rows = [_overview_row(model, board, found, inline=inline) for model in _ordered(board, found)]
    return Grid(
        "Mean absolute error in years; ranks hold within one column", columns, rows, sortable=True
    )


def _ordered(board: Board, found: Sequence[SetStanding]) -> list[BoardModel]:
    """Sort by the first set: ranked models by error, then the others, then those without ages."""

    def sort_key(model: BoardModel) -> tuple[float, str]:
        entry = found[0].models.get(model.name) if found else None
        return (_sorted_by(entry), model.title)

    return sorted(board.models, key=sort_key)


def _sorted_by(entry: Standing | None) -> float:
    if entry is None:
        return math.inf
    return entry.error_years + (UNRANKED_BELOW if entry.rank is None else 0.0)


def _overview_row(
    model: BoardModel, board: Board, found: Sequence[SetStanding], *, inline: bool
) -> list[Cell]:
    style = model_looks(board)[model.name]
    cells = [Cell(model.title, kind="name", key=key(style))]
    for standing in found:
        entry = standing.models.get(model.name)
        if entry is None:
            reason = model.missing.get(standing.pictures.key, "")
            notes = [Note(_shortened(reason))] if reason else []
            cells.append(Cell(NONE, value=math.inf, notes=notes))
            continue
        kind = "strong" if entry.rank == 1 else "out" if entry.rank is None else ""
        text, notes = _error_text(entry), list(_notes(entry))
        if inline:
            rank = "" if entry.rank is None else f", rank {entry.rank}"
            text = f"{text} {bounds(entry.interval)}{rank}".replace("  ", " ")
            notes = [] if entry.rank is not None else notes[:1]
        cells.append(Cell(text, value=_sorted_by(entry), kind=kind, notes=notes))
    cells += [figure_cell(NONE, None) for _ in board.empty_sets]
    ms = median_ms(board, model.name)
    cells.append(figure_cell(milliseconds(ms), ms))
    return cells


def _error_text(entry: Standing) -> str:
    """Put an unranked error in brackets, and mark a suspicion."""
    error = number(entry.error_years)
    if entry.suspected:
        return f"({error}?)"
    return error if entry.rank is not None else f"({error})"


def _shortened(reason: str) -> str:
    first = reason.partition(":")[0] if len(reason) > 60 else reason
    return first if len(first) <= 60 else f"{first[:57]}..."


def _notes(entry: Standing) -> Iterator[Note]:
    if entry.rank is not None:
        yield Note(f"rank {entry.rank}")
    elif entry.contaminated or entry.suspected:
        yield Note(entry.why_unranked, severe=entry.contaminated)
    else:
        yield Note(f"not ranked: {entry.why_unranked}")
    if entry.interval is not None:
        yield Note(bounds(entry.interval))


_OTHER_METRICS = [metric for metric in METRICS if metric.key not in {"mae_years", "bias_years"}]
"""The metrics without a column of their own in a set's table; left out if labels are ranges."""


def set_grid(board: Board, standing: SetStanding) -> Grid:
    """Return a table of one set: all models with every metric, intervals and detectors."""
    metrics = [] if standing.pictures.of_ranges else _OTHER_METRICS
    columns = (
        Column("model", numeric=False),
        Column("rank", hint="1 plus the number of models shown to be better; ties are common"),
        Column("error, years", hint="mean absolute error; for ranges the mean distance to them"),
        Column("95 %", hint="interval of the error"),
        Column("bias", hint="mean of predicted minus true, years"),
        *(Column(metric.title, hint=metric.hint) for metric in metrics),
        Column("with an age", hint="pictures that it gave an age for"),
        Column("detector", numeric=False),
        Column("remark", numeric=False),
    )
    titles = {model.name: model.title for model in board.models}
    rows = []
    for entry in sorted(standing.models.values(), key=_sorted_by):
        style = model_looks(board)[entry.model]
        rows.append(
            [
                Cell(titles[entry.model], kind="name", key=key(style)),
                figure_cell(NONE if entry.rank is None else f"{entry.rank}", entry.rank),
                Cell(_error_text(entry), value=_sorted_by(entry)),
                interval_cell(entry.interval),
                Cell(signed(entry.bias_years), value=entry.bias_years),
                *(_metric_cell(entry, metric) for metric in metrics),
                Cell(f"{entry.answered:,} of {entry.total:,}", value=entry.answered),
                Cell(standing.detectors[entry.model]),
                Cell(entry.why_unranked, kind="wrap"),
            ]
        )
    pictures = of_people(counted(standing.common, "common picture"), standing.people)
    return Grid(f"{standing.pictures.title}: errors over {pictures}", columns, rows, sortable=True)


def _metric_cell(entry: Standing, metric: Metric) -> Cell:
    value = entry.figures.get(metric.key)
    shown = signed if metric.signed else number
    return figure_cell(shown(value, metric.decimals), value)


def fairness_grids(board: Board, standings: Sequence[SetStanding]) -> list[Grid]:
    """Return errors by group, one table for each set and attribute.

    Args:
        board: the leaderboard.
        standings: of all sets, for notes on contaminated models.
    """
    notes = {standing.pictures.key: contamination_notes(standing) for standing in standings}
    grids = []
    for pictures in board.sets:
        by_attribute: dict[str, list[tuple[BoardModel, Fairness]]] = {}
        for model in board.models:
            cell = model.cells.get((pictures.key, ""))
            if cell is None or model.is_constant:
                continue
            for part in fairness(pictures, cell):
                if part.worst is not None:
                    by_attribute.setdefault(part.attribute, []).append((model, part))
        grids += [
            _fairness_grid(pictures, attribute, parts, notes[pictures.key])
            for attribute, parts in by_attribute.items()
        ]
    return grids


def contamination_notes(standing: SetStanding) -> dict[str, Sequence[Note]]:
    """Return notes on models that were trained on a set, or may have been, by name."""
    return {
        name: [Note(entry.why_unranked, severe=entry.contaminated)]
        for name, entry in standing.models.items()
        if entry.contaminated or entry.suspected
    }


def _fairness_grid(
    pictures: BoardSet,
    attribute: str,
    parts: Sequence[tuple[BoardModel, Fairness]],
    model_notes: Mapping[str, Sequence[Note]],
) -> Grid:
    names = [group.name for group in parts[0][1].groups]
    columns = [
        Column("model", numeric=False),
        Column("gap", hint="error of the worst group minus that of the best, years"),
        Column("95 %", hint="interval of the gap between these two groups"),
        Column("worst", numeric=False),
        *(Column(name, hint="mean absolute error; below it the bias") for name in names),
    ]
    rows = []
    for model, part in sorted(parts, key=lambda item: item[1].gap_years or 0.0):
        groups = {group.name: group for group in part.groups}
        row = [
            Cell(model.title, kind="name", notes=model_notes.get(model.name, ())),
            Cell(number(part.gap_years), value=part.gap_years),
            interval_cell(part.gap_interval),
            Cell("" if part.worst is None else part.worst.name),
        ]
        for name in names:
            group = groups[name]
            notes = (
                [] if group.bias_years is None else [Note(f"bias {signed(group.bias_years, 1)}")]
            )
            rates = group.false_adults
            if rates is not None and rates.false_pass_rate is not None:
                rate = f"{percent(rates.false_pass_rate, 0)} % of {rates.minors:,} minors pass"
                notes.append(Note(f"{rate} {percent_bounds(rates.false_pass_interval)}".rstrip()))
            cell = figure_cell(number(group.error_years), group.error_years)
            kind = "strong" if part.worst is not None and name == part.worst.name else ""
            row.append(replace(cell, kind=kind, notes=notes))
        rows.append(row)
    minors = "" if pictures.of_ranges else f"; minors estimated at {ADULT_YEARS} or older"
    return Grid(
        f"{pictures.title} by {attribute}: error, bias{minors}", columns, rows, sortable=True
    )


def cost_grid(board: Board, chart: Chart) -> Grid:
    """Return a table of the increase of each model's error under one kind of change."""
    titles = {model.name: model.title for model in board.models}
    columns = [
        Column("model", numeric=False),
        Column("pictures", hint="that it gave an age for, unchanged and at every step"),
        Column("unchanged", hint="mean absolute error, years"),
        *map(Column, chart.variants),
    ]
    rows = []
    for line in chart.lines:
        steps = {step.variant: step for step in line.steps}
        cells = [
            Cell(titles[line.model], kind="name", key=key(model_looks(board)[line.model])),
            Cell(f"{line.n:,}", value=line.n),
            Cell(number(line.untouched_years), value=line.untouched_years),
        ]
        for variant in chart.variants:
            step = steps.get(variant)
            cost = None if step is None else step.cost_years
            ends = None if step is None else step.cost_interval
            notes = [] if ends is None else [Note(bounds(ends))]
            cells.append(replace(figure_cell(signed(cost), cost), notes=notes))
        rows.append(cells)
    caption = f"{chart.pictures.title}, {CHART_TITLES[chart.kind]}: years that each step adds"
    return Grid(caption, columns, rows, sortable=True)


def model_grid(board: Board) -> Grid:
    """Return a table of the models: terms, training labels, runtime."""
    columns = (
        Column("model", numeric=False),
        Column("reference", numeric=False),
        Column("licence", numeric=False),
        Column("trained on", numeric=False),
        Column("training labels", numeric=False),
        Column("years by", numeric=False),
        Column("runtime", numeric=False),
        Column("weights, sha256", numeric=False),
        Column("notes", numeric=False),
    )
    rows = []
    for model in board.models:
        spec = model.spec
        if spec is None:
            reason = next(iter(model.missing.values()), "")
            cells = [Cell(reason, kind="wrap"), *(Cell(NONE) for _ in columns[3:])]
            rows.append([Cell(model.title, kind="name"), Cell(model.name, kind="wrap"), *cells])
            continue
        runtime = spec.runtime
        learned = spec.label_kind
        weights = "; ".join(f"{item.file} {item.sha256[:12]}" for item in spec.weights)
        rows.append(
            [
                Cell(model.title, kind="name"),
                Cell(model.name, kind="wrap"),
                Cell(spec.licence or NONE, kind="wrap"),
                Cell(spec.trained_on or NONE, kind="wrap"),
                Cell(LABEL_SOURCES.get(learned, learned), kind="wrap"),
                Cell(spec.decode),
                Cell(f"{runtime.called}, {runtime.device}", kind="wrap"),
                Cell(weights or NONE, kind="wrap"),
                Cell("; ".join(spec.notes) or NONE, kind="wrap"),
            ]
        )
    return Grid("The models", columns, rows)
