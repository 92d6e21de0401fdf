"""A result in the terminal: the ranking, on request all tables, and the remarks."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from agebench.benchmark.tables import busy_lines, faster_lines
from agebench.errors import inert
from agebench.harness.contents_pictures import Picture
from agebench.harness.contents_statistics import Busy
from agebench.harness.loading import reads_back_its_runtime
from agebench.harness.reading import measured
from agebench.harness.results import RESULT_FILE, CompareResult, EstimatorResult
from agebench.harness.scores import Score
from agebench.metrics.intervals import Interval
from agebench.report.joining import Joined, join
from agebench.report.number_format import bounds, counted, number, percent
from agebench.report.swaps import swaps_tried
from agebench.report.terminal_ranking import in_ascii, ranking_lines
from agebench.timing.latency import OWN_STAGES, StageTimes
from agebench.timing.pairs import busyness_json
from agebench.util.typed_records import read_record

MAX_LISTED = 5
"""Failures that are listed by name; the rest is in the result file."""

MANY_MISSED = 0.2
"""Share of pictures without a face above which the detector is likely the wrong one."""

FEW_PICTURES = 20
"""Below so many the figures are chance, whatever their interval: resampling needs a sample."""


def _number(value: float | None, digits: int = 2) -> str:
    return in_ascii(number(value, digits))


def _share(value: float | None) -> str:
    return in_ascii(percent(value))


def _with_interval(value: float | None, interval: Interval | None) -> str:
    return f"{_number(value)} {in_ascii(bounds(interval))}".rstrip()


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
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at == 0 else "right", overflow="fold")
    return table


def _rank(item: EstimatorResult) -> tuple[bool, bool, float]:
    return item.mae_years is None, bool(item.contamination), item.mae_years or 0.0


_PAIR_WORDS = {
    "no difference shown": "not shown to differ from",
    "no verdict": "not to be judged against",
}


def pair_table(result: CompareResult) -> Table:
    """Every two estimators: by how many years which is better, and whether that is shown."""
    pairs = () if result.analysis is None else result.analysis.pairs
    title = f"Difference in MAE, years (p: paired test, Holm for {len(pairs)})"
    table = _table(title, ("pair", "difference [95 %]", "p"))
    for pair in pairs:
        difference, interval = pair.difference_years, pair.interval
        if difference is None:
            continue
        names = [_shown(pair.first), _shown(pair.second)]
        if difference > 0:  # the better one first: its difference is never positive
            names.reverse()
            interval = interval and Interval(-interval.high, -interval.low)
        words = _PAIR_WORDS.get(pair.verdict, "better than")
        table.add_row(
            f"{names[0]} {words} {names[1]}",
            _with_interval(-abs(difference), interval),
            "-" if pair.p_adjusted is None else f"{pair.p_adjusted:.4f}",
        )
    return table


def share_table(result: CompareResult) -> Table:
    """Cumulative scores, class accuracy and counts."""
    columns = ("estimator", "CS@1", "CS@3", "CS@5", "CS@10", "exact", "1-off")
    table = _table("Share of pictures within k years, and of right classes (%)", columns)
    for item in _scored(result):
        classes = _class_shares(result, item)
        shares = item.score.errors.cs.values() if item.score else ()
        table.add_row(_Name(item.name), *map(_share, shares), *map(_share, classes))
    return table


def _class_shares(
    result: CompareResult, item: EstimatorResult
) -> tuple[float | None, float | None]:
    """Right class, and right or next: of its own classes, else of the eight Adience ones."""
    classes = item.score.classes if item.score else None
    if classes is not None and classes.n:
        return classes.exact, classes.one_off
    found = None if result.analysis is None else result.analysis.estimators.get(item.name)
    buckets = None if found is None else found.buckets
    return (None, None) if buckets is None else (buckets.exact, buckets.one_off)


def count_table(result: CompareResult) -> Table:
    """How many pictures were scored, missed, failed and clipped."""
    columns = ("estimator", "scored", "no face", "failed", "clipped")
    table = _table(f"Pictures of {result.pictures.total}", columns)
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
    by_decade = [
        {part.decade: part for part in item.score.errors.by_decade} if item.score else {}
        for item in scored
    ]
    decades = {name: part for parts in by_decade for name, part in parts.items()}
    known = any(part.people is not None for part in decades.values())
    heads = ("age", "n", "people") if known else ("age", "n")
    table = _table("MAE by decade of true age", (*heads, *(_Name(i.name) for i in scored)))
    for decade in sorted(decades, key=lambda name: int(name.split("-")[0])):
        cells = [
            _number(parts[decade].mae_years) if decade in parts else "-" for parts in by_decade
        ]
        counts = [decades[decade].n, decades[decade].people or 0][: len(heads) - 1]
        table.add_row(decade, *map(str, counts), *cells)
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
    table = _table(title, ("", "runtime", *OWN_STAGES))
    ran = result.about["detector"]["runtime"]
    runs = {"detect": f"{ran['runtime']} {ran['device']}"}
    for stage in shared:
        cells = (runs.get(stage, ""), "", "", _times(shared[stage]))
        table.add_row(f"{stage} (shared)", *cells)
    for item in _scored(result):
        own = (_times(item.latency.get(stage)) for stage in OWN_STAGES)
        table.add_row(_Name(item.name), _runtime(item), *own)
    return table


def _runtime(item: EstimatorResult) -> str:
    """Return what ran it and on what device, and whether only it says so."""
    if item.contender.estimator is None:
        return ""
    runtime = item.contender.estimator.spec.runtime
    said = "" if reads_back_its_runtime(item.contender.estimator) else " (as it says)"
    return f"{runtime.runtime} {runtime.device}{said}"


def _scored(result: CompareResult) -> list[EstimatorResult]:
    return [item for item in sorted(result.estimators, key=_rank) if item.score is not None]


def _remarks(result: CompareResult, joined: Joined) -> list[str]:
    dataset, detector = result.about["dataset"], result.about["detector"]
    why = detector["chosen_because"]
    remarks = [
        f"Data: {dataset['name']}, {dataset['protocol']}; labels: {dataset['label_kind']}. "
        f"Detector: {detector['reference']}{f' ({why})' if why else ''}."
    ]
    kept = detector.get("kept_detections")
    if kept and kept["used"]:
        remarks.append(
            f"The faces of {counted(kept['used'], 'picture')} were found by an earlier run and "
            f"kept, those of {kept['found']:,} now (--fresh-detections finds all anew); times are "
            "of this run."
        )
    remarks += [f"{dataset['name']}: {note}" for note in dataset["notes"]]
    problems = dataset["problems"]
    if problems:
        remarks.append(f"Left out while listing the data set: {len(problems)}.")
        remarks += [f"  {item['name']}: {item['reason']}" for item in problems[:MAX_LISTED]]
    several = result.pictures.several_faces
    if several:
        remarks.append(f"Pictures with several faces, of which the largest was used: {several}.")
    if result.pictures.taken_over:
        remarks.append(
            f"{result.pictures.taken_over:,} of the pictures had been looked at by a run before, "
            "which was broken off."
        )
    return [*remarks, *_few(result), *_tests(result, joined), *_failures(result), *_busy(result)]


def _more(result: CompareResult) -> list[str]:
    """Who is faster, and what the estimators' makers say of them."""
    return _faster(result) + [
        f"{item.name}: {note}"
        for item in result.estimators
        if item.contender.estimator is not None
        for note in item.contender.estimator.spec.notes
    ]


