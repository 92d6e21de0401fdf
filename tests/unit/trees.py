"""What a folder holds."""

from __future__ import annotations

from pathlib import Path


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its bytes, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def left_in(folder: Path) -> list[str]:
    """Return the names of what is in a folder, sorted; none if there is no folder."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
