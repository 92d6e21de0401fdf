"""A report of 100,000 made-up pictures: seconds and peak memory of every step.

python benchmarks/report_scale.py [--pictures 100000] [--estimators 2] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from agebench.harness.environment import describe_environment
from agebench.harness.reading import read_result
from agebench.metrics.error_summary import summarise
from agebench.report.formats import FORMATS
from agebench.report.joining import join
from agebench.report.writing import write_report
from agebench.types import plain

LIMIT_SECONDS, LIMIT_BYTES = 30.0, 2**30
TERMS: dict[str, Any] = {"licence": "", "source": "", "citation": "", "notes": []}
RUNTIME = {"runtime": "python", "device": "cpu", "detail": "", "version": ""}


def _peak_bytes() -> int:
    """Peak resident memory; getrusage would count what the parent had at the fork."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _stage(rng: np.random.Generator) -> dict[str, Any]:
    return {"n": 100, "samples_ms": rng.gamma(50, 0.2, 100).tolist()}


def _estimator(name: str, true: Any, years: Any, rng: np.random.Generator) -> dict[str, Any]:
    summary = summarise(true, years)
    errors: dict[str, Any] = plain(summary)
    for part in (errors, *errors["by_decade"]):
        ends = part["mae_interval"]
        part["mae_interval"] = ends and [ends["low"], ends["high"]]
    return {
        "name": name,
        "available": True,
        "unavailable_reason": "",
        "mae_years": errors["mae_years"],
        "spec": {
            "name": name,
            "crop": {"views": {}},
            "decode": "",
            "channel_order": "bgr",
            "weights": [],
            "trained_on": "",
            "label_kind": "unknown",
            "classes": None,
            "runtime": RUNTIME,
            "settings": {},
            **TERMS,
        },
        "latency": {stage: _stage(rng) for stage in ("crop", "infer", "total")},
        **dict.fromkeys(("missed", "failed", "clipped"), 0),
        "scored": len(true),
        "errors": errors,
        "own_errors": errors,
        **dict.fromkeys(("classes", "ranges", "seen_in_training")),
    }


def _outcome(years: float, true: float) -> dict[str, Any]:
    ends = {f"interval_{level}": [years / 2, years / 2 + 30] for level in (50, 80, 95)}
    scores = {"nll": 3.0, "crps_years": abs(true - years) / 2, "pit": min(true / 100, 1.0)}
    constants = {"class_index": None, "outside": 0.0, "reason": ""}
    return {"status": "ok", "years": years, **constants, **scores, **ends}


def made_up(pictures: int, estimators: int, seed: int = 0) -> dict[str, Any]:
    """Return a result with this number of pictures, without statistics."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 100, pictures).astype(np.float64)
    given = {
        f"estimator-{place}": np.clip(true + rng.normal(2, 5 + place, pictures), 0, 120)
        for place in range(estimators)
    }
    entries = [_estimator(name, true, years, rng) for name, years in given.items()]
    return {
        "schema_version": 3,
        "created": "2026-01-01T00:00:00+00:00",
        "command": [],
        "environment": plain(describe_environment()),
        "dataset": {
            "name": "made-up",
            "label_kind": "unknown",
            "aligned": False,
            **TERMS,
            "root": None,
            "protocol": "all pictures",
            "subset": "",
            "split": None,
            "problems": [],
            "content_sha256": "0" * 64,
        },
        "detector": {
            "reference": "none",
            "chosen_because": "",
            "name": "none",
            "weights": [],
            "runtime": RUNTIME,
            "settings": {},
            **TERMS,
        },
        "settings": {"seed": 0},
        "counts": {"total": pictures, "common_subset": pictures, "several_faces": 0},
        "shared_latency": {stage: _stage(rng) for stage in ("decode", "detect")},
        "estimators": entries,
        "pictures": [
            {
                "picture": f"{row:06d}.jpg",
                "sha256": f"{row:064x}",
                "true_years": true[row],
                "true_range": None,
                "identity": None,
                "attributes": {"gender": "fm"[row % 2], "race": "abcde"[row % 5]},
                "status": "ok",
                "reason": "",
                "faces": 1,
                "box_xyxy": [1.0, 2.0, 3.0, 4.0],
                "detector_score": 0.9,
                "frame_from": "landmarks",
                "predictions": {
                    name: _outcome(float(years[row]), float(true[row]))
                    for name, years in given.items()
                },
            }
            for row in range(pictures)
        ],
    }


def main() -> None:
    """Make the file, then, in a process without it in memory, the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--estimators", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--of", type=Path, help="A result file instead of a made-up one.")
    options = parser.parse_args()
    if options.of is not None:
        print(json.dumps(measure(options.of), indent=1))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        content = made_up(options.pictures, options.estimators)
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
        command = [sys.executable, __file__, "--of", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, Any] = {"pictures": options.pictures, "estimators": options.estimators}
    figures |= json.loads(done.stdout)
    figures["environment"] = plain(describe_environment())
    text = json.dumps(figures, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    if figures["total_s"] > LIMIT_SECONDS or figures["peak_bytes"] > LIMIT_BYTES:
        sys.exit("over the limit")


def measure(path: Path) -> dict[str, Any]:
    """Read a result, analyse it and write its report in all formats."""
    start = time.perf_counter()
    result = read_result(path)
    read = time.perf_counter()
    joined = join([result])
    analysed = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        files = write_report(joined, folder, FORMATS)
        sizes = {file.name: file.stat().st_size for file in files}
    written = time.perf_counter()
    return {
        "result_bytes": path.stat().st_size,
        "read_s": round(read - start, 2),
        "statistics_s": round(analysed - read, 2),
        "write_s": round(written - analysed, 2),
        "total_s": round(written - start, 2),
        "peak_bytes": _peak_bytes(),
        "files_bytes": sizes,
    }


if __name__ == "__main__":
    main()
