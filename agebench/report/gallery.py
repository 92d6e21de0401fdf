"""The pictures with the largest errors, with or without thumbnails."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from agebench.datasets.names import without_place
from agebench.errors import ImageError, UsageError
from agebench.harness.contents_pictures import Picture
from agebench.report.joining import Entry, Joined
from agebench.report.measures import worst
from agebench.types import Image
from agebench.vision.images import decode_image, read_file

MAX_WORST = 8
"""Maximum number of pictures per estimator."""

SIDE_PX = 144
_AROUND_BOX = 0.4
_QUALITY = 80
_RESTRICTED = re.compile(r"research|non-?commercial|unverified|not stated|private", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class GalleryTile:
    """One picture of the gallery.

    Attributes:
        image: its name.
        true_years, predicted_years: ages.
        thumbnail: ``data:`` URL of a small copy; "" without one.
        missing: why there is no thumbnail; "" if none was requested.
    """

    image: str
    true_years: float
    predicted_years: float
    thumbnail: str = ""
    missing: str = ""


def why_no_thumbnails(name: str, licence: str) -> str:
    """Return why this data set's pictures must not be in a report; "" if they may.

    >>> why_no_thumbnails("fgnet", "research only")
    "Pictures are left out: the terms of fgnet are 'research only', and reports may be passed on"
    >>> why_no_thumbnails("demo", "public domain (NASA)")
    ''
    """
    if not _RESTRICTED.search(licence):
        return ""
    return (
        f"Pictures are left out: the terms of {name} are {licence!r}, and reports may be passed on"
    )


def check_root(root: Path) -> None:
    """Check that `root` can be searched for pictures.

    Raises:
        UsageError: it is not a folder.
    """
    try:
        exists = root.is_dir()
    except (OSError, ValueError):
        exists = False
    if not exists:
        raise UsageError(
            "thumbnails (--thumbnails) needs the folder of the pictures, but "
            f"{str(root)!r} is not a folder"
        )


def gallery(joined: Joined, entry: Entry, root: Path | None) -> list[GalleryTile]:
    """Return the common pictures with the largest errors of an estimator, worst first.

    Args:
        joined: the report's data.
        entry: the estimator.
        root: folder of the pictures; None for no thumbnails.
    """
    true = np.where(joined.rows, joined.true_years, np.nan)
    tiles = []
    for row in worst(true, entry.years, MAX_WORST):
        image = joined.pictures[row]
        thumbnail = missing = ""
        if root is not None:
            try:
                thumbnail = _thumbnail(root, image)
            except ImageError as error:
                missing = str(error)
        years = (float(joined.true_years[row]), float(entry.years[row]))
        tiles.append(GalleryTile(image["picture"], *years, thumbnail=thumbnail, missing=missing))
    return tiles


def _thumbnail(root: Path, image: Picture) -> str:
    """Cut the face out of the file that was scored.

    Raises:
        ImageError: the file is missing, has a different hash, or lies outside of `root`.
    """
    try:
        folder, path = root.resolve(), (root / image["picture"]).resolve()
        if not path.exists():
            path = (root / without_place(image["picture"])).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise ImageError(f"can't be found: {error}") from error
    if not path.is_relative_to(folder):
        raise ImageError("its name leads out of the folder of the pictures")
    data = read_file(path)
    if hashlib.sha256(data).hexdigest() != image["sha256"]:
        raise ImageError("the file in the folder is not the one that was scored")
    picture = _around(decode_image(data, image["picture"]), image["box_xyxy"])
    small = PillowImage.fromarray(np.ascontiguousarray(picture[:, :, ::-1]))
    small.thumbnail((SIDE_PX, SIDE_PX))
    packed = io.BytesIO()
    small.save(packed, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()


def _around(picture: Image, box_xyxy: Sequence[float] | None) -> Image:
    """Return the box with a margin, within the picture; the whole picture if there is no box."""
    if box_xyxy is None:
        return picture
    height, width = picture.shape[:2]
    left, top, right, bottom = box_xyxy
    room = _AROUND_BOX * max(right - left, bottom - top, 1.0)
    x0, x1 = (int(np.clip(value, 0, width)) for value in (left - room, right + room))
    y0, y1 = (int(np.clip(value, 0, height)) for value in (top - room, bottom + room))
    return picture[y0:y1, x0:x1] if x1 > x0 and y1 > y0 else picture
