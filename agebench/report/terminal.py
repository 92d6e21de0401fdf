"""What changed, in lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agebench.metrics.number_format import bounds, counted, milliseconds, number
from agebench.report.changes import Change


def change_lines(changes: Sequence[Change]) -> Iterator[str]:
    """Say in one line per estimator what became of it; names are not made inert here."""
    for change in changes:
        ends = bounds(change.interval)
        interval = f", difference {ends}" if ends else ""
        yield (
            f"{change.name}: MAE {number(change.before_mae_years)} to "
            f"{number(change.after_mae_years)} ({change.verdict}{interval}), p50 "
            f"{milliseconds(change.before_p50_ms)} to {milliseconds(change.after_p50_ms)} ms, "
            f"{counted(change.changed, 'changed age')}"
        )
