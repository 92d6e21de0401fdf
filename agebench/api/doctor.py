"""`agebench.examine_dataset`: finds faults of a data set before measuring on it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agebench.datasets.base import list_files
from agebench.datasets.prepared_layout import SETTINGS_FILE
from agebench.doctor.diagnosis import Diagnosis, SharedPicture, examine, shared_pictures
from agebench.doctor.pictures import SheetTile, age_chart, contact_sheets, png_bytes
from agebench.errors import DatasetError, UsageError, suggestion
from agebench.harness.results import prepare_folder
from agebench.harness.settings import MOST_DECODE_THREADS
from agebench.protocols import Dataset, ProgressStep
from agebench.references import user_path
from agebench.registry.plugins import DATASETS, list_plugins, load_dataset
from agebench.types import Sample, plain
from agebench.util.checks import require_whole
from agebench.util.files import refuse_nested, write_whole
from agebench.util.progress import shown_progress

MAX_DRAWN = 96
"""Largest number of groups on contact sheets, the worst first."""

_GUESSED = ("utkface", "fgnet", "folders")
_KIND = re.compile(r"[a-z][a-z0-9-]+")
_SHEET = re.compile(r"(different_ages|in_both)_\d+\.png")
_LINE_LETTERS = 24


@dataclass(frozen=True, slots=True)
class Examination:
    """The findings of `examine_dataset`.

    Attributes:
        diagnosis: of the data set: `broken` files, `identical` and `near` copies, those of them
            that are `conflicting` about the age, `suspicious` ages, and counts.
        other: of the set that it was compared with; None without one.
        shared: pictures that are in both sets, the largest difference of age first.
        files: written files, doctor.json first; empty if none were written.
    """

    diagnosis: Diagnosis
    other: Diagnosis | None = None
    shared: tuple[SharedPicture, ...] = ()
    files: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON-compatible values; "against" is null without a second set."""
        content = self.diagnosis.to_json()
        content["against"] = None
        if self.other is not None:
            pictures = [
                {**plain(item), "age_gap_years": item.age_gap_years} for item in self.shared
            ]
            content["against"] = {**self.other.to_json(), "shared": pictures}
        return content


def examine_dataset(
    dataset: str | Dataset | None = None,
    root: str | Path | None = None,
    *,
    against: str | Path | Dataset | None = None,
    near: bool = True,
    out: str | Path | None = None,
    decode_threads: int | None = None,
    progress: ProgressStep | None = None,
) -> Examination:
    """Look for broken files, copies, contradicting ages, and leaks between two data sets.

    Nothing in the data set is changed, and a broken file is a finding, not an error.

    Args:
        dataset: name of a data set with its options, or an object; None guesses the kind of what
            lies in `root`.
        root: folder or file of a data set given by name.
        against: another set, as "ROOT", "NAME:ROOT" or an object, to find pictures in both.
        near: look for near-identical copies too, which takes longest.
        out: folder for doctor.json, a chart of the ages and contact sheets of the worst findings,
            which show the set's faces; None writes nothing.
        decode_threads: number of threads that decode pictures, from 1 to `MOST_DECODE_THREADS`; if
            not given, 2, or 1 if the files are small, which is faster.
        progress: called with (stage, done, total).  None draws bars in a notebook and on a
            terminal; `agebench.no_progress` draws none.

    Raises:
        UsageError: the call is wrong.
        DatasetError: there is no usable picture.
        AgebenchError: `out` can't be written.

    >>> from agebench import examine_dataset
    >>> found = examine_dataset("sample", near=False)
    >>> found.diagnosis.pictures, found.diagnosis.broken, found.diagnosis.identical
    (71, (), ())
    """
    require_whole("decode_threads", decode_threads, 1, MOST_DECODE_THREADS)
    place = None if root is None else user_path(root)
    folder = None if out is None else user_path(out)
    for other_place in (place, _place_of(against)):
        if folder is not None and other_place is not None:
            refuse_nested(folder, other_place)
    here = _opened(dataset, place)
    there = None if against is None else _other(against, place)
    if folder is not None:
        prepare_folder(folder)
    with shown_progress(progress) as step:
        found = _examined(here, place, there, near=near, decode_threads=decode_threads, step=step)
    if folder is None:
        return found
    names = _write(folder, found, here, None if there is None else there[0])
    return replace(found, files=tuple(folder / name for name in names))


def _examined(
    here: Dataset,
    root: Path | None,
    there: tuple[Dataset, Path | None] | None,
    *,
    near: bool,
    decode_threads: int | None,
    step: ProgressStep,
) -> Examination:
    diagnosis, prints = examine(
        here, _shown(root), near=near, threads=decode_threads, progress=step
    )
    if there is None:
        return Examination(diagnosis)
    other_set, other_root = there
    other, other_prints = examine(
        other_set,
        _shown(other_root),
        near=near,
        threads=decode_threads,
        progress=_with_stage_suffix(step, "other set"),
    )
    shared = shared_pictures(
        (here.samples, prints),
        (other_set.samples, other_prints),
        near=near,
        threads=decode_threads,
        progress=_with_stage_suffix(step, "both sets"),
    )
    return Examination(diagnosis, other, shared)


def _shown(root: Path | None) -> str:
    return "" if root is None else str(root)


def _with_stage_suffix(step: ProgressStep, which: str) -> ProgressStep:
    return lambda stage, done, total: step(f"{stage}, {which}", done, total)


