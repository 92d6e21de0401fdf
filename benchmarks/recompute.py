"""Compute the figures of a comparison again, from its predictions.csv alone and with numpy alone.

    python benchmarks/recompute.py FOLDER/predictions.csv [--check FOLDER/result.json] [--json]

Nothing of agebench is imported: this is a second program that reads what everybody can read.  With
--check every figure that result.json states is compared, and the exit code is 1 if one differs.
Times are
not in the table: result.json lists every sample of them.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Row: TypeAlias = Mapping[str, str]

ADIENCE = ((0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))
"""The eight classes of Levi & Hassner (2015); the last one holds everybody older, too."""

THRESHOLDS, BUFFERS = (13, 16, 18, 21, 25), range(11)
CLIPPED = 0.05
FEWEST_IN_A_GROUP = 20
TOLERANCE = 1e-9
INTERVAL_TOLERANCE = 1e-6
"""Years: the quantile of Student's t is found here by summing up."""
ENOUGH_PEOPLE = 30
"""Below so many, how an interval is corrected for few people is most of it: it is not compared."""


@dataclass(frozen=True)
class Table:
    """The rows of one estimator as arrays; NaN where a cell is empty."""

    rows: Sequence[Row]

    def numbers(self, name: str) -> Floats:
        """Return a column as numbers."""
        return np.array([float(row[name]) if row[name] else np.nan for row in self.rows])

    def says(self, name: str, word: str) -> Bools:
        """Return where a column holds a word."""
        return np.array([row[name] == word for row in self.rows], np.bool_)

    def texts(self, name: str) -> list[str]:
        """Return a column as it is."""
        return [row[name] for row in self.rows]


def read(path: Path) -> dict[str, Table]:
    """Return the rows of each estimator, in the order of the file."""
    found: dict[str, list[Row]] = {}
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["estimator"], []).append(row)
    return {name: Table(rows) for name, rows in found.items()}


def mean(values: Floats) -> float | None:
    """Return the mean; None without values."""
    return float(values.mean()) if len(values) else None


