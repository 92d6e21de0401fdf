"""The measurements of `gpu.py`, one function per kind of row; each returns figures by name."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agebench import load_dataset, load_detector, load_estimator
from agebench.benchmark.result import BenchSettings
from agebench.benchmark.speed import bench
from agebench.errors import DeviceError
from agebench.runtimes.base import ModelSource
from agebench.runtimes.device_timer import DeviceSample, onnx_timer
from agebench.runtimes.threads import pinned
from agebench.runtimes.torch_device import exact_float32
from agebench.runtimes.torch_graph import PRECISIONS, TorchGraph, read_graph
from agebench.types import FaceFrame
from agebench.vision.crops import cut_crops
from agebench.vision.frames import canonical_frame
from agebench.vision.images import read_image
from benchmarks.gpu_crops import cut_on_device
from benchmarks.gpu_networks import How, Network, prepared
from benchmarks.gpu_times import DeviceTimes, captured, synchronise, time_runs

CHIP_SIDE = 200
"""Side of UTKFace's chips, pixels."""


def product_rate(how: How, precision: str) -> dict[str, float]:
    """Measure the operations per second of a matrix product."""
    side = 512 if how.quick else 8192
    first = torch.randn(side, side, device=how.device).to(PRECISIONS[precision])
    out = torch.empty_like(first)
    with exact_float32(tf32=precision == "tf32"):
        times = how.time(lambda: torch.mm(first, first, out=out))
    return {"side": side, "flops_per_s": 2e3 * side**3 / min(times.event_ms or times.wall_ms)}


def copy_rate(how: How) -> dict[str, float]:
    """Measure the bytes read and written per second by a copy on the device."""
    source = torch.zeros(1 << (24 if how.quick else 30), dtype=torch.uint8, device=how.device)
    target = torch.empty_like(source)
    times = how.time(lambda: target.copy_(source))
    return {"bytes_per_s": 2e3 * source.numel() / min(times.event_ms or times.wall_ms)}


def sample_inputs() -> tuple[list[Tensor], np.ndarray[Any, Any]]:
    """Return the bundled sample as the multi-crop network's inputs, and its true ages."""
    spec, detector = load_estimator("multicrop-resnet").spec, load_detector("aligned")
    items = load_dataset("sample").samples
    parts = []
    for item in items:
        picture = read_image(item.path)
        frame = canonical_frame(detector.detect(picture)[0], detector.spec)
        parts.append(cut_crops(picture, [frame], spec.crop))
    views = [
        torch.from_numpy(np.concatenate([part.views[name] for part in parts])).permute(0, 3, 1, 2)
        for name in spec.crop.views
    ]
    there = torch.ones((len(items), len(views), 1, 1))
    return [*views, there], np.array([item.age_years for item in items], float)


def ages_in(
    how: How, network: Network, inputs: list[Tensor], precision: str
) -> np.ndarray[Any, Any]:
    """Return the ages computed in the given precision, float64 (n,)."""
    graph = read_graph(network.path).to(how.device).computed_in(precision)
    converted = [value.to(how.device, PRECISIONS[precision]) for value in inputs]
    with torch.inference_mode(), exact_float32(tf32=precision == "tf32"):
        return np.asarray(graph(*converted)[0].float().cpu().numpy().reshape(-1), float)


def _percentiles(times: DeviceTimes) -> dict[str, Any]:
    found: dict[str, Any] = {"n": len(times.wall_ms)}
    for what, samples in (("wall", times.wall_ms), ("event", times.event_ms)):
        if samples:
            values = np.percentile(samples, (50, 90, 99))
            names = (f"{what}_p{at}_ms" for at in (50, 90, 99))
            found |= dict(zip(names, map(float, values), strict=True))
    return found


def roofline_ms(network: Network, batch: int, precision: str, limits: Mapping[str, float]) -> float:
    """Return the minimum time of a call at the measured peak rates; 0 if they are unknown."""
    if not (limits.get(precision) and limits.get("bytes")):
        return 0.0
    width = PRECISIONS[precision].itemsize / 4
    moved = width * (network.weight_bytes + batch * network.input_bytes)
    return 1e3 * max(2.0 * network.macs * batch / limits[precision], moved / limits["bytes"])


