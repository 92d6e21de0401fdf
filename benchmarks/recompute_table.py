"""The table of a comparison for recompute.py: its columns, and the figures of some pictures."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks.recompute_intervals import Bools, Floats, Ints, mean_interval

Row: TypeAlias = Mapping[str, str]

FEWEST_IN_A_GROUP = 20


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

    def people(self) -> tuple[Ints | None, Bools]:
        """Return a number for each person, and where it is known who it is.

        Somebody unknown is a person of their own; None where nobody with an age is known.
        """
        names, aged = self.texts("identity"), self.texts("true_years")
        known = np.array([bool(name) for name in names], np.bool_)
        if not any(name and age for name, age in zip(names, aged, strict=True)):
            return None, np.zeros_like(known)
        keys = [name or f"\n{at}" for at, name in enumerate(names)]
        return np.unique(keys, return_inverse=True)[1].astype(np.intp), known


@dataclass(frozen=True)
class Part:
    """Some pictures: their true ages, the predicted ones, and who they show.

    Attributes:
        people: a number per picture; None where nobody of the set is known.
        known: where it is known who it is.
    """

    true: Floats
    predicted: Floats
    people: Ints | None
    known: Bools

    def where(self, rows: Bools) -> Part:
        """Return a part of these."""
        people = None if self.people is None else self.people[rows]
        return Part(self.true[rows], self.predicted[rows], people, self.known[rows])

    @property
    def off(self) -> Floats:
        """Errors in years."""
        return self.predicted - self.true

    @property
    def count(self) -> int | None:
        """People; None where nobody of these is known."""
        if self.people is None or not self.known.any():
            return None
        return len(np.unique(self.people))

    def interval(self) -> list[float] | None:
        """Return the interval of the mean absolute error."""
        if not len(self.true):
            return None
        return mean_interval(np.abs(self.off), self.people, positive=True)

    def figures(self, fewest: int = 1) -> dict[str, Any]:
        """Return the number of pictures and, from `fewest` on, the error."""
        enough = len(self.true) >= fewest
        return {
            "n": len(self.true),
            "people": self.count,
            "mae_years": mean(np.abs(self.off)) if enough else None,
            "mae_interval": self.interval() if enough else None,
        }

    def group(self) -> dict[str, Any]:
        """Return the figures of a decade or group."""
        bias = mean(self.off) if len(self.true) >= FEWEST_IN_A_GROUP else None
        return {**self.figures(FEWEST_IN_A_GROUP), "bias_years": bias}


def read(path: Path) -> dict[str, Table]:
    """Return the rows of each estimator, in the order of the file."""
    found: dict[str, list[Row]] = {}
    limit = csv.field_size_limit(2**31 - 1)  # of the whole process
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["estimator"], []).append(row)
    finally:
        csv.field_size_limit(limit)
    return {name: Table(rows) for name, rows in found.items()}


def mean(values: Floats) -> float | None:
    """Return the mean; None without values."""
    return float(values.mean()) if len(values) else None
