"""The plan of a suite, read from a TOML file that docs/leaderboard.md describes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from agebench.errors import UsageError, suggestion
from agebench.estimators.toml_reader import read_toml
from agebench.harness.former_names import Renamed, renamed_keys
from agebench.harness.settings import CompareSettings
from agebench.references import called, parse_reference
from agebench.vision.variants import parse_variant

_RENAMED: Renamed = {
    ("settings", "workers"): "decode_threads",
    ("times", "images"): "pictures",
}
"""Former names of keys, which are still read."""

_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A suspicion that a model was trained on pictures of some sets, though this is not stated.

    Attributes:
        sets: keys of the sets.
        why: the reason, which the page shows.

    Raises:
        ValueError: it has no set or no reason.
    """

    sets: tuple[str, ...]
    why: str

    def __post_init__(self) -> None:
        if not self.sets:
            raise ValueError("sets: expected the key of at least one set, got none")
        if not self.why.strip():
            raise ValueError("why: expected a reason in words, got an empty string")


@dataclass(frozen=True, slots=True)
class PlannedContender:
    """A model of a suite.

    Attributes:
        model: its reference, as on the command line, options included.
        title: on the page; the reference if not given.
        sets: keys of the sets that it is measured on; all if not given.
        suspected: sets that it is not ranked on, each for a reason that is shown.

    Raises:
        ValueError: the reference is malformed, or a set is suspected twice or not one of `sets`.
    """

    model: str
    title: str = ""
    sets: tuple[str, ...] | None = None
    suspected: tuple[Suspicion, ...] = ()

    def __post_init__(self) -> None:
        try:
            parse_reference(self.model)
        except UsageError as error:
            raise ValueError(str(error)) from error
        suspected = [key for suspicion in self.suspected for key in suspicion.sets]
        for key in suspected:
            if suspected.count(key) > 1:
                raise ValueError(f"suspected: set {key!r} is given twice: give it once")
            if self.sets is not None and key not in self.sets:
                raise ValueError(f"suspected: the model is not measured on {key!r}")

    @property
    def name(self) -> str:
        """Its name in results."""
        return called(self.model)


@dataclass(frozen=True, slots=True)
class PlannedSet:
    """A set of pictures of a suite.

    Attributes:
        key: a short name, of lower-case letters, digits and hyphens.
        dataset: name with options, as `agebench compare --dataset` takes it.
        title: on the page; the key if not given.
        root: its folder or file, relative to the data folder; "" for a bundled set.
        protocol, part, limit, sample: as in `CompareSettings`.
        detector: of the faces; "" for the default of `agebench compare`.  A model that is defined
            with a detector uses that one.
        groups: attributes that define groups for the fairness tables.
        note: remark on its column, in a sentence.

    Raises:
        ValueError: the key is malformed, or a number is out of range.
    """

    key: str
    dataset: str
    title: str = ""
    root: str = ""
    protocol: str | None = None
    part: str | None = None
    limit: int | None = None
    sample: int | None = None
    detector: str = ""
    groups: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        require_key(self.key)
        _settings_fit(self.limit, self.sample, self.protocol, self.part)


@dataclass(frozen=True, slots=True)
class Robustness:
    """Changed pictures: the same faces under harder conditions.

    Attributes:
        sets: keys of the sets whose pictures are changed.
        variants: as `agebench.vision.variants.parse_variant` takes them.
        sample: number of pictures of each set, drawn with the suite's seed; None for all.
        contenders: models to measure; all if not given.

    Raises:
        ValueError: a variant is malformed.
    """

    sets: tuple[str, ...]
    variants: tuple[str, ...]
    sample: int | None = None
    contenders: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        try:
            for text in self.variants:
                parse_variant(text)
        except UsageError as error:
            raise ValueError(str(error)) from error
        _settings_fit(None, self.sample, None, None)


