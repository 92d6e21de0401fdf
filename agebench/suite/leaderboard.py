"""Running a suite from its plan to the page: measuring what is missing, then publishing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agebench.errors import AgebenchError, UsageError
from agebench.harness.reading import ResultFile, read_result
from agebench.metrics.number_format import counted
from agebench.protocols import ProgressStep, no_progress
from agebench.report.joining import join
from agebench.report.writing import write_report
from agebench.suite.board import Board, read_board
from agebench.suite.page import as_html, as_markdown
from agebench.suite.plan import SuitePlan
from agebench.suite.publish import Found, find_results, read_or_list, write_board
from agebench.suite.run import RunOptions, SuiteReport, run_suite
from agebench.util.files import make_folder, write_whole

BOARD = "board"
REPORTS = "reports"
PAGE_NAME = "leaderboard"


@dataclass(frozen=True, slots=True)
class SuiteOutcome:
    """The outcome of a suite.

    Attributes:
        report: of the run.
        files: written files, the page first.
        problems: what failed, in sentences.
    """

    report: SuiteReport
    files: Sequence[Path]
    problems: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-compatible values."""
        return {
            "cells": [
                {
                    "set": item.cell.pictures.key,
                    "variant": item.cell.variant or None,
                    "model": item.cell.contender.name,
                    "state": item.state,
                    "reason": item.reason or None,
                    "result": None if item.folder is None else str(item.folder),
                    "pictures": item.pictures,
                    "seconds": item.seconds,
                }
                for item in self.report.cells
            ],
            "seconds": self.report.seconds,
            "detected": self.report.detected,
            "detect_seconds": self.report.detect_seconds,
            "files": [str(path) for path in self.files],
            "problems": self.problems,
        }

    def summary(self, *, dry: bool) -> Iterator[str]:
        """Yield the lines of a summary."""
        cells = self.report.cells
        counts = Counter(item.state for item in cells)
        states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        yield f"{counted(len(cells), 'cell')}: {states}"
        left = [item for item in cells if item.state == "left"]
        if left:
            pictures = sum(item.pictures for item in left)
            verb = "would be measured" if dry else "left to another run"
            yield f"{counted(len(left), 'cell')} of {counted(pictures, 'picture')} {verb}"
        if dry:
            for item in left:
                yield f"  {item.cell.title}: {counted(item.pictures, 'picture')}"
        if self.report.seconds and not dry:
            yield (
                f"{self.report.seconds:.0f} s, of these {self.report.detect_seconds:.0f} s for "
                f"detecting faces in {counted(self.report.detected, 'picture')}"
            )
        for path in self.files:
            yield f"Written: {path}"


def make_leaderboard(
    plan: SuitePlan,
    options: RunOptions,
    joined: Sequence[Path] = (),
    progress: ProgressStep = no_progress,
    log: Callable[[str], None] = lambda _line: None,
    *,
    reports: bool = False,
) -> SuiteOutcome:
    """Measure what is missing, and write the page.

    Args:
        plan: of the suite.
        options: folders and time limit.
        joined: folders of the same suite, measured elsewhere, with results of missing cells.
        progress: called with the number of pictures done and in total.
        log: called with a line for each measured cell.
        reports: also write the full report of each set.

    Raises:
        UsageError: a folder to join does not exist.
        AgebenchError: a file can't be read or written.
    """
    missing = [path for path in joined if not path.is_dir()]
    if missing:
        raise UsageError(f"there is no folder {missing[0]} to join: check the path")
    report = run_suite(plan, options, progress, log, elsewhere=joined)
    problems = list(_problems(report, plan))
    if options.dry:
        return SuiteOutcome(report, (), problems)
    found = find_results(report.cells, joined)
    times = _read_times(report.times, problems)
    folder = options.out / BOARD
    problems += write_board(plan, found, times, folder)
    if reports:
        _write_reports(plan, found, options.out, problems)
    links = _links(plan, options.out)
    files = write_page(read_board(folder), options.out, links)
    return SuiteOutcome(report, [*files, folder], problems)


def _read_times(folder: Path | None, problems: list[str]) -> ResultFile | None:
    """Return the result of the run that timed all models, if it exists and is not damaged."""
    try:
        return None if folder is None else read_result(folder)
    except AgebenchError as error:
        problems.append(f"times: {error}; to measure them again, give --times")
        return None


def _problems(report: SuiteReport, plan: SuitePlan) -> Iterator[str]:
    """Yield each model that is not available, each set, and each cell that failed, once."""
    failures = report.failures
    seen: set[str] = set()
    for item in failures:
        if item.state == "broken":
            yield f"{item.cell.title}: {item.reason}"
            continue
        sets = {other.cell.pictures.key for other in failures if other.reason == item.reason}
        models = {other.cell.contender.name for other in failures if other.reason == item.reason}
        alone = len(models) == 1 and (len(sets) > 1 or len(plan.sets) == 1)
        called = item.cell.contender.name if alone else f"set {item.cell.pictures.key}"
        if f"{called}: {item.reason}" not in seen:
            seen.add(f"{called}: {item.reason}")
            yield f"{called}: {item.reason}"
    if report.why_no_times:
        yield f"times: {report.why_no_times}"


def write_page(board: Board, folder: Path, links: Sequence[tuple[str, str]] = ()) -> list[Path]:
    """Write the page of a leaderboard; return its files.

    Raises:
        AgebenchError: one can't be written.
    """
    make_folder(folder, f"the folder {folder}")
    texts = {"html": as_html(board, links), "md": as_markdown(board)}
    written = []
    for ending, text in texts.items():
        path = folder / f"{PAGE_NAME}.{ending}"
        write_whole(path, text)
        written.append(path)
    return written


def _links(plan: SuitePlan, out: Path) -> list[tuple[str, str]]:
    """Return the existing full reports."""
    return [
        (item.title or item.key, f"{REPORTS}/{item.key}/report.html")
        for item in plan.sets
        if (out / REPORTS / item.key / "report.html").is_file()
    ]


def _write_reports(plan: SuitePlan, found: Sequence[Found], out: Path, problems: list[str]) -> None:
    for planned in plan.sets:
        folders = [
            item.folder
            for item in found
            if item.folder is not None
            and item.cell.pictures.key == planned.key
            and not item.cell.variant
        ]
        read = [read_or_list(folder, problems) for folder in folders]
        results = [result for result in read if result is not None]
        if results:
            write_report(join(results), out / REPORTS / planned.key)
