"""Common code of data sets with labels in a list: finds pictures, and repeated rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agebench.datasets.base import FoundFile
from agebench.datasets.names import shown
from agebench.datasets.packed import PackedSamples
from agebench.types import Problem, Sample


@dataclass(frozen=True, slots=True)
class Listed:
    """A sample and the place of its label.

    Attributes:
        place: line number, preceded by the list's name if there are several lists: "7",
            "val.csv:7".
        sample: from the line.
    """

    place: str
    sample: Sample


def without_repeats(rows: Iterable[Listed]) -> tuple[PackedSamples, list[Problem]]:
    """Keep the first row of each picture, and none if its rows have different ages."""
    first: dict[str, int] = {}
    places: list[str] = []
    firsts = PackedSamples()
    conflicts: dict[str, Problem] = {}
    problems: list[Problem] = []
    for row in rows:
        name = row.sample.name
        number = first.setdefault(name, len(firsts))
        if number == len(firsts):
            firsts.append(row.sample)
            places.append(row.place)
        elif _label(row.sample) == _label(firsts[number]):
            problems.append(Problem(name, f"line {row.place}: repeats line {places[number]}"))
        else:
            lines = f"lines {places[number]} and {row.place}"
            reason = f"{lines} give different ages: neither is used"
            conflicts.setdefault(name, Problem(name, reason))
    kept = (sample for sample in firsts if sample.name not in conflicts)
    return PackedSamples(kept) if conflicts else firsts, problems + list(conflicts.values())


def _label(sample: Sample) -> tuple[float | None, tuple[int, int] | None]:
    return sample.age_years, sample.age_range


def by_ending(files: Iterable[FoundFile], parts: int) -> dict[str, list[FoundFile]]:
    """Group files by the last `parts` components of their names.

    Lists of published sets contain folders of the authors' machines; only the end of such a path is
    meaningful.  It is used as a key and never opened, so that a list can't refer to files outside
    of the data set's folder.
    """
    found: dict[str, list[FoundFile]] = {}
    for file in files:
        found.setdefault(path_ending(file.name, parts), []).append(file)
    return found


def path_ending(written: str, parts: int) -> str:
    r"""Return the last `parts` components of a path with slashes or backslashes.

    >>> path_ending("/content/content/combined_faces/8_163.jpg", 1)
    '8_163.jpg'
    >>> path_ending(r"data\train\1.jpg", 2)
    'train/1.jpg'
    """
    return "/".join(written.replace("\\", "/").split("/")[-parts:])


def the_only(found: Mapping[str, Sequence[FoundFile]], ending: str) -> FoundFile | str:
    """Return the file with that ending, or the reason why there is not exactly one."""
    files = found.get(ending, ())
    if len(files) == 1:
        return files[0]
    if not files:
        return f"no picture {shown(ending)} in the folder"
    names = sorted(file.name for file in files)
    return f"{len(files)} pictures end in {shown(ending)}, such as {shown(names[0])}: keep one"
