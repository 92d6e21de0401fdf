"""Pictures with ages in their file names, according to a pattern given by the user."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from agebench.datasets.age_rules import AgeRule
from agebench.datasets.base import (
    FoundFile,
    SampleList,
    finished,
    list_files,
    require_folder,
)
from agebench.datasets.name_pattern import NamePattern, parse_pattern
from agebench.datasets.packed import PackedSamples
from agebench.datasets.suffixes import is_picture
from agebench.protocols import DatasetSpec
from agebench.types import LabelKind, Problem, Sample

SPEC = DatasetSpec(name="names", label_kind="unknown")


def load(
    root: Path,
    pattern: str,
    age: str | None = None,
    low: str | None = None,
    high: str | None = None,
    label_kind: LabelKind = "unknown",
) -> SampleList:
    """List pictures with ages in their names, such as AgeDB's ``0_MariaCallas_35_f.jpg``.

    Fields called ``age``, or ``low`` and ``high``, give the age; ``identity`` is the person; others
    become attributes.  Names that don't match the pattern, or match it in two ways, are listed
    as problems.

    Args:
        root: the folder; pictures may lie at any depth.
        pattern: of the name without its suffix, such as ``{}_{identity}_{age}_{gender}`` (see
            `name_pattern.parse_pattern`).  One with slashes also matches the last folders.
        age: a field, or an expression of fields: ``photo-birth``.
        low: the lowest completed year, if the name gives a range.
        high: the highest.
        label_kind: how the ages were determined; only the user knows.

    Raises:
        UsageError: the pattern or an expression is invalid.
        DatasetError: `root` is not a folder or contains no usable picture.
    """
    if is_picture(pattern):
        pattern = pattern.rpartition(".")[0]
    rule = AgeRule.of(parse_pattern(pattern).fields, age=age, low=low, high=high)
    numbers = rule.fields | {"age", "low", "high"}
    read = parse_pattern(pattern, numbers=numbers)
    require_folder(root, SPEC.name, "pictures named by a pattern")
    files, problems = list_files(root)
    samples, unread = _samples(files, read, rule)
    spec = replace(SPEC, label_kind=label_kind, notes=_notes(read, rule))
    return finished(spec, root, samples, problems + unread)


def _notes(pattern: NamePattern, rule: AgeRule) -> tuple[str, ...]:
    ends = (("age", rule.age), ("low", rule.low), ("high", rule.high))
    ages = ", ".join(f"{name} = {each.text}" for name, each in ends if each is not None)
    return (f"file names read as {pattern.text}, {ages}",)


def _samples(
    files: Iterable[FoundFile], pattern: NamePattern, rule: AgeRule
) -> tuple[PackedSamples, list[Problem]]:
    samples = PackedSamples()
    problems: list[Problem] = []
    parts = pattern.text.count("/") + 1
    dated = {name: kind for name, kind in pattern.fields.items() if kind in ("year", "date")}
    for file in files:
        ending = "/".join(file.name.split("/")[-parts:])
        fields = pattern.read(ending.rpartition(".")[0])
        if isinstance(fields, Problem):
            problems.append(Problem(file.name, fields.reason))
            continue
        label = rule.label(fields, dated)
        if isinstance(label, Problem):
            problems.append(Problem(file.name, label.reason))
            continue
        identity = fields.pop("identity", None)
        samples.append(
            Sample(
                file.path,
                file.name,
                label.age_years,
                label.age_range,
                identity=identity,
                attributes={
                    name: value for name, value in fields.items() if name not in rule.fields
                },
            )
        )
    return samples, problems
