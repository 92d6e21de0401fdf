"""One folder per age or range of ages: ``007/``, ``20-29/``, ``(25, 32)/``, ``60+/``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from agebench.datasets.base import SampleList, finished, list_files, require_folder
from agebench.datasets.imdb_wiki import age_in_name
from agebench.datasets.names import AgeLabel, parse_age_label
from agebench.datasets.packed import PackedSamples
from agebench.errors import DatasetError
from agebench.protocols import DatasetSpec
from agebench.types import LabelKind, Problem, Sample

SPEC = DatasetSpec(name="folders", label_kind="unknown")


def load(root: Path, label_kind: LabelKind = "unknown") -> SampleList:
    """List pictures whose age is the name of their topmost folder below `root`.

    Folders may be nested below that; their names are ignored.  A range such as ``20-29`` gives
    samples with `age_range` and no `age_years` (see `names.parse_age_label`).

    Args:
        root: the folder of age folders.
        label_kind: how the ages were determined; only the user knows.

    Raises:
        DatasetError: `root` is not a folder, contains no usable picture, or is IMDB-WIKI, whose
            folders number its pictures.
    """
    spec = replace(SPEC, label_kind=label_kind)
    return list_by_folder(spec, root, "one folder per age (007) or range of ages (20-29)")


def _refuse_imdb_wiki(root: Path, listed: SampleList) -> None:
    """Refuse folders that only number pictures whose names give another age.

    Raises:
        DatasetError: of the pictures named as in IMDB-WIKI, most contradict their folder.
    """
    named, against = 0, 0
    first: tuple[Sample, int] | None = None
    for item in listed.samples:
        age = age_in_name(item.name)
        named += age is not None
        if age is not None and not _may_be(item, age):
            against += 1
            first = first or (item, age)
    if first is not None and 2 * against > named:
        item, age = first
        raise DatasetError(
            f"the folders in {str(root)!r} are not ages: {against} of {named} pictures "
            f"named with dates of birth contradict them, the first is {item.name!r}, of {age} "
            "years; this is the layout of IMDB-WIKI: give --dataset imdb-wiki"
        )


def _may_be(sample: Sample, age_years: int) -> bool:
    """Return whether a label can be the age in the name, within a year."""
    exact = sample.age_years
    low, high = sample.age_range or (exact or 0.0, exact or 0.0)
    return low - 1 <= age_years <= high + 1


def list_by_folder(
    spec: DatasetSpec,
    root: Path,
    holds: str,
    *,
    nearest: bool = False,
    parse: Callable[[str], AgeLabel | Problem] = parse_age_label,
    attributes: Callable[[str], Mapping[str, str]] = lambda _name: {},
) -> SampleList:
    """List pictures whose age is the name of a folder that contains them.

    Args:
        spec: of the data set.
        root: its folder.
        holds: expected content of `root`, in words.
        nearest: the label is the parent folder of the picture, at any depth; otherwise the topmost
            one below `root`.
        parse: from the folder's own name to the label.
        attributes: from a picture's name, relative to `root`, to its attributes.

    Raises:
        DatasetError: `root` is not a folder, contains no usable picture, or is IMDB-WIKI, whose
            folders number its pictures.
    """
    require_folder(root, spec.name, holds)
    files, problems = list_files(root)
    labels: dict[str, AgeLabel | Problem] = {}
    unlabelled: Counter[str] = Counter()
    samples = PackedSamples()
    for file in files:
        folder = file.name.rpartition("/")[0] if nearest else file.name.partition("/")[0]
        if "/" not in file.name:
            problems.append(Problem(file.name, "lies in no age folder: its age is not known"))
            continue
        label = labels.setdefault(folder, parse(folder.rpartition("/")[2]))
        if isinstance(label, Problem):
            unlabelled[folder] += 1
            continue
        sample = Sample(file.path, file.name, label.age_years, label.age_range)
        samples.append(replace(sample, attributes=attributes(file.name)))
    problems += [
        Problem(folder, f"{count} pictures left out: {label.reason}")
        for folder, count in unlabelled.items()
        if isinstance(label := labels[folder], Problem)
    ]
    listed = finished(spec, root, samples, problems)
    _refuse_imdb_wiki(root, listed)
    return listed
