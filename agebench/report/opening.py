"""What the report opens with: the answer in a sentence, and the rates that regulators ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agebench.harness.contents_statistics import Pair
from agebench.metrics.age_thresholds import ThresholdRates
from agebench.metrics.number_format import (
    bounds,
    counted,
    number,
    of_people,
    percent,
    percent_bounds,
    signed,
)
from agebench.report.cautions import looks_at_faces
from agebench.report.grid import Cell, Column, Grid
from agebench.report.joining import Entry, Joined
from agebench.report.plots_analysis import rates_at, threshold_ages
from agebench.report.rows_ranking import NO_TEST, against_first, name_cell, pair_with_best

_KNOWN_FROM = "these pictures, on near copies of them or on their data set"


def answer(joined: Joined) -> list[str]:
    """Return who is best and by how much, in one or two sentences; empty without any error."""
    if not joined.scored:
        return []
    contaminated = [entry for entry in joined.scored if entry.contamination]
    judged = [entry for entry in joined.scored if not entry.contamination]
    looking = [entry for entry in judged if looks_at_faces(entry)]
    if contaminated and not looking:
        but = " but the baseline" if judged else ""
        who = "the others" if judged else "all"
        return [f"Nobody{but} can be judged here: {who} were trained on {_KNOWN_FROM}."]
    told = [_lowest(joined, looking or judged)]
    if contaminated:
        names = ", ".join(entry.label for entry in contaminated)
        told.append(f"Not judged, since trained on {_KNOWN_FROM}: {names}.")
    return told


def _lowest(joined: Joined, judged: Sequence[Entry]) -> str:
    best = judged[0]
    errors = best.errors
    interval = "" if errors is None else bounds(errors.mae_interval)
    pictures = of_people(counted(int(joined.rows.sum()), "picture"), joined.number_of_people)
    head = (
        f"{best.label} has the lowest mean error: {number(best.mae_years)} years "
        f"{interval} on {pictures}"
    ).replace("  ", " ")
    if len(judged) == 1:
        return f"{head}."
    second = judged[1]
    verdict = against_first(joined, second) if joined.best is best else NO_TEST
    if verdict.startswith("worse"):
        return f"{head}; the next, {second.label}, is {verdict} years."
    pair = pair_with_best(joined, second) if joined.best is best else None
    return f"{head}, but it was not shown to be better than {second.label}{_difference(pair)}."


def _difference(pair: Pair | None) -> str:
    if pair is None or pair.difference_years is None:
        return ""
    ends = pair.interval
    interval = "" if ends is None else f" [{signed(ends.low)}, {signed(ends.high)}]"
    return f" (difference {signed(pair.difference_years)} years{interval})"


def false_adult_grid(joined: Joined) -> Grid | None:
    """How often people below an age are estimated at that age or older; None without a rate."""
    thresholds = threshold_ages(joined)
    rates = {
        entry.label: {age: _unbuffered(entry, age) for age in thresholds} for entry in joined.scored
    }
    counts = {
        age: max((one.minors for of in rates.values() if (one := of[age])), default=0)
        for age in thresholds
    }
    # An age with too few people below it for a rate would be a column of dashes.
    shown = [
        age
        for age in thresholds
        if any(one and one.false_pass_rate is not None for one in _at(rates, age))
    ]
    if not shown:
        return None
    columns = [
        Column("estimator", numeric=False),
        *(
            Column(
                f"{number(age, 0)} (of {counts[age]:,}{_of_whom(rates, age)})",
                hint=f"below {number(age, 0)}",
            )
            for age in shown
        ),
    ]
    rows = [
        [name_cell(joined, entry), *(_rate(rates[entry.label][age]) for age in shown)]
        for entry in joined.scored
    ]
    title = "False-adult rate: of people below an age, taken for that age or older, %"
    return Grid(title, columns, rows)


def _of_whom(rates: Mapping[str, Mapping[float, ThresholdRates | None]], age: float) -> str:
    """Return how many people below the age are in the pictures, if that is known."""
    found = (one.minor_people for one in _at(rates, age) if one)
    people = max((count for count in found if count is not None), default=None)
    return "" if people is None else f"; {of_people('', people).removeprefix(' of ')}"


def _at(
    rates: Mapping[str, Mapping[float, ThresholdRates | None]], age: float
) -> list[ThresholdRates | None]:
    return [of[age] for of in rates.values()]


def _unbuffered(entry: Entry, age: float) -> ThresholdRates | None:
    return next((one for one in rates_at(entry, age) if not one.buffer_years), None)


def _rate(rates: ThresholdRates | None) -> Cell:
    if rates is None:
        return Cell(percent(None))
    rate, interval = rates.false_pass_rate, rates.false_pass_interval
    ends = percent_bounds(interval).replace(" ", "\u00a0")
    return Cell(f"{percent(rate)} {ends}".strip(), rate, kind="rate")
