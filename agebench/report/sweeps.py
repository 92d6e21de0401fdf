"""Figures and tables of the batch sweeps of `agebench bench`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from agebench.benchmark.contents import Batch, Swept
from agebench.metrics.number_format import milliseconds, number
from agebench.report.drawn_names import Named, name_lines, right_margin
from agebench.report.figures import MAX_DRAWN, Figure, direct_names, drawn
from agebench.report.grid import NO_KEY, Cell, Column, Grid, figure_cell
from agebench.report.joining import Joined
from agebench.report.reading import SweepFile
from agebench.report.rows_analysis import ratio_cells, ratio_columns
from agebench.report.svg import Axis, Drawing, Look, key, log_axis, look

MIN_RATE = 1e-3

_Swept: TypeAlias = tuple[Swept, Look, Sequence[Batch]]
"""An estimator's entry, its style, and its times by batch size."""


def looks(sweep: SweepFile, joined: Joined) -> dict[str, Look]:
    """Return the styles of its estimators, which are the same as in the report's other figures."""
    known = {entry.label: style for entry, style in drawn(joined)}
    names = [item.name for item in sweep.content.estimators]
    new = [name for name in names if name not in known]
    fresh = {name: look(len(known) + at) for at, name in enumerate(new)}
    return {name: known.get(name) or fresh[name] for name in names[:MAX_DRAWN]}


def sweep_figures(sweep: SweepFile, joined: Joined) -> list[Figure]:
    """Return throughput and time per call against the batch size; empty without any times."""
    parts = [
        (item, style, rows)
        for item in sweep.content.estimators
        if (style := looks(sweep, joined).get(item.name)) is not None
        and (rows := sorted(_timed(item), key=lambda row: int(row.batch)))
    ]
    if not parts:
        return []
    return [
        _figure(parts, "faces per second", "Throughput", lambda row: float(row.faces_per_s)),
        _figure(
            parts,
            "milliseconds per call, median",
            "Time per call",
            lambda row: float(np.median(row.samples_ms)),
        ),
    ]


def _timed(item: Swept) -> list[Batch]:
    return [row for row in item.batch_sweep if row.samples_ms]


def _figure(
    parts: Sequence[_Swept], label: str, title: str, read: Callable[[Batch], float]
) -> Figure:
    lines = [
        (
            item.name,
            style,
            np.asarray([row.batch for row in rows], np.float64),
            np.maximum([read(row) for row in rows], MIN_RATE),
        )
        for item, style, rows in parts
    ]
    batches = sorted({float(batch) for _, _, sizes, _ in lines for batch in sizes})
    low = min(float(values.min()) for *_, values in lines)
    high = max(float(values.max()) for *_, values in lines)
    names = direct_names(name for name, *_ in lines)
    drawing = Drawing(_batch_axis(batches), log_axis(label, low, high), right=right_margin(names))
    for _, style, sizes, values in lines:
        drawing.line(sizes, values, style)
        drawing.marks(sizes, values, style)
    if names:
        ends = [
            Named(names[name], style, float(sizes[-1]), float(values[-1]))
            for name, style, sizes, values in lines
        ]
        name_lines(drawing, ends)
    description = "; ".join(
        f"{name}: {number(values[0], 1)} at batch {sizes[0]:g}, "
        f"{number(values[-1], 1)} at batch {sizes[-1]:g}"
        for name, _, sizes, values in lines
    )
    return Figure(drawing.svg(f"{title} by batch size, {label}. {description}."), title=title)


def _batch_axis(batches: list[float]) -> Axis:
    low, high = batches[0], max(batches[-1], batches[0] * 2)
    ticks = [batches[0]]
    for batch in batches[1:]:
        # The text of closer ticks would overlap.
        if batch / ticks[-1] >= (high / low) ** 0.08:
            ticks.append(batch)
    return Axis("batch size", low, high, tuple((tick, f"{tick:g}") for tick in ticks), log=True)


def sweep_grids(sweep: SweepFile, joined: Joined) -> list[Grid]:
    """Return times and throughput by batch size, and which estimators were shown to be faster."""
    columns = (
        Column("estimator", numeric=False),
        Column("batch"),
        Column("rounds"),
        *(Column(f"{name}, ms", hint="per call") for name in ("p50", "p90", "p99")),
        Column("faces/s"),
        Column("roofline, ms", hint="minimum time for the operations and bytes on this machine"),
    )
    styles = looks(sweep, joined)
    rows = []
    for item in sweep.content.estimators:
        style = styles.get(item.name)
        name = Cell(item.name, kind="name", key=NO_KEY if style is None else key(style))
        for row in _timed(item):
            times = np.percentile(row.samples_ms, (50, 90, 99)).tolist()
            roofline, rate = row.roofline_ms, row.faces_per_s
            rows.append(
                [
                    name,
                    Cell(f"{row.batch:,}", row.batch),
                    Cell(str(len(row.samples_ms)), len(row.samples_ms)),
                    *(Cell(milliseconds(value), value) for value in times),
                    Cell(milliseconds(rate), rate),
                    figure_cell(milliseconds(roofline), roofline),
                ]
            )
    found = [Grid("Crop and infer, by batch size", columns, rows, sortable=True)]
    if sweep.content.comparisons:
        found.append(_ratio_grid(sweep))
    return found


def _ratio_grid(sweep: SweepFile) -> Grid:
    columns = [Column("batch"), *ratio_columns("time of the second over that of the first")]
    rows = [
        [Cell(f"{pair.batch:,}", pair.batch), *ratio_cells(pair)]
        for pair in sweep.content.comparisons
    ]
    return Grid("Which is faster, by batch size", columns, rows, sortable=True)
