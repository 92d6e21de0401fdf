"""What to know of a split before anything is measured on it: parts that can show little."""

from __future__ import annotations

from agebench.metrics.intervals import MINIMUM_PEOPLE, MINIMUM_PICTURES
from agebench.protocols import Dataset
from agebench.splits.parts import Split

_TRAINED_ON = "train"
_ONE_PERSON = "person-"


def warnings(dataset: Dataset, split: Split) -> list[str]:
    """Return a sentence for each part to be measured on that has few people or pictures, or none.

    Args:
        dataset: what was split.
        split: of it.  Parts that are one person by design are measured on together, and passed
            over.
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
                f"part {name!r} has {_count(len(people[name]), 'person', 'people')} only: below "
                f"{MINIMUM_PEOPLE} no interval and no verdict is given"
            )
        elif pictures[name] < MINIMUM_PICTURES:
            found.append(
                f"part {name!r} has {_count(pictures[name], 'picture', 'pictures')} only: such "
                "figures say next to nothing"
            )
    return found


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _empty(split: Split) -> list[str]:
    """Return the parts that a protocol of train, val and test should have and does not."""
    there = set(split.part_names)
    if not there <= {"train", "val", "test"}:
        return []
    expected = ["train", "test"]
    if split.parameters.get("val_fraction", 0):
        expected.insert(1, "val")
    return [name for name in expected if name not in there]
