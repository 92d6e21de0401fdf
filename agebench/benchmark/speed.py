"""`bench`: latency alone, by batch size, with what it costs and what the machine allows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agebench.benchmark.cold_start import measure_cold_starts
from agebench.benchmark.device_pass import time_networks
from agebench.benchmark.resources import NetworkRuns, Resources, measure_resources
from agebench.benchmark.sweep import BatchTimes, Rounds, Runner, Sweep, check_memory, run_sweep
from agebench.errors import UsageError
from agebench.harness.environment import describe_call
from agebench.harness.loading import check_names, load_pictures, reads_back_its_runtime
from agebench.harness.results import output_folder
from agebench.protocols import ProgressStep, no_progress
from agebench.references import called
from agebench.registry.defaults import choose_detector
from agebench.registry.plugins import named_detector
from agebench.runtimes.gpu_state import GpuWatch
from agebench.runtimes.threads import check_threads, pinned
from agebench.timing.children import ask_child
from agebench.timing.devices import load_on, reference_on, require_device
from agebench.timing.latency import StageTimes, stages_json
from agebench.timing.pairs import busyness_json
from agebench.timing.ratios import (
    BLOCKS,
    LEVEL,
    MOST_SELF_DIFFERENCE,
    Comparison,
    Control,
    compare_speeds,
    measure_control,
    statement_level,
)
from agebench.timing.roofline import Peaks, measure_device_peaks
from agebench.timing.sweep_faces import FaceSource, generated_face, real_faces
from agebench.types import plain
from agebench.util.files import check_target, write_whole
from agebench.util.process_pool import usable_cores
from agebench.vision.images import MAX_PIXELS

SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, SCHEMA_VERSION)
"""Older files are read as they are; docs/latency.md says what changed."""
BENCH_FILE = "bench.json"
DEFAULT_BATCHES = (1, 4, 16, 64)


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """Settings of one measurement; all are written into its result.

    Attributes:
        device: "cpu" or "cuda" for all estimators; None for where each reference says.
        batches: faces per call, each measured on its own.
        threads: for OpenCV, ONNX Runtime and the probe; None for one per processor.
        pin: keep the process on that many processors.
        repeats: rounds per batch size; None to go by `seconds`.
        seconds: per estimator and batch size; None for 5.
        cold_starts: new processes per estimator to time from nothing to the first age; 0: none.
        seed: of generated faces.
        max_pixels: larger pictures are refused.

    Raises:
        UsageError: a number is out of range, or `repeats` and `seconds` are both given.
    """

    device: str | None = None
    batches: tuple[int, ...] = DEFAULT_BATCHES
    threads: int | None = None
    pin: bool = False
    repeats: int | None = None
    seconds: float | None = None
    cold_starts: int = 3
    seed: int = 0
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        check_threads(self.threads)
        _check_batches(self.batches)
        if self.repeats is not None and self.seconds is not None:
            raise UsageError("repeats and seconds exclude each other: give one of them")
        for name, least in {"repeats": 1, "cold_starts": 0, "seed": 0, "max_pixels": 1}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name} must be at least {least}, got {value}")
        if self.seconds is not None and not 0 < self.seconds <= 3600:
            raise UsageError(f"seconds must be above 0 and at most 3600, got {self.seconds:g}")

    @property
    def rounds(self) -> Rounds:
        """How often everything is run."""
        return Rounds(self.repeats) if self.seconds is None else Rounds(None, self.seconds)


def _check_batches(batches: Sequence[int]) -> None:
    if not batches:
        raise UsageError("no batch size was given: expected some, such as 1,4,16")
    if min(batches) < 1:
        raise UsageError(f"a batch size must be at least 1, got {min(batches)}")
    if len(set(batches)) < len(batches):
        raise UsageError(f"a batch size is given twice: {', '.join(map(str, batches))}")


@dataclass(frozen=True, slots=True, eq=False)
class BenchEntry:
    """One estimator's figures.

    Attributes:
        runner: name and estimator.
        sweep: one entry per batch size.
        resources: what it takes besides time.
        peaks: of the device that it runs on; None where they were not measured.
        device_stages: per batch size the parts of the network's time on a device; empty on the
            CPU.
        cold_start: times by stage; empty where not asked for.
    """

    runner: Runner
    sweep: tuple[BatchTimes, ...]
    resources: Resources
    peaks: Peaks | None
    device_stages: tuple[Mapping[str, StageTimes] | None, ...] = ()
    cold_start: Mapping[str, StageTimes] | None = None

    def floor_ms(self, batch: int) -> float | None:
        """Return the least time of a call; None where it is not known.

        The peaks are those of float32: a model that computes with shorter numbers goes below.
        """
        precision = self.runner.estimator.spec.settings.get("precision", "float32")
        if self.peaks is None or precision != "float32":
            return None
        return self.resources.floor_ms(batch, self.peaks)

    def to_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold; see docs/latency.md."""
        sweep = []
        for at, times in enumerate(self.sweep):
            floor, median = self.floor_ms(times.batch), times.infer.percentile(50)
            ratio = median / floor if floor and median is not None else None
            stages = self.device_stages[at] if self.device_stages else None
            device = None if stages is None else stages_json(stages)
            extra = {"floor_ms": floor, "infer_to_floor": ratio, "device_stages": device}
            sweep.append(times.to_json() | extra)
        return {
            "name": self.runner.name,
            "spec": plain(self.runner.estimator.spec),
            "runtime_proven": reads_back_its_runtime(self.runner.estimator),
            "resources": self.resources.to_json(),
            "cold_start": None if self.cold_start is None else stages_json(self.cold_start),
            "batch_sweep": sweep,
        }


