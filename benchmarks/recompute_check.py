"""Compares the figures in result.json with those that recompute.py computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.recompute_intervals import holm, swap_p, swaps_of, verdict

TOLERANCE = 1e-9


def pair_differences(
    figures: Sequence[Mapping[str, Any]], analysis: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what is stated otherwise of the pairs: differences, tests and verdicts."""
    own = {(pair["first"], pair["second"]): pair for pair in figures}
    stated = analysis["pairs"]
    tested = [pair for pair in stated if pair["p_value"] is not None]
    level = analysis["settings"]["level"] if stated else 0.0
    permutations = max(
        analysis["settings"]["permutations"] if stated else 1,
        math.ceil(round(5 * len(tested) / (1 - level), 6)),
    )
    corrected = holm([pair["p_value"] for pair in tested])
    pairs = [own.get((pair["first"], pair["second"]), {}) for pair in tested]
    smallest = holm([_smallest_p(pair, permutations) for pair in pairs])
    adjusted = {id(pair): ps for pair, *ps in zip(tested, corrected, smallest, strict=True)}
    for pair in stated:
        what = f"{pair['first']} and {pair['second']}"
        found = own.get((pair["first"], pair["second"]))
        if found is None:
            yield f"{what}: no picture of both"
            continue
        names = ("n", "people", "difference_years")
        yield from _compare(what, {name: found[name] for name in names}, pair)
        if id(pair) in adjusted:
            yield from _test_differs(what, found, pair, adjusted[id(pair)], permutations)
        elif found["interval"] is not None and not pair.get("reason"):
            yield f"{what}: no test is stated, and no reason"
        if pair["verdict"] != (right := verdict(pair, level)):
            yield f"{what}: verdict: stated {pair['verdict']}, by its figures {right}"


def _people(own: Mapping[str, Any]) -> int:
    return len(own["off"]) if own["who"] is None else len(np.unique(own["who"]))


def _smallest_p(own: Mapping[str, Any], permutations: int) -> float:
    """Return the smallest p, before correction, that a pair can have."""
    swaps, every = swaps_of(_people(own) if own else 0, permutations)
    return 2 / swaps if every else 1 / (swaps + 1)


def _test_differs(
    what: str,
    own: Mapping[str, Any],
    pair: Mapping[str, Any],
    adjusted: Sequence[float],
    permutations: int,
) -> Iterator[str]:
    """Hold a test against our own; `adjusted` is its p after correction, and the smallest."""
    swaps, every = swaps_of(_people(own), permutations)
    corrected, smallest = adjusted
    exact = {
        "interval": own["interval"],
        "p_adjusted": corrected,
        "smallest_p": smallest,
        "swaps": swaps,
        "all_swaps": every,
    }
    yield from _compare(what, exact, pair)
    p, leaves_open = swap_p(own["off"], own["who"], permutations)
    if abs(p - pair["p_value"]) > leaves_open + TOLERANCE:
        yield f"{what}: p_value: stated {pair['p_value']}, by swaps of our own {p:.5f}"


def differences(figures: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    """Return what result.json states otherwise, one line each."""
    analysis = result.get("analysis") or {"estimators": {}, "pairs": []}
    found: list[str] = []
    for item in result["estimators"]:
        if item["available"]:
            name = item["name"]
            own = figures["estimators"].get(name)
            if own is None:
                found.append(f"{name}: not in the table")
                continue
            found += _compare(name, own, {**item, **analysis["estimators"].get(name, {})})
    return [*found, *pair_differences(figures["pairs"], analysis)]


def _compare(where: str, own: Any, stated: Any) -> Iterator[str]:
    """Compare what the table gives with what is stated; fields that it can't give are left out."""
    if isinstance(own, Mapping) and isinstance(stated, Mapping):
        yield from _compare_fields(where, own, stated)
    elif isinstance(own, list) and isinstance(stated, list):
        yield from _compare_entries(where, _by_label(own), _by_label(stated))
    elif not _same(own, stated):
        yield f"{where}: stated {stated}, computed {own}"


def _compare_fields(where: str, own: Mapping[str, Any], stated: Mapping[str, Any]) -> Iterator[str]:
    for name, value in own.items():
        if name not in stated:
            yield f"{where}: {name} is not stated"
        else:
            yield from _compare(f"{where}: {name}", value, stated[name])


def _compare_entries(
    where: str, own: Mapping[str, Any], stated: Mapping[str, Any]
) -> Iterator[str]:
    if own.keys() != stated.keys():
        yield f"{where}: other entries: {sorted(own.keys() ^ stated.keys())[:3]}"
    for key in sorted(own.keys() & stated.keys()):
        yield from _compare(f"{where} {key}", own[key], stated[key])


_LABELS = ("decade", "attribute", "value", "level", "threshold_years", "buffer_years")


def _by_label(items: Sequence[Any]) -> dict[str, Any]:
    """Entries by what they are of, or by their place."""

    def label(at: int, item: Any) -> str:
        named = isinstance(item, Mapping)
        labels = [str(item[name]) for name in _LABELS if name in item] if named else []
        return " ".join(labels) or str(at)

    return {label(at, item): item for at, item in enumerate(items)}


def _same(own: Any, stated: Any) -> bool:
    numbers = all(isinstance(value, (int, float)) for value in (own, stated))
    if numbers and not isinstance(own, str):
        return bool(abs(own - stated) <= TOLERANCE * max(1.0, abs(own)))
    return bool(own == stated)
