"""How well a measure of uncertainty ("doubt") separates large errors from small ones.

Used by view_gain.py.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from agebench.metrics.intervals import cluster_codes
from agebench.types import Floats

DRAWS = 2000


def selective_mae(doubt: Floats, errors: Floats) -> Floats:
    """Return the mean absolute error of the k least uncertain pictures, for k = 1 to n.

    Pictures with equal uncertainty are each given their mean error, as they have no order.

    Args:
        doubt: uncertainty, shape (n,), in any unit.
        errors: absolute errors, years, shape (n,).

    >>> selective_mae(np.array([1, 1, 2]), np.array([0.0, 2.0, 4.0])).tolist()
    [1.0, 1.0, 2.0]
    """
    _, group = np.unique(doubt, return_inverse=True)
    means = np.bincount(group, errors) / np.bincount(group)
    return np.asarray(np.cumsum(means[np.sort(group)]) / np.arange(1, len(errors) + 1))


def area(doubt: Floats, errors: Floats) -> float:
    """Return the area under the risk-coverage curve, years: the mean of `selective_mae`."""
    return float(selective_mae(doubt, errors).mean())


def mae_without(doubt: Floats, errors: Floats, rejected: float) -> float:
    """Return the MAE without the fraction `rejected` of the pictures that is most uncertain."""
    kept = len(errors) - round(rejected * len(errors))
    return float(selective_mae(doubt, errors)[kept - 1])


def area_differences(
    doubts: Mapping[str, Floats],
    base: str,
    errors: Floats,
    people: Sequence[Hashable],
    draws: int = DRAWS,
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each area minus that of `base`, by the percentile bootstrap.

    People are resampled, each with all of their pictures; each None is a separate person.
    """
    codes = cluster_codes(people)
    count = int(codes.max()) + 1
    random = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in doubts}
    for _ in range(draws):
        times = np.bincount(random.integers(0, count, count), minlength=count)
        rows = np.repeat(np.arange(len(codes)), times[codes])
        areas = {name: area(doubt[rows], errors[rows]) for name, doubt in doubts.items()}
        for name, value in areas.items():
            found[name].append(value - areas[base])
    ends = {name: np.quantile(values, (0.025, 0.975)) for name, values in found.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}
