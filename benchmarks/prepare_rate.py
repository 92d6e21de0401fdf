"""Pictures per second of `agebench prepare` on one and on two processes.

    python benchmarks/prepare_rate.py --utkface UTKFACE --fgnet FGNET --out FILE.json

Runs alternate (1, 2, 1, 2, ...), each into a new folder, so that the machine's other load
affects both.  A run's time counts from the call to the finished manifest, with the processes'
start and the detector's loading in it; `steady` leaves those out: it counts from the first
finished picture to the last.  `cpu_ms_per_picture` is the processor time of all processes
together: on a machine that others use too, it is more reliable than the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from agebench.harness.environment import describe_environment
from agebench.prepare.run import prepare
from agebench.prepare.settings import PrepareSettings

PROCESSES = (1, 2)


def cpu_s() -> float:
    """Processor time of this process and of its children that have ended, seconds."""
    return sum(os.times()[:4])


def run_once(dataset: str, root: Path, detector: str, pictures: int, processes: int) -> Any:
    """Prepare a random sample into a temporary folder; return rates per second."""
    finished_s: list[float] = []

    def note(_stage: str, done: int, _total: int) -> None:
        if done:
            finished_s.append(time.perf_counter())

    settings = PrepareSettings(sample=pictures, processes=processes)
    with tempfile.TemporaryDirectory() as folder:
        start_s, start_cpu_s = time.perf_counter(), cpu_s()
        report = prepare(
            dataset,
            Path(folder) / "out",
            root=root,
            detector=detector,
            settings=settings,
            progress=note,
        )
        whole_s = time.perf_counter() - start_s
    done = report.counts["pictures"]
    return {
        "processes": processes,
        "seconds": whole_s,
        "pictures_per_s": done / whole_s,
        "steady_pictures_per_s": (done - 1) / (finished_s[-1] - finished_s[0]),
        "cpu_ms_per_picture": 1000 * (cpu_s() - start_cpu_s) / done,
        "faces": report.counts["faces"],
        "load_before": psutil.getloadavg()[0],
    }


def measure(dataset: str, root: Path, detector: str, pictures: int, rounds: int) -> dict[str, Any]:
    """Alternate between the numbers of processes; return all runs and the medians."""
    runs = []
    for _ in range(rounds):
        for processes in PROCESSES:
            runs.append(run_once(dataset, root, detector, pictures, processes))
            print(dataset, detector, runs[-1], file=sys.stderr)
    medians = {
        str(processes): {
            key: statistics.median(run[key] for run in runs if run["processes"] == processes)
            for key in ("pictures_per_s", "steady_pictures_per_s", "cpu_ms_per_picture")
        }
        for processes in PROCESSES
    }
    return {
        "dataset": dataset,
        "detector": detector,
        "pictures": pictures,
        "medians": medians,
        "runs": runs,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utkface", type=Path)
    parser.add_argument("--fgnet", type=Path)
    parser.add_argument("--pictures", type=int, default=600, help="of UTKFace; FG-NET: a sixth")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    results = []
    if args.utkface:
        results.append(measure("utkface", args.utkface, "aligned", args.pictures, args.rounds))
    if args.fgnet:
        few = max(2, args.pictures // 6)
        results.append(measure("fgnet", args.fgnet, "yolov8-face", few, args.rounds))
    content = {
        "what": "pictures per second of agebench prepare, five views and the original each",
        "environment": describe_environment(),
        "results": results,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
