"""Draw what the network is shown by tutorials, and what else, on a composite that is nobody.

python docs/draw_tutorial_mistakes.py docs/images/tutorial-mistakes.jpg
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from agebench import load_detector, load_estimator
from agebench.metrics.age_classes import ADIENCE_CLASSES
from agebench.modelfiles.manifest import bundled_dir
from agebench.protocols import Estimator
from agebench.types import Crops, Face, Image
from agebench.util.files import write_whole
from agebench.vision.crops import cut_crops
from agebench.vision.frames import canonical_frame
from agebench.vision.images import read_image
from agebench.vision.opencv import cv2

PICTURE = "sample/composite_female_26_5.jpg"
SIDE = 227
GREEN, RED = (0, 128, 0), (0, 0, 204)
CANVAS = 1.5
"""Side of the drawn surroundings in sides of the picture."""


def titled(panel: Image, lines: tuple[str, ...]) -> Image:
    """Return the panel with lines of text below it."""
    strip = np.full((24 * len(lines) + 10, panel.shape[1], 3), 255, np.uint8)
    for number, line in enumerate(lines):
        place = (4, 20 + 24 * number)
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(strip, line, place, font, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([panel, strip])


def boxes(picture: Image, faces: list[Face], colour: tuple[int, int, int]) -> Image:
    """Return the picture and what lies right and below of it, with the boxes of faces."""
    side = round(picture.shape[0] * CANVAS)
    canvas = np.full((side, side, 3), 225, np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    for face in faces:
        left, top, right, bottom = (round(edge) for edge in face.box_xyxy)
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, 2, cv2.LINE_AA)
    return canvas


def likeliest(net: Estimator, shown: Image) -> str:
    """Return the class that the network gives a crop."""
    one = Crops(
        {"face": shown[None]}, {"face": np.ones(1, np.bool_)}, {"face": np.zeros(1, np.float64)}
    )
    shares = net.predict(one)[0].probabilities
    if shares is None:
        raise SystemExit("the network has no classes")
    best = int(np.argmax(shares))
    return f"{ADIENCE_CLASSES.labels[best]} ({shares[best]:.0%})"


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    picture = read_image(bundled_dir() / PICTURE)
    invented = list(load_detector("opencv-ssd pad=0").detect(picture))
    finder = load_detector("yolov8-face")
    found = list(finder.detect(picture))
    frame = canonical_frame(found[0], finder.spec)
    panels = [
        titled(boxes(picture, invented, RED), ("the tutorials' detector", "faces above 0.7")),
        titled(boxes(picture, found, GREEN), ("yolov8-face", "")),
    ]
    for title, options in (("20 px", ""), ("no margin", " margin=0"), ("40 %", " margin=0.4")):
        net = load_estimator(f"caffe-age-net{options}")
        shown = cut_crops(picture, [frame], net.spec.crop).views["face"][0]
        panels.append(titled(shown, (f"margin: {title}", likeliest(net, shown))))
        if not options:
            turned = np.ascontiguousarray(shown[..., ::-1])
            panels.append(titled(turned, ("RGB for BGR", likeliest(net, turned))))
    height = max(panel.shape[0] for panel in panels)
    gap = np.full((height, 12, 3), 255, np.uint8)
    row = [gap]
    for panel in panels:
        below = np.full((height - panel.shape[0], panel.shape[1], 3), 255, np.uint8)
        row += [np.concatenate([panel, below]), gap]
    done, encoded = cv2.imencode(
        ".jpg", np.concatenate(row, axis=1), [cv2.IMWRITE_JPEG_QUALITY, 88]
    )
    if not done:
        raise SystemExit("the picture can't be written as JPEG")
    write_whole(out, encoded.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
