"""Age groups: the folder of a picture for every age and range of ages."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from agebench.datasets.prepared_layout import MIXED_GROUP, UNKNOWN_GROUP
from agebench.errors import UsageError, suggestion
from agebench.metrics.age_classes import ADIENCE_CLASSES
from agebench.types import MAX_AGE_YEARS

AgeRange: TypeAlias = tuple[int, int]

OLDEST_YEARS = int(MAX_AGE_YEARS)

NAMED_GROUPS: dict[str, tuple[AgeRange, ...]] = {
    "adience": (
        *zip(ADIENCE_CLASSES.lows[:-1], ADIENCE_CLASSES.highs[:-1], strict=True),
        # The last class is 60 or older; with its published end, 100, a label "60+" would have no
        # group.
        (ADIENCE_CLASSES.lows[-1], OLDEST_YEARS),
    ),
    "decades": (*((low, low + 9) for low in range(0, 110, 10)), (110, OLDEST_YEARS)),
}

_RANGE = re.compile(r"(?P<low>[0-9]{1,3})(?:-(?P<high>[0-9]{1,3})?|(?P<open>\+))?")


@dataclass(frozen=True, slots=True)
class AgeGroups:
    """Closed ranges of completed years that include every age from 0 to `OLDEST_YEARS` once."""

    ranges: tuple[AgeRange, ...]

    def __post_init__(self) -> None:
        ends = [(-1, -1), *self.ranges, (OLDEST_YEARS + 1, OLDEST_YEARS + 1)]
        for (_, before), (low, high) in itertools.pairwise(ends):
            if low != before + 1 or high < low:
                raise ValueError(f"groups must include every age once, got {self.ranges}")

    @property
    def labels(self) -> tuple[str, ...]:
        """The folders' names, such as "25-32"; a single year is "3-3"."""
        return tuple(f"{low}-{high}" for low, high in self.ranges)

    def folder(self, age_years: float | None, age_range: AgeRange | None) -> str:
        """Return the folder of an age, or of the group that includes a whole range.

        >>> groups = parse_groups("adience")
        >>> groups.folder(32.9, None), groups.folder(35, None), groups.folder(None, (20, 29))
        ('25-32', '33-37', 'mixed')
        """
        if age_years is not None:
            age_range = (int(age_years), int(age_years))
        if age_range is None:
            return UNKNOWN_GROUP
        for (low, high), label in zip(self.ranges, self.labels, strict=True):
            if low <= age_range[0] and age_range[1] <= high:
                return label
        return MIXED_GROUP


def parse_groups(text: str) -> AgeGroups:
    """Parse ``adience``, ``decades`` or custom ranges such as ``0-12,13-17,18-``.

    Ages between and around the ranges get their own groups, so that every age has a folder.

    Raises:
        UsageError: unknown name, not a range, or ranges that overlap or are descending.
    """
    ranges = NAMED_GROUPS.get(text.strip().lower())
    return _gaps_filled(_own_ranges(text) if ranges is None else ranges)


def _own_ranges(text: str) -> list[AgeRange]:
    ranges: list[AgeRange] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            known = suggestion(text, NAMED_GROUPS)
            raise UsageError(
                f"age groups are a name or ranges such as 0-12,13-17,18-, got {text!r}: {known}"
            )
        low = int(match["low"])
        is_open = match["open"] or part.strip().endswith("-")
        high = OLDEST_YEARS if is_open else int(match["high"] or low)
        if not low <= high <= OLDEST_YEARS:
            raise UsageError(
                f"age group {part.strip()!r} must be ascending and within 0 to {OLDEST_YEARS} years"
            )
        if ranges and low <= ranges[-1][1]:
            raise UsageError(
                f"age groups must ascend without overlap, but {part.strip()!r} begins before "
                f"{ranges[-1][0]}-{ranges[-1][1]} ends"
            )
        ranges.append((low, high))
    return ranges


def _gaps_filled(ranges: Iterable[AgeRange]) -> AgeGroups:
    filled: list[AgeRange] = []
    following = 0
    for low, high in ranges:
        if low > following:
            filled.append((following, low - 1))
        filled.append((low, high))
        following = high + 1
    if following <= OLDEST_YEARS:
        filled.append((following, OLDEST_YEARS))
    return AgeGroups(tuple(filled))
