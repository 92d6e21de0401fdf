"""Common code of data sets: the list of samples, and the search for files in a folder.

Only names are examined.  No file is opened, so that listing twenty thousand pictures takes a
fraction of a second and a pipe or a broken link in the folder can't block it.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from agebench.datasets.packed import PackedSamples
from agebench.datasets.suffixes import is_picture, why_passed_over
from agebench.errors import DatasetError, UsageError
from agebench.protocols import Dataset, DatasetSpec
from agebench.types import Problem, Sample

ORIGIN = "origin"
"""Attribute of an altered copy: equal values mean copies of one original picture, which must stay
in one part of a split."""

# The folder that macOS adds to zip archives contains a stub with the name of each real picture.
_RESOURCE_FORKS = "__MACOSX"


@dataclass(frozen=True, slots=True)
class SampleList:
    """A data set that has been listed: implements `agebench.protocols.Dataset`.

    Attributes:
        spec: its description.
        samples: the usable samples, sorted by name; names are unique.  They are stored as
            `PackedSamples`.
        problems: everything that is not used, with the reason.

    Raises:
        ValueError: the samples are not sorted by name, or two have the same name.
    """

    spec: DatasetSpec
    samples: Sequence[Sample]
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        packed = _packed(self.samples)
        object.__setattr__(self, "samples", packed)
        for first, second in itertools.pairwise(packed.names()):
            if first >= second:
                raise ValueError(f"samples must be sorted by unique names: {first!r}, {second!r}")

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file below a root.

    Attributes:
        root: as given.
        name: relative to the root, with forward slashes.
    """

    root: Path
    name: str

    @property
    def path(self) -> Path:
        """The root joined with `name`; created on demand, as there may be millions."""
        return self.root / self.name

    @property
    def base_name(self) -> str:
        """The file's name without its folders."""
        return self.name.rpartition("/")[2]


