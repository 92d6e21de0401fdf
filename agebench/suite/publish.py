"""Converting the results of a suite to the files of a leaderboard."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agebench.errors import AgebenchError, suggestion
from agebench.harness.picture_store import PART_FILE
from agebench.harness.reading import ResultFile, read_result
from agebench.harness.results import RESULT_FILE
from agebench.suite.board import BOARD_FILE, MODELS, SETS, TIMES_FILE
from agebench.suite.cells import Cell
from agebench.suite.compact import FORMAT, compact_set, compact_times, joined_cells
from agebench.suite.kept_cells import as_text, cells_elsewhere, kept_cell, weights_sha256
from agebench.suite.plan import PlannedSet, SuitePlan, slug
from agebench.suite.run import CellReport
from agebench.util.files import write_whole

NOT_YET = "not measured yet"


@dataclass(frozen=True, slots=True)
class Found:
    """A cell with what a leaderboard keeps of its result, or the reason why there is none.

    Attributes:
        cell: the cell.
        folder: of its result; None without one.
        kept: `agebench.suite.compact.compact_cell` of it; None without one.
        reason: why there is none.
    """

    cell: Cell
    folder: Path | None
    kept: Mapping[str, Any] | None
    reason: str = ""


def find_results(reports: Sequence[CellReport], joined: Sequence[Path]) -> list[Found]:
    """Return the result of each cell: the suite's own, or one from a joined folder.

    Of several joined ones the latest is used.

    Raises:
        AgebenchError: a result is damaged.
    """
    return [_find(report, joined) for report in reports]


def _find(report: CellReport, joined: Sequence[Path]) -> Found:
    own, cell = report.folder, report.cell
    if report.state == "broken":
        return Found(cell, None, None, report.reason)
    if own is not None and (own / RESULT_FILE).is_file():
        with suppress(OSError):  # left by a run that was killed once its result was written
            (own / PART_FILE).unlink()
        return Found(cell, own, kept_cell(cell, own))
    others = list(cells_elsewhere(cell, joined, report.weights))
    if others:
        folder, kept = max(others, key=lambda item: str(item[1]["cells"][0]["created"]))
        return Found(cell, folder, kept)
    return Found(cell, None, None, report.reason or NOT_YET)


def write_board(
    plan: SuitePlan, found: Sequence[Found], times: ResultFile | None, folder: Path
) -> list[str]:
    """Write the files of a leaderboard, and remove earlier ones of sets and models.

    Args:
        plan: of the suite.
        found: its cells.
        times: the result of the run that timed all models.
        folder: to write into; created if missing.

    Returns:
        Problems, in sentences: results on other pictures than the others', or with other weights
        than the model's latest result; damaged ones; groups by an attribute that no picture has.

    Raises:
        AgebenchError: a file can't be written.
    """
    problems: list[str] = []
    cells = list(_with_same_data(_with_latest_weights(found, problems), problems))
    files = {f"{SETS}/{name}.json": content for name, content in _sets(plan, cells, problems)}
    listed = []
    names = _file_names(plan)
    for contender in plan.contenders:
        of_model = [item for item in cells if item.cell.contender.name == contender.name]
        results = [item.kept for item in of_model if item.kept is not None]
        name = names[contender.name]
        missing = {
            item.cell.pictures.key: item.reason
            for item in of_model
            if item.kept is None and not item.cell.variant
        }
        entry: dict[str, Any] = {
            "name": contender.name,
            "title": contender.title or contender.name,
            "file": name if results else None,
            "missing": missing,
        }
        doubts = {key: doubt.why for doubt in contender.suspected for key in doubt.sets}
        listed.append({**entry, "suspected": doubts} if doubts else entry)
        if results:
            files[f"{MODELS}/{name}.json"] = joined_cells(contender.title, results)
    keys = [item.key for item in plan.sets if f"{SETS}/{item.key}.json" in files]
    files[BOARD_FILE] = {
        "format": FORMAT,
        "title": plan.title,
        "sets": keys,
        "empty_sets": [
            {"key": item.key, "title": item.title or item.key}
            for item in plan.sets
            if item.key not in keys
        ],
        "models": listed,
    }
    if times is not None and plan.times is not None:
        files[TIMES_FILE] = compact_times(plan.times.set, times)
    _write_all(folder, files)
    return problems


def _file_names(plan: SuitePlan) -> dict[str, str]:
    """Return a unique name for each model's file."""
    names: dict[str, str] = {}
    for contender in plan.contenders:
        name = slug(contender.name)
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        candidates = itertools.chain([name], numbered)
        names[contender.name] = next(item for item in candidates if item not in names.values())
    return names


