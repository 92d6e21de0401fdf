"""Error against the height of the face and against blur, for several estimators on the same faces.

    python -m benchmarks.face_height --dataset utkface --root UTKFACE --protocol utkface-full \
        --part val --detector aligned --sample 400 multicrop-resnet hse-mobilenet

A face is detected once, in the unchanged picture.  Then the picture is shrunk by area averaging
until the face's frame (forehead to chin) has the required height, or blurred by a Gaussian whose
standard deviation is a fraction of that height, and every estimator gets the result.  Smaller faces
are skipped, not enlarged: `n` says how many are left.  Writes NAME.json with all figures and
NAME.md with a table to benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from agebench.datasets.base import SampleList, sample
from agebench.errors import AgebenchError
from agebench.harness.environment import describe_environment
from agebench.harness.selection import find_split
from agebench.metrics.intervals import mean_interval
from agebench.protocols import Dataset, Estimator, no_progress
from agebench.registry.plugins import load_dataset, load_detector, load_estimator
from agebench.splits.parts import part
from agebench.types import Crops, FaceFrame, Image, plain
from agebench.util.files import write_whole
from agebench.vision.crops import cut_shared
from agebench.vision.faces import find_faces
from agebench.vision.images import read_image
from agebench.vision.opencv import cv2

RESULTS = Path(__file__).parent / "results"
HEIGHTS_PX = (24, 32, 48, 64, 96, 128, 200)
BLURS = (0.0, 0.01, 0.02, 0.04, 0.08)
"""Standard deviations of the blur, in frame heights."""


def shrunk(image_bgr: Image, frame: FaceFrame, height_px: float) -> tuple[Image, FaceFrame] | None:
    """Return the picture with a face of that height, and its frame; None for a smaller face."""
    factor = height_px / frame.height
    if factor > 1.02:
        return None
    height, width = (max(1, round(side * factor)) for side in image_bgr.shape[:2])
    small = cv2.resize(image_bgr, (width, height), interpolation=cv2.INTER_AREA)
    scale = np.array([width / image_bgr.shape[1], height / image_bgr.shape[0]])

    def moved(x: float, y: float) -> tuple[float, float]:
        # Pixel centres: the outer edge of pixel 0 is at -0.5.
        return (float((x + 0.5) * scale[0] - 0.5), float((y + 0.5) * scale[1] - 0.5))

    points = tuple(moved(*point) for point in frame.points_xy)
    return np.asarray(small, np.uint8), replace(
        frame, center_xy=moved(*frame.center_xy), height=height_px, points_xy=points
    )


def blurred(image_bgr: Image, frame: FaceFrame, sigma_fraction: float) -> tuple[Image, FaceFrame]:
    """Return the picture blurred by a fraction of the face's height."""
    if not sigma_fraction:
        return image_bgr, frame
    sigma = sigma_fraction * frame.height
    return np.asarray(cv2.GaussianBlur(image_bgr, (0, 0), sigma), np.uint8), frame


def variants(image_bgr: Image, frame: FaceFrame) -> dict[str, tuple[Image, FaceFrame]]:
    """Return all variants of one picture, by a name such as "48 px" or "blur 0.02"."""
    found = {
        f"blur {sigma_fraction:g}": blurred(image_bgr, frame, sigma_fraction)
        for sigma_fraction in BLURS
    }
    for height_px in HEIGHTS_PX:
        small = shrunk(image_bgr, frame, height_px)
        if small is not None:
            found[f"{height_px} px"] = small
    return found


def errors_of(
    dataset: Dataset, detector_name: str, estimators: Sequence[Estimator]
) -> dict[str, dict[str, list[float]]]:
    """Return signed errors in years by variant and estimator."""
    detector = load_detector(detector_name)
    specs = [estimator.spec.crop for estimator in estimators]
    found: dict[str, dict[str, list[float]]] = {}
    with Progress() as bars:
        for item in bars.track(dataset.samples, description="Asking"):
            try:
                image = read_image(item.path)
            except AgebenchError as error:
                print(f"{item.name} is passed over: {error}")
                continue
            frames = find_faces(detector, image).frames
            if not frames or item.age_years is None:
                continue
            for name, (changed, frame) in variants(image, frames[0]).items():
                row = found.setdefault(name, {one.spec.name: [] for one in estimators})
                crops = cut_shared(changed, [frame], specs)
                for estimator, own in zip(estimators, crops, strict=True):
                    row[estimator.spec.name].append(_error(estimator, own, item.age_years))
    return found


def _error(estimator: Estimator, crops: Crops, age_years: float) -> float:
    (prediction,) = estimator.predict(crops)
    return prediction.years - age_years


def figures(errors: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, Any]]:
    """Return number, MAE with its 95 % interval and bias, by variant and estimator."""
    return {
        name: {
            estimator: {
                "n": len(values),
                "mae_years": float(np.abs(values).mean()),
                "interval": plain(mean_interval(np.abs(values))),
                "bias_years": float(np.mean(values)),
            }
            for estimator, values in row.items()
        }
        for name, row in errors.items()
    }


def table(result: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a table: heights from small to large, then blur."""
    names = [f"{height} px" for height in HEIGHTS_PX] + [
        f"blur {sigma_fraction:g}" for sigma_fraction in BLURS
    ]
    shown = [name for name in names if name in result]
    estimators = list(result[shown[0]])
    lines = [
        "| face | n | " + " | ".join(estimators) + " |",
        "|---|---:|" + "---|" * len(estimators),
    ]
    for name in shown:
        cells = [
            f"{value['mae_years']:.2f} ({value['bias_years']:+.1f})"
            for value in result[name].values()
        ]
        count = next(iter(result[name].values()))["n"]
        lines.append(f"| {name} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def chosen(args: argparse.Namespace) -> Dataset:
    """Return the pictures that the command line asks for."""
    dataset: Dataset = load_dataset(args.dataset, args.root)
    if args.protocol:
        dataset = part(dataset, find_split(dataset, args.protocol)(no_progress), args.part)
    aged = tuple(item for item in dataset.samples if item.age_years is not None)
    dataset = SampleList(dataset.spec, aged, tuple(dataset.problems))
    return sample(dataset, args.sample, 0) if args.sample else dataset


def main() -> None:
    """Read the command line, measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("estimators", nargs="+")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--protocol", default="")
    parser.add_argument("--part", default="val")
    parser.add_argument("--detector", default="aligned")
    parser.add_argument("--sample", type=int, default=0, help="pictures drawn; 0 for all")
    parser.add_argument("--name", default="face_height")
    args = parser.parse_args()
    dataset = chosen(args)
    estimators = [load_estimator(name) for name in args.estimators]
    result = figures(errors_of(dataset, args.detector, estimators))
    about = {
        "dataset": args.dataset,
        "protocol": args.protocol,
        "part": args.part if args.protocol else "all",
        "sample": args.sample,
        "detector": args.detector,
        "estimators": [plain(estimator.spec) for estimator in estimators],
        "environment": plain(describe_environment()),
    }
    found = {"about": about, "figures": result}
    text = json.dumps(found, separators=(",", ":"), allow_nan=False) + "\n"
    write_whole(RESULTS / f"{args.name}.json", text)
    write_whole(RESULTS / f"{args.name}.md", table(result))
    print(table(result))


if __name__ == "__main__":
    main()
