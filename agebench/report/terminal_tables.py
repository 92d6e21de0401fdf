"""A result in the terminal: the ranking, all tables if requested, and remarks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape

from agebench.benchmark.tables import busy_lines, faster_lines
from agebench.errors import inert
from agebench.harness.contents_pictures import Picture
from agebench.harness.contents_statistics import Busy
from agebench.harness.reading import measured
from agebench.harness.results import RESULT_FILE, CompareResult
from agebench.harness.scores import Score
from agebench.metrics.number_format import counted
from agebench.report.context import swaps_tried
from agebench.report.joining import Joined, join, rank
from agebench.report.rows_errors import range_grid
from agebench.report.terminal_grids import full_grids, grid_table
from agebench.report.terminal_ranking import ranking_lines
from agebench.timing.pairs import busyness_json
from agebench.timing.ratios import MIN_RATIO_OF_ONE_LOAD
from agebench.util.typed_records import read_record

MAX_LISTED = 5
"""Maximum number of failures listed by name; the result file has all."""

MANY_MISSED = 0.2
"""Fraction of pictures without a face above which the detector is probably unsuitable."""

FEW_PICTURES = 20
"""Number of pictures below which figures are unreliable, whatever their interval."""


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
            f"The faces of {counted(kept['used'], 'picture')} are those found by an earlier run, "
            f"those of {kept['found']:,} were found now (--fresh-detections finds all again); "
            "times are from this run."
        )
    remarks += [f"{dataset['name']}: {note}" for note in dataset["notes"]]
    problems = dataset["problems"]
    if problems:
        remarks.append(f"Left out while listing the data set: {len(problems)}.")
        remarks += [f"  {item['name']}: {item['reason']}" for item in problems[:MAX_LISTED]]
        remarks += _unlisted(len(problems) - MAX_LISTED)
    several = result.counts.several_faces
    if several:
        used = "the labelled or else largest one was used"
        remarks.append(f"Pictures with several faces, of which {used}: {several}.")
    if result.counts.taken_over:
        remarks.append(
            f"{result.counts.taken_over:,} of the pictures were processed by an earlier run, which "
            "was interrupted."
        )
    remarks += _unused_answers(result)
    return [*remarks, *_few(result), *_tests(result, joined), *_failures(result), *_busy(result)]


def _unused_answers(result: CompareResult) -> list[str]:
    """Return how many rows of files of answers were not used, and why."""
    kinds = {
        "unreadable": "unreadable",
        "doubled": "contradictory or repeated",
        "unmatched": "of no picture or of several",
    }
    remarks = []
    for item in result.estimators:
        spec = item.contender.estimator.spec if item.contender.estimator is not None else None
        if spec is not None and spec.decode == "answers":
            found = [
                f"{spec.settings[key]:,} {what}"
                for key, what in kinds.items()
                if spec.settings.get(key)
            ]
            if found:
                remarks.append(
                    f"{item.name}: rows not used: {', '.join(found)}; --full lists them."
                )
    return remarks


def _more(result: CompareResult) -> list[str]:
    """Return comparisons of speed, and notes on the estimators by their makers."""
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
    return list(faster_lines(timing.comparisons, controls, MIN_RATIO_OF_ONE_LOAD))


def _busy(result: CompareResult) -> list[str]:
    timing = result.timing
    return [] if timing is None else busy_lines(read_record(busyness_json(timing.busyness), Busy))


def _tests(result: CompareResult, joined: Joined) -> list[str]:
    """Return which estimators are not ranked, how pairs were tested, and why some were not."""
    if result.analysis is None:
        return []
    remarks = [
        f"{name} is NOT RANKED: {found.unranked_reason}."
        for name, found in result.analysis.estimators.items()
        if found.unranked_reason
    ]
    pairs = joined.pairs
    units = "people" if joined.analysis.settings.clustered else "pictures"
    remarks += filter(None, [swaps_tried(pairs, units).strip()])
    contaminated = {item.name for item in result.estimators if item.contamination}
    untested = [pair for pair in pairs if not contaminated & {pair.first, pair.second}]
    reasons = dict.fromkeys(pair.reason for pair in untested)
    return [*remarks, *(f"No verdict on some pairs: {reason}." for reason in reasons if reason)]


def _few(result: CompareResult) -> list[str]:
    """Return how many pictures have no face, and a warning if only a few were scored."""
    remarks = []
    scores = _scores(result)
    missed = scores[0].missed if scores else 0
    found = f"in {missed:,} of {result.counts.total:,} pictures by"
    found = f"{found} {result.about['detector']['reference']}"
    if missed > MANY_MISSED * result.counts.total:
        remarks.append(f"NO FACE {found}: {_other_detector(result)}.")
    elif missed:
        remarks.append(f"No face {found}: the errors above leave these out.")
    scored = max((score.scored for score in scores), default=0)
    if scored < FEW_PICTURES:
        remarks.append(f"Pictures scored: ONLY {scored}. Such figures mean very little.")
    return remarks


def _other_detector(result: CompareResult) -> str:
    """Return advice on another detector than the one used, suited to the pictures."""
    detector, dataset = result.about["detector"], result.about["dataset"]
    if detector["layout"]:
        return "they are not chips of the layout that it expects: name a detector that finds faces"
    if dataset["aligned"]:
        return "they are aligned chips, for which --detector aligned is right"
    return (
        "another detector may find them ('agebench ls detectors'), or 'aligned' if the pictures "
        "are aligned face crops"
    )


def _scores(result: CompareResult) -> list[Score]:
    return [item.score for item in sorted(result.estimators, key=rank) if item.score is not None]


def _failures(result: CompareResult) -> list[str]:
    by_picture: list[str] = []
    by_estimator: dict[str, list[str]] = {item.name: [] for item in result.estimators}
    failed = 0
    for image in result.pictures if any(score.failed for score in _scores(result)) else ():
        for name, reason in _why_failed(image):
            failed += 1
            listed = by_estimator[name] if name else by_picture
            if len(listed) < MAX_LISTED:
                listed.append(f"  {image['picture']}: {f'{name}: ' if name else ''}{reason}")
    if not failed:
        return []
    first = [*by_picture, *itertools.chain.from_iterable(by_estimator.values())][:MAX_LISTED]
    return [f"Failed: {failed}.", *first, *_unlisted(failed - len(first))]


def _unlisted(more: int) -> list[str]:
    return [f"  and {more} more, all in {RESULT_FILE}"] if more > 0 else []


def _why_failed(image: Picture) -> Iterator[tuple[str, str]]:
    """Yield the estimator's name, "" if the failure came before any estimator, and the reason."""
    if image["status"] in ("unreadable", "detector_failed", "crop_failed"):
        yield "", image["reason"]
    for name, prediction in image["predictions"].items():
        if prediction["status"] != "ok":
            yield name, prediction["reason"]


def print_result(result: CompareResult, console: Console, *, full: bool = False) -> None:
    """Print the ranking and remarks; with `full` also all tables that are not empty."""
    joined = join([measured(result)])
    for line in ranking_lines(joined, console.width):
        console.print(line, highlight=False, soft_wrap=True)
    if full:
        for grid in full_grids(joined):
            console.print(grid_table(grid))
    elif not joined.scored and (ranges := range_grid(joined)):
        console.print(grid_table(ranges))  # the ranking above has no figure
    for remark in [*_remarks(result, joined), *(_more(result) if full else [])]:
        console.print(escape(inert(remark)), highlight=False, soft_wrap=True)
    if not full:
        console.print("Tests of all pairs, fractions, decades, counts and times by stage: --full")
