"""Annotated pictures: box, landmarks, age and interval, legible at any size of picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from agebench.errors import ImageError, inert
from agebench.prediction.labels import place_labels
from agebench.prediction.records import PredictedFace
from agebench.types import Box, Image
from agebench.util.files import write_whole

LEAST_LONG_SIDE = 480
LEAST_SHORT_SIDE = 160
"""Smaller pictures are enlarged before drawing: a label needs some 70 pixels."""

MOST_ENLARGED = 4000
"""Longest side after enlarging."""

MOST_PANELS_WIDTH = 16_000
"""Pictures side by side are shrunk to this many pixels; JPEG is limited to 65,535."""

LEAST_TEXT_PX = 8
LEAST_CROWDED_PX = 11

CROWDED = 0.25
"""If labels would cover a larger fraction than this of the area of the faces, it is a crowd."""

CROWD_FACE_PX = 72
"""A crowd is enlarged until half of its faces have this height, if `MOST_ENLARGED` allows it."""

Colour: TypeAlias = tuple[int, int, int]

COLOURS: tuple[Colour, ...] = (
    (255, 196, 0),
    (64, 220, 255),
    (120, 255, 120),
    (255, 130, 200),
    (255, 150, 70),
    (170, 160, 255),
    (240, 240, 100),
    (110, 255, 220),
)
_INK = (0, 0, 0)


@lru_cache(maxsize=64)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def _text_px(face_height: float, longest: int, *, crowded: bool) -> int:
    """Return the font size for a face: proportional to it, but legible."""
    if crowded:  # as large as the faces, for readers who look closely
        return round(max(LEAST_CROWDED_PX, face_height * 0.2))
    least = max(12.0, longest / 130)
    return round(min(max(face_height * 0.15, least), max(least, longest / 30)))


def _label_size(text: str, text_px: int) -> tuple[float, float]:
    left, _, right, _ = _font(text_px).getbbox(text)
    pad = max(2, text_px // 5)
    return (math.ceil(right - left) + 2 * pad, math.ceil(text_px * 1.15) + 2 * pad)


def enlargement(size_hw: tuple[int, int]) -> int:
    """Return the integer by which a picture is enlarged before drawing.

    >>> enlargement((64, 64)), enlargement((1080, 1920))
    (8, 1)
    """
    short, long = min(size_hw), max(size_hw)
    wanted = math.ceil(max(LEAST_LONG_SIDE / long, LEAST_SHORT_SIDE / short))
    return max(1, min(wanted, MOST_ENLARGED // long))


def draw_faces(
    image_bgr: Image, faces: Sequence[PredictedFace], estimator: str, *, moving: bool = False
) -> Image:
    """Return a copy of a picture with each face's box, landmarks and age by one estimator.

    Args:
        image_bgr: uint8 (height, width, 3).
        faces: that were found in it.
        estimator: whose ages are written.
        moving: a frame of a video: all frames are enlarged equally.

    Returns:
        uint8 of the same shape; small pictures and crowds are enlarged.
    """
    factor = enlargement((image_bgr.shape[0], image_bgr.shape[1]))
    crowded = not moving and _is_crowd(faces, estimator, max(image_bgr.shape[:2]))
    if crowded:
        middle = float(np.median([_height(face) for face in faces]))
        most = max(1, MOST_ENLARGED // max(image_bgr.shape[:2]))
        factor = max(factor, min(most, math.ceil(CROWD_FACE_PX / middle)))
    height, width = (side * factor for side in image_bgr.shape[:2])
    canvas = PillowImage.fromarray(np.ascontiguousarray(image_bgr[:, :, ::-1]))
    if factor > 1:
        canvas = canvas.resize((width, height), PillowImage.Resampling.BICUBIC)
    pen = ImageDraw.Draw(canvas)
    # The outer edges of a box's pixels, on the enlarged picture.
    boxes = [_scaled(face.face.box_xyxy, factor, (width, height)) for face in faces]
    colours = _colours(faces, boxes)
    for face, box, colour in zip(faces, boxes, colours, strict=True):
        _draw_box(pen, face, box, colour, factor, max(height, width))
    sizes_px = [_text_px(box[3] - box[1], max(width, height), crowded=crowded) for box in boxes]
    _draw_labels(pen, colours, boxes, [_text(face, estimator) for face in faces], sizes_px)
    return np.ascontiguousarray(np.asarray(canvas)[:, :, ::-1])


def _height(face: PredictedFace) -> float:
    return face.face.box_xyxy[3] - face.face.box_xyxy[1]


def _is_crowd(faces: Sequence[PredictedFace], estimator: str, longest: int) -> bool:
    if len(faces) < 10:
        return False
    boxes = np.asarray([face.face.box_xyxy for face in faces])
    where = (boxes[:, 2:].max(axis=0) - boxes[:, :2].min(axis=0)).prod()
    labels = sum(
        math.prod(
            _label_size(_text(face, estimator), _text_px(_height(face), longest, crowded=False))
        )
        for face in faces
    )
    return bool(labels > CROWDED * where)


def _colours(faces: Sequence[PredictedFace], boxes: Sequence[Box]) -> list[Colour]:
    """Return a colour for each face: a person's own in a video, else one that none nearby has."""
    edges = np.asarray(boxes, np.float64).reshape(-1, 4)
    middles = (edges[:, :2] + edges[:, 2:]) / 2
    numbers = np.zeros(len(faces), np.intp)
    for index, face in enumerate(faces):
        away = np.full(len(COLOURS), np.inf)  # from the nearest face of each colour
        np.minimum.at(away, numbers[:index], np.hypot(*(middles[:index] - middles[index]).T))
        numbers[index] = np.argmax(away) if face.track is None else face.track % len(COLOURS)
    return [COLOURS[number] for number in numbers]