@dataclass(frozen=True, slots=True)
class Times:
    """One run in which all models take turns, for milliseconds that can be compared.

    Attributes:
        set: key of the set whose pictures are timed.
        pictures: number of timed pictures.
        contenders: models that are timed; all if not given.

    Raises:
        ValueError: fewer than one picture.
    """

    set: str
    pictures: int = 100
    contenders: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.pictures < 1:
            raise ValueError(f"pictures must be at least 1, got {self.pictures}")


@dataclass(frozen=True, slots=True)
class SuiteSettings:
    """Settings of every comparison of a suite; as in `CompareSettings`."""

    seed: int = 0
    batch_size: int = 32
    decode_threads: int = 2
    threads: int | None = None

    def __post_init__(self) -> None:
        try:
            CompareSettings(
                None, None, self.seed, self.batch_size, self.decode_threads, self.threads
            )
        except UsageError as error:
            raise ValueError(str(error)) from error


@dataclass(frozen=True, slots=True)
class SuitePlan:
    """A whole suite.

    Attributes:
        contenders, sets: models and sets, with unique names.
        title: of the page.
        settings: of all comparisons.
        robustness, times: further measurements; None for none.

    Raises:
        ValueError: there are no models or sets, one is given twice, or a name is unknown.
    """

    contenders: tuple[PlannedContender, ...]
    sets: tuple[PlannedSet, ...]
    title: str = "Age estimators"
    settings: SuiteSettings = field(default_factory=SuiteSettings)
    robustness: Robustness | None = None
    times: Times | None = None

    def __post_init__(self) -> None:
        names, keys = [item.name for item in self.contenders], [item.key for item in self.sets]
        _require_distinct("contenders", names)
        _require_distinct("sets", keys)
        for contender in self.contenders:
            _require_known(f"sets of {contender.name!r}", contender.sets or (), keys)
            for suspicion in contender.suspected:
                _require_known(f"suspected sets of {contender.name!r}", suspicion.sets, keys)
        axes = [("times", self.times.contenders)] if self.times else []
        if self.robustness is not None:
            _require_known("robustness.sets", self.robustness.sets, keys)
            axes.append(("robustness", self.robustness.contenders))
        if self.times is not None:
            _require_known("times.set", [self.times.set], keys)
        for axis, chosen in axes:
            _require_known(f"{axis}.contenders", map(called, chosen or ()), names)

    def find_set(self, key: str) -> PlannedSet:
        """Return the set of that key."""
        return next(item for item in self.sets if item.key == key)


def read_plan(path: Path) -> SuitePlan:
    """Read a suite's file.

    Raises:
        UsageError: it can't be read or does not fit; names file and key.
    """
    return read_toml(path, SuitePlan, partial(renamed_keys, names=_RENAMED))


def require_key(key: str) -> None:
    """Refuse a malformed key of a set, as it becomes part of file names.

    Raises:
        ValueError: it is malformed.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"key: expected lower-case letters, digits and hyphens, got {key!r:.80}")


def slug(name: str) -> str:
    """Return a name as part of a file's name; different names may give the same slug.

    >>> slug("caffe-age-net recipe=tutorial"), slug("spec:my/Net.toml@onnxruntime")
    ('caffe-age-net-recipe-tutorial', 'spec-my-net-toml-onnxruntime')
    """
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:80] or "model"


def _settings_fit(
    limit: int | None, sample: int | None, protocol: str | None, part: str | None
) -> None:
    try:
        CompareSettings(limit=limit, sample=sample, protocol=protocol, part=part)
    except UsageError as error:
        raise ValueError(str(error)) from error


def _require_distinct(what: str, names: Sequence[str]) -> None:
    if not names:
        raise ValueError(f"{what}: expected at least one, got none")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what}: {twice[0]!r} is given twice: give it once")


def _require_known(where: str, wanted: Iterable[str], known: Sequence[str]) -> None:
    for name in wanted:
        if name not in known:
            raise ValueError(f"{where}: there is no {name!r}: {suggestion(name, known)}")