def errors(true: Floats, given: Floats) -> dict[str, Any]:
    """Return the errors in years of some ages."""
    off = given - true
    size = np.abs(off)
    some = len(off) > 0
    decades = sorted({int(age // 10) for age in true})
    return {
        "n": len(off),
        "mae_years": mean(size),
        "rmse_years": math.sqrt(float((off**2).mean())) if some else None,
        "median_years": float(np.median(size)) if some else None,
        "bias_years": mean(off),
        "cs": {str(k): mean((size <= k).astype(float)) for k in (1, 3, 5, 10)},
        "by_decade": [
            {
                "decade": f"{10 * ten}-{10 * ten + 9}",
                "n": int((true // 10 == ten).sum()),
                "mae_years": mean(size[true // 10 == ten]),
                "bias_years": mean(off[true // 10 == ten]),
            }
            for ten in decades
        ],
    }


def part(true: Floats, given: Floats) -> dict[str, Any]:
    """Return number and mean error of a part of the pictures."""
    return {"n": len(true), "mae_years": mean(np.abs(given - true))}


def accuracy(true: Floats, given: Floats) -> dict[str, Any]:
    """Return class accuracy; -1 is a true age in a gap, or no class that was given."""
    inside = true >= 0
    found, steps = given[inside] >= 0, np.abs(given[inside] - true[inside])
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
        found[(years >= low) & ((years <= high) | (at == len(ADIENCE) - 1))] = at
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
        self.true, self.given = table.numbers("true_years"), table.numbers("predicted_years")
        common = table.says("common", "yes")
        # One that gave an age for too few pictures stands apart: it has no figures in the ranking.
        self.ranked = bool(common.any()) and not np.isnan(self.given[common]).any()
        self.common = common & ~np.isnan(self.true) & self.ranked
        self.scored = table.says("status", "ok")

    def over(self, rows: Bools) -> tuple[Floats, Floats]:
        """Return true and predicted ages."""
        return self.true[rows], self.given[rows]

    def figures(self, floor: float | None) -> dict[str, Any]:
        """Return what result.json has under "estimators", and under "analysis" of it."""
        table = self.table
        outside = table.numbers("outside")
        seen = table.says("seen_in_training", "yes") | table.says("seen_in_training", "near")
        clipped = self.scored & (np.nan_to_num(outside) > CLIPPED)
        no_face = table.says("status", "no_face")
        own = self.scored & ~np.isnan(self.true)
        return {
            "scored": int(self.scored.sum()),
            "missed": int(no_face.sum()),
            "failed": int((~self.scored & ~no_face).sum()),
            "clipped": int(clipped.sum()),
            "errors": errors(*self.over(self.common)),
            "own_errors": errors(*self.over(own)),
            "unseen_errors": part(*self.over(self.common & ~seen)) if seen.any() else None,
            "unclipped_errors": part(*self.over(self.common & ~clipped)) if clipped.any() else None,
            "classes": self._classes(),
            "ranges": self._ranges(),
            "with_misses": self._with_misses(floor),
            "groups": list(self._groups()),
            "calibration": self._calibration(),
            "gates": list(self._gates()),
            "buckets": self._buckets(),
        }

    def _classes(self) -> dict[str, Any] | None:
        true = self.table.numbers("true_class_index")
        rows = self.table.says("common", "yes") & self.scored & ~np.isnan(true) & self.ranked
        if np.isnan(true).all():
            return None
        given = np.nan_to_num(self.table.numbers("class_index"), nan=-1)
        return accuracy(true[rows], given[rows])

    def _ranges(self) -> dict[str, Any] | None:
        texts = self.table.texts("true_range")
        rows = self.table.says("common", "yes") & self.scored & self.ranked
        rows &= np.array([bool(text) for text in texts])
        if not rows.any():
            return None
        ends = [texts[row].split("-") for row in np.flatnonzero(rows).tolist()]
        low, high = np.array(ends, np.float64).T
        given = self.given[rows]
        return {
            "n": len(given),
            "hit_rate": mean(((given >= low) & (given < high + 1)).astype(float)),
            "distance_years": mean(np.maximum(np.maximum(low - given, given - high), 0)),
        }

    def _with_misses(self, floor: float | None) -> dict[str, Any]:
        known = ~np.isnan(self.true)
        if floor is None:
            return {"n": 0, "mae_years": None, "missed": 0}
        missed = np.isnan(self.given[known])
        given = np.where(missed, floor, self.given[known])
        return {**part(self.true[known], given), "missed": int(missed.sum())}

    def _groups(self) -> Iterator[dict[str, Any]]:
        attributes = [json.loads(text) if text else {} for text in self.table.texts("attributes")]
        labels: dict[tuple[str, str], list[int]] = {}
        for row in np.flatnonzero(self.common).tolist():
            ten = int(self.true[row] // 10)
            labels.setdefault(("decade", f"{10 * ten}-{10 * ten + 9}"), []).append(row)
            for attribute, value in attributes[row].items():
                labels.setdefault((attribute, value), []).append(row)
        for (attribute, value), rows in labels.items():
            off = (self.given - self.true)[rows]
            told = len(rows) >= FEWEST_IN_A_GROUP
            yield {
                "attribute": attribute,
                "value": value,
                "n": len(rows),
                "mae_years": mean(np.abs(off)) if told else None,
                "bias_years": mean(off) if told else None,
            }

    def _calibration(self) -> dict[str, Any] | None:
        nll = self.table.numbers("nll")
        rows = self.common & ~np.isnan(nll)
        if not rows.any():
            return None
        true, shares = self.true[rows], []
        for level in (50, 80, 95):
            names = (f"interval_{level}_{end}" for end in ("low", "high"))
            low, high = (self.table.numbers(name)[rows] for name in names)
            shares.append({"level": level / 100, "share": mean(within(true, low, high))})
        places = np.minimum((self.table.numbers("pit")[rows] * 10).astype(int), 9)
        return {
            "n": int(rows.sum()),
            "coverage": shares,
            "nll": mean(nll[rows]),
            "crps_years": mean(self.table.numbers("crps_years")[rows]),
            "pit_counts": np.bincount(places, minlength=10).tolist(),
        }

    def _gates(self) -> Iterator[dict[str, Any]]:
        true, given = self.over(self.common)
        for threshold in THRESHOLDS if len(true) else ():
            under = true < threshold
            for buffer in BUFFERS:
                passes = given >= threshold + buffer
                yield {
                    "threshold_years": threshold,
                    "buffer_years": buffer,
                    "minors": int(under.sum()),
                    "adults": int((~under).sum()),
                    "false_pass_rate": mean(passes[under].astype(float)),
                    "false_stop_rate": mean((~passes[~under]).astype(float)),
                }

    def _buckets(self) -> dict[str, Any]:
        true, given = self.over(self.common)
        index = self.table.numbers("class_index")
        told = {
            (int(at), years)
            for at, years in zip(index, self.table.texts("class_years"), strict=True)
            if years
        }
        if told and all(at < 8 and "{}-{}".format(*ADIENCE[at]) == years for at, years in told):
            return accuracy(adience_class(true), np.nan_to_num(index[self.common], nan=-1))
        return accuracy(adience_class(true), nearest_adience_class(given))


def within(true: Floats, low: Floats, high: Floats) -> Floats:
    """Return 1 where the completed years of the true age lie in an interval, ends included."""
    years = np.floor(true)
    return ((low <= years) & (years <= high)).astype(np.float64)


def people_of(table: Table, rows: Bools) -> Floats:
    """Return a number for each person; a picture of nobody known is a person of its own."""
    names = table.texts("identity")
    keys = [names[row] or f"\n{row}" for row in np.flatnonzero(rows).tolist()]
    return np.unique(keys, return_inverse=True)[1].astype(np.float64)


def student_t(freedom: int) -> float:
    """Return what Student's t exceeds in 2.5 % of all cases, by summing up its density."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    low, high = 1.9, 13.0
    for _ in range(60):
        middle = (low + high) / 2
        at = np.linspace(0.0, middle, 20_001)
        density = (
            scale / math.sqrt(freedom * math.pi) * (1 + at**2 / freedom) ** (-(freedom + 1) / 2)
        )
        # Simpson's rule: 1, 4, 2, 4, ..., 1 thirds of a step.
        weights = np.resize([2.0, 4.0], len(at))
        weights[[0, -1]] = 1.0
        if float(weights @ density) * (at[1] - at[0]) / 3 < 0.475:
            low = middle
        else:
            high = middle
    return low


def interval(values: Floats, people: Floats) -> list[float] | None:
    """Return the interval of a mean absolute error, each person left out in turn; None for few."""
    codes = people.astype(int)
    counts = np.bincount(codes).astype(float)
    number = len(counts)
    if number < ENOUGH_PEOPLE:
        return None
    sums = np.bincount(codes, weights=values)
    left = np.array(
        [(sums.sum() - one) / (counts.sum() - of) for one, of in zip(sums, counts, strict=True)]
    )
    error = math.sqrt((number - 1) / number * float(((left - left.mean()) ** 2).sum()))
    middle = float(values.mean())
    reach = math.exp(student_t(number - 1) * error / middle) if middle else 1.0
    return [middle / reach, middle * reach]


def compute(tables: Mapping[str, Table]) -> dict[str, Any]:
    """Return all figures, by estimator."""
    floor = _floor(tables)
    found = {}
    for name, table in tables.items():
        one = Estimator(name, table)
        figures = one.figures(floor)
        true, given = one.over(one.common)
        people = people_of(table, one.common)
        figures["errors"]["mae_interval"] = interval(np.abs(given - true), people)
        found[name] = figures
    return {"estimators": found, "pairs": list(_pairs(tables))}


def _floor(tables: Mapping[str, Table]) -> float | None:
    """Return the age that a miss counts as: a constant contender's, or the median true age."""
    for name, table in tables.items():
        given = table.numbers("predicted_years")
        given = given[~np.isnan(given)]
        if name.split()[0].split("@")[0] == "constant" and len(given):
            return float(given[0])
    true = next(iter(tables.values())).numbers("true_years") if tables else np.empty(0)
    true = true[~np.isnan(true)]
    return float(np.median(true)) if len(true) else None


def _pairs(tables: Mapping[str, Table]) -> Iterator[dict[str, Any]]:
    """Yield the differences of every two, on the pictures that both gave an age for."""
    scored = [Estimator(name, table) for name, table in tables.items()]
    for at, first in enumerate(scored):
        for second in scored[at + 1 :]:
            both = ~np.isnan(first.given) & ~np.isnan(second.given) & ~np.isnan(first.true)
            for rows in (both, first.common & second.common):
                if rows.any():
                    off = [np.abs(one.given - one.true)[rows].mean() for one in (first, second)]
                    yield {
                        "first": first.name,
                        "second": second.name,
                        "n": int(rows.sum()),
                        "difference_years": float(off[0] - off[1]),
                    }


def differences(figures: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    """Return what result.json states otherwise, one line each."""
    analysis = result.get("analysis") or {"estimators": {}, "pairs": []}
    found: list[str] = []
    for item in result["estimators"]:
        if item["available"]:
            name = item["name"]
            stated = {**item, **analysis["estimators"].get(name, {})}
            own = figures["estimators"].get(name)
            if own is None:
                found.append(f"{name}: not in the table")
                continue
            own = {**own, "errors": {**own["errors"]}}
            found += _interval_differs(name, own["errors"].pop("mae_interval"), item["errors"])
            found += _compare(name, own, stated)
    pairs = {(pair["first"], pair["second"], pair["n"]): pair for pair in figures["pairs"]}
    for pair in analysis["pairs"]:
        key = (pair["first"], pair["second"], pair["n"])
        what = f"{key[0]} and {key[1]}"
        found += (
            [f"{what}: no {key[2]} pictures of both"]
            if key not in pairs
            else _compare(what, pairs[key], pair)
        )
    return found


def _interval_differs(
    name: str, own: Sequence[float] | None, stated: Mapping[str, Any]
) -> Iterator[str]:
    told = stated["mae_interval"]
    if own is None or told is None:
        return
    if max(abs(own[0] - told[0]), abs(own[1] - told[1])) > INTERVAL_TOLERANCE:
        yield f"{name}: interval of the MAE: stated {told}, computed {own}"


def _compare(where: str, own: Any, stated: Any) -> Iterator[str]:
    """Compare what the table gives with what is stated; fields that it can't give are left out."""
    if isinstance(own, Mapping) and isinstance(stated, Mapping):
        yield from _compare_fields(where, own, stated)
    elif isinstance(own, list) and isinstance(stated, list):
        yield from _compare_entries(where, _by_label(own), _by_label(stated))
    elif not _same(own, stated):
        yield f"{where}: stated {stated}, computed {own}"


def _compare_fields(where: str, own: Mapping[str, Any], stated: Mapping[str, Any]) -> Iterator[str]:
    few = {name: own[of] < FEWEST_IN_A_GROUP for name, of in _OF if name in own and of in own}
    for name, value in own.items():
        if name not in stated:
            yield f"{where}: {name} is not stated"
        elif not (stated[name] is None and few.get(name)):  # of so few no figure is given
            yield from _compare(f"{where}: {name}", value, stated[name])


def _compare_entries(
    where: str, own: Mapping[str, Any], stated: Mapping[str, Any]
) -> Iterator[str]:
    if own.keys() != stated.keys():
        yield f"{where}: other entries: {sorted(own.keys() ^ stated.keys())[:3]}"
    for key in sorted(own.keys() & stated.keys()):
        yield from _compare(f"{where} {key}", own[key], stated[key])


_OF = (
    ("mae_years", "n"),
    ("bias_years", "n"),
    ("false_pass_rate", "minors"),
    ("false_stop_rate", "adults"),
)
"""Figures that may be withheld, and what has to be few for that."""

_LABELS = ("decade", "attribute", "value", "level", "threshold_years", "buffer_years")


def _by_label(items: Sequence[Any]) -> dict[str, Any]:
    """Entries by what they are of, or by their place."""

    def label(at: int, item: Any) -> str:
        named = isinstance(item, Mapping)
        words = [str(item[name]) for name in _LABELS if name in item] if named else []
        return " ".join(words) or str(at)

    return {label(at, item): item for at, item in enumerate(items)}


def _same(own: Any, stated: Any) -> bool:
    numbers = all(isinstance(value, (int, float)) for value in (own, stated))
    if numbers and not isinstance(own, str):
        return bool(abs(own - stated) <= TOLERANCE * max(1.0, abs(own)))
    return bool(own == stated)


def main(arguments: Sequence[str] | None = None, say: Callable[[str], object] = print) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--check", type=Path, metavar="RESULT.json")
    parser.add_argument("--json", action="store_true", help="print all figures")
    given = parser.parse_args(arguments)
    figures = compute(read(given.table))
    if given.json:
        say(json.dumps(figures, indent=1))
    else:
        for name, one in figures["estimators"].items():
            mae = one["errors"]["mae_years"]
            say(f"{name}: MAE {'-' if mae is None else f'{mae:.4f}'} on {one['errors']['n']}")
    if given.check is None:
        return 0
    found = differences(figures, json.loads(given.check.read_text(encoding="utf-8")))
    for line in found:
        say(line)
    say(f"{len(found)} figures differ" if found else "every figure is as stated")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
