"""`doctor --fail-if`: limits on the number of faults of a data set, for CI."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agebench.doctor.diagnosis import Diagnosis, SharedPicture
from agebench.errors import AgebenchError, UsageError, suggestion

COUNTS: Mapping[str, Callable[[Diagnosis], int]] = {
    "broken": lambda found: len(found.broken),
    "conflicting": lambda found: len(found.conflicting),
    "identical": lambda found: len(found.identical),
    "left-out": lambda found: len(found.problems),
    "near": lambda found: len(found.near),
    "suspicious": lambda found: len(found.suspicious),
    "unlabelled": lambda found: found.unlabelled,
}
"""What is counted in one data set; `shared` is counted between two."""

SHARED = "shared"
_CONDITION = re.compile(r"(?P<count>[\w-]+)\s*>\s*(?P<limit>\d{1,12})")


@dataclass(frozen=True, slots=True)
class CountLimit:
    """The largest number of one kind of fault that is accepted."""

    text: str
    count: str
    limit: int


def read_count_limits(texts: Sequence[str], *, near: bool, against: bool) -> list[CountLimit]:
    """Read conditions such as 'broken>0'.

    Args:
        texts: as typed.
        near: near-identical copies are looked for.
        against: there is another data set.

    Raises:
        UsageError: one is malformed, or counts something that is not looked for.
    """
    limits = []
    for text in texts:
        found = _CONDITION.fullmatch(text.strip())
        if found is None:
            raise UsageError(
                f"--fail-if {text!r} is not a condition: expected COUNT>NUMBER, such as 'broken>0'"
            )
        count = found["count"]
        if count not in COUNTS and count != SHARED:
            raise UsageError(f"{text!r}: {suggestion(count, [*COUNTS, SHARED])}")
        if count == SHARED and not against:
            raise UsageError(f"{text!r} needs --against: shared with what?")
        if count == "near" and not near:
            raise UsageError(f"{text!r} needs --near: near-identical copies are not looked for")
        limits.append(CountLimit(text.strip(), count, int(found["limit"])))
    return limits


def require_counts(
    limits: Sequence[CountLimit], found: Diagnosis, shared: Sequence[SharedPicture]
) -> None:
    """Refuse a data set that exceeds one of the limits, which means exit code 1.

    Raises:
        AgebenchError: a limit is exceeded; every such limit is named.
    """
    counts = {name: read(found) for name, read in COUNTS.items()} | {SHARED: len(shared)}
    failed = [one for one in limits if counts[one.count] > one.limit]
    if failed:
        reasons = "; ".join(f"{one.text}: there are {counts[one.count]:,}" for one in failed)
        raise AgebenchError(f"the data set fails --fail-if {reasons}")
