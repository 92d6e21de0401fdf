"""Empty files to list as a data set, and what a listing says of them."""

from __future__ import annotations

from pathlib import Path

from agebench.protocols import Dataset


def make(root: Path, *names: str) -> Path:
    """Make empty files; pixels are never read while listing."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def names_of(dataset: Dataset) -> list[str]:
    """Return the names of the pictures."""
    return [sample.name for sample in dataset.samples]


def reasons(dataset: Dataset) -> dict[str, str]:
    """Return by name why something was left out."""
    return {problem.name: problem.reason for problem in dataset.problems}
