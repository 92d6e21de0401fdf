"""The tables that ``compare --full`` adds to the ranking, and how the terminal shows them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from agebench.errors import inert
from agebench.metrics.intervals import MINIMUM_PICTURES
from agebench.metrics.number_format import NONE, bounds, number, p_value, percent
from agebench.report.grid import Cell, Column, Grid
from agebench.report.joining import Entry, Joined
from agebench.report.rows_analysis import runtime_cell
from agebench.report.rows_errors import adience_accuracy, own_class_grid, range_grid
from agebench.report.terminal_ranking import in_ascii
from agebench.timing.latency import OWN_STAGES, StageTimes

_PAIR_VERDICTS = {
    "no difference shown": "not shown to differ from",
    "no verdict": "can't be compared with",
}


class _Name:
    """An estimator's name in a cell, broken after hyphens if possible, otherwise anywhere."""

    def __init__(self, name: str) -> None:
        self._name = inert(name)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = max(map(cell_len, re.split("(?<=-)", self._name)))
        return Measurement(longest, cell_len(self._name)).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("\n".join(textwrap.wrap(self._name, max(1, options.max_width))))


def grid_table(grid: Grid) -> Table:
    """Return a grid as a table for the terminal."""
    table = Table(title=grid.caption, title_justify="left", header_style="bold")
    for at, column in enumerate(grid.columns):
        of_estimator = grid.heads and at >= grid.heads
        head = _Name(column.title) if of_estimator else column.title
        table.add_column(head, justify="right" if column.numeric else "left", overflow="fold")
    for row in grid.rows:
        table.add_row(
            *(
                _Name(cell.text)
                if cell.kind == "name"
                else escape(inert(in_ascii(cell.text) if column.numeric else cell.text))
                for cell, column in zip(row, grid.columns, strict=True)
            )
        )
    return table


def full_grids(joined: Joined) -> Iterator[Grid]:
    """Yield the tables of a result, without empty ones."""
    for make in (_pairs, _fractions, _decades, range_grid, own_class_grid, _counts, _times):
        grid = make(joined)
        if grid is not None:
            yield grid


def _available(joined: Joined) -> list[Entry]:
    return [entry for entry in joined.entries if entry.content.available]


def _by_estimator(
    title: str, heads: Sequence[str], joined: Joined, figures: Callable[[Entry], Sequence[str]]
) -> Grid:
    """Return a table with a row for each estimator that was available."""
    columns = [Column("estimator", numeric=False), *map(Column, heads)]
    rows = [
        [Cell(entry.label, kind="name"), *map(Cell, figures(entry))] for entry in _available(joined)
    ]
    return Grid(title, columns, rows)


def _pairs(joined: Joined) -> Grid | None:
    """Return all pairs of estimators: the difference of their errors, and the test of it."""
    rows = []
    for pair in joined.pairs:
        difference, interval = pair.difference_years, pair.interval
        if difference is None:
            continue
        names, ends = [pair.first, pair.second], None if interval is None else interval.ends
        if difference > 0:  # the better one comes first, so that no difference is positive
            names.reverse()
            ends = None if ends is None else (-ends[1], -ends[0])
        verdict = _PAIR_VERDICTS.get(pair.verdict, "better than")
        years = f"{number(-abs(difference))} {bounds(ends)}".rstrip()
        rows.append(
            [Cell(f"{names[0]} {verdict} {names[1]}"), Cell(years), Cell(p_value(pair.p_adjusted))]
        )
    tested = sum(pair.p_adjusted is not None for pair in joined.pairs)
    title = f"Difference in MAE, years (p: paired test, Holm for {tested})"
    columns = (Column("pair", numeric=False), Column("difference [95 %]"), Column("p"))
    return Grid(title, columns, rows) if joined.pairs else None


def _has_errors(joined: Joined) -> bool:
    return any(entry.errors is not None and entry.errors.n for entry in joined.entries)


