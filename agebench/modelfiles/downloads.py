"""Downloads: to a temporary file, which is checked before it gets its final name."""

from __future__ import annotations

import glob
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from agebench.errors import WeightsError, WeightsUnavailableError
from agebench.util.regular_files import open_regular

if TYPE_CHECKING:
    from rich.progress import Progress

ABANDONED_S = 24 * 3600.0
"""Unfinished files that were not written to for this long, in seconds, are removed."""

CHUNK_BYTES = 1 << 15
HEAD_BYTES = 1024

Kind: TypeAlias = Literal["absent", "failed", "wrong"]


class SourceError(WeightsError):
    """A source did not give the file.

    Attributes:
        kind: "absent" if it does not exist there, "failed" if the source could not be read
            completely, "wrong" if its bytes differ from the manifest.
    """

    def __init__(self, reason: str, kind: Kind) -> None:
        super().__init__(reason)
        self.kind: Kind = kind


class CacheFolderError(WeightsUnavailableError):
    """The cache folder can't be written to, so that no other source would help."""


class ProgressBar(Protocol):
    """Progress of a download: the four members of tqdm that are needed."""

    total: float | None

    def update(self, n: int, /) -> object:
        """Advance by `n` bytes."""

    def reset(self) -> object:
        """Reset to zero, when the next source is tried."""

    def close(self) -> object:
        """Take no further updates."""


class RichBar:
    """One line of a `rich.progress.Progress`, as a `ProgressBar`."""

    def __init__(self, lines: Progress, label: str) -> None:
        self._lines = lines
        # Hidden until a transfer starts: nothing is shown for a file that exists.
        self._task = lines.add_task(label, total=None, visible=False)

    @property
    def total(self) -> float | None:
        """Bytes expected."""
        task = next(task for task in self._lines.tasks if task.id == self._task)
        return task.total

    @total.setter
    def total(self, value: float | None) -> None:
        self._lines.update(self._task, total=value)

    def update(self, n: int, /) -> None:
        """Advance by `n` bytes."""
        self._lines.advance(self._task, n)

    def reset(self) -> None:
        """Reset to zero."""
        self._lines.reset(self._task, visible=True)

    def close(self) -> None:
        """Stop the line's clock."""
        self._lines.stop_task(self._task)


@contextmanager
def terminal_lines() -> Iterator[Progress]:
    """Show download bars on stderr within the context, if it is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(file=sys.stderr, stderr=True)  # as in agebench.util.progress
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    lines = Progress(
        *columns,
        TransferSpeedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with lines:
        yield lines


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file's bytes as 64 hex digits.

    Raises:
        WeightsError: the file can't be read.
    """
    try:
        with open_regular(path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"can't read {path}: {error.strerror or error}") from error


def stub_reason(head: bytes, size: str, wanted: str = "a model") -> str | None:
    """Return what a file contains instead of a model, or None if it may be a model.

    Args:
        head: the first `HEAD_BYTES` of the file, or all of a shorter one.
        size: the file's size in words, such as "43,958 bytes".
        wanted: the expected kind of file, if not a model.

    >>> stub_reason(b"<!DOCTYPE html><html>", "21 bytes")
    'an HTML page of 21 bytes in place of a model'
    """
    if not head:
        return f"an empty file in place of {wanted}"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<script", b"<!--")):
        return f"an HTML page of {size} in place of {wanted}"
    if start.startswith(b"version https://git-lfs.github.com/"):
        return f"a Git LFS pointer of {size} in place of {wanted}"
    return None


def stub_in(content: bytes, wanted: str = "a model") -> str | None:
    """As `stub_reason`, for a file that was read completely."""
    return stub_reason(content[:HEAD_BYTES], f"{len(content):,} bytes", wanted)


def check_readable(path: Path) -> int:
    """Return the size in bytes of a regular file that may be a model.

    Raises:
        SourceError: it is missing, not a regular file, unreadable, or a stub.
    """
    try:
        if not path.exists():
            raise SourceError("not there", "absent")
        if not path.is_file():
            what = "a folder" if path.is_dir() else "a special file"
            raise SourceError(f"{what} in place of a model", "wrong")
        with open_regular(path) as stream:
            head = stream.read(HEAD_BYTES)
            size_bytes = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise SourceError(f"can't be read: {error.strerror or error}", "failed") from error
    if reason := stub_reason(head, f"{size_bytes:,} bytes"):
        raise SourceError(reason, "wrong")
    return size_bytes


