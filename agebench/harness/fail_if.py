"""Checks of `--fail-if` and `--baseline`: limits on figures, and a stored result to compare with.

For use in CI: `agebench compare` and `agebench report` exit with code 1 if a check fails.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from agebench.errors import AgebenchError, UsageError, suggestion
from agebench.harness.columns import columns_of
from agebench.harness.comparability import comparable
from agebench.harness.contents import Estimator, Result
from agebench.harness.predictions import predictions_in
from agebench.harness.reading import read_result
from agebench.harness.selection import scored_on
from agebench.metrics.age_errors import METRICS, ROUNDING_YEARS, cumulative_score
from agebench.timing.latency import OWN_STAGES, SHARED_STAGES

TOLERANCE_YEARS = 0.1
"""By how much the MAE may exceed that of the baseline."""

_METRICS = {metric.name: metric for metric in METRICS}
_COUNTS = ("missed", "failed")
_SCORES = tuple(f"cs{years}" for years in range(1, 11))
_TIMES = tuple(
    f"p{percent}_{stage}_ms" for percent in (50, 90, 99) for stage in (*SHARED_STAGES, *OWN_STAGES)
)
FIGURES = (*_METRICS, *_SCORES, *_COUNTS, *_TIMES)
"""Figures a condition can name: in years, fractions 0 to 1, pictures or milliseconds."""

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
)
_CONDITION = re.compile(
    r"(?:(?P<name>.+):)?(?P<figure>\w+)\s*(?P<sign>[<>]=?)\s*(?P<limit>[-+.\w]+)", re.DOTALL
)


class FailedCheckError(AgebenchError):
    """A result meets a `--fail-if` condition or is worse than the baseline: exit code 1."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of `--fail-if`: a result fails if it holds.

    Attributes:
        text: as it was given.
        figure: one of `FIGURES`.
        sign: one of > >= < <=.
        limit: what the figure is compared with, in its unit.
        name: the estimator it applies to; "" for all.
    """

    text: str
    figure: str
    sign: str
    limit: float
    name: str = ""

    def holds(self, value: float) -> bool:
        """Return whether the condition is true of `value`, so that the result fails."""
        return _OPERATORS[self.sign](value, self.limit)


def parse_condition(text: str) -> Condition:
    """Read a condition: ``[NAME:]FIGURE>LIMIT``, with one of > >= < <=.

    Raises:
        UsageError: it is malformed, or there is no such figure.

    >>> condition = parse_condition("hse-mobilenet:p99_total_ms > 20")
    >>> condition.name, condition.figure, condition.sign, condition.limit
    ('hse-mobilenet', 'p99_total_ms', '>', 20.0)
    """
    found = _CONDITION.fullmatch(text.strip())
    try:
        limit = float(found["limit"]) if found else math.nan
    except ValueError:
        limit = math.nan
    if found is None or not math.isfinite(limit):
        raise UsageError(
            f"--fail-if {text!r} is not a condition: expected [NAME:]FIGURE>LIMIT, such as 'mae>5'"
        )
    figure = found["figure"]
    if figure not in FIGURES:
        raise UsageError(f"--fail-if {text!r}: unknown figure {figure!r}: {_hint(figure)}")
    if figure in _SCORES and not 0.0 <= limit <= 1.0:
        raise UsageError(
            f"--fail-if {text!r}: {figure} is a fraction from 0 to 1, so its limit must be too"
        )
    name = " ".join((found["name"] or "").split())
    return Condition(text, figure, found["sign"], limit, name)


def _hint(figure: str) -> str:
    """Suggest similar names; if there are none, list the kinds of figures, as there are many."""
    near = suggestion(figure, FIGURES)
    kinds = f"{', '.join(_METRICS)}, cs1 to cs10, missed, failed, p99_total_ms and similar"
    return near if near.startswith("did you mean") else f"known: {kinds}"


@dataclass(frozen=True, slots=True)
class Checks:
    """All checks of a result.

    Attributes:
        conditions: the result fails if one of them holds.
        baseline: a stored result; None without one.
        baseline_path: where the baseline was read from, for messages.
        tolerance_years: by how much an MAE may exceed that of the baseline.

    Raises:
        UsageError: the tolerance is negative or not a finite number.
    """

    conditions: tuple[Condition, ...] = ()
    baseline: Result | None = field(default=None, repr=False)
    baseline_path: str = ""
    tolerance_years: float = TOLERANCE_YEARS

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance_years) and self.tolerance_years >= 0):
            raise UsageError(f"tolerance must be at least 0 years, got {self.tolerance_years}")

    @property
    def wanted(self) -> bool:
        """Whether there is anything to check."""
        return bool(self.conditions) or self.baseline is not None

    def require_names(self, names: Sequence[str]) -> None:
        """Refuse a condition on an estimator that is not measured, before anything slow starts.

        Raises:
            UsageError: there is one; similar names are suggested.
        """
        for one in self.conditions:
            if one.name and one.name not in names:
                hint = suggestion(one.name, names)
                raise UsageError(f"--fail-if {one.text!r}: no estimator {one.name!r} here: {hint}")

    def failures(self, result: Result) -> tuple[str, ...]:
        """Return why a result fails, one short sentence per reason; empty if it passes.

        Raises:
            UsageError: a condition names an estimator that the result does not have.
        """
        self.require_names(_names(result))
        return self._reasons(result)

    def _reasons(self, result: Result) -> tuple[str, ...]:
        reasons = [reason for one in self.conditions for reason in _check(one, result)]
        if self.baseline is not None:
            reasons += _worse_than_baseline(result, self.baseline, self)
        return tuple(reasons)

    def require(self, result: Result) -> None:
        """Raise if the result fails.

        Raises:
            FailedCheckError: all reasons, in one line.
            UsageError: as `failures`.
        """
        _raise_for(self.failures(result))

    def require_each(self, results: Mapping[str, Result]) -> None:
        """Raise if one of several results fails, each by its own figures.

        Args:
            results: by the name that the reasons give them.  A condition on an estimator applies
                to the results that have it.

        Raises:
            FailedCheckError: all reasons, in one line; each names its result.
            UsageError: a condition names an estimator that no result has.
        """
        self.require_names([name for result in results.values() for name in _names(result)])
        _raise_for(
            f"{called}: {reason}"
            for called, result in results.items()
            for reason in self._reasons(result)
        )


def _names(result: Result) -> list[str]:
    return [item.name for item in result.estimators]


def _raise_for(reasons: Iterable[str]) -> None:
    if joined := "; ".join(reasons):
        raise FailedCheckError(f"check failed: {joined}")


def read_checks(
    fail_if: Sequence[str] = (),
    baseline: str | Path | None = None,
    tolerance_years: float | None = None,
) -> Checks:
    """Read checks as the command line takes them.

    Args:
        fail_if: conditions as text, see `parse_condition`.
        baseline: path of a stored result.json, or of its folder.
        tolerance_years: for the baseline; `TOLERANCE_YEARS` if not given.

    Raises:
        UsageError: a condition is malformed, or there is a tolerance without a baseline.
        AgebenchError: the stored result can't be read.
    """
    conditions = tuple(parse_condition(text) for text in fail_if)
    if baseline is None:
        if tolerance_years is not None:
            raise UsageError("a tolerance needs a baseline: give --baseline RESULT.json")
        return Checks(conditions)
    allowed = TOLERANCE_YEARS if tolerance_years is None else tolerance_years
    return Checks(conditions, _read_baseline(Path(baseline)), str(baseline), allowed)


def _read_baseline(path: Path) -> Result:
    try:
        stored = read_result(path).content
    except AgebenchError as error:
        raise AgebenchError(f"the baseline can't be used: {error}") from error
    for item in stored.estimators:
        if item.available and item.own_errors is None:
            # Without them every comparison with the baseline would pass.
            raise AgebenchError(
                f"the baseline can't be used: {path}: expected own_errors for {item.name!r}: "
                "give a result.json as 'agebench compare' wrote it"
            )
    return stored


def _own(item: Estimator) -> tuple[str, float | None, int]:
    """Return the name, the MAE over all pictures it gave an age for, and their number."""
    errors = item.own_errors if item.available else None
    return (item.name, None, 0) if errors is None else (item.name, errors.mae_years, errors.n)


def _check(condition: Condition, result: Result) -> Iterator[str]:
    for item in result.estimators:
        if condition.name not in ("", item.name):
            continue
        value, why_not = _value(condition.figure, item, result)
        if value is None:
            yield f"{item.name}: {condition.figure} is not known: {why_not}"
        elif condition.holds(value):
            rounded = f"{value:.4g}"  # 5.0001 would be 5, which is not above 5
            shown = rounded if condition.holds(float(rounded)) else str(value)
            wrong = f"{condition.sign} {condition.limit:g}"
            yield f"{item.name}: {condition.figure} is {shown} ({wrong})"


def _value(figure: str, item: Estimator, result: Result) -> tuple[float | None, str]:
    """Return a figure of an estimator, or None and why there is none."""
    if not item.available:
        return None, f"the estimator was not available: {item.unavailable_reason}"
    if figure in _COUNTS:
        return {"missed": item.missed, "failed": item.failed}[figure], ""
    if figure in _TIMES:
        percentile, stage, _ = figure.split("_")
        times = (item.latency if stage in OWN_STAGES else result.shared_latency).get(stage)
        value = None if times is None else times.percentile(float(percentile.removeprefix("p")))
        return value, "nothing was timed"
    analysed = result.analysis and result.analysis.estimators.get(item.name)
    nothing = (analysed and analysed.unranked_reason) or (
        "there is no picture with a true age for which all estimators gave one"
    )
    if figure in _SCORES:
        return _fraction_within(int(figure.removeprefix("cs")), item.name, result), nothing
    return None if item.errors is None else item.errors.figure(_METRICS[figure]), nothing


def _fraction_within(years: int, name: str, result: Result) -> float | None:
    names = [item.name for item in result.estimators if item.available]
    predictions = predictions_in(columns_of(result.pictures, names))
    rows = np.flatnonzero(predictions.common)
    if not len(rows) or name not in predictions.scored:
        return None
    true, predicted = predictions.true_years[rows], predictions.answers[name].years[rows]
    return cumulative_score(true, predicted, years)


def _worse_than_baseline(result: Result, stored: Result, checks: Checks) -> Iterator[str]:
    """Compare over each estimator's own pictures, which the other estimators do not affect."""
    where = f"baseline {checks.baseline_path}"
    why_not = comparable(scored_on(result.dataset), scored_on(stored.dataset))
    if why_not:
        yield f"can't be compared with {where}: {why_not}"
        return
    before = {name: (mae, n) for name, mae, n in map(_own, stored.estimators)}
    both = [entry for entry in map(_own, result.estimators) if entry[0] in before]
    if not both:
        yield f"{where} has none of these estimators, only {', '.join(before)}"
    for name, mae, n in both:
        old_mae, old_n = before[name]
        if n < old_n:
            yield f"{name}: an age for {n} pictures only, {old_n} in {where}"
        if old_mae is None:
            continue  # nothing to compare with
        if mae is None:
            yield f"{name}: no MAE, {old_mae:.3f} in {where}"
        elif mae > old_mae + checks.tolerance_years + ROUNDING_YEARS:
            now, old = _showing_a_rise(mae, old_mae, checks.tolerance_years)
            yield (
                f"{name}: MAE {now} is more than {checks.tolerance_years:g} above {old} in {where}"
            )
    yield from _further_from_ranges(result, stored, checks.tolerance_years, where)


