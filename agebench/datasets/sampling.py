"""Smaller data sets out of larger ones: the first few, or a random part that can be had again."""

from __future__ import annotations

from itertools import islice

import numpy as np

from agebench.datasets.base import SampleList
from agebench.datasets.packed import PackedSamples
from agebench.errors import UsageError
from agebench.protocols import Dataset


def _require_count(n: int) -> None:
    if n < 1:
        raise UsageError(f"the number of pictures must be 1 or more, got {n}")


def limit(dataset: Dataset, n: int) -> SampleList:
    """Return the first `n` samples by name, or all if there are fewer.

    Good for a quick look only: names often begin with the age, so the first are no fair sample.

    Raises:
        UsageError: `n` is below 1.
    """
    _require_count(n)
    samples = PackedSamples(islice(dataset.samples, n))
    return SampleList(dataset.spec, samples, tuple(dataset.problems))


def sample(dataset: Dataset, n: int, seed: int) -> SampleList:
    """Return `n` samples drawn at random without replacement, or all if there are fewer.

    The same names, `n` and `seed` give the same samples on every platform; a smaller `n` gives a
    part of what a larger one gives.  Samples stay in the order of their names.

    Raises:
        UsageError: `n` is below 1 or `seed` below 0.
    """
    _require_count(n)
    if seed < 0:
        raise UsageError(f"the seed must be 0 or more, got {seed}")
    # One uniform number per sample, and the n smallest win.  Unlike permutation() and choice(),
    # whose algorithms numpy may change, a stream of doubles hardly leaves any room for that.
    keys = np.random.default_rng(seed).random(len(dataset.samples))
    chosen = np.sort(np.argsort(keys, kind="stable")[:n])
    samples = PackedSamples(dataset.samples[int(index)] for index in chosen)
    return SampleList(dataset.spec, samples, tuple(dataset.problems))
