"""Joining result files on the same pictures: estimators are scored on the pictures all answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypedDict

import numpy as np

from agebench.errors import AgebenchError, UsageError
from agebench.harness.analysis import analyse
from agebench.harness.columns import Columns, EstimatorAnswers, columns_of
from agebench.harness.contamination import contamination_of
from agebench.harness.contents import Estimator
from agebench.harness.contents_pictures import Picture
from agebench.harness.contents_setup import Dataset, Spec
from agebench.harness.contents_statistics import Analysed, Analysis, Pair
from agebench.harness.reading import ResultFile
from agebench.harness.scores import RangeScore, classes_at, errors_at, people_at, ranges_at
from agebench.metrics.common_pictures import LEAST_ANSWERED, common_pictures
from agebench.metrics.error_summary import ErrorSummary
from agebench.metrics.intervals import people_in
from agebench.metrics.label_accuracy import ClassAccuracy
from agebench.report.join_checks import require_comparable, require_consistent_figures
from agebench.types import AgeBins, Floats
from agebench.util.arrays import Bools


@dataclass(frozen=True, slots=True)
class Entry:
    """One estimator of one result.

    Attributes:
        label: its unique name in the report, with the result's letter if several results have an
            estimator of that name.
        name: its name in its own result.
        result: index of that result.
        content: its entry of "estimators".
        years: predicted ages, shape (pictures,), NaN if there is none.
        errors: over the pictures that all entries gave an age for; None if not available.
        ranges: against labels that are ranges, over the pictures with such labels that all entries
            gave an age for; None if the labels are not ranges.
        classes: how often its own class was right there, labels that are ranges included; None for
            an estimator without classes.
        analysis: its part of the analysis; None if it was not available.
        contamination: why it gets no verdict; "" if it is not contaminated.
    """

    label: str
    name: str
    result: int
    content: Estimator
    years: Floats
    errors: ErrorSummary | None
    ranges: RangeScore | None
    classes: ClassAccuracy | None
    analysis: Analysed | None
    contamination: str = ""

    @property
    def own_classes(self) -> AgeBins | None:
        """The classes that it answers with; None for an estimator without."""
        return _bins(self.content.spec)

    @property
    def mae_years(self) -> float | None:
        """Mean absolute error; None if there is none."""
        return None if self.errors is None else self.errors.mae_years

    @property
    def mae_with_misses_years(self) -> float | None:
        """Mean absolute error that also counts pictures without an age; None if not known."""
        found = None if self.analysis is None else self.analysis.with_misses
        return None if found is None else found.mae_years

    @property
    def spec(self) -> Spec:
        """Its spec; only for estimators that were available."""
        assert self.content.spec is not None  # noqa: S101 - checked when the file was read
        return self.content.spec

    def samples_ms(self, stage: str) -> Floats:
        """Return all times of one of its stages in milliseconds, in the order taken."""
        times = self.content.latency.get(stage)
        return np.asarray(() if times is None else times.samples_ms, np.float64)


@dataclass(frozen=True, slots=True)
class Joined:
    """The results that a report is about.

    Attributes:
        results: in the order given.
        entries: all estimators of all results, best mean error first; then contaminated ones, then
            those without an error.
        columns: the pictures of each result.
        common: shape (pictures,), true if every ranked estimator gave an age.
        analysis: of the result, or of all joined ones, by the entries' labels.
        remarks: what a reader should know about the joining, in sentences.
    """

    results: tuple[ResultFile, ...]
    entries: tuple[Entry, ...]
    columns: tuple[Columns, ...]
    common: Bools
    analysis: Analysis
    remarks: tuple[str, ...]

    @property
    def pictures(self) -> Sequence[Picture]:
        """The pictures, from the first result."""
        return self.results[0].pictures

    @property
    def true_years(self) -> Floats:
        """True ages, shape (pictures,), NaN if only a range is known."""
        return self.columns[0].true_years

    @property
    def dataset(self) -> Dataset:
        """The data set, from the first result."""
        return self.results[0].dataset

    @property
    def scored(self) -> tuple[Entry, ...]:
        """The entries that have a mean error, in the order of `entries`."""
        return tuple(entry for entry in self.entries if entry.mae_years is not None)

    @property
    def best(self) -> Entry | None:
        """The entry with the lowest mean error that is not contaminated; None if all are."""
        return next((entry for entry in self.scored if not entry.contamination), None)

    @property
    def judged_alone(self) -> bool:
        """Whether all but the best are contaminated, so that it is compared with no other."""
        return len(self.scored) > 1 and sum(not entry.contamination for entry in self.scored) == 1

    @property
    def rows(self) -> Bools:
        """Which common pictures have a known true age, shape (pictures,)."""
        return np.asarray(self.common & np.isfinite(self.true_years))

    @property
    def pairs(self) -> Sequence[Pair]:
        """The tests between every two estimators, by the entries' labels."""
        return self.analysis.pairs

    @property
    def number_of_people(self) -> int | None:
        """Number of people in the common pictures; None if no identities are known."""
        return people_in(self.people(self.rows))

    def people(self, rows: Bools) -> list[str | None] | None:
        """Return the identities in those pictures; None if none is known."""
        return people_at(self.columns[0], np.flatnonzero(rows))


