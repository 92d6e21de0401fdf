"""Draw every view of a few faces on one sheet, and measure how well regions agree.

    python benchmarks/regions.py --fgnet FGNET --utkface UTKFACE --sheets FOLDER --out FILE.json

The sheets show real faces: write them to a folder outside the repository.  Measured are:

- eye and mouth regions from the detector's landmarks against those from FG-NET's own points:
  intersection over union (IoU), median and fraction below 0.5;
- every view with each detector against yolov8-face: median IoU;
- MAE in years of hse-mobilenet with each detector, on the pictures where all found a face.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agebench import load_dataset, load_detector, load_estimator
from agebench.datasets.landmarks import read_pts
from agebench.harness.environment import describe_environment
from agebench.protocols import FaceDetector
from agebench.types import FGNET_68_POINTS, CropSpec, Face, FaceFrame, Image, Sample, ViewSpec
from agebench.util.files import write_whole
from agebench.vision.crops import cut_crops
from agebench.vision.faces import chosen_face
from agebench.vision.frames import canonical_frame, face_from_landmarks
from agebench.vision.images import encode_png, read_image
from agebench.vision.opencv import cv2
from agebench.vision.regions import REGIONS, Patch

DETECTORS = ("yolov8-face", "yunet", "yoloface-500k", "haar")
REFERENCE = "yolov8-face"
PARTS = ("eyes", "eye_left", "eye_right", "mouth")
TILE_PX = 100


def patch_iou(first: Patch, second: Patch) -> float:
    """Return the intersection over union of two rotated rectangles."""
    corners = [
        cv2.boxPoints((patch.center_xy, (patch.width, patch.height), np.degrees(patch.roll_rad)))
        for patch in (first, second)
    ]
    one, other = (part.astype(np.float32) for part in corners)
    inside, _ = cv2.intersectConvexConvex(one, other)
    whole = first.width * first.height + second.width * second.height - float(inside)
    return float(inside) / whole


def region_ious(
    first: Sequence[FaceFrame | None],
    second: Sequence[FaceFrame | None],
    images: Sequence[Image],
    region: str,
) -> list[float]:
    """Return the IoU of a region for each picture with a frame in both sequences."""
    return [
        patch_iou(*(REGIONS[region](frame, image.shape[:2]) for frame in (one, other)))
        for one, other, image in zip(first, second, images, strict=True)
        if one is not None and other is not None
    ]


def detect_all(detector: FaceDetector, images: Sequence[Image]) -> list[FaceFrame | None]:
    """Return the canonical frame of the largest face in each picture."""
    found = [detector.detect(image) for image in images]
    chosen = map(chosen_face, found)
    return [None if face is None else canonical_frame(face, detector.spec) for face in chosen]


def own_frames(samples: Sequence[Sample]) -> list[FaceFrame | None]:
    """Return the canonical frames computed from FG-NET's own points."""
    spec = load_detector("aligned").spec
    frames: list[FaceFrame | None] = []
    for sample in samples:
        face: Face | None = None
        if sample.landmarks_path is not None:
            face = face_from_landmarks(read_pts(sample.landmarks_path), FGNET_68_POINTS)
        frames.append(None if face is None else canonical_frame(face, spec))
    return frames


def by_proportion(frames: Sequence[FaceFrame | None]) -> list[FaceFrame | None]:
    """Return the frames without landmarks, so that regions are placed by proportion."""
    return [
        None if frame is None else FaceFrame(frame.center_xy, frame.height, frame.roll_rad)
        for frame in frames
    ]


