"""How each detector's box lies to the canonical face frame.

Prints, per detector, the medians that its `box_to_frame` holds, and how well the frames that come
from its boxes agree with the reference: the frame of yolov8-face's landmarks.  Detectors are
measured on FG-NET, the layout of `aligned` on UTKFace chips.

    python benchmarks/frames.py --shared ../shared
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agebench.detectors.aligned import Aligned
from agebench.detectors.haar import Haar
from agebench.detectors.yoloface_500k import YoloFace500k
from agebench.detectors.yolov8_face import YoloV8Face
from agebench.detectors.yunet import YuNet
from agebench.protocols import BoxToFrame, FaceDetector
from agebench.types import Box, Face, FaceFrame, Image
from agebench.vision.frames import (
    box_iou,
    five_points,
    frame_box,
    frame_from_box,
    frame_from_points,
)
from agebench.vision.images import read_image

HEADER = (
    f"{'':26} {'measured median':^26}   {'in the code':^26} {'IoU with the reference':>22}\n"
    f"{'detector':17} {'n':>4} {'none':>4} {'dx':>8} {'dy':>8} {'height':>8}   "
    f"{'dx':>8} {'dy':>8} {'height':>8} {'median':>11} {'under 0.5':>10}"
)

CHIPS = 500
SEED = 0


@dataclass(frozen=True)
class Relation:
    """Boxes, the reference frames they should lead to, and how many had none to compare."""

    boxes: list[Box]
    frames: list[FaceFrame]
    missed: int

    def fitted(self) -> BoxToFrame:
        """Return the medians of offset (in box widths and heights) and height (box heights)."""
        boxes = np.array(self.boxes)
        centers = np.array([frame.center_xy for frame in self.frames])
        heights = np.array([frame.height for frame in self.frames])
        sizes = boxes[:, 2:] - boxes[:, :2]
        offsets = (centers - (boxes[:, :2] + boxes[:, 2:]) / 2) / sizes
        dx, dy = np.median(offsets, axis=0)
        return BoxToFrame(float(dx), float(dy), float(np.median(heights / sizes[:, 1])))

    def overlaps(self, detector: FaceDetector, relation: BoxToFrame) -> list[float]:
        """Return the IoU of the frame from each box with its reference."""
        spec = replace(detector.spec, box_to_frame=relation)
        pairs = zip(self.boxes, self.frames, strict=True)
        return [
            box_iou(frame_box(frame_from_box(box, spec)), frame_box(frame)) for box, frame in pairs
        ]


def largest(faces: Sequence[Face]) -> Face | None:
    """Return the face of the largest box, or None."""
    return max(faces, key=lambda face: face.area, default=None)


def reference_frame(face: Face | None) -> FaceFrame | None:
    """Return the frame of the face's landmarks, or None."""
    points = None if face is None else five_points(face)
    return None if points is None else frame_from_points(points)


def relate(
    images: Iterable[Image], detector: FaceDetector, reference: Callable[[int], FaceFrame | None]
) -> Relation:
    """Pair the detector's largest face with the reference, picture by picture.

    A box that does not hold the centre of the reference is another face, or none.
    """
    boxes, frames, missed = [], [], 0
    for index, image in enumerate(images):
        frame, face = reference(index), largest(detector.detect(image))
        if frame is None or face is None or not _holds(face.box_xyxy, frame):
            missed += 1
            continue
        boxes.append(face.box_xyxy)
        frames.append(frame)
    return Relation(boxes, frames, missed)


def _holds(box: Box, frame: FaceFrame) -> bool:
    x, y = frame.center_xy
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def report(detector: FaceDetector, relation: Relation) -> str:
    """Return one row of the table."""
    fitted, held = relation.fitted(), detector.spec.box_to_frame
    iou = np.array(relation.overlaps(detector, held))
    name = f"{detector.spec.name} {detector.spec.settings.get('version', '')}"
    return (
        f"{name:17} {len(iou):4} {relation.missed:4} "
        f"{fitted.dx:+8.3f} {fitted.dy:+8.3f} {fitted.height:8.3f}   "
        f"{held.dx:+8.3f} {held.dy:+8.3f} {held.height:8.3f} "
        f"{np.median(iou):11.3f} {(iou < 0.5).mean():10.1%}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--shared", type=Path, required=True, help="holds data/ and pretrained/")
    shared: Path = parser.parse_args().shared
    os.environ.setdefault("AGEBENCH_MIRROR", str(shared / "pretrained"))
    print(HEADER)
    judge = YoloV8Face(runtime="onnxruntime")
    faces = sorted((shared / "data" / "fgnet" / "images").iterdir())
    images = [read_image(path) for path in faces]
    references = [reference_frame(largest(judge.detect(image))) for image in images]
    for detector in (judge, YoloFace500k(), YoloFace500k(version="v1"), YuNet(), Haar()):
        print(report(detector, relate(images, detector, references.__getitem__)))
    chips = sorted((shared / "data" / "utkface").iterdir())
    chosen = [read_image(path) for path in random.Random(SEED).sample(chips, CHIPS)]
    chip_references = [reference_frame(largest(judge.detect(chip))) for chip in chosen]
    print(report(Aligned(), relate(chosen, Aligned(), chip_references.__getitem__)))


if __name__ == "__main__":
    main()
