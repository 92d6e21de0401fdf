"""The memory available to this process if a container has less than the machine.

Control groups of Linux (cgroups(7)): the kernel kills processes that exceed the group's limit, even
if the machine has free memory.  Version 2 has the limit in ``memory.max``, version 1 in
``memory.limit_in_bytes``; the limits of parent groups apply too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class _Names:
    """Files of a version of cgroups."""

    folder: str
    limit: str
    used: str
    reclaimable: str


_V1 = _Names(
    "sys/fs/cgroup/memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
)
_V2 = _Names("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")


def left_to_us(free_bytes: int, root: Path = Path("/")) -> int:
    """Return how many more bytes this process can use.

    Args:
        free_bytes: of the machine.
        root: of the file system.

    Returns:
        The minimum of `free_bytes` and what is left in each control group with a limit, at least 0.
         File pages that the kernel can release at once count as free, swap does not.
    """
    return max(0, min([free_bytes, *_left_in_groups(root)]))


def _left_in_groups(root: Path) -> Iterator[int]:
    for names, path in _groups(root):
        group = PurePosixPath(path)
        # In a container the group's path may be that outside of it, where only the top one exists.
        for each in (group, *group.parents):
            left = _left(root / names.folder / str(each).lstrip("/"), names)
            if left is not None:
                yield left


def _groups(root: Path) -> Iterator[tuple[_Names, str]]:
    """Yield version and path of the groups that limit this process's memory."""
    for line in _lines(root / "proc" / "self" / "cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield _V2, path
        elif "memory" in controllers.split(","):
            yield _V1, path


def _left(folder: Path, names: _Names) -> int | None:
    """Return what is left in one group; None if it has no limit."""
    with suppress(ValueError):  # "max", or a missing file
        limit = int("".join(_lines(folder / names.limit)))
        used = int("".join(_lines(folder / names.used)))
        fields = (line.split() for line in _lines(folder / "memory.stat"))
        cached = sum(int(each[1]) for each in fields if each[:1] == [names.reclaimable])
        return limit - used + cached
    return None


def _lines(path: Path) -> list[str]:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8").splitlines()
    return []
