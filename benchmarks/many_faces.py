"""Time and memory of one picture in which a detector finds very many faces.

    python benchmarks/many_faces.py --faces 10000,100000,1000000 --out FILE.json

The detector is artificial: it returns this many boxes at random positions, more than any network
would.  The estimator is `constant`, so only the toolkit's own part is measured: frames, crops, ages
and the list of faces.  Each number runs in its own process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agebench.harness.environment import describe_environment
from agebench.prediction.predictor import AgePredictor
from agebench.protocols import DetectorSpec
from agebench.types import Face, Image, plain

SIDE_PX = 2000
FACE_PX = 60.0


class Crowd:
    """Finds a fixed number of faces in any picture."""

    def __init__(self, faces: int) -> None:
        self._faces = faces
        self.spec = DetectorSpec(name="crowd")

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        """Return boxes at random places, the same every time."""
        height, width = image_bgr.shape[:2]
        rng = np.random.default_rng(0)
        corners = rng.uniform((0, 0), (width - FACE_PX, height - FACE_PX), (self._faces, 2))
        return [
            Face((left, top, left + FACE_PX, top + FACE_PX), 0.5) for left, top in corners.tolist()
        ]


def peak_mb() -> float:
    """Return the peak of this process's resident memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(faces: int) -> dict[str, Any]:
    """Return seconds and MB of one picture, beyond what a picture with one face takes."""
    picture = np.full((SIDE_PX, SIDE_PX, 3), 128, np.uint8)
    AgePredictor("constant years=30", detector=Crowd(1)).predict([picture])
    before = peak_mb()
    predictor = AgePredictor("constant years=30", detector=Crowd(faces))
    begun = time.perf_counter()
    (found,) = predictor.predict([picture])
    seconds = time.perf_counter() - begun
    if len(found.faces) != faces:
        raise SystemExit(f"expected {faces} faces, got {len(found.faces)}")
    return {"faces": faces, "seconds": seconds, "more_mb": peak_mb() - before}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", default="10000,100000,1000000")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=int, help="measure this number in this process")
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(measure(args.one)))
        return
    results = []
    for faces in args.faces.split(","):
        command = [sys.executable, __file__, "--one", faces]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results.append(json.loads(done.stdout))
        print(results[-1])
    if args.out is not None:
        content = {"environment": plain(describe_environment()), "results": results}
        args.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
