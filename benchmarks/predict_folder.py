"""Pictures per second of `predict` over a folder, by number of processes, against a bare loop.

The bare loop calls decoder, detector, crops and estimator one after the other with nothing
around them.  All take turns on the same pictures, for several rounds, so that drift of the
machine's speed affects all equally; models are loaded before the clock starts, except those of the
processes, which is why their start-up time is reported separately.

    python benchmarks/predict_folder.py FOLDER --limit 200 --processes 1,2 --out RESULT.json

Ratios are within a round: all of a round's runs meet the machine in the same state.  Other programs
that run meanwhile take processors away, most of all from two processes: the load is noted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from agebench.datasets.suffixes import is_video
from agebench.harness.environment import describe_environment
from agebench.prediction.predictor import AgePredictor
from agebench.prediction.sources import find_sources
from agebench.prediction.tiles import detect_in_tiles
from agebench.prediction.work import PredictionPlan, PredictionTask, predict_pictures
from agebench.types import plain
from agebench.util.foreign_code import found_faces
from agebench.vision.crops import cut_crops
from agebench.vision.frames import canonical_frame
from agebench.vision.images import read_image


def bare_loop(names: list[str], predictor: AgePredictor) -> float:
    """Return pictures per second."""
    (estimator,) = predictor.estimators.values()
    begun = time.perf_counter()
    for name in names:
        image = read_image(name)
        find = detect_in_tiles if predictor.tiles else found_faces
        faces = find(predictor.detector, image)
        frames = [canonical_frame(face, predictor.detector.spec) for face in faces]
        if frames:
            estimator.predict(cut_crops(image, frames, estimator.spec.crop))
    return len(names) / (time.perf_counter() - begun)


def run(
    names: list[str], plan: PredictionPlan, processes: int, predictor: AgePredictor
) -> dict[str, float]:
    """Return pictures per second after the first one, and the seconds until it."""
    begun = time.perf_counter()
    first, count, faces = 0.0, 0, 0
    stages: Counter[str] = Counter()
    for finished in predict_pictures(plan, map(PredictionTask, names), processes, predictor):
        first = first or time.perf_counter()
        count += 1
        faces += len(finished.record["faces"])
        stages.update({name: round(ms * 1000) for name, ms in finished.stage_ms.items()})
    total = sum(stages.values())
    fractions = {f"share_{name}": spent / total for name, spent in stages.items()}
    rate = (count - 1) / (time.perf_counter() - first)
    return {"per_second": rate, "start_s": first - begun, "faces": faces, **fractions}


def summary(runs: list[dict[str, float]], bare: list[float]) -> dict[str, Any]:
    """Return medians over the rounds, and each round's rate over that of its bare loop."""
    medians = {key: statistics.median(item[key] for item in runs) for key in runs[0]}
    ratios = [item["per_second"] / loop for item, loop in zip(runs, bare, strict=True)]
    return {**medians, "to_bare": {"median": statistics.median(ratios), "all": ratios}}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--processes", default="1,2")
    parser.add_argument("--estimator", default=None)
    parser.add_argument("--detector", default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="Where the JSON goes; else it is printed.")
    args = parser.parse_args()
    found = find_sources([str(args.folder)]).names
    names = [name for name in found if not is_video(name)][: args.limit]
    predictor = AgePredictor(args.estimator, detector=args.detector)
    plan = PredictionPlan(
        tuple(predictor.estimators), predictor.detector_reference, predictor.tiles
    )
    load = [os.getloadavg()]
    bare: list[float] = []
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        bare.append(bare_loop(names, predictor))
        for processes in args.processes.split(","):
            runs.setdefault(processes, []).append(run(names, plan, int(processes), predictor))
    load.append(os.getloadavg())
    result = {
        "environment": plain(describe_environment()),
        "load_average": {"before": load[0], "after": load[1]},
        "pictures": len(names),
        "detector": predictor.detector_name,
        "estimators": list(predictor.estimators),
        "bare_per_second": {"median": statistics.median(bare), "all": bare},
        "processes": {count: summary(items, bare) for count, items in runs.items()},
    }
    text = json.dumps(result, indent=1)
    if args.out is None:
        print(text)
    else:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
