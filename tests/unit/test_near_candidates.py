"""Hashes that differ in few bits are found without comparing all with all."""

from __future__ import annotations

import numpy as np
import pytest

from agebench.duplicates.near_candidates import (
    EXACT_UP_TO,
    ORDERS,
    WINDOW,
    Hashes,
    count_batches,
    near_batches,
)

Found = dict[tuple[int, int], set[bool]]


def found(hashes: Hashes, mirrored: Hashes | None, most: int) -> Found:
    pairs: Found = {}
    batches = list(near_batches(hashes, mirrored, most))
    assert len(batches) == count_batches(
        len(hashes), mirrors=mirrored is not None, max_distance=most
    )
    for batch in batches:
        for first, second, turned in zip(
            batch.first.tolist(), batch.second.tolist(), batch.mirrored.tolist(), strict=True
        ):
            pairs.setdefault((first, second), set()).add(turned)
    return pairs


def by_double_loop(hashes: Hashes, mirrored: Hashes | None, most: int) -> Found:
    pairs: Found = {}
    for i in range(len(hashes)):
        for j in range(i + 1, len(hashes)):
            a, b = int(hashes[i]), int(hashes[j])
            turned = [] if mirrored is None else [a ^ int(mirrored[j]), b ^ int(mirrored[i])]
            kinds = {True for bits in turned if bits.bit_count() <= most}
            kinds |= {False} if (a ^ b).bit_count() <= most else set()
            if kinds:
                pairs[i, j] = kinds
    return pairs


def random_hashes(count: int, seed: int) -> Hashes:
    return np.random.default_rng(seed).integers(0, 1 << 64, count, dtype=np.uint64)


def near_to(hashes: Hashes, bits: int, seed: int) -> Hashes:
    """Return hashes that differ from these in so many bits."""
    rng = np.random.default_rng(seed)
    masks = [sum(1 << int(bit) for bit in rng.choice(64, bits, replace=False)) for _ in hashes]
    return np.asarray(hashes ^ np.array(masks, np.uint64), np.uint64)


@pytest.mark.parametrize("most", [0, 3, 12, 64])
@pytest.mark.parametrize("mirrors", [False, True])
def test_few_hashes_give_the_pairs_of_a_plain_double_loop(most: int, *, mirrors: bool) -> None:
    base = random_hashes(40, 0)
    hashes = np.concatenate([base, near_to(base, 1, 1), base[:5], near_to(base, 11, 2)])
    mirrored = np.concatenate([random_hashes(125 - 20, 3), near_to(base[:20], 3, 4)])
    assert len(hashes) == len(mirrored) == 125
    turned = mirrored if mirrors else None
    assert found(hashes, turned, most) == by_double_loop(hashes, turned, most)


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    assert found(np.zeros(count, np.uint64), None, 64) == {}
    assert found(np.zeros(count, np.uint64), np.zeros(count, np.uint64), 64) == {}


def keys(hashes: Hashes, most: int) -> set[int]:
    """Return the pairs that are found, as first * n + second."""
    batches = near_batches(hashes, None, most)
    found = [np.unique(batch.first * len(hashes) + batch.second) for batch in batches]
    return set(np.unique(np.concatenate(found)).tolist())


def test_almost_all_of_many_are_found() -> None:
    """Of 800 pairs 8 bits apart all, and of 12 bits nearly all, among 2,400 hashes."""
    base = random_hashes(800, 5)
    hashes = np.concatenate([base, near_to(base, 8, 6), near_to(base, 12, 7)])
    assert len(hashes) > EXACT_UP_TO
    pairs = keys(hashes, 12)
    assert all(i * 2400 + i + 800 in pairs for i in range(800))
    assert sum(i * 2400 + i + 1600 in pairs for i in range(800)) > 790


def test_many_alike_do_not_give_all_their_pairs() -> None:
    alike = np.zeros(EXACT_UP_TO + 100, np.uint64)
    batches = list(near_batches(alike, None, 12))
    assert len(batches) == 2 * ORDERS * WINDOW
    assert max(map(len, batches)) < len(alike)
