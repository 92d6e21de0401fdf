"""Settings and results of `bench`, and the file that stores them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agebench.benchmark.resources import Resources
from agebench.benchmark.sweep import BatchTimes, Rounds, Runner
from agebench.errors import UsageError
from agebench.harness.loading import reads_back_its_runtime
from agebench.runtimes.threads import check_threads
from agebench.timing.latency import StageTimes
from agebench.timing.ratios import Comparison, Control
from agebench.timing.roofline import Peaks
from agebench.types import plain
from agebench.util.checks import require_whole
from agebench.util.files import write_whole
from agebench.vision.images import MAX_PIXELS

SCHEMA_VERSION = 4
READABLE_VERSIONS = (1, 2, 3, SCHEMA_VERSION)
"""Older files are read with present key names; docs/latency.md says what changed."""
BENCH_FILE = "bench.json"
DEFAULT_BATCHES = (1, 4, 16, 64)

COMPUTED_IN_FLOAT32 = ("float32", "float16-weights")
"""Precisions of models that compute in float32."""


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
        cold_starts: number of new processes per estimator, timed from start to the first age.
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
        for name, minimum in {"repeats": 1, "cold_starts": 0, "seed": 0, "max_pixels": 1}.items():
            require_whole(name, getattr(self, name), minimum)
        if self.seconds is not None and not 0 < self.seconds <= 3600:
            raise UsageError(f"seconds must be above 0 and at most 3600, got {self.seconds:g}")

    @property
    def rounds(self) -> Rounds:
        """The number of rounds."""
        return Rounds(self.repeats) if self.seconds is None else Rounds(None, self.seconds)


def _check_batches(batches: Sequence[int]) -> None:
    if not batches:
        raise UsageError("no batch size was given: expected a list such as 1,4,16")
    for size in batches:
        require_whole("a batch size", size, 1)
    if len(set(batches)) < len(batches):
        raise UsageError(f"a batch size is given twice: {', '.join(map(str, batches))}")


@dataclass(frozen=True, slots=True, eq=False)
class BenchEntry:
    """One estimator's figures.

    Attributes:
        runner: name and estimator.
        sweep: one entry per batch size.
        resources: memory, operations and file sizes.
        peaks: limits of the device that it runs on; None if not measured.
        device_stages: for each batch size the parts of the network's time on a device; empty on the
            CPU.
        cold_start: times by stage; None if not requested.
    """

    runner: Runner
    sweep: tuple[BatchTimes, ...]
    resources: Resources
    peaks: Peaks | None
    device_stages: tuple[Mapping[str, StageTimes] | None, ...] = ()
    cold_start: Mapping[str, StageTimes] | None = None

    def roofline_ms(self, batch: int) -> float | None:
        """Return the least time of a call; None if not known.

        The limits are those of float32: a model with lower precision may be faster.
        """
        precision = self.runner.estimator.spec.settings.get("precision", "float32")
        if self.peaks is None or precision not in COMPUTED_IN_FLOAT32:
            return None
        return self.resources.roofline_ms(batch, self.peaks)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-compatible values; see docs/latency.md."""
        sweep = []
        for at, times in enumerate(self.sweep):
            roofline, median = self.roofline_ms(times.batch), times.infer.percentile(50)
            ratio = median / roofline if roofline and median is not None else None
            stages = plain(self.device_stages[at]) if self.device_stages else None
            extra = {"roofline_ms": roofline, "infer_to_roofline": ratio, "device_stages": stages}
            sweep.append(times.to_json() | extra)
        return {
            "name": self.runner.name,
            "spec": plain(self.runner.estimator.spec),
            "runtime_proven": reads_back_its_runtime(self.runner.estimator),
            "resources": plain(self.resources),
            "cold_start": plain(self.cold_start),
            "batch_sweep": sweep,
        }


@dataclass(frozen=True, slots=True, eq=False)
class BenchResult:
    """All figures of one measurement.

    Attributes:
        entries: in the order given.
        comparisons: of all pairs of estimators at each batch size.
        controls: how much the first estimator differs from itself, by batch size; empty with a
            single estimator.
        about: command, machine and settings.
    """

    entries: tuple[BenchEntry, ...]
    comparisons: tuple[Comparison, ...]
    controls: tuple[Control, ...]
    about: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the whole result as JSON-compatible values; see docs/latency.md."""
        return {
            "schema_version": SCHEMA_VERSION,
            **plain(self.about),
            "estimators": [entry.to_json() for entry in self.entries],
            "comparisons": plain(self.comparisons),
            "controls": plain(self.controls),
        }

    def save(self, folder: str | Path) -> Path:
        """Write bench.json into `folder`, completely or not at all; return its path.

        Raises:
            AgebenchError: the folder can't be written to.
        """
        target = Path(folder) / BENCH_FILE
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_whole(target, text.encode("utf-8", "backslashreplace"))
        return target
