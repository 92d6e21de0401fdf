"""Identifies what an output folder was made of, so that runs don't continue each other's work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from agebench.datasets.prepared_layout import SCHEMA_VERSION, SETTINGS_FILE
from agebench.errors import AgebenchError, UsageError
from agebench.prepare.settings import PrepareSettings
from agebench.prepare.store import WORK_FOLDER
from agebench.protocols import Dataset, FaceDetector
from agebench.references import called
from agebench.types import Sample, plain
from agebench.util.files import read_whole
from agebench.vision.opencv import cv2

_SHOWN = 3


def samples_hash(samples: Iterable[Sample]) -> str:
    """Hash all names and labels; the pictures themselves are hashed as they are read."""
    digest = hashlib.sha256()
    for sample in samples:
        attributes = sorted(sample.attributes.items())
        label = [sample.name, sample.age_years, sample.age_range, sample.identity, attributes]
        digest.update(json.dumps(label).encode() + b"\n")
    return digest.hexdigest()


def _parts_hash(pictures: Dataset, parts: Mapping[str, str]) -> str:
    listed = [[sample.name, parts.get(sample.name)] for sample in pictures.samples]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def made_of(
    pictures: Dataset, parts: Mapping[str, str] | None, detector: str, settings: PrepareSettings
) -> dict[str, Any]:
    """Return the settings that determine the output, as JSON-compatible values."""
    return {
        "settings": settings.decisive(),
        "detector": called(detector),
        "dataset": {
            "name": pictures.spec.name,
            "label_kind": pictures.spec.label_kind,
            "pictures": len(pictures.samples),
            "names_and_labels_sha256": samples_hash(pictures.samples),
        },
        "split_sha256": "" if parts is None else _parts_hash(pictures, parts),
    }


def made_with(detector: FaceDetector) -> dict[str, Any]:
    """Return versions and model files, which may change pixels slightly."""
    return {
        "versions": {
            "agebench": version("agebench"),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "pillow": PIL.__version__,
        },
        "detector": plain(detector.spec),
    }


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Return the differences between two nested values, in words.

    >>> differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})
    ['a.b was 1 and is now 3']
    """
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key in dict.fromkeys([*before, *now]):
            inner = f"{name}.{key}" if name else str(key)
            found += differences(before.get(key), now.get(key), inner)
        return found
    if before == now:
        return []
    return [f"{name} was {_short(before)} and is now {_short(now)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:59] + "…"


def refuse_other(before: Any, now: Mapping[str, Any], out: Path) -> None:
    """Refuse to resume in a folder that was made, or started, from something else.

    Raises:
        UsageError: there is a difference.
    """
    # A round trip through JSON, in which tuples become lists.
    found = differences(before, json.loads(json.dumps(now)))
    if found:
        more = f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
        raise UsageError(
            f"{out} holds something else: {'; '.join(found[:_SHOWN])}{more}; "
            "use the settings it was started with, or give another folder with --out"
        )


def finished_settings(out: Path) -> dict[str, Any] | None:
    """Return the content of the finished folder's prepare.json; None if it is not finished.

    Raises:
        AgebenchError: it was not written by `prepare`.
    """
    path = out / SETTINGS_FILE
    try:
        if path.exists() and not path.is_file():
            raise AgebenchError(f"{path} is not a regular file: give another --out")
        if not path.exists():
            return None
        content = json.loads(read_whole(path, "such settings", 1_000_000))
    except (OSError, ValueError, RecursionError) as error:
        raise AgebenchError(f"{path} can't be read: {error}; give another --out") from error
    known = isinstance(content, dict) and content.get("schema_version") == SCHEMA_VERSION
    if not known or not isinstance(content.get("made_of"), dict):
        raise AgebenchError(
            f"{path} is not of this version of agebench (schema {SCHEMA_VERSION}): "
            "give another --out"
        )
    return dict(content)


def refuse_foreign(out: Path) -> None:
    """Refuse a folder with content that was not made by `prepare`.

    Raises:
        UsageError: it has some, or it is not a folder.
    """
    try:
        entries = sorted(entry.name for entry in out.iterdir()) if out.exists() else []
    except OSError as error:
        of_file = isinstance(error, NotADirectoryError)
        reason = "expected a folder, got a file" if of_file else error.strerror
        raise UsageError(
            f"the output folder {out} can't be used: {reason}; give a folder"
        ) from error
    foreign = [name for name in entries if name != WORK_FOLDER]
    if foreign:
        raise UsageError(
            f"{out} is not empty and was not made by 'agebench prepare' (it holds "
            f"{foreign[0]!r}): give a new or empty folder with --out"
        )
