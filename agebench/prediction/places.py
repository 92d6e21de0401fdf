"""Where drawings go: worked out for all pictures and videos before anything is examined."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from agebench.datasets.suffixes import is_picture, is_video
from agebench.errors import AgebenchError, UsageError
from agebench.prediction.drawing import FORMATS
from agebench.prediction.sources import STDIN, Sources
from agebench.util.files import make_folder
from agebench.vision.video_writers import OPENCV_CODECS, SUFFIXES

LONGEST_NAME_BYTES = 240
"""Of a drawing: most systems end names at 255 bytes, and the "-2" of a second one needs room."""

Source: TypeAlias = str | int
"""What is drawn: the name of a picture or video, or a camera's number."""


class DrawPlaces:
    """Where each source is drawn to: one file, or below a folder as the sources lie in theirs.

    Two of the same name get two places, the second with "-2" before its suffix.

    Args:
        out: what `--draw` names.
        sources: what was found.
        camera: its number, where a camera is looked at instead.

    Raises:
        UsageError: a drawing would lie among the pictures or in the place of a source, or `out`
            has a suffix that can't be written, or is a file although several sources are drawn.
        AgebenchError: there is no folder for the file.
    """

    def __init__(self, out: Path, sources: Sources, camera: int | None = None) -> None:
        self._out = out
        self._prefixes = [os.path.join(str(root), "") for root in sources.roots]  # noqa: PTH118 - as names begin
        names: Sequence[Source] = sources.names if camera is None else [camera]
        if _is_alone(names, sources) and out.suffix and not out.is_dir():
            self._check_file(names[0])
            self._places: Mapping[Source, str] = {names[0]: str(out)}
        else:
            self._check_folder(names, sources.roots)
            self._places = self._below(names)
        self._refuse_sources(names)

    def of(self, name: Source) -> Path:
        """Return where a source is drawn to; no two share a place."""
        return Path(self._places[name])

    def _check_file(self, name: Source) -> None:
        known = SUFFIXES if _moves(name) else FORMATS
        if self._out.suffix.lower() not in known:
            raise UsageError(f"--draw {self._out}: expected one of {', '.join(known)}, or a folder")
        if not self._out.parent.is_dir():
            raise AgebenchError(f"there is no folder {self._out.parent} for --draw: create it")

    def _check_folder(self, names: Sequence[Source], roots: Sequence[Path]) -> None:
        named_as_file = is_picture(self._out.name) or is_video(self._out.name)
        if not self._out.is_dir() and (named_as_file or self._out.exists()):
            raise UsageError(
                f"--draw {self._out} is not a folder: several pictures or videos need a folder"
            )
        out = self._out.resolve()
        below = any(out.is_relative_to(root.resolve()) for root in roots)
        if below or self._lies_among(names):
            raise UsageError(
                f"--draw {self._out} lies among the pictures, which would be overwritten or mixed "
                "with the drawings: give another folder"
            )

    def _lies_among(self, names: Sequence[Source]) -> bool:
        folders = {os.path.dirname(name) or "." for name in _files(names) if not is_video(name)}  # noqa: PTH120 - text, of many
        here = [identity for identity, _ in _identities([str(self._out)])]
        # Not by names: resolving those of many folders takes long.
        return bool(here) and any(identity in here for identity, _ in _identities(folders))

    def _below(self, names: Sequence[Source]) -> dict[Source, str]:
        out = os.path.join(str(self._out), "")  # noqa: PTH118 - a Path for each would be slow
        places: dict[Source, str] = {}
        used: set[str] = set()
        numbers: dict[str, int] = {}  # so that many of one name are not counted from 2 each time
        for name in names:
            wanted = place = self._drawn_name(name)
            key = wanted.casefold()  # one file on systems that ignore the case
            while place.casefold() in used:
                numbers[key] = numbers.get(key, 1) + 1
                stem, suffix = os.path.splitext(wanted)  # noqa: PTH122 - text, no file
                place = f"{stem}-{numbers[key]}{suffix}"
            used.add(place.casefold())
            places[name] = out + place
        return places

    def _drawn_name(self, name: Source) -> str:
        """Return a name below the folder, with a suffix that can be written."""
        inner = self._inner(name)
        suffix = os.path.splitext(inner)[1].lower()  # noqa: PTH122 - text, no file
        if _moves(name):
            return _fitting(inner if suffix in OPENCV_CODECS else f"{inner}.mp4")
        return _fitting(inner if suffix in FORMATS else f"{inner}.png")

    def _inner(self, name: Source) -> str:
        if isinstance(name, int):
            return str(name)
        if name == STDIN:
            return "stdin"
        for prefix in self._prefixes:
            if name.startswith(prefix) and not _leads_out(inner := name[len(prefix) :]):
                return inner
        return os.path.basename(name)  # noqa: PTH119 - a Path for each would be slow

    def _refuse_sources(self, names: Sequence[Source]) -> None:
        """Refuse a place that is a source; files are the same by device and number, not by name."""
        if not os.path.lexists(self._out):
            return
        there = dict(_identities(self._places.values()))
        if not there:
            return
        for identity, name in _identities(_files(names)):
            if identity in there:
                raise UsageError(
                    f"--draw {self._out}: a drawing would overwrite the input {name!r}: name "
                    "another file or folder"
                )


def _fitting(inner: str) -> str:
    """Return a place whose last part a file system takes: too long a one is cut, with a hash."""
    folder, name = os.path.split(inner)
    raw = os.fsencode(name)
    if len(raw) <= LONGEST_NAME_BYTES:
        return inner
    stem, suffix = os.path.splitext(raw)  # noqa: PTH122 - text, no file
    digest = hashlib.sha256(raw).hexdigest()[:8]
    room = LONGEST_NAME_BYTES - len(suffix) - len(digest) - 1
    start = stem[:room].decode(errors="ignore")
    return os.path.join(folder, f"{start}-{digest}{os.fsdecode(suffix)}")  # noqa: PTH118 - as above


def _identities(paths: Iterable[str]) -> Iterator[tuple[tuple[int, int], str]]:
    """Yield device and number of those files and folders that are there."""
    for path in paths:
        try:
            found = os.stat(path)  # noqa: PTH116 - a Path for each would be slow
        except (OSError, ValueError):
            continue
        yield (found.st_dev, found.st_ino), path


def _is_alone(names: Sequence[Source], sources: Sources) -> bool:
    """Tell whether the one drawing may be a file: folders and patterns may hold more next time."""
    if len(names) != 1:
        return False
    return sources.single or (_moves(names[0]) and not sources.roots)


def _leads_out(inner: str) -> bool:
    """Tell whether a name may lie anywhere, and its drawing too, since it holds ".."."""
    return ".." in inner and ".." in Path(inner).parts


def _moves(name: Source) -> bool:
    return isinstance(name, int) or is_video(name)


def _files(names: Iterable[Source]) -> Iterator[str]:
    """Yield what is neither a camera nor standard input."""
    return (name for name in names if isinstance(name, str) and name != STDIN)


def make_folder_of(place: Path) -> None:
    """Make the folder that a drawing is written into.

    Raises:
        AgebenchError: it can't be created.
    """
    make_folder(place.parent, f"the folder {place.parent}", "name another --draw")
