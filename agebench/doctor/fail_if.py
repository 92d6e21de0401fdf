"""`doctor --fail-if`: what must not be wrong with a data set, for CI."""

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
"""What of one data set is counted; `shared` is of two."""

SHARED = "shared"
_GATE = re.compile(r"(?P<count>[\w-]+)\s*>\s*(?P<limit>\d{1,12})")


@dataclass(frozen=True, slots=True)
class CountGate:
    """A number that must not be exceeded."""

    text: str
    count: str
    limit: int


def read_count_gates(texts: Sequence[str], *, near: bool, against: bool) -> list[CountGate]:
    """Read gates such as 'broken>0'.

    Args:
        texts: as typed.
        near: near-identical copies are looked for.
        against: there is another data set.

    Raises:
        UsageError: one is not a gate, or is of something that is not looked for.
    """
    gates = []
    for text in texts:
        found = _GATE.fullmatch(text.strip())
        if found is None:
            raise UsageError(f"{text!r} is not a gate: expected COUNT>NUMBER, such as 'broken>0'")
        count = found["count"]
        if count not in COUNTS and count != SHARED:
            raise UsageError(f"{text!r}: {suggestion(count, [*COUNTS, SHARED])}")
        if count == SHARED and not against:
            raise UsageError(f"{text!r} needs --against: shared with what?")
        if count == "near" and not near:
            raise UsageError(f"{text!r} needs --near: near-identical copies are not looked for")
        gates.append(CountGate(text.strip(), count, int(found["limit"])))
    return gates


def require_counts(
    gates: Sequence[CountGate], found: Diagnosis, shared: Sequence[SharedPicture]
) -> None:
    """End with exit code 1 where a data set has more of something than it may.

    Raises:
        AgebenchError: a gate fails; all that do are named.
    """
    counts = {name: read(found) for name, read in COUNTS.items()} | {SHARED: len(shared)}
    failed = [gate for gate in gates if counts[gate.count] > gate.limit]
    if failed:
        told = "; ".join(f"{gate.text}: there are {counts[gate.count]:,}" for gate in failed)
        raise AgebenchError(f"the data set fails --fail-if {told}")
