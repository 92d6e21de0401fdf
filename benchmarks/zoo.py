"""Measure the public models of others through their spec files, under both runtimes.

    AGEBENCH_MIRROR=MODELS python benchmarks/zoo.py --fgnet FGNET --utkface UTKFACE \
        --out benchmarks/results/zoo.json [--only dlib-age-v1 ...]

FG-NET's subjects 1 to 20 (all pictures that the folder holds of them) with `yolov8-face`, the
largest face of each picture; chips of UTKFace drawn by seed 0, with `aligned` (none of these models
knows our split of it, so all of the set is drawn from).  Figures that are in the file already are
kept, so that a run can be broken off.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agebench import load_dataset, load_detector, load_estimator
from agebench.bench.environment import describe_environment
from agebench.bench.faces import find_face
from agebench.bench.selection import take_pictures
from agebench.bench.settings import CompareSettings
from agebench.errors import AgebenchError, in_words
from agebench.files import write_whole
from agebench.metrics import mae, median_absolute_error, signed_bias
from agebench.protocols import Estimator
from agebench.runtimes.base import use_threads
from agebench.types import Crops, FaceFrame, Image
from agebench.vision.crops import cut_crops
from agebench.vision.images import read_image
from agebench.vision.opencv import cv2

CHIPS = 2000
STEP = 50
"""Faces whose pictures are held at once."""

MODELS = (
    "dlib-age-v1",
    "ssr-net-wiki",
    "ssr-net-imdb",
    "ssr-net-morph2",
    "insightface-2018",
    "face-api-js",
    "hse-mobilenet",
    "caffe-age-net",
    "yu4u-wide-resnet",
)
RUNTIMES = ("onnxruntime", "cv2dnn")

INDEPENDENT: dict[str, tuple[float | None, float | None]] = {
    "dlib-age-v1": (3.7, None),
    "ssr-net-wiki": (13.3, 9.7),
    "insightface-2018": (12.3, 7.1),
    "face-api-js": (4.3, 5.1),
    "hse-mobilenet": (7.1, 6.5),
    "caffe-age-net": (None, 11.64),
}
"""Errors in years that another program found: on FG-NET (992 pictures of all 82 people; dlib, HSE:
subjects 1 to 20) and on 2,351 chips of UTKFace.  caffe-age-net: this project's own, other chips."""


@dataclass(frozen=True)
class Faces:
    """Pictures with the face that is scored in each."""

    paths: Sequence[Path]
    frames: Sequence[FaceFrame]
    years: Sequence[float]

    def parts(self) -> Iterator[tuple[list[Image], Sequence[FaceFrame]]]:
        """Yield a few pictures at a time, and their frames."""
        for start in range(0, len(self.paths), STEP):
            chosen = slice(start, start + STEP)
            yield [read_image(path) for path in self.paths[chosen]], self.frames[chosen]


def find_faces(name: str, root: Path, detector_name: str, settings: CompareSettings) -> Faces:
    """Detect the face of each picture of a set; pictures without are left out."""
    dataset, detector = load_dataset(name, root), load_detector(detector_name)
    dataset, _ = take_pictures(dataset, None, settings)
    paths, frames, years = [], [], []
    for sample in dataset.samples:
        found = find_face(detector, read_image(sample.path))
        if found is not None and sample.age_years is not None:
            paths.append(sample.path)
            frames.append(found[1])
            years.append(sample.age_years)
    return Faces(paths, frames, years)


def measure(estimator: Estimator, faces: Faces) -> dict[str, float]:
    """Return the figures of one estimator on one set."""
    got: list[float] = []
    for images, frames in faces.parts():
        cut = [
            cut_crops(image, [frame], estimator.spec.crop)
            for image, frame in zip(images, frames, strict=True)
        ]
        got += [answer.years for answer in estimator.predict(Crops.join(cut))]
    true = np.asarray(faces.years)
    return {
        "n": len(true),
        "mae_years": round(mae(true, got), 3),
        "median_years": round(median_absolute_error(true, got), 3),
        "bias_years": round(signed_bias(true, got), 3),
    }


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fgnet", type=Path, required=True)
    parser.add_argument("--utkface", type=Path, required=True)
    parser.add_argument("--chips", type=int, default=CHIPS)
    parser.add_argument("--only", nargs="*", default=list(MODELS))
    parser.add_argument("--runtimes", nargs="*", default=list(RUNTIMES))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    done: dict[str, Any] = {"models": {}}
    if arguments.out.is_file():
        done = json.loads(arguments.out.read_text())
    chips = CompareSettings(sample=arguments.chips, seed=0)
    sets = {
        "fgnet": find_faces("fgnet", arguments.fgnet, "yolov8-face@onnxruntime", CompareSettings()),
        "utkface": find_faces("utkface", arguments.utkface, "aligned", chips),
    }
    for name in arguments.only:
        for runtime in arguments.runtimes:
            row = done["models"].setdefault(name, {}).setdefault(runtime, {})
            try:
                with use_threads(1):
                    estimator = load_estimator(f"{name}@{runtime}")
                for set_name, faces in sets.items():
                    if set_name not in row:
                        row[set_name] = measure(estimator, faces)
                        print(name, runtime, set_name, row[set_name], flush=True)
            except AgebenchError as error:
                row["failed"] = in_words(error)
                print(name, runtime, row["failed"], flush=True)
            done["environment"] = describe_environment()
            done["independent_mae_years"] = INDEPENDENT
            write_whole(arguments.out, f"{json.dumps(done, indent=2)}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
