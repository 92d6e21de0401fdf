"""What is remembered of pairs, against sets of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from agebench.duplicates import near_memory
from agebench.duplicates.near_candidates import PairBatch
from agebench.duplicates.near_memory import Refused, Unlike

PICTURES = 40


def batch(rng: np.random.Generator, count: int) -> PairBatch:
    """Different pairs of some pictures."""
    first, second = np.triu_indices(PICTURES, 1)
    chosen = rng.permutation(len(first))[:count]
    return PairBatch(first[chosen], second[chosen], rng.random(count) < 0.5)


def keys(pairs: PairBatch) -> list[tuple[int, int, bool]]:
    return list(
        zip(pairs.first.tolist(), pairs.second.tolist(), pairs.mirrored.tolist(), strict=True)
    )


def test_refused_pairs_are_never_open_again_and_no_others_are_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(near_memory, "MOST_LOOKS", 1 << 30)
    rng, refused, known = np.random.default_rng(0), Refused(PICTURES), set[tuple[int, int, bool]]()
    for count in (3, 50, 1, 0, 7, 200, 2, 2, 120):
        pairs = batch(rng, count)
        open_ = refused.still_open(pairs)
        assert open_.tolist() == [key not in known for key in keys(pairs)]
        refused.add(pairs.where(open_), aligned=False)
        known |= set(keys(pairs))
    lengths = [len(run) for run in refused._runs]
    assert sum(lengths) == len(known)
    assert all(long >= 2 * short for long, short in pairwise(lengths))


def test_a_picture_that_was_compared_often_in_vain_is_left_alone() -> None:
    refused, ones = Refused(PICTURES), np.ones(near_memory.MOST_ALIGNMENTS, int)
    others = np.arange(2, 2 + len(ones))
    here = PairBatch(ones, others, ones > 1)
    refused.add(here, aligned=True)
    again = PairBatch(np.array([1, 1]), np.array([2, 39]), np.array([True, True]))
    assert refused.still_open(again).tolist() == [True, True], "the other may be compared still"
    refused.add(PairBatch(others * 0, others * 0 + 39, ones > 1), aligned=True)
    assert refused.still_open(again).tolist() == [True, False], "39 has had its share too"


def test_unlike_pairs_are_remembered_and_no_others_taken_for_them() -> None:
    """A place that two pairs share forgets the first: it is looked at again, and never skipped."""
    rng, unlike, known = np.random.default_rng(1), Unlike(PICTURES), set[tuple[int, int, bool]]()
    for _ in range(20):
        pairs = batch(rng, 100)
        fresh = np.array([key not in known for key in keys(pairs)])
        assert unlike.still_open(pairs)[fresh].all()
        unlike.add(pairs)
        assert np.mean(unlike.still_open(pairs)) < 0.05
        known |= set(keys(pairs))
