"""Draw ages on a sheet of composites, as `agebench predict --draw` does, for README.md.

python docs/draw_predict.py docs/images/predict.jpg

The composites come with the package; each averages twelve faces and shows no one person.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from agebench import AgePredictor, load_dataset
from agebench.prediction.drawing import draw_side_by_side, save_picture
from agebench.types import Image
from agebench.vision.images import read_image
from agebench.vision.opencv import cv2

AGES = (4, 17, 26, 38, 52, 66, 74, 85)
CELL_HW = (290, 240)
COLUMNS = 4


def sheet() -> Image:
    """Return composites of about these ages in rows, uint8 (height, width, 3), B, G, R."""
    samples = load_dataset("sample").samples
    rows, columns = -(-len(AGES) // COLUMNS), COLUMNS
    canvas = np.full((rows * CELL_HW[0], columns * CELL_HW[1], 3), 235, np.uint8)
    for index, age in enumerate(AGES):
        nearest = min(samples, key=lambda item: abs((item.age_years or 0) - age))
        side = 170 + 10 * (index % 3)
        face = cv2.resize(read_image(nearest.path), (side, side), interpolation=cv2.INTER_AREA)
        top = index // COLUMNS * CELL_HW[0] + (CELL_HW[0] - side) // 2 + 30
        left = index % COLUMNS * CELL_HW[1] + (CELL_HW[1] - side) // 2
        canvas[top : top + side, left : left + side] = face
    return canvas


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    picture = sheet()
    predictor = AgePredictor(detector="yunet")
    answer = predictor.predict_image(picture)
    drawn = draw_side_by_side(picture, answer.faces, answer.estimators)
    save_picture(drawn, parser.parse_args().out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