def readable_name(name: str) -> str:
    """Return `name` as text that can be written as UTF-8; undecodable bytes become escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def require_folder(root: Path, dataset: str, expected: str) -> None:
    """Check that `root` is a folder.

    Args:
        root: from the caller.
        dataset: the data set's name, for the message.
        expected: the expected content of the folder, in words.

    Raises:
        DatasetError: `root` is missing, can't be reached, or is not a folder.
    """
    wanted = f"data set {dataset!r} needs the folder that holds {expected}"
    try:
        found = os.path.lexists(root)
        if root.is_dir():
            return
    except (OSError, ValueError) as error:
        raise DatasetError(f"{wanted}, but {str(root)!r} can't be reached: {error}") from error
    if found:
        raise DatasetError(f"{wanted}, but {str(root)!r} is not a folder: give its folder")
    raise DatasetError(f"{wanted}, but there is nothing at {str(root)!r}: check the path")


def _packed(samples: Iterable[Sample]) -> PackedSamples:
    return samples if isinstance(samples, PackedSamples) else PackedSamples(samples)


def finished(
    spec: DatasetSpec, root: Path, samples: Iterable[Sample], problems: Iterable[Problem]
) -> SampleList:
    """Return a sorted `SampleList`; problems are sorted by name too.

    Raises:
        DatasetError: there is no sample at all; the message gives the first problem.
    """
    found = _packed(samples)
    names = list(found.names())
    order = sorted(range(len(names)), key=names.__getitem__)
    if order == list(range(len(names))):
        ordered = found
    else:
        ordered = PackedSamples(found[place] for place in order)
    ordered.forget_places()
    left_out = tuple(sorted(problems, key=lambda problem: problem.name))
    if not ordered:
        why = "nothing there is named like a picture of this set"
        if left_out:
            first = left_out[0]
            count = "1 entry was" if len(left_out) == 1 else f"{len(left_out):,} entries were"
            why = f"{count} left out, the first is {first.name!r}: {first.reason}"
        raise DatasetError(f"data set {spec.name!r} has no usable picture in {str(root)!r}: {why}")
    return SampleList(spec, ordered, left_out)


def list_files(
    root: Path, wanted: Callable[[str], bool] = is_picture
) -> tuple[list[FoundFile], list[Problem]]:
    """Find the regular files below `root` whose file name is `wanted`, at any depth.

    Files are never opened.  A link counts as a file if its target is a regular file under `root`;
    links to anything else are listed as problems, as are pipes, sockets, devices, hidden entries,
    names that are not valid Unicode, and folders that can't be read.  Pictures and videos that are
    not `wanted` are problems too; other files are ignored
    in silence.

    Returns:
        The files in no particular order, and the problems with names relative to `root`.

    Raises:
        DatasetError: `root` itself can't be listed.
    """
    search = _Search(root, wanted)
    search.run()
    return search.files, search.problems


class _Search:
    """A walk through a folder, with an explicit stack, so that depth is not limited."""

    def __init__(self, root: Path, wanted: Callable[[str], bool]) -> None:
        self.root = root
        self.wanted = wanted
        self.files: list[FoundFile] = []
        self.problems: list[Problem] = []
        self._real_root = os.path.realpath(root)
        self._pending = [""]

    def run(self) -> None:
        while self._pending:
            prefix = self._pending.pop()
            try:
                with os.scandir(self.root / prefix) as entries:
                    for entry in entries:
                        self._visit(entry, prefix + entry.name)
            except OSError as error:
                if not prefix:
                    raise DatasetError(
                        f"the folder {str(self.root)!r} can't be listed: {error.strerror}"
                    ) from error
                self._leave_out(prefix.rstrip("/"), f"folder can't be listed: {error.strerror}")

    def _visit(self, entry: os.DirEntry[str], name: str) -> None:
        reason = ""
        if entry.is_dir(follow_symlinks=False):
            reason = _why_not_search(entry.name)
            if not reason:
                self._pending.append(name + "/")
        elif entry.is_symlink():
            reason = self._follow(entry, name)
        elif not entry.is_file(follow_symlinks=False):
            reason = "not a regular file (a pipe, socket or device): not opened"
        elif self.wanted(entry.name):
            reason = self._take(entry.name, name)
        elif not entry.name.startswith("."):
            reason = why_passed_over(entry.name)
        if reason:
            self._leave_out(name, reason)

    def _take(self, file_name: str, name: str) -> str:
        """Add a file if it is wanted; return why not, or ""."""
        if file_name.startswith("."):
            return "hidden file, such as macOS leaves beside each picture: not used"
        reason = _why_not_encodable(file_name)
        if not reason:
            self.files.append(FoundFile(self.root, name))
        return reason

    def _follow(self, entry: os.DirEntry[str], name: str) -> str:
        """Add a link to a picture under the root; return why not, or ""."""
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            return f"broken or unreachable link: {error.strerror}"
        if stat.S_ISDIR(mode):
            return "link to a folder: not followed; put the folder itself here"
        if not stat.S_ISREG(mode):
            return "link to something that is not a regular file: not opened"
        if not self.wanted(entry.name):
            return "" if entry.name.startswith(".") else why_passed_over(entry.name)
        if not Path(os.path.realpath(entry.path)).is_relative_to(self._real_root):
            return "link out of the data set's folder: not followed; put the file itself here"
        return self._take(entry.name, name)

    def _leave_out(self, name: str, reason: str) -> None:
        self.problems.append(Problem(readable_name(name), reason))


def _why_not_search(folder_name: str) -> str:
    if folder_name.startswith(".") or folder_name == _RESOURCE_FORKS:
        return "hidden folder: not searched"
    return _why_not_encodable(folder_name)


def _why_not_encodable(name: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "name is not valid Unicode, so no result file could hold it: rename it"
    return ""


def _require_count(n: int) -> None:
    if n < 1:
        raise UsageError(f"the number of pictures must be 1 or more, got {n}")


def limit(dataset: Dataset, n: int) -> SampleList:
    """Return the first `n` samples by name, or all if there are fewer.

    Only for a quick test: names often start with the age, so the first are not representative.

    Raises:
        UsageError: `n` is below 1.
    """
    _require_count(n)
    samples = PackedSamples(islice(dataset.samples, n))
    return SampleList(dataset.spec, samples, tuple(dataset.problems))


def sample(dataset: Dataset, n: int, seed: int) -> SampleList:
    """Return `n` samples drawn at random without replacement, or all if there are fewer.

    The same names, `n` and `seed` give the same samples on every platform; a smaller `n` gives a
    subset of those of a larger one.  Samples stay in the order of their names.

    Raises:
        UsageError: `n` is below 1 or `seed` below 0.
    """
    _require_count(n)
    if seed < 0:
        raise UsageError(f"the seed must be 0 or more, got {seed}")
    # One uniform number per sample, and the n smallest win.  Unlike the algorithms of permutation()
    # and choice(), which numpy may change, a stream of doubles is practically fixed.
    keys = np.random.default_rng(seed).random(len(dataset.samples))
    chosen = np.sort(np.argsort(keys, kind="stable")[:n])
    samples = PackedSamples(dataset.samples[int(index)] for index in chosen)
    return SampleList(dataset.spec, samples, tuple(dataset.problems))
