"""A result as tables for the terminal; rounding happens here and nowhere before."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from agebench.bench.latency import OWN_STAGES, StageTimes
from agebench.bench.results import CompareResult, EstimatorResult
from agebench.bench.speed_tables import busy_lines, faster_lines
from agebench.bench.swaps import swaps_tried
from agebench.bench.timing import busyness_json
from agebench.errors import inert
from agebench.intervals import Interval

MAX_LISTED = 5
"""Failures that are listed by name; the rest is in the result file."""

MANY_MISSED = 0.2
"""Share of pictures without a face above which the detector is likely the wrong one."""

FEW_PICTURES = 20
"""Below so many the figures are chance, whatever their interval: resampling needs a sample."""


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _with_interval(value: float | None, interval: Interval | None) -> str:
    bounds = "" if interval is None else f" [{interval.low:.2f}, {interval.high:.2f}]"
    return f"{_number(value)}{bounds}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _shown(text: str) -> str:
    """Return `text` as neither Rich nor the terminal takes it for a command."""
    return escape(inert(text))


class _Name:
    """An estimator's name in a cell: breaks behind its hyphens before it breaks within words."""

    def __init__(self, name: str) -> None:
        self._name = inert(name)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = max(map(cell_len, re.split("(?<=-)", self._name)))
        return Measurement(longest, cell_len(self._name)).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("\n".join(textwrap.wrap(self._name, max(1, options.max_width))))


def _table(title: str, columns: Sequence[RenderableType]) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    return table


def error_table(result: CompareResult) -> Table:
    """MAE with interval, RMSE, median, bias and cumulative scores, best MAE first."""
    # The common subset may hold labels that are ranges, which have no error in years.
    counts = [
        (item.score.errors.n, item.score.errors.people)
        for item in result.estimators
        if item.score is not None
    ]
    pictures, people = max(counts, key=lambda both: both[0], default=(0, None))
    of = "" if people is None else f" of {people} people"
    title = f"Error in years on the {pictures} pictures{of} for which all gave an age"
    columns = ("estimator", "MAE [95 %]", "RMSE", "median", "bias")
    table = _table(title, columns)
    for item in sorted(result.estimators, key=_rank):
        if item.score is None:
            table.add_row(_Name(item.name), "unavailable", "", "", "")
            continue
        errors = item.score.errors
        table.add_row(
            _Name(item.name),
            _with_interval(errors.mae_years, errors.mae_interval),
            _number(errors.rmse_years),
            _number(errors.median_years),
            _signed(errors.bias_years),
        )
    return table


def _rank(item: EstimatorResult) -> tuple[bool, bool, float]:
    return item.mae_years is None, bool(item.contamination), item.mae_years or 0.0


_PAIR_WORDS = {
    "no difference shown": "not shown to differ from",
    "no verdict": "not to be judged against",
}


def pair_table(result: CompareResult) -> Table:
    """Every two estimators: by how many years which is better, and whether that is shown."""
    pairs = [] if result.analysis is None else result.analysis["pairs"]
    title = f"Difference in MAE, years (p: paired test, Holm for {len(pairs)})"
    table = _table(title, ("pair", "difference [95 %]", "p"))
    for pair in pairs:
        difference, ends, p_value = pair["difference_years"], pair["interval"], pair["p_adjusted"]
        names = [_shown(pair["first"]), _shown(pair["second"])]
        if difference > 0:  # the better one first: its difference is never positive
            names.reverse()
            ends = ends and [-ends[1], -ends[0]]
        words = _PAIR_WORDS.get(pair["verdict"], "better than")
        table.add_row(
            f"{names[0]} {words} {names[1]}",
            _with_interval(-abs(difference), ends and Interval(*ends)),
            "-" if p_value is None else f"{p_value:.4f}",
        )
    return table


