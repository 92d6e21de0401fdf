"""Estimates of the memory and time that a training run needs, before it starts."""

from __future__ import annotations

import time

import psutil
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from agebench.errors import AgebenchError
from agebench.train.losses import LOSSES
from agebench.train.networks import AgeNetwork, build_network
from agebench.train.settings import TrainSettings
from agebench.util.memory_limit import left_to_us

REPORTED_BYTES = 2e9
"""Estimates of at least this many bytes are shown."""

_COPIES_OF_WEIGHTS = 5
"""The weights, their gradients, two moments of the optimiser, the averaged weights."""

_ROWS = 2


def without_memory(
    settings: TrainSettings, rows: int
) -> tuple[AgeNetwork, dict[str, Tensor], dict[str, Tensor]]:
    """Return the network and its inputs `pixels` and `present` on torch's "meta" device."""
    with torch.device("meta"):
        model = build_network(settings.model, LOSSES[settings.loss.name].head).eval()
        views = settings.model.views
        pixels = {name: torch.empty(rows, 3, *view.size_hw) for name, view in views.items()}
        return model, pixels, {name: torch.empty(rows, 1) for name in views}


def step_bytes(settings: TrainSettings, rows: int) -> int:
    """Return about how many bytes a step takes at its peak, without allocating them.

    This includes the weights with gradients and averages, the crops, and the activations that are
    saved for the backward pass, in float32, but not the libraries' own memory.

    Args:
        settings: of the run.
        rows: pictures per step in one process.
    """
    model, pixels, present = without_memory(settings, _ROWS)
    weights = sum(item.numel() * item.element_size() for item in model.parameters())
    own = {item.untyped_storage()._cdata for item in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model(pixels, present)
    per_row = sum(
        tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in own
    )
    per_row += sum(crop.nbytes for crop in pixels.values())
    del outputs
    return _COPIES_OF_WEIGHTS * weights + per_row * rows // _ROWS


def check_footprint(settings: TrainSettings, rows: int, device: torch.device) -> str:
    """Return a sentence on the memory of a step, "" if it is small.

    Raises:
        AgebenchError: less memory is free.
    """
    if (
        _bytes_bound(settings, rows) < REPORTED_BYTES
        or (needed := step_bytes(settings, rows)) < REPORTED_BYTES
    ):
        return ""
    free = _free_bytes(device)
    largest = max(settings.model.views.items(), key=lambda item: item[1].size_hw)
    height, width = largest[1].size_hw
    message = (
        f"a step of {rows} pictures (view {largest[0]}: {height}x{width}) takes about "
        f"{needed / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB are free"
    )
    if needed > free:
        raise AgebenchError(f"{message}: reduce batch, or the sizes or widths of views")
    return message


def _bytes_bound(settings: TrainSettings, rows: int) -> int:
    """Return an upper bound of `step_bytes` that takes no time.

    A backbone saves fewer numbers per pixel than four times its width, and has fewer weights than
    12,000 times the square of its width (10,400 in a ResNet-101).
    """
    kept = weights = 0
    for view in settings.model.views.values():
        height, width = view.size_hw
        kept += 4 * 3 * rows * height * width * 4 * view.backbone.width
        weights += 12_000 * view.backbone.width**2 + view.backbone.features * settings.model.dense
    return kept + 4 * _COPIES_OF_WEIGHTS * weights


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return left_to_us(int(psutil.virtual_memory().available + psutil.swap_memory().free))


REPORTED_SECONDS = 3600.0
"""Estimates of at least this many seconds are shown."""

_SLOWEST = 1e10
"""Operations per second of the slowest machine."""

_FORWARD_AND_BACKWARD = 3
"""The backward pass takes twice as long as the forward pass: gradients of weights and inputs."""

_SIDE = 1024


def step_operations(settings: TrainSettings, rows: int) -> int:
    """Return the number of multiplications and additions of a step, without computing it.

    Args:
        settings: of the run.
        rows: pictures per step in one process.
    """
    model, pixels, present = without_memory(settings, _ROWS)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(pixels, present)
    forward: int = counter.get_total_flops()
    return _FORWARD_AND_BACKWARD * forward * rows // _ROWS


def product_speed(device: torch.device, precision: str) -> float:
    """Return the operations per second of a product of two large matrices, the best of three."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.ones(_SIDE, _SIDE, device=device, dtype=kind)
    seconds = []
    for _ in range(4):  # the first one warms up
        began = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - began)
    return 2.0 * _SIDE**3 / min(seconds[1:])


def duration(settings: TrainSettings, rows: int, steps: int, device: torch.device) -> str:
    """Return a sentence on the duration of a number of steps, "" if it is short.

    On one processor core, networks of this project took 2.1 to 2.7 times as long as matrix products
    with the same number of operations.
    """
    if _operations_bound(settings, rows) * steps < REPORTED_SECONDS * _SLOWEST:
        return ""
    operations = step_operations(settings, rows) * steps
    if operations < REPORTED_SECONDS * _SLOWEST:
        return ""
    hours = operations / product_speed(device, settings.precision) / 3600
    if hours * 3600 < REPORTED_SECONDS:
        return ""
    time_needed = f"{hours:,.0f} hours" if hours < 48 else f"{hours / 24:,.0f} days"
    return (
        f"{steps:,} steps of {rows} pictures take about {operations:.1e} operations: {time_needed} "
        "at the speed of this machine's matrix products; networks take two to three times as long"
    )


def _operations_bound(settings: TrainSettings, rows: int) -> float:
    """Return an upper bound of `step_operations` that takes no time.

    Per pixel a backbone takes fewer operations than 100 times the square of its width (75 in a
    ResNet-101); Levi and Hassner's network takes no more than a backbone of width 96.
    """
    operations = 0.0
    for view in settings.model.views.values():
        height, width = view.size_hw
        backbone = max(96, view.backbone.width)
        operations += 100 * height * width * backbone**2 + 4 * backbone * 64 * settings.model.dense
    return _FORWARD_AND_BACKWARD * rows * operations
