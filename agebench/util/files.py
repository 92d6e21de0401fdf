"""Files that are written completely or not at all, their folders, and lines of CSV."""

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
"""Bytes of a file's name that its temporary name includes; most systems limit names to 255."""


@contextmanager
def gone_if_empty(folder: str | Path | None) -> Iterator[None]:
    """Remove an output folder that was created within the context if that fails and it is empty.

    Args:
        folder: the folder; one that existed before is kept.  None: does nothing.
    """
    there = folder is None or Path(folder).exists()
    try:
        yield
    except BaseException:
        if folder is not None and not there:
            with suppress(OSError):  # it is not empty, or was never created
                Path(folder).rmdir()
        raise


def make_folder(folder: Path, called: str, advice: str = "") -> None:
    """Create a folder and its parents if they don't exist.

    Args:
        folder: the folder.
        called: its name in errors.
        advice: what to do if it can't be created.

    Raises:
        UsageError: it is a file.
        AgebenchError: it can't be created for another reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        kind, reason = why_no_folder(error)
        raise kind(
            f"{called} can't be created: {reason}" + (f": {advice}" if advice else "")
        ) from error


def why_no_folder(error: OSError | ValueError) -> tuple[type[AgebenchError], str]:
    """Return the kind of error to raise where a folder can't be created, and the reason."""
    if isinstance(error, FileExistsError):
        return UsageError, "expected a folder, got a file"
    return AgebenchError, (error.strerror if isinstance(error, OSError) else None) or str(error)


def refuse_nested(out: Path, root: Path) -> None:
    """Refuse an output folder inside a data set's, which would become part of it.

    Raises:
        UsageError: `out` is the folder `root` or inside of it.
    """
    if root.is_dir() and out.resolve().is_relative_to(root.resolve()):
        raise UsageError(
            f"the output folder {out} lies inside the data set's folder {root} and would become "
            "part of it: give a folder outside"
        )


def refuse_input(out: Path, inputs: Iterable[str | Path | None], option: str = "--out") -> None:
    """Refuse to overwrite an input: a data set's list or one of its pictures.

    Args:
        out: the file to be written; a link is safe, since only the link is replaced.
        inputs: files that are read, and folders of such; None and missing ones are ignored.
        option: that names `out`, for the error.

    Raises:
        UsageError: `out` is one of the files, or inside one of the folders.
    """
    if not out.exists() or out.is_symlink():
        return
    for path in [user_path(item) for item in inputs if item]:
        if path.exists() and path.samefile(out.parent if path.is_dir() else out):
            raise UsageError(
                f"{option} {out} is an input and would be overwritten: name another file"
            )


def check_output(
    out: Path, suffix: str, inputs: Iterable[str | Path | None], option: str = "--out"
) -> None:
    """Check before anything is loaded that a file can be written, and that nothing else is lost.

    Args:
        out: the file to be written.
        suffix: that its name must have, such as ".png".
        inputs: as for `refuse_input`.
        option: that names `out`, for the error.

    Raises:
        UsageError: it is an input, or its name has another suffix.
        AgebenchError: its folder does not exist, or it is a folder.
    """
    check_target(out)
    refuse_input(out, inputs, option)
    if out.suffix.lower() != suffix:
        raise UsageError(
            f"{option} {out}: expected a file name that ends in {suffix}: give it this ending"
        )


def new_beside(path: Path, suffix: str = "") -> tuple[int, Path]:
    """Create an empty file with a hidden unique name in the folder of `path`.

    It has the permissions of a new file of the user (by the umask, unlike those of `tempfile`), but
    no more than those of the file at `path`, if there is one.

    Args:
        path: the final file.
        suffix: of the name.

    Returns:
        A descriptor open for reading and writing, and the path of the file.

    Raises:
        OSError: it can't be created.
    """
    # The whole name may have the maximal length, in bytes, not characters.
    start = os.fsencode(path.name)[:MOST_OF_NAME].decode(errors="ignore")
    new = path.with_name(f".{start}.{secrets.token_hex(6)}{suffix}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(new, flags, 0o666)
    with suppress(OSError):
        allowed = path.stat().st_mode & new.stat().st_mode
        new.chmod(stat.S_IMODE(allowed))
    return descriptor, new


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name next to `path`, then rename it.

    Args:
        path: the file; its folder must exist.  Existing content is replaced.
        content: text, written as UTF-8 with its line ends unchanged, or bytes.

    Raises:
        AgebenchError: the folder can't be written to, or the disk is full.
    """
    write_together([(path, content)])


def write_together(files: Sequence[tuple[Path, str | bytes | Iterable[bytes]]]) -> None:
    """Write files that belong together: all are on the disk before the first one gets its name.

    A run that is killed between two renames leaves a new file next to an old one: readers have to
    detect that, by a hash of the last in the first.

    Args:
        files: path and content of each, as for `write_whole` or in pieces, in the order in which
            they get their names; pieces are requested as they are written, file after file.

    Raises:
        AgebenchError: one can't be written; existing files are unchanged.
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
    """Append all of `data` to a file, or nothing if the disk is full.

    Args:
        file: opened for appending ("ab", "a+b"), with an empty buffer.
        data: such as a line.

    Raises:
        OSError: it can't be written; the file is unchanged.
    """
    # Not through the file's own buffer: it would keep the data that the disk refused, and closing
    # the file would try it again and fail once more.
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
    """Return whether a text can be a SHA-256: 64 hex digits in lower case.

    >>> is_sha256("0" * 64), is_sha256("0" * 63), is_sha256("A" * 64)
    (True, False, False)
    """
    return _SHA256.fullmatch(text) is not None


def read_whole(path: Path, what: str, limit_bytes: int) -> bytes:
    """Return all bytes of a file that should be small.

    Args:
        path: the file.
        what: the expected kind of file, for errors: "a table of years".
        limit_bytes: larger files are refused.

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
    """Check before a long run that `write_whole` will be able to write `path`.

    Raises:
        AgebenchError: its folder does not exist, or `path` itself is a folder.
    """
    if path.is_dir():
        raise AgebenchError(f"{path} is a folder: name a file to write")
    if not path.parent.is_dir():
        wrong = "is a file" if path.parent.exists() else "does not exist: create it"
        raise AgebenchError(f"{path} can't be written: the folder {path.parent} {wrong}")


def csv_line(cells: Iterable[object]) -> str:
    r"""Return one line of CSV that ends in a line feed.

    A cell with a carriage return, which file names may contain, is quoted, since it would end its
    row when it is read.  `csv.writer` only quotes the characters of its own line end.

    >>> csv_line(["a", "b\rc", None, 1.5])
    'a,"b\rc",,1.5\n'
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"
