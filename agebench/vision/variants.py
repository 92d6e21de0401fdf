"""Faces made harder to recognise, to measure the robustness of estimators.

A variant changes the pixels or the face's frame after the face has been detected in the original
picture, so that it measures estimators and not the detector.  Strengths are relative to the face,
so that they mean the same for pictures of any size.  All randomness is determined by the picture's
name and the seed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from agebench.errors import UsageError, suggestion
from agebench.types import Box, FaceFrame, Image, Point
from agebench.util.checks import number_in
from agebench.vision.frames import FRAME_ASPECT
from agebench.vision.opencv import cv2
from agebench.vision.regions import REGIONS, Patch

Change: TypeAlias = Callable[[Image, FaceFrame, float, float], tuple[Image, FaceFrame]]
"""From picture, frame, strength and a seeded number in [0, 1) to the changed picture and frame."""

_WHOLE = ("jpeg",)
"""Kinds whose strength is an integer."""

COVER_GRAY = 127
"""Gray level of the bar that covers a part of the face."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of changing a picture.

    Attributes:
        summary: one sentence.
        unit: of its strength; "" for one without.
        low, high: range of the strength.
        change: the function.
    """

    summary: str
    unit: str
    low: float
    high: float
    change: Change


@dataclass(frozen=True, slots=True)
class Variant:
    """A kind with its strength.

    Attributes:
        kind: a key of `KINDS`.
        strength: in the kind's unit; 0 for one without.
    """

    kind: str
    strength: float = 0.0

    @property
    def text(self) -> str:
        """Its text form: "face-px=32", "gray"."""
        return f"{self.kind}={self.strength:g}" if KINDS[self.kind].unit else self.kind

    def apply(
        self, image_bgr: Image, frame: FaceFrame, name: str, seed: int
    ) -> tuple[Image, FaceFrame]:
        """Return the changed picture, of the same size, and the frame in it.

        Args:
            image_bgr: uint8 (height, width, 3); is not modified.
            frame: of the face in it.
            name: of the picture; with `seed` it determines all random numbers.
            seed: from 0.
        """
        drawn = hashlib.sha256(f"{seed}|{self.kind}|{name}".encode()).digest()
        return KINDS[self.kind].change(image_bgr, frame, self.strength, drawn[0] / 256)


def parse_variant(text: str) -> Variant:
    """Read a variant: ``KIND`` or ``KIND=STRENGTH``.

    Raises:
        UsageError: the kind is unknown, or the strength is out of range.

    >>> parse_variant("jpeg=10"), parse_variant("gray").text
    (Variant(kind='jpeg', strength=10.0), 'gray')
    """
    name, equals, number = text.strip().partition("=")
    if name not in KINDS:
        raise UsageError(f"unknown variant {name!r}: {suggestion(name, KINDS)}")
    kind = KINDS[name]
    strength = number_in(number) if equals else 0.0
    fits = kind.low <= strength <= kind.high  # false for NaN too
    fits = fits and (name not in _WHOLE or strength.is_integer())
    if bool(equals) != bool(kind.unit) or not (fits or not kind.unit):
        wanted = (
            f"{name}=STRENGTH, {kind.low:g} to {kind.high:g} {kind.unit}" if kind.unit else name
        )
        whole = ", an integer" if name in _WHOLE else ""
        raise UsageError(f"variant {text!r}: expected {wanted}{whole}")
    return Variant(name, strength)


def _same(image_bgr: Image, frame: FaceFrame, _: float, __: float) -> tuple[Image, FaceFrame]:
    return image_bgr, frame


def _face_px(image_bgr: Image, frame: FaceFrame, px: float, _: float) -> tuple[Image, FaceFrame]:
    """Shrink by area averaging and enlarge bilinearly; a smaller face is unchanged."""
    height, width = image_bgr.shape[:2]
    factor = px / frame.height
    if factor >= 1:
        return image_bgr, frame
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    shrunk = cv2.resize(image_bgr, small, interpolation=cv2.INTER_AREA)
    grown = cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown, np.uint8), frame


def _blur(image_bgr: Image, frame: FaceFrame, percent: float, _: float) -> tuple[Image, FaceFrame]:
    sigma = max(percent / 100 * frame.height, 1e-3)
    return np.asarray(cv2.GaussianBlur(image_bgr, (0, 0), sigma), np.uint8), frame


def _gray(image_bgr: Image, frame: FaceFrame, _: float, __: float) -> tuple[Image, FaceFrame]:
    gray = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), np.uint8), frame


def _jpeg(image_bgr: Image, frame: FaceFrame, quality: float, _: float) -> tuple[Image, FaceFrame]:
    written, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    if not written:
        raise ValueError(f"a picture of {image_bgr.shape[:2]} pixels can't be written as JPEG")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8), frame


def _light(image_bgr: Image, frame: FaceFrame, percent: float, _: float) -> tuple[Image, FaceFrame]:
    darker = np.rint(image_bgr.astype(np.float32) * (percent / 100))
    return darker.astype(np.uint8), frame


def _roll(image_bgr: Image, frame: FaceFrame, degrees: float, _: float) -> tuple[Image, FaceFrame]:
    """Rotate the picture and the detected face about the frame's centre."""
    height, width = image_bgr.shape[:2]
    # OpenCV's angles are counter-clockwise; ours are clockwise, like `FaceFrame.roll_rad`.
    matrix = cv2.getRotationMatrix2D(frame.center_xy, -degrees, 1.0)
    turned = cv2.warpAffine(
        image_bgr, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )

    def moved(point: Point) -> Point:
        x, y = (matrix @ np.array([*point, 1.0])).tolist()
        return (x, y)

    box = frame.box_xyxy
    if box is not None:
        left, top, right, bottom = box
        corners = [moved((x, y)) for x in (left, right) for y in (top, bottom)]
        xs, ys = zip(*corners, strict=True)
        # A detector's box stays upright and about as large, around the centre of the rotated one.
        x, y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
        box = _box_about((x, y), right - left, bottom - top)
    # Without landmarks the roll of a face is unknown: it is upright, as before.
    lean = frame.roll_rad + (math.radians(degrees) if frame.points_xy else 0.0)
    new = replace(
        frame,
        roll_rad=lean,
        points_xy=tuple(map(moved, frame.points_xy)),
        box_xyxy=box,
    )
    return np.asarray(turned, np.uint8), new


