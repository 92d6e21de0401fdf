"""All statistics of a result beyond its plain errors: "analysis" in result.json.

Joined results are analysed in the same way.  docs/statistics.md explains each figure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from agebench.harness.columns import DISTRIBUTION_SCORES, INTERVALS, Columns
from agebench.harness.contamination import NamedSet, contamination_of
from agebench.harness.contents import Estimator
from agebench.harness.contents_setup import Spec
from agebench.harness.contents_statistics import (
    Analysed,
    Analysis,
    AnalysisMethod,
    Baseline,
    Calibration,
    Group,
    Pair,
    Verdict,
    WithMisses,
)
from agebench.harness.predictions import Predictions, predictions_in
from agebench.metrics.age_classes import ADIENCE_CLASSES, nearest_class
from agebench.metrics.age_thresholds import ThresholdRates, threshold_rates
from agebench.metrics.calibration import LEVELS, coverage, pit_counts
from agebench.metrics.common_pictures import LEAST_ANSWERED
from agebench.metrics.error_summary import part_error
from agebench.metrics.intervals import (
    LEVEL,
    MINIMUM_PEOPLE,
    MINIMUM_PICTURES,
    cluster_codes,
    people_in,
)
from agebench.metrics.label_accuracy import ClassAccuracy, class_accuracy
from agebench.metrics.paired_tests import (
    PERMUTATIONS,
    PairedComparison,
    compare_pairs,
    is_significant,
)
from agebench.types import Floats, plain
from agebench.util.arrays import Ints, finite_floats, one_blas_thread

MOST_VALUES = 100
"""An attribute with more values does not describe groups and is left out."""


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """How the statistics are computed.

    Attributes:
        permutations: minimum for each paired test; many pairs need more.
        level: confidence of all intervals; 1 - level is what adjusted p-values are compared with.
        minimum_n: pictures that a group needs for its figures.

    Raises:
        ValueError: a number is out of range.
    """

    permutations: int = PERMUTATIONS
    level: float = LEVEL
    minimum_n: int = MINIMUM_PICTURES

    def __post_init__(self) -> None:
        if min(self.permutations, self.minimum_n) < 1:
            raise ValueError("permutations and minimum_n must be at least 1")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"level must be above 0 and below 1, got {self.level}")


@dataclass(frozen=True, slots=True)
class _Common:
    """The common subset of a result, and how to analyse it."""

    predictions: Predictions
    rows: Ints
    settings: AnalysisSettings
    seed: int

    @property
    def true(self) -> Floats:
        return self.predictions.true_years[self.rows]

    @property
    def clusters(self) -> list[str | None] | None:
        return self.predictions.clusters_of(self.rows)

    def predicted(self, name: str) -> Floats:
        return self.predictions.answers[name].years[self.rows]


@one_blas_thread()
def analyse(
    columns: Columns,
    estimators: Sequence[Estimator],
    dataset: NamedSet,
    seed: int,
    settings: AnalysisSettings | None = None,
) -> Analysis:
    """Return the statistics of a result.

    Args:
        columns: of the pictures and the available estimators.
        estimators: all, available or not.  A contaminated one is left out of every test.
        dataset: what was scored.
        seed: for all random numbers used here.
        settings: the defaults if not given.
    """
    settings = settings or AnalysisSettings()
    predictions = predictions_in(columns)
    rows = np.flatnonzero(predictions.common)
    common = _Common(predictions, rows, settings, seed)
    baseline = _baseline(estimators, predictions)
    contaminated = {item.name: contamination_of(item, dataset) for item in estimators}
    specs = {item.name: item.spec for item in estimators}
    return Analysis(
        settings=AnalysisMethod(
            **asdict(settings),
            minimum_people=MINIMUM_PEOPLE,
            least_answered=LEAST_ANSWERED,
            seed=common.seed,
            intervals="jackknife",
            correction="holm",
            clustered=predictions.identities is not None,
            baseline=baseline,
        ),
        pairs=tuple(
            _pairs(common, {name: reason for name, reason in contaminated.items() if reason})
        ),
        estimators={
            name: Analysed(
                unranked_reason=predictions.unranked.get(name),
                with_misses=_with_misses(predictions, name, baseline),
                groups=tuple(_groups(common, name)),
                calibration=_calibration(common, name),
                age_thresholds=_age_thresholds(common, name),
                buckets=_buckets(common, name, specs[name]),
            )
            for name in predictions.answers
        },
    )


def _baseline(estimators: Sequence[Estimator], predictions: Predictions) -> Baseline | None:
    """Return the age that stands in where an estimator gave none."""
    for item in estimators:
        if item.spec is not None and item.spec.name == "constant":
            # Another package's estimator may have the same name and no such setting.
            years = item.spec.settings.get("years")
            if isinstance(years, (int, float)):
                return {"years": years, "from": item.name}
    if not len(predictions.true_years):
        return None
    median = float(np.median(predictions.true_years))
    return {"years": median, "from": "oracle: the median true age of the pictures themselves"}


def _with_misses(predictions: Predictions, name: str, baseline: Baseline | None) -> WithMisses:
    predicted, true = predictions.answers[name].years, predictions.true_years
    if baseline is None or not len(true):
        return WithMisses(n=0, mae_years=None, missed=0)
    missed = np.isnan(predicted)
    errors = np.abs(np.where(missed, baseline["years"], predicted) - true)
    return WithMisses(
        n=len(true),
        mae_years=float(errors.mean()),
        missed=int(missed.sum()),
        people=people_in(predictions.people),
    )


def _pairs(common: _Common, seen: Mapping[str, str]) -> Iterator[Pair]:
    """Test all pairs that have not `seen` the pictures, then list the pairs that have.

    A pair is compared on the pictures that both gave an age for, whatever the others did.
    """
    names = common.predictions.answering
    yield from _tested(common, [name for name in names if name not in seen])
    for first, second in itertools.combinations(names, 2):
        reasons = [f"{name}: {seen[name]}" for name in (first, second) if name in seen]
        if reasons:
            yield from _untested(common.predictions, first, second, "; ".join(reasons))


def _untested(predictions: Predictions, first: str, second: str, reason: str) -> Iterator[Pair]:
    both = np.stack([predictions.answers[name].years for name in (first, second)])
    rows = np.flatnonzero(~np.isnan(both).any(axis=0))
    if not len(rows):
        return
    first_years, second_years = np.abs(both - predictions.true_years)[:, rows].mean(axis=1).tolist()
    yield Pair(
        first=first,
        second=second,
        n=len(rows),
        people=people_in(predictions.clusters_of(rows)),
        difference_years=first_years - second_years,
        interval=None,
        p_value=None,
        p_adjusted=None,
        verdict="no verdict",
        reason=reason,
    )


def _tested(common: _Common, names: Sequence[str]) -> Iterator[Pair]:
    predictions, settings = common.predictions, common.settings
    true = predictions.true_years
    if len(names) < 2:
        return
    pairs = compare_pairs(
        np.stack([np.abs(predictions.answers[name].years - true) for name in names], axis=1),
        clusters=predictions.people,
        permutations=settings.permutations,
        level=settings.level,
        seed=common.seed,
    )
    for pair in pairs:
        if not pair.n:
            continue  # no picture that both gave an age for
        verdict, reason = _verdict(pair, settings.level, clustered=predictions.people is not None)
        yield Pair(
            first=names[pair.first],
            second=names[pair.second],
            n=pair.n,
            people=pair.people if predictions.people is not None else None,
            difference_years=pair.difference_years,
            interval=pair.interval,
            p_value=pair.p_value,
            p_adjusted=pair.p_adjusted,
            swaps=pair.swaps,
            all_swaps=pair.all_swaps,
            smallest_p=pair.smallest_p,
            verdict=verdict,
            reason=reason,
        )


def _verdict(pair: PairedComparison, level: float, *, clustered: bool) -> tuple[Verdict, str]:
    """Return the verdict, and the reason if there is none."""
    one, many = ("person", "people") if clustered else ("picture", "pictures")
    if pair.p_adjusted is None or pair.smallest_p is None:
        few = f"{pair.people} {one if pair.people == 1 else many}"
        return "no verdict", f"only {few}: {MINIMUM_PEOPLE} are needed"
    if not is_significant(pair.smallest_p, level):
        return "no verdict", (
            f"{pair.people} {many} are too few for so many pairs: "
            f"p is {pair.smallest_p:.2g} at best"
        )
    better = pair.better(level)
    if better is None:
        return "no difference shown", ""
    return ("first better" if better == pair.first else "second better"), ""


def _labels(common: _Common) -> dict[tuple[str, str], Ints]:
    """Return the rows of each group within the common subset; decades first, all sorted."""
    decades = np.floor(common.true / 10).astype(np.intp)
    found = {
        ("decade", f"{10 * ten}-{10 * ten + 9}"): np.flatnonzero(decades == ten)
        for ten in np.unique(decades).tolist()
    }
    attributes = common.predictions.attributes
    for attribute in sorted(attributes.keys() - {"decade"}):
        values, codes = attributes[attribute]
        here = codes[common.rows]
        named = {values[code]: code for code in np.unique(here).tolist() if code >= 0}
        if len(named) <= MOST_VALUES:
            found |= {
                (attribute, value): np.flatnonzero(here == named[value]) for value in sorted(named)
            }
    return found


def _groups(common: _Common, name: str) -> Iterator[Group]:
    if name not in common.predictions.scored:
        return
    errors, clusters = common.predicted(name) - common.true, common.clusters
    settings = common.settings
    for (attribute, value), places in _labels(common).items():
        part = part_error(
            errors[places],
            None if clusters is None else [clusters[place] for place in places.tolist()],
            minimum=settings.minimum_n,
            level=settings.level,
        )
        yield Group(attribute=attribute, value=value, **part._asdict())


def _calibration(common: _Common, name: str) -> Calibration | None:
    """Return figures over the common subset's pictures with a distribution; None without any."""
    if name not in common.predictions.scored:
        return None
    kept, values = common.predictions.answers[name].distributions.of(common.rows)
    if not len(kept):
        return None
    clusters = common.predictions.clusters_of(kept)
    codes = None if clusters is None else cluster_codes(clusters)
    true = common.predictions.true_years[kept]
    nll, crps, pit = values[:, : len(DISTRIBUTION_SCORES)].T
    observed = []
    for level in LEVELS:
        at = len(DISTRIBUTION_SCORES) + 2 * INTERVALS.index(f"interval_{100 * level:.0f}")
        ends = values[:, at : at + 2]
        observed.append(coverage(ends, true, level, codes, confidence=common.settings.level))
    return Calibration(
        n=len(kept),
        people=people_in(clusters),
        coverage=tuple(observed),
        nll=float(finite_floats("nll", nll).mean()),
        crps_years=float(finite_floats("crps_years", crps).mean()),
        pit_counts=pit_counts(pit),
    )


def _age_thresholds(common: _Common, name: str) -> tuple[ThresholdRates, ...]:
    if name not in common.predictions.scored:
        return ()
    return threshold_rates(
        common.true,
        common.predicted(name),
        clusters=common.clusters,
        minimum=common.settings.minimum_n,
        level=common.settings.level,
    )


def _buckets(common: _Common, name: str, spec: Spec | None) -> ClassAccuracy:
    """Score the eight Adience classes, by the estimator's own class if it uses these classes."""
    scored = name in common.predictions.scored
    true = common.true if scored else np.empty(0)
    own = None if spec is None else plain(spec.classes)
    if scored and own == plain(ADIENCE_CLASSES):
        predicted = common.predictions.answers[name].class_index[common.rows]
    else:
        predicted = nearest_class(common.predicted(name) if scored else [], ADIENCE_CLASSES)
    return class_accuracy(true, predicted, ADIENCE_CLASSES, common.clusters if scored else None)
