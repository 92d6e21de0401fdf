"""A file of `agebench bench` as typed records, as far as a report shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from agebench.benchmark.result import READABLE_VERSIONS
from agebench.harness.contents_setup import MOST_ESTIMATORS, Environment, Texts
from agebench.harness.contents_statistics import Busy
from agebench.timing.ratios import Comparison
from agebench.util.typed_records import (
    AtMost,
    By,
    Count,
    FromOne,
    Milliseconds,
    Positive,
    Text,
    one_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch size of a sweep."""

    batch: FromOne
    n: Count
    faces_per_s: Positive
    samples_ms: tuple[Milliseconds, ...]
    floor_ms: Milliseconds | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What an estimator takes besides time."""

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
    """What a sweep ran on."""

    devices: Texts
    threads: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """What was fed in."""

    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a file of `agebench bench` must be for a report to show it."""

    schema_version: Annotated[int, By(one_of(READABLE_VERSIONS))]
    created: str
    command: Texts
    environment: Environment
    machine: Machine
    faces: Faces
    estimators: Annotated[tuple[Swept, ...], AtMost(MOST_ESTIMATORS)]
    comparisons: tuple[Comparison, ...]
