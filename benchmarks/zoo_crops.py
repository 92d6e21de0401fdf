"""Measure one public model with other crops than its own: how much of its error is the crop's.

    AGEBENCH_MIRROR=MODELS python -m benchmarks.zoo_crops insightface-2018 --fgnet FGNET \
        --out benchmarks/results/zoo_crops.json

FG-NET's subjects 1 to 20, as benchmarks/zoo.py measures them.  The model's spec file is copied with
another table [crop]; nothing else changes.  This says why two programs' figures differ; the crop in
the spec file is the one that the model's makers publish, whichever does best here.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from agebench import load_dataset, load_estimator
from agebench.estimators.spec_schema import read_spec
from agebench.estimators.zoo import zoo_file
from agebench.harness.environment import describe_environment
from agebench.modelfiles.weights import resolve
from agebench.protocols import Estimator
from agebench.runtimes.base import use_threads
from agebench.util.files import write_whole
from agebench.vision.opencv import cv2
from benchmarks.zoo import find_faces, measure

CROPS = {
    "the face's box, squashed": 'name = "face"\nstretch = true',
    "the box and 10 % on every side, squashed": 'name = "face"\nmargin = 0.1\nstretch = true',
    "a square of the box's longer side": 'name = "square"',
    "1.25 times that square": 'name = "square"\ntimes = 1.25',
    "1.5 times that square": 'name = "square"\ntimes = 1.5',
    "dlib-chip": 'name = "dlib-chip"',
    "arcface-112": 'name = "arcface-112"',
}


def with_crop(name: str, crop: str, folder: Path) -> Estimator:
    """Return a public model whose spec file has another table [crop]."""
    written = read_spec(zoo_file(name))
    high, wide = written.crop.size
    text = zoo_file(name).read_text(encoding="utf-8")
    text = re.sub(r"\[crop\]\n(?:[^\[\n].*\n)+", f"[crop]\n{crop}\nsize = [{high}, {wide}]\n", text)
    text = re.sub(r"\[golden\]\n(?:[^\[\n].*\n)+", "", text)
    for file in filter(None, [written.files.model, written.files.config]):
        shutil.copy(resolve(file).path, folder / file)
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return load_estimator(f"spec:{folder / 'model.toml'}@onnxruntime")


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--fgnet", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    faces = find_faces(load_dataset("fgnet", arguments.fgnet), "yolov8-face@onnxruntime")
    rows = {}
    for label, crop in CROPS.items():
        with use_threads(1), tempfile.TemporaryDirectory() as folder:
            rows[label] = measure(with_crop(arguments.model, crop, Path(folder)), faces)
        print(arguments.model, label, rows[label], flush=True)
    done = {"model": arguments.model, "crops": rows, "environment": describe_environment()}
    write_whole(arguments.out, f"{json.dumps(done, indent=2)}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
