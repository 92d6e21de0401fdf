"""Scores and ranks of the models on one set, over the same pictures.

The statistics are those of a comparison (`agebench/metrics/`), so that a leaderboard and the full
report of the same results agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from agebench.harness.predictions import not_ranked
from agebench.metrics.age_errors import METRICS
from agebench.metrics.common_pictures import common_pictures
from agebench.metrics.intervals import Interval, mean_interval, people_in
from agebench.metrics.paired_tests import compare_pairs
from agebench.suite.board import Board, BoardCell, BoardModel, BoardSet
from agebench.types import Floats
from agebench.util.arrays import Bools

SUSPECTED = "suspected to have been trained on it"


@dataclass(frozen=True, slots=True)
class Standing:
    """One model on one set.

    Attributes:
        model: its name.
        n: number of pictures: those that all ranked models gave an age for, or its own pictures if
            it answered too few.
        error_years: mean absolute error; for range labels the mean distance to them.
        interval: of this error; None with too few people.
        bias_years: mean signed error.
        answered, total: number of pictures that it gave an age for, and of all pictures.
        rank: 1 plus the number of models shown to be better; None if not ranked.
        why_unranked: why it is not ranked; "" if it is.
        contaminated: whether it was trained on these pictures or their set.
        suspected: whether this is only suspected.
        figures: the `METRICS` by key, over the same pictures; empty for range labels.
    """

    model: str
    n: int
    error_years: float
    interval: Interval | None
    bias_years: float
    answered: int
    total: int
    rank: int | None
    why_unranked: str
    contaminated: bool = False
    suspected: bool = False
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetStanding:
    """All models on one set.

    Attributes:
        pictures: the set.
        common: number of pictures that all ranked models gave an age for.
        people: number of people in them; None if not known.
        models: by name, those that gave an age.
        detectors: by name, the detector used.
    """

    pictures: BoardSet
    common: int
    people: int | None
    models: Mapping[str, Standing]
    detectors: Mapping[str, str]

    @property
    def best(self) -> list[str]:
        """Names of the models of rank 1."""
        return [name for name, entry in self.models.items() if entry.rank == 1]


def standings(board: Board) -> list[SetStanding]:
    """Return all sets in their order, each with the scores of all models."""
    return [set_standing(pictures, board.models) for pictures in board.sets]


def set_standing(pictures: BoardSet, models: Sequence[BoardModel]) -> SetStanding:
    """Return the scores of models on a set.

    As in a comparison (`agebench.metrics.common_pictures.common_pictures`) errors are over the
    pictures that every ranked model gave an age for; one that gave an age for few is not ranked.
    Contaminated models (`agebench.harness.contamination`) and suspected ones have an error and no
    rank; contamination takes precedence over suspicion.
    """
    cells = {
        model.name: cell
        for model in models
        if (cell := model.cells.get((pictures.key, ""))) and np.isfinite(cell.years).any()
    }
    if not cells:
        return SetStanding(pictures, 0, None, {}, {})
    years = np.stack([cell.years for cell in cells.values()])
    answered = np.isfinite(years)
    ranked, common = common_pictures(answered)
    errors = np.stack([pictures.signed_errors(row) for row in years])
    contamination = {name: cell.contamination(pictures.dataset) for name, cell in cells.items()}
    suspicions = {
        model.name: f"{SUSPECTED}: {model.suspected[pictures.key]}"
        for model in models
        if pictures.key in model.suspected and not contamination.get(model.name)
    }
    tested = [
        at
        for at, name in enumerate(cells)
        if ranked[at] and not contamination[name] and name not in suspicions and common.any()
    ]
    better = _shown_better(pictures, np.abs(errors[tested]), list(cells.values()))
    ranks = {at: 1 + count for at, count in zip(tested, better, strict=True)}
    answered_by_any = int(answered.any(axis=0).sum())
    entries = {}
    for at, name in enumerate(cells):
        rows = common if ranked[at] else answered[at]
        too_few = "" if ranked[at] else not_ranked(int(answered[at].sum()), answered_by_any)
        why = contamination[name] or suspicions.get(name) or too_few
        entry = _standing(name, pictures, errors[at], rows, ranks.get(at), why)
        entries[name] = replace(
            entry,
            contaminated=bool(contamination[name]),
            suspected=name in suspicions,
            figures=_figures(pictures, years[at], rows),
        )
    return SetStanding(
        pictures,
        int(common.sum()),
        people_in(pictures.clusters(np.flatnonzero(common))),
        entries,
        {name: cell.detector.reference for name, cell in cells.items()},
    )


def _shown_better(pictures: BoardSet, errors: Floats, cells: Sequence[BoardCell]) -> list[int]:
    """Return for each model how many others are better, by paired tests with Holm's correction.

    Args:
        pictures: the set.
        errors: absolute ones, shape (models, pictures), NaN if there is none.
        cells: of the set; the seed of the first is used for the swaps.
    """
    if len(errors) < 2:
        return [0] * len(errors)
    people = pictures.clusters(np.arange(errors.shape[1]))
    pairs = compare_pairs(errors.T, clusters=people, seed=cells[0].content.seed)
    counts = [0] * len(errors)
    for pair in pairs:
        better = pair.better()
        if better is not None:
            counts[pair.second if better == pair.first else pair.first] += 1
    return counts


def _figures(pictures: BoardSet, years: Floats, rows: Bools) -> dict[str, float]:
    """Return the metrics of a model's ages at the pictures `rows`; none if labels are ranges."""
    known = rows & np.isfinite(pictures.true_years) & np.isfinite(years)
    if pictures.of_ranges or not known.any():
        return {}
    true = pictures.true_years[known]
    return {metric.key: metric.compute(true, years[known]) for metric in METRICS}


def _standing(
    name: str,
    pictures: BoardSet,
    errors: Floats,
    rows: Bools,
    rank: int | None,
    why_unranked: str,
) -> Standing:
    places = np.flatnonzero(rows & np.isfinite(errors))
    chosen = errors[places]
    absolute = np.abs(chosen)
    return Standing(
        model=name,
        n=len(places),
        error_years=float(absolute.mean()) if len(places) else float("nan"),
        interval=mean_interval(absolute, clusters=pictures.clusters(places))
        if len(places)
        else None,
        bias_years=float(chosen.mean()) if len(places) else float("nan"),
        answered=int(np.isfinite(errors).sum()),
        total=len(errors),
        rank=rank,
        why_unranked=why_unranked,
    )
