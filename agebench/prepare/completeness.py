"""Whether what an earlier run left is still whole, and of the same pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from agebench.datasets.prepared_layout import MANIFEST_FILE, ORIGINAL_FOLDER, picture_file
from agebench.errors import AgebenchError, UsageError
from agebench.protocols import Dataset, ProgressStep
from agebench.weights import sha256_of

CHECKING = "Checking sources"


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
    hashes: dict[str, str] = {}
    lost: list[str] = []
    try:
        with (out / MANIFEST_FILE).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                hashes[row["source"]] = row["sha256"]
                lost += [name for name in _files(row) if not (out / name).is_file()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise AgebenchError(
            f"{out} is damaged: its {MANIFEST_FILE} can't be read ({error}); remove the folder and "
            "give the same command again"
        ) from error
    if lost:
        raise AgebenchError(
            f"{out} is damaged: {len(lost)} of its files are missing, such as {lost[0]}; remove "
            "the folder and give the same command again"
        )
    require_same_sources(out, pictures, hashes, progress)


def _files(row: Mapping[str, str]) -> Iterable[str]:
    views = [name.removesuffix("_present") for name in row if name.endswith("_present")]
    there = [ORIGINAL_FOLDER, *(view for view in views if row[f"{view}_present"] == "1")]
    return (picture_file(row["group"], view, row["name"]) for view in there)


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
