"""Changes between two results on the same pictures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agebench.harness.contents_setup import Model
from agebench.harness.reading import ResultFile
from agebench.metrics.intervals import Interval, mean_interval
from agebench.metrics.number_format import bounds, counted, milliseconds, number
from agebench.report.joining import Entry, Joined
from agebench.util.arrays import Bools

CHANGED_YEARS = 0.005
"""Predictions that differ by more than this count as changed: half of the last digit shown."""

MAX_LISTED = 10


@dataclass(frozen=True, slots=True)
class PictureChange:
    """A picture whose predicted age changed; an age is None if there was none."""

    picture: str
    true_years: float | None
    before_years: float | None
    after_years: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """How one estimator changed from the first result to the second.

    Attributes:
        name: of the estimator, in both.
        n: number of pictures with a known true age that it gave an age for in both.
        before_mae_years, after_mae_years: its mean absolute error on these; None if `n` is 0.
        interval: of after minus before; None with too few pictures or people.
        verdict: "better", "worse", "no difference shown" or "the same".
        before_p50_ms, after_p50_ms: median of its total time; None if not timed.
        changed: number of pictures with a different age, or with an age in only one of the results.
        pictures: those of them whose age changed most.
    """

    name: str
    n: int
    before_mae_years: float | None
    after_mae_years: float | None
    interval: Interval | None
    verdict: str
    before_p50_ms: float | None
    after_p50_ms: float | None
    changed: int
    pictures: tuple[PictureChange, ...]


def changes(joined: Joined) -> tuple[Change, ...]:
    """Compare the estimators of the same name in two results; empty for any other number."""
    if len(joined.results) != 2:
        return ()
    before, after = (
        {entry.name: entry for entry in joined.entries if entry.result == at} for at in (0, 1)
    )
    return tuple(_change(joined, before[name], after[name]) for name in before if name in after)


def _change(joined: Joined, before: Entry, after: Entry) -> Change:
    true = joined.true_years
    both = np.isfinite(before.years) & np.isfinite(after.years)
    rows = np.asarray(both & np.isfinite(true))
    old, new = np.abs(before.years - true), np.abs(after.years - true)
    difference = (new - old)[rows]
    interval = mean_interval(difference, clusters=joined.people(rows), positive=False)
    with np.errstate(invalid="ignore"):
        moved = np.abs(after.years - before.years) > CHANGED_YEARS
    moved |= np.isfinite(before.years) != np.isfinite(after.years)
    n = int(rows.sum())
    return Change(
        name=before.name,
        n=n,
        before_mae_years=float(old[rows].mean()) if n else None,
        after_mae_years=float(new[rows].mean()) if n else None,
        interval=interval,
        verdict=_verdict(interval, bool(moved.any())),
        before_p50_ms=_median(before),
        after_p50_ms=_median(after),
        changed=int(moved.sum()),
        pictures=tuple(_most_changed(joined, before, after, moved)),
    )


def _verdict(interval: Interval | None, moved: bool) -> str:
    if not moved:
        return "the same"
    if interval is None or interval.low <= 0 <= interval.high:
        return "no difference shown"
    return "worse" if interval.low > 0 else "better"


def _median(entry: Entry) -> float | None:
    samples = entry.samples_ms("total")
    return float(np.median(samples)) if len(samples) else None


def _most_changed(
    joined: Joined, before: Entry, after: Entry, moved: Bools
) -> Iterable[PictureChange]:
    # An age that is in only one of the results counts as the largest change.
    size = np.nan_to_num(np.abs(after.years - before.years), nan=np.inf)
    rows = np.flatnonzero(moved)
    for row in rows[np.argsort(-size[rows], kind="stable")][:MAX_LISTED].tolist():
        values = (joined.true_years[row], before.years[row], after.years[row])
        shown = (float(value) if np.isfinite(value) else None for value in values)
        yield PictureChange(joined.pictures[row]["picture"], *shown)


def change_lines(changes: Sequence[Change]) -> Iterator[str]:
    """Yield one line per estimator for the terminal; names are not sanitised here."""
    for change in changes:
        ends = bounds(change.interval)
        interval = f", difference {ends}" if ends else ""
        yield (
            f"{change.name}: MAE {number(change.before_mae_years)} to "
            f"{number(change.after_mae_years)} ({change.verdict}{interval}), p50 "
            f"{milliseconds(change.before_p50_ms)} to {milliseconds(change.after_p50_ms)} ms, "
            f"{counted(change.changed, 'changed age')}"
        )


def circumstances(before: ResultFile, after: ResultFile) -> list[tuple[str, str, str]]:
    """Return what else differs: versions, machine, settings, detector and model files.

    Only what both results state is compared: estimators that are in just one of them, and settings
    that did not exist yet when the older one was written, are left out.

    Returns:
        Name, value before and value after, sorted by name; "" for a missing value.
    """
    both = {item.name for item in before.estimators if item.spec is not None}
    both &= {item.name for item in after.estimators if item.spec is not None}
    first, second = _flat(before, both), _flat(after, both)
    in_one_only = {f"settings.{name}" for name in before.content.settings}
    in_one_only ^= {f"settings.{name}" for name in after.content.settings}
    return [
        (name, first.get(name, ""), second.get(name, ""))
        for name in sorted({*first, *second} - in_one_only)
        if first.get(name, "") != second.get(name, "")
    ]


def _flat(result: ResultFile, estimators: Collection[str]) -> dict[str, str]:
    detector = result.content.detector
    found = {
        **_flattened("environment", result.written["environment"]),
        **_flattened("settings", result.content.settings),
        "detector": detector.reference,
        **_model("detector", detector),
    }
    for item in result.estimators:
        if item.name in estimators and item.spec is not None:
            found |= _model(item.name, item.spec)
    return found


def _model(name: str, spec: Model) -> dict[str, str]:
    runtime = spec.runtime
    files = ", ".join(f"{item.file} {item.sha256[:12]}" for item in spec.weights)
    return {
        f"{name}: model files": files,
        f"{name}: runtime": f"{runtime.called}, {runtime.device}",
        **_flattened(f"{name}: settings", spec.settings),
    }


def _flattened(prefix: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {prefix: "" if value is None else str(value)}
    found: dict[str, str] = {}
    for key, item in value.items():
        found |= _flattened(f"{prefix}.{key}", item)
    return found
