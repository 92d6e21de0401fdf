"""The report's tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agebench.metrics.age_errors import CS_YEARS, METRICS
from agebench.metrics.error_summary import ErrorSummary
from agebench.report import context
from agebench.report.cautions import unclipped_errors, unseen_errors
from agebench.report.changes import changes
from agebench.report.escaping import latex, markdown, spreadsheet
from agebench.report.grid import Cell, Grid
from agebench.report.joining import Entry, Joined, letter
from agebench.report.opening import answer, false_adult_grid
from agebench.report.rows_analysis import change_grid, latency_grid
from agebench.report.rows_errors import (
    class_grid,
    group_grids,
    own_class_grid,
    pair_grid,
    range_grid,
)
from agebench.report.rows_ranking import ranking
from agebench.util.files import csv_line


def grids(joined: Joined, columns: Sequence[str] | None = None) -> list[Grid]:
    """Return the tables of Markdown and LaTeX; `columns` are those of the ranking, None for all."""
    found = [
        ranking(joined, columns),
        false_adult_grid(joined),
        range_grid(joined),
        pair_grid(joined),
        change_grid(changes(joined)),
        *group_grids(joined),
        class_grid(joined),
        own_class_grid(joined),
        latency_grid(joined),
    ]
    return [grid for grid in found if grid is not None]


def as_markdown(joined: Joined, columns: Sequence[str] | None = None) -> str:
    """Return the tables with remarks, as GitHub's Markdown."""
    parts = [
        f"# Age estimators on {markdown(joined.dataset.name)}",
        markdown(context.lead(joined)),
    ]
    files = "; ".join(f"{name} is {file}" for name, file in context.files(joined))
    parts += [markdown(f"Results: {files}.")] if files else []
    parts += map(markdown, answer(joined))
    parts.append("\n".join(f"- {markdown(note)}" for note in context.remarks(joined)))
    tables = (
        f"## {markdown(grid.caption)}\n\n{markdown_table(grid)}" for grid in grids(joined, columns)
    )
    return "\n\n".join([*parts, *tables]) + "\n"


def _label(grid: Grid) -> str:
    """Return a table's label for references, from the first words of its caption."""
    caption_words = re.findall("[a-z0-9]+", grid.caption.partition(":")[0].lower())
    return "-".join(("agebench", *caption_words[:5]))


def _letters(grid: Grid) -> dict[str, str]:
    """Return the letter of each note of a table: a, b, ..."""
    return {note: letter(at).lower() for at, note in enumerate(grid.notes)}


def markdown_table(grid: Grid) -> str:
    """Return one table, with the notes on its cells below it."""
    head = [markdown(column.title) for column in grid.columns]
    rule = ["---:" if column.numeric else "---" for column in grid.columns]
    letters = _letters(grid)

    def marked(cell: Cell) -> str:
        marks = ",".join(letters[note.text] for note in cell.notes)
        return markdown(cell.text) + (f"<sup>{marks}</sup>" if marks else "")

    rows = [[marked(cell) for cell in row] for row in grid.rows]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
    notes = (f"<sup>{mark}</sup> {markdown(note)}." for note, mark in letters.items())
    return "\n\n".join([lines, *notes])


def as_latex(joined: Joined, columns: Sequence[str] | None = None) -> str:
    """Return the tables for a LaTeX document that uses the packages booktabs and textcomp."""
    head = (
        "% Tables of agebench; in the preamble: \\usepackage[T1]{fontenc} "
        "\\usepackage{booktabs,textcomp}\n"
        "% Names in scripts other than Latin need XeLaTeX or LuaLaTeX.\n"
    )
    return head + "\n".join(_latex_table(grid) for grid in grids(joined, columns))


def _latex_table(grid: Grid) -> str:
    columns = "".join("r" if column.numeric else "l" for column in grid.columns)
    letters = _letters(grid)

    def marked(cell: Cell) -> str:
        marks = ",".join(letters[note.text] for note in cell.notes)
        return latex(cell.text) + (rf"\textsuperscript{{{marks}}}" if marks else "")

    def line(cells: Sequence[Cell]) -> str:
        return " & ".join(map(marked, cells)) + r" \\"

    notes = [rf"\textsuperscript{{{mark}}} {latex(note)}." for note, mark in letters.items()]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{latex(grid.caption)}}}",
            rf"\label{{tab:{_label(grid)}}}",
            r"\centering\small",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            line([Cell(column.title) for column in grid.columns]),
            r"\midrule",
            *map(line, grid.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\raggedright\footnotesize {note}" for note in notes),
            r"\end{table}",
            "",
        ]
    )


