"""The batch sweep: contenders take turns, every sample is kept, warm-up is not counted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil

from agebench.bench.bench_faces import FaceSource
from agebench.bench.latency import StageTimes, turns
from agebench.errors import AgebenchError, ContractError, UsageError
from agebench.protocols import Estimator, ProgressStep, no_progress
from agebench.types import CropSpec

WARM_UP_LEAST, WARM_UP_MOST = 4, 20
WARM_UP_WINDOW = 3
WARM_UP_TOLERANCE = 0.05
"""Warm-up ends when the median of the last `WARM_UP_WINDOW` runs is within this share of that of
the runs one before, or after `WARM_UP_MOST`."""

SECONDS_LEAST_ROUNDS, MOST_ROUNDS = 20, 1000
"""Bounds on the rounds where a time is given: enough to say something, few enough to keep all."""

_BYTES_PER_PIXEL = 3 + 3 * 4 * 2
"""A crop's pixel: three bytes, the same as float32, and once more inside the runtime."""
_BYTES_PER_FACE = 4096
"""A prediction, its distribution and the loose ends."""
_MEMORY_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """One estimator at one batch size; all milliseconds are per call, not per face.

    Attributes:
        batch: faces per call.
        warmup_ms: the runs before the first counted one.
        crop: cutting the faces out of decoded pictures.
        infer: from crops to ages: `Estimator.predict`.
    """

    batch: int
    warmup_ms: tuple[float, ...]
    crop: StageTimes
    infer: StageTimes

    @property
    def total(self) -> StageTimes:
        """Crop and infer together, round by round."""
        pairs = zip(self.crop.samples_ms, self.infer.samples_ms, strict=True)
        return StageTimes(tuple(crop + infer for crop, infer in pairs))

    @property
    def faces_per_s(self) -> float:
        """Faces of all rounds over the time that they took together."""
        samples = self.total.samples_ms
        return 1e3 * self.batch * len(samples) / sum(samples)

    def to_json(self) -> dict[str, Any]:
        """Return all samples and their summary, as what JSON can hold."""
        return {
            "batch": self.batch,
            **self.total.to_json(),
            "faces_per_s": self.faces_per_s,
            "stages": {"crop": self.crop.to_json(), "infer": self.infer.to_json()},
            "warmup_ms": list(self.warmup_ms),
        }


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often everything is run.

    Attributes:
        repeats: exactly so many rounds; None to go by time.
        seconds: per contender and batch size, with at least `SECONDS_LEAST_ROUNDS` rounds and at
            most `MOST_ROUNDS`; not looked at where `repeats` is given.
    """

    repeats: int | None = None
    seconds: float = 5.0

    def go_on(self, done: int, elapsed_s: float, contenders: int) -> bool:
        """Tell if there is to be another round."""
        if self.repeats is not None:
            return done < self.repeats
        if done < SECONDS_LEAST_ROUNDS:
            return True
        return done < MOST_ROUNDS and elapsed_s < self.seconds * contenders


def needed_bytes(spec: CropSpec, batch: int) -> int:
    """Return about how much memory a call with `batch` faces takes, model and picture apart."""
    pixels = sum(view.size_hw[0] * view.size_hw[1] for view in spec.views.values())
    return batch * (pixels * _BYTES_PER_PIXEL + _BYTES_PER_FACE)


def check_memory(name: str, spec: CropSpec, batch: int) -> None:
    """Refuse a batch that can't fit before the system kills the process.

    Raises:
        UsageError: says how much is needed and how much is free.
    """
    needed, free = needed_bytes(spec, batch), psutil.virtual_memory().available
    if needed > _MEMORY_SHARE * free:
        raise UsageError(
            f"batch {batch} of {name} needs about {needed / 1e9:,.1f} GB of memory, "
            f"{free / 1e9:,.1f} GB are free: give smaller batch sizes"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Runner:
    """One contender: what is timed.

    Attributes:
        name: in the result.
        estimator: what is asked.
    """

    name: str
    estimator: Estimator

    def run(self, faces: FaceSource, batch: int) -> tuple[float, float]:
        """Cut and predict once; return the milliseconds of both.

        Raises:
            AgebenchError: it fails; names the estimator and the batch size.
        """
        try:
            begin = time.perf_counter()
            crops = faces.cut(self.estimator.spec.crop, batch)
            cut = time.perf_counter()
            answers = self.estimator.predict(crops)
            end = time.perf_counter()
        except AgebenchError as error:
            raise type(error)(f"{self.name} at batch {batch}: {error}") from error
        except MemoryError as error:
            raise AgebenchError(
                f"{self.name} at batch {batch}: the memory is full: give smaller batch sizes"
            ) from error
        except Exception as error:  # a stranger's estimator may fail in any way
            raise AgebenchError(
                f"{self.name} at batch {batch}: {type(error).__name__}: {error}"
            ) from error
        if len(answers) != batch:
            raise ContractError(
                f"{self.name}: expected {batch} predictions for {batch} faces, got {len(answers)}"
            )
        return (cut - begin) * 1e3, (end - cut) * 1e3

    def total_ms(self, faces: FaceSource, batch: int) -> float:
        """Cut and predict once; return the milliseconds of both together."""
        return sum(self.run(faces, batch))


def is_stable(times_ms: Sequence[float]) -> bool:
    """Tell if the last runs took about as long as those one before.

    >>> is_stable([90.0, 10.0, 10.1, 10.0])
    True
    >>> is_stable([90.0, 50.0, 30.0, 20.0])
    False
    """
    if len(times_ms) < max(WARM_UP_LEAST, WARM_UP_WINDOW + 1):
        return False
    now = statistics.median(times_ms[-WARM_UP_WINDOW:])
    before = statistics.median(times_ms[-WARM_UP_WINDOW - 1 : -1])
    return abs(now - before) <= WARM_UP_TOLERANCE * before


def warm_up(run: Callable[[], float]) -> tuple[float, ...]:
    """Run until the times are stable, `WARM_UP_MOST` times at most; return them all.

    Each shape needs its own: libraries allocate buffers and choose kernels for each.
    """
    times: list[float] = []
    while len(times) < WARM_UP_MOST and not is_stable(times):
        times.append(run())
    return tuple(times)


def run_sweep(
    runners: Sequence[Runner],
    faces: FaceSource,
    batches: Sequence[int],
    rounds: Rounds,
    progress: ProgressStep = no_progress,
) -> list[list[BatchTimes]]:
    """Time all runners at all batch sizes.

    In each round every runner runs once; the order is drawn anew each time (`turns`),
    so that drift of the machine's speed hits all alike.

    Returns:
        Per runner its times, one entry per batch size in the order given.

    Raises:
        UsageError: a batch does not fit into memory; nothing has run yet.
        AgebenchError: a runner fails.
    """
    for batch in batches:
        for runner in runners:
            check_memory(runner.name, runner.estimator.spec.crop, batch)
    found: list[list[BatchTimes]] = [[] for _ in runners]
    for done, batch in enumerate(batches):
        progress("batch sizes", done, len(batches))
        for times, own in zip(_one_batch(runners, faces, batch, rounds), found, strict=True):
            own.append(times)
    progress("batch sizes", len(batches), len(batches))
    return found


def _one_batch(
    runners: Sequence[Runner], faces: FaceSource, batch: int, rounds: Rounds
) -> list[BatchTimes]:
    warm = [warm_up(partial(runner.total_ms, faces, batch)) for runner in runners]
    crop: list[list[float]] = [[] for _ in runners]
    infer: list[list[float]] = [[] for _ in runners]
    start, number = time.monotonic(), 0
    while rounds.go_on(number, time.monotonic() - start, len(runners)):
        for index in turns(number, len(runners)):
            crop_ms, infer_ms = runners[index].run(faces, batch)
            crop[index].append(crop_ms)
            infer[index].append(infer_ms)
        number += 1
    return [
        BatchTimes(
            batch, warm[index], StageTimes(tuple(crop[index])), StageTimes(tuple(infer[index]))
        )
        for index in range(len(runners))
    ]