def share_table(result: CompareResult) -> Table:
    """Cumulative scores, class accuracy and counts."""
    columns = ("estimator", "CS@1", "CS@3", "CS@5", "CS@10", "exact", "1-off")
    table = _table("Share of pictures within k years, and of right classes (%)", columns)
    for item in _scored(result):
        classes = item.score.classes if item.score else None
        shares = item.score.errors.cs.values() if item.score else ()
        table.add_row(
            _Name(item.name),
            *map(_share, shares),
            _share(classes.exact if classes else None),
            _share(classes.one_off if classes else None),
        )
    return table


def count_table(result: CompareResult) -> Table:
    """How many pictures were scored, missed, failed and clipped."""
    columns = ("estimator", "scored", "no face", "failed", "clipped")
    table = _table(f"Pictures of {len(result.records)}", columns)
    for item in _scored(result):
        score = item.score
        if score is not None:
            counts = (score.scored, score.missed, score.failed, score.clipped)
            table.add_row(_Name(item.name), *map(str, counts))
    return table


def range_table(result: CompareResult) -> Table:
    """Hit rate and distance against labels that are age ranges."""
    table = _table("Against age ranges", ("estimator", "n", "in range %", "years to range"))
    for item in _scored(result):
        ranges = item.score.ranges if item.score else None
        if ranges is not None:
            hit, distance = _share(ranges.hit_rate), _number(ranges.distance_years)
            table.add_row(_Name(item.name), str(ranges.n), hit, distance)
    return table


def decade_table(result: CompareResult) -> Table:
    """MAE per decade of true age, one column per estimator."""
    scored = _scored(result)
    table = _table("MAE by decade of true age", ("age", "n", *(_Name(i.name) for i in scored)))
    by_decade = [
        {part.decade: part for part in item.score.errors.by_decade} if item.score else {}
        for item in scored
    ]
    decades = {name: part.n for parts in by_decade for name, part in parts.items()}
    for decade in sorted(decades, key=lambda name: int(name.split("-")[0])):
        cells = [
            _number(parts[decade].mae_years) if decade in parts else "-" for parts in by_decade
        ]
        table.add_row(decade, str(decades[decade]), *cells)
    return table


def _times(times: StageTimes | None) -> str:
    if times is None or not times.samples_ms:
        return "-"
    cells = (times.percentile(percent) for percent in (50, 90, 99))
    return " / ".join(_number(value, 1 if (value or 0) < 100 else 0) for value in cells)


def latency_table(result: CompareResult) -> Table:
    """Percentiles per stage; decode and detect are shared."""
    assert result.latency is not None  # noqa: S101 - the caller shows no empty table
    shared: Mapping[str, StageTimes] = result.latency.shared
    count = len(shared["decode"].samples_ms)
    title = f"Milliseconds per picture at batch 1, p50 / p90 / p99 of {count}"
    table = _table(title, ("", *OWN_STAGES))
    for stage in shared:
        table.add_row(f"{stage} (shared)", "", "", _times(shared[stage]))
    for item in _scored(result):
        table.add_row(_Name(item.name), *(_times(item.latency.get(stage)) for stage in OWN_STAGES))
    return table


def _scored(result: CompareResult) -> list[EstimatorResult]:
    return [item for item in sorted(result.estimators, key=_rank) if item.score is not None]


def _remarks(result: CompareResult) -> list[str]:
    dataset, detector = result.about["dataset"], result.about["detector"]
    why = detector["chosen_because"]
    remarks = [
        f"Data: {dataset['name']}, {dataset['protocol']}; labels: {dataset['label_kind']}. "
        f"Detector: {detector['reference']}{f' ({why})' if why else ''}."
    ]
    remarks += [f"{dataset['name']}: {note}" for note in dataset["notes"]]
    problems = dataset["problems"]
    if problems:
        remarks.append(f"Left out while listing the data set: {len(problems)}.")
        remarks += [f"  {item['name']}: {item['reason']}" for item in problems[:MAX_LISTED]]
    several = sum(record.faces > 1 for record in result.records)
    if several:
        remarks.append(f"Pictures with several faces, of which the largest was used: {several}.")
    remarks += _few(result)
    remarks += _tests(result)
    remarks += _failures(result)
    remarks += _faster(result)
    remarks += _seen(result)
    for item in result.estimators:
        if item.score is None:
            remarks += f"{item.name}: not available: {item.contender.reason}".split("\n")
        elif item.contender.estimator is not None:
            remarks += [f"{item.name}: {note}" for note in item.contender.estimator.spec.notes]
    return remarks


