"""Recompute the figures of a comparison from its predictions.csv alone, with numpy alone.

    python -m benchmarks.recompute FOLDER/predictions.csv [--check FOLDER/result.json] [--json]

Nothing is imported from agebench: this is an independent implementation.  With --check, its figures
are compared with those in result.json, and the exit code is 1 if one differs: errors, parts,
classes, ranges, calibration and age thresholds, with all intervals and numbers of people, and for
every pair the difference, its interval, the p-values and the verdict.  A p-value from random swaps
is compared with one from this program's own swaps, and may differ by their sampling error.

It can't compute what is not in the table: times (result.json lists every sample), which estimator
was called faster, and whether the makers of an estimator say that they trained on this set, in
which case its pairs are not tested.  The NLL, CRPS, PIT and intervals of each prediction are read
from the table, which does not contain the distributions.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recompute_check import differences
from benchmarks.recompute_intervals import (
    ROUNDING,
    Bools,
    Floats,
    Ints,
    mean_interval,
    proportion_interval,
)
from benchmarks.recompute_table import FEWEST_IN_A_GROUP, Part, Table, mean, read

ADIENCE = ((0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))
"""The eight classes of Levi & Hassner (2015)."""

THRESHOLDS, BUFFERS = (13, 16, 18, 21, 25), range(11)
CLIPPED, MOST_VALUES = 0.05, 100


def errors(part: Part) -> dict[str, Any]:
    """Return the errors in years of some ages."""
    size = np.abs(part.off)
    any_pictures = len(size) > 0
    decades = part.true // 10
    return {
        **part.figures(),
        "rmse_years": math.sqrt(float((size**2).mean())) if any_pictures else None,
        "median_years": float(np.median(size)) if any_pictures else None,
        "bias_years": mean(part.off),
        "cs": {str(k): mean((size <= k + ROUNDING).astype(float)) for k in (1, 3, 5, 10)},
        "by_decade": [
            {"decade": f"{10 * ten}-{10 * ten + 9}", **part.where(decades == ten).group()}
            for ten in np.unique(decades).astype(int).tolist()
        ],
    }


def accuracy(true: Floats, predicted: Floats) -> dict[str, Any]:
    """Return class accuracy; -1 is a true age in a gap, or no class that was given."""
    inside = true >= 0
    found, steps = predicted[inside] >= 0, np.abs(predicted[inside] - true[inside])
    return {
        "n": int(inside.sum()),
        "n_in_gap": int((~inside).sum()),
        "n_unclassified": int((~found).sum()),
        "exact": mean((found & (steps == 0)).astype(float)),
        "one_off": mean((found & (steps <= 1)).astype(float)),
    }


def adience_class(ages: Floats) -> Floats:
    """Return the class of each completed year, -1 in a gap."""
    years = np.floor(ages)
    found = np.full(len(ages), -1.0)
    for at, (low, high) in enumerate(ADIENCE):
        found[(years >= low) & (years <= high)] = at
    return found


def nearest_adience_class(ages: Floats) -> Floats:
    """Return the class that is the fewest years away; the younger of two."""
    years = np.floor(ages)[:, None]
    low, high = np.array(ADIENCE, np.float64).T
    away = np.maximum(np.maximum(low - years, years - high), 0)
    return np.asarray(np.argmin(away, axis=1), np.float64)


class Estimator:
    """All figures of one estimator."""

    def __init__(self, name: str, table: Table) -> None:
        self.name, self.table = name, table
        self.true, self.predicted = table.numbers("true_years"), table.numbers("predicted_years")
        common = table.says("common", "yes")
        # One that gave an age for too few pictures stands apart: it has no figures in the ranking.
        self.ranked = bool(common.any()) and not np.isnan(self.predicted[common]).any()
        self.common = common & ~np.isnan(self.true) & self.ranked
        self.scored = table.says("status", "ok")
        self.all = Part(self.true, self.predicted, *table.people())

    def over(self, rows: Bools) -> Part:
        """Return some pictures."""
        return self.all.where(rows)

    def figures(self, baseline: float | None) -> dict[str, Any]:
        """Return what result.json has under "estimators", and under "analysis" of it."""
        table = self.table
        outside = table.numbers("outside")
        seen = table.says("seen_in_training", "yes") | table.says("seen_in_training", "near")
        clipped = self.scored & (np.nan_to_num(outside) > CLIPPED)
        no_face = table.says("status", "no_face")
        own = self.scored & ~np.isnan(self.true)
        # Of one that is not ranked too, which gave an age for some of the common pictures.
        common = own & table.says("common", "yes")
        return {
            "scored": int(self.scored.sum()),
            "missed": int(no_face.sum()),
            "failed": int((~self.scored & ~no_face).sum()),
            "clipped": int(clipped.sum()),
            "errors": errors(self.over(self.common)),
            "own_errors": errors(self.over(own)),
            "unseen_errors": self.over(common & ~seen).figures() if seen.any() else None,
            "unclipped_errors": (self.over(common & ~clipped).figures() if clipped.any() else None),
            "classes": self._classes(),
            "ranges": self._ranges(),
            "with_misses": self._with_misses(baseline),
            "groups": list(self._groups()),
            "calibration": self._calibration(),
            "age_thresholds": list(self._age_thresholds()),
            "buckets": self._buckets(),
        }

    def _classes(self) -> dict[str, Any] | None:
        true = self.table.numbers("true_class_index")
        rows = self.table.says("common", "yes") & self.scored & ~np.isnan(true) & self.ranked
        if np.isnan(true).all():
            return None
        predicted = np.nan_to_num(self.table.numbers("class_index"), nan=-1)
        found = accuracy(true[rows], predicted[rows])
        return found | {"people": self.over(rows & (true >= 0)).count}

    def _ranges(self) -> dict[str, Any] | None:
        texts = self.table.texts("true_range")
        rows = self.table.says("common", "yes") & self.scored & self.ranked
        rows &= np.array([bool(text) for text in texts])
        if not rows.any():
            return None
        ends = [texts[row].split("-") for row in np.flatnonzero(rows).tolist()]
        low, high = np.array(ends, np.float64).T
        years = self.predicted[rows]
        return {
            "n": len(years),
            "people": self.over(rows).count,
            "hit_rate": mean(((years >= low) & (years < high + 1)).astype(float)),
            "distance_years": mean(np.maximum(np.maximum(low - years, years - high), 0)),
        }

    def _with_misses(self, baseline: float | None) -> dict[str, Any]:
        known = self.over(~np.isnan(self.true))
        if baseline is None:
            return {"n": 0, "mae_years": None, "missed": 0}
        missed = np.isnan(known.predicted)
        off = np.where(missed, baseline, known.predicted) - known.true
        return {
            "n": len(off),
            "people": known.count,
            "mae_years": mean(np.abs(off)),
            "missed": int(missed.sum()),
        }

    def _groups(self) -> Iterator[dict[str, Any]]:
        attributes = [json.loads(text) if text else {} for text in self.table.texts("attributes")]
        labels: dict[tuple[str, str], list[int]] = {}
        for row in np.flatnonzero(self.common).tolist():
            ten = int(self.true[row] // 10)
            labels.setdefault(("decade", f"{10 * ten}-{10 * ten + 9}"), []).append(row)
            for attribute, value in attributes[row].items():
                if attribute != "decade":
                    labels.setdefault((attribute, value), []).append(row)
        values = Counter(attribute for attribute, _ in labels)
        for (attribute, value), rows in labels.items():
            if values[attribute] > MOST_VALUES:
                continue  # such as the number of a photograph
            chosen = np.zeros_like(self.common)
            chosen[rows] = True
            yield {"attribute": attribute, "value": value, **self.over(chosen).group()}

    def _calibration(self) -> dict[str, Any] | None:
        nll = self.table.numbers("nll")
        rows = self.common & ~np.isnan(nll)
        if not rows.any():
            return None
        part, coverage = self.over(rows), []
        for level in (50, 80, 95):
            names = (f"interval_{level}_{end}" for end in ("low", "high"))
            low, high = (self.table.numbers(name)[rows] for name in names)
            inside = within(part.true, low, high)
            ends = proportion_interval(inside, part.people)
            coverage.append({"level": level / 100, "fraction": mean(inside), "interval": ends})
        places = np.minimum((self.table.numbers("pit")[rows] * 10).astype(int), 9)
        return {
            "n": int(rows.sum()),
            "people": part.count,
            "coverage": coverage,
            "nll": mean(nll[rows]),
            "crps_years": mean(self.table.numbers("crps_years")[rows]),
            "pit_counts": np.bincount(places, minlength=10).tolist(),
        }

    def _age_thresholds(self) -> Iterator[dict[str, Any]]:
        part = self.over(self.common)
        for threshold in THRESHOLDS if len(part.true) else ():
            minors, adults = part.where(part.true < threshold), part.where(part.true >= threshold)
            for buffer in BUFFERS:
                passed, stopped = (
                    (minors.predicted >= threshold + buffer).astype(np.float64),
                    (adults.predicted < threshold + buffer).astype(np.float64),
                )
                yield {
                    "threshold_years": threshold,
                    "buffer_years": buffer,
                    "minors": len(passed),
                    "adults": len(stopped),
                    "minor_people": minors.count,
                    "adult_people": adults.count,
                    **_rate("false_pass", passed, minors.people),
                    **_rate("false_stop", stopped, adults.people),
                }

    def _buckets(self) -> dict[str, Any]:
        part = self.over(self.common)
        index = self.table.numbers("class_index")
        classes = {
            (int(at), years)
            for at, years in zip(index, self.table.texts("class_years"), strict=True)
            if years
        }
        if classes and all(
            at < 8 and "{}-{}".format(*ADIENCE[at]) == years for at, years in classes
        ):
            predicted = np.nan_to_num(index[self.common], nan=-1)
        else:
            predicted = nearest_adience_class(part.predicted)
        true = adience_class(part.true)
        return accuracy(true, predicted) | {"people": part.where(true >= 0).count}


def _rate(name: str, wrong: Floats, people: Ints | None) -> dict[str, Any]:
    enough = len(wrong) >= FEWEST_IN_A_GROUP
    return {
        f"{name}_rate": mean(wrong) if enough else None,
        f"{name}_interval": proportion_interval(wrong, people) if enough else None,
    }


def within(true: Floats, low: Floats, high: Floats) -> Floats:
    """Return 1 where the completed years of the true age lie in an interval, ends included."""
    years = np.floor(true)
    return ((low <= years) & (years <= high)).astype(np.float64)


def compute(tables: Mapping[str, Table]) -> dict[str, Any]:
    """Return all figures, by estimator."""
    baseline = _baseline(tables)
    found = {}
    for name, table in tables.items():
        found[name] = Estimator(name, table).figures(baseline)
    return {"estimators": found, "pairs": list(_pairs(tables))}


def _baseline(tables: Mapping[str, Table]) -> float | None:
    """Return the age that a miss counts as: a constant contender's, or the median true age."""
    for name, table in tables.items():
        years = table.numbers("predicted_years")
        years = years[~np.isnan(years)]
        if name.split()[0].split("@")[0] == "constant" and len(years):
            return float(years[0])
    true = next(iter(tables.values())).numbers("true_years") if tables else np.empty(0)
    true = true[~np.isnan(true)]
    return float(np.median(true)) if len(true) else None


