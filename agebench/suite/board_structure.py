"""The fields of a leaderboard's files, which are checked since files may be submitted by anyone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

from agebench.harness.contents import SeenCount
from agebench.harness.contents_setup import (
    MOST_ESTIMATORS,
    MOST_PARTS,
    Detector,
    Environment,
    PublicDataset,
    Runtime,
    Spec,
)
from agebench.harness.scores import RangeScore
from agebench.metrics.age_errors import ErrorFigures
from agebench.suite.compact import FORMAT
from agebench.suite.packed import MAX_PICTURES
from agebench.suite.plan import require_key
from agebench.util.record_fields import (
    AtMost,
    Between,
    By,
    Count,
    Milliseconds,
    StructureError,
    Text,
    one_of,
)
from agebench.util.typed_records import decoder, read_record, require_fields


def _key(value: Any) -> str:
    """Read a set's key."""
    key = str(decoder(Text)(value))
    try:
        require_key(key)
    except ValueError as error:
        raise StructureError("lower-case letters, digits and hyphens", value) from error
    return key


Format: TypeAlias = Annotated[int, By(one_of((FORMAT,)))]
SetKey: TypeAlias = Annotated[str, By(_key)]
PictureCount: TypeAlias = Annotated[int, Between(1, MAX_PICTURES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Times of one stage."""

    n: Count
    p10_ms: Milliseconds | None
    p50_ms: Milliseconds | None
    p90_ms: Milliseconds | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The groups of one attribute, and the group of each picture."""

    names: Annotated[tuple[str, ...], AtMost(MOST_PARTS)]
    codes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFile:
    """A file of a set."""

    format: Format
    key: SetKey
    changed: bool
    title: Text
    note: str
    dataset: PublicDataset
    pictures: PictureCount
    true_years: str | None
    range_low: str | None
    range_high: str | None
    people: str | None
    groups: Mapping[str, Groups]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFile:
    """One model on one set."""

    set: SetKey
    variant: str
    spec: Count
    detector: Count
    environment: Count
    created: str
    seed: Count
    content_sha256: str
    pictures: PictureCount
    runtime_proven: bool
    seen_in_training: SeenCount | None
    contamination: str
    years: str
    scored: Count
    missed: Count
    failed: Count
    errors: ErrorFigures | None = None
    ranges: RangeScore | None = None


def _read_cell(value: Any) -> CellFile:
    """Read a model's cell; for changed pictures only the ages are required."""
    found = read_record(value, CellFile)
    if not found.variant or "errors" in value:
        require_fields(value, ("errors", "ranges"), not_null=("errors",))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file of a model, which is also the format of submissions."""

    format: Format
    model: Text
    title: Text
    specs: Annotated[tuple[Spec, ...], AtMost(MOST_PARTS)]
    detectors: Annotated[tuple[Detector, ...], AtMost(MOST_PARTS)]
    environments: Annotated[tuple[Environment, ...], AtMost(MOST_PARTS)]
    cells: Annotated[tuple[Annotated[CellFile, By(_read_cell)], ...], AtMost(MOST_PARTS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedModel:
    """The times of one model."""

    runtime: Runtime
    infer: Percentiles
    crop: Percentiles
    total: Percentiles


@dataclass(frozen=True, slots=True, kw_only=True)
class TimesFile:
    """The file of the run that timed all models."""

    format: Format
    set: SetKey
    created: str
    environment: Environment
    detector: Text
    too_busy: str
    shared: Mapping[str, Percentiles]
    models: Mapping[str, TimedModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptySet:
    """A set that nothing has been measured on."""

    key: SetKey
    title: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A model, its file, and the reasons for missing cells."""

    name: Text
    title: Text
    file: Text | None
    missing: Mapping[str, str]
    suspected: Mapping[str, Text] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardFile:
    """The ordered list of a leaderboard's sets and models."""

    format: Format
    title: Text
    sets: Annotated[tuple[SetKey, ...], AtMost(MOST_PARTS)]
    empty_sets: Annotated[tuple[EmptySet, ...], AtMost(MOST_PARTS)]
    models: Annotated[tuple[ListedModel, ...], AtMost(MOST_ESTIMATORS)]
