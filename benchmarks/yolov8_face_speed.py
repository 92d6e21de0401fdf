"""How fast the detector `yolov8-face` is in three ways, and whether they find the same faces.

    python -m benchmarks.yolov8_face_speed --fgnet FGNET

Under cv2.dnn with its network as published; the same with its channel shuffles replaced, as it is
used (agebench/runtimes/channel_shuffle.py); and under ONNX Runtime.  They take turns picture by
picture, and open the file in turns.  Times are medians, ratios those within a picture.  The first
two must find faces that are equal to the bit; of the third, the largest differences are reported.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

import numpy as np

from agebench.datasets.base import sample
from agebench.detectors.yolov8_face import YoloV8Face
from agebench.harness.environment import describe_environment
from agebench.registry.plugins import load_dataset
from agebench.runtimes import cv2dnn
from agebench.runtimes.base import use_threads
from agebench.types import Face, Floats, Image, plain
from agebench.util.files import write_whole
from agebench.vision.decoding import decode_sample
from agebench.vision.images import MAX_PIXELS
from agebench.vision.opencv import cv2

RESULTS = Path(__file__).parent / "results" / "yolov8_face_speed.json"
OPENINGS = 9


def as_published() -> YoloV8Face:
    """Return the detector with the operations of its file."""
    with mock.patch.object(cv2dnn, "with_gathered_channels", lambda content: content):
        return YoloV8Face()


WAYS: Mapping[str, Callable[[], YoloV8Face]] = {
    "published": as_published,
    "gathered": YoloV8Face,
    "onnxruntime": partial(YoloV8Face, runtime="onnxruntime"),
}


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and its time in milliseconds."""
    began = time.perf_counter()
    found = call()
    return found, (time.perf_counter() - began) * 1000


def _numbers(faces: Sequence[Face]) -> Floats:
    """Return edges and points in pixels, and the score, of each face: (faces, numbers)."""
    return np.array(
        [[*face.box_xyxy, *np.ravel(face.landmarks_xy), face.score] for face in faces], np.float64
    )


def differences(faces: Sequence[Face], others: Sequence[Face]) -> tuple[float, float]:
    """Return the largest difference of edges and points in pixels, and that of scores.

    Infinite if one has more faces than the other; 0 without any.
    """
    if len(faces) != len(others):
        return np.inf, np.inf
    if not faces:
        return 0.0, 0.0
    apart = np.abs(_numbers(faces) - _numbers(others)).max(axis=0)
    return float(apart[:-1].max()), float(apart[-1])


Samples: TypeAlias = dict[str, list[float]]


def opening_ms() -> Samples:
    """Return the time of each opening by way."""
    opened: Samples = {name: [] for name in WAYS}
    for _ in range(OPENINGS):
        for name, make in WAYS.items():
            opened[name].append(timed(make)[1])
    return opened


def detecting_ms(pictures: Sequence[Image]) -> tuple[Samples, tuple[float, float]]:
    """Return the time of each picture by way, and the largest `differences` of the third."""
    detectors = {name: make() for name, make in WAYS.items()}
    found: Samples = {name: [] for name in WAYS}
    pixels = scores = 0.0
    for turn, picture in enumerate(pictures):
        faces = {}
        first = turn % len(WAYS)
        for name in [*WAYS, *WAYS][first : first + len(WAYS)]:
            faces[name], ms = timed(partial(detectors[name].detect, picture))
            found[name].append(ms)
        if faces["published"] != faces["gathered"]:
            raise SystemExit(f"picture {turn}: other faces are found")
        apart = differences(faces["gathered"], faces["onnxruntime"])
        pixels, scores = max(pixels, apart[0]), max(scores, apart[1])
    return found, (pixels, scores)


def medians(samples: Samples) -> dict[str, float]:
    """Return the median by way."""
    return {name: float(np.median(values)) for name, values in samples.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fgnet", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1, help="of OpenCV and ONNX Runtime")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    cv2.setNumThreads(args.threads)
    samples = sample(load_dataset("fgnet", args.fgnet), args.pictures, 0).samples
    pictures = [
        image
        for item in samples
        if (image := decode_sample(item, MAX_PIXELS).image_bgr) is not None
    ]
    with use_threads(args.threads):
        opened = opening_ms()
        found, (pixels, scores) = detecting_ms(pictures)
    ratios = {
        name: np.divide(values, found["published"]).tolist() for name, values in found.items()
    }
    figures = {
        "detect_ms": medians(found),
        "ratio_to_published": medians(ratios),
        "onnxruntime_apart": {"edges_and_points_px": pixels, "score": scores},
        "open_ms": medians(opened),
    }
    print(*(f"{key}: {value}" for key, value in figures.items()), sep="\n")
    made = {"pictures": len(pictures), "threads": args.threads}
    environment = plain(describe_environment())
    held = {"made": {**made, "environment": environment}, **figures}
    write_whole(args.out, json.dumps(held) + "\n")


if __name__ == "__main__":
    main()
