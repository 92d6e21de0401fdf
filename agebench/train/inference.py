"""Inference with a trained network, from crops to distributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agebench.errors import UsageError, WeightsError, suggestion
from agebench.runtimes.base import wanted_threads
from agebench.runtimes.torch_device import keep_to_threads, on_threads
from agebench.train.checkpoint import Checkpoint, read_checkpoint, require_fit
from agebench.train.losses import LOSSES, LossSpec
from agebench.train.model_settings import Flip, ModelSettings, ViewSettings
from agebench.train.networks import AgeNetwork, build_network
from agebench.types import Crops, Floats
from agebench.vision.regions import MIRRORED_REGIONS


def load_model(saved: Checkpoint, where: str) -> AgeNetwork:
    """Return the network with a checkpoint's averaged weights, in evaluation mode.

    Raises:
        WeightsError: the weights do not fit the settings.
    """
    head = LOSSES[saved.settings.loss.name].head
    # First without allocating: settings in an untrusted file may ask for a hundred gigabytes.
    with torch.device("meta"):
        expected = build_network(saved.settings.model, head).state_dict()
    try:
        require_fit(expected, saved.averaged)
    except WeightsError as error:
        raise WeightsError(f"{where}: {error}") from error
    model = build_network(saved.settings.model, head)
    try:
        model.load_state_dict(dict(saved.averaged))
    except RuntimeError as error:  # raised by torch for tensors that are missing or don't fit
        first = str(error).strip().splitlines()[-1].strip()
        raise WeightsError(f"{where}: the weights do not fit the settings: {first}") from error
    return model.eval()


@dataclass(frozen=True, slots=True, eq=False)
class TrainedNetwork:
    """A network on a device.

    Attributes:
        saved: the checkpoint.
        model: in evaluation mode.
        device: its name in torch.
        flip: average the distributions of each face and its mirror image; see `Flip`.
        threads: number of processor threads; None keeps PyTorch's default.
    """

    saved: Checkpoint
    model: AgeNetwork
    device: str
    flip: Flip = False
    threads: int | None = None

    @staticmethod
    def of(path: Path, device: str, *, flip: Flip = False) -> TrainedNetwork:
        """Read a checkpoint; the network uses the number of threads set by `use_threads`.

        Raises:
            WeightsError: it is damaged or not a checkpoint.
        """
        saved = read_checkpoint(path)
        model = load_model(saved, str(path)).to(device)
        if flip:
            flipped_views(saved.settings.model, flip)  # fails here, not at the first face
        device = str(next(model.parameters()).device)
        keep_to_threads(wanted_threads())
        return TrainedNetwork(saved, model, device, flip, wanted_threads())

    @torch.inference_mode()
    def probabilities(self, crops: Crops) -> Floats:
        """Return a distribution per face, float64 (n, bins)."""
        views = self.saved.settings.model.views
        pixels = {
            name: torch.tensor(crops.views[name], device=self.device).permute(0, 3, 1, 2).float()
            for name in views
        }
        present = {
            name: torch.tensor(crops.present[name], device=self.device).float()[:, None]
            for name in views
        }
        loss = LOSSES[self.saved.settings.loss.name]
        with on_threads(self.threads):
            probabilities = distribution(self.model, loss, pixels, present, flip=self.flip)
        return np.asarray(probabilities.double().cpu().numpy(), np.float64)


def distribution(
    model: AgeNetwork,
    loss: LossSpec,
    pixels: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    *,
    flip: Flip,
) -> Tensor:
    """Return a distribution per face, (n, bins).

    Args:
        model: in evaluation mode.
        loss: converts the outputs to distributions.
        pixels: per view, (n, 3, height, width), B, G, R, 0 to 255.
        present: per view, (n, 1), 0 where it is missing.
        flip: average the distributions of each face and its mirror image; see `Flip`.
    """
    passes = [(pixels, present)]
    if flip:
        partner = flipped_views(model.settings, flip)
        flipped = {name: pixels[other].flip(3) for name, other in partner.items()}
        there = {name: present[other] for name, other in partner.items()}
        passes.append(({**pixels, **flipped}, {**present, **there}))
    probabilities = [loss.to_probabilities(model(*each).final) for each in passes]
    return torch.stack(probabilities).mean(0)


def flipped_views(settings: ModelSettings, flip: Flip) -> dict[str, str]:
    """Return the mirrored views, each with the one that it is the mirror image of.

    Raises:
        UsageError: the network has no view of that name, or only one of two eyes.
    """
    if isinstance(flip, bool):
        return mirror_partners(settings.views) if flip else {}
    for name in flip:
        if name not in settings.views:
            raise UsageError(
                f"the network has no view {name!r}: {suggestion(name, settings.views)}"
            )
    if settings.fusion == "early":
        raise UsageError(
            "a network with early fusion has one input for all views: mirror all of them, or none"
        )
    return {name: _mirror_partner(name, settings.views) for name in flip}


def mirror_partners(views: Mapping[str, ViewSettings]) -> dict[str, str]:
    """Return, for each view, the one whose mirror image is that view of the mirrored picture.

    Raises:
        UsageError: the network has only one of two eyes, or crops them differently.

    >>> eye = {side: ViewSettings(f"eye_{side}", (32, 32)) for side in ("left", "right")}
    >>> mirror_partners({**eye, "mouth": ViewSettings("mouth")})
    {'left': 'right', 'right': 'left', 'mouth': 'mouth'}
    """
    return {name: _mirror_partner(name, views) for name in views}


def _mirror_partner(name: str, views: Mapping[str, ViewSettings]) -> str:
    region = MIRRORED_REGIONS.get(views[name].region)
    if region is None:
        return name
    wanted = replace(views[name].view, region=region)
    for other, view in views.items():
        if view.view == wanted:
            return other
    raise UsageError(
        f"mirror images can't be used: the network has no view of {region} with the same size and "
        f"margin as the view {name!r} of {views[name].region}"
    )