def letter(position: int) -> str:
    """Return the letters of the result at `position`: A, B, ..., Z, AA, ...

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
    """Join results, and score every estimator on the pictures that all gave an age for.

    A single result keeps its own figures; several results are scored and analysed again.

    Raises:
        UsageError: they differ in data, protocol or kind of label, or one is given twice.
        AgebenchError: the stated figures of one are not those of its predictions.
    """
    if not results:
        raise UsageError("expected at least one result file, got none")
    require_comparable(results)
    columns = [_columns(result) for result in results]
    true = columns[0].true_years
    parts = [{name: item.years for name, item in part.answers.items()} for part in columns]
    for result, part in zip(results, parts, strict=True):
        rows = _common(part.values(), _minimum_answered(results=[result]))
        require_consistent_figures(result, part, rows & np.isfinite(true), true)
    all_years = (years for part in parts for years in part.values())
    common = _common(all_years, _minimum_answered(results))
    labels = _labels(results)
    stated = results[0].content.analysis if len(results) == 1 else None
    analysis = stated or _analysed(results, columns, labels)
    entries = [
        Entry(
            label=labels[at, item.name],
            name=item.name,
            result=at,
            content=item,
            years=part[item.name],
            **_scores(results, columns[0], item, columns[at].answers[item.name], common),
            analysis=analysis.estimators.get(labels[at, item.name]),
            contamination=contamination_of(item, result.dataset),
        )
        for at, (result, part) in enumerate(zip(results, parts, strict=True))
        for item in result.estimators
    ]
    entries.sort(key=rank)
    return Joined(
        results=tuple(results),
        entries=tuple(entries),
        columns=tuple(columns),
        common=common,
        analysis=analysis,
        remarks=tuple(_remarks(results, int(common.sum()))),
    )


class Ranked(Protocol):
    """What an estimator's place in a ranking depends on."""

    @property
    def mae_years(self) -> float | None:
        """Mean absolute error; None if there is none."""

    @property
    def contamination(self) -> str:
        """Why it gets no verdict; "" if it is not contaminated."""


def rank(item: Ranked) -> tuple[bool, bool, float]:
    """Return the key to sort estimators by: contaminated ones and those without error are last."""
    return item.mae_years is None, bool(item.contamination), item.mae_years or 0.0


def _analysed(
    results: Sequence[ResultFile],
    columns: Sequence[Columns],
    labels: Mapping[tuple[int, str], str],
) -> Analysis:
    """Analyse the estimators of several results as if they were of one."""
    estimators = [
        (replace(item, name=labels[at, item.name]), columns[at].answers[item.name])
        for at, result in enumerate(results)
        for item in result.estimators
    ]
    try:
        return analyse(
            replace(
                columns[0],
                answers={item.name: answers for item, answers in estimators if item.available},
            ),
            [item for item, _ in estimators],
            results[0].dataset,
            results[0].content.settings["seed"],
        )
    except ValueError as error:
        # The statistics rely on files by the harness, but others may have written these.
        files = " and ".join(str(result.path) for result in results)
        raise AgebenchError(
            f"{files}: can't be analysed ({error}): give a result.json as written by "
            "'agebench compare'"
        ) from error