def _faster(result: CompareResult) -> list[str]:
    timing = result.timing
    if timing is None:
        return []
    controls = [] if timing.control is None else [timing.control]
    lines = faster_lines(timing.comparisons, controls) if timing.comparisons else []
    return [*lines, *busy_lines(busyness_json(timing.busyness))]


def _tests(result: CompareResult) -> list[str]:
    """Who is not ranked, how differences were tested, and where no verdict is given."""
    if result.analysis is None:
        return []
    remarks = [
        f"{name} is NOT RANKED: {found['apart']}."
        for name, found in result.analysis["estimators"].items()
        if found["apart"]
    ]
    pairs = result.analysis["pairs"]
    by_person = "people" if result.analysis["settings"]["clustered"] else "pictures"
    remarks += [line] if (line := swaps_tried(pairs, by_person).strip()) else []
    contaminated = {item.name for item in result.estimators if item.contamination}
    untested = [pair for pair in pairs if not contaminated & {pair["first"], pair["second"]}]
    reasons = dict.fromkeys(pair.get("reason", "") for pair in untested)
    return [*remarks, *(f"No verdict on some pairs: {reason}." for reason in reasons if reason)]


def _few(result: CompareResult) -> list[str]:
    """Say it where the figures stand on a small part of the pictures, or on a handful."""
    remarks = []
    missed = sum(record.status == "no_face" for record in result.records)
    if missed > MANY_MISSED * len(result.records):
        reference = result.about["detector"]["reference"]
        remarks.append(
            f"NO FACE in {missed} of {len(result.records)} pictures by {reference}: another "
            "detector may find them ('agebench ls detectors'), or 'aligned' where the pictures "
            "are faces cut out alike."
        )
    scored = max((item.score.scored for item in _scored(result) if item.score), default=0)
    if scored < FEW_PICTURES:
        remarks.append(f"Pictures scored: ONLY {scored}. Such figures say next to nothing.")
    return remarks


def _seen(result: CompareResult) -> list[str]:
    """Name the estimators that were trained on what they are scored on."""
    return [
        f"{item.name} was TRAINED ON {len(item.score.seen_in_training)} of its "
        f"{item.score.scored} scored pictures: its error is not to be believed."
        for item in result.estimators
        if item.score is not None and item.score.seen_in_training
    ]


def _failures(result: CompareResult) -> list[str]:
    listed = [
        f"  {record.sample.name}: {record.reason}"
        for record in result.records
        if record.status in ("unreadable", "detector_failed", "crop_failed")
    ]
    for index, item in enumerate(result.estimators):
        listed += [
            f"  {record.sample.name}: {item.name}: {record.outcomes[index].reason}"
            for record in result.records
            if index in record.outcomes and record.outcomes[index].status != "ok"
        ]
    if not listed:
        return []
    more = len(listed) - MAX_LISTED
    rest = [f"  and {more} more, all in {'result.json'}"] if more > 0 else []
    return [f"Failed: {len(listed)}.", *listed[:MAX_LISTED], *rest]


def print_result(result: CompareResult, console: Console) -> None:
    """Print the tables that have something to say, then the remarks."""
    tables = [error_table(result)]
    scores = [item.score for item in result.estimators if item.score is not None]
    of_years = any(score.errors.n for score in scores)
    if of_years or any(score.classes is not None and score.classes.n for score in scores):
        tables.append(share_table(result))
    if of_years:
        tables.append(decade_table(result))
    if result.analysis is not None and result.analysis["pairs"]:
        tables.insert(1, pair_table(result))
    if any(item.score and item.score.ranges for item in result.estimators):
        tables.append(range_table(result))
    tables.append(count_table(result))
    if result.latency is not None:
        tables.append(latency_table(result))
    for table in tables:
        console.print(table)
    for remark in _remarks(result):
        console.print(_shown(remark), highlight=False, soft_wrap=True)
