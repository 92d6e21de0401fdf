"""Draw the regions onto a composite of many aligned chips, which shows no one person.

python docs/draw_regions.py UTKFACE docs/images/regions.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from agebench import load_dataset, load_detector
from agebench.types import Image
from agebench.util.files import write_whole
from agebench.vision.frames import canonical_frame, frame_points
from agebench.vision.images import encode_png, read_image
from agebench.vision.opencv import cv2
from agebench.vision.regions import REGIONS

FACES = 600
ZOOM = 2
BORDER_PX = 40
COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0))
"""Okabe and Ito's colours for the colour-blind, R, G, B."""

SHOWN = ("face", "eyes", "eye_left", "eye_right", "mouth")


def composite(root: Path) -> Image:
    """Average `FACES` chips spread over the data set."""
    samples = load_dataset("utkface", root).samples
    chosen = samples[:: max(1, len(samples) // FACES)]
    total = np.zeros((200, 200, 3))
    for sample in chosen:
        total += read_image(sample.path)
    mean: Image = np.clip(np.rint(total / len(chosen)), 0, 255).astype(np.uint8)
    return mean


def _label(canvas: Any, name: str, corners: Any, colour: tuple[int, int, int]) -> None:
    """Write a name below its rectangle's top edge, on white so that it can be read."""
    row = 1 if name in ("eye_left", "eye_right") else 0
    place = (int(corners[:, 0].min()) + 6, int(corners[:, 1].min()) + 16 + 18 * row)
    for shade, thickness in (((255, 255, 255), 4), (colour, 1)):
        cv2.putText(
            canvas, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, shade, thickness, cv2.LINE_AA
        )


def draw(chip: Image) -> Image:
    """Return the chip, enlarged and framed, with the regions' outlines and names."""
    detector = load_detector("aligned")
    frame = canonical_frame(detector.detect(chip)[0], detector.spec)
    enlarged = cv2.resize(chip, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
    border = BORDER_PX * ZOOM
    canvas = cv2.copyMakeBorder(
        enlarged, border, border, border, border, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )
    for name, (red, green, blue) in zip(SHOWN, COLOURS, strict=True):
        patch = REGIONS[name](frame, (chip.shape[0], chip.shape[1]))
        box = (patch.center_xy, (patch.width, patch.height), np.degrees(patch.roll_rad))
        corners = (cv2.boxPoints(box) * ZOOM + border).astype(np.int32)
        cv2.polylines(canvas, [corners], True, (blue, green, red), 2, cv2.LINE_AA)
        _label(canvas, name, corners, (blue, green, red))
    for x, y in frame_points(frame):
        place = (round(x * ZOOM + border), round(y * ZOOM + border))
        cv2.circle(canvas, place, 4, (255, 255, 255), -1, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("utkface", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    write_whole(arguments.out, encode_png(draw(composite(arguments.utkface))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
