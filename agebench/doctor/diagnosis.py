"""Faults of a data set: broken files, copies, ages that contradict each other.

`examine` checks one set, `shared_pictures` finds what two sets have in common.  Nothing is changed
on disk, and a broken file is a finding, not an error.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from agebench.duplicates.groups import (
    MOST_KEPT,
    DuplicateGroup,
    Fingerprint,
    find_duplicates,
    fingerprints,
    labels_conflict,
)
from agebench.protocols import Dataset, ProgressStep
from agebench.types import LabelKind, Problem, Sample, frozen_mapping, plain

SCHEMA_VERSION = 1

PLAUSIBLE_UP_TO_YEARS = 109.0
"""Only a few thousand people are known to have reached 110: a higher label should be checked."""

LABEL_DESCRIPTIONS: Mapping[LabelKind, str] = {
    "birth-age": "birth ages, from dates of birth",
    "apparent": "apparent ages, as people guessed them",
    "dex-estimated": "estimated by the DEX network and checked by people, not birth ages",
    "unknown": "of unknown origin: the data set does not say how its ages were obtained",
}

BrokenKind: TypeAlias = Literal[
    "lfs-pointer", "html", "truncated", "empty", "too-large", "not-a-picture", "unreadable"
]
"""Why a file can't be decoded as a picture."""

# Kind of a file that is no picture, by the message of `vision.images`.
_BROKEN: tuple[tuple[str, BrokenKind], ...] = (
    ("Git LFS pointer", "lfs-pointer"),
    ("an HTML page", "html"),
    ("truncated", "truncated"),
    ("damaged", "truncated"),
    ("is empty", "empty"),
    ("more than the limit", "too-large"),
    ("a file of unknown format", "not-a-picture"),
)


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A file that is named and labelled as a picture but can't be decoded.

    Attributes:
        name: the sample's name.
        kind: what it is instead.
        reason: a description of that.
    """

    name: str
    kind: BrokenKind
    reason: str


@dataclass(frozen=True, slots=True)
class SuspiciousAge:
    """An age that should be checked; it may be correct.

    Attributes:
        age_years: in completed years.
        pictures: how many are labelled with it.
        reason: what is odd about it.
        names: up to five of them.
    """

    age_years: int
    pictures: int
    reason: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings of `examine` in one data set.

    Attributes:
        dataset: its registry name.
        root: its folder or file.
        label_kind: how its ages were obtained.
        notes: the data set's own notes.
        pictures: number of files named and labelled as pictures of the set.
        decoded: how many of them could be decoded.
        problems: files that the data set left out, with the reason.
        broken: files that could not be decoded.
        ages: pictures per completed year of age.
        ranges: pictures per age range, such as "20-29".
        unlabelled: pictures without any age.
        sizes: pictures per size, such as "200x200" (width x height), the most frequent first.
        identical: groups of byte-identical pictures.
        near_searched: whether near-identical pictures were looked for.
        near: groups with near-identical pictures; a group of `identical` that has a near-identical
            copy is part of one of them.
        suspicious: ages that should be checked.
    """

    dataset: str
    root: str
    label_kind: LabelKind
    notes: tuple[str, ...]
    pictures: int
    decoded: int
    problems: tuple[Problem, ...]
    broken: tuple[BrokenFile, ...]
    ages: Mapping[int, int]
    ranges: Mapping[str, int]
    unlabelled: int
    sizes: Mapping[str, int]
    identical: tuple[DuplicateGroup, ...]
    near_searched: bool
    near: tuple[DuplicateGroup, ...]
    suspicious: tuple[SuspiciousAge, ...]

    @property
    def conflicting(self) -> tuple[DuplicateGroup, ...]:
        """Groups of copies with different ages, disjoint, with the largest gap first."""
        inside = {name for group in self.near for name in group.members}
        alone = [group for group in self.identical if group.members[0] not in inside]
        groups = [group for group in (*self.near, *alone) if group.conflicting]
        return tuple(sorted(groups, key=lambda group: (-group.age_gap_years, group.members)))

    def to_json(self) -> dict[str, Any]:
        """Return JSON-compatible values; every picture by name, without pixels."""
        content: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **plain(self)}
        for kind in ("identical", "near"):
            for group, listed in zip(getattr(self, kind), content[kind], strict=True):
                listed["age_gap_years"] = group.age_gap_years
        return content


