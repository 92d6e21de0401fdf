"""What the paired tests of a result did, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Tested(Protocol):
    """What is read of a pair; nothing but None where it was not tested."""

    @property
    def swaps(self) -> int | None:
        """How many were tried."""
        ...

    @property
    def all_swaps(self) -> bool | None:
        """Whether these are all that there are."""
        ...

    @property
    def smallest_p(self) -> float | None:
        """The smallest p that could have come out."""
        ...


def swaps_tried(pairs: Iterable[Tested], by_person: str) -> str:
    """Say how many swaps were tried, and the smallest p that could have come out.

    Args:
        pairs: "pairs" of an analysis; those of files of version 1 do not say.
        by_person: what was swapped, "people" or "pictures".

    >>> from types import SimpleNamespace as Pair
    >>> swaps_tried([Pair(swaps=1024, all_swaps=True, smallest_p=2 / 1024)], "people")
    'Differences were tested by all 1,024 ways of swapping people; p could be 0.002 at best. '
    >>> swaps_tried([Pair(swaps=9999, all_swaps=False, smallest_p=0.0001)], "pictures")
    'Differences were tested by 9,999 random swaps of pictures; p could be 0.0001 at best. '
    >>> swaps_tried([], "pictures")
    ''
    """
    tested = [pair for pair in pairs if pair.swaps is not None]
    if not tested:
        return ""
    ways = sorted({(pair.swaps or 0, bool(pair.all_swaps)) for pair in tested})
    words = " or ".join(
        f"all {number:,} ways of swapping {by_person}"
        if every
        else f"{number:,} random swaps of {by_person}"
        for number, every in ways
    )
    best = min(pair.smallest_p for pair in tested if pair.smallest_p is not None)
    return f"Differences were tested by {words}; p could be {best:.1g} at best. "
