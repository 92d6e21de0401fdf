"""How much memory a training step will take, known before any picture is read."""

from __future__ import annotations

import psutil
import torch
from torch import Tensor

from agebench.errors import AgebenchError
from agebench.train.losses import LOSSES
from agebench.train.networks import AgeNetwork, build_network
from agebench.train.settings import TrainSettings
from agebench.util.memory_limit import left_to_us

WORTH_SAYING = 2e9
"""Bytes from which on they are told."""

_COPIES_OF_WEIGHTS = 5
"""The weights, their gradients, two averages of the optimiser, the averaged weights."""

_ROWS = 2


def without_memory(
    settings: TrainSettings, rows: int
) -> tuple[AgeNetwork, dict[str, Tensor], dict[str, Tensor]]:
    """Return the network, crops for it and which of them are there, all without any numbers."""
    with torch.device("meta"):
        model = build_network(settings.model, LOSSES[settings.loss.name].head).eval()
        views = settings.model.views
        pixels = {name: torch.empty(rows, 3, *view.size_hw) for name, view in views.items()}
        return model, pixels, {name: torch.empty(rows, 1) for name in views}


def step_bytes(settings: TrainSettings, rows: int) -> int:
    """Return about how many bytes a step takes at its largest; no memory is taken to find out.

    Counted are the weights with what belongs to them, the crops, and what the backward pass keeps
    of the forward pass, in float32; not what the libraries need besides.

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
    """Return a line on the memory of a step, "" where it is small.

    Raises:
        AgebenchError: there is less.
    """
    if (
        _at_most(settings, rows) < WORTH_SAYING
        or (needed := step_bytes(settings, rows)) < WORTH_SAYING
    ):
        return ""
    free = _free_bytes(device)
    largest = max(settings.model.views.items(), key=lambda item: item[1].size_hw)
    height, width = largest[1].size_hw
    told = (
        f"a step of {rows} pictures (view {largest[0]}: {height}x{width}) takes about "
        f"{needed / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB are free"
    )
    if needed > free:
        raise AgebenchError(f"{told}: lower batch, or the sizes or widths of views")
    return told


def _at_most(settings: TrainSettings, rows: int) -> int:
    """A bound that costs nothing, on the crops with what is kept of them and on the weights.

    A backbone keeps fewer numbers a pixel than four times its width, and has fewer weights than
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