def _faster(result: CompareResult) -> list[str]:
    timing = result.timing
    if timing is None or not timing.comparisons:
        return []
    controls = [] if timing.control is None else [timing.control]
    return list(faster_lines(timing.comparisons, controls))


def _busy(result: CompareResult) -> list[str]:
    timing = result.timing
    return [] if timing is None else busy_lines(read_record(busyness_json(timing.busyness), Busy))


def _tests(result: CompareResult, joined: Joined) -> list[str]:
    """Who is not ranked, how differences were tested, and where no verdict is given."""
    if result.analysis is None:
        return []
    remarks = [
        f"{name} is NOT RANKED: {found.apart}."
        for name, found in result.analysis.estimators.items()
        if found.apart
    ]
    pairs = joined.pairs
    by_person = "people" if joined.analysis.settings.clustered else "pictures"
    remarks += [line] if (line := swaps_tried(pairs, by_person).strip()) else []
    contaminated = {item.name for item in result.estimators if item.contamination}
    untested = [pair for pair in pairs if not contaminated & {pair.first, pair.second}]
    reasons = dict.fromkeys(pair.reason for pair in untested)
    return [*remarks, *(f"No verdict on some pairs: {reason}." for reason in reasons if reason)]


def _few(result: CompareResult) -> list[str]:
    """Say it where the figures stand on a small part of the pictures, or on a handful."""
    remarks = []
    scores = _scores(result)
    missed = scores[0].missed if scores else 0
    if missed > MANY_MISSED * result.pictures.total:
        reference = result.about["detector"]["reference"]
        told = f"NO FACE in {missed} of {result.pictures.total} pictures by {reference}"
        remarks.append(f"{told}: {_other_detector(result)}.")
    scored = max((score.scored for score in scores), default=0)
    if scored < FEW_PICTURES:
        remarks.append(f"Pictures scored: ONLY {scored}. Such figures say next to nothing.")
    return remarks


