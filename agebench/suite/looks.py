"""The look of each model in figures, the same on the whole page."""

from __future__ import annotations

from collections.abc import Mapping

from agebench.report.svg import BASELINE_LOOK, Look, look
from agebench.suite.board import Board


def model_looks(board: Board) -> Mapping[str, Look]:
    """Return the look of each model by name; the baseline is gray, as in every report."""
    positions = iter(range(len(board.models)))
    return {
        model.name: BASELINE_LOOK if model.is_constant else look(next(positions))
        for model in board.models
    }
