"""Timing the networks alone on a device, by batch size: transfers, wall time and device time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agebench.benchmark.resources import NetworkRuns
from agebench.benchmark.sweep import Rounds
from agebench.runtimes.device_timer import DeviceSample, DeviceTimer, onnx_timer
from agebench.timing.latency import StageTimes

_WARM_UP_RUNS = 10
_ROUNDS = 50


def time_networks(
    networks: Sequence[NetworkRuns], batch: int, device: str, rounds: Rounds
) -> Mapping[str, StageTimes] | None:
    """Time all runs of an estimator's networks for one call of `batch` faces.

    Returns:
        Times by part (see `run_timers`), summed over the runs of a call; None if a network does not
        run under ONNX Runtime, as its parts can't be timed separately.

    Raises:
        DeviceError: the device can't be used.
        ModelError: a network fails.
    """
    if not networks or any(item.runtime != "onnxruntime" for item in networks):
        return None
    timers: list[DeviceTimer] = []
    by_run: dict[tuple[Path, str], DeviceTimer] = {}
    for item in networks:
        for run in item.runs[batch]:
            key = (item.source.path, repr(run))
            if key not in by_run:
                # Constant values need less power, which would let large devices run faster.
                rng = np.random.default_rng(0)
                blobs = {name: rng.random(shape, np.float32) for name, shape in run.items()}
                by_run[key] = onnx_timer(item.source, blobs, device)
            timers.append(by_run[key])
    return run_timers(timers, rounds.repeats or _ROUNDS)


def run_timers(timers: Sequence[DeviceTimer], count: int) -> dict[str, StageTimes]:
    """Warm all timers up and take `count` samples of their sum."""
    for _ in range(_WARM_UP_RUNS):
        for timer in timers:
            timer.sample()
    calls = [[timer.sample() for timer in timers] for _ in range(count)]
    return {
        "to_device": StageTimes(tuple(sum(s.to_device_ms for s in call) for call in calls)),
        "network": StageTimes(tuple(sum(s.network_ms for s in call) for call in calls)),
        "network_events": StageTimes(tuple(_events(calls))),
        "to_host": StageTimes(tuple(sum(s.to_host_ms for s in call) for call in calls)),
    }


def _events(calls: Sequence[Sequence[DeviceSample]]) -> list[float]:
    """Return sums of the device's own times; empty if one run has none."""
    sums = []
    for call in calls:
        known = [sample.event_ms for sample in call if sample.event_ms is not None]
        if len(known) == len(call):
            sums.append(sum(known))
    return sums