def _opened(dataset: str | Dataset | None, root: Path | None) -> Dataset:
    if dataset is not None and not isinstance(dataset, str):
        return dataset
    if root is not None:
        return open_dataset(dataset, root)
    if dataset is None:
        raise UsageError("name a data set, or give its folder or table")
    return load_dataset(dataset)


def open_dataset(name: str | None, root: Path) -> Dataset:
    """List a data set, guessing its kind if no name is given.

    A file is taken as a table ("csv"); for a folder, the kind with the most pictures is used.

    Raises:
        AgebenchError: there is no usable picture.
    """
    if name is not None:
        return load_dataset(name, root)
    if root.is_file():
        return load_dataset("csv", root)
    if (root / SETTINGS_FILE).is_file():
        return load_dataset("prepared", root)
    if not root.exists():
        raise DatasetError(f"there is no file or folder {str(root)!r}: check the path")
    found: list[Dataset] = []
    for kind in _GUESSED:
        with suppress(DatasetError):
            found.append(load_dataset(kind, root))
    if not found:
        raise DatasetError(_why_no_kind(root))
    return max(found, key=lambda dataset: len(dataset.samples))


def _why_no_kind(root: Path) -> str:
    files, problems = list_files(root)
    if not files:
        first = "".join(f"; {item.name!r}: {item.reason}" for item in problems[:1])
        return f"{str(root)!r} holds no picture that can be used: check the path{first}"
    return (
        f"no picture in {str(root)!r} has its age in the name of its file or folder, as in the "
        f"kinds that are tried ({', '.join(_GUESSED)}): give dataset (--dataset), such as 'names "
        "pattern={}_{age}', or instead of the folder a CSV file with the columns path,age, where "
        "0+ stands for an unknown age"
    )


def split_against(text: str) -> tuple[str | None, Path]:
    """Split "NAME:ROOT" or "ROOT"; the colon of an existing path, or of a drive, does not separate.

    Raises:
        UsageError: NAME looks like a data set's name but is not one.

    >>> split_against("utkface:/data/utk")[0], split_against("C:/data")[0]
    ('utkface', None)
    """
    name, colon, rest = text.partition(":")
    if not (rest if colon else name):
        raise UsageError(
            f"the data set to compare with, {text!r}, has no path: is a variable unset?"
        )
    known = [plugin.name for plugin in list_plugins(DATASETS)]
    if not colon or (name not in known and (Path(text).exists() or not _KIND.fullmatch(name))):
        return None, user_path(text)
    if name not in known:
        raise UsageError(f"unknown data set {name!r} in {text!r}: {suggestion(name, known)}")
    return name, user_path(rest)


def _place_of(against: str | Path | Dataset | None) -> Path | None:
    return split_against(str(against))[1] if isinstance(against, (str, Path)) else None


def _other(against: str | Path | Dataset, root: Path | None) -> tuple[Dataset, Path | None]:
    if not isinstance(against, (str, Path)):
        return against, None
    kind, place = split_against(str(against))
    if root is not None and place.resolve() == root.resolve():
        raise UsageError(
            f"the data set to compare with, {against}, is the data set itself: name another one"
        )
    return open_dataset(kind, place), place


def _write(folder: Path, found: Examination, here: Dataset, there: Dataset | None) -> list[str]:
    """Write doctor.json, ages.png and the contact sheets; return the files' names."""
    names = {sample.name: sample for sample in here.samples}
    others = {} if there is None else {sample.name: sample for sample in there.samples}
    diagnosis = found.diagnosis
    conflicting = [
        [_tile(names[name]) for name in group.members]
        for group in diagnosis.conflicting[:MAX_DRAWN]
    ]
    leaks = [_both(item, names, others) for item in found.shared[:MAX_DRAWN]]
    pictures = {"ages": age_chart(diagnosis.ages, f"{diagnosis.dataset}: pictures per year of age")}
    for stem, rows in (("different_ages", conflicting), ("in_both", leaks)):
        for number, sheet in enumerate(contact_sheets(rows), start=1):
            pictures[f"{stem}_{number}"] = sheet
    text = json.dumps(found.to_json(), allow_nan=False, ensure_ascii=False, indent=1)
    _remove_old_sheets(folder, pictures)
    for stem, picture in pictures.items():
        write_whole(folder / f"{stem}.png", png_bytes(picture))
    write_whole(folder / "doctor.json", text + "\n")  # last: where it is, the pictures are too
    return ["doctor.json", *(f"{stem}.png" for stem in pictures)]


def _both(
    shared: SharedPicture, here: Mapping[str, Sample], there: Mapping[str, Sample]
) -> Sequence[SheetTile]:
    """Return the tiles of a picture in both sets: first one of each, then further copies."""
    pair = [here[shared.here[0]], there[shared.there[0]]]
    more = [here[name] for name in shared.here[1:]] + [there[name] for name in shared.there[1:]]
    return [_tile(sample) for sample in (*pair, *more)]


def _remove_old_sheets(folder: Path, kept: Iterable[str]) -> None:
    """Remove sheets of an earlier report that this one does not overwrite."""
    names = set(kept)
    for path in folder.iterdir():
        if _SHEET.fullmatch(path.name) and path.stem not in names:
            path.unlink(missing_ok=True)


def _tile(sample: Sample) -> SheetTile:
    age = "?" if sample.age_years is None else f"{sample.age_years:g}"
    if sample.age_years is None and sample.age_range is not None:
        age = "{}-{}".format(*sample.age_range)
    # The end of a long name, in two lines: that is where names differ.
    name = sample.name[-2 * _LINE_LETTERS :]
    return SheetTile(sample.path, (f"age {age}", name[:_LINE_LETTERS], name[_LINE_LETTERS:]))