def _call(
    how: How, graph: TorchGraph, inputs: list[Tensor], mode: str
) -> Callable[[], Sequence[Tensor]]:
    """Return a function that runs a graph: eager, captured as a CUDA graph, or compiled too."""
    module: Callable[..., Sequence[Tensor]] = graph
    if mode == "compile":
        torch.compiler.reset()  # each network is a recompilation; after eight, it would run eagerly
        module = torch.compile(graph, mode="max-autotune-no-cudagraphs", dynamic=False)
        module(*inputs)
    if mode == "eager" or how.device == "cpu":
        return lambda: module(*inputs)
    return captured(module, inputs)


def time_network(
    how: How,
    network: Network,
    batch: int,
    variant: tuple[str, str, str],
    limits: Mapping[str, float],
) -> dict[str, Any]:
    """Time one network in one mode, precision and layout, and its first call separately."""
    mode, precision, layout = variant
    last = layout == "channels_last"
    graph, inputs = prepared(network, batch, how, precision, channels_last=last)
    began = time.perf_counter()
    with torch.inference_mode(), exact_float32(tf32=precision == "tf32"):
        call = _call(how, graph, inputs, mode)
        call()
        synchronise(how.device)
        cold_ms = (time.perf_counter() - began) * 1e3
        times = how.time(call)
    found = {"cold_ms": cold_ms, **_percentiles(times)}
    median = found.get("event_p50_ms", found["wall_p50_ms"])
    least = roofline_ms(network, batch, precision, limits)
    found |= {"faces_per_s": 1e3 * batch / found["wall_p50_ms"], "roofline_ms": least}
    if how.device == "cuda":
        found["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    return found | {"of_roofline": least / median}


def time_onnxruntime(how: How, network: Network, batch: int, provider: str) -> dict[str, Any]:
    """Time a file under ONNX Runtime with I/O binding: transfers and network separately."""
    inputs = network.inputs(batch, "cpu", "float32", channels_last=False)
    names = read_graph(network.path).inputs
    feeds = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    timer = onnx_timer(ModelSource("onnx", network.path), feeds, provider)
    for _ in range(3):
        timer.sample()
    end = time.perf_counter() + how.seconds
    samples: list[DeviceSample] = []
    while len(samples) < 10 or time.perf_counter() < end:
        samples.append(timer.sample())
    events = tuple(item.event_ms for item in samples if item.event_ms is not None)
    times = DeviceTimes(tuple(item.network_ms for item in samples), events)
    return _percentiles(times) | {
        "to_device_p50_ms": float(np.median([item.to_device_ms for item in samples])),
        "to_host_p50_ms": float(np.median([item.to_host_ms for item in samples])),
    }


def _chips(count: int) -> tuple[np.ndarray[Any, Any], list[FaceFrame]]:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, CHIP_SIDE, CHIP_SIDE, 3), dtype=np.uint8)
    places = rng.normal((CHIP_SIDE / 2, CHIP_SIDE / 2), 4, (count, 2))
    frames = [
        FaceFrame((float(x), float(y)), 221.0, float(roll))
        for (x, y), roll in zip(places, rng.normal(0, 0.1, count), strict=True)
    ]
    return pictures, frames


def time_crops(how: How, batch: int) -> dict[str, Any]:
    """Time the cutting of all views on device and host; include the largest pixel difference."""
    spec = load_estimator("multicrop-resnet").spec.crop
    pictures, frames = _chips(batch)
    pinned = torch.from_numpy(pictures)
    if how.device == "cuda":
        pinned = pinned.pin_memory()
    moved = how.time(lambda: pinned.to(how.device, non_blocking=True))
    there = pinned.to(how.device)
    times = how.time(lambda: cut_on_device(there, frames, spec))
    found = cut_on_device(there, frames, spec)
    began = time.perf_counter()
    host = [
        cut_crops(picture, [frame], spec) for picture, frame in zip(pictures, frames, strict=True)
    ]
    host_ms = (time.perf_counter() - began) * 1e3
    off = max(
        int(
            np.abs(
                np.concatenate([part.views[name] for part in host]).astype(int)
                - found.views[name].permute(0, 2, 3, 1).cpu().numpy()
            ).max()
        )
        for name in spec.views
    )
    return _percentiles(times) | {
        "to_device_p50_ms": float(np.median(moved.wall_ms)),
        "host_ms": host_ms,
        "largest_difference_levels": off,
    }