def check_file(path: Path, size_bytes: int, sha256: str) -> None:
    """Check that a file has exactly the expected bytes.

    Raises:
        SourceError: it does not; the message says what was expected and found.
    """
    got_bytes = check_readable(path)
    if got_bytes != size_bytes:
        raise SourceError(f"expected {size_bytes:,} bytes, got {got_bytes:,}", "wrong")
    got = sha256_of(path)
    if got != sha256:
        raise SourceError(f"expected sha256 {sha256}, got {got}", "wrong")


def shown_url(url: str) -> str:
    """Return `url` without possible secrets: user name, password and query.

    >>> shown_url("https://me:secret@example.org/a?token=b")
    'https://example.org/a?...'
    >>> shown_url("https://me:se/cret@example.org/a"), shown_url("http://me:secret@[::1/a")
    ('https://...', 'http://...')
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return f"{url.partition(':')[0]}://..."
    shown = urlunsplit(
        parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    )
    if "@" in shown:  # a password with a slash ends the host too early
        shown = f"{parts.scheme}://...@{shown.rpartition('@')[2]}"
    return f"{shown}?..." if parts.query or parts.fragment else shown


class Sink:
    """Accepts at most `limit_bytes`, counts them, and separates errors of disk and network."""

    def __init__(self, stream: BinaryIO, limit_bytes: int, progress: ProgressBar | None) -> None:
        self.received_bytes = 0
        self.head = b""
        self._stream = stream
        self._limit_bytes = limit_bytes
        self._progress = progress

    def write(self, data: bytes) -> None:
        """Write a piece.

        Raises:
            SourceError: there is more than expected.
            CacheFolderError: it can't be written.
        """
        self.head += data[: HEAD_BYTES - len(self.head)]
        self.received_bytes += len(data)
        if self.received_bytes > self._limit_bytes:
            limit = f"{self._limit_bytes:,} bytes"
            stub = stub_reason(self.head, f"more than {limit}")
            raise SourceError(stub or f"expected {limit}, got more", "wrong")
        try:
            self._stream.write(data)
        except OSError as error:
            raise CacheFolderError(cache_reason(Path(self._stream.name).parent, error)) from error
        if self._progress is not None:
            self._progress.update(len(data))


def cache_reason(folder: Path, error: OSError) -> str:
    """Return a sentence on why the cache folder can't be used."""
    return (
        f"can't write to the cache folder {folder}: {error.strerror or error}; "
        "set AGEBENCH_CACHE to a writable folder"
    )


def _take_name(part: Path, target: Path, size_bytes: int, sha256: str) -> None:
    try:
        part.replace(target)
    except OSError as error:
        # Windows refuses while another process has the file open.
        with suppress(SourceError):
            check_file(target, size_bytes, sha256)
            return
        raise CacheFolderError(cache_reason(target.parent, error)) from error


def _remove_abandoned(target: Path) -> None:
    """Remove what killed downloads left of this file; recent files may still be in use."""
    for part in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED_S:
                part.unlink()


def store(
    target: Path,
    size_bytes: int,
    sha256: str,
    write: Callable[[Sink], None],
    progress: ProgressBar | None = None,
) -> None:
    """Have `write` write `target`, which gets its name only when it is correct.

    Several processes may do so at the same time: each writes its own file, and the last one
    replaces identical bytes.

    Args:
        target: final path; its folder is created if necessary.
        size_bytes: expected size; writing stops beyond it.
        sha256: expected hash, 64 hex digits.
        write: writes to the sink that it is called with.
        progress: called for every piece.

    Raises:
        SourceError: raised by `write`, or the bytes are wrong.
        CacheFolderError: the folder can't be written to.
    """
    part = target.with_name(f".{target.name}.{uuid4().hex}.part")
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(target)
            # A full disk may only be noticed when the buffer is flushed or the file is closed.
            with part.open("xb") as stream:
                write(Sink(stream, size_bytes, progress))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:  # of the disk: those of the network are SourceErrors
            raise CacheFolderError(cache_reason(target.parent, error)) from error
        check_file(part, size_bytes, sha256)
        _take_name(part, target, size_bytes, sha256)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def download(
    url: str, target: Path, size_bytes: int, sha256: str, progress: ProgressBar | None = None
) -> None:
    """Download `url`, http or https, to `target`, like `store`.

    Raises:
        SourceError: the source failed or gave wrong bytes.
        CacheFolderError: the folder can't be written to.
    """
    from agebench.modelfiles.transfers import check_url, transfer

    check_url(url)
    if progress is not None:
        progress.reset()
        progress.total = size_bytes
    try:
        store(target, size_bytes, sha256, lambda sink: transfer(url, sink, size_bytes), progress)
    finally:
        if progress is not None:
            progress.close()