def _scaled(box_xyxy: Box, factor: int, canvas_wh: tuple[int, int]) -> Box:
    left, top, right, bottom = ((edge + 0.5) * factor for edge in box_xyxy)
    width, height = canvas_wh
    # A part of the box is drawn even if all of it is outside.
    left, top = min(max(left, 0), width - 2), min(max(top, 0), height - 2)
    return (left, top, min(max(right, left + 1), width - 1), min(max(bottom, top + 1), height - 1))


def _draw_box(
    pen: ImageDraw.ImageDraw,
    face: PredictedFace,
    box: Box,
    colour: Colour,
    factor: int,
    longest: int,
) -> None:
    smaller = min(box[2] - box[0], box[3] - box[1])
    line = max(1, min(round(longest / 500), round(smaller / 12)))
    if smaller > 4 * line + 4:
        pen.rectangle(box, outline=_INK, width=line + 2)
    inner = (box[0] + 1, box[1] + 1, max(box[2] - 1, box[0] + 1), max(box[3] - 1, box[1] + 1))
    pen.rectangle(inner, outline=colour, width=line)
    radius = smaller / 45
    if radius >= 0.8:
        for x, y in face.face.landmarks_xy:
            at_x, at_y = (x + 0.5) * factor, (y + 0.5) * factor
            dot = (at_x - radius, at_y - radius, at_x + radius, at_y + radius)
            pen.ellipse(dot, fill=colour, outline=_INK)


def _draw_labels(
    pen: ImageDraw.ImageDraw,
    colours: Sequence[Colour],
    boxes: Sequence[Box],
    texts: Sequence[str],
    sizes_px: Sequence[int],
) -> None:
    canvas_wh = (int(pen.im.size[0]), int(pen.im.size[1]))
    places = _fit(texts, sizes_px, boxes, canvas_wh)
    for box, (place, _), colour in zip(boxes, places, colours, strict=True):
        if place is not None:
            _draw_leader(pen, box, place, colour)
    for text, (place, text_px), colour in zip(texts, places, colours, strict=True):
        if place is None:
            continue
        edge = (place[0], place[1], place[2] - 1, place[3] - 1)
        pen.rectangle(edge, fill=_INK, outline=colour)
        middle = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
        pen.text(middle, text, fill=colour, font=_font(text_px), anchor="mm")


def _text(face: PredictedFace, estimator: str) -> str:
    number = "" if face.track is None else f"#{face.track}: "
    return number + face.ages[estimator].text


