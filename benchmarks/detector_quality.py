r"""Recall and precision of every face detector on pictures of WIDER FACE.

    python benchmarks/detector_quality.py --root ../shared/data/widerface \
        --mirror ../shared/pretrained

Detections are matched to the true boxes greedily, best score first, at an IoU of at least 0.5.  A
true box is counted if it is at least as tall as the threshold and not flagged invalid.  A
detection matched to a box that is not counted is neither true nor false; one that matches nothing
is false if it is at least as tall as the threshold itself.  No times are taken: `agebench compare`
has those of the detector, with what else went on.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from agebench.detectors.common import overlaps
from agebench.protocols import FaceDetector
from agebench.registry.plugins import load_detector
from agebench.runtimes.onnx_runtime import import_onnxruntime
from agebench.types import Face, Floats, Image, plain
from agebench.util.files import write_whole
from agebench.vision.images import encode_png, read_image
from agebench.vision.opencv import cv2

DETECTORS = (
    "yolov8-face",
    "yolov8-face@onnxruntime",
    "yolov8-face@onnxruntime pad=0",
    "yolov8-face@onnxruntime pad=0.5",
    "yoloface-500k",
    "yoloface-500k version=v1",
    "yunet",
    "opencv-ssd",
    "opencv-ssd pad=0",
    "haar",
)
HEIGHTS_PX = (20, 50, 100)
IOU = 0.5
COLOURS = ((0, 255, 0), (0, 128, 255))


@dataclass(frozen=True)
class Truth:
    """The true faces of a picture: boxes (n, 4) and which of them are flagged invalid (n,)."""

    boxes_xyxy: Floats
    invalid: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True)
class Counts:
    """Outcome over pictures: counted faces, how many of them were found, and false alarms."""

    faces: int = 0
    found: int = 0
    false_alarms: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.faces + other.faces,
            self.found + other.found,
            self.false_alarms + other.false_alarms,
        )

    @property
    def recall(self) -> float:
        """Fraction of the counted faces that were found."""
        return self.found / self.faces if self.faces else 0.0

    @property
    def precision(self) -> float:
        """Fraction of found faces among found ones and false alarms."""
        total = self.found + self.false_alarms
        return self.found / total if total else 0.0


def match(boxes_xyxy: Floats, truth: Truth, least_height: float) -> Counts:
    """Match detections (n, 4), best score first, to the true boxes of one picture.

    Each detection takes the free true box that it overlaps most, if by an IoU of at least `IOU`;
    a box that is counted goes before one that is not.
    """
    heights = truth.boxes_xyxy[:, 3] - truth.boxes_xyxy[:, 1]
    counted = (heights >= least_height) & ~truth.invalid
    iou = overlaps(boxes_xyxy, truth.boxes_xyxy)
    free = np.ones(len(counted), np.bool_)
    found = false_alarms = 0
    for box, row in zip(boxes_xyxy, iou, strict=True):
        near = (row >= IOU) & free
        near = near & counted if (near & counted).any() else near
        if near.any():
            best = int(np.argmax(np.where(near, row, -1.0)))
            # Boxes that are not counted stay free: what lies on them is ignored, however often.
            free[best] = not counted[best]
            found += int(counted[best])
        else:
            false_alarms += int(box[3] - box[1] >= least_height)
    return Counts(int(counted.sum()), found, false_alarms)


def read_truth(path: Path) -> dict[str, Truth]:
    """Read boxes.csv: image, x, y, w, h and the set's flags."""
    rows: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            x, y, width, height = (float(row[key]) for key in "xywh")
            # From the first pixel's edge to its centre.
            box = (x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5)
            rows[row["image"]].append((*box, float(row["invalid"])))
    tables = {name: np.array(values) for name, values in sorted(rows.items())}
    return {name: Truth(table[:, :4], table[:, 4] > 0) for name, table in tables.items()}


def boxes_of(faces: Sequence[Face]) -> Floats:
    """Return the boxes as (n, 4)."""
    return np.array([face.box_xyxy for face in faces], np.float64).reshape(-1, 4)


