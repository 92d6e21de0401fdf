"""Milliseconds of a leaderboard: from one run in which all models took turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from agebench.suite.board import Board


def median_ms(board: Board, name: str) -> float | None:
    """Return the median of a model's own stages, crop and inference; None where not timed."""
    timed = _timed(board, name)
    if timed is None:
        return None
    medians = [timed[stage]["p50_ms"] for stage in ("crop", "infer")]
    return None if None in medians else float(sum(medians))


def span_ms(board: Board, name: str) -> tuple[float, float] | None:
    """Return between what the middle 80 % of a model's times lie; None where not timed."""
    timed = _timed(board, name)
    if timed is None:
        return None
    ends = [[timed[stage][f"p{at}_ms"] for stage in ("crop", "infer")] for at in (10, 90)]
    if any(None in pair for pair in ends):
        return None
    return float(sum(ends[0])), float(sum(ends[1]))


def usual_runtime(board: Board) -> str:
    """Return the runtime that most of the timed models ran in; "" where nothing was timed."""
    if board.times is None:
        return ""
    names = Counter(
        item["runtime"]["runtime"]
        for item in board.times["models"].values()
        if item["runtime"]["runtime"] != "python"
    )
    return min(names, key=lambda name: (-names[name], name), default="")


def in_usual_runtime(board: Board, name: str) -> bool:
    """Return whether a model was timed, in the runtime of most; code without a network counts."""
    timed = _timed(board, name)
    if timed is None:
        return False
    return timed["runtime"]["runtime"] in ("python", usual_runtime(board))


def _timed(board: Board, name: str) -> Mapping[str, Any] | None:
    if board.times is None:
        return None
    found: Mapping[str, Any] | None = board.times["models"].get(name)
    return found
