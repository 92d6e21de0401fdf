"""Time and memory that the statistics of 100,000 pictures and 3 estimators take.

    python benchmarks/statistics_scale.py

The predictions are synthetic: half of the pictures show people with five pictures each, two
estimators predict a distribution, and one picture in a hundred has no face.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from agebench.harness.analysis import analyse
from agebench.harness.columns import columns_of
from agebench.harness.contents import Estimator
from agebench.harness.contents_pictures import Picture
from agebench.harness.environment import describe_call
from agebench.metrics.calibration import LEVELS, score_distributions
from agebench.protocols import DatasetSpec
from agebench.types import AgeBins

RESULTS = Path(__file__).with_name("results") / "statistics_scale.json"
BINS = AgeBins.single_years(0, 100)
NAMES = ("sharp", "blunt", "constant")
_SPREAD_YEARS = {"sharp": 5.0, "blunt": 9.0}


def _outcomes(generator: np.random.Generator, true: Any, name: str) -> list[Any]:
    """Return one estimator's outcomes; distributions are scored in parts, as in the harness."""
    if name == "constant":
        return [{"status": "ok", "years": 30.0, "class_index": None, "nll": None} for _ in true]
    spread = _SPREAD_YEARS[name]
    years = np.clip(true + generator.normal(0, spread, len(true)), 0, 100)
    found: list[Any] = []
    for start in range(0, len(true), 1000):
        part = slice(start, start + 1000)
        offsets = (np.arange(len(BINS)) - years[part, None]) / spread
        probabilities = np.exp(-(offsets**2) / 2)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        scores = score_distributions(probabilities, BINS, true[part])
        for row, age in enumerate(years[part].tolist()):
            ends = {
                f"interval_{100 * level:.0f}": scores.intervals[level][row].tolist()
                for level in LEVELS
            }
            numbers = {
                "nll": float(scores.nll[row]),
                "crps_years": float(scores.crps_years[row]),
                "pit": float(scores.pit[row]),
            }
            found.append({"status": "ok", "years": age, "class_index": None, **numbers, **ends})
    return found


def synthetic_pictures(pictures: int, seed: int = 0) -> list[Picture]:
    """Return synthetic pictures in the form in which results store them."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, 100, pictures).astype(np.float64)
    outcomes = {name: _outcomes(generator, true, name) for name in NAMES}
    seen = generator.random(pictures) > 0.01
    return [
        {
            "picture": f"{row:06}.jpg",
            "sha256": "",
            "faces": 1,
            "box_xyxy": None,
            "true_years": age,
            "identity": f"person {row // 5}" if row % 10 < 5 else None,
            "attributes": {"gender": "mf"[row % 2], "race": "abcde"[row % 5]},
            "status": "ok" if seen[row] else "no_face",
            "predictions": {name: outcomes[name][row] for name in NAMES} if seen[row] else {},
        }
        for row, age in enumerate(true.tolist())
    ]


def main() -> None:
    """Measure, print the figures and write them to results/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    pictures = parser.parse_args().pictures
    images = synthetic_pictures(pictures)
    estimators = [
        Estimator(name=name, available=True, unavailable_reason="", spec=None, latency={})
        for name in NAMES
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, own = time.perf_counter(), time.process_time()
    analysis = analyse(
        columns_of(images, NAMES), estimators, DatasetSpec("made-up", "unknown"), seed=0
    )
    wall, own = time.perf_counter() - wall, time.process_time() - own
    content = {
        "pictures": pictures,
        "estimators": len(NAMES),
        "clustered": analysis.settings.clustered,
        "wall_seconds": round(wall, 1),
        "process_seconds": round(own, 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "peak_bytes_of_the_predictions_alone": before * 1024,
        "load_average": os.getloadavg()[0],
        **describe_call(),
    }
    print(json.dumps(content, indent=1))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
