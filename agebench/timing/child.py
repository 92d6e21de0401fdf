"""Code that runs in a child process: `main` is called only by `agebench.timing.children`."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from agebench.errors import AgebenchError, DeviceError
from agebench.protocols import Estimator
from agebench.registry.plugins import DETECTORS, load_detector, load_estimator
from agebench.runtimes.base import WatchedModel, watch_models
from agebench.runtimes.cuda_library import load_runtime, used_bytes
from agebench.runtimes.threads import pinned
from agebench.timing.devices import load_on
from agebench.timing.roofline import measure_peaks
from agebench.timing.sweep_faces import generated_face
from agebench.types import plain
from agebench.util.child_processes import end_with_parent

TRIAL_SIZE = (240, 320, 3)
"""Sides of the picture that a detector is tried on."""


def main(started: float, answer_to: int, watch: int) -> None:
    """Run the task named by the first argument and write the answer.

    Args:
        started: `time.perf_counter()` at the first statement of this process.
        answer_to: file descriptor that the answer is written to, as JSON.
        watch: file descriptor that reaches its end when the parent ends.
    """
    imported = time.perf_counter()
    request = json.loads(sys.argv[1])
    end_with_parent(request["parent"], watch)
    times = {
        "process_ms": (started - request["spawned"]) * 1e3,
        "import_ms": (imported - started) * 1e3,
    }
    try:
        with pinned(request["threads"]):
            answer = _TASKS[request["task"]](request, times)
    except AgebenchError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "out of memory: use smaller batch sizes"}
    with os.fdopen(answer_to, "wb") as pipe:
        pipe.write(json.dumps(answer).encode())


def _load(request: Mapping[str, Any]) -> Estimator:
    return load_on(request["reference"], request["device"])


def _cold_start(request: Mapping[str, Any], times: Mapping[str, float]) -> dict[str, Any]:
    begin = time.perf_counter()
    estimator = _load(request)
    loaded = time.perf_counter()
    crops = generated_face().cut(estimator.spec.crop, 1)
    runs = []
    for _ in range(2):
        start = time.perf_counter()
        estimator.predict(crops)
        runs.append((time.perf_counter() - start) * 1e3)
    return {**times, "load_ms": (loaded - begin) * 1e3, "first_ms": runs[0], "second_ms": runs[1]}


def _resources(request: Mapping[str, Any], _times: Mapping[str, float]) -> dict[str, Any]:
    device = request["memory_of"]
    before, device_before = peak_rss_bytes(), device_used_bytes(device)
    faces = generated_face()
    with watch_models() as models:
        estimator = _load(request)
        _clear(models)
        peaks: dict[str, int] = {}
        runs: dict[str, list[Any]] = {}
        for batch in sorted({1, *request["batches"]}):
            estimator.predict(faces.cut(estimator.spec.crop, batch))
            peaks[str(batch)] = peak_rss_bytes()
            runs[str(batch)] = _clear(models)
    device_after = device_used_bytes(device)
    known = device_before is not None and device_after is not None
    return {
        "rss_before_bytes": before,
        "peak_rss_bytes": peaks,
        "device_bytes": (device_after or 0) - (device_before or 0) if known else None,
        "models": [
            {"kind": item.source.kind, "path": str(item.source.path), "config": item.source.config}
            for item in models
        ],
        "runtimes": [item.info.runtime for item in models],
        "runs": runs,
    }


def _clear(models: list[WatchedModel]) -> list[Any]:
    """Return the input shapes of each model since the last call, and clear them."""
    noted = [list(item.runs) for item in models]
    for item in models:
        item.runs.clear()
    return noted


def _peaks(request: Mapping[str, Any], _times: Mapping[str, float]) -> dict[str, Any]:
    found: dict[str, Any] = plain(measure_peaks(request["threads"], seconds=request["seconds"]))
    return found


def _trial(request: Mapping[str, Any], _times: Mapping[str, float]) -> dict[str, Any]:
    """Load and use a model that may crash the process."""
    if request["group"] == DETECTORS:
        picture = np.random.default_rng(0).integers(0, 256, TRIAL_SIZE, dtype=np.uint8)
        load_detector(request["reference"]).detect(picture)
        return {}
    estimator = load_estimator(request["reference"])
    estimator.predict(generated_face().cut(estimator.spec.crop, 1))
    return {}


_TASKS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, float]], dict[str, Any]]] = {
    "cold_start": _cold_start,
    "resources": _resources,
    "peaks": _peaks,
    "trial": _trial,
}


_STATUS = Path("/proc/self/status")


def peak_rss_bytes() -> int:
    """Return the peak resident memory of this process since it started.

    On Linux it is VmHWM: `getrusage` would include the parent's memory at the time of the fork,
    often far more than the child itself ever uses.
    """
    if _STATUS.exists():
        match = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
        if match:
            return int(match.group(1)) * 1024
    info = psutil.Process().memory_info()
    if sys.platform == "win32":
        return int(info.peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def device_used_bytes(device: str) -> int | None:
    """Return the CUDA device's memory in use; None for the CPU, or if it can't be queried."""
    if device != "cuda":
        return None
    from agebench.runtimes.onnx_runtime import import_onnxruntime, preload_cuda

    preload_cuda(import_onnxruntime())
    try:
        return used_bytes(load_runtime())
    except DeviceError:
        return None
