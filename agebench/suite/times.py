"""Milliseconds of a leaderboard, from one run in which all models took turns."""

from __future__ import annotations

from collections import Counter

from agebench.suite.board import Board
from agebench.suite.board_structure import TimedModel


def median_ms(board: Board, name: str) -> float | None:
    """Return the medians of a model's own stages, crop and inference, added; None if not timed."""
    timed = _timed(board, name)
    return None if timed is None else _sum(timed.crop.p50_ms, timed.infer.p50_ms)


def span_ms(board: Board, name: str) -> tuple[float, float] | None:
    """Return the 10th and the 90th percentiles of these stages, added; None if not timed."""
    timed = _timed(board, name)
    if timed is None:
        return None
    low = _sum(timed.crop.p10_ms, timed.infer.p10_ms)
    high = _sum(timed.crop.p90_ms, timed.infer.p90_ms)
    return None if low is None or high is None else (low, high)


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second


def usual_runtime(board: Board) -> str:
    """Return the runtime of most of the timed models; "" if nothing was timed."""
    if board.times is None:
        return ""
    names = Counter(
        item.runtime.runtime
        for item in board.times.models.values()
        if item.runtime.runtime != "python"
    )
    return min(names, key=lambda name: (-names[name], name), default="")


def in_usual_runtime(board: Board, name: str) -> bool:
    """Return whether a model was timed in the most frequent runtime, or without a network."""
    timed = _timed(board, name)
    return timed is not None and timed.runtime.runtime in ("python", usual_runtime(board))


def _timed(board: Board, name: str) -> TimedModel | None:
    return None if board.times is None else board.times.models.get(name)
