"""What does cv2.dnn gain from channel shuffles as one operation?

    python -m benchmarks.channel_shuffle --fgnet FGNET

The detector `yolov8-face` finds the faces of photographs with its network as published, and with
its shuffles replaced (agebench/runtimes/channel_shuffle.py), taking turns picture by picture, and
opens its file in both ways.  Times are medians; faces must be equal to the bit.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from agebench.datasets.base import sample
from agebench.detectors.yolov8_face import YoloV8Face
from agebench.harness.environment import describe_environment
from agebench.registry.plugins import load_dataset
from agebench.runtimes import cv2dnn
from agebench.types import plain
from agebench.util.files import write_whole
from agebench.vision.decoding import decode_sample
from agebench.vision.images import MAX_PIXELS
from agebench.vision.opencv import cv2

RESULTS = Path(__file__).parent / "results" / "channel_shuffle.json"
OPENINGS = 9


def as_published() -> YoloV8Face:
    """Return the detector with the operations of its file."""
    with mock.patch.object(cv2dnn, "with_gathered_channels", lambda content: content):
        return YoloV8Face()


WAYS: Mapping[str, Callable[[], YoloV8Face]] = {"published": as_published, "gathered": YoloV8Face}


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and its time in milliseconds."""
    began = time.perf_counter()
    found = call()
    return found, (time.perf_counter() - began) * 1000


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fgnet", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1, help="of OpenCV")
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    samples = sample(load_dataset("fgnet", args.fgnet), args.pictures, 0).samples
    pictures = [
        image
        for item in samples
        if (image := decode_sample(item, MAX_PIXELS).image_bgr) is not None
    ]
    opened: dict[str, list[float]] = {name: [] for name in WAYS}
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(OPENINGS):
        for name, make in WAYS.items():
            opened[name].append(timed(make)[1])
    detectors = {name: make() for name, make in WAYS.items()}
    for turn, picture in enumerate(pictures):
        faces = {}
        for name, detector in list(detectors.items())[:: 1 if turn % 2 else -1]:
            faces[name], ms = timed(partial(detector.detect, picture))
            found[name].append(ms)
        if faces["published"] != faces["gathered"]:
            raise SystemExit(f"picture {turn}: other faces are found")
    ratio = float(np.median(np.divide(found["gathered"], found["published"])))
    held = {
        "made": {
            "pictures": len(pictures),
            "threads": args.threads,
            "opencv": cv2.__version__,
            "environment": plain(describe_environment()),
        },
        "detect_ms": {name: float(np.median(values)) for name, values in found.items()},
        "detect_ratio": ratio,
        "open_ms": {name: float(np.median(values)) for name, values in opened.items()},
    }
    print(*(f"{key}: {held[key]}" for key in ("detect_ms", "detect_ratio", "open_ms")), sep="\n")
    write_whole(RESULTS, json.dumps(held) + "\n")


if __name__ == "__main__":
    main()
