"""A file of `agebench bench` as typed records, as far as a report shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from agebench.benchmark.result import READABLE_VERSIONS
from agebench.harness.contents_setup import MOST_ESTIMATORS, Environment, Texts
from agebench.harness.contents_statistics import Busy
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

_RENAMED = {"floor_ms": "roofline_ms", "infer_to_floor": "infer_to_roofline"}
"""What files up to version 2 call a batch size's figures."""


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


def with_present_names(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a file with the names that `Sweep` has, whatever version wrote it.

    What is damaged is left as it is: reading it as a `Sweep` names the fault.
    """
    estimators = content.get("estimators")
    if not isinstance(estimators, list):
        return {**content}
    return {**content, "estimators": [_with_roofline(item) for item in estimators]}


def _with_roofline(estimator: Any) -> Any:
    sweep = estimator.get("batch_sweep") if isinstance(estimator, dict) else None
    if not isinstance(sweep, list):
        return estimator
    return {**estimator, "batch_sweep": [_renamed(item) for item in sweep]}


def _renamed(batch: Any) -> Any:
    if not isinstance(batch, dict):
        return batch
    return {_RENAMED.get(name, name): value for name, value in batch.items()}
