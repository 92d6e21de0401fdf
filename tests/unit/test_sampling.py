"""Smaller data sets: which samples, in which order, and the same ones again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agebench.datasets.base import SampleList, limit, sample
from agebench.errors import UsageError
from agebench.protocols import DatasetSpec
from agebench.types import Problem, Sample


def dataset(count: int) -> SampleList:
    names = [f"{index:05d}.jpg" for index in range(count)]
    samples = tuple(Sample(Path(name), name, 30.0) for name in names)
    return SampleList(DatasetSpec("x", "apparent"), samples, (Problem("bad.jpg", "why"),))


def indices(samples: SampleList) -> list[int]:
    return [int(one.name[:5]) for one in samples.samples]


def test_limit_takes_the_first_by_name() -> None:
    small = limit(dataset(10), 3)
    assert indices(small) == [0, 1, 2]
    assert small.spec == dataset(1).spec
    assert small.problems == (Problem("bad.jpg", "why"),)
    assert len(limit(dataset(10), 99)) == 10


def test_sample_is_pinned() -> None:
    # If these change, so does every result that was taken on a sample.
    assert indices(sample(dataset(20), 5, seed=0)) == [2, 3, 11, 13, 15]
    assert indices(sample(dataset(20), 5, seed=1)) == [2, 9, 16, 18, 19]


def test_sample_is_a_random_subset_in_order_of_names() -> None:
    drawn = indices(sample(dataset(1000), 100, seed=7))
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 100
    assert drawn != indices(sample(dataset(1000), 100, seed=8))
    assert indices(sample(dataset(50), 80, seed=7)) == list(range(50))


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    small, large = (set(indices(sample(dataset(500), n, seed=3))) for n in (20, 200))
    assert small < large


def test_every_picture_is_drawn_equally_often() -> None:
    counts = np.zeros(20)
    for seed in range(2000):
        counts[indices(sample(dataset(20), 5, seed))] += 1
    # Binomial with p = 1/4: mean 500, standard deviation 19.4; 5 of them either way.
    assert 400 < counts.min() <= counts.max() < 600


@pytest.mark.parametrize("n", [0, -1])
def test_no_picture_at_all_is_a_wrong_call(n: int) -> None:
    with pytest.raises(UsageError, match="1 or more"):
        limit(dataset(3), n)
    with pytest.raises(UsageError, match="1 or more"):
        sample(dataset(3), n, seed=0)


def test_a_negative_seed_is_a_wrong_call() -> None:
    with pytest.raises(UsageError, match="seed"):
        sample(dataset(3), 1, seed=-1)
