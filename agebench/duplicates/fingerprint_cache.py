"""Stores fingerprints between runs, by path, size and time of last change.

A cache that can't be read, is malformed or has another version is ignored, and one that can't be
written only costs time: neither is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from agebench.errors import AgebenchError
from agebench.modelfiles.weights import cache_dir
from agebench.util.files import write_whole

FORMAT = 2

# A file that was changed this recently could change again without its time moving on.
_SETTLED_NS = 2_000_000_000

State: TypeAlias = tuple[int, int]
"""Size in bytes and time of last change in nanoseconds."""


@dataclass(frozen=True, slots=True)
class CachedFingerprint:
    """The stored values of one file; fields as in `groups.Fingerprint`."""

    sha256: str
    perceptual: int | None
    mirrored: int | None
    reason: str
    width: int
    height: int


def file_state(path: Path) -> State | None:
    """Return a file's size and time of last change; None if they can't be read."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


class FingerprintCache:
    """The stored fingerprints of the files below one folder.

    Args:
        paths: the files; their common folder determines which cache is used.
        version: what the fingerprints depend on besides the files.
    """

    def __init__(self, paths: Iterable[Path], version: str) -> None:
        self._version = version
        self._file = _cache_file(paths)
        self._known: dict[str, tuple[State, CachedFingerprint]] = _read(self._file, version)
        self._changed = False

    def get(self, path: Path, state: State | None) -> CachedFingerprint | None:
        """Return the stored values of the file, if it is still in that state."""
        known = self._known.get(os.path.abspath(path))  # noqa: PTH100 - resolve() touches the disk
        return known[1] if known is not None and known[0] == state else None

    def put(self, path: Path, state: State | None, entry: CachedFingerprint) -> None:
        """Store a fingerprint that was computed while the file was in that state."""
        if state is None or not entry.sha256 or state[1] > time.time_ns() - _SETTLED_NS:
            return
        self._known[os.path.abspath(path)] = (state, entry)  # noqa: PTH100 - as `get`
        self._changed = True

    def save(self) -> None:
        """Write what was added, if anything was."""
        if not self._changed or self._file is None:
            return
        files = {path: [*state, *_values(entry)] for path, (state, entry) in self._known.items()}
        content = {"format": FORMAT, "version": self._version, "files": files}
        with suppress(OSError, AgebenchError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._file, json.dumps(content, separators=(",", ":")))


def _cache_file(paths: Iterable[Path]) -> Path | None:
    absolute = [os.path.abspath(path.parent) for path in paths]  # noqa: PTH100 - as `get`
    try:
        common = os.path.commonpath(absolute)
    except ValueError:  # no files, or files on several drives
        return None
    name = hashlib.sha256(os.fsencode(common)).hexdigest()[:20]
    return cache_dir() / "fingerprints" / f"{name}.json"


def _values(entry: CachedFingerprint) -> tuple[str, str | None, str | None, str, int, int]:
    perceptual, mirrored = (
        None if bits is None else f"{bits:016x}" for bits in (entry.perceptual, entry.mirrored)
    )
    return entry.sha256, perceptual, mirrored, entry.reason, entry.width, entry.height


def _read(file: Path | None, version: str) -> dict[str, tuple[State, CachedFingerprint]]:
    if file is None:
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] != version:
            return {}
        return {path: _parse(row) for path, row in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _parse(row: list[Any]) -> tuple[State, CachedFingerprint]:
    size, changed_ns, sha256, perceptual, mirrored, reason, width, height = row
    numbers = (size, changed_ns, width, height)
    texts = (sha256, reason, perceptual or "", mirrored or "")
    if not all(type(number) is int for number in numbers):
        raise TypeError("expected whole numbers")
    if not all(isinstance(text, str) for text in texts) or len(sha256) != 64:
        raise TypeError("expected texts")
    if (perceptual is None) != (mirrored is None):
        raise ValueError("expected both hashes or neither")
    entry = CachedFingerprint(sha256, _bits(perceptual), _bits(mirrored), reason, width, height)
    return (size, changed_ns), entry


def _bits(text: str | None) -> int | None:
    if text is None:
        return None
    bits = int(text, 16)
    if not 0 <= bits < 1 << 64:
        raise ValueError("expected 64 bits")
    return bits
