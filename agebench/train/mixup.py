"""Every picture mixed with another one of its batch (Zhang et al., "mixup", ICLR 2018)."""

from __future__ import annotations

import numpy as np
import torch

from agebench.train.batches import ViewBatch
from agebench.train.losses import Targets


def mixed(views: ViewBatch, alpha: float, key: tuple[int, int, int]) -> ViewBatch:
    """Return a batch of which every picture is mixed with another one.

    Args:
        views: of one process.
        alpha: of the beta distribution that shares are drawn from, the larger share first; at 0
            the batch is returned as it is.
        key: seed, step and rank, which decide the draws.
    """
    if not alpha:
        return views
    seed, step, rank = key
    rng = np.random.default_rng([seed, step, 3, rank])
    ages = views.targets.ages
    count = len(ages)
    other = torch.from_numpy(rng.permutation(count)).to(ages.device)
    share = torch.from_numpy(rng.beta(alpha, alpha, count)).float().to(ages.device)
    share = torch.maximum(share, 1 - share)
    pixels = {}
    for name, values in views.pixels.items():
        # Where the other picture lacks this view there is nothing to mix in.
        weight = torch.where(views.present[name][other, 0] > 0, share, 1.0)[:, None, None, None]
        pixels[name] = values * weight + values[other] * (1 - weight)
    targets = views.targets
    partner = Targets(targets.ages[other], targets.lows[other], targets.highs[other])
    return ViewBatch(pixels, views.present, targets.mixed(partner, share))