def _write_all(folder: Path, files: Mapping[str, Any]) -> None:
    try:
        for part in (folder / SETS, folder / MODELS):
            part.mkdir(parents=True, exist_ok=True)
            for old in sorted(part.glob("*.json")):
                if f"{part.name}/{old.name}" not in files:
                    old.unlink()
        if TIMES_FILE not in files:
            (folder / TIMES_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise AgebenchError(
            f"the leaderboard's files in {folder} can't be written: {error.strerror}: make the "
            "folder writable, or give another --out"
        ) from error
    for name, content in files.items():
        write_whole(folder / name, as_text(content))


def _sets(
    plan: SuitePlan, found: Sequence[Found], problems: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for planned in plan.sets:
        for changed in (False, True):
            folders = [
                item.folder
                for item in found
                if item.folder is not None
                and item.cell.pictures.key == planned.key
                and bool(item.cell.variant) == changed
            ]
            readable = (read_or_list(folder, problems) for folder in folders)
            result = next(filter(None, readable), None)
            if result is not None:
                content = compact_set(
                    planned.key,
                    planned.title,
                    planned.note,
                    planned.groups,
                    result,
                    changed=changed,
                )
                problems += [] if changed else _unknown_groups(planned, result)
                yield (f"{planned.key}.changed" if changed else planned.key), content


def read_or_list(folder: Path, problems: list[str]) -> ResultFile | None:
    """Read a result; add a damaged one to the problems, unless listed already, and return None."""
    try:
        return read_result(folder)
    except AgebenchError as error:
        if str(error) not in problems:
            problems.append(str(error))
        return None


def _unknown_groups(planned: PlannedSet, result: ResultFile) -> Iterator[str]:
    """Yield a sentence for each attribute in `groups` that no picture has."""
    known = {name for image in result.pictures for name in image["attributes"]}
    for name in planned.groups:
        if name not in known:
            yield (
                f"set {planned.key}: groups: no picture has the attribute {name!r}: "
                f"{suggestion(name, known)}"
            )


def _with_latest_weights(found: Sequence[Found], problems: list[str]) -> list[Found]:
    """Leave out results of a model that were measured with other weights than its latest one."""
    latest: dict[str, tuple[str, frozenset[str]]] = {}
    for item in found:
        if item.kept is not None:
            name, created = item.cell.contender.name, str(item.kept["cells"][0]["created"])
            known = latest.get(name)
            if known is None or created > known[0]:
                latest[name] = created, weights_sha256(item.kept["specs"][0])
    kept = []
    for item in found:
        taken = item
        if item.kept is not None:
            weights = weights_sha256(item.kept["specs"][0])
            if weights != latest[item.cell.contender.name][1]:
                reason = "measured with other weights than the model's latest result"
                problems.append(f"{item.cell.title}: {reason}")
                taken = Found(item.cell, None, None, reason)
        kept.append(taken)
    return kept


def _with_same_data(found: Sequence[Found], problems: list[str]) -> Iterator[Found]:
    """Leave out results on other pictures than the first of the same set, and report them."""
    first: dict[tuple[str, bool], str] = {}
    for item in found:
        if item.kept is None:
            yield item
            continue
        data = str(item.kept["cells"][0]["content_sha256"])
        known = first.setdefault((item.cell.pictures.key, bool(item.cell.variant)), data)
        if data == known:
            yield item
            continue
        reason = (
            f"measured on other pictures or labels than the others: sha256 {data:.12}, theirs "
            f"{known:.12}"
        )
        problems.append(f"{item.cell.title}: {reason}")
        yield Found(item.cell, None, None, reason)
