"""Time calls on a device by two clocks, and capture them as CUDA graphs.

Not yet run on a GPU: tested on the CPU through the same calls, and with stand-ins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agebench.errors import DeviceError
from agebench.runtimes.torch_device import out_of_memory

WARM_UP_RUNS = 10
"""Number of runs before the first one counted; they select kernels and allocate memory."""


def synchronise(device: str) -> None:
    """Wait until a device has finished its work; on the CPU, return immediately."""
    if device == "cuda":
        torch.cuda.synchronize()


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """Durations of the same runs by two clocks, milliseconds.

    Attributes:
        wall_ms: from before the call until the device is idle, per run.
        event_ms: by the device's own clock, per run; empty on the CPU.
    """

    wall_ms: tuple[float, ...]
    event_ms: tuple[float, ...]


def time_runs(
    run: Callable[[], object], device: str, *, seconds: float, least: int = 10, most: int = 1000
) -> DeviceTimes:
    """Warm up, then time calls until `seconds` have passed; return every sample.

    Raises:
        DeviceError: the device is out of memory.
    """
    try:
        for _ in range(WARM_UP_RUNS if seconds > 0 else 1):
            run()
        synchronise(device)
        return _timed(run, device, seconds, least, most)
    except torch.OutOfMemoryError as error:
        raise out_of_memory("the call", error) from error


def _timed(
    run: Callable[[], object], device: str, seconds: float, least: int, most: int
) -> DeviceTimes:
    wall: list[float] = []
    events: list[float] = []
    end = time.perf_counter() + seconds
    while len(wall) < least or (len(wall) < most and time.perf_counter() < end):
        marks = _marks(device)
        started = time.perf_counter()
        if marks:
            marks[0].record()
        run()
        if marks:
            marks[1].record()
        synchronise(device)
        wall.append((time.perf_counter() - started) * 1e3)
        if marks:
            events.append(float(marks[0].elapsed_time(marks[1])))
    return DeviceTimes(tuple(wall), tuple(events))


def _marks(device: str) -> tuple[Any, Any] | None:
    if device != "cuda":
        return None
    event: Any = torch.cuda.Event  # not typed
    return event(enable_timing=True), event(enable_timing=True)


def captured(
    module: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]
) -> Callable[[], Sequence[Tensor]]:
    """Capture one call as a CUDA graph; return a function that replays it on the same memory.

    Small batches are limited by the time it takes to launch kernels; a replay is a single launch.

    Args:
        module: called with `inputs`.
        inputs: on the device; copy new values into them before a replay.

    Raises:
        DeviceError: the device is out of memory, or the inputs are not on a GPU.
    """
    if any(value.device.type != "cuda" for value in inputs):
        raise DeviceError("a CUDA graph needs a GPU: the inputs are on the CPU")
    try:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # not typed
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                module(*inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = module(*inputs)
    except torch.OutOfMemoryError as error:
        raise out_of_memory("a CUDA graph", error) from error

    def replay() -> Sequence[Tensor]:
        graph.replay()
        return found

    return replay
