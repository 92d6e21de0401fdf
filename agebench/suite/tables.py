"""The leaderboard's tables, as grids like those of the report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from agebench.harness.comparability import LABEL_SOURCES
from agebench.metrics.number_format import (
    NONE,
    bounds,
    counted,
    milliseconds,
    number,
    percent,
    percent_bounds,
    signed,
)
from agebench.report.grid import Cell, Column, Grid, Note, figure_cell
from agebench.report.svg import key
from agebench.suite.board import Board, BoardModel, BoardSet
from agebench.suite.drawings import CHART_TITLES
from agebench.suite.fairness import ADULT_YEARS, Fairness, fairness
from agebench.suite.looks import model_looks
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
            f"{one.pictures.title} ({label_text(one.pictures)})",
            hint=f"{one.pictures.dataset.protocol}; errors over "
            f"{counted(one.common, 'common picture')}",
        )
        for one in found
    ]
    columns += [Column(f"{title} (nothing measured)") for title in board.empty_sets.values()]
    columns.append(Column("ms", hint="median of crop and network for a face; more below"))
    rows = [_overview_row(model, board, found, inline=inline) for model in _ordered(board, found)]
    return Grid(
        "Mean absolute error in years; ranks hold within one column", columns, rows, sortable=True
    )


def _ordered(board: Board, found: Sequence[SetStanding]) -> list[BoardModel]:
    """Sort by the first set: ranked models by error, then the others, then those without ages."""

    def place(model: BoardModel) -> tuple[float, str]:
        one = found[0].models.get(model.name) if found else None
        return (_sorted_by(one), model.title)

    return sorted(board.models, key=place)


def _sorted_by(one: Standing | None) -> float:
    if one is None:
        return math.inf
    return one.error_years + (0.0 if one.rank is not None else UNRANKED_BELOW)


def _overview_row(
    model: BoardModel, board: Board, found: Sequence[SetStanding], *, inline: bool
) -> list[Cell]:
    style = model_looks(board)[model.name]
    cells = [Cell(model.title, kind="name", key=key(style))]
    for one in found:
        standing = one.models.get(model.name)
        if standing is None:
            reason = model.missing.get(one.pictures.key, "")
            notes = [Note(_shortened(reason))] if reason else []
            cells.append(Cell(NONE, value=math.inf, notes=notes))
            continue
        kind = "strong" if standing.rank == 1 else "out" if standing.rank is None else ""
        text, notes = _error_text(standing), list(_notes(standing))
        if inline:
            rank = "" if standing.rank is None else f", rank {standing.rank}"
            text = f"{text} {bounds(standing.interval)}{rank}".replace("  ", " ")
            notes = [] if standing.rank is not None else notes[:1]
        cells.append(Cell(text, value=_sorted_by(standing), kind=kind, notes=notes))
    cells += [figure_cell(NONE, None) for _ in board.empty_sets]
    ms = median_ms(board, model.name)
    cells.append(figure_cell(milliseconds(ms), ms))
    return cells


def _error_text(one: Standing) -> str:
    """Put an unranked error in brackets, and mark a suspicion."""
    error = number(one.error_years)
    if one.suspected:
        return f"({error}?)"
    return error if one.rank is not None else f"({error})"


def _shortened(reason: str) -> str:
    first = reason.partition(":")[0] if len(reason) > 60 else reason
    return first if len(first) <= 60 else f"{first[:57]}..."


def _notes(one: Standing) -> Iterator[Note]:
    if one.rank is not None:
        yield Note(f"rank {one.rank}")
    elif one.contaminated or one.suspected:
        yield Note(one.why_unranked, severe=one.contaminated)
    else:
        yield Note(f"not ranked: {one.why_unranked}")
    if one.interval is not None:
        yield Note(bounds(one.interval))


def set_grid(board: Board, one: SetStanding) -> Grid:
    """Return a table of one set: all models with intervals, biases and detectors."""
    columns = (
        Column("model", numeric=False),
        Column("rank", hint="1 plus the number of models shown to be better; ties are common"),
        Column("error, years", hint="mean absolute error; for ranges the mean distance to them"),
        Column("95 %", hint="interval of the error"),
        Column("bias", hint="mean of predicted minus true, years"),
        Column("with an age", hint="pictures that it gave an age for"),
        Column("detector", numeric=False),
        Column("remark", numeric=False),
    )
    titles = {model.name: model.title for model in board.models}
    rows = []
    for standing in sorted(one.models.values(), key=_sorted_by):
        style = model_looks(board)[standing.model]
        rows.append(
            [
                Cell(titles[standing.model], kind="name", key=key(style)),
                figure_cell(NONE if standing.rank is None else f"{standing.rank}", standing.rank),
                Cell(_error_text(standing), value=_sorted_by(standing)),
                Cell(bounds(standing.interval)),
                Cell(signed(standing.bias_years), value=standing.bias_years),
                Cell(f"{standing.answered:,} of {standing.of:,}", value=standing.answered),
                Cell(one.detectors[standing.model]),
                Cell(standing.why_unranked, kind="wrap"),
            ]
        )
    people = "" if one.people is None else f" of {one.people:,} people"
    caption = f"{one.pictures.title}: errors over {counted(one.common, 'common picture')}{people}"
    return Grid(caption, columns, rows, sortable=True)


def fairness_grids(board: Board, standing: Sequence[SetStanding]) -> list[Grid]:
    """Errors by group, one table for each set and attribute.

    Args:
        board: the leaderboard.
        standing: of all sets, for notes on contaminated models.
    """
    remember = {one.pictures.key: remembered(one) for one in standing}
    found: dict[tuple[str, str], list[tuple[BoardModel, Fairness]]] = {}
    sets = {pictures.key: pictures for pictures in board.sets}
    for pictures in board.sets:
        for model in board.models:
            cell = model.cells.get((pictures.key, ""))
            if cell is None or model.is_constant:
                continue
            for part in fairness(pictures, cell):
                if part.worst is not None:
                    found.setdefault((pictures.key, part.attribute), []).append((model, part))
    return [
        _fairness_grid(sets[key], name, parts, remember[key])
        for (key, name), parts in found.items()
    ]


def remembered(one: SetStanding) -> dict[str, Sequence[Note]]:
    """Return by name the models that were trained on a set, or may have been, each with why."""
    return {
        name: [Note(standing.why_unranked, severe=standing.contaminated)]
        for name, standing in one.models.items()
        if standing.contaminated or standing.suspected
    }


def _fairness_grid(
    pictures: BoardSet,
    attribute: str,
    parts: Sequence[tuple[BoardModel, Fairness]],
    remember: Mapping[str, Sequence[Note]],
) -> Grid:
    names = [group.name for group in parts[0][1].groups]
    columns = [
        Column("model", numeric=False),
        Column("gap", hint="error of the worst group less that of the best, years"),
        Column("95 %", hint="interval of the gap, of these two groups"),
        Column("worst", numeric=False),
        *(Column(name, hint="mean absolute error; below it the bias") for name in names),
    ]
    rows = []
    for model, part in sorted(parts, key=lambda item: item[1].gap_years or 0.0):
        groups = {group.name: group for group in part.groups}
        row = [
            Cell(model.title, kind="name", notes=remember.get(model.name, ())),
            Cell(number(part.gap_years), value=part.gap_years),
            Cell(bounds(part.gap_interval)),
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
            error = group.error_years
            value = math.inf if error is None else error
            kind = "strong" if part.worst is not None and name == part.worst.name else ""
            row.append(Cell(number(error), value=value, kind=kind, notes=notes))
        rows.append(row)
    minors = "" if pictures.of_ranges else f"; minors taken for {ADULT_YEARS} or more"
    return Grid(
        f"{pictures.title} by {attribute}: error, bias{minors}", columns, rows, sortable=True
    )


def cost_grid(board: Board, chart: Chart) -> Grid:
    """Return a table of the increase of each model's error under one kind of change."""
    titles = {model.name: model.title for model in board.models}
    columns = [
        Column("model", numeric=False),
        Column("pictures", hint="with an age from it, unchanged and at every step"),
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
            cells.append(Cell(signed(cost), value=math.inf if cost is None else cost, notes=notes))
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
        Column("to know", numeric=False),
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
                Cell(f"{runtime.runtime} {runtime.version}, {runtime.device}", kind="wrap"),
                Cell(weights or NONE, kind="wrap"),
                Cell("; ".join(spec.notes) or NONE, kind="wrap"),
            ]
        )
    return Grid("The models", columns, rows)
