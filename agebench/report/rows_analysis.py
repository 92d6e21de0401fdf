"""Tables of calibration, age gates, latency and of what changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agebench.bench.latency import OWN_STAGES
from agebench.bench.ratios import Comparison, compare_pairs
from agebench.report.changes import Change, circumstances
from agebench.report.grid import Cell, Column, Grid
from agebench.report.joining import Entry, Joined, letter
from agebench.report.plots_analysis import gate_thresholds, gates_at
from agebench.report.rows_errors import name_cell
from agebench.report.words import (
    NONE,
    bounds,
    milliseconds,
    number,
    percent,
    share_bounds,
    signed,
)

SHOWN_BUFFERS = (0, 5, 10)
"""Buffers whose figures the table gives; the pictures have all."""


def calibration_grid(joined: Joined) -> Grid | None:
    """Proper scores of the distributions, and what their intervals held; None without any."""
    rows = []
    for entry in joined.entries:
        calibration = None if entry.analysis is None else entry.analysis["calibration"]
        if calibration is None:
            continue
        shares = {point["level"]: point for point in calibration["coverage"]}
        cells = [
            Cell(f"{percent(point['share'])} {share_bounds(point['interval'])}", point["share"])
            if (point := shares.get(level)) is not None
            else Cell(NONE)
            for level in (0.5, 0.8, 0.95)
        ]
        n, nll, crps = (calibration[name] for name in ("n", "nll", "crps_years"))
        scores = [Cell(f"{n:,}", n), Cell(number(nll), nll), Cell(number(crps), crps)]
        rows.append([name_cell(joined, entry), *scores, *cells])
    columns = (
        Column("estimator", numeric=False),
        Column("pictures"),
        Column("NLL", hint="mean of -log of the probability of the true year"),
        Column("CRPS", hint="years; of an estimator that is always sure, the MAE"),
        *(Column(f"in the {level} % interval, %") for level in (50, 80, 95)),
    )
    title = "Distributions: low NLL and CRPS are good"
    return Grid(title, columns, rows, sortable=True) if rows else None


def gate_grids(joined: Joined) -> list[Grid]:
    """Error rates of the age gates at a few buffers, one column per estimator; empty without."""
    passes, stops = [], []
    for threshold in gate_thresholds(joined):
        by_label = {
            entry.label: {gate["buffer_years"]: gate for gate in gates_at(entry, threshold)}
            for entry in joined.scored
        }
        for buffer in SHOWN_BUFFERS:
            gates = {label: found[buffer] for label, found in by_label.items() if buffer in found}
            age = [Cell(number(threshold, 0), threshold), Cell(str(buffer), buffer)]
            if any(gate["minors"] for gate in gates.values()):
                passes.append([*age, *_rates(joined, gates, "false_pass", "minors")])
            if any(gate["adults"] for gate in gates.values()):
                stops.append([*age, *_rates(joined, gates, "false_stop", "adults")])
    hint = "years added to the age: who is estimated below both together is stopped"
    head = (Column("age"), Column("buffer", hint=hint))
    names = [Column(entry.label) for entry in joined.scored]
    tables = (
        ("Minors let pass, % (NIST: false positives)", "minors", passes),
        ("Adults stopped, % (NIST: false negatives)", "adults", stops),
    )
    return [Grid(title, [*head, Column(of), *names], rows) for title, of, rows in tables if rows]


def _rates(
    joined: Joined, gates: Mapping[str, Mapping[str, Any]], name: str, of: str
) -> list[Cell]:
    count = max(gate[of] for gate in gates.values())
    cells = [Cell(f"{count:,}", count)]
    for entry in joined.scored:
        gate = gates.get(entry.label)
        rate = None if gate is None else gate[f"{name}_rate"]
        interval = None if gate is None else gate[f"{name}_interval"]
        cells.append(Cell(f"{percent(rate)} {share_bounds(interval)}".strip(), rate))
    return cells


def _percentiles(times: object) -> list[Cell]:
    samples = np.asarray(times, np.float64)
    if not len(samples):
        return [Cell(NONE, math.inf)] * 3
    values = np.percentile(samples, (50, 90, 99)).tolist()
    return [Cell(milliseconds(value), value) for value in values]


def latency_grid(joined: Joined) -> Grid | None:
    """Percentiles of every stage; None where nothing was timed."""
    rows = []
    for at, result in enumerate(joined.results):
        where = f" ({letter(at)})" if len(joined.results) > 1 else ""
        for stage, times in result.content["shared_latency"].items():
            cells = _percentiles(times["samples_ms"])
            count = len(times["samples_ms"])
            rows.append(
                [Cell(f"all{where}"), Cell(f"{stage}, shared"), Cell(str(count), count), *cells]
            )
    for entry in joined.entries:
        for stage in OWN_STAGES:
            samples = entry.samples_ms(stage)
            if len(samples):
                number_of = Cell(str(len(samples)), len(samples))
                cells = _percentiles(samples)
                rows.append([name_cell(joined, entry), Cell(stage), number_of, *cells])
    columns = (
        Column("estimator", numeric=False),
        Column("stage", numeric=False),
        Column("samples"),
        *(Column(f"{name}, ms") for name in ("p50", "p90", "p99")),
    )
    title = "Milliseconds per picture at batch 1"
    return Grid(title, columns, rows, sortable=True) if rows else None


def _paired_times(joined: Joined) -> list[list[Entry]]:
    """The entries of each result whose times were taken in turns, on the same pictures.

    One that failed on a picture has no time for it, and nobody knows which that is.
    """
    groups: dict[tuple[int, int], list[Entry]] = {}
    for entry in joined.entries:
        times = entry.samples_ms("total")
        if len(times) and (times > 0).all() and not entry.content["failed"]:
            groups.setdefault((entry.result, len(times)), []).append(entry)
    return [group for group in groups.values() if len(group) > 1]


def faster_grid(joined: Joined) -> Grid | None:
    """Who was shown to be faster than whom; None where no times can be set side by side."""
    found: list[Comparison] = []
    groups = _paired_times(joined)
    number_of = sum(math.comb(len(group), 2) for group in groups)
    for group in groups:
        samples = [(entry.label, [entry.samples_ms("total").tolist()]) for entry in group]
        found += compare_pairs(samples, [1], number=number_of)
    rows = [
        [
            Cell(one.first, kind="name"),
            Cell(one.second, kind="name"),
            Cell(number(one.ratio), one.ratio),
            Cell(bounds(one.interval)),
            Cell(one.verdict),
        ]
        for one in found
    ]
    columns = (
        Column("first", numeric=False),
        Column("second", numeric=False),
        Column("ratio", hint="how many times as long the second takes, picture by picture"),
        Column("interval", hint="all of them hold together with 95 %"),
        Column("verdict", numeric=False),
    )
    return (
        Grid("Who is faster, all stages together", columns, rows, sortable=True) if rows else None
    )


def change_grid(changes: Sequence[Change]) -> Grid | None:
    """What became of the estimators of the same name; None where there are none."""
    columns = (
        Column("estimator", numeric=False),
        Column("pictures"),
        Column("MAE in A"),
        Column("MAE in B"),
        Column("B minus A"),
        Column("95 %"),
        Column("B is", numeric=False),
        Column("p50 in A, ms"),
        Column("p50 in B, ms"),
        Column("changed ages"),
    )
    rows = [
        [
            Cell(change.name, kind="name"),
            Cell(f"{change.n:,}", change.n),
            Cell(number(change.before_mae_years), change.before_mae_years),
            Cell(number(change.after_mae_years), change.after_mae_years),
            Cell(signed(_difference(change))),
            Cell(bounds(change.interval)),
            Cell(change.verdict),
            Cell(milliseconds(change.before_p50_ms), change.before_p50_ms),
            Cell(milliseconds(change.after_p50_ms), change.after_p50_ms),
            Cell(f"{change.changed:,}", change.changed),
        ]
        for change in changes
    ]
    title = "From A to B, on the pictures that both gave an age for"
    return Grid(title, columns, rows) if rows else None


def _difference(change: Change) -> float | None:
    if change.before_mae_years is None or change.after_mae_years is None:
        return None
    return change.after_mae_years - change.before_mae_years


def changed_pictures_grid(changes: Sequence[Change]) -> Grid | None:
    """The pictures whose ages changed most; None where none did."""
    columns = (
        Column("estimator", numeric=False),
        Column("picture", numeric=False),
        Column("true"),
        Column("in A"),
        Column("in B"),
    )
    rows = [
        [
            Cell(change.name, kind="name"),
            Cell(picture.image, kind="name"),
            *(
                Cell(number(years, 1), years)
                for years in (picture.true_years, picture.before_years, picture.after_years)
            ),
        ]
        for change in changes
        for picture in change.pictures
    ]
    return Grid("Ages that changed most", columns, rows, sortable=True) if rows else None


def circumstance_grid(joined: Joined) -> Grid | None:
    """What else differs between two results; None where nothing does, or for another number."""
    if len(joined.results) != 2:
        return None
    columns = [Column(title, numeric=False) for title in ("what", "in A", "in B")]
    rows = [
        [Cell(name, kind="name"), *(Cell(value or NONE, kind="wrap") for value in values)]
        for name, *values in circumstances(*joined.results)
    ]
    return Grid("What else differs", columns, rows) if rows else None