@dataclass(frozen=True, slots=True)
class SharedPicture:
    """A picture that is in two data sets.

    Attributes:
        here, there: the names of its copies in the first and in the second set, sorted.
        kind: "identical" if a file of each has the same bytes, else "near".
        ages_here, ages_there: in years; None if no single age is known.
        conflicting: whether the known ages contradict each other.
    """

    here: tuple[str, ...]
    there: tuple[str, ...]
    kind: Literal["identical", "near"]
    ages_here: tuple[float | None, ...]
    ages_there: tuple[float | None, ...]
    conflicting: bool

    @property
    def age_gap_years(self) -> float:
        """Years between the youngest and the oldest known age."""
        known = [age for age in (*self.ages_here, *self.ages_there) if age is not None]
        return max(known) - min(known) if known else 0.0


def examine(
    dataset: Dataset,
    root: str | Path,
    *,
    near: bool = True,
    threads: int | None = None,
    progress: ProgressStep | None = None,
) -> tuple[Diagnosis, list[Fingerprint]]:
    """Check every picture of a data set.

    Args:
        dataset: as from `agebench.load_dataset`.
        root: its folder or file, for the report.
        near: also look for near-identical pictures, which takes the longest.
        threads: number of pictures decoded at a time; if not given, 2, or 1 if files are small.
        progress: called for each hundred pictures.

    Returns:
        The findings, and the samples' fingerprints for further use.
    """
    samples = dataset.samples
    keep = MOST_KEPT if near else 0
    prints = fingerprints(samples, threads=threads, progress=progress, keep=keep)
    identical = _copies(find_duplicates(samples, prints, near=False), samples)
    groups: tuple[DuplicateGroup, ...] = ()
    if near:
        groups = find_duplicates(samples, prints, threads=threads, progress=progress)
    broken = tuple(
        BrokenFile(print_.name, _broken_kind(print_.reason), print_.reason)
        for print_ in prints
        if print_.perceptual is None
    )
    sizes = Counter(f"{print_.width}x{print_.height}" for print_ in prints if print_.width)
    ranges = Counter(
        f"{sample.age_range[0]}-{sample.age_range[1]}"
        for sample in samples
        if sample.age_years is None and sample.age_range is not None
    )
    diagnosis = Diagnosis(
        dataset=dataset.spec.name,
        root=str(root),
        label_kind=dataset.spec.label_kind,
        notes=tuple(dataset.spec.notes),
        pictures=len(samples),
        decoded=len(samples) - len(broken),
        problems=tuple(dataset.problems),
        broken=broken,
        ages=MappingProxyType(age_counts(samples)),
        ranges=frozen_mapping(
            dict(sorted(ranges.items(), key=lambda item: [int(end) for end in item[0].split("-")]))
        ),
        unlabelled=sum(s.age_years is None and s.age_range is None for s in samples),
        sizes=frozen_mapping(dict(sizes.most_common())),
        identical=identical,
        near_searched=near,
        near=_copies([group for group in groups if group.kind == "near"], samples),
        suspicious=suspicious_ages(samples),
    )
    return diagnosis, prints


def _copies(
    groups: Sequence[DuplicateGroup], samples: Sequence[Sample]
) -> tuple[DuplicateGroup, ...]:
    """Leave out groups that are labelled faces of one file, as they are no copies."""
    paths = {sample.name: sample.path for sample in samples}
    return tuple(group for group in groups if len({paths[name] for name in group.members}) > 1)


