"""The pictures of a comparison as JSON lines on the disk, so that a million of them take no memory.

They are written in groups, each completely or not at all, so that an interrupted run is resumed
after the last group.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, overload

from agebench.errors import AgebenchError
from agebench.harness.contents_pictures import StoredPicture
from agebench.util.files import append_whole
from agebench.util.regular_files import is_regular

PART_FILE = "result.part.jsonl"
"""File in the output folder of a comparison that has not finished."""

_READ_BYTES = 1 << 20
_FORMAT = "agebench compare, unfinished"


class PictureStore(Sequence[StoredPicture]):
    """Entries of "pictures" in result.json, one per line; an empty line ends each group.

    Args:
        file: unbuffered, open for reading and writing, empty or as another store left it.
        path: of the file; None for a file without a name.
        identity: identifies the run, in the first line; see `open_part`.
    """

    def __init__(self, file: IO[bytes], path: Path | None, identity: str = "") -> None:
        self._file, self._path = file, path
        self._starts = array("q")
        self._groups = array("q", [0])  # number of pictures up to the end of each group
        self._end = 0
        weakref.finalize(self, file.close)
        head = f"{json.dumps({'format': _FORMAT, 'of': identity})}\n".encode()
        if not self._take_over(head):
            self._cut(0)
            self._append(head)

    def add(self, images: Sequence[StoredPicture]) -> None:
        """Append a group of pictures: all of them, or none if the disk is full.

        Raises:
            AgebenchError: they can't be written, or contain a number that is not finite.
        """
        try:
            lines = [json.dumps(image, ensure_ascii=False, allow_nan=False) for image in images]
        except ValueError as error:
            raise AgebenchError(f"a figure of a picture is not a finite number: {error}") from error
        # A name that is not valid Unicode is written as escapes, which JSON reads back.
        encoded = [f"{line}\n".encode("utf-8", "backslashreplace") for line in lines]
        start = self._end
        self._append(b"".join([*encoded, b"\n"]))
        for line in encoded:
            self._starts.append(start)
            start += len(line)
        self._groups.append(len(self._starts))

    def forget_from(self, picture: int) -> None:
        """Remove the group of this picture, and all later ones."""
        group = bisect_right(self._groups, picture) - 1
        kept = self._groups[group]
        if kept < len(self._starts):
            self._cut(self._starts[kept])
            del self._starts[kept:]
            del self._groups[group + 1 :]

    def texts(self) -> Iterator[str]:
        """Yield the JSON of every picture, in order."""
        if self._starts:
            for line in self._lines(self._starts[0]):
                if line != b"\n":
                    yield line[:-1].decode()

    def groups(self) -> Iterator[list[StoredPicture]]:
        """Yield the pictures of each group; a group that is not valid JSON is yielded empty."""
        texts = self.texts()
        for first, end in pairwise(tuple(self._groups)):
            try:  # a line that is not UTF-8 is a ValueError too, and ends `texts`
                group = [json.loads(line) for line in islice(texts, end - first)]
            except (ValueError, RecursionError):  # someone altered the file
                group = []
            yield group

    def remove(self) -> None:
        """Remove the file's name; its content can be read while this object exists."""
        if self._path is None:
            return
        if os.name == "nt":  # an open file can't be removed on Windows
            copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the store
            self._file.seek(0)
            shutil.copyfileobj(self._file, copy)
            self._file.close()
            self._file = copy
            weakref.finalize(self, copy.close)
        with suppress(OSError):
            self._path.unlink()
        self._path = None

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[StoredPicture]:
        return map(json.loads, self.texts())

    @overload
    def __getitem__(self, place: int) -> StoredPicture: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[StoredPicture]: ...
    def __getitem__(self, place: int | slice) -> StoredPicture | Sequence[StoredPicture]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        found: StoredPicture = json.loads(next(self._lines(self._starts[place])))
        return found

    def _append(self, data: bytes) -> None:
        try:
            self._file.seek(self._end)
            append_whole(self._file, data)
        except OSError as error:
            where = self._path or f"a file in {tempfile.gettempdir()}"
            raise AgebenchError(f"{where} can't be written: {error.strerror}") from error
        self._end += len(data)

    def _cut(self, end: int) -> None:
        self._file.truncate(end)
        self._end = end

    def _lines(self, at: int) -> Iterator[bytes]:
        """Yield the complete lines from a position on."""
        rest = b""
        while True:
            self._file.seek(at)
            block = self._file.read(_READ_BYTES)
            if not block:
                return
            at += len(block)
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield line + b"\n"

    def _take_over(self, head: bytes) -> bool:
        """Find the groups that an earlier run completed; False if that run was a different one."""
        lines = self._lines(0)
        if next(lines, b"") != head:
            return False
        at = self._end = len(head)
        for line in lines:
            if line != b"\n":
                self._starts.append(at)
            at += len(line)
            if line == b"\n":
                self._groups.append(len(self._starts))
                self._end = at
        del self._starts[self._groups[-1] :]
        self._cut(self._end)
        return True


def open_part(folder: Path | None, identity: str) -> PictureStore:
    """Open the pictures of an unfinished run in a folder, or start over.

    Args:
        folder: the output folder; None uses a file without a name.
        identity: identifies the run; the pictures of a different run are overwritten.

    Raises:
        AgebenchError: the file can't be created.
    """
    path = None if folder is None else folder / PART_FILE
    try:
        if path is None:
            # It takes space in the system's temporary folder, like any file there.
            return PictureStore(tempfile.TemporaryFile(buffering=0), None)
        return PictureStore(_open(path), path, identity)
    except OSError as error:
        where = path or tempfile.gettempdir()
        raise AgebenchError(f"{where} can't be written to: {error.strerror or error}") from error


def _open(path: Path) -> IO[bytes]:
    """Open a regular file, not a link, a pipe or a device, for reading and writing."""
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"):
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags, 0o666)
    if not is_regular(os.fstat(descriptor)):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "r+b", buffering=0)
