"""Gates: figures that a result must keep to, and a stored result that it must not fall behind.

For use in a build: `agebench compare` and `agebench report` end with exit code 1 if one fails.
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
from agebench.metrics.age_errors import METRICS, cumulative_score
from agebench.timing.latency import OWN_STAGES, SHARED_STAGES

TOLERANCE_YEARS = 0.1
"""By how much the MAE may be above that of a stored result."""

_METRICS = {metric.name: metric for metric in METRICS}
_COUNTS = ("missed", "failed")
_SCORES = tuple(f"cs{years}" for years in range(1, 11))
_TIMES = tuple(
    f"p{percent}_{stage}_ms" for percent in (50, 90, 99) for stage in (*SHARED_STAGES, *OWN_STAGES)
)
FIGURES = (*_METRICS, *_SCORES, *_COUNTS, *_TIMES)
"""Names of what a gate can look at: years, fractions 0 to 1, pictures, milliseconds."""

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
)
_GATE = re.compile(
    r"(?:(?P<name>.+):)?(?P<figure>\w+)\s*(?P<sign>[<>]=?)\s*(?P<limit>[-+.\w]+)", re.DOTALL
)


class GateError(AgebenchError):
    """A result fails a gate, or falls behind a stored one: exit code 1."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What a figure must not be.

    Attributes:
        text: as it was given.
        figure: one of `FIGURES`.
        sign: one of > >= < <=.
        limit: what it is compared with, in the figure's unit.
        name: the estimator that it is about; "" for all.
    """

    text: str
    figure: str
    sign: str
    limit: float
    name: str = ""

    def fails(self, value: float) -> bool:
        """Return whether `value` is what the gate forbids."""
        return _OPERATORS[self.sign](value, self.limit)


def parse_gate(text: str) -> Gate:
    """Read a gate: ``[NAME:]FIGURE>LIMIT``, with one of > >= < <=.

    Raises:
        UsageError: it is none, or there is no such figure.

    >>> gate = parse_gate("hse-mobilenet:p99_total_ms > 20")
    >>> gate.name, gate.figure, gate.sign, gate.limit
    ('hse-mobilenet', 'p99_total_ms', '>', 20.0)
    """
    found = _GATE.fullmatch(text.strip())
    try:
        limit = float(found["limit"]) if found else math.nan
    except ValueError:
        limit = math.nan
    if found is None or not math.isfinite(limit):
        raise UsageError(f"{text!r} is not a gate: expected [NAME:]FIGURE>LIMIT, such as 'mae>5'")
    figure = found["figure"]
    if figure not in FIGURES:
        raise UsageError(f"gate {text!r}: unknown figure {figure!r}: {_hint(figure)}")
    if figure in _SCORES and not 0.0 <= limit <= 1.0:
        raise UsageError(
            f"gate {text!r}: {figure} is a fraction from 0 to 1, so its limit must be too"
        )
    name = " ".join((found["name"] or "").split())
    return Gate(text, figure, found["sign"], limit, name)


def _hint(figure: str) -> str:
    """Name near matches; with none, the kinds of figure, since all would fill a screen."""
    near = suggestion(figure, FIGURES)
    kinds = f"{', '.join(_METRICS)}, cs1 to cs10, missed, failed, p99_total_ms and its like"
    return near if near.startswith("did you mean") else f"known: {kinds}"


@dataclass(frozen=True, slots=True)
class Gates:
    """All that a result must keep to.

    Attributes:
        gates: what its figures must not be.
        baseline: a stored result; None without one.
        baseline_path: where that came from, for messages.
        tolerance_years: by how much an MAE may be above the stored one.

    Raises:
        UsageError: the tolerance is negative or no number.
    """

    gates: tuple[Gate, ...] = ()
    baseline: Result | None = field(default=None, repr=False)
    baseline_path: str = ""
    tolerance_years: float = TOLERANCE_YEARS

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance_years) and self.tolerance_years >= 0):
            raise UsageError(f"tolerance must be years from 0, got {self.tolerance_years}")

    @property
    def wanted(self) -> bool:
        """There is something to keep to."""
        return bool(self.gates) or self.baseline is not None

    def require_names(self, names: Sequence[str]) -> None:
        """Refuse a gate about an estimator that takes no part, before anything long begins.

        Raises:
            UsageError: there is one; near matches are named.
        """
        for gate in self.gates:
            if gate.name and gate.name not in names:
                hint = suggestion(gate.name, names)
                raise UsageError(f"gate {gate.text!r}: no estimator {gate.name!r} here: {hint}")

    def failures(self, result: Result) -> tuple[str, ...]:
        """Return why a result fails, one short sentence each; empty where it does not.

        Args:
            result: what it has to keep to them.

        Raises:
            UsageError: a gate is about an estimator that the result does not have.
        """
        self.require_names(_names(result))
        return self._reasons(result)

    def _reasons(self, result: Result) -> tuple[str, ...]:
        reasons = [reason for gate in self.gates for reason in _check(gate, result)]
        if self.baseline is not None:
            reasons += _fallen_behind(result, self.baseline, self)
        return tuple(reasons)

    def require(self, result: Result) -> None:
        """Raise if the result fails.

        Raises:
            GateError: all reasons, in one line.
            UsageError: as `failures`.
        """
        _raise_for(self.failures(result))

    def require_each(self, results: Mapping[str, Result]) -> None:
        """Raise if one of several results fails, each by its own figures.

        Args:
            results: by what the reasons call them. A gate about an estimator is one about the
                results that have it.

        Raises:
            GateError: all reasons, in one line; each names its result.
            UsageError: a gate is about an estimator that no result has.
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
    told = "; ".join(reasons)
    if told:
        raise GateError(f"gate failed: {told}")


