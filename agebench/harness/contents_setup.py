"""Types of a result file: the machine, the data set and the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypeAlias, TypedDict

from agebench.types import LabelKind
from agebench.util.record_fields import Between, Count, Text, Years

MOST_ESTIMATORS = 200
"""Largest number in one file: each has a row in a dozen tables and a pair with every other."""

MOST_PARTS = 1000
"""Largest number of groups, age thresholds or decades of one estimator."""

Settings: TypeAlias = Mapping[str, Any]
Seed: TypeAlias = Annotated[int, Between(0, 10**300)]
Texts: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """A model file."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The runtime of a model."""

    runtime: str
    device: str
    detail: str
    version: str

    @property
    def called(self) -> str:
        """Its name and version; code without a network has none."""
        return f"{self.runtime} {self.version}".rstrip()


class RunSettings(TypedDict):
    """Settings of a run that are read; others are only shown."""

    seed: Seed
    threads: NotRequired[Count | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Licence, origin and notes of data or models."""

    licence: str
    source: str
    citation: str
    notes: Texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The machine and the versions of packages."""

    python: str
    system: str
    processor: str
    cores: Count
    memory_bytes: Annotated[int, Between(0, 10**18)]
    opencv_threads: Count
    packages: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The part of a protocol that was scored."""

    protocol: str
    part: str
    fingerprint: str
    parameters: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A file that was left out while the data set was listed."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicDataset(Terms):
    """The part of a data set's description that leaderboard files keep too."""

    name: Text
    label_kind: LabelKind
    aligned: bool
    protocol: str
    subset: str
    split: Split | None
    content_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(PublicDataset):
    """A data set."""

    root: str | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDetections:
    """Numbers of pictures whose faces were found by earlier runs, and by this one."""

    used: Count
    found: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Terms):
    """What detectors and estimators have in common."""

    name: Text
    weights: tuple[WeightsFile, ...]
    runtime: Runtime
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector(Model):
    """The face detector."""

    reference: Text
    chosen_because: str
    runtime_proven: bool = True
    kept_detections: KeptDetections | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A crop."""

    region: str
    size_hw: tuple[Count, Count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """The crops that an estimator takes."""

    views: Mapping[str, View]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """First and last years of an estimator's classes."""

    lows: tuple[Years, ...]
    highs: tuple[Years, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec(Model):
    """The spec of an estimator."""

    crop: Crop
    decode: str
    channel_order: str
    trained_on: str = ""
    label_kind: str
    trained_sets: Texts = ()
    detector: str = ""
    classes: Classes | None = None
