"""How the boxes of each detector relate to the canonical face frame.

Prints, per detector, the medians for its `box_to_frame`, and how well the frames computed from its
boxes agree with the reference: the frame from yolov8-face's landmarks.  Detectors are measured on
FG-NET, the layout of `aligned` on UTKFace chips.  Then, for the two YOLO detectors, it prints the
effect of free space around the picture (`pad`) on faces that fill it: faces missed, and the
distance of the eye points from FG-NET's pupils, as a fraction of the distance between the pupils.

    python benchmarks/frames.py --shared ../shared
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from agebench.datasets.landmarks import read_pts
from agebench.detectors.aligned import Aligned
from agebench.detectors.haar import Haar
from agebench.detectors.opencv_ssd import OpenCvSsd
from agebench.detectors.yoloface_500k import YoloFace500k
from agebench.detectors.yolov8_face import YoloV8Face
from agebench.detectors.yunet import YuNet
from agebench.fitting.frames import Relation, paired, reference_frame
from agebench.protocols import FaceDetector
from agebench.registry.plugins import load_detector
from agebench.types import FaceFrame, Floats, Image
from agebench.util.foreign_code import found_faces
from agebench.vision.faces import chosen_face
from agebench.vision.frames import five_points
from agebench.vision.images import read_image

HEADER = (
    *("detector", "pictures", "no pair", "dx", "dy", "height"),
    *("dx in code", "dy in code", "height in code", "median IoU", "IoU under 0.5"),
)
PAD_HEADER = ("detector", "pad", "missed", "median eye error", "over 0.25")

PADS = ("0", "0.25", "0.5", "1", "auto")
PUPILS = [31, 36]
"""FG-NET's own order, counted from 0."""

CHIPS = 500
SEED = 0


def relate(
    images: Sequence[Image], detector: FaceDetector, references: Sequence[FaceFrame | None]
) -> Relation:
    """Pair the detector's largest face with the reference, picture by picture."""
    found = (chosen_face(found_faces(detector, image)) for image in images)
    return paired(zip(found, references, strict=True))


def report(detector: FaceDetector, relation: Relation) -> tuple[str, ...]:
    """Return one row of the table."""
    fitted, held = relation.fitted(), detector.spec.box_to_frame
    iou = np.array(relation.overlaps(detector, held))
    numbers = (value for each in (fitted, held) for value in (each.dx, each.dy, each.height))
    return (
        f"{detector.spec.name} {detector.spec.settings.get('version', '')}".strip(),
        str(len(iou)),
        str(relation.missed),
        *(f"{value:.3f}" for value in numbers),
        f"{np.median(iou):.3f}",
        f"{(iou < 0.5).mean():.1%}",
    )


def pad_row(
    name: str, pad: str, images: Sequence[Image], pupils: Sequence[Floats]
) -> tuple[str, ...]:
    """Return detector, pad, faces missed and eye error (median, fraction over 0.25)."""
    detector = load_detector(f"{name} pad={pad}")
    errors: list[float] = []
    found = [chosen_face(detector.detect(image)) for image in images]
    for face, true in zip(found, pupils, strict=True):
        points = None if face is None else five_points(face)
        if points is not None:
            eye_distance = np.linalg.norm(true[1] - true[0])
            errors += (np.linalg.norm(points[:2] - true, axis=1) / eye_distance).tolist()
    missed = sum(face is None for face in found)
    eyes = ("", "")
    if errors:
        eyes = (f"{np.median(errors):.3f}", f"{np.mean(np.array(errors) > 0.25):.1%}")
    return (name, pad, str(missed), *eyes)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--shared", type=Path, required=True, help="holds data/ and pretrained/")
    shared: Path = parser.parse_args().shared
    os.environ.setdefault("AGEBENCH_MIRROR", str(shared / "pretrained"))
    judge = YoloV8Face(runtime="onnxruntime")
    paths = sorted((shared / "data" / "fgnet" / "images").iterdir())
    images = [read_image(path) for path in paths]
    references = [reference_frame(chosen_face(judge.detect(image))) for image in images]
    detectors: list[FaceDetector] = [judge, YoloFace500k(), YoloFace500k(version="v1"), YuNet()]
    detectors += [OpenCvSsd(), Haar()]
    rows = [
        report(each, relate(images, each, references)) for each in track(detectors, "Detectors")
    ]
    every_chip = sorted((shared / "data" / "utkface").iterdir())
    chips = [read_image(path) for path in random.Random(SEED).sample(every_chip, CHIPS)]
    chip_references = [reference_frame(chosen_face(judge.detect(chip))) for chip in chips]
    rows.append(report(Aligned(), relate(chips, Aligned(), chip_references)))

    points = shared / "data" / "fgnet" / "points"
    pupils = [np.array(read_pts(points / f"{path.stem.lower()}.pts"))[PUPILS] for path in paths]
    names = ("yolov8-face@onnxruntime", "yoloface-500k", "yoloface-500k version=v1", "opencv-ssd")
    combinations = [(name, pad) for name in names for pad in PADS]
    pad_rows = [
        pad_row(name, pad, images, pupils) for name, pad in track(combinations, "Free space")
    ]
    text = "\n".join(
        [
            "# From boxes to the canonical frame",
            "",
            f"{len(images)} pictures of FG-NET; for aligned {CHIPS} UTKFace chips (seed {SEED}). "
            "Reference: the frame of yolov8-face's landmarks.",
            "",
            table(HEADER, rows),
            "",
            "# Free space around faces that fill the picture",
            "",
            table(PAD_HEADER, pad_rows),
            "",
            "    python benchmarks/frames.py --shared SHARED",
            "",
        ]
    )
    print(text)
    (Path(__file__).parent / "results" / "frames.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
