"""Draw the named crops of spec files onto a bundled composite, which shows no one person.

python docs/draw_crops.py docs/images/crops.jpg
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agebench import load_dataset, load_detector
from agebench.estimators.crop_names import CROPS
from agebench.estimators.spec_schema import Crop
from agebench.types import CropSpec, FaceFrame, Image
from agebench.util.files import write_whole
from agebench.vision.crops import cut_crops, view_patch
from agebench.vision.frames import canonical_frame
from agebench.vision.images import read_image
from agebench.vision.opencv import cv2

COMPOSITE = "composite_female_38_7.jpg"
BORDER_PX = 150
"""Grey around the composite, which ends close to the face: wide crops reach into it."""

TILE_PX = 144
COLUMNS = 4
TITLE_PX = 34
COLOURS = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (86, 180, 233),
    (80, 80, 80),
    (160, 120, 0),
)
"""Okabe and Ito's colours for the colour-blind and two more, R, G, B."""


def _text(canvas: Any, text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)


def outlines(picture: Image, frame: FaceFrame, names: list[str]) -> Image:
    """Return the picture with the crops' outlines."""
    canvas: Any = picture.copy()
    for name, (red, green, blue) in zip(names, COLOURS, strict=True):
        view = Crop(size=(TILE_PX, TILE_PX), name=name).view()
        patch = view_patch(view, frame, picture.shape[:2])
        box = (patch.center_xy, (patch.width, patch.height), np.degrees(patch.roll_rad))
        corners = cv2.boxPoints(box)
        cv2.polylines(canvas, [corners.astype(np.int32)], True, (blue, green, red), 2, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)


def tile(picture: Image, frame: FaceFrame, name: str, colour: tuple[int, int, int]) -> Image:
    """Return what a network would see of one crop, as high as a tile, with its name and aspect."""
    square = Crop(size=(TILE_PX, TILE_PX), name=name).view()
    patch = view_patch(square, frame, picture.shape[:2])
    aspect = patch.width / patch.height
    view = Crop(size=(TILE_PX, round(TILE_PX * aspect)), name=name).view()
    crop = cut_crops(picture, [frame], CropSpec({"crop": view})).views["crop"][0]
    canvas = np.full((TILE_PX + TITLE_PX, TILE_PX + 6, 3), 255, np.uint8)
    canvas[TITLE_PX:, : crop.shape[1]] = crop[:, : TILE_PX + 6]
    red, green, blue = colour
    _text(canvas, name, (2, 13), (blue, green, red))
    _text(canvas, f"width / height {aspect:.2f}", (2, 28), (90, 90, 90))
    return canvas


def draw() -> Image:
    """Return the sheet."""
    (sample,) = (one for one in load_dataset("sample").samples if one.name == COMPOSITE)
    chip = read_image(sample.path)
    detector = load_detector("aligned")
    frame = canonical_frame(detector.detect(chip)[0], detector.spec)
    x, y = frame.center_xy
    frame = replace(frame, center_xy=(x + BORDER_PX, y + BORDER_PX))
    sides = (BORDER_PX,) * 4
    picture: Image = np.asarray(
        cv2.copyMakeBorder(chip, *sides, cv2.BORDER_CONSTANT, value=(224, 224, 224)), np.uint8
    )
    names = [name for name in CROPS if name != "original"]
    tiles = [
        tile(picture, frame, name, colour) for name, colour in zip(names, COLOURS, strict=True)
    ]
    rows = [
        np.concatenate(tiles[start : start + COLUMNS], axis=1)
        for start in range(0, len(tiles), COLUMNS)
    ]
    right = np.concatenate(rows, axis=0)
    left = outlines(picture, frame, names)
    high = max(len(left), len(right))
    parts = [np.full((high, side.shape[1] + 8, 3), 255, np.uint8) for side in (left, right)]
    for part, side in zip(parts, (left, right), strict=True):
        part[: len(side), : side.shape[1]] = side
    return np.concatenate(parts, axis=1)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    done, encoded = cv2.imencode(".jpg", draw(), [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not done:
        raise SystemExit("the sheet can't be written as JPEG")
    write_whole(arguments.out, encoded.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