def _broken_kind(reason: str) -> BrokenKind:
    for phrase, kind in _BROKEN:
        if phrase in reason:
            return kind
    return "unreadable"


def age_counts(samples: Sequence[Sample]) -> dict[int, int]:
    """Count the samples per completed year of age; those without a single age do not count."""
    years = Counter(age for s in samples if (age := _completed_years(s)) is not None)
    return dict(sorted(years.items()))


def _completed_years(sample: Sample) -> int | None:
    return None if sample.age_years is None else math.floor(sample.age_years)


def suspicious_ages(samples: Sequence[Sample]) -> tuple[SuspiciousAge, ...]:
    """Find ages that few people reach, and ages that are much more frequent than their neighbours.

    A count is reported if it is twice the median of the (up to eight) ages within four years, and
    more than ten standard deviations of a Poisson count above it.  Such peaks come from guessed or
    rounded ages, from the way the pictures were collected, or from a default value.
    """
    counts = age_counts(samples)
    found = []
    for years, pictures in counts.items():
        reasons = []
        if years > PLAUSIBLE_UP_TO_YEARS:
            reasons.append(f"above {PLAUSIBLE_UP_TO_YEARS:g} years: hardly anyone reaches that age")
        near_by = range(max(0, years - 4), years + 5)
        usual = statistics.median(counts.get(year, 0) for year in near_by if year != years)
        if pictures >= 2 * usual and pictures > usual + 10 * math.sqrt(max(usual, 1.0)):
            reasons.append(f"stands out: the ages around it have {usual:g} pictures (median)")
        if reasons:
            names = [s.name for s in samples if _completed_years(s) == years]
            found.append(SuspiciousAge(years, pictures, "; ".join(reasons), tuple(names[:5])))
    return tuple(found)


def shared_pictures(
    here: tuple[Sequence[Sample], Sequence[Fingerprint]],
    there: tuple[Sequence[Sample], Sequence[Fingerprint]],
    *,
    near: bool = True,
    threads: int | None = None,
    progress: ProgressStep | None = None,
) -> tuple[SharedPicture, ...]:
    """Find the pictures that are in both data sets, whatever their names.

    A model that was trained on one set must not be tested on these pictures of the other.

    Args:
        here: the first set's samples and fingerprints.
        there: the second set's.
        near: also find near-identical copies.
        threads: number of pictures decoded at a time; if not given, 2, or 1 if files are small.
        progress: called for each hundred pictures.

    Returns:
        One entry per picture, the largest age gap first.
    """
    samples = [
        replace(sample, name=f"{side}/{sample.name}")
        for side, (listed, _) in enumerate((here, there))
        for sample in listed
    ]
    prints = [
        replace(print_, name=f"{side}/{print_.name}")
        for side, (_, listed) in enumerate((here, there))
        for print_ in listed
    ]
    groups = find_duplicates(samples, prints, near=near, threads=threads, progress=progress)
    by_name = {
        sample.name: (sample, print_) for sample, print_ in zip(samples, prints, strict=True)
    }
    found = [_shared([by_name[name] for name in group.members]) for group in groups]
    both = [picture for picture in found if picture.here and picture.there]
    return tuple(sorted(both, key=lambda picture: (-picture.age_gap_years, picture.here)))


def _shared(members: Sequence[tuple[Sample, Fingerprint]]) -> SharedPicture:
    sides = [[m for m in members if m[0].name.startswith(f"{side}/")] for side in (0, 1)]
    hashes = [{print_.sha256 for _, print_ in side} for side in sides]
    names = [tuple(sample.name[2:] for sample, _ in side) for side in sides]
    ages = [tuple(sample.age_years for sample, _ in side) for side in sides]
    conflicting = labels_conflict(sample for sample, _ in members)
    kind: Literal["identical", "near"] = "identical" if hashes[0] & hashes[1] else "near"
    return SharedPicture(names[0], names[1], kind, ages[0], ages[1], conflicting)