@dataclass(frozen=True, slots=True, eq=False)
class BenchResult:
    """All figures of one measurement.

    Attributes:
        entries: in the order given.
        comparisons: every two estimators at each batch size.
        controls: what the first estimator differs from itself, by batch size; empty with a single
            one.
        about: how it was made.
    """

    entries: tuple[BenchEntry, ...]
    comparisons: tuple[Comparison, ...]
    controls: tuple[Control, ...]
    about: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the whole result as what JSON can hold; see docs/latency.md."""
        return {
            "schema_version": SCHEMA_VERSION,
            **plain(self.about),
            "estimators": [entry.to_json() for entry in self.entries],
            "comparisons": [item.to_json() for item in self.comparisons],
            "controls": [item.to_json() for item in self.controls],
        }

    def save(self, folder: str | Path) -> Path:
        """Write bench.json into `folder`, whole or not at all; return its path.

        Raises:
            AgebenchError: the folder can't be written to.
        """
        target = Path(folder) / BENCH_FILE
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_whole(target, text.encode("utf-8", "backslashreplace"))
        return target


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
        estimators: references; not objects, since they are loaded again in child processes.
        dataset: where real faces come from; None for generated ones.
        root: where it lies.
        detector: finds the real faces; it is not timed.  None chooses as `compare` does.
        out: folder for bench.json; None writes nothing.
        settings: see `BenchSettings`.
        progress: called as the measurement goes on.

    Raises:
        UsageError: the call is wrong, or a batch does not fit into memory.
        DeviceError: the device asked for is not here.
        AgebenchError: any other failure, in a sentence.
    """
    settings = settings or BenchSettings()
    names = _names(estimators, detector, settings.device)
    devices = () if settings.device is None else require_device(settings.device)
    if dataset is None and root is not None:
        raise UsageError("--root needs --dataset: what lies there?")
    if dataset is None and detector is not None:
        raise UsageError("--detector needs --dataset: generated faces are not looked for")
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
    """Check the names, and return them with single spaces."""
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
        found["cpu"] = Peaks(**ask_child("peaks", {}, threads=threads))
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
    taken = _resources(runners, settings, threads, progress)
    sweep = run_sweep(runners, faces, settings.batches, settings.rounds, progress, threads=threads)
    # A disturbed probe is too slow, never too fast: of two, the faster is nearer to the truth.
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
        resources, networks = taken[at]
        stages = _device_stages(networks, device, settings)
        limits = peaks.get(device)
        entries.append(BenchEntry(runner, sweep.times[at], resources, limits, stages, cold[at]))
    gpu = None if gpu is None else gpu.end()
    comparisons, controls = compare_sweep(runners, sweep, "" if gpu is None else gpu.trouble)
    about["machine"] |= {
        **busyness_json(sweep.busyness),
        "gpu": None if gpu is None else plain(gpu) | {"trouble": gpu.trouble},
        "peaks": {device: found.to_json() for device, found in peaks.items()},
    }
    about["statistics"] = {
        "joint_level": LEVEL,
        "level": statement_level(len(comparisons)),
        "correction": "bonferroni",
        "blocks": BLOCKS,
        "most_self_difference": MOST_SELF_DIFFERENCE,
    }
    return BenchResult(tuple(entries), tuple(comparisons), tuple(controls), about)


def compare_sweep(
    runners: Sequence[Runner], sweep: Sweep, trouble: str = ""
) -> tuple[list[Comparison], list[Control]]:
    """Say who is faster at each batch size, and what the first contender differs from itself.

    Nobody is faster where other processes, or `trouble` with a GPU, made times incomparable.
    """
    pairs = math.comb(len(runners), 2)
    if not pairs:
        return [], []
    comparisons, controls = [], []
    for at, again in enumerate(sweep.control):
        times = [own[at] for own in sweep.times]
        samples = [
            (runner.name, own.total.samples_ms) for runner, own in zip(runners, times, strict=True)
        ]
        sizes = again.block_rounds
        name, first_ms = samples[0]
        control = measure_control(name, again.batch, first_ms, again.total.samples_ms, sizes)
        controls.append(control)
        comparisons += compare_speeds(
            samples,
            again.batch,
            control,
            number=pairs * len(sweep.control),
            sizes=sizes,
            busy=sweep.busyness.reason or trouble,
        )
    return comparisons, controls


def _resources(
    runners: Sequence[Runner], settings: BenchSettings, threads: int, progress: ProgressStep
) -> list[tuple[Resources, list[NetworkRuns]]]:
    taken = []
    for done, runner in enumerate(runners):
        progress("memory and operations", done, len(runners))
        taken.append(
            measure_resources(
                runner.name,
                runner.estimator.spec.runtime,
                device=settings.device,
                batches=settings.batches,
                threads=threads,
            )
        )
    progress("memory and operations", len(runners), len(runners))
    return taken


def _device_stages(
    networks: Sequence[NetworkRuns], device: str, settings: BenchSettings
) -> tuple[Mapping[str, StageTimes] | None, ...]:
    if device != "cuda":
        return ()
    return tuple(
        time_networks(networks, batch, device, settings.rounds) for batch in settings.batches
    )
