"""The layout of a prepared folder, for writing and reading it.

``OUT/<age group>/<view>/NAME.jpg``, with the upright source as view ``original_image``;
``manifest.csv`` has one row per face, ``prepare.json`` the settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MANIFEST_FILE = "manifest.csv"
PROBLEMS_FILE = "manifest_problems.csv"
SETTINGS_FILE = "prepare.json"
SCHEMA_VERSION = 1

PROBLEM_COLUMNS = ("source", "status", "reason", "sha256")

ORIGINAL_FOLDER = "original_image"

MIXED_GROUP = "mixed"
"""Folder of pictures whose age range extends over several groups."""

UNKNOWN_GROUP = "unknown"
"""Folder of pictures without an age."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,150}")
GROUP = re.compile(rf"[0-9]{{1,3}}-[0-9]{{1,3}}|{MIXED_GROUP}|{UNKNOWN_GROUP}")

COLUMNS = (
    "name",
    "group",
    "source",
    "sha256",
    "dataset",
    "label_kind",
    "split",
    "age_years",
    "age_low",
    "age_high",
    "identity",
    "attributes",
    "face_index",
    "faces",
    "detector_score",
    "box_left",
    "box_top",
    "box_right",
    "box_bottom",
    "landmarks",
    "landmark_scheme",
    "landmarks_from",
    "frame_from",
    "frame_center_x",
    "frame_center_y",
    "frame_height",
    "frame_roll_rad",
    "frame_points",
)
"""Columns of the manifest, before the two of each view; docs/prepare.md describes them."""


def view_columns(views: Iterable[str]) -> tuple[str, ...]:
    """Return the columns with the presence of each view and its fraction outside of the picture.

    >>> view_columns(["face"])
    ('face_present', 'face_outside')
    """
    return tuple(f"{view}_{what}" for view in views for what in ("present", "outside"))


def picture_file(group: str, view: str, name: str) -> str:
    """Return the path of a picture, relative to the prepared folder, with forward slashes."""
    return f"{group}/{view}/{name}.jpg"
