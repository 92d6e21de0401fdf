"""Whether what an earlier run left is still whole, and of the same pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from agebench.datasets import prepared
from agebench.datasets.prepared_layout import picture_file
from agebench.errors import AgebenchError, DatasetError, UsageError
from agebench.protocols import Dataset, ProgressStep
from agebench.weights import sha256_of

CHECKING = "Checking sources"
_ANEW = "remove the folder and give the same command again"


def require_whole(out: Path, pictures: Dataset, progress: ProgressStep) -> None:
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
    hashes = {face.source: face.sha256 for face in was.faces.values()}
    require_same_sources(out, pictures, hashes, progress)


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
        hashes: by name the sha256 of those that were prepared; "" where one could not be read.
        progress: called as they are read.

    Raises:
        UsageError: a picture has another content now.
    """
    known = [item for item in pictures.samples if hashes.get(item.name)]
    changed = []
    for done, item in enumerate(known, start=1):
        try:
            same = sha256_of(item.path) == hashes[item.name]
        except (OSError, AgebenchError):
            same = False
        if not same:
            changed.append(item.name)
        progress(CHECKING, done, len(known))
    if changed:
        raise UsageError(
            f"{len(changed)} of the {len(known)} pictures that {out} was made of have another "
            f"content now, such as {changed[0]}: give another folder with --out"
        )
