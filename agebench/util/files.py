"""Files that appear whole or not at all, their folders, and lines of CSV that stay as they were."""

from __future__ import annotations

import csv
import io
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from agebench.errors import AgebenchError, UsageError
from agebench.references import user_path
from agebench.util.regular_files import read_regular

_SHA256 = re.compile(r"[0-9a-f]{64}")
MOST_OF_NAME = 180
"""Bytes of a file's name that its temporary name holds; most systems end names at 255."""


@contextmanager
def gone_if_empty(folder: str | Path | None) -> Iterator[None]:
    """Remove an output folder that was made inside, where what went on there fails with nothing.

    Args:
        folder: the folder; one that is there before stays whatever happens.  None: does nothing.
    """
    there = folder is None or Path(folder).exists()
    try:
        yield
    except BaseException:
        if folder is not None and not there:
            with suppress(OSError):  # it holds something, or was never made
                Path(folder).rmdir()
        raise


def make_folder(folder: Path, called: str, advice: str = "") -> None:
    """Make a folder, and those that it lies in, where they are not there.

    Args:
        folder: the folder.
        called: what it is called in errors.
        advice: what to do where it can't be made.

    Raises:
        AgebenchError: it can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise AgebenchError(
            f"{called} can't be made: {reason}" + (f": {advice}" if advice else "")
        ) from error


def refuse_nested(out: Path, root: Path) -> None:
    """Refuse an output folder inside a data set's, which would list it the next time.

    Raises:
        UsageError: `out` is the folder `root` or lies in it.
    """
    if root.is_dir() and out.resolve().is_relative_to(root.resolve()):
        raise UsageError(
            f"--out {out} lies inside the data set's folder {root} and would become part of it: "
            "give a folder outside"
        )


def refuse_input(out: Path, inputs: Iterable[str | Path | None]) -> None:
    """Refuse to write over a file that is read: a data set's list or one of its pictures.

    Args:
        out: the file to be written; a link is safe, since the new file takes its place alone.
        inputs: files that are read, and folders of such; None and what is not there are passed
            over.

    Raises:
        UsageError: `out` is one of the files, or lies in one of the folders.
    """
    if not out.exists() or out.is_symlink():
        return
    for path in [user_path(item) for item in inputs if item]:
        if path.exists() and path.samefile(out.parent if path.is_dir() else out):
            raise UsageError(f"--out {out} is an input and would be overwritten: name another file")


def new_beside(path: Path, suffix: str = "") -> tuple[int, Path]:
    """Make an empty file with a hidden name of its own in the folder of `path`.

    It has the permissions that a new file of the user has (by the umask, unlike what `tempfile`
    makes), but no more than the file at `path` has, if there is one.

    Args:
        path: the file that it will become.
        suffix: what its name ends in.

    Returns:
        A descriptor that is open for reading and writing, and where the file is.

    Raises:
        OSError: it can't be made.
    """
    # The whole name may be as long as a name can be; bytes count, not letters.
    start = os.fsencode(path.name)[:MOST_OF_NAME].decode(errors="ignore")
    new = path.with_name(f".{start}.{secrets.token_hex(6)}{suffix}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(new, flags, 0o666)
    with suppress(OSError):
        allowed = path.stat().st_mode & new.stat().st_mode
        new.chmod(stat.S_IMODE(allowed))
    return descriptor, new


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name beside `path`, and only then give it its name.

    Args:
        path: the file; its folder must be there.  What it held before is replaced.
        content: text, written as UTF-8 with its line ends as they are, or bytes.

    Raises:
        AgebenchError: the folder can't be written to, or the disk is full.
    """
    write_together([(path, content)])


def write_together(files: Sequence[tuple[Path, str | bytes | Iterable[bytes]]]) -> None:
    """Write files that belong together: all are on the disk before the first one gets its name.

    A run that is killed between two names leaves a new file beside an old one: whoever reads them
    has to find that out, by a hash of the last in the first.

    Args:
        files: path and content of each, as `write_whole` takes them or in pieces, in the order in
            which they get their names; pieces are asked for as they are written, file after file.

    Raises:
        AgebenchError: one can't be written; what was there is as it was.
    """
    written: list[tuple[Path, Path]] = []
    try:
        for path, content in files:
            try:
                handle, temporary = new_beside(path)
                written.append((temporary, path))
                with os.fdopen(handle, "wb") as file:
                    file.writelines(_pieces(content))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise AgebenchError(f"{path} can't be written: {error.strerror}") from error
        for temporary, path in written:
            try:
                temporary.replace(path)
            except OSError as error:
                raise AgebenchError(f"{path} can't be written: {error.strerror}") from error
    finally:
        for temporary, _ in written:
            temporary.unlink(missing_ok=True)


def _pieces(content: str | bytes | Iterable[bytes]) -> Iterable[bytes]:
    if isinstance(content, str):
        return (content.encode("utf-8"),)
    return (content,) if isinstance(content, bytes) else content


def append_whole(file: IO[bytes], data: bytes) -> None:
    """Add to the end of a file all of `data`, or nothing where the disk has no room for it.

    Args:
        file: opened for appending ("ab", "a+b"), with nothing left to be written in its buffer.
        data: such as a line.

    Raises:
        OSError: it can't be written; the file is as it was.
    """
    # Not by the file's own buffer: that would keep what the disk refused, and closing the file
    # would try it again and fail once more.
    descriptor = file.fileno()
    end = os.fstat(descriptor).st_size
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BaseException:
        with suppress(OSError):
            os.ftruncate(descriptor, end)
        raise


def is_sha256(text: str) -> bool:
    """Tell whether a text can be a sha256: 64 hex digits in lower case.

    >>> is_sha256("0" * 64), is_sha256("0" * 63), is_sha256("A" * 64)
    (True, False, False)
    """
    return _SHA256.fullmatch(text) is not None


def read_whole(path: Path, what: str, limit_bytes: int) -> bytes:
    """Return all bytes of a file that should be small.

    Args:
        path: the file.
        what: what it should be, for errors: "a table of years".
        limit_bytes: a larger file is refused unread.

    Raises:
        AgebenchError: there is no such file, it is larger, or it can't be read.
    """
    try:
        if not path.is_file():
            raise AgebenchError(f"there is no file {str(path)!r}, expected {what}: check the path")
        if path.stat().st_size > limit_bytes:
            raise AgebenchError(
                f"{str(path)!r} has more than {limit_bytes:,} bytes, too many for {what}"
            )
        return read_regular(path)
    except (OSError, ValueError) as error:
        raise AgebenchError(f"{str(path)!r} can't be read: {error}") from error


def check_target(path: Path) -> None:
    """Check before a long run that `write_whole` will have a folder to write `path` into.

    Raises:
        AgebenchError: that folder is missing, or there is a folder at `path` itself.
    """
    if path.is_dir():
        raise AgebenchError(f"{path} is a folder: name a file to write")
    if not path.parent.is_dir():
        raise AgebenchError(
            f"{path} can't be written: the folder {path.parent} does not exist: create it"
        )


def csv_line(cells: Iterable[object]) -> str:
    r"""Return one line of CSV that ends in a line feed.

    A cell that holds a carriage return is quoted, since it would end its row when it is read:
    file names may hold one.  `csv.writer` quotes what is in its own line end only.

    >>> csv_line(["a", "b\rc", None, 1.5])
    'a,"b\rc",,1.5\n'
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"