def _from_errors(name: str) -> Callable[[Entry], Any]:
    return lambda entry: None if entry.errors is None else getattr(entry.errors, name)


def _end(name: str) -> Callable[[Entry], Any]:
    def read(entry: Entry) -> Any:
        interval = None if entry.errors is None else entry.errors.mae_interval
        return None if interval is None else getattr(interval, name)

    return read


def _score(years: int) -> Callable[[Entry], Any]:
    return lambda entry: None if entry.errors is None else entry.errors.cs[years]


def _count(name: str) -> Callable[[Entry], Any]:
    return lambda entry: getattr(entry.content, name) if entry.content.available else None


def _range_figure(name: str) -> Callable[[Entry], Any]:
    return lambda entry: None if entry.ranges is None else getattr(entry.ranges, name)


def _percentile(stage: str, percent: int) -> Callable[[Entry], Any]:
    def read(entry: Entry) -> float | None:
        samples = entry.samples_ms(stage)
        return float(np.percentile(samples, percent)) if len(samples) else None

    return read


def _part(
    summarise: Callable[[Joined, Entry], ErrorSummary | None], name: str
) -> Callable[[Joined, Entry], Any]:
    def read(joined: Joined, entry: Entry) -> Any:
        errors = summarise(joined, entry) if entry.content.available else None
        return None if errors is None else getattr(errors, name)

    return read


PARTS: dict[str, Callable[[Joined, Entry], Any]] = {
    "contamination": lambda _joined, entry: entry.contamination or None,
    "unseen_n": _part(unseen_errors, "n"),
    "unseen_mae_years": _part(unseen_errors, "mae_years"),
    "unclipped_n": _part(unclipped_errors, "n"),
    "unclipped_mae_years": _part(unclipped_errors, "mae_years"),
    "trained_label_kind": lambda _joined, entry: (
        None if entry.content.spec is None else entry.content.spec.label_kind
    ),
    "label_kind": lambda joined, _entry: joined.dataset.label_kind,
}
"""Columns of the summary that qualify its errors."""

SUMMARY: dict[str, Callable[[Entry], Any]] = {
    "estimator": lambda entry: entry.label,
    "n": _from_errors("n"),
    "mae_years": _from_errors("mae_years"),
    "mae_low_years": _end("low"),
    "mae_high_years": _end("high"),
    "mae_with_misses_years": lambda entry: entry.mae_with_misses_years,
    **{metric.key: _from_errors(metric.key) for metric in METRICS},
    **{f"cs{years}": _score(years) for years in CS_YEARS},
    "n_ranges": _range_figure("n"),
    "range_hit_rate": _range_figure("hit_rate"),
    "range_distance_years": _range_figure("distance_years"),
    **{name: _count(name) for name in ("scored", "missed", "failed", "clipped")},
    **{
        f"p{percent}_{stage}_ms": _percentile(stage, percent)
        for stage in ("crop", "infer", "total")
        for percent in (50, 90, 99)
    },
}
"""Columns of the summary, and functions that read them; figures are not rounded."""


def summary(joined: Joined) -> list[dict[str, Any]]:
    """Return one row per estimator, best first, with unrounded figures."""
    return [
        {
            **{name: read(entry) for name, read in SUMMARY.items()},
            **{name: read(joined, entry) for name, read in PARTS.items()},
        }
        for entry in joined.entries
    ]


def as_csv(joined: Joined) -> str:
    """Return the summary as CSV with a header; no cell is read as a formula by spreadsheets."""
    rows = [
        csv_line(spreadsheet(value) if isinstance(value, str) else value for value in row.values())
        for row in summary(joined)
    ]
    return csv_line([*SUMMARY, *PARTS]) + "".join(rows)
