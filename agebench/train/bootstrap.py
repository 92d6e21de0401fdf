"""Balanced bootstrap: every epoch trains on a new sample in which rare ages are more frequent.

Ages are unevenly distributed: if 80 % of the pictures are of people of 20-40, a network learns
those and guesses the rest.  Each epoch draws a sample of the training set in which rare ages are
more frequent, controlled by one setting, `BootstrapSettings.balance`, from 0 (the natural
distribution) to 1 (all groups equally often).  A sample depends only on the seed and the epoch's
number, so that a resumed run and all processes of a distributed one draw the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from agebench.errors import UsageError
from agebench.types import MAX_AGE_YEARS, Floats, frozen_mapping
from agebench.util.arrays import Ints, ages, finite_floats
from agebench.util.checks import is_whole, require, require_known

Method: TypeAlias = Literal["groups", "lds"]

DECADES = "decades"
"""The name for groups of ten years: 0-9, 10-19, and so on."""

LARGEST_FRACTION = 1000.0
LARGEST_SIZE = 1_000_000_000
"""Largest sample, as a fraction and as a number of pictures; more would not fit into memory."""


def _require(condition: bool, message: str) -> None:
    require(condition, "bootstrap", message)


@dataclass(frozen=True, slots=True)
class BootstrapSettings:
    """How an epoch's sample is drawn.

    Attributes:
        groups: "decades", or the ascending ages in years at which a new group begins: (20, 40)
            makes 0-19, 20-39 and 40 and more.  Without any, there is one group.
        balance: 0 draws from the natural distribution, 1 gives all groups the same probability; in
            between a group's probability is natural ** (1 - balance), rescaled to sum to 1.
        size: pictures per epoch: a float is a fraction of the training set (1.0: as many as it
            has), an int (2 or more) a number of pictures.
        replacement: whether a picture can be drawn more than once per epoch.  Without it, a sample
            as large as the training set is the training set itself, whatever the balance.
        method: "groups", or "lds" for label-distribution smoothing (see `lds_probabilities`), with
            which `groups` are only used in the summary.
        lds_sigma_years: width of the Gaussian that smooths the histogram of ages.
        seed: the same seed draws the same samples; from 0.

    Raises:
        UsageError: a value other than the above.
    """

    groups: str | tuple[float, ...] = DECADES
    balance: float = 0.5
    size: float | int = 1.0
    replacement: bool = True
    method: Method = "groups"
    lds_sigma_years: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", _checked_groups(self.groups))
        _require(0 <= self.balance <= 1, f"balance must be from 0 to 1, got {self.balance}")
        _check_size(self.size, self.replacement)
        require_known(self.method, get_args(Method), "bootstrap", "method")
        sigma = self.lds_sigma_years
        _require(0 < sigma < math.inf, f"lds_sigma_years must be above 0, got {sigma}")
        _require(is_whole(self.seed, 0), f"seed must be an integer from 0, got {self.seed!r}")


def _checked_groups(groups: object) -> str | tuple[float, ...]:
    if groups == DECADES:
        return DECADES
    message = f"groups must be {DECADES!r} or a list of ages, got {groups!r}"
    _require(isinstance(groups, tuple | list), message)
    try:
        edges = ages("groups", [*groups] if isinstance(groups, tuple | list) else [])
    except ValueError as error:
        raise UsageError(f"bootstrap: {error}") from error
    upwards = bool(np.all(np.diff(edges) > 0)) and bool(np.all(edges > 0))
    _require(upwards, f"the ages of groups must be ascending and above 0, got {groups}")
    return tuple(edges.tolist())


def _check_size(size: float, replacement: bool) -> None:
    if isinstance(size, int):
        message = f"size {size}: a number of pictures must be at least 2; write 1.0 for all"
        _require(is_whole(size, 2), message)
        message = f"size must be at most {LARGEST_SIZE:,} pictures, got {size}"
        _require(size <= LARGEST_SIZE, message)
        return
    message = f"a fraction as size must be above 0 and at most 1000, got {size}"
    _require(0 < size <= LARGEST_FRACTION, message)
    message = f"without replacement, size must be at most 1.0, got {size}"
    _require(replacement or size <= 1, message)


@dataclass(frozen=True, slots=True)
class DrawSummary:
    """Summary of a sample, for the log.

    Attributes:
        size: number of indices drawn.
        counts: number per group of the training set, from young to old, including zeros.
        unique_fraction: distinct pictures as a fraction of the indices drawn.
        covered_fraction: distinct pictures as a fraction of the training set.
        mean_age_years: mean age of the sample.
    """

    size: int
    counts: Mapping[str, int]
    unique_fraction: float
    covered_fraction: float
    mean_age_years: float


def group_probabilities(counts: npt.ArrayLike, balance: float) -> Floats:
    """Return the probability of each group, between natural and uniform.

    Args:
        counts: pictures per group, shape (groups,); an empty group has probability 0.
        balance: 0 (natural) to 1 (uniform over the groups that are not empty).

    Returns:
        natural ** (1 - balance), rescaled to sum to 1.

    Raises:
        ValueError: a count is negative or all are 0.

    >>> group_probabilities([80, 20], 0.5).round(3)
    array([0.667, 0.333])
    >>> group_probabilities([80, 0, 20], 1.0)
    array([0.5, 0. , 0.5])
    """
    natural = finite_floats("counts", counts)
    if np.any(natural < 0) or natural.sum() <= 0:
        raise ValueError(f"counts: expected some above 0, none below, got {natural.tolist()}")
    natural = natural / natural.sum()
    raised = np.where(natural > 0, natural ** (1.0 - balance), 0.0)
    return np.asarray(raised / raised.sum(), dtype=np.float64)


def lds_probabilities(age_years: npt.ArrayLike, sigma_years: float, balance: float) -> Floats:
    """Return each sample's probability by label-distribution smoothing.

    Yang, Zha, Chen, Wang & Katabi, "Delving into Deep Imbalanced Regression", ICML 2021: the
    histogram of single years is smoothed with a Gaussian (as 0 outside of 0 to `MAX_AGE_YEARS`),
    and a sample's weight is the inverse of its age's smoothed count.  Neighbouring ages look alike,
    so a rare age among common ones is less rare than its own count says.

    Args:
        age_years: shape (n,), 0 to `MAX_AGE_YEARS`, rounded down to completed years.
        sigma_years: of the Gaussian, truncated at 4 sigma.
        balance: exponent: 1 is the paper's "inverse", 0.5 its "square root", 0 uniform.

    Returns:
        Shape (n,), summing to 1.

    Raises:
        ValueError: there are no ages, or one is out of range.
    """
    from scipy.ndimage import gaussian_filter1d

    completed = np.floor(ages("age_years", age_years)).astype(np.intp)
    if not len(completed):
        raise ValueError("age_years: expected at least one age, got none")
    counts = np.bincount(completed, minlength=int(MAX_AGE_YEARS) + 1).astype(np.float64)
    smoothed = np.asarray(gaussian_filter1d(counts, sigma_years, mode="constant"))
    weights = smoothed[completed] ** -balance
    return np.asarray(weights / weights.sum(), dtype=np.float64)


class BalancedBootstrap:
    """Draws each epoch's sample of a training set.

    Attributes:
        settings: how it draws.
        labels: of the groups in the training set, from young to old.
        probabilities: of each picture, shape (n,), summing to 1.
        size: indices per sample.
    """

    def __init__(self, age_years: npt.ArrayLike, settings: BootstrapSettings) -> None:
        """Compute the probabilities once.

        Args:
            age_years: of the training set, shape (n,); or shape (n, 2) with the lowest and the
                highest possible age of each, of which the midpoint is used.
            settings: how to draw.

        Raises:
            UsageError: the training set is empty, or smaller than a sample without replacement.
            ValueError: ages are out of range, or a range is descending.
        """
        self._ages = middle_ages(age_years)
        if not len(self._ages):
            raise UsageError("bootstrap: the training set has no pictures to draw from")
        self.settings = settings
        self.size = _draw_size(settings, len(self._ages))
        edges = _edges(settings)
        of_edge = np.searchsorted(edges, self._ages, side="right")
        present, self._group = np.unique(of_edge, return_inverse=True)
        self.labels = tuple(_labels(edges)[index] for index in present.tolist())
        self.probabilities = self._probabilities()
        self.probabilities.setflags(write=False)

    def _probabilities(self) -> Floats:
        settings = self.settings
        if settings.method == "lds":
            return lds_probabilities(self._ages, settings.lds_sigma_years, settings.balance)
        counts = np.bincount(self._group, minlength=len(self.labels))
        of_picture = (group_probabilities(counts, settings.balance) / counts)[self._group]
        return np.asarray(of_picture / of_picture.sum(), dtype=np.float64)

    def draw(self, epoch_index: int) -> Ints:
        """Return the indices of an epoch's sample, in random order, shape (size,).

        Args:
            epoch_index: number of the epoch, from 0; with the seed it determines the sample.

        Raises:
            ValueError: the number is negative.
        """
        if epoch_index < 0:
            raise ValueError(f"epoch_index: expected 0 or more, got {epoch_index}")
        generator = np.random.default_rng([self.settings.seed, epoch_index])
        count = len(self.probabilities)
        if self.settings.replacement:
            drawn = generator.choice(count, size=self.size, p=self.probabilities)
            return np.asarray(drawn, dtype=np.intp)
        # The items with the shortest exponential waiting times are a weighted sample without
        # replacement (Efraimidis & Spirakis 2006), which takes one sort for any size.
        waits = generator.exponential(size=count) / self.probabilities
        first = np.argsort(waits, kind="stable")[: self.size]
        return np.asarray(generator.permutation(first), dtype=np.intp)

    def summary(self, indices: npt.ArrayLike) -> DrawSummary:
        """Return the summary of a sample's `indices`, not empty, for the log.

        Raises:
            ValueError: there are none, or one is out of range.
        """
        drawn = np.asarray(indices)
        count = len(self._ages)
        if drawn.ndim != 1 or not len(drawn) or drawn.dtype.kind not in "iu":
            raise ValueError(f"indices: expected integers of shape (n,), got {drawn!r}")
        if drawn.min() < 0 or drawn.max() >= count:
            raise ValueError(
                f"indices: expected 0 to {count - 1}, got {drawn.min()} to {drawn.max()}"
            )
        counts = np.bincount(self._group[drawn], minlength=len(self.labels)).tolist()
        unique = len(np.unique(drawn))
        return DrawSummary(
            size=len(drawn),
            counts=frozen_mapping(dict(zip(self.labels, counts, strict=True))),
            unique_fraction=unique / len(drawn),
            covered_fraction=unique / count,
            mean_age_years=float(self._ages[drawn].mean()),
        )


def middle_ages(age_years: npt.ArrayLike) -> Floats:
    """Return ages of shape (n,) unchanged, and the midpoints of ranges of shape (n, 2).

    Raises:
        ValueError: another shape, an age out of 0 to `MAX_AGE_YEARS`, or a descending range.

    >>> middle_ages([[25, 32], [40, 40]])
    array([28.5, 40. ])
    """
    values = np.asarray(age_years, dtype=np.float64)
    if values.ndim != 2:
        return ages("age_years", values)
    if values.shape[1] != 2:
        raise ValueError(f"age_years: expected shape (n,) or (n, 2), got {values.shape}")
    lows, highs = (ages("age_years", values[:, side]) for side in (0, 1))
    if np.any(lows > highs):
        row = int(np.argmax(lows > highs))
        raise ValueError(
            f"age_years: expected ascending ranges, got {lows[row]} to {highs[row]} [{row}]"
        )
    return np.asarray((lows + highs) / 2.0, dtype=np.float64)


def _draw_size(settings: BootstrapSettings, count: int) -> int:
    size = settings.size
    wanted = size if isinstance(size, int) else max(1, round(size * count))
    if not settings.replacement and wanted > count:
        raise UsageError(
            f"bootstrap: {wanted} pictures can't be drawn without replacement from {count}: "
            "make size smaller or replacement true"
        )
    return wanted


def _edges(settings: BootstrapSettings) -> Floats:
    if isinstance(settings.groups, str):
        return np.arange(10.0, MAX_AGE_YEARS + 1, 10.0)
    return np.asarray(settings.groups, dtype=np.float64)


def _labels(edges: Floats) -> tuple[str, ...]:
    """Return labels of the groups between edges, in completed years; the last one is open."""
    if not len(edges):
        return ("all",)
    starts = [0.0, *edges.tolist()]
    closed = [
        f"{low:g}-{high - 1:g}" if low.is_integer() and high.is_integer() else f"{low:g}-<{high:g}"
        for low, high in itertools.pairwise(starts)
    ]
    return (*closed, f"{starts[-1]:g}+")