def _pairs(tables: Mapping[str, Table]) -> Iterator[dict[str, Any]]:
    """Yield the differences of every two, on the pictures that both gave an age for."""
    scored = [Estimator(name, table) for name, table in tables.items()]
    for at, first in enumerate(scored):
        for second in scored[at + 1 :]:
            both = ~np.isnan(first.predicted) & ~np.isnan(second.predicted) & ~np.isnan(first.true)
            if both.any():
                one, other = (np.abs(estimator.over(both).off) for estimator in (first, second))
                part = first.over(both)
                yield {
                    "first": first.name,
                    "second": second.name,
                    "n": int(both.sum()),
                    "people": part.count,
                    "difference_years": float(one.mean() - other.mean()),
                    "interval": mean_interval(one - other, part.people, positive=False),
                    "off": one - other,
                    "who": part.people,
                }


def main(arguments: Sequence[str] | None = None, say: Callable[[str], object] = print) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--check", type=Path, metavar="RESULT.json")
    parser.add_argument("--json", action="store_true", help="print all figures")
    options = parser.parse_args(arguments)
    try:
        figures = compute(read(options.table))
        stated = options.check and json.loads(options.check.read_text(encoding="utf-8"))
    except OSError as error:
        parser.error(f"{error.filename} can't be read: {error.strerror}")
    except ValueError as error:
        parser.error(f"not the files of a comparison: {error}")
    except KeyError as error:
        parser.error(f"{options.table}: expected the table of a comparison, without column {error}")
    if options.json:
        pairs = [
            {key: pair[key] for key in pair if key not in ("off", "who")}
            for pair in figures["pairs"]
        ]
        say(json.dumps({**figures, "pairs": pairs}, indent=1))
    else:
        for name, one in figures["estimators"].items():
            mae = one["errors"]["mae_years"]
            say(f"{name}: MAE {'-' if mae is None else f'{mae:.4f}'} on {one['errors']['n']}")
    if options.check is None:
        return 0
    found = differences(figures, stated)
    for line in found:
        say(line)
    say(f"{len(found)} figures differ" if found else "every figure is as stated")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