def measure(
    detector: FaceDetector, faces: Mapping[str, Sequence[Face]], truth: Mapping[str, Truth]
) -> dict[str, Any]:
    """Return one detector's figures."""
    quality = {}
    for height in HEIGHTS_PX:
        counts = [match(boxes_of(faces[name]), truth[name], height) for name in truth]
        total = sum(counts, Counts())
        quality[str(height)] = {
            **asdict(total),
            "recall": total.recall,
            "precision": total.precision,
        }
    spec = detector.spec
    return {
        "at_least_px": quality,
        "settings": plain(spec.settings),
        "runtime": plain(spec.runtime),
        "weights": plain(spec.weights),
    }


def versions() -> dict[str, str]:
    """Return what the answers depend on."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "onnxruntime": import_onnxruntime().__version__,
    }


def markdown(result: Mapping[str, Any]) -> str:
    """Return the figures as a table."""
    heights = "".join(f" recall {h} px | precision {h} px |" for h in HEIGHTS_PX)
    lines = [
        "# Face detectors",
        "",
        f"{result['pictures']} pictures of WIDER FACE's validation part, IoU {IOU:g}, faces at "
        f"least {', '.join(map(str, HEIGHTS_PX))} px tall "
        f"({', '.join(str(n) for n in result['faces'].values())} of them).",
        "Each detector at its own default threshold.",
        "",
        f"| detector | confidence |{heights}",
        "|---|---:|" + "---:|" * (2 * len(HEIGHTS_PX)),
    ]
    for name, figures in result["detectors"].items():
        cells = [
            f"{figures['at_least_px'][str(h)][key]:.3f}"
            for h in HEIGHTS_PX
            for key in ("recall", "precision")
        ]
        confidence = f"{figures['settings']['confidence']:g}"
        lines.append(f"| {' | '.join([name, confidence, *cells])} |")
    setup = ", ".join(f"{key} {value}" for key, value in result["versions"].items())
    return "\n".join([*lines, "", f"Measured with: {setup}.", "", f"    {result['command']}", ""])


def draw(
    folder: Path,
    images: Mapping[str, Image],
    faces: Mapping[str, Sequence[Face]],
    truth: Mapping[str, Truth],
) -> None:
    """Write pictures with found boxes and points in green and true boxes in orange."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture, image in images.items():
        canvas = image.copy()
        every = [*truth[picture].boxes_xyxy.tolist(), *(face.box_xyxy for face in faces[picture])]
        for index, box in enumerate(every):
            left, top, right, bottom = (round(value) for value in box)
            colour = COLOURS[index < len(truth[picture].boxes_xyxy)]
            cv2.rectangle(canvas, (left, top), (right, bottom), colour, 2)
        for face in faces[picture]:
            for x, y in face.landmarks_xy:
                cv2.circle(canvas, (round(x), round(y)), 2, (255, 0, 255), -1)
        write_whole(folder / f"{picture.replace('/', '_')}.png", encode_png(canvas))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="holds boxes.csv and images/")
    parser.add_argument("--mirror", type=Path, help="folder of published weights")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--draw", type=Path, help="write pictures with boxes into this folder")
    return parser.parse_args()


def main() -> None:
    """Measure, write the results, and print the table."""
    arguments = _arguments()
    if arguments.mirror is not None:
        os.environ["AGEBENCH_MIRROR"] = str(arguments.mirror)
    truth = read_truth(arguments.root / "boxes.csv")
    images = {name: read_image(arguments.root / "images" / name) for name in truth}
    detectors = {name: load_detector(name) for name in DETECTORS}
    faces: dict[str, dict[str, list[Face]]] = {name: {} for name in DETECTORS}
    for picture, image in track(images.items(), "Pictures"):
        for name, detector in detectors.items():
            faces[name][picture] = list(detector.detect(image))
    figures = {name: measure(each, faces[name], truth) for name, each in detectors.items()}
    first = figures[DETECTORS[0]]["at_least_px"]
    result = {
        "schema": 2,
        "command": "python benchmarks/detector_quality.py --root WIDERFACE --mirror WEIGHTS",
        "pictures": len(images),
        "faces": {height: counts["faces"] for height, counts in first.items()},
        "iou": IOU,
        "versions": versions(),
        "detectors": figures,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result) + "\n"
    (arguments.out / "detector_quality.json").write_text(text, encoding="utf-8")
    (arguments.out / "detector_quality.md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))
    if arguments.draw is not None:
        for name in DETECTORS:
            folder = arguments.draw / name.replace(" ", "_").replace("@", "_")
            draw(folder, images, faces[name], truth)


if __name__ == "__main__":
    main()
