"""A trained network in use: crops in, distributions out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from agebench.errors import WeightsError
from agebench.train.checkpoint import Checkpoint, read_checkpoint
from agebench.train.losses import LOSSES
from agebench.train.model_settings import ViewSettings
from agebench.train.networks import AgeNetwork, build_network
from agebench.train.windows import MIRRORED_REGIONS
from agebench.types import Crops, Floats


def load_model(saved: Checkpoint, where: str) -> AgeNetwork:
    """Return the network with a checkpoint's averaged weights, ready for use.

    Raises:
        WeightsError: the weights are not those of the settings.
    """
    model = build_network(saved.settings.model, LOSSES[saved.settings.loss.name].head)
    try:
        model.load_state_dict(dict(saved.averaged))
    except RuntimeError as error:  # torch's own word for tensors missing or of other shapes
        first = str(error).strip().splitlines()[-1].strip()
        raise WeightsError(f"{where}: the weights do not fit the settings: {first}") from error
    return model.eval()


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network on a device.

    Attributes:
        saved: what it was read from.
        model: in evaluation mode.
        device: as torch names it.
        flip: the mean with the mirror image is taken.
    """

    saved: Checkpoint
    model: AgeNetwork
    device: str
    flip: bool = False

    @staticmethod
    def of(path: Path, device: str, *, flip: bool = False) -> Network:
        """Read a checkpoint.

        Raises:
            WeightsError: it is damaged or no checkpoint.
        """
        saved = read_checkpoint(path)
        model = load_model(saved, str(path)).to(device)
        return Network(saved, model, str(next(model.parameters()).device), flip)

    @torch.inference_mode()
    def probabilities(self, crops: Crops) -> Floats:
        """Return a distribution per face, float64 (n, bins)."""
        views = self.saved.settings.model.views
        pixels = {
            name: torch.from_numpy(crops.views[name]).to(self.device).permute(0, 3, 1, 2).float()
            for name in views
        }
        present = {
            name: torch.from_numpy(crops.present[name]).to(self.device).float()[:, None]
            for name in views
        }
        spec = LOSSES[self.saved.settings.loss.name]
        passes = [(pixels, present)]
        if self.flip:
            partner = {name: _mirror_partner(name, views) for name in views}
            flipped = {name: pixels[partner[name]].flip(3) for name in views}
            passes.append((flipped, {name: present[partner[name]] for name in views}))
        shares = [spec.to_probabilities(self.model(*each).final) for each in passes]
        return np.asarray(torch.stack(shares).mean(0).double().cpu().numpy(), np.float64)


def _mirror_partner(name: str, views: Mapping[str, ViewSettings]) -> str:
    """Return the view whose mirror image is view `name` of the mirrored picture."""
    wanted = MIRRORED_REGIONS.get(views[name].region, views[name].region)
    for other, view in views.items():
        if view.region == wanted and view.size_hw == views[name].size_hw:
            return other
    return name
