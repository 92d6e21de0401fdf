"""The fields of a file of `agebench bench` that a report shows, as typed records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from agebench.benchmark.result import READABLE_VERSIONS
from agebench.harness.contents_setup import MOST_ESTIMATORS, Environment, Texts
from agebench.harness.contents_statistics import Busy
from agebench.harness.former_names import Renamed, renamed_keys
from agebench.timing.ratios import Comparison
from agebench.util.record_fields import (
    AtMost,
    By,
    Count,
    FromOne,
    Milliseconds,
    Positive,
    Text,
    one_of,
)

_RENAMED: Renamed = {
    ("estimators", "*", "batch_sweep", "*", "floor_ms"): "roofline_ms",
    ("estimators", "*", "batch_sweep", "*", "infer_to_floor"): "infer_to_roofline",
    ("controls", "*", "floor"): "noise_floor",
}
"""Former names of keys: of the first two up to version 2, of the last up to version 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch size of a sweep."""

    batch: FromOne
    n: Count
    faces_per_s: Positive
    samples_ms: tuple[Milliseconds, ...]
    roofline_ms: Milliseconds | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """The resources of an estimator."""

    parameters: Count | None
    macs_per_face: Count | None
    file_bytes: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """One estimator of a sweep."""

    name: Text
    resources: Resources
    batch_sweep: tuple[Batch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(Busy):
    """The machine of a sweep."""

    devices: Texts
    threads: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """The faces of a sweep."""

    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The fields of bench.json that a report shows."""

    schema_version: Annotated[int, By(one_of(READABLE_VERSIONS))]
    created: str
    command: Texts
    environment: Environment
    machine: Machine
    faces: Faces
    estimators: Annotated[tuple[Swept, ...], AtMost(MOST_ESTIMATORS)]
    comparisons: tuple[Comparison, ...]


def with_present_names(content: Any) -> Any:
    """Return the content of a file with present key names, whatever version wrote it.

    Damaged content is left as it is: reading it as a `Sweep` reports the fault.
    """
    return renamed_keys(content, _RENAMED)
