"""`agebench.split_dataset`: splits a data set into training and test parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agebench.harness.selection import find_split, refuse_lists
from agebench.metrics.intervals import MINIMUM_PEOPLE, MINIMUM_PICTURES
from agebench.metrics.number_format import counted
from agebench.protocols import Dataset, ProgressStep
from agebench.references import user_path
from agebench.registry.plugins import load_dataset
from agebench.splits.building import read_contents
from agebench.splits.files import write_split
from agebench.splits.parts import Leak, Split, check_split, sizes
from agebench.types import frozen_mapping, plain
from agebench.util.files import check_target
from agebench.util.progress import shown_progress

_TRAINED_ON = "train"
_ONE_PERSON = "person-"


@dataclass(frozen=True, slots=True)
class DatasetSplit:
    """The outcome of `split_dataset`.

    Attributes:
        split: the part of every picture by name, pictures in no part with the reason, and a
            fingerprint.
        by_decade: pictures by decade of age and part.
        leaks: groups of copies in different parts; None if not checked.
        warnings: remarks, such as on a part of very few pictures.
    """

    split: Split
    by_decade: Mapping[str, Mapping[str, int]]
    leaks: tuple[Leak, ...] | None
    warnings: tuple[str, ...]

    def __post_init__(self) -> None:
        rows = {decade: frozen_mapping(row) for decade, row in self.by_decade.items()}
        object.__setattr__(self, "by_decade", frozen_mapping(rows))

    @property
    def total(self) -> dict[str, int]:
        """Pictures of each part."""
        total: Counter[str] = Counter()
        for row in self.by_decade.values():
            total.update(row)
        return dict(total)

    @property
    def unused(self) -> dict[str, int]:
        """Number of pictures in no part by reason, the most frequent first."""
        return dict(Counter(problem.reason for problem in self.split.unused).most_common())

    def to_json(self) -> dict[str, Any]:
        """Return sizes and remarks as JSON-compatible values, without the parts."""
        leaks = self.leaks
        return {
            "protocol": self.split.protocol,
            "dataset": self.split.dataset,
            "label_kind": self.split.label_kind,
            "parameters": plain(self.split.parameters),
            "fingerprint": self.split.fingerprint,
            "total": self.total,
            "by_decade": plain(self.by_decade),
            "unused": self.unused,
            "straddling": None if leaks is None else [plain(leak.parts) for leak in leaks],
            "warnings": list(self.warnings),
        }


def split_dataset(
    dataset: str | Dataset,
    protocol: str | Path,
    *,
    root: str | Path | None = None,
    out: str | Path | None = None,
    check: bool = False,
    progress: ProgressStep | None = None,
) -> DatasetSplit:
    """Split a data set by a protocol, or read a published list, and count the parts.

    Protocols that read the pictures never put copies of one picture into different parts.

    Args:
        dataset: name of a data set with its options, or an object.
        protocol: its name with options, such as "holdout seed=3", or a file or folder of lists.
        root: folder or file of a data set given by name.
        out: split file to write, .csv or .json; None writes nothing.
        check: look for copies in different parts.
        progress: called with (stage, done, total).  None draws bars in a notebook and on a
            terminal; `agebench.no_progress` draws none.

    Raises:
        UsageError: an unknown name or option, or `out` is what the split is read from.
        DatasetError: there is no usable picture, or the lists do not fit the data set.
        AgebenchError: `out` can't be written.

    >>> from agebench import split_dataset
    >>> split_dataset("sample", "holdout seed=3").total
    {'train': 57, 'val': 7, 'test': 7, 'unused': 0}
    """
    # A path is never taken as the name of a protocol.
    named = protocol if isinstance(protocol, str) else str(Path.cwd() / protocol)
    target = None if out is None else user_path(out)
    if target is not None:
        check_target(target)
        refuse_lists(target, root, named)
    pictures = load_dataset(dataset, root) if isinstance(dataset, str) else dataset
    make = find_split(pictures, named)
    with shown_progress(progress) as step:
        split = make(step)
        leaks = check_split(split, read_contents(pictures, step).duplicates) if check else None
    if target is not None:
        write_split(split, target)
    straddling = None if leaks is None else tuple(leaks)
    remarks = tuple(warnings(pictures, split))
    return DatasetSplit(split, sizes(pictures, split), straddling, remarks)


def warnings(dataset: Dataset, split: Split) -> list[str]:
    """Return a sentence for each test part that has few people or pictures, or none.

    Args:
        dataset: what was split.
        split: of it.  Parts that are one person by design are scored together, and ignored here.
    """
    people: dict[str, set[str]] = {name: set() for name in split.part_names}
    pictures = dict.fromkeys(split.part_names, 0)
    for sample in dataset.samples:
        part = split.parts.get(sample.name)
        if part is not None:
            pictures[part] += 1
            if sample.identity:
                people[part].add(sample.identity)
    found = [f"part {name!r} is empty: nothing can be measured on it" for name in _empty(split)]
    for name in split.part_names:
        if name == _TRAINED_ON or name.startswith(_ONE_PERSON):
            continue
        if 0 < len(people[name]) < MINIMUM_PEOPLE:
            found.append(
                f"part {name!r} has only {counted(len(people[name]), 'person', 'people')}: below "
                f"{MINIMUM_PEOPLE} no interval and no verdict is given"
            )
        elif pictures[name] < MINIMUM_PICTURES:
            found.append(
                f"part {name!r} has only {counted(pictures[name], 'picture')}: such "
                "figures are not meaningful"
            )
    return found


def _empty(split: Split) -> list[str]:
    """Return the missing parts of a protocol of train, val and test."""
    names = set(split.part_names)
    if not names <= {"train", "val", "test"}:
        return []
    expected = ["train", "test"]
    if split.parameters.get("val_fraction", 0):
        expected.insert(1, "val")
    return [name for name in expected if name not in names]