def _other_detector(result: CompareResult) -> str:
    """Advice that does not send anybody to where they are, or away from what fits the pictures."""
    detector, dataset = result.about["detector"], result.about["dataset"]
    if detector["layout"]:
        return "they are not chips of the layout that it expects: name a detector that looks"
    if dataset["aligned"]:
        return "they are aligned chips, for which --detector aligned is right"
    return (
        "another detector may find them ('agebench ls detectors'), or 'aligned' where the "
        "pictures are faces cut out alike"
    )


def _scores(result: CompareResult) -> list[Score]:
    return [item.score for item in _scored(result) if item.score is not None]


def _failures(result: CompareResult) -> list[str]:
    of_pictures: list[str] = []
    by_estimator: dict[str, list[str]] = {item.name: [] for item in result.estimators}
    failed = 0
    for image in result.images if any(score.failed for score in _scores(result)) else ():
        for name, reason in _why_failed(image):
            failed += 1
            listed = by_estimator[name] if name else of_pictures
            if len(listed) < MAX_LISTED:
                listed.append(f"  {image['image']}: {f'{name}: ' if name else ''}{reason}")
    if not failed:
        return []
    first = [*of_pictures, *itertools.chain.from_iterable(by_estimator.values())][:MAX_LISTED]
    more = failed - len(first)
    rest = [f"  and {more} more, all in {RESULT_FILE}"] if more > 0 else []
    return [f"Failed: {failed}.", *first, *rest]


def _why_failed(image: Picture) -> Iterator[tuple[str, str]]:
    """Yield the estimator's name, "" where none could be asked, and the reason."""
    if image["status"] in ("unreadable", "detector_failed", "crop_failed"):
        yield "", image["reason"]
    for name, said in image["predictions"].items():
        if said["status"] != "ok":
            yield name, said["reason"]


def print_result(result: CompareResult, console: Console, *, full: bool = False) -> None:
    """Print the ranking, then the remarks; with `full` all tables that have something to say."""
    joined = join([measured(result)])
    for line in ranking_lines(joined, console.width):
        console.print(line, highlight=False, soft_wrap=True)
    if full:
        for table in _tables(result):
            console.print(table)
    for remark in [*_remarks(result, joined), *(_more(result) if full else [])]:
        console.print(_shown(remark), highlight=False, soft_wrap=True)
    if not full:
        console.print("Tests of all pairs, shares, decades, counts and times by stage: --full")


def _tables(result: CompareResult) -> list[Table]:
    tables = []
    scores = [item.score for item in result.estimators if item.score is not None]
    of_years = any(score.errors.n for score in scores)
    if result.analysis is not None and result.analysis.pairs:
        tables.append(pair_table(result))
    if of_years or any(score.classes is not None and score.classes.n for score in scores):
        tables.append(share_table(result))
    if of_years:
        tables.append(decade_table(result))
    if any(item.score and item.score.ranges for item in result.estimators):
        tables.append(range_table(result))
    tables.append(count_table(result))
    if result.latency is not None:
        tables.append(latency_table(result))
    return tables