def _fit(
    texts: Sequence[str],
    sizes_px: Sequence[int],
    boxes: Sequence[Box],
    canvas_wh: tuple[int, int],
) -> list[tuple[Box | None, int]]:
    """Place all labels, smaller if there is no space for one; None is not labelled."""
    shrunk = list(sizes_px)
    while True:
        label_sizes = [_label_size(text, px) for text, px in zip(texts, shrunk, strict=True)]
        places = place_labels(boxes, label_sizes, canvas_wh)
        homeless = any(place is None for place in places)
        if not homeless or max(shrunk, default=0) <= LEAST_TEXT_PX:
            return list(zip(places, shrunk, strict=True))
        shrunk = [max(LEAST_TEXT_PX, px * 4 // 5) for px in shrunk]


def _draw_leader(pen: ImageDraw.ImageDraw, box: Box, place: Box, colour: Colour) -> None:
    """Connect a label that had to be moved away with its box."""
    x = min(max((place[0] + place[2]) / 2, box[0]), box[2])
    y = min(max((place[1] + place[3]) / 2, box[1]), box[3])
    near_x, near_y = min(max(x, place[0]), place[2]), min(max(y, place[1]), place[3])
    if math.hypot(near_x - x, near_y - y) > 2:
        pen.line((x, y, near_x, near_y), fill=_INK, width=3)
        pen.line((x, y, near_x, near_y), fill=colour, width=1)


def draw_side_by_side(
    image_bgr: Image,
    faces: Sequence[PredictedFace],
    estimators: Sequence[str],
    *,
    moving: bool = False,
) -> Image:
    """Return one annotated copy of a picture per estimator, side by side with their names.

    One estimator alone gets no name: see `draw_faces`.
    """
    panels = [draw_faces(image_bgr, faces, name, moving=moving) for name in estimators]
    if len(panels) == 1:
        return panels[0]
    most = max(1, MOST_PANELS_WIDTH // len(panels))
    titled = []
    for name, panel in zip(estimators, panels, strict=True):
        picture = PillowImage.fromarray(np.ascontiguousarray(panel[:, :, ::-1]))
        if picture.width > most:
            height = max(1, round(picture.height * most / picture.width))
            picture = picture.resize((most, height), PillowImage.Resampling.BOX)
        titled.append(_titled(picture, name))
    width = sum(picture.width for picture in titled) + 4 * (len(titled) - 1)
    sheet = PillowImage.new("RGB", (width, titled[0].height), (255, 255, 255))
    left = 0
    for picture in titled:
        sheet.paste(picture, (left, 0))
        left += picture.width + 4
    return np.ascontiguousarray(np.asarray(sheet)[:, :, ::-1])


def _titled(picture: PillowImage.Image, name: str) -> PillowImage.Image:
    text_px = max(14, picture.width // 40)
    text = inert(name)
    while text_px > LEAST_TEXT_PX and _label_size(text, text_px)[0] > picture.width:
        text_px -= 1
    strip = round(max(14, picture.width // 40) * 1.8)
    whole = PillowImage.new("RGB", (picture.width, picture.height + strip), _INK)
    whole.paste(picture, (0, strip))
    pen = ImageDraw.Draw(whole)
    at = (picture.width / 2, strip / 2)
    pen.text(at, text, fill=(255, 255, 255), font=_font(text_px), anchor="mm")
    return whole


def save_picture(image_bgr: Image, path: Path) -> None:
    """Write a picture completely or not at all, in the format of its suffix (see `FORMATS`).

    Raises:
        ImageError: it can't be encoded so.
        AgebenchError: it can't be written.
    """
    content = io.BytesIO()
    picture = PillowImage.fromarray(np.ascontiguousarray(image_bgr[:, :, ::-1]))
    kind = FORMATS[path.suffix.lower()]
    try:
        if kind in ("JPEG", "WEBP"):
            picture.save(content, kind, quality=92)
        else:
            picture.save(content, kind)
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: the annotated picture can't be encoded: {error}") from error
    write_whole(path, content.getvalue())


FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Formats of annotated pictures by suffix."""
