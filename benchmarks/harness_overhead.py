"""Overhead of `compare`'s harness: its accuracy pass compared with a bare loop.

Both call the same decode, detect, crop and infer functions with the same batches, alternate
(A B B A ...) in one process, and give the same ages.  Prints and stores the ratio of pictures per
second, harness to bare loop (1: no overhead), by wall time and by the process's CPU time, which is
less affected by other processes on the machine.

    python benchmarks/harness_overhead.py --root FGNET --dataset fgnet \
        --detector yolov8-face --estimator hse-mobilenet --images 100
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import psutil

from agebench.datasets.base import sample as draw
from agebench.harness.accuracy import PassSettings, run_accuracy
from agebench.harness.environment import describe_environment
from agebench.protocols import Estimator, FaceDetector
from agebench.registry.plugins import load_dataset, load_detector, load_estimator
from agebench.types import Crops, Sample
from agebench.vision.crops import cut_crops
from agebench.vision.faces import find_faces
from agebench.vision.images import MAX_PIXELS, decode_image, read_file
from agebench.vision.opencv import cv2

RESULTS = Path(__file__).with_name("results") / "harness_overhead.json"


def harness(
    samples: Sequence[Sample], detector: FaceDetector, estimator: Estimator, batch_size: int
) -> list[float]:
    """Run the accuracy pass; return the ages."""
    how = PassSettings(batch_size, decode_threads=0, max_pixels=MAX_PIXELS)
    groups = run_accuracy(samples, detector, [estimator], how)
    outcomes = [record.outcomes.get(0) for group in groups for record in group]
    return [item.years for item in outcomes if item is not None and item.years is not None]


def bare_loop(
    samples: Sequence[Sample], detector: FaceDetector, estimator: Estimator, batch_size: int
) -> list[float]:
    """Do the same in a bare loop; return the ages."""
    crop_spec = estimator.spec.crop
    years: list[float] = []
    waiting: list[Crops] = []

    def infer() -> None:
        years.extend(item.years for item in estimator.predict(Crops.join(waiting)))
        waiting.clear()

    for sample in samples:
        image = decode_image(read_file(sample.path), sample.name)
        frames = find_faces(detector, image).frames
        if not frames:
            continue
        crops = cut_crops(image, frames, crop_spec)
        if crops.present["face"][0]:
            waiting.append(crops)
        if len(waiting) == batch_size:
            infer()
    if waiting:
        infer()
    return years


Inputs: TypeAlias = tuple[Sequence[Sample], FaceDetector, Estimator, int]
Loop: TypeAlias = Callable[[Sequence[Sample], FaceDetector, Estimator, int], list[float]]


def _rates(function: Loop, inputs: Inputs) -> tuple[float, float, list[float]]:
    """Return pictures per second of wall time and of the process's CPU time, and the ages."""
    start, own = time.perf_counter(), time.process_time()
    ages = function(*inputs)
    wall, own = time.perf_counter() - start, time.process_time() - own
    return len(inputs[0]) / wall, len(inputs[0]) / own, ages


def _ratios(rates: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(rates["harness"], rates["bare"], strict=True)]
    return {
        "images_per_second": rates,
        "ratio_median": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run both alternately; return rates and ratios."""
    cv2.setNumThreads(1)
    dataset = load_dataset(arguments.dataset, arguments.root)
    samples = draw(dataset, arguments.images, 0).samples
    detector = load_detector(arguments.detector)
    estimator = load_estimator(arguments.estimator)
    inputs = (samples, detector, estimator, arguments.batch_size)
    harness(*inputs)  # warms up both: files cached by the system, kernels selected
    wall: dict[str, list[float]] = {"harness": [], "bare": []}
    own: dict[str, list[float]] = {"harness": [], "bare": []}
    for number in range(arguments.rounds):
        order: list[tuple[str, Loop]] = [("harness", harness), ("bare", bare_loop)]
        ages: dict[str, list[float]] = {}
        for name, function in order if number % 2 == 0 else order[::-1]:
            by_wall, by_own, ages[name] = _rates(function, inputs)
            wall[name].append(by_wall)
            own[name].append(by_own)
        if ages["harness"] != ages["bare"]:
            raise SystemExit("the harness and the bare loop gave different ages")
    return {
        "dataset": arguments.dataset,
        "detector": arguments.detector,
        "estimator": arguments.estimator,
        "images": len(samples),
        "faces": len(ages["bare"]),
        "batch_size": arguments.batch_size,
        "opencv_threads": cv2.getNumThreads(),
        "wall_time": _ratios(wall),
        "own_time": _ratios(own),
    }


def memory_growth(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure resident memory after each fifth of the pictures, with the estimator `constant`."""
    dataset = load_dataset(arguments.dataset, arguments.root)
    found = draw(dataset, arguments.memory_images, 0).samples
    marks: list[tuple[int, int]] = []
    process = psutil.Process()

    def note(_stage: str, done: int, total: int) -> None:
        if done % max(1, total // 5) == 0:
            marks.append((done, process.memory_info().rss))

    how = PassSettings(arguments.batch_size, decode_threads=2, max_pixels=MAX_PIXELS)
    estimator, detector = load_estimator("constant"), load_detector("aligned")
    images = sum(map(len, run_accuracy(found, detector, [estimator], how, note)))
    grown = marks[-1][1] - marks[0][1]
    return {
        "images": images,
        "resident_bytes": dict(marks),
        "growth_bytes_per_image": grown / max(1, marks[-1][0] - marks[0][0]),
    }


def _save(key: str, result: dict[str, Any]) -> None:
    content = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    environment = {**describe_environment(), "opencv_threads": cv2.getNumThreads()}
    content |= {"environment": environment, key: result}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--detector", default="aligned")
    parser.add_argument("--estimator", default="constant")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--memory-images", type=int, default=0, help="0: leave that out")
    arguments = parser.parse_args()
    if arguments.memory_images:
        grown = memory_growth(arguments)
        print(f"{grown['growth_bytes_per_image']:.0f} bytes per picture over {grown['images']}")
        _save(f"memory, constant + aligned on {arguments.dataset}", grown)
        return
    result = measure(arguments)
    for clock in ("wall_time", "own_time"):
        low, high = result[clock]["ratio_range"]
        middle = result[clock]["ratio_median"]
        print(f"harness / bare loop, {clock}: {middle:.3f} ({low:.3f} to {high:.3f})")
    key = f"{arguments.estimator} + {arguments.detector} on {arguments.dataset}"
    _save(key, result)


if __name__ == "__main__":
    main()
