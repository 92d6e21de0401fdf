"""Assigning pictures to parts without leaks, and stable when pictures are added or removed.

A split is made of units: pictures that must stay together, since they show the same picture (or,
where a protocol says so, the same person).  A unit's part depends only on a hash of its smallest
content hash, so that it does not change when pictures of other units are added or absent, or
when files are renamed or moved.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agebench.datasets.base import ORIGIN, SampleList
from agebench.datasets.packed import PackedSamples, sample_names
from agebench.errors import DatasetError, UsageError, suggestion
from agebench.protocols import Dataset
from agebench.types import LabelKind, Problem, Sample, Setting, frozen_mapping, plain

UNUSED = "unused"
"""Name under which pictures in no part are listed."""

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_USUAL_ORDER = ("train", "val", "test")
_ALL_BUT = "not-"


class Duplicates(Protocol):
    """A group of pictures that are copies of one; `agebench.duplicates.groups` finds them."""

    @property
    def members(self) -> Sequence[str]:
        """Names of the pictures, at least two."""
        ...

    @property
    def conflicting(self) -> bool:
        """The copies carry different labels."""
        ...


@dataclass(frozen=True, slots=True)
class Split:
    """Which part each picture of a data set is in.

    Attributes:
        protocol: name of the rule that it follows, or of the list it was read from.
        parts: the part of each picture, by the picture's name.
        unused: pictures in no part, with the reason.
        dataset: registry name of the data set; "" if not known.
        label_kind: how its ages were obtained.
        parameters: everything that determines it.
        sha256: content hash by name, 64 hex digits; of some or all pictures.
        fingerprint: sha256 over all of the above.

    Raises:
        ValueError: there is no part, a part has no proper name, or a picture is both in a part
            and unused.
    """

    protocol: str
    parts: Mapping[str, str]
    unused: tuple[Problem, ...] = ()
    dataset: str = ""
    label_kind: LabelKind = "unknown"
    parameters: Mapping[str, Setting] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        for name in sorted(set(self.parts.values())):
            if not _PART.fullmatch(name) or name == UNUSED:
                raise ValueError(f"a part needs a name of letters, digits, '_.-', got {name!r}")
        if not self.parts:
            raise ValueError("a split needs at least one picture in a part")
        for problem in self.unused:
            if problem.name in self.parts:
                raise ValueError(f"{problem.name!r} is both unused and in a part")
        for name in ("parts", "parameters", "sha256"):
            object.__setattr__(self, name, frozen_mapping(getattr(self, name)))
        object.__setattr__(self, "fingerprint", self._hash())

    def _hash(self) -> str:
        unused = sorted((problem.name, problem.reason) for problem in self.unused)
        head = [self.protocol, self.dataset, self.label_kind, plain(self.parameters)]
        rows = sorted((name, part, self.sha256.get(name, "")) for name, part in self.parts.items())
        text = json.dumps([head, rows, unused], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    @property
    def part_names(self) -> tuple[str, ...]:
        """All parts: train, val, test, then the others in order of their numbers."""
        return tuple(sorted(set(self.parts.values()), key=_part_order))


def _part_order(name: str) -> tuple[int, list[tuple[int, str]]]:
    rank = _USUAL_ORDER.index(name) if name in _USUAL_ORDER else len(_USUAL_ORDER)
    pieces = re.split(r"([0-9]+)", name)
    return rank, [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces]


def select_parts(split: Split, wanted: str) -> frozenset[str]:
    """Return the parts that `wanted` names: "test", "train+val", or "not-fold-0" for the rest.

    Raises:
        UsageError: the split has no such part.
    """
    known = split.part_names
    chosen: set[str] = set()
    for name in wanted.split("+"):
        left_out = name.removeprefix(_ALL_BUT)
        if name in known:
            chosen.add(name)
        elif left_out != name and left_out in known:
            chosen |= set(known) - {left_out}
        else:
            raise UsageError(
                f"protocol {split.protocol!r} has no part {name!r}: {suggestion(name, known)}"
            )
    return frozenset(chosen)


def part(dataset: Dataset, split: Split, wanted: str) -> SampleList:
    """Return the samples of `dataset` that are in a part of `split`.

    Args:
        dataset: what was split; pictures of the part that it lacks are listed as problems.
        split: which picture is where, by the data set's own names.
        wanted: as in `select_parts`.

    Raises:
        UsageError: there is no such part.
        DatasetError: no picture of the data set is in it.
    """
    chosen = select_parts(split, wanted)
    samples = PackedSamples(
        item for item in dataset.samples if split.parts.get(item.name) in chosen
    )
    if not samples:
        raise DatasetError(
            f"data set {dataset.spec.name!r} has no picture in part {wanted!r} of "
            f"{split.protocol!r}: check that both are of the same data"
        )
    here = set(sample_names(dataset.samples))
    absent = [name for name, where in split.parts.items() if where in chosen and name not in here]
    reason = f"in part {wanted!r} of {split.protocol!r}, but not in the data set"
    missing = tuple(Problem(name, reason) for name in sorted(absent))
    return SampleList(dataset.spec, samples, (*dataset.problems, *missing))


def unit_interval(salt: str, key: str) -> float:
    """Return a number from 0 to below 1 that depends only on the two texts, uniformly distributed.

    >>> round(unit_interval("utkface-full", "00"), 6)
    0.059271
    """
    digest = hashlib.sha256(f"{salt}|{key}".encode()).digest()
    # 53 bits: a double holds them all, so that nothing rounds up to 1.
    return float((int.from_bytes(digest[:7], "big") >> 3) / 2**53)


@dataclass(frozen=True, slots=True)
class Unit:
    """Pictures that must stay in one part.

    Attributes:
        key: what its part depends on: the smallest content hash of its pictures; or the person, or
            the original that they are altered copies of.
        names: the pictures, sorted.
        conflicting: those of them whose copies have different labels.
    """

    key: str
    names: tuple[str, ...]
    conflicting: frozenset[str] = frozenset()


def _joined(names: Iterable[str], groups: Sequence[Sequence[str]]) -> list[list[str]]:
    """Join groups that share a member, be it in `names` or not; the rest stay alone.

    Their members are sorted, and they themselves by their first member.
    """
    wanted = set(names)
    leader = {name: name for group in (wanted, *groups) for name in group}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for group in groups:
        for name in group[1:]:
            leader[find(name)] = find(group[0])
    together: dict[str, list[str]] = {}
    for name in sorted(wanted):
        together.setdefault(find(name), []).append(name)
    return list(together.values())


def _marks(sample: Sample, by_identity: bool) -> tuple[str, ...]:
    """Return what connects a sample with others of its unit, the most general first."""
    origin = sample.attributes.get(ORIGIN)
    person = sample.identity if by_identity else None
    found = [f"person {person}"] if person else []
    return tuple(found + ([f"origin {origin}"] if origin else []))


def make_units(
    samples: Sequence[Sample],
    sha256: Mapping[str, str],
    duplicates: Iterable[Duplicates],
    *,
    by_identity: bool = False,
) -> list[Unit]:
    """Return the units of all samples that have a content hash, sorted by key.

    Args:
        samples: of one data set.
        sha256: content hash by name; samples without one are left out.
        duplicates: groups of names; groups that share a member become one unit, as do pictures
            with the same content hash or the same `ORIGIN`.
        by_identity: pictures of one person are one unit too; its key is then the person's name.
    """
    marks: dict[str, tuple[str, ...]] = {}
    same: dict[str, list[str]] = {}
    for item in samples:  # once: they may be packed
        if item.name in sha256:
            marks[item.name] = _marks(item, by_identity)
            for mark in ("sha256 " + sha256[item.name], *marks[item.name]):
                same.setdefault(mark, []).append(item.name)
    groups = list(duplicates)
    conflicting = {name for group in groups if group.conflicting for name in group.members}
    units = []
    for members in _joined(marks, [*same.values(), *(group.members for group in groups)]):
        # Of several people or originals the first by name; "person" before "origin".
        widest = {marks[name][0] for name in members if marks[name]}
        people = {mark for mark in widest if mark.startswith("person ")}
        key = min(people or widest or {sha256[name] for name in members})
        units.append(Unit(key, tuple(members), frozenset(conflicting.intersection(members))))
    return sorted(units, key=lambda unit: unit.key)


@dataclass(frozen=True, slots=True)
class Leak:
    """A picture whose copies are in different parts.

    Attributes:
        parts: names of the copies by part; at least two parts.
    """

    parts: Mapping[str, tuple[str, ...]]


def check_split(split: Split, duplicates: Iterable[Duplicates]) -> tuple[Leak, ...]:
    """Return the duplicate groups with copies of one picture in different parts.

    Args:
        split: for one that was read in, after `align.align`, so that names match.
        duplicates: as `agebench.duplicates.groups.find_duplicates` gives them.
    """
    groups = list(duplicates)
    members = {name for group in groups for name in group.members if name in split.parts}
    leaks = []
    for together in _joined(members, [group.members for group in groups]):
        parts: dict[str, tuple[str, ...]] = {}
        for name in together:
            parts[split.parts[name]] = (*parts.get(split.parts[name], ()), name)
        if len(parts) > 1:
            leaks.append(Leak(frozen_mapping(parts)))
    return tuple(leaks)  # by their first picture, as `_joined` has them


def age_of(sample: Sample) -> float | None:
    """Return the true age, or the middle of its range; None where neither is known."""
    if sample.age_years is not None:
        return sample.age_years
    return None if sample.age_range is None else sum(sample.age_range) / 2


def decade_of(sample: Sample) -> str:
    """Return "20-29" for 20 to below 30, or "unknown"."""
    years = age_of(sample)
    if years is None:
        return "unknown"
    first = int(years // 10) * 10
    return f"{first}-{first + 9}"


def sizes(dataset: Dataset, split: Split) -> dict[str, dict[str, int]]:
    """Return the number of pictures by decade of age (youngest first), and in each by part.

    Pictures of the data set in no part are counted under `UNUSED`.
    """
    counts: dict[str, Counter[str]] = {}
    for sample in dataset.samples:
        where = split.parts.get(sample.name, UNUSED)
        counts.setdefault(decade_of(sample), Counter())[where] += 1
    columns = (*split.part_names, UNUSED)
    youngest_first = sorted(counts, key=lambda name: (len(name.split("-")[0]), name))
    return {
        decade: {column: counts[decade][column] for column in columns} for decade in youngest_first
    }
