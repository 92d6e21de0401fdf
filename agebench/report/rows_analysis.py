"""Tables of calibration, age thresholds, latency, and changes between results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from agebench.harness.contents_setup import Model
from agebench.metrics.age_thresholds import ThresholdRates
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
from agebench.report.changes import Change, circumstances
from agebench.report.grid import Cell, Column, Grid, figure_cell, interval_cell
from agebench.report.joining import Joined, letter
from agebench.report.plots_analysis import rates_at, threshold_ages
from agebench.report.rows_ranking import name_cell
from agebench.timing.latency import OWN_STAGES
from agebench.timing.pairs import STAGE
from agebench.timing.ratios import MIN_RATIO_OF_ONE_LOAD, Comparison, compare_speeds
from agebench.types import Floats

SHOWN_BUFFERS = (0, 5, 10)
"""Buffers in the tables, in years; the figures show all."""


def calibration_grid(joined: Joined) -> Grid | None:
    """Return proper scores of the distributions, and coverage of their intervals; None if none."""
    rows = []
    for entry in joined.entries:
        calibration = None if entry.analysis is None else entry.analysis.calibration
        if calibration is None:
            continue
        points = {point.level: point for point in calibration.coverage}
        cells = [
            Cell(f"{percent(point.fraction)} {percent_bounds(point.interval)}", point.fraction)
            if (point := points.get(level)) is not None
            else Cell(NONE)
            for level in (0.5, 0.8, 0.95)
        ]
        n, nll, crps = calibration.n, calibration.nll, calibration.crps_years
        scores = [Cell(f"{n:,}", n), Cell(number(nll), nll), Cell(number(crps), crps)]
        rows.append([name_cell(joined, entry), *scores, *cells])
    columns = (
        Column("estimator", numeric=False),
        Column("pictures"),
        Column("NLL", hint="mean of -log of the probability of the true year"),
        Column("CRPS", hint="years; for an estimator without spread, the same as the MAE"),
        *(Column(f"in the {level} % interval, %") for level in (50, 80, 95)),
    )
    title = "Distributions: low NLL and CRPS are good"
    return Grid(title, columns, rows, sortable=True) if rows else None


_SIDES = {"minors": "below the age", "adults": "of the age or older"}
"""Headings of the counts: at a threshold of 25, a person of 24 is below it but not a minor."""


def threshold_grids(joined: Joined) -> list[Grid]:
    """Return error rates at some buffers per age threshold, by estimator; may be empty."""
    passes, stops = [], []
    for threshold in threshold_ages(joined):
        by_label = {
            entry.label: {rates.buffer_years: rates for rates in rates_at(entry, threshold)}
            for entry in joined.scored
        }
        for buffer in SHOWN_BUFFERS:
            rates = {label: found[buffer] for label, found in by_label.items() if buffer in found}
            age = [Cell(number(threshold, 0), threshold), Cell(str(buffer), buffer)]
            if _any_rate(rates.values(), "false_pass"):
                passes.append([*age, *_rates(joined, rates, "false_pass", "minors")])
            if _any_rate(rates.values(), "false_stop"):
                stops.append([*age, *_rates(joined, rates, "false_stop", "adults")])
    hint = "years added to the age: people estimated below the sum are stopped"
    head = (Column("age"), Column("buffer", hint=hint))
    names = [Column(entry.label) for entry in joined.scored]
    tables = (
        ("Below the age and passed, % (NIST: false positives)", "minors", passes),
        ("Of the age or older and stopped, % (NIST: false negatives)", "adults", stops),
    )
    return [
        Grid(title, [*head, Column(_SIDES[side]), *names], rows, heads=len(head) + 1)
        for title, side, rows in tables
        if rows
    ]


def thresholds_without_rate(joined: Joined) -> list[str]:
    """Return the sides of thresholds with too few pictures for a rate, with their numbers."""
    descriptions = []
    for threshold in threshold_ages(joined):
        found = [rates for entry in joined.scored for rates in rates_at(entry, threshold)]
        age = number(threshold, 0)
        for description, name, side in (
            (f"below {age}", "false_pass", "minors"),
            (f"{age} or older", "false_stop", "adults"),
        ):
            if found and not _any_rate(found, name):
                descriptions.append(
                    f"{description} ({max(getattr(rates, side) for rates in found):,})"
                )
    return descriptions


def _any_rate(found: Iterable[ThresholdRates], name: str) -> bool:
    return any(getattr(rates, f"{name}_rate") is not None for rates in found)


def _rates(joined: Joined, found: Mapping[str, ThresholdRates], name: str, side: str) -> list[Cell]:
    count = max(getattr(rates, side) for rates in found.values())
    counts = [getattr(rates, f"{side.removesuffix('s')}_people") for rates in found.values()]
    people = max((number for number in counts if number is not None), default=None)
    pictures = f"{count:,}" if people is None else of_people(counted(count, "picture"), people)
    cells = [Cell(pictures, count)]
    for entry in joined.scored:
        rates = found.get(entry.label)
        rate = None if rates is None else getattr(rates, f"{name}_rate")
        interval = None if rates is None else getattr(rates, f"{name}_interval")
        cells.append(Cell(f"{percent(rate)} {percent_bounds(interval)}".strip(), rate))
    return cells


def _percentiles(samples_ms: Sequence[float] | Floats) -> list[Cell]:
    """Return the number of samples, and their percentiles."""
    count = Cell(str(len(samples_ms)), len(samples_ms))
    if not len(samples_ms):
        return [count, *([figure_cell(NONE, None)] * 3)]
    values = np.percentile(samples_ms, (50, 90, 99)).tolist()
    return [count, *(Cell(milliseconds(value), value) for value in values)]


def runtime_cell(model: Model, *, proven: bool) -> Cell:
    """Return the runtime and device of a model, and whether they were verified."""
    runtime = model.runtime
    return Cell(f"{runtime.runtime} {runtime.device}{'' if proven else ' (unverified)'}")


def latency_grid(joined: Joined) -> Grid | None:
    """Return percentiles of every stage; None if nothing was timed."""
    rows = []
    for at, result in enumerate(joined.results):
        where = f" ({letter(at)})" if len(joined.results) > 1 else ""
        detector = result.content.detector
        for stage, times in result.content.shared_latency.items():
            runtime = (
                runtime_cell(detector, proven=detector.runtime_proven)
                if stage == "detect"
                else Cell(NONE)
            )
            row = [Cell(f"all{where}"), Cell(f"{stage}, shared"), runtime]
            rows.append([*row, *_percentiles(times.samples_ms)])
    for entry in joined.entries:
        for stage in OWN_STAGES:
            samples = entry.samples_ms(stage)
            if len(samples):
                runtime = (
                    runtime_cell(entry.spec, proven=entry.content.runtime_proven)
                    if stage != "crop"
                    else Cell(NONE)
                )
                row = [name_cell(joined, entry), Cell(stage), runtime]
                rows.append([*row, *_percentiles(samples)])
    columns = (
        Column("estimator", numeric=False),
        Column("stage", numeric=False),
        Column("runtime", numeric=False),
        Column("samples"),
        *(Column(f"{name}, ms") for name in ("p50", "p90", "p99")),
    )
    title = "Milliseconds per picture at batch 1"
    return Grid(title, columns, rows, sortable=True) if rows else None


def _compared_times(joined: Joined) -> Iterator[Comparison]:
    """Yield all pairs of estimators of each result with a control, with joint intervals.

    Files of version 1 have no control, so differences may be due to a busy machine.
    """
    timed = [(at, result.content.timing) for at, result in enumerate(joined.results)]
    number_of = sum(len(timing.comparisons) for _, timing in timed if timing)
    for at, timing in timed:
        if not timing or not timing.comparisons:
            continue
        # The pairs of n estimators begin with the n - 1 of the first one.
        names = [timing.comparisons[0].first]
        names += [pair.second for pair in timing.comparisons if pair.first == names[0]]
        entries = {entry.name: entry for entry in joined.entries if entry.result == at}
        samples = [(entries[name].label, entries[name].samples_ms(STAGE)) for name in names]
        lengths = {len(times) for _, times in samples}
        if len(lengths) > 1 or not all(len(times) and (times > 0).all() for _, times in samples):
            continue  # an edited file, whose times are not of the same pictures
        yield from compare_speeds(
            samples,
            1,
            timing.control,
            number=number_of,
            busy=timing.too_busy,
            minimum_ratio=MIN_RATIO_OF_ONE_LOAD,
        )


def faster_grid(joined: Joined) -> Grid | None:
    """Return which estimators were shown to be faster; None if no times can be compared."""
    rows = [ratio_cells(pair) for pair in _compared_times(joined)]
    columns = ratio_columns("time of the second over that of the first, picture by picture")
    return Grid("Which is faster, all stages together", columns, rows, True) if rows else None


def ratio_columns(hint: str) -> list[Column]:
    """Return the columns of `ratio_cells`; `hint` explains the ratio."""
    return [
        Column("first", numeric=False),
        Column("second", numeric=False),
        Column("ratio", hint=hint),
        Column("interval", hint="all intervals hold jointly at 95 %"),
        Column("verdict", numeric=False),
    ]


def ratio_cells(pair: Comparison) -> list[Cell]:
    """Return the comparison of two estimators' speeds."""
    return [
        Cell(pair.first, kind="name"),
        Cell(pair.second, kind="name"),
        Cell(number(pair.ratio), pair.ratio),
        interval_cell(pair.interval, NONE),
        Cell(": ".join(filter(None, (pair.verdict, pair.reason)))),
    ]


def change_grid(changes: Sequence[Change]) -> Grid | None:
    """Return the changes of the estimators in both results; None if there are none."""
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
    """Return the pictures whose ages changed most; None if none did."""
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
            Cell(picture.picture, kind="name"),
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
    """Return what else differs between two results; None without differences or two results."""
    if len(joined.results) != 2:
        return None
    columns = [Column(title, numeric=False) for title in ("what", "in A", "in B")]
    rows = [
        [Cell(name, kind="name"), *(Cell(value or NONE, kind="wrap") for value in values)]
        for name, *values in circumstances(*joined.results)
    ]
    return Grid("What else differs", columns, rows) if rows else None
