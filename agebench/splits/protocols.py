"""The named protocols: which pictures are used for training, and which for testing.

>>> [name for name in sorted(PROTOCOLS) if not name.startswith("utkface")]
['fgnet-lopo', 'holdout']
>>> [name for name in sorted(PROTOCOLS) if name.endswith("-2")]
['utkface-21-60-2', 'utkface-5fold-own-2', 'utkface-full-2']
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from agebench.duplicates.near_search import CURRENT, FIRST, Criteria
from agebench.errors import UsageError, suggestion
from agebench.splits.parts import (
    Duplicates,
    Unit,
    age_of,
    make_units,
    unit_interval,
)
from agebench.types import Sample, Setting, frozen_mapping

FRACTIONS = (("train", 0.8), ("val", 0.1), ("test", 0.1))
"""Parts of the fixed protocols and their fractions, in order."""

FOLDS = 5
AGES_21_60 = (21, 60)
"""First and last completed year of the protocol utkface-21-60."""

CONFLICT = "its copies carry other ages"


@dataclass(frozen=True, slots=True)
class PictureContents:
    """Properties of a data set's pictures besides their labels.

    Attributes:
        sha256: content hash by name; pictures without one are in no part.
        duplicates: groups of copies, near-identical ones too.
        broken: why a picture can't be used, by name.
    """

    sha256: Mapping[str, str] = field(default_factory=dict)
    duplicates: Sequence[Duplicates] = ()
    broken: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Draft:
    """A split under construction."""

    parts: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)

    def place(self, unit: Unit, part: str, *, conflicts_too: bool) -> None:
        """Put a unit into a part, and leave out those of its pictures whose labels are in doubt."""
        for name in unit.names:
            if name in unit.conflicting and not conflicts_too:
                self.unused[name] = f"{CONFLICT}, so it is kept out of {part!r}"
            else:
                self.parts[name] = part


_Rule: TypeAlias = Callable[[Sequence[Sample], PictureContents, Mapping[str, Setting]], _Draft]


@dataclass(frozen=True, slots=True)
class ProtocolRule:
    """A named protocol.

    Attributes:
        name: as in ``--protocol``.
        summary: one line on it.
        dataset: the data set that it is for; "" for any.
        options: with their defaults.
        needs_pictures: whether it reads the pictures, to find copies.
        criteria: which near-identical pictures are copies; those by any of them.
        version: written into every split; raised when the rule changes.
        rule: assigns the parts.
    """

    name: str
    summary: str
    dataset: str
    rule: _Rule
    options: Mapping[str, Setting] = field(default_factory=dict)
    needs_pictures: bool = True
    criteria: tuple[Criteria, ...] = (CURRENT,)
    version: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", frozen_mapping(self.options))


def _by_threshold(place: float, fractions: Iterable[tuple[str, float]]) -> str:
    reached = 0.0
    part = ""
    for part, fraction in fractions:  # noqa: B007 - the last one is the answer where sums round
        reached += fraction
        if place < reached:
            break
    return part


# One salt for all of UTKFace's train/val/test protocols: the parts of utkface-21-60 are then
# parts of utkface-full's, and a model trained for the one may be scored by the other.
_UTKFACE_SALT = "utkface-full"


def _utkface_full(
    samples: Sequence[Sample], pictures: PictureContents, _options: Mapping[str, Setting]
) -> _Draft:
    draft = _Draft()
    for unit in make_units(samples, pictures.sha256, pictures.duplicates):
        where = _train_val_test(unit.key)
        draft.place(unit, where, conflicts_too=where == "train")
    return draft


def _ages_21_60(rule: _Rule) -> _Rule:
    """Return the rule for the ages of `AGES_21_60` alone."""

    def limited(
        samples: Sequence[Sample], pictures: PictureContents, options: Mapping[str, Setting]
    ) -> _Draft:
        draft = rule(samples, pictures, options)
        first, last = AGES_21_60
        for sample in samples:
            years = age_of(sample)
            if years is None or not first <= math.floor(years) <= last:
                draft.parts.pop(sample.name, None)
                draft.unused[sample.name] = f"its age is not in {first}-{last}"
        return draft

    return limited


def _fold(sha256: str) -> str:
    return f"fold-{int(unit_interval('utkface-5fold-own', sha256) * FOLDS)}"


def _utkface_folds(
    samples: Sequence[Sample], pictures: PictureContents, _options: Mapping[str, Setting]
) -> _Draft:
    draft = _Draft()
    for unit in make_units(samples, pictures.sha256, pictures.duplicates):
        draft.place(unit, _fold(unit.key), conflicts_too=False)
    return draft


def _train_val_test(sha256: str) -> str:
    return _by_threshold(unit_interval(_UTKFACE_SALT, sha256), FRACTIONS)


def _each_its_own(part_of: Callable[[str], str], rank: Sequence[str]) -> _Rule:
    """Return a rule by which a picture's part depends only on its own bytes.

    If copies have different parts, those in the first part of `rank` stay; the others, or all if no
    part is in `rank`, are left out.  So no copies are in two parts, and adding or removing a
    picture may leave others out or bring them back, but never moves one to another part.
    """

    def rule(
        samples: Sequence[Sample], pictures: PictureContents, _options: Mapping[str, Setting]
    ) -> _Draft:
        draft = _Draft()
        for unit in make_units(samples, pictures.sha256, pictures.duplicates):
            own = {name: part_of(pictures.sha256[name]) for name in unit.names}
            drawn = set(own.values())
            stays = next((part for part in rank if part in drawn), "")
            if len(drawn) == 1:
                (stays,) = drawn
            for name, part in own.items():
                if name in unit.conflicting and part != "train":
                    draft.unused[name] = f"{CONFLICT}, so it is kept out of {part!r}"
                elif part != stays:
                    others = ", ".join(map(repr, sorted(drawn - {part})))
                    draft.unused[name] = f"copies of it are in {others}: it is kept out of {part!r}"
                else:
                    draft.parts[name] = part
        return draft

    return rule


def _one_person_out(
    samples: Sequence[Sample], _pictures: PictureContents, _options: Mapping[str, Setting]
) -> _Draft:
    draft = _Draft()
    for sample in samples:
        if sample.identity:
            draft.parts[sample.name] = f"person-{sample.identity}"
        else:
            draft.unused[sample.name] = "the data set does not say who it is"
    return draft


def _holdout(
    samples: Sequence[Sample], pictures: PictureContents, options: Mapping[str, Setting]
) -> _Draft:
    test, val, seed = options["fraction"], options["val_fraction"], options["seed"]
    if not (isinstance(test, float) and isinstance(val, float) and isinstance(seed, int)):
        raise UsageError("holdout needs numbers for fraction, val_fraction and seed")
    if seed < 0:
        raise UsageError(f"holdout: the seed is a whole number from 0, got {seed}")
    if not (test > 0 and val >= 0 and test + val < 1):
        raise UsageError(
            "holdout needs fraction above 0, val_fraction from 0 and less than 1 together, got "
            f"fraction={test:g} val_fraction={val:g}"
        )
    units = make_units(samples, pictures.sha256, pictures.duplicates, by_identity=True)
    salt = f"holdout {seed}"
    if options["stratify"]:
        where = _stratified(units, samples, salt, {"test": test, "val": val})
    else:
        fractions = (("test", test), ("val", val), ("train", 1 - test - val))
        where = [_by_threshold(unit_interval(salt, unit.key), fractions) for unit in units]
    draft = _Draft()
    for unit, part in zip(units, where, strict=True):
        draft.place(unit, part, conflicts_too=part == "train")
    return draft


def _stratified(
    units: Sequence[Unit], samples: Iterable[Sample], salt: str, fractions: Mapping[str, float]
) -> list[str]:
    """Return the part of each unit: of each decade the fractions, the rest "train".

    Within a decade units are taken in the order of their hashes until the fraction is reached as
    closely as whole units allow; an excess or deficit is compensated in the next decade.  A unit's
    decade is that of the median age of its pictures.
    """
    years = {sample.name: age_of(sample) for sample in samples}
    strata: dict[int, list[int]] = {}
    for index, unit in enumerate(units):
        known = [age for name in unit.names if (age := years[name]) is not None]
        decade = int(statistics.median(known) // 10) if known else -1
        strata.setdefault(decade, []).append(index)
    where = ["train"] * len(units)
    owed = dict.fromkeys(fractions, 0.0)
    for _, indices in sorted(strata.items()):
        waiting = iter(sorted(indices, key=lambda index: unit_interval(salt, units[index].key)))
        total = sum(len(units[index].names) for index in indices)
        left_over: list[int] = []
        for part, fraction in fractions.items():
            owed[part] += fraction * total
            for index in _take(waiting, left_over, units, owed, part):
                where[index] = part
    return where


def _take(
    waiting: Iterator[int],
    left_over: list[int],
    units: Sequence[Unit],
    owed: dict[str, float],
    part: str,
) -> Iterator[int]:
    """Yield units while that brings the number still needed closer to 0."""
    while True:
        index = left_over.pop() if left_over else next(waiting, None)
        if index is None:
            return
        size = len(units[index].names)
        if size / 2 > owed[part]:
            left_over.append(index)
            return
        owed[part] -= size
        yield index


_utkface_full_2 = _each_its_own(_train_val_test, [part for part, _ in FRACTIONS])
_utkface_folds_2 = _each_its_own(_fold, [])


def _utkface(name: str, summary: str, first: _Rule, second: _Rule) -> tuple[ProtocolRule, ...]:
    """Return both versions of a protocol, as old results and weights name the first one."""
    later = "its parts follow from each picture's own bytes, mirrored copies are held together too"
    return (
        ProtocolRule(
            f"{name}-2",
            f"{summary}; version 2: {later}",
            "utkface",
            second,
            criteria=(CURRENT, FIRST),
        ),
        ProtocolRule(name, summary, "utkface", first, criteria=(FIRST,), version=1),
    )


_RULES = (
    *_utkface(
        "utkface-full",
        "all ages; train, val and test of about 80, 10 and 10 %; copies stay together",
        _utkface_full,
        _utkface_full_2,
    ),
    *_utkface(
        "utkface-21-60",
        "ages 21 to 60 of utkface-full; our own, not the published CORAL split",
        _ages_21_60(_utkface_full),
        _ages_21_60(_utkface_full_2),
    ),
    *_utkface(
        "utkface-5fold-own",
        "five folds, fold-0 to fold-4; not-fold-0 is what fold 0 trains on; our own",
        _utkface_folds,
        _utkface_folds_2,
    ),
    ProtocolRule(
        "fgnet-lopo",
        "leave one person out: person-001 is scored, not-person-001 trained on",
        "fgnet",
        _one_person_out,
        needs_pictures=False,
        version=1,
    ),
    ProtocolRule(
        "holdout",
        "for any set: by decade of age, keeping people and copies together",
        "",
        _holdout,
        {"fraction": 0.1, "val_fraction": 0.1, "seed": 0, "stratify": True},
    ),
)

PROTOCOLS: Mapping[str, ProtocolRule] = MappingProxyType({rule.name: rule for rule in _RULES})
"""All protocols by name."""


def find_protocol(name: str) -> ProtocolRule:
    """Return the protocol of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol {name!r}: {suggestion(name, PROTOCOLS)}")
    return PROTOCOLS[name]
