"""The result for one picture, and its line in the journal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agebench.types import Face, FaceFrame, plain
from agebench.vision.faces import PictureStatus

UNREADABLE: Literal["unreadable"] = "unreadable"
"""Status of a file that can't be decoded; without a hash its bytes could not be read either."""


@dataclass(frozen=True, slots=True)
class PreparedView:
    """Whether a view exists, and the fraction (0 to 1) of it outside of the picture."""

    present: bool
    outside: float


@dataclass(frozen=True, slots=True)
class FaceRecord:
    """One face of a picture.

    Attributes:
        name: of its files, without suffix.
        face: as detected; `landmarks_from` is its source: "detector", "dataset" or "".
        frame: the canonical frame from which the views were cut.
        views: by name.
    """

    name: str
    face: Face
    landmarks_from: str
    frame: FaceFrame
    views: Mapping[str, PreparedView]


@dataclass(frozen=True, slots=True)
class PictureRecord:
    """The result for one picture.

    Attributes:
        source: its name in the data set.
        status: "ok", or why it has no faces.
        reason: the error, in a sentence.
        sha256: of the file's bytes; "" if it could not be read.
        found: number of faces found.
        faces: those that were kept.
        sizes: bytes of every file that was written, by its name below the output folder.
    """

    source: str
    status: PictureStatus = "ok"
    reason: str = ""
    sha256: str = ""
    found: int = 0
    faces: tuple[FaceRecord, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)

    def to_line(self) -> str:
        """Return it as one line of JSON that preserves numbers exactly."""
        return json.dumps(plain(self), allow_nan=False, separators=(",", ":"))

    @staticmethod
    def from_line(line: str | bytes) -> PictureRecord:
        """Read a line from `to_line`.

        Raises:
            ValueError: it is not such a line, or incomplete.
        """
        try:
            content = json.loads(line)
            content["faces"] = tuple(map(_face_record, content["faces"]))
            return PictureRecord(**content)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no record of a picture: {error}") from error


def _points(listed: list[list[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((x, y) for x, y in listed)


def _face_record(content: dict[str, Any]) -> FaceRecord:
    face, frame = content["face"], content["frame"]
    left, top, right, bottom = face.pop("box_xyxy")
    landmarks = _points(face.pop("landmarks_xy"))
    x, y = frame.pop("center_xy")
    points = _points(frame.pop("points_xy"))
    return FaceRecord(
        content["name"],
        Face((left, top, right, bottom), landmarks_xy=landmarks, **face),
        content["landmarks_from"],
        FaceFrame((x, y), points_xy=points, **frame),
        {name: PreparedView(**view) for name, view in content["views"].items()},
    )
