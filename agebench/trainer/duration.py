"""About how long a training run will take, told before its first step."""

from __future__ import annotations

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from agebench.train.settings import TrainSettings
from agebench.trainer.footprint import without_memory

WORTH_SAYING_S = 3600.0
"""Seconds from which on a run's time is told."""

_SLOWEST = 1e10
"""Operations a second that every machine reaches."""

_BACKWARD_TOO = 3
"""The backward pass takes twice the forward pass: once for the weights, once for what they are
applied to."""

_ROWS = 2
_SIDE = 1024


def step_operations(settings: TrainSettings, rows: int) -> int:
    """Return the multiplications and additions of a step; nothing is computed to find out.

    Args:
        settings: of the run.
        rows: pictures per step in one process.
    """
    model, pixels, present = without_memory(settings, _ROWS)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(pixels, present)
    forward: int = counter.get_total_flops()
    return _BACKWARD_TOO * forward * rows // _ROWS


def product_speed(device: torch.device, precision: str) -> float:
    """Return the operations a second in a product of two large matrices, the best of three."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.ones(_SIDE, _SIDE, device=device, dtype=kind)
    seconds = []
    for _ in range(4):  # the first one warms up
        began = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - began)
    return 2.0 * _SIDE**3 / min(seconds[1:])


def duration(settings: TrainSettings, rows: int, steps: int, device: torch.device) -> str:
    """Return a line on the time of so many steps, "" where it is short.

    On one processor core, networks of this project took 2.1 to 2.7 times as long as such products
    of as many operations.
    """
    worth_counting = WORTH_SAYING_S * _SLOWEST
    if _at_most(settings, rows) * steps < worth_counting:
        return ""
    operations = step_operations(settings, rows) * steps
    if operations < worth_counting:
        return ""
    hours = operations / product_speed(device, settings.precision) / 3600
    if hours * 3600 < WORTH_SAYING_S:
        return ""
    told = f"{hours:,.0f} hours" if hours < 48 else f"{hours / 24:,.0f} days"
    return (
        f"{steps:,} steps of {rows} pictures take about {operations:.1e} operations: {told} at the "
        "speed at which large matrices are multiplied here, and networks take two to three times "
        "as long"
    )


def _at_most(settings: TrainSettings, rows: int) -> float:
    """A bound on `step_operations` that costs nothing.

    For each pixel a backbone takes fewer operations than 100 times the square of its width (75 in a
    ResNet-101); Levi and Hassner's network is no wider than one of 96.
    """
    operations = 0.0
    for view in settings.model.views.values():
        height, width = view.size_hw
        backbone = max(96, view.backbone.width)
        operations += 100 * height * width * backbone**2 + 4 * backbone * 64 * settings.model.dense
    return _BACKWARD_TOO * rows * operations