def _minimum_answered(results: Sequence[ResultFile]) -> float:
    """Return the fraction of pictures that a ranked estimator must have answered.

    A single file keeps its figures: in version 1, all estimators with any age were ranked.
    """
    old = len(results) == 1 and results[0].content.schema_version == 1
    return 0.0 if old else LEAST_ANSWERED


def _labels(results: Sequence[ResultFile]) -> dict[tuple[int, str], str]:
    """Return a unique label for each estimator, by the index of its result and its name."""
    names = [(at, item.name) for at, result in enumerate(results) for item in result.estimators]
    times = Counter(name for _, name in names)
    labels: dict[tuple[int, str], str] = {}
    for at, name in names:
        label = name if times[name] == 1 else f"{name} ({letter(at)})"
        while label in labels.values():
            label += "'"
        labels[at, name] = label
    return labels


def _columns(result: ResultFile) -> Columns:
    """Return the predicted ages by estimator, with the columns of the pictures."""
    try:
        found = columns_of(result.pictures, [item.name for item in result.estimators])
        for item in result.estimators:
            classes, largest = (
                _bins(item.spec),
                found.answers[item.name].class_index.max(initial=-1),
            )
            if classes is not None and largest >= len(classes):
                raise ValueError(
                    f"expected at most {len(classes) - 1} as class_index of {item.name!r}, which "
                    f"has {len(classes)} classes, got {largest}"
                )
    except ValueError as error:
        raise AgebenchError(f"{result.path} is not a result: {error}") from error
    return found


def _common(predictions: Iterable[Floats], minimum: float) -> Bools:
    """Return the common pictures; `minimum` is that of `_minimum_answered`."""
    answered = [np.isfinite(years) for years in predictions]
    return common_pictures(np.stack(answered), minimum)[1] if answered else np.zeros(0, np.bool_)


class _Scores(TypedDict):
    """Fields of `Entry` that are computed again for joined results."""

    errors: ErrorSummary | None
    ranges: RangeScore | None
    classes: ClassAccuracy | None


def _scores(
    results: Sequence[ResultFile],
    columns: Columns,
    item: Estimator,
    answers: EstimatorAnswers,
    common: Bools,
) -> _Scores:
    if not item.available:
        return {"errors": None, "ranges": item.ranges, "classes": None}
    if len(results) == 1:
        return {"errors": item.errors, "ranges": item.ranges, "classes": item.classes}
    # One that is not ranked has no figures on these pictures.
    rows = common if answers.answered[common].all() else np.zeros_like(common)
    return {
        "errors": errors_at(columns, answers, rows),
        "ranges": ranges_at(columns, answers, rows),
        "classes": classes_at(columns, answers, rows, _bins(item.spec)),
    }


def _bins(spec: Spec | None) -> AgeBins | None:
    if spec is None or spec.classes is None:
        return None
    lows, highs = (
        tuple(int(year) for year in ends) for ends in (spec.classes.lows, spec.classes.highs)
    )
    return AgeBins(lows, highs)


def _remarks(results: Sequence[ResultFile], common: int) -> Iterable[str]:
    if len(results) == 1:
        return
    yield (
        f"Joined from {len(results)} results. All figures were recomputed over the {common:,} "
        "pictures that every ranked estimator of every result gave an age for."
    )
    if len({result.content.detector.reference for result in results}) > 1:
        yield "The faces were found by different detectors, which alone can change an error."
    if len({_machine(result) for result in results}) > 1:
        yield "The times were measured on different machines and can't be compared."
    else:
        yield (
            "The estimators of different results did not take turns: a difference between their "
            "times may be due to the machine."
        )


def _machine(result: ResultFile) -> tuple[str | int, ...]:
    machine = result.content.environment
    return (
        machine.system,
        machine.processor,
        machine.cores,
        machine.memory_bytes,
        machine.opencv_threads,
    )
