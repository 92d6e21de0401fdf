"""The batch sweep: contenders alternate, all samples are kept, warm-up is not counted.

The rounds at a batch size are divided into blocks, and each block starts by reloading the models:
depending on their memory addresses, two copies of one file differ by a few per cent while they are
loaded, and with a single load this would be attributed to the model.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import psutil

from agebench.errors import AgebenchError, ContractError, UsageError
from agebench.protocols import Estimator, ProgressStep, no_progress
from agebench.timing.busy import Busyness, Watch
from agebench.timing.latency import StageTimes, turns
from agebench.timing.ratios import BLOCKS, block_sizes
from agebench.timing.sweep_faces import FaceSource
from agebench.types import CropSpec, plain
from agebench.util.foreign_code import foreign_code
from agebench.util.memory_limit import left_to_us

MIN_WARM_UP_RUNS, MAX_WARM_UP_RUNS = 4, 20
WARM_UP_WINDOW = 3
WARM_UP_TOLERANCE = 0.05
"""Warm-up ends when the median of the last `WARM_UP_WINDOW` runs is within this fraction of that of
the runs one before, or after `MAX_WARM_UP_RUNS`."""

MIN_ROUNDS, MAX_ROUNDS = 24, 1000
"""Bounds on the number of rounds if a time is given: enough for a verdict, few enough to store."""

_BYTES_PER_PIXEL = 3 + 3 * 4 * 2
"""Memory per pixel of a crop: three bytes, the same as float32, and again inside the runtime."""
_BYTES_PER_FACE = 4096
"""Memory per prediction, with its distribution and overhead."""
_MEMORY_FRACTION = 0.8


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """Times of one estimator at one batch size; all milliseconds are per call, not per face.

    Attributes:
        batch: faces per call.
        warmup_ms: times of the warm-up runs.
        crop: times to crop the faces from decoded pictures.
        infer: times of `Estimator.predict`.
        block_rounds: number of rounds in each block.
    """

    batch: int
    warmup_ms: tuple[float, ...]
    crop: StageTimes
    infer: StageTimes
    block_rounds: tuple[int, ...]

    @property
    def total(self) -> StageTimes:
        """Sums of crop and infer, by round."""
        pairs = zip(self.crop.samples_ms, self.infer.samples_ms, strict=True)
        return StageTimes(tuple(crop + infer for crop, infer in pairs))

    @property
    def faces_per_s(self) -> float:
        """Faces of all rounds divided by their total time."""
        samples = self.total.samples_ms
        return 1e3 * self.batch * len(samples) / sum(samples)

    def to_json(self) -> dict[str, Any]:
        """Return all samples and their summary as JSON-compatible values."""
        return {
            "batch": self.batch,
            **plain(self.total),
            "faces_per_s": self.faces_per_s,
            "stages": {"crop": plain(self.crop), "infer": plain(self.infer)},
            "warmup_ms": list(self.warmup_ms),
            "block_rounds": list(self.block_rounds),
        }


@dataclass(frozen=True, slots=True)
class Rounds:
    """The number of rounds.

    Attributes:
        repeats: the exact number; None to use a time.
        seconds: per contender and batch size, with at least `MIN_ROUNDS` rounds and at
            most `MAX_ROUNDS`; ignored if `repeats` is given.
    """

    repeats: int | None = None
    seconds: float = 5.0

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return BLOCKS if self.repeats is None else len(block_sizes(self.repeats))

    def needs_round(self, block: int, done: int, elapsed_s: float, contenders: int) -> bool:
        """Return whether this block needs another round, after `done` rounds in `elapsed_s`."""
        if self.repeats is not None:
            return done < block_sizes(self.repeats)[block]
        if done < MIN_ROUNDS // BLOCKS:
            return True
        return done < MAX_ROUNDS // BLOCKS and elapsed_s < self.seconds * contenders / BLOCKS


def needed_bytes(spec: CropSpec, batch: int) -> int:
    """Return roughly how much memory a call with `batch` faces needs, without model and picture."""
    pixels = sum(view.size_hw[0] * view.size_hw[1] for view in spec.views.values())
    return batch * (pixels * _BYTES_PER_PIXEL + _BYTES_PER_FACE)


def check_memory(name: str, spec: CropSpec, batch: int) -> None:
    """Refuse a batch that does not fit into memory, before the system kills the process.

    Raises:
        UsageError: it does not fit; states the needed and the free memory.
    """
    needed, free = needed_bytes(spec, batch), left_to_us(psutil.virtual_memory().available)
    if needed > _MEMORY_FRACTION * free:
        raise UsageError(
            f"batch {batch} of {name} needs about {needed / 1e9:,.1f} GB of memory, but "
            f"{free / 1e9:,.1f} GB are free: use smaller batches"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Runner:
    """One contender to be timed.

    Attributes:
        name: its name in the result.
        estimator: the loaded estimator.
        load: loads it again; None if that is not possible.
    """

    name: str
    estimator: Estimator
    load: Callable[[], Estimator] | None = None

    def reloaded(self) -> Runner:
        """Return the same contender with its model loaded again, if possible."""
        return self if self.load is None else replace(self, estimator=self.load())

    def run(self, faces: FaceSource, batch: int) -> tuple[float, float]:
        """Crop and predict once; return the milliseconds of both.

        Raises:
            AgebenchError: it fails; names the estimator and the batch size.
        """
        try:
            begin = time.perf_counter()
            crops = faces.cut(self.estimator.spec.crop, batch)
            cut = time.perf_counter()
            with foreign_code(self.estimator, "predict"):
                answers = self.estimator.predict(crops)
                end = time.perf_counter()
        except AgebenchError as error:
            raise type(error)(f"{self.name} at batch {batch}: {error}") from error
        except MemoryError as error:
            raise AgebenchError(
                f"{self.name} at batch {batch}: out of memory: use smaller batch sizes"
            ) from error
        except Exception as error:  # a foreign estimator may fail in any way
            raise AgebenchError(
                f"{self.name} at batch {batch}: {type(error).__name__}: {error}"
            ) from error
        if len(answers) != batch:
            raise ContractError(
                f"{self.name}: expected {batch} predictions for {batch} faces, got {len(answers)}"
            )
        return (cut - begin) * 1e3, (end - cut) * 1e3

    def total_ms(self, faces: FaceSource, batch: int) -> float:
        """Crop and predict once; return the total milliseconds."""
        return sum(self.run(faces, batch))


def is_stable(times_ms: Sequence[float]) -> bool:
    """Return whether the last runs took about as long as those before.

    >>> is_stable([90.0, 10.0, 10.1, 10.0])
    True
    >>> is_stable([90.0, 50.0, 30.0, 20.0])
    False
    """
    if len(times_ms) < max(MIN_WARM_UP_RUNS, WARM_UP_WINDOW + 1):
        return False
    now = statistics.median(times_ms[-WARM_UP_WINDOW:])
    before = statistics.median(times_ms[-WARM_UP_WINDOW - 1 : -1])
    return abs(now - before) <= WARM_UP_TOLERANCE * before


def warm_up(run: Callable[[], float]) -> tuple[float, ...]:
    """Run until the times are stable, at most `MAX_WARM_UP_RUNS` times; return all times.

    Each shape needs a warm-up: libraries allocate buffers and choose kernels per shape.
    """
    times: list[float] = []
    while len(times) < MAX_WARM_UP_RUNS and not is_stable(times):
        times.append(run())
    return tuple(times)


@dataclass(frozen=True, slots=True)
class Sweep:
    """The times of all contenders.

    Attributes:
        times: for each contender one entry per batch size, in the order given.
        control: the same for the first contender's second copy; empty with a single contender.
        busyness: load by other processes.
    """

    times: tuple[tuple[BatchTimes, ...], ...]
    control: tuple[BatchTimes, ...]
    busyness: Busyness


def run_sweep(
    runners: Sequence[Runner],
    faces: FaceSource,
    batches: Sequence[int],
    rounds: Rounds,
    progress: ProgressStep = no_progress,
    *,
    threads: int = 1,
) -> Sweep:
    """Time all runners at all batch sizes, and the first one twice if there are several.

    In each round every runner runs once, in a balanced order (`turns`), so that drift of the
    machine's speed affects all equally.

    Args:
        runners: the contenders.
        faces: their input.
        batches: faces per call.
        rounds: number of rounds.
        progress: called as the sweep proceeds.
        threads: that the contenders may use; the machine is busy if other processes leave fewer.

    Raises:
        UsageError: a batch does not fit into memory; nothing has run yet.
        AgebenchError: a runner fails.
    """
    for batch in batches:
        for runner in runners:
            check_memory(runner.name, runner.estimator.spec.crop, batch)
    contenders = [*runners, runners[0].reloaded()] if len(runners) > 1 else list(runners)
    found: list[list[BatchTimes]] = [[] for _ in contenders]
    watch = Watch(threads)
    for done, batch in enumerate(batches):
        progress("batch sizes", done, len(batches))
        for times, own in zip(_one_batch(contenders, faces, batch, rounds), found, strict=True):
            own.append(times)
    progress("batch sizes", len(batches), len(batches))
    frozen = tuple(tuple(times) for times in found)
    return Sweep(frozen[: len(runners)], (*frozen[len(runners) :], ())[0], watch.stop())


class _Laps:
    """Collects the times of one contender at one batch size."""

    def __init__(self) -> None:
        self.warm: list[float] = []
        self.crop: list[float] = []
        self.infer: list[float] = []


def _one_batch(
    runners: Sequence[Runner], faces: FaceSource, batch: int, rounds: Rounds
) -> list[BatchTimes]:
    laps = [_Laps() for _ in runners]
    sizes: list[int] = []
    for block in range(rounds.blocks):
        fresh = [runner.reloaded() if block else runner for runner in runners]
        for runner, own in zip(fresh, laps, strict=True):
            own.warm += warm_up(partial(runner.total_ms, faces, batch))
        sizes.append(_one_block(fresh, faces, batch, rounds, block, sum(sizes), laps))
    return [
        BatchTimes(
            batch,
            tuple(own.warm),
            StageTimes(tuple(own.crop)),
            StageTimes(tuple(own.infer)),
            tuple(sizes),
        )
        for own in laps
    ]


def _one_block(
    runners: Sequence[Runner],
    faces: FaceSource,
    batch: int,
    rounds: Rounds,
    block: int,
    before: int,
    laps: Sequence[_Laps],
) -> int:
    """Run the rounds of a block after `before` earlier rounds; return how many were run."""
    start, done = time.monotonic(), 0
    while rounds.needs_round(block, done, time.monotonic() - start, len(runners)):
        for index in turns(before + done, len(runners)):
            crop_ms, infer_ms = runners[index].run(faces, batch)
            laps[index].crop.append(crop_ms)
            laps[index].infer.append(infer_ms)
        done += 1
    return done
