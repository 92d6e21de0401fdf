"""The latency pass: one picture at a time, every stage timed, the contenders interleaved."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from agebench.protocols import Estimator, FaceDetector, ProgressStep, no_progress
from agebench.timing.busy import Busyness, Watch
from agebench.types import FaceFrame, Image, Sample
from agebench.util.arrays import Bools
from agebench.util.foreign_code import foreign_code
from agebench.util.record_fields import Milliseconds
from agebench.vision.crops import cut_crops
from agebench.vision.decoding import decode_sample
from agebench.vision.faces import LeftOutError, find_faces

WARM_UP_PICTURES = 5
"""Pictures for warm-up, not counted: the first calls allocate buffers and choose kernels."""

SHARED_STAGES = ("decode", "detect")
OWN_STAGES = ("crop", "infer", "total")


@dataclass(frozen=True, slots=True)
class StageTimes:
    """All samples of one stage, milliseconds, in the order taken; none is dropped."""

    samples_ms: tuple[Milliseconds, ...]

    def percentile(self, percent: float) -> float | None:
        """Return a percentile in milliseconds (linear interpolation); None without samples."""
        if not self.samples_ms:
            return None
        return float(np.percentile(np.asarray(self.samples_ms), percent))

    def summary(self) -> dict[str, float | int | None]:
        """Return n, mean, p50, p90 and p99; unrounded."""
        mean = float(np.mean(self.samples_ms)) if self.samples_ms else None
        return {
            "n": len(self.samples_ms),
            "mean_ms": mean,
            "p50_ms": self.percentile(50),
            "p90_ms": self.percentile(90),
            "p99_ms": self.percentile(99),
        }

    def to_plain(self) -> dict[str, Any]:
        """Return `summary` and all samples as JSON-compatible values."""
        return {**self.summary(), "samples_ms": list(self.samples_ms)}


@dataclass(frozen=True, slots=True)
class Latency:
    """The times of the latency pass.

    Attributes:
        shared: times of the stages that all estimators share.
        own: for each estimator the times of its own stages.
        second_copy: times of the first estimator's second copy; empty without one.
        busyness: load by other processes.
    """

    shared: Mapping[str, StageTimes]
    own: tuple[Mapping[str, StageTimes], ...]
    second_copy: Mapping[str, StageTimes]
    busyness: Busyness


def choose_pictures(face: Bools, count: int, seed: int) -> list[int]:
    """Return the indices of up to `count` pictures, drawn at random.

    Args:
        face: which pictures have a face, shape (n,).
        count: largest number.
        seed: for the random draw.
    """
    usable = np.flatnonzero(face)
    if len(usable) <= count:
        return list(usable.tolist())
    chosen = np.random.default_rng(seed).choice(len(usable), count, replace=False)
    return list(usable[np.sort(chosen)].tolist())


def _milliseconds(start: float) -> float:
    return (time.perf_counter() - start) * 1e3


def _time_estimator(
    estimator: Estimator, image_bgr: Image, frame: FaceFrame
) -> tuple[float, float] | None:
    """Return milliseconds of crop and infer; None if the estimator fails on this face."""
    crop_spec = estimator.spec.crop
    try:
        start = time.perf_counter()
        crops = cut_crops(image_bgr, [frame], crop_spec)
        crop_ms = _milliseconds(start)
        if not any(flags[0] for flags in crops.present.values()):
            return None  # as in the accuracy pass, without any view there is no prediction
        with foreign_code(estimator, "predict"):
            start = time.perf_counter()
            estimator.predict(crops)
            return crop_ms, _milliseconds(start)
    except Exception:  # reported by the accuracy pass; a failure has no latency
        return None


class _Stopwatch:
    """Collects the samples of all stages."""

    def __init__(self, estimators: int) -> None:
        self.shared: dict[str, list[float]] = {stage: [] for stage in SHARED_STAGES}
        self.own: list[dict[str, list[float]]] = [
            {stage: [] for stage in OWN_STAGES} for _ in range(estimators)
        ]

    def latency(self, estimators: int, busyness: Busyness) -> Latency:
        def freeze(times: Mapping[str, list[float]]) -> dict[str, StageTimes]:
            return {stage: StageTimes(tuple(samples)) for stage, samples in times.items()}

        own = tuple(freeze(times) for times in self.own)
        second_copy = own[estimators] if len(own) > estimators else {}
        return Latency(freeze(self.shared), own[:estimators], second_copy, busyness)


def _time_picture(
    sample: Sample,
    detector: FaceDetector,
    estimators: Sequence[Estimator],
    number: int,
    max_pixels: int,
    stopwatch: _Stopwatch,
) -> None:
    start = time.perf_counter()
    decoded = decode_sample(sample, max_pixels)
    decode_ms = _milliseconds(start)
    if decoded.image_bgr is None:
        return
    start = time.perf_counter()
    try:
        found = find_faces(detector, decoded.image_bgr, labelled_xyxy=sample.box_xyxy)
    except LeftOutError:  # the detector failed; a failure has no latency
        return
    detect_ms = _milliseconds(start)
    if not found.frames:
        return
    stopwatch.shared["decode"].append(decode_ms)
    stopwatch.shared["detect"].append(detect_ms)
    for index in turns(number, len(estimators)):
        times = _time_estimator(estimators[index], decoded.image_bgr, found.frames[0])
        if times is not None:
            crop_ms, infer_ms = times
            own = stopwatch.own[index]
            own["crop"].append(crop_ms)
            own["infer"].append(infer_ms)
            own["total"].append(decode_ms + detect_ms + crop_ms + infer_ms)


def turns(number: int, count: int) -> list[int]:
    """Return the order of `count` contenders in a round, which is deterministic.

    The orders are the rows of a Latin square balanced for carry-over effects (Williams, Australian
    Journal of Scientific Research A 2, 1949, 149-168), or of the square and its mirror image if
    `count` is odd: after all rows have been used, each contender has been at each position, and
    directly after each other one, equally often.  The order of the rows changes each time.

    >>> [turns(number, 2) for number in range(4)]
    [[0, 1], [1, 0], [1, 0], [0, 1]]
    """
    rows = _balanced_orders(count)
    cycle, place = divmod(number, len(rows))
    return list(rows[int(np.random.default_rng([cycle, count]).permutation(len(rows))[place])])


@lru_cache(maxsize=32)
def _balanced_orders(count: int) -> tuple[tuple[int, ...], ...]:
    """Return the rows of Williams' design: `count` rows, or twice as many for an odd count."""
    # 0, 1, n - 1, 2, n - 2, ...: all steps between neighbours differ.
    base = [(place + 1) // 2 if place % 2 else -(place // 2) % count for place in range(count)]
    rows = [tuple((start + first) % count for start in base) for first in range(count)]
    return (*rows, *(row[::-1] for row in rows)) if count % 2 and count > 1 else tuple(rows)


def run_latency(
    samples: Sequence[Sample],
    detector: FaceDetector,
    estimators: Sequence[Estimator],
    *,
    max_pixels: int,
    second_copy: Estimator | None = None,
    threads: int = 1,
    progress: ProgressStep = no_progress,
) -> Latency:
    """Time each stage at batch 1 by wall clock.

    On every picture each estimator runs once, in a balanced order (`turns`), so that drift of the
    machine's speed affects all equally.  `decode` includes hashing and reading the file, which the
    accuracy pass has left in the system's cache.

    Args:
        samples: pictures with a face.
        detector: of the face.
        estimators: the contenders.
        max_pixels: larger pictures are refused.
        second_copy: of the first estimator, timed as a further contender to measure how much it
            differs from itself.
        threads: that the contenders may use; the machine is busy if other processes leave fewer.
        progress: called after each picture.
    """
    contenders = [*estimators, *([] if second_copy is None else [second_copy])]
    unused = _Stopwatch(len(contenders))
    for index in range(WARM_UP_PICTURES if samples else 0):
        sample = samples[index % len(samples)]
        _time_picture(sample, detector, contenders, 0, max_pixels, unused)
    stopwatch, watch = _Stopwatch(len(contenders)), Watch(threads)
    for number, sample in enumerate(samples):
        _time_picture(sample, detector, contenders, number, max_pixels, stopwatch)
        progress("latency", number + 1, len(samples))
    return stopwatch.latency(len(estimators), watch.stop())