def draw_sheet(
    images: Sequence[Image], frames: Sequence[FaceFrame | None], file: Path, rows: int = 24
) -> None:
    """Write a sheet with one row per face and one column per region."""
    spec = CropSpec(
        {
            name: ViewSpec(name, (TILE_PX, TILE_PX), align=name != "original", border="constant")
            for name in REGIONS
        }
    )
    lines = []
    step = max(1, len(images) // rows)
    for image, frame in list(zip(images, frames, strict=True))[::step][:rows]:
        if frame is None:
            lines.append(np.full((TILE_PX, TILE_PX * len(REGIONS), 3), 128, np.uint8))
            continue
        crops = cut_crops(image, [frame], spec)
        lines.append(np.hstack([crops.views[name][0] for name in REGIONS]))
    half = (len(lines) + 1) // 2
    lines += [np.zeros_like(lines[0])] * (2 * half - len(lines))
    sheet = np.hstack([np.vstack(lines[:half]), np.vstack(lines[half:])])
    header = np.zeros((20, sheet.shape[1], 3), np.uint8)
    for number, name in enumerate([*REGIONS, *REGIONS]):
        place = (number * TILE_PX + 2, 14)
        cv2.putText(header, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, encode_png(np.vstack([header, sheet])))


def summary(ious: Sequence[float]) -> dict[str, float | int]:
    """Return n, median and fraction below 0.5."""
    values = np.asarray(ious)
    return {
        "n": len(values),
        "median_iou": float(np.median(values)),
        "share_under_0.5": float(np.mean(values < 0.5)),
    }


def errors_by_detector(
    frames: Mapping[str, Sequence[FaceFrame | None]],
    images: Sequence[Image],
    samples: Sequence[Sample],
) -> dict[str, float]:
    """Return the MAE of hse-mobilenet by detector, on pictures where all found a face."""
    estimator = load_estimator("hse-mobilenet")
    common = [
        index
        for index in range(len(images))
        if all(found[index] is not None for found in frames.values())
    ]
    errors = {}
    for name, found in frames.items():
        total = 0.0
        for index in common:
            frames_here = [frame for frame in (found[index],) if frame is not None]
            years = estimator.predict(cut_crops(images[index], frames_here, estimator.spec.crop))[0]
            total += abs(years.years - (samples[index].age_years or 0.0))
        errors[name] = total / len(common)
    return {"pictures": len(common), **errors}


def measure(fgnet: Path, sheets: Path | None) -> dict[str, Any]:
    """Run all measurements on FG-NET."""
    samples = load_dataset("fgnet", fgnet).samples
    images = [read_image(sample.path) for sample in samples]
    own = own_frames(samples)
    frames = {name: detect_all(load_detector(name), images) for name in DETECTORS}
    reference = frames[REFERENCE]
    if sheets is not None:
        draw_sheet(images, own, sheets / "fgnet_pts.png")
        draw_sheet(images, reference, sheets / "fgnet_detector.png")
        draw_sheet(images, by_proportion(reference), sheets / "fgnet_proportion.png")
    regions = [name for name in REGIONS if name != "original"]
    return {
        "against_own_points": {
            f"{name} by {how}": {
                part: summary(region_ious(found, own, images, part)) for part in PARTS
            }
            for name, found, how in (
                (REFERENCE, reference, "landmarks"),
                ("yunet", frames["yunet"], "landmarks"),
                (REFERENCE, by_proportion(reference), "proportion"),
                ("haar", frames["haar"], "proportion"),
            )
        },
        "between_detectors": {
            name: {part: summary(region_ious(found, reference, images, part)) for part in regions}
            for name, found in frames.items()
            if name != REFERENCE
        },
        "hse_mae_years": errors_by_detector(frames, images, samples),
    }


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fgnet", type=Path, required=True)
    parser.add_argument("--utkface", type=Path)
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.fgnet, arguments.sheets)
    if arguments.utkface is not None and arguments.sheets is not None:
        chips = load_dataset("utkface", arguments.utkface).samples
        images = [read_image(sample.path) for sample in chips[:: len(chips) // 24]]
        draw_sheet(
            images, detect_all(load_detector("aligned"), images), arguments.sheets / "utk.png"
        )
    text = json.dumps({**result, "environment": dict(describe_environment())}, indent=1)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