def read_gates(
    fail_if: Sequence[str] = (),
    baseline: str | Path | None = None,
    tolerance_years: float | None = None,
) -> Gates:
    """Read gates as the command line takes them.

    Args:
        fail_if: gates as text, see `parse_gate`.
        baseline: path of a stored result.json, or of the folder it is in.
        tolerance_years: for the baseline; `TOLERANCE_YEARS` if not given.

    Raises:
        UsageError: a gate is malformed, or there is a tolerance without a baseline.
        AgebenchError: the stored result can't be read.
    """
    gates = tuple(parse_gate(text) for text in fail_if)
    if baseline is None:
        if tolerance_years is not None:
            raise UsageError("a tolerance needs a baseline: give --baseline RESULT.json")
        return Gates(gates)
    allowed = TOLERANCE_YEARS if tolerance_years is None else tolerance_years
    return Gates(gates, _read_baseline(Path(baseline)), str(baseline), allowed)


def _read_baseline(path: Path) -> Result:
    try:
        stored = read_result(path).content
    except AgebenchError as error:
        raise AgebenchError(f"the baseline can't be taken: {error}") from error
    for item in stored.estimators:
        if item.available and item.own_errors is None:
            # Nothing could fall behind it: each comparison with it would pass.
            raise AgebenchError(
                f"the baseline can't be taken: {path} was expected to say own_errors of "
                f"{item.name!r}: give a result.json as 'agebench compare' wrote it"
            )
    return stored


def _own(item: Estimator) -> tuple[str, float | None, int]:
    """Name, MAE over all pictures that it gave an age for, and their number."""
    errors = item.own_errors if item.available else None
    return (item.name, None, 0) if errors is None else (item.name, errors.mae_years, errors.n)


def _check(gate: Gate, result: Result) -> Iterator[str]:
    for item in result.estimators:
        if gate.name not in ("", item.name):
            continue
        value, why_not = _value(gate.figure, item, result)
        if value is None:
            yield f"{item.name}: {gate.figure} is not known: {why_not}"
        elif gate.fails(value):
            yield f"{item.name}: {gate.figure} is {value:.4g} ({gate.sign} {gate.limit:g})"


def _value(figure: str, item: Estimator, result: Result) -> tuple[float | None, str]:
    """Return a figure of an estimator, or None and why it is not there."""
    if not item.available:
        return None, f"the estimator was not available: {item.unavailable_reason}"
    if figure in _COUNTS:
        return {"missed": item.missed, "failed": item.failed}[figure], ""
    if figure in _TIMES:
        percentile, stage, _ = figure.split("_")
        times = (item.latency if stage in OWN_STAGES else result.shared_latency).get(stage)
        value = None if times is None else times.percentile(float(percentile.removeprefix("p")))
        return value, "nothing was timed"
    nothing = "there is no picture with a true age for which all estimators gave one"
    if figure in _SCORES:
        return _share_within(int(figure.removeprefix("cs")), item.name, result), nothing
    return None if item.errors is None else item.errors.figure(_METRICS[figure]), nothing


def _share_within(years: int, name: str, result: Result) -> float | None:
    names = [item.name for item in result.estimators if item.available]
    predictions = predictions_in(columns_of(result.pictures, names))
    rows = np.flatnonzero(predictions.common)
    if not len(rows) or name not in predictions.scored:
        return None
    true, given = predictions.true_years[rows], predictions.answers[name].years[rows]
    return cumulative_score(true, given, years)


def _fallen_behind(result: Result, stored: Result, gates: Gates) -> Iterator[str]:
    """Compare each estimator's own pictures, on which the other contenders have no influence."""
    where = f"baseline {gates.baseline_path}"
    why_not = comparable(scored_on(result.dataset), scored_on(stored.dataset))
    if why_not:
        yield f"not to be compared with {where}: {why_not}"
        return
    before = {name: (mae, n) for name, mae, n in map(_own, stored.estimators)}
    both = [entry for entry in map(_own, result.estimators) if entry[0] in before]
    if not both:
        yield f"{where} holds none of these estimators, only {', '.join(before)}"
    for name, mae, n in both:
        old_mae, old_n = before[name]
        if n < old_n:
            yield f"{name}: an age for {n} pictures only, {old_n} in {where}"
        if old_mae is None:
            continue  # there is nothing to fall behind
        if mae is None:
            yield f"{name}: no MAE, {old_mae:.3f} in {where}"
        elif mae > old_mae + gates.tolerance_years:
            yield (
                f"{name}: MAE {mae:.3f} is more than {gates.tolerance_years:g} above "
                f"{old_mae:.3f} of {where}"
            )
    yield from _further_from_ranges(result, stored, gates.tolerance_years, where)


def _further_from_ranges(
    result: Result, stored: Result, tolerance_years: float, where: str
) -> Iterator[str]:
    """Compare the distances to labels that are age ranges, over the same number of pictures."""
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
                f"estimator, {old.n} in {where}: not to be compared"
            )
        elif ranges.distance_years > old.distance_years + tolerance_years:
            yield (
                f"{item.name}: {ranges.distance_years:.3f} years to the range are more than "
                f"{tolerance_years:g} above {old.distance_years:.3f} of {where}"
            )
