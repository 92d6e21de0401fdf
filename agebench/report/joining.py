"""Several result files as one: the same pictures, every estimator scored on what all have."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agebench.arrays import Bools
from agebench.bench.selection import scored_on
from agebench.comparisons import PairedComparison, compare_pairs
from agebench.datasets.comparability import comparable
from agebench.errors import AgebenchError, UsageError
from agebench.intervals import LEVEL, Interval
from agebench.metrics import DecadeError, ErrorSummary, mae, summarise
from agebench.report.reading import ResultFile
from agebench.types import Floats

TOLERANCE_YEARS = 1e-6
"""By how much a file's own mean error may differ from that of its predictions."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One estimator of one result.

    Attributes:
        label: what it is called in the report; unique, with the result's letter where two results
            have an estimator of the same name.
        name: what it is called in its own result.
        result: position of that result.
        content: its entry of "estimators".
        years: predicted ages, shape (pictures,), NaN where there is none.
        errors: over the pictures that all entries gave an age for; None where not available.
        analysis: its part of the result's "analysis"; None where there is none.
    """

    label: str
    name: str
    result: int
    content: Mapping[str, Any]
    years: Floats
    errors: ErrorSummary | None
    analysis: Mapping[str, Any] | None

    @property
    def mae_years(self) -> float | None:
        """Mean absolute error; None where there is none."""
        return None if self.errors is None else self.errors.mae_years

    def samples_ms(self, stage: str) -> Floats:
        """Return all times of one of its stages, milliseconds, in the order taken."""
        times = self.content["latency"].get(stage)
        return np.asarray([] if times is None else times["samples_ms"], np.float64)


@dataclass(frozen=True, slots=True)
class Joined:
    """What a report is about.

    Attributes:
        results: in the order given.
        entries: every estimator of every result, best mean error first, those without last.
        true_years: shape (pictures,), NaN where only a range is known.
        common: shape (pictures,): true where every estimator that works gave an age.
        pairs: "pairs" of the analysis by the entries' labels; for several results tested anew on
            the common pictures.
        remarks: what a reader must know of the joining, in sentences.
    """

    results: tuple[ResultFile, ...]
    entries: tuple[Entry, ...]
    true_years: Floats
    common: Bools
    pairs: tuple[Mapping[str, Any], ...]
    remarks: tuple[str, ...]

    @property
    def images(self) -> Sequence[Mapping[str, Any]]:
        """The pictures, as the first result has them."""
        return self.results[0].images

    @property
    def dataset(self) -> Mapping[str, Any]:
        """The data set, as the first result has it."""
        return self.results[0].dataset

    @property
    def scored(self) -> tuple[Entry, ...]:
        """The entries that have a mean error, best first."""
        return tuple(entry for entry in self.entries if entry.mae_years is not None)

    @property
    def rows(self) -> Bools:
        """The common pictures whose true age is known, shape (pictures,)."""
        return np.asarray(self.common & np.isfinite(self.true_years))

    def people(self, rows: Bools) -> list[str | None] | None:
        """Return who is on those pictures; None where nobody is known."""
        return _people(self.images, rows)


def letter(position: int) -> str:
    """Return what the result at `position` is called: A, B, ..., Z, AA, ...

    >>> letter(0), letter(25), letter(26)
    ('A', 'Z', 'AA')
    """
    name = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def join(results: Sequence[ResultFile]) -> Joined:
    """Bring the results together, and score every estimator on the pictures that all have.

    A single result keeps its own figures.

    Raises:
        UsageError: they are not of the same data, protocol and kind of label, or one is given
            twice.
        AgebenchError: the figures of one are not those of its own predictions.
    """
    if not results:
        raise UsageError("expected at least one result file, got none")
    _check_comparable(results)
    true = _true_years(results[0])
    parts = [_predictions(result) for result in results]
    commons = [_common(part.values()) for part in parts]
    for result, part, own in zip(results, parts, commons, strict=True):
        _check_figures(result, part, own & np.isfinite(true), true)
    common = np.asarray(np.logical_and.reduce(commons))
    names = [[item["name"] for item in result.estimators] for result in results]
    doubled = {name for name in itertools.chain(*names) if sum(name in part for part in names) > 1}
    entries = []
    for at, (result, part) in enumerate(zip(results, parts, strict=True)):
        for item in result.estimators:
            name = item["name"]
            entries.append(
                Entry(
                    label=_label(name, at, len(results), doubled),
                    name=name,
                    result=at,
                    content=item,
                    years=part[name],
                    errors=_errors(results, item, part[name], common, true),
                    analysis=_own_analysis(result, name),
                )
            )
    entries.sort(key=lambda entry: (entry.mae_years is None, entry.mae_years or 0.0))
    rows = np.asarray(common & np.isfinite(true))
    pairs = _stated_pairs(results[0])
    if len(results) > 1:
        pairs = _tested_pairs(entries, rows, true, _people(results[0].images, rows))
    return Joined(
        results=tuple(results),
        entries=tuple(entries),
        true_years=true,
        common=common,
        pairs=pairs,
        remarks=tuple(_remarks(results, commons, common)),
    )


def _check_comparable(results: Sequence[ResultFile]) -> None:
    first = results[0]
    seen = {first.path.resolve()}
    for other in results[1:]:
        if other.path.resolve() in seen:
            raise UsageError(f"{other.path} is given twice")
        seen.add(other.path.resolve())
        reason = comparable(scored_on(first.dataset), scored_on(other.dataset))
        if not reason and [image["image"] for image in first.images] != [
            image["image"] for image in other.images
        ]:
            reason = "they say that their data are the same, but list other pictures"
        if reason:
            raise UsageError(f"{first.path} and {other.path} can't stand in one report: {reason}")


def _true_years(result: ResultFile) -> Floats:
    years = (image["true_years"] for image in result.images)
    return np.asarray([np.nan if age is None else age for age in years], np.float64)


def _predictions(result: ResultFile) -> dict[str, Floats]:
    """Predicted ages by estimator, NaN where there is none."""
    found = {item["name"]: np.full(len(result.images), np.nan) for item in result.estimators}
    for row, image in enumerate(result.images):
        for name, outcome in image["predictions"].items():
            if outcome["status"] == "ok" and outcome["years"] is not None:
                found[name][row] = outcome["years"]
    return found


def _common(predictions: Iterable[Floats]) -> Bools:
    """As `agebench.bench.scores.common_subset`: one that never gave an age is not waited for."""
    there = [np.isfinite(years) for years in predictions]
    alive = [rows for rows in there if rows.any()]
    if not alive:
        return np.zeros(len(there[0]) if there else 0, np.bool_)
    return np.asarray(np.logical_and.reduce(alive))


def _check_figures(
    result: ResultFile, predictions: Mapping[str, Floats], rows: Bools, true: Floats
) -> None:
    """The mean error that a result states must be that of the ages that it lists."""
    for item in result.estimators:
        stated = item["errors"] if item["available"] else {"n": 0, "mae_years": None}
        years = predictions[item["name"]][rows]
        alive = bool(len(years)) and bool(np.isfinite(years).all())
        own = mae(true[rows], years) if alive else None
        count = len(years) if alive else 0
        same = stated["n"] == count and (
            own is None or abs(own - (stated["mae_years"] or 0.0)) <= TOLERANCE_YEARS
        )
        if not same:
            raise AgebenchError(
                f"{result.path}: the mean error of {item['name']!r} is stated as "
                f"{stated['mae_years']} years on {stated['n']} pictures, but its predictions "
                f"give {own} on {count}: the file was altered; compare again"
            )


def _label(name: str, result: int, results: int, doubled: set[str]) -> str:
    return f"{name} ({letter(result)})" if results > 1 and name in doubled else name


def _people(images: Sequence[Mapping[str, Any]], rows: Bools) -> list[str | None] | None:
    people = [images[row]["identity"] for row in np.flatnonzero(rows).tolist()]
    return people if any(name is not None for name in people) else None


def _errors(
    results: Sequence[ResultFile],
    item: Mapping[str, Any],
    years: Floats,
    common: Bools,
    true: Floats,
) -> ErrorSummary | None:
    if not item["available"]:
        return None
    if len(results) == 1:
        return stated_errors(item["errors"])
    rows = np.asarray(common & np.isfinite(true) & np.isfinite(years))
    people = _people(results[0].images, rows)
    return summarise(true[rows], years[rows], clusters=people)


def _interval(bounds: Sequence[float] | None) -> Interval | None:
    return None if bounds is None else Interval(min(bounds), max(bounds))


def stated_errors(errors: Mapping[str, Any]) -> ErrorSummary:
    """Return "errors" of a result file as what the metrics give."""
    by_decade = tuple(
        DecadeError(
            part["decade"],
            part["n"],
            part["mae_years"],
            part["bias_years"],
            _interval(part.get("mae_interval")),
        )
        for part in errors["by_decade"]
    )
    return ErrorSummary(
        n=errors["n"],
        mae_years=errors["mae_years"],
        mae_interval=_interval(errors["mae_interval"]),
        rmse_years=errors["rmse_years"],
        median_years=errors["median_years"],
        bias_years=errors["bias_years"],
        cs={int(k): share for k, share in errors["cs"].items()},
        by_decade=by_decade,
    )


def _own_analysis(result: ResultFile, name: str) -> Mapping[str, Any] | None:
    analysis = result.content.get("analysis")
    found: Mapping[str, Any] | None = None
    if analysis is not None:
        found = analysis["estimators"].get(name)
    return found


def _stated_pairs(result: ResultFile) -> tuple[Mapping[str, Any], ...]:
    return tuple((result.content.get("analysis") or {"pairs": []})["pairs"])


def _tested_pairs(
    entries: Sequence[Entry], rows: Bools, true: Floats, people: list[str | None] | None
) -> tuple[Mapping[str, Any], ...]:
    """Test every two estimators of several results on the pictures that all have."""
    scored = [entry for entry in entries if entry.mae_years is not None]
    if len(scored) < 2 or not rows.any():
        return ()
    errors = np.stack([np.abs(entry.years - true)[rows] for entry in scored], axis=1)
    return tuple(
        {
            "first": scored[pair.first].label,
            "second": scored[pair.second].label,
            "n": pair.n,
            "difference_years": pair.difference_years,
            "interval": None if pair.interval is None else [pair.interval.low, pair.interval.high],
            "p_value": pair.p_value,
            "p_adjusted": pair.p_adjusted,
            "verdict": _verdict(pair),
        }
        for pair in compare_pairs(errors, clusters=people)
    )


def _verdict(pair: PairedComparison) -> str:
    if pair.p_adjusted is None or pair.p_adjusted >= 1 - LEVEL:
        return "no difference shown"
    return "first better" if pair.difference_years < 0 else "second better"


def _remarks(
    results: Sequence[ResultFile], commons: Sequence[Bools], common: Bools
) -> Iterable[str]:
    if len(results) == 1:
        return
    yield (
        f"Joined from {len(results)} results. Errors are over the {int(common.sum())} pictures "
        "that every estimator of every result gave an age for."
    )
    if any(not np.array_equal(own, common) for own in commons):
        yield (
            "The calibration, the age gates and the groups are each result's own, over its own "
            "pictures, which are not the same."
        )
    if len({result.content["detector"]["reference"] for result in results}) > 1:
        yield "The faces were found by different detectors, which alone can change an error."
    if len({_machine(result) for result in results}) > 1:
        yield "The times were taken on different machines: they can't be compared."
    else:
        yield (
            "The times were not taken in turns, but run after run: a difference between two "
            "results may be the machine's."
        )


def _machine(result: ResultFile) -> tuple[Any, ...]:
    environment = result.content["environment"]
    keys = ("system", "processor", "cores", "memory_bytes", "opencv_threads")
    return tuple(environment[key] for key in keys)
