"""Whether what an earlier run left is still whole, and of the same pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from agebench.datasets import prepared
from agebench.datasets.csv_table import read_csv_table
from agebench.datasets.prepared_layout import PROBLEM_COLUMNS, PROBLEMS_FILE, picture_file
from agebench.errors import AgebenchError, DatasetError, ImageError, UsageError
from agebench.prepare.records import UNREADABLE
from agebench.protocols import Dataset, ProgressStep
from agebench.vision.images import read_file

CHECKING = "Checking sources"
_ANEW = "remove the folder and give the same command again"


def require_complete(out: Path, pictures: Dataset, progress: ProgressStep) -> None:
    """Refuse a finished folder that lacks files, or that was made of other contents.

    Args:
        out: the folder.
        pictures: what it is to be made of.
        progress: called as sources are read.

    Raises:
        AgebenchError: the manifest can't be read, or files that it names are missing.
        UsageError: a source has another content than the one that was prepared.
    """
    try:
        was = prepared.load(out, faces="all")
    except DatasetError as error:
        raise AgebenchError(f"{out} is damaged: {error}; {_ANEW}") from error
    lost = [f"{problem.name} {problem.reason}" for problem in was.problems]
    named = (name for face in was.faces.values() for name in _files(face))
    lost += [name for name in named if not (out / name).is_file()]
    if lost:
        raise AgebenchError(f"{out} is damaged in {len(lost)} places, such as {lost[0]}; {_ANEW}")
    hashes = {face.source: face.sha256 for face in was.faces.values()} | _left_out(out)
    require_same_sources(out, pictures, hashes, progress)


def _left_out(out: Path) -> dict[str, str]:
    """Return the hashes of what has no row in the manifest; none of folders that lack them."""
    try:
        headings, rows = read_csv_table(
            out / PROBLEMS_FILE, [[name] for name in PROBLEM_COLUMNS[:3]]
        )
        if "sha256" not in headings:
            return {}
        found = [row.cells for row in rows]
    except DatasetError as error:
        raise AgebenchError(f"{out} is damaged: {error}; {_ANEW}") from error
    return {
        cells["source"]: cells.get("sha256", "")
        for cells in found
        if cells.get("sha256") or cells.get("status") == UNREADABLE
    }


def _files(face: prepared.PreparedFace) -> Iterator[str]:
    for view, there in face.present.items():
        if there:
            yield picture_file(face.group, view, face.name)


def require_same_sources(
    out: Path, pictures: Dataset, hashes: Mapping[str, str], progress: ProgressStep
) -> None:
    """Refuse to take what was made of other contents for that of these pictures.

    Args:
        out: for the message.
        pictures: as they are now.
        hashes: by name the sha256 of those that were looked at; "" where one could not be read.
        progress: called as they are read.

    Raises:
        UsageError: a picture has another content now.
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
    """Return the hash of a file's bytes, "" where a run of today could not read them either."""
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except (ImageError, MemoryError):
        return ""
