"""`bench`: latency by batch size, with memory, operations and the machine's limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from agebench.benchmark.device_pass import time_networks
from agebench.benchmark.resources import NetworkRuns, Resources, measure_resources
from agebench.benchmark.result import BENCH_FILE, BenchEntry, BenchResult, BenchSettings
from agebench.benchmark.sweep import Runner, Sweep, check_memory, run_sweep
from agebench.errors import UsageError
from agebench.harness.environment import describe_call
from agebench.harness.loading import check_names, load_pictures
from agebench.harness.results import output_folder
from agebench.protocols import ProgressStep, no_progress
from agebench.references import called
from agebench.registry.defaults import choose_detector
from agebench.registry.plugins import named_detector
from agebench.runtimes.gpu_state import GpuWatch
from agebench.runtimes.threads import pinned
from agebench.timing.children import ask_child
from agebench.timing.devices import load_on, reference_on, require_device
from agebench.timing.latency import StageTimes
from agebench.timing.pairs import busyness_json
from agebench.timing.ratios import (
    BLOCKS,
    LEVEL,
    MAX_SELF_DIFFERENCE,
    Comparison,
    Control,
    compare_speeds,
    measure_control,
    statement_level,
)
from agebench.timing.roofline import PROBE_SECONDS, Peaks, measure_device_peaks
from agebench.timing.sweep_faces import FaceSource, generated_face, real_faces
from agebench.types import plain
from agebench.util.files import check_target
from agebench.util.process_pool import usable_cores

STAGES = ("process", "import", "load", "first", "second", "total")
"""Process start, import of agebench with numpy and OpenCV, loading of the estimator (including its
runtime's library), first and second call with one face; the total ends with the first call."""

_IN_TOTAL = ("process", "import", "load", "first")


def bench(
    estimators: Sequence[str],
    *,
    dataset: str | None = None,
    root: str | Path | None = None,
    detector: str | None = None,
    out: str | Path | None = None,
    settings: BenchSettings | None = None,
    progress: ProgressStep = no_progress,
) -> BenchResult:
    """Measure the latency of estimators by batch size.

    Args:
        estimators: references, not objects, since they are loaded again in child processes.
        dataset: source of real faces; None for generated ones.
        root: its folder or file.
        detector: of the real faces, which is not timed.  None chooses as `compare` does.
        out: folder for bench.json; None writes nothing.
        settings: see `BenchSettings`.
        progress: called as the measurement proceeds.

    Raises:
        UsageError: the call is wrong, or a batch does not fit into memory.
        DeviceError: the requested device is not available.
        AgebenchError: any other failure.
    """
    settings = settings or BenchSettings()
    names = _names(estimators, detector, settings.device)
    devices = () if settings.device is None else require_device(settings.device)
    if dataset is None and root is not None:
        raise UsageError("--root needs --dataset: say what kind of data set it is")
    if dataset is None and detector is not None:
        raise UsageError("--detector needs --dataset: generated faces need no detector")
    cores_before = usable_cores()
    with output_folder(out), pinned(settings.threads, pin=settings.pin) as (threads, cores):
        if out is not None:
            check_target(Path(out) / BENCH_FILE)
        loads = [partial(load_on, name, settings.device) for name in names]
        runners = [Runner(name, load(), load) for name, load in zip(names, loads, strict=True)]
        for runner in runners:
            check_memory(runner.name, runner.estimator.spec.crop, max(settings.batches))
        faces = _faces(runners, dataset, root, detector, settings)
        about = _about(faces, settings, devices)
        about["machine"] |= {"threads": threads, "processors": cores}
        about["environment"] = {**about["environment"], "cores": cores_before}
        result = _measure(runners, faces, settings, threads, about, progress)
        if out is not None:
            result.save(out)
    return result


def _names(estimators: Sequence[str], detector: str | None, device: str | None) -> list[str]:
    """Check the names and return them with single spaces."""
    check_names(estimators, detector)
    names = [called(item) for item in estimators]
    for name in names:
        reference_on(name, device)
        if names.count(name) > 1:
            raise UsageError(f"estimator {name!r} is given twice: give it once")
    return names


def _faces(
    runners: Sequence[Runner],
    dataset: str | None,
    root: str | Path | None,
    detector: str | None,
    settings: BenchSettings,
) -> FaceSource:
    if dataset is None:
        return generated_face(settings.seed)
    pictures, _ = load_pictures(dataset, None if root is None else Path(root), None)
    specs = [runner.estimator.spec for runner in runners]
    chosen, why = choose_detector(detector, pictures.spec, specs)
    name, face_detector = named_detector(chosen)
    found_by = f"{dataset}, found by {name}" + (f" ({why})" if why else "")
    return real_faces(
        pictures.samples,
        face_detector,
        [runner.estimator for runner in runners],
        origin="; ".join((found_by, *pictures.spec.notes)),
        max_pixels=settings.max_pixels,
    )


def _about(faces: FaceSource, settings: BenchSettings, devices: tuple[str, ...]) -> dict[str, Any]:
    return {
        **describe_call(),
        "settings": plain(settings),
        "faces": {"origin": faces.origin, "pictures": len(faces.pairs), "names": list(faces.names)},
        "machine": {"devices": list(devices)},
    }


def _peaks(devices: set[str], threads: int) -> dict[str, Peaks]:
    found: dict[str, Peaks] = {}
    if "cpu" in devices:
        found["cpu"] = Peaks(**ask_child("peaks", {"seconds": PROBE_SECONDS}, threads=threads))
    if "cuda" in devices:
        found["cuda"] = measure_device_peaks("cuda")
    return found


def _measure(
    runners: Sequence[Runner],
    faces: FaceSource,
    settings: BenchSettings,
    threads: int,
    about: dict[str, Any],
    progress: ProgressStep,
) -> BenchResult:
    devices = {item.estimator.spec.runtime.device for item in runners}
    gpu = GpuWatch.begin() if "cuda" in devices else None
    progress("probe", 0, 2)
    peaks = _peaks(devices, threads)
    progress("probe", 1, 2)
    resources = _resources(runners, settings, threads, progress)
    sweep = run_sweep(runners, faces, settings.batches, settings.rounds, progress, threads=threads)
    # A disturbed probe is too slow, never too fast: the faster of two is more accurate.
    again = _peaks(devices, threads)
    peaks = {device: found.at_least(again[device]) for device, found in peaks.items()}
    progress("probe", 2, 2)
    cold: Sequence[Mapping[str, StageTimes] | None] = [None] * len(runners)
    if settings.cold_starts:
        cold = measure_cold_starts(
            [runner.name for runner in runners],
            device=settings.device,
            count=settings.cold_starts,
            threads=threads,
            progress=progress,
        )
    entries = []
    for at, runner in enumerate(runners):
        device = runner.estimator.spec.runtime.device
        used, networks = resources[at]
        stages = _device_stages(networks, device, settings)
        limits = peaks.get(device)
        entries.append(BenchEntry(runner, sweep.times[at], used, limits, stages, cold[at]))
    gpu = None if gpu is None else gpu.end()
    comparisons, controls = compare_sweep(runners, sweep, "" if gpu is None else gpu.trouble)
    about["machine"] |= {
        **busyness_json(sweep.busyness),
        "gpu": None if gpu is None else plain(gpu) | {"trouble": gpu.trouble},
        "peaks": plain(peaks),
    }
    about["statistics"] = {
        "joint_level": LEVEL,
        "level": statement_level(len(comparisons)),
        "correction": "bonferroni",
        "blocks": BLOCKS,
        "most_self_difference": MAX_SELF_DIFFERENCE,
    }
    return BenchResult(tuple(entries), tuple(comparisons), tuple(controls), about)


def compare_sweep(
    runners: Sequence[Runner], sweep: Sweep, trouble: str = ""
) -> tuple[list[Comparison], list[Control]]:
    """Compare speeds at each batch size, and the first contender with itself.

    There is no verdict if other processes, or `trouble` with a GPU, made times incomparable.
    """
    pairs = math.comb(len(runners), 2)
    if not pairs:
        return [], []
    comparisons, controls = [], []
    for at, second_copy in enumerate(sweep.control):
        samples = [
            (runner.name, own[at].total.samples_ms)
            for runner, own in zip(runners, sweep.times, strict=True)
        ]
        batch, sizes = second_copy.batch, second_copy.block_rounds
        second_ms = second_copy.total.samples_ms
        control = measure_control(samples[0][0], batch, samples[0][1], second_ms, sizes)
        controls.append(control)
        comparisons += compare_speeds(
            samples,
            batch,
            control,
            number=pairs * len(sweep.control),
            sizes=sizes,
            busy=sweep.busyness.reason or trouble,
        )
    return comparisons, controls


def _resources(
    runners: Sequence[Runner], settings: BenchSettings, threads: int, progress: ProgressStep
) -> list[tuple[Resources, list[NetworkRuns]]]:
    resources = []
    for done, runner in enumerate(runners):
        progress("memory and operations", done, len(runners))
        resources.append(
            measure_resources(
                runner.name,
                runner.estimator.spec.runtime,
                device=settings.device,
                batches=settings.batches,
                threads=threads,
            )
        )
    progress("memory and operations", len(runners), len(runners))
    return resources


def _device_stages(
    networks: Sequence[NetworkRuns], device: str, settings: BenchSettings
) -> tuple[Mapping[str, StageTimes] | None, ...]:
    if device != "cuda":
        return ()
    return tuple(
        time_networks(networks, batch, device, settings.rounds) for batch in settings.batches
    )


def measure_cold_starts(
    references: Sequence[str],
    *,
    device: str | None,
    count: int,
    threads: int,
    progress: ProgressStep = no_progress,
) -> list[dict[str, StageTimes]]:
    """Start each estimator in `count` new processes, taking turns.

    The files are in the system's cache after the first start: this is not the first start after a
    boot.

    Returns:
        For each estimator the times of each stage of `STAGES`.

    Raises:
        AgebenchError: one fails.
    """
    found: list[list[Mapping[str, float]]] = [[] for _ in references]
    total = count * len(references)
    for number in range(count):
        for offset in range(len(references)):
            index = (number + offset) % len(references)
            progress("cold starts", number * len(references) + offset, total)
            arguments = {"reference": references[index], "device": device}
            found[index].append(ask_child("cold_start", arguments, threads=threads))
    progress("cold starts", total, total)
    return [_by_stage(runs) for runs in found]


def _by_stage(runs: Sequence[Mapping[str, float]]) -> dict[str, StageTimes]:
    times = {
        stage: tuple(run[f"{stage}_ms"] for run in runs) for stage in STAGES if stage != "total"
    }
    times["total"] = tuple(sum(run[f"{stage}_ms"] for stage in _IN_TOTAL) for run in runs)
    return {stage: StageTimes(times[stage]) for stage in STAGES}
