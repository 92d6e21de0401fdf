"""What the paired tests of a result did, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def swaps_tried(pairs: Iterable[Mapping[str, Any]], by_person: str) -> str:
    """Say how many swaps were tried, and the smallest p that could have come out.

    Args:
        pairs: "pairs" of an analysis; those of files of version 1 do not say.
        by_person: what was swapped, "people" or "pictures".

    >>> swaps_tried([{"swaps": 1024, "all_swaps": True, "smallest_p": 2 / 1024}], "people")
    'Differences were tested by all 1,024 ways of swapping people; p could be 0.002 at best. '
    >>> swaps_tried([{"swaps": 9999, "all_swaps": False, "smallest_p": 0.0001}], "pictures")
    'Differences were tested by 9,999 random swaps of pictures; p could be 0.0001 at best. '
    >>> swaps_tried([], "pictures")
    ''
    """
    tested = [pair for pair in pairs if pair.get("swaps") is not None]
    if not tested:
        return ""
    ways = sorted({(pair["swaps"], pair["all_swaps"]) for pair in tested})
    words = " or ".join(
        f"all {number:,} ways of swapping {by_person}"
        if every
        else f"{number:,} random swaps of {by_person}"
        for number, every in ways
    )
    best = min(pair["smallest_p"] for pair in tested)
    return f"Differences were tested by {words}; p could be {best:.1g} at best. "
