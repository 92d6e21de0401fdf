"""Entry points of the installed packages, read once for each state of Python's search path."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TypeAlias

SearchPath: TypeAlias = tuple[tuple[str, int | None], ...]


def entry_points(*, group: str) -> tuple[EntryPoint, ...]:
    """Return the entries of a group, as `importlib.metadata.entry_points` does.

    That reads a file of every installed package at every call, which takes some 15 ms.  What was
    read is used again until a package is installed or removed, or the search path changes.

    >>> [entry.name for entry in entry_points(group="agebench.estimators") if entry.name == "onnx"]
    ['onnx']
    """
    return _by_group(_search_path()).get(group, ())


def _search_path() -> SearchPath:
    """Return the folders of Python's search path, with the time of each one's last change."""
    folders = [Path(folder).absolute() for folder in sys.path]  # "" is the present folder
    return tuple((str(folder), _changed_ns(folder)) for folder in folders)


def _changed_ns(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1)
def _by_group(_path: SearchPath) -> Mapping[str, tuple[EntryPoint, ...]]:
    everything = metadata.entry_points()
    return {group: tuple(everything.select(group=group)) for group in everything.groups}
