"""Input of predict: pictures and videos named by paths, folders, patterns or a pipe."""

from __future__ import annotations

import glob
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agebench.datasets.base import list_files, readable_name
from agebench.datasets.suffixes import is_picture, is_video
from agebench.errors import AgebenchError, DatasetError, UsageError
from agebench.references import user_path
from agebench.types import Problem

STDIN = "-"

_DEEP = re.compile(r"(?<![^/])\*\*(?:/+|$)")

LEFT_OUT = "a video, left out: --out, --processes and --explain are for pictures"


@dataclass(frozen=True, slots=True)
class Sources:
    """The pictures and videos.

    Attributes:
        names: paths of pictures and videos, sorted within each folder and pattern, without
            duplicates. `STDIN` is the picture on standard input.
        problems: entries left out, with the reason.
        roots: the folders that were searched.
        single: exactly one picture or video was named, and not by a pattern.
    """

    names: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    roots: tuple[Path, ...] = ()
    single: bool = False


def find_sources(arguments: Iterable[str], *, moving: bool = True) -> Sources:
    """List the files that the arguments name; no file is opened.

    Args:
        arguments: files, folders, patterns and `STDIN`.
        moving: include the videos of folders; otherwise they are among the problems.

    Raises:
        UsageError: an argument is empty.
        AgebenchError: a name does not exist, or a folder contains no picture or video.
    """
    listed = list(arguments)
    names: dict[str, None] = {}
    problems: list[Problem] = []
    roots: list[Path] = []
    for argument in listed:
        if not argument:
            raise UsageError(
                "expected a picture, folder, pattern or video, got an empty name: is a variable "
                "unset?"
            )
        path = user_path(argument)
        if argument == STDIN:
            names[STDIN] = None
        elif _is_folder(path):
            roots.append(path)
            found, left_out = _in_folder(path, moving=moving)
            names.update(dict.fromkeys(found))
            problems += left_out
        elif os.path.lexists(path):
            names[_file_name(str(path))] = None
        else:
            names.update(dict.fromkeys(_matching(argument, path)))
    one = len(listed) == 1 and not roots and os.path.lexists(user_path(listed[0]))
    single = one or listed == [STDIN]
    return Sources(tuple(names), tuple(problems), tuple(roots), single)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError) as error:
        raise AgebenchError(f"{str(path)!r} can't be accessed: {error}") from error


def _in_folder(folder: Path, *, moving: bool) -> tuple[list[str], list[Problem]]:
    try:
        files, problems = list_files(folder, lambda name: is_picture(name) or is_video(name))
    except DatasetError as error:
        raise AgebenchError(str(error)) from error
    prefix = os.path.join(str(folder), "")  # noqa: PTH118 - a Path drops "./" and is slow
    named = [Problem(prefix + item.name, item.reason) for item in problems]
    found = sorted(prefix + file.name for file in files)
    if not found and not named:
        raise AgebenchError(f"the folder {str(folder)!r} contains no picture or video")
    if not moving:
        named += [Problem(name, LEFT_OUT) for name in found if is_video(name)]
        found = [name for name in found if not is_video(name)]
    return found, sorted(named, key=lambda item: item.name)


def _matching(argument: str, path: Path) -> list[str]:
    if not glob.has_magic(argument):
        raise AgebenchError(f"there is no picture, folder or video at {argument!r}: check the path")
    found = {name for name in _named(str(path)) if not os.path.isdir(name)}  # noqa: PTH112 - of many
    if not found:
        raise AgebenchError(f"no file matches the pattern {argument!r}")
    return sorted(_file_name(readable_name(name)) for name in found)


def _named(pattern: str) -> Iterator[str]:
    """Yield the matches of a pattern, as in the shell; ``**`` enters no folder twice.

    With two links from a folder to itself there would be endless paths to each file.
    """
    deep = _DEEP.search(pattern)
    if deep is None:
        yield from glob.iglob(pattern)  # noqa: PTH207 - names as they are written
        return
    head, rest = pattern[: deep.start()], pattern[deep.end() :]
    starts = glob.iglob(head) if glob.has_magic(head) else [head]  # noqa: PTH207
    for start in starts:
        for folder in _folders_below(start):
            yield from _named(os.path.join(glob.escape(folder), rest or "*"))  # noqa: PTH118


def _folders_below(start: str) -> Iterator[str]:
    """Yield a folder and its subfolders except hidden ones, each once; links come last."""
    seen: set[tuple[int, int]] = set()
    waiting, linked = deque([start]), deque[str]()
    while waiting or linked:
        folder = (waiting or linked).popleft()
        try:
            status = os.stat(folder or ".")  # noqa: PTH116 - text, of many
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder or ".") as entries:
                inner = [entry for entry in entries if not entry.name.startswith(".")]
            folders = [entry for entry in inner if entry.is_dir()]
        except OSError:
            continue
        yield folder
        for entry in folders:
            (linked if entry.is_symlink() else waiting).append(os.path.join(folder, entry.name))  # noqa: PTH118


def _file_name(name: str) -> str:
    """Return what a file is called: one of the name that stands for standard input otherwise."""
    return os.path.join(".", name) if name == STDIN else name  # noqa: PTH118 - a Path drops "./"