def _showing_a_rise(now: float, before: float, tolerance_years: float) -> tuple[str, str]:
    """Return both with three decimals, or all of them where three hide the rise."""
    texts = f"{now:.3f}", f"{before:.3f}"
    if float(texts[0]) > float(texts[1]) + tolerance_years + ROUNDING_YEARS:
        return texts
    return str(now), str(before)


def _further_from_ranges(
    result: Result, stored: Result, tolerance_years: float, where: str
) -> Iterator[str]:
    """Compare distances to labels that are age ranges, over the same number of pictures."""
    now = {item.name: item.ranges if item.available else None for item in result.estimators}
    for item in stored.estimators:
        old = item.ranges
        if not item.available or old is None or item.name not in now:
            continue
        ranges = now[item.name]
        count = 0 if ranges is None else ranges.n
        if ranges is None or count != old.n:
            yield (
                f"{item.name}: {count} pictures with an age range had an age from every "
                f"estimator, {old.n} in {where}: they can't be compared"
            )
        elif ranges.distance_years > old.distance_years + tolerance_years + ROUNDING_YEARS:
            far, before = _showing_a_rise(
                ranges.distance_years, old.distance_years, tolerance_years
            )
            yield (
                f"{item.name}: {far} years to the range is more than "
                f"{tolerance_years:g} above {before} in {where}"
            )
