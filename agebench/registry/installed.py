"""Entry points of the installed packages, read once for each state of Python's search path."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TypeAlias

_SearchPath: TypeAlias = tuple[tuple[str, int | None], ...]


def entry_points(*, group: str) -> tuple[EntryPoint, ...]:
    """Return the entries of a group, as `importlib.metadata.entry_points` does.

    That reads a file of every installed package at every call, which takes some 10 ms.  What was
    read is used again until the search path changes, or a package in one of its folders is
    installed or removed; a file of a package that is altered in place is not noticed.

    >>> [entry.name for entry in entry_points(group="agebench.estimators") if entry.name == "onnx"]
    ['onnx']
    """
    return _by_group(_search_path()).get(group, ())


def _search_path() -> _SearchPath:
    """Return the folders of Python's search path, with the time of each one's last change."""
    return tuple(map(_state, sys.path))


def _state(folder: str) -> tuple[str, int | None]:
    try:
        path = Path(folder).absolute()  # "" is the present folder, which may have been deleted
        return str(path), path.stat().st_mtime_ns
    except (OSError, ValueError):
        return folder, None


@lru_cache(maxsize=1)
def _by_group(_path: _SearchPath) -> Mapping[str, tuple[EntryPoint, ...]]:
    everything = metadata.entry_points()
    return {group: tuple(everything.select(group=group)) for group in everything.groups}