def _fractions(joined: Joined) -> Grid | None:
    """Return cumulative scores and class accuracy."""

    def figures(entry: Entry) -> Sequence[str]:
        within = () if entry.errors is None else entry.errors.cs.values()
        return [percent(fraction) for fraction in (*within, *_class_fractions(entry))]

    stated = (entry.content.classes for entry in joined.entries)
    if not (_has_errors(joined) or any(classes is not None and classes.n for classes in stated)):
        return None
    title = "Fraction of pictures within k years, and in the right class (%)"
    heads = ("CS@1", "CS@3", "CS@5", "CS@10", "exact", "1-off")
    return _by_estimator(title, heads, joined, figures)


def _class_fractions(entry: Entry) -> tuple[float | None, float | None]:
    """Return the accuracy, exact and within one class, in Adience's eight classes."""
    classes = adience_accuracy(entry)
    return (None, None) if classes is None else (classes.exact, classes.one_off)


def _counts(joined: Joined) -> Grid:
    """Return the numbers of pictures that were scored, missed, failed and clipped."""

    def figures(entry: Entry) -> Sequence[str]:
        item = entry.content
        return [str(count) for count in (item.scored, item.missed, item.failed, item.clipped)]

    title = f"Pictures of {joined.results[0].content.counts.total}"
    return _by_estimator(title, ("scored", "no face", "failed", "clipped"), joined, figures)


def _decades(joined: Joined) -> Grid | None:
    """Return the MAE by decade of true age, one column per estimator."""
    if not _has_errors(joined):
        return None
    entries = _available(joined)
    by_decade = [
        {part.decade: part for part in entry.errors.by_decade} if entry.errors else {}
        for entry in entries
    ]
    decades = {name: part for parts in by_decade for name, part in parts.items()}
    known = any(part.people is not None for part in decades.values())
    heads = ("n", "people") if known else ("n",)
    rows = []
    for decade in sorted(decades, key=lambda name: int(name.split("-")[0])):
        counts = [decades[decade].n, decades[decade].people or 0][: len(heads)]
        means = [parts[decade].mae_years if decade in parts else None for parts in by_decade]
        rows.append(
            [
                Cell(decade),
                *(Cell(str(count)) for count in counts),
                *(Cell(number(mean)) for mean in means),
            ]
        )
    columns = [
        Column("age", numeric=False),
        *map(Column, heads),
        *(Column(entry.label) for entry in entries),
    ]
    caption = "MAE by decade of true age"
    if any(part.n < MINIMUM_PICTURES for part in decades.values()):
        caption += f" (of fewer than {MINIMUM_PICTURES} pictures: {number(None)})"
    return Grid(caption, columns, rows, heads=1 + len(heads))


def _times(joined: Joined) -> Grid | None:
    """Return percentiles by stage; decode and detect are shared."""
    content = joined.results[0].content
    shared = content.shared_latency
    if not shared:
        return None
    title = (
        "Milliseconds per picture at batch 1, p50 / p90 / p99 of "
        f"{len(shared['decode'].samples_ms)}"
    )
    rows = [
        [
            Cell(f"{stage} (shared)"),
            runtime_cell(content.detector, proven=True) if stage == "detect" else Cell(""),
            *(Cell("") for _ in OWN_STAGES[1:]),
            Cell(_percentiles(times)),
        ]
        for stage, times in shared.items()
    ]
    for entry in _available(joined):
        own = (Cell(_percentiles(entry.content.latency.get(stage))) for stage in OWN_STAGES)
        runtime = runtime_cell(entry.spec, proven=entry.content.runtime_proven)
        rows.append([Cell(entry.label, kind="name"), runtime, *own])
    columns = (Column("", numeric=False), Column("runtime"), *map(Column, OWN_STAGES))
    return Grid(title, columns, rows)


def _percentiles(times: StageTimes | None) -> str:
    if times is None or not times.samples_ms:
        return NONE
    values = (times.percentile(percent) for percent in (50, 90, 99))
    return " / ".join(number(value, 1 if (value or 0) < 100 else 0) for value in values)
