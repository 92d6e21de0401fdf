"""The same model under several runtimes, interleaved in one run on the CPU.

    python benchmarks/runtimes_latency.py --threads 2
    python benchmarks/runtimes_latency.py --checkpoint runs/best.safetensors

age_net (random weights): Caffe under cv2.dnn, its ONNX file under cv2.dnn and under onnxruntime,
in float32 and in 8 bits.  A checkpoint: PyTorch, and its ONNX files in the same three ways.  The
time is that of `predict` on crops that are already cut: pixels to blob, network, decoding.  The
estimators are called in turn (A B C, A B C, ...), so that drift of the machine affects all equally.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agebench import load_estimator
from agebench.errors import AgebenchError
from agebench.estimators.caffe_age_net import CaffeAgeNet
from agebench.export.age_net_candidate import age_net_candidate
from agebench.export.candidate import Candidate
from agebench.export.multi_crop import checkpoint_candidate
from agebench.export.precision import to_int8
from agebench.export.random_age_net import random_age_net
from agebench.export.writing import export
from agebench.protocols import Estimator
from agebench.runtimes.age_file import generated
from agebench.runtimes.base import use_threads
from agebench.util.files import write_whole
from agebench.vision.opencv import cv2

RESULTS = Path(__file__).with_name("results")
BATCHES = (1, 16)
WARM_UP = 3


def export_both(candidate: Candidate, folder: Path, name: str) -> list[str]:
    """Write the float32 and the 8-bit file; return references to the estimators to time."""
    whole, small = folder / f"{name}.onnx", folder / f"{name}.int8.onnx"
    export(candidate, whole, check=False)
    calibration = generated(candidate.spec.crop, 32, 1)
    export(to_int8(candidate, calibration), small, check=False)
    return [f"onnx:{whole}@cv2dnn", f"onnx:{whole}@onnxruntime", f"onnx:{small}@onnxruntime"]


def contenders(options: argparse.Namespace, folder: Path) -> dict[str, Estimator]:
    """Return the estimators to time, by name in the table."""
    caffemodel = folder / "random.caffemodel"
    random_age_net(caffemodel, seed=0)
    source = CaffeAgeNet(caffemodel)
    references = export_both(age_net_candidate(source, caffemodel), folder, "age_net")
    names = ("ONNX, cv2.dnn", "ONNX, onnxruntime", "ONNX 8-bit, onnxruntime")
    found: dict[str, Estimator] = {"age_net: Caffe, cv2.dnn": source}
    for name, reference in zip(names, references, strict=True):
        found[f"age_net: {name}"] = load_estimator(reference)
    if options.checkpoint:
        references = export_both(checkpoint_candidate(options.checkpoint), folder, "multi_crop")
        found["multi-crop: torch"] = load_estimator(f"torch:{options.checkpoint}")
        for name, reference in zip(names, references, strict=True):
            found[f"multi-crop: {name}"] = load_estimator(reference)
    return found


def time_all(estimators: dict[str, Estimator], batch: int, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each call by estimator; estimators are called in turn."""
    crops = {name: generated(item.spec.crop, batch, 3) for name, item in estimators.items()}
    samples: dict[str, list[float]] = {name: [] for name in estimators}
    for turn in range(WARM_UP + rounds):
        for name, estimator in estimators.items():
            start = time.perf_counter()
            estimator.predict(crops[name])
            elapsed_ms = (time.perf_counter() - start) * 1e3
            if turn >= WARM_UP:
                samples[name].append(elapsed_ms)
    return samples


def markdown(results: dict[int, dict[str, list[float]]], about: dict[str, object]) -> str:
    """Return the table; ratios are to the median of the first row of the same model."""
    lines = [
        "# One model under several runtimes",
        "",
        ", ".join(f"{key} {value}" for key, value in about.items()) + ".",
        "Ratios are to the first row of the same model, from the same interleaved run.",
        "",
        "| model and runtime | batch | n | p50 ms | p90 ms | p99 ms | faces/s | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for batch, samples in results.items():
        first: dict[str, float] = {}
        for name, times in samples.items():
            p50, p90, p99 = np.percentile(times, (50, 90, 99))
            base = first.setdefault(name.split(":")[0], float(p50))
            cells = [name, str(batch), str(len(times)), *(f"{t:.1f}" for t in (p50, p90, p99))]
            cells += [f"{batch / p50 * 1e3:.0f}", f"{p50 / base:.2f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def measure(options: argparse.Namespace) -> str:
    """Time all estimators, write the raw times and return the table."""
    import onnxruntime

    before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cv2.setNumThreads(options.threads)
    if options.checkpoint:
        import torch

        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="agebench-latency-") as folder:
        with use_threads(options.threads):
            estimators = contenders(options, Path(folder))
        results = {
            batch: time_all(
                estimators, batch, options.rounds if batch == 1 else max(20, options.rounds // 4)
            )
            for batch in BATCHES
        }
    about: dict[str, object] = {
        "threads": options.threads,
        "processors": os.cpu_count(),
        "load average before": before,
        "OpenCV": cv2.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    raw = {"about": about, "samples_ms": results}
    write_whole(RESULTS / "runtimes_latency.json", json.dumps(raw) + "\n")
    return markdown(results, about)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results and print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="a trained multi-crop model as well")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=100, help="at batch 1; fewer at 16")
    try:
        table = measure(parser.parse_args(arguments))
    except AgebenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    write_whole(RESULTS / "runtimes_latency.md", table)
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