def time_whole_path(how: How, network: Network, batch: int, precision: str) -> dict[str, Any]:
    """Time the path from decoded pictures to ages: transfer, crops and network, on the device."""
    spec = load_estimator("multicrop-resnet").spec.crop
    pictures, frames = _chips(batch)
    pinned = torch.from_numpy(pictures)
    if how.device == "cuda":
        pinned = pinned.pin_memory()
    graph, inputs = prepared(network, batch, how, precision, channels_last=True)
    with torch.inference_mode():
        replay = captured(graph, inputs) if how.device == "cuda" else lambda: graph(*inputs)

        def whole() -> Tensor:
            crops = cut_on_device(pinned.to(how.device, non_blocking=True), frames, spec)
            for value, view in zip(inputs, crops.views.values(), strict=False):
                value.copy_(view)
            return replay()[0].cpu()

        times = how.time(whole)
    found = _percentiles(times)
    return found | {"faces_per_s": 1e3 * batch / found["wall_p50_ms"]}


def harness_ratio(how: How, reference: str, batch: int) -> dict[str, Any]:
    """Compare the harness's figure with bare loops around the same call, run before and after it.

    Both use the same number of threads.  The ratio of the two loops shows how much the machine
    itself changed in the meantime; smaller differences from 1 in `ratio` mean nothing.
    """
    device = None if how.device == "cpu" else how.device
    text = reference if device is None else f"{reference}:{device}"
    settings = BenchSettings(
        device=device, batches=(batch,), repeats=10 if how.quick else 100, cold_starts=0
    )

    def loop() -> float:
        with pinned(None):
            estimator = load_estimator(text)
            pictures, frames = _chips(1)
            crops = cut_crops(pictures[0], frames * batch, estimator.spec.crop)
            seconds = max(how.seconds, 0.3)
            times = time_runs(lambda: estimator.predict(crops), "cpu", seconds=seconds, least=10)
        return float(np.median(times.wall_ms))

    before = loop()
    entry = bench([reference], settings=settings).entries[0]
    measured = entry.sweep[0].infer.percentile(50) or 0.0
    bare = before, loop()
    return {
        "harness_p50_ms": measured,
        "bare_p50_ms": sum(bare) / 2,
        "ratio": 2 * measured / sum(bare),
        "loops_apart": max(bare) / min(bare),
    }


def profile(how: How, network: Network, batch: int, precision: str) -> dict[str, Any]:
    """Return the kernels that take most of a call's time."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    graph, inputs = prepared(network, batch, how, precision, channels_last=True)
    activities = [ProfilerActivity.CPU]
    if how.device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with torch.inference_mode():
        graph(*inputs)
        with profiled(activities=activities) as recorded:
            graph(*inputs)
            synchronise(how.device)
    key = "self_device_time_total" if how.device == "cuda" else "self_cpu_time_total"
    events: Any = recorded.key_averages()
    by_time = sorted(events, key=lambda item: -getattr(item, key))[:12]
    total = sum(getattr(item, key) for item in events) or 1.0
    return {
        "kernels": [
            {"name": item.key[:120], "calls": item.count, "of_all": getattr(item, key) / total}
            for item in by_time
        ]
    }


def power(how: How, network: Network, batch: int, precision: str) -> dict[str, Any]:
    """Measure the power drawn while a loop runs, as reported by nvidia-smi."""
    command = [
        "nvidia-smi",
        "--query-gpu=power.draw",
        "--format=csv,noheader,nounits",
        "-lms",
        "200",
    ]
    graph, inputs = prepared(network, batch, how, precision, channels_last=True)
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tool,
        torch.inference_mode(),
    ):
        times = time_runs(
            lambda: graph(*inputs), how.device, seconds=0.2 if how.quick else 3, most=10**6
        )
        tool.terminate()
        output, _ = tool.communicate()
    watts = [float(line) for line in output.split() if line.replace(".", "", 1).isdigit()]
    if not watts:
        raise DeviceError("nvidia-smi reported no power")
    median = float(np.median(watts[len(watts) // 3 :]))
    return {
        "power_w": median,
        "joules_per_face": median * float(np.median(times.wall_ms)) / 1e3 / batch,
    }
