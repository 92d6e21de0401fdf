"""Matching a split that was read from a file to the available data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from agebench.datasets.names import shown
from agebench.datasets.packed import sample_names
from agebench.errors import DatasetError
from agebench.protocols import Dataset
from agebench.splits.parts import Split
from agebench.types import Problem


def align(split: Split, dataset: Dataset) -> Split:
    """Return a split from a file with the data set's own names, listing what does not match.

    A listed name is a sample's name with folders added in front, or with some left out where
    only one sample fits.  What the data set lacks, and what it has in no part, is in
    `Split.unused`.

    Raises:
        DatasetError: no listed name is in the data set, two listed names are one picture of it
            and in different parts, or the split is of another data set.
    """
    if split.dataset and split.dataset != dataset.spec.name:
        raise DatasetError(
            f"the split {split.protocol!r} is of the data set {split.dataset!r}, got "
            f"{dataset.spec.name!r}: give the data set that it was made from"
        )
    find = _resolver(dataset)
    parts: dict[str, str] = {}
    listed_as: dict[str, str] = {}
    unused = {problem.name: problem.reason for problem in split.unused}
    for written, part in split.parts.items():
        name = find(written)
        if name is None:
            unused[written] = f"listed in {part!r}, but not (or not only once) in the data set"
            continue
        if parts.setdefault(name, part) != part:
            raise DatasetError(
                f"{shown(name)} is listed twice, as {shown(listed_as[name])} in {parts[name]!r} "
                f"and as {shown(written)} in {part!r}: a picture can be in one part only"
            )
        listed_as[name] = written
    if not parts:
        example = next(iter(split.parts))
        raise DatasetError(
            f"none of the {len(split.parts)} names of {split.protocol!r}, such as "
            f"{shown(example)}, is in data set {dataset.spec.name!r}: check that both are of the "
            "same data"
        )
    for sample in dataset.samples:
        if sample.name not in parts:
            unused.setdefault(sample.name, f"in no part of {split.protocol!r}")
    return replace(
        split,
        parts=dict(sorted(parts.items())),
        unused=tuple(Problem(name, unused[name]) for name in sorted(unused) if name not in parts),
        dataset=dataset.spec.name,
        label_kind=dataset.spec.label_kind,
        sha256={
            name: split.sha256[written]
            for name, written in sorted(listed_as.items())
            if written in split.sha256
        },
    )


def _tails(name: str) -> list[str]:
    """Yield the name without its first folder, without its first two, ..., the longest first."""
    steps = name.split("/")
    return ["/".join(steps[start:]) for start in range(1, len(steps))]


def _resolver(dataset: Dataset) -> Callable[[str], str | None]:
    """Return a function that finds the sample of a listed name, or None."""
    names = set(sample_names(dataset.samples))
    by_tail: dict[str, str | None] = {}
    for name in names:
        for tail in _tails(name):
            by_tail[tail] = None if tail in by_tail else name

    def find(written: str) -> str | None:
        if written in names:
            return written
        name = written.replace("\\", "/").removeprefix("./")
        if name in names:
            return name
        longer = next((tail for tail in _tails(name) if tail in names), None)
        return longer or by_tail.get(name)

    return find
