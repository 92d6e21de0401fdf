"""Checks whether an earlier run's output is complete, and of the same pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from agebench.datasets import prepared
from agebench.datasets.csv_table import read_csv_table
from agebench.datasets.prepared_layout import (
    MANIFEST_FILE,
    PROBLEM_COLUMNS,
    PROBLEMS_FILE,
    picture_file,
)
from agebench.errors import AgebenchError, DatasetError, ImageError, UsageError
from agebench.prepare.records import UNREADABLE
from agebench.protocols import Dataset, ProgressStep
from agebench.vision.images import read_file

CHECKING = "Checking sources"
_START_AGAIN = "remove the folder and give the same command again"


def require_complete(out: Path, pictures: Dataset, progress: ProgressStep) -> None:
    """Refuse a finished folder that lacks files, or that was made from other contents.

    Args:
        out: the folder.
        pictures: from which it is to be made.
        progress: called as sources are read.

    Raises:
        AgebenchError: the manifest can't be read, or files that it names are missing.
        UsageError: a source has other contents than when it was prepared.
    """
    if not (out / MANIFEST_FILE).exists():
        raise AgebenchError(f"{out} is damaged: it has no {MANIFEST_FILE}; {_START_AGAIN}")
    try:
        was = prepared.load(out, faces="all")
    except DatasetError as error:
        raise AgebenchError(f"{out} is damaged: {error}; {_START_AGAIN}") from error
    lost = [f"{problem.name} {problem.reason}" for problem in was.problems]
    named = (name for face in was.faces.values() for name in _files(face))
    lost += [name for name in named if not (out / name).is_file()]
    if lost:
        raise AgebenchError(
            f"{out} is damaged in {len(lost)} places, such as {lost[0]}; {_START_AGAIN}"
        )
    hashes = {face.source: face.sha256 for face in was.faces.values()} | _left_out(out)
    require_same_sources(out, pictures, hashes, progress)


def _left_out(out: Path) -> dict[str, str]:
    """Return the hashes of pictures without a row in the manifest, if the folder has them."""
    try:
        headings, rows = read_csv_table(
            out / PROBLEMS_FILE, [[name] for name in PROBLEM_COLUMNS[:3]]
        )
        if "sha256" not in headings:
            return {}
        found = [row.cells for row in rows]
    except DatasetError as error:
        raise AgebenchError(f"{out} is damaged: {error}; {_START_AGAIN}") from error
    return {
        cells["source"]: cells.get("sha256", "")
        for cells in found
        if cells.get("sha256") or cells.get("status") == UNREADABLE
    }


def _files(face: prepared.PreparedFace) -> Iterator[str]:
    for view, present in face.present.items():
        if present:
            yield picture_file(face.group, view, face.name)


def require_same_sources(
    out: Path, pictures: Dataset, hashes: Mapping[str, str], progress: ProgressStep
) -> None:
    """Refuse output that was made from other contents of these pictures.

    Args:
        out: for the message.
        pictures: current ones.
        hashes: SHA-256 by name of the prepared ones; "" if one could not be read.
        progress: called as they are read.

    Raises:
        UsageError: the contents of a picture have changed.
    """
    known = [item for item in pictures.samples if item.name in hashes]
    changed = []
    for done, item in enumerate(known, start=1):
        if _hash_now(item.path) != hashes[item.name]:
            changed.append(item.name)
        progress(CHECKING, done, len(known))
    if changed:
        raise UsageError(
            f"{len(changed)} of the {len(known)} pictures that {out} was made from have changed "
            f"since, such as {changed[0]}: give another folder with --out"
        )


def _hash_now(path: Path) -> str:
    """Return the hash of a file's bytes, "" if it still can't be read."""
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except (ImageError, MemoryError):
        return ""