def _box_about(center_xy: Point, width: float, height: float) -> Box:
    x, y = center_xy
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _shift(
    image_bgr: Image, frame: FaceFrame, percent: float, drawn: float
) -> tuple[Image, FaceFrame]:
    """Move the frame by a fraction of its width and height, each in a random direction."""
    across, down = (1 if int(drawn * 256) >> bit & 1 else -1 for bit in (0, 1))
    dx = across * percent / 100 * frame.height * FRAME_ASPECT
    dy = down * percent / 100 * frame.height

    def moved(point: Point) -> Point:
        return (point[0] + dx, point[1] + dy)

    box = frame.box_xyxy
    if box is not None:
        box = (*moved((box[0], box[1])), *moved((box[2], box[3])))
    new = replace(
        frame,
        center_xy=moved(frame.center_xy),
        points_xy=tuple(map(moved, frame.points_xy)),
        box_xyxy=box,
    )
    return image_bgr, new


def _cover(region: str) -> Change:
    def change(image_bgr: Image, frame: FaceFrame, _: float, __: float) -> tuple[Image, FaceFrame]:
        patch = REGIONS[region](frame, image_bgr.shape[:2])
        covered = image_bgr.copy()
        cv2.fillConvexPoly(covered, _corners(patch), (COVER_GRAY,) * 3)
        return covered, frame

    return change


def _corners(patch: Patch) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    along = np.array([math.cos(patch.roll_rad), math.sin(patch.roll_rad)]) * patch.width / 2
    down = np.array([-math.sin(patch.roll_rad), math.cos(patch.roll_rad)]) * patch.height / 2
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    corners = [np.asarray(patch.center_xy) + x * along + y * down for x, y in signs]
    return np.rint(np.stack(corners)).astype(np.int32)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "untouched": Kind("the original picture", "", 0, 0, _same),
        "face-px": Kind("detail reduced to that of a face of this height", "px", 4, 1000, _face_px),
        "blur": Kind("blurred; sigma in percent of the face's height", "%", 0.1, 20, _blur),
        "gray": Kind("without colour", "", 0, 0, _gray),
        "jpeg": Kind("compressed as JPEG of this quality", "quality", 1, 100, _jpeg),
        "light": Kind("pixel values multiplied by this percentage", "%", 1, 100, _light),
        "roll": Kind(
            "rotated clockwise about the face, together with the detected landmarks",
            "degrees",
            -180,
            180,
            _roll,
        ),
        "shift": Kind(
            "box and landmarks shifted by this percentage of the face's width and height, each "
            "in a random direction",
            "%",
            0,
            50,
            _shift,
        ),
        "cover-eyes": Kind("the eyes behind a gray bar", "", 0, 0, _cover("eyes")),
        "cover-mouth": Kind("the mouth behind a gray bar", "", 0, 0, _cover("mouth")),
    }
)
"""All kinds by name."""
