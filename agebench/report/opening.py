"""The opening of the report: the conclusion in a sentence, and the false-adult rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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

_CONTAMINATED_BY = "these pictures, on near copies of them or on their data set"


def answer(joined: Joined) -> list[str]:
    """Return which estimator is best and by how much, in sentences; empty without any error."""
    if not joined.scored:
        return []
    contaminated = [entry for entry in joined.scored if entry.contamination]
    judged = [entry for entry in joined.scored if not entry.contamination]
    looking = [entry for entry in judged if looks_at_faces(entry)]
    if contaminated and not looking:
        judged_text = "Only the baseline" if judged else "No estimator"
        who = "the others" if judged else "all"
        return [f"{judged_text} can be judged here: {who} were trained on {_CONTAMINATED_BY}."]
    sentences = [_lowest(joined, looking or judged)]
    if contaminated:
        names = ", ".join(entry.label for entry in contaminated)
        sentences.append(f"Not judged, as trained on {_CONTAMINATED_BY}: {names}.")
    return sentences


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
    return (
        f"{head}, but it was not shown to be better than {second.label}{_difference(pair, best)}."
    )


def _difference(pair: Pair | None, best: Entry) -> str:
    """Return by how much the best is better, below 0, whichever comes first in the pair."""
    if pair is None or pair.difference_years is None:
        return ""
    sign = 1 if pair.first == best.label else -1
    ends = () if pair.interval is None else sorted(sign * end for end in pair.interval.ends)
    interval = f" [{', '.join(map(signed, ends))}]" if ends else ""
    return f" (difference {signed(sign * pair.difference_years)} years{interval})"


def false_adult_grid(joined: Joined) -> Grid | None:
    """Return how often people below an age are estimated at it or above; None without any rate."""
    by_age = {
        age: {entry.label: _unbuffered(entry, age) for entry in joined.scored}
        for age in threshold_ages(joined)
    }
    # An age with too few people below it for a rate would be a column of dashes.
    shown = {
        age: found
        for age, found in by_age.items()
        if any(rates and rates.false_pass_rate is not None for rates in found.values())
    }
    if not shown:
        return None
    columns = [
        Column("estimator", numeric=False),
        *(
            Column(f"{number(age, 0)} ({_counts(found.values())})", hint=f"below {number(age, 0)}")
            for age, found in shown.items()
        ),
    ]
    rows = [
        [name_cell(joined, entry), *(_rate(found[entry.label]) for found in shown.values())]
        for entry in joined.scored
    ]
    title = "False-adult rate: people below an age estimated at that age or older, %"
    return Grid(title, columns, rows)


def _counts(found: Iterable[ThresholdRates | None]) -> str:
    """Return the number of pictures of people below an age, and of people if known."""
    known = [rates for rates in found if rates]
    pictures = max((rates.minors for rates in known), default=0)
    counts = [rates.minor_people for rates in known if rates.minor_people is not None]
    people = f"; {of_people('', max(counts)).removeprefix(' of ')}" if counts else ""
    return f"of {pictures:,}{people}"


def _unbuffered(entry: Entry, age: float) -> ThresholdRates | None:
    return next((rates for rates in rates_at(entry, age) if not rates.buffer_years), None)


def _rate(rates: ThresholdRates | None) -> Cell:
    if rates is None:
        return Cell(percent(None))
    rate, interval = rates.false_pass_rate, rates.false_pass_interval
    ends = percent_bounds(interval).replace(" ", "\u00a0")
    return Cell(f"{percent(rate)} {ends}".strip(), rate, kind="rate")
