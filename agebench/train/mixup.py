"""Every picture mixed with another one of its batch (Zhang et al., "mixup", ICLR 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agebench.train.batches import ViewBatch


def mixed(views: ViewBatch, alpha: float, key: tuple[int, int, int]) -> ViewBatch:
    """Return a batch of which every picture is mixed with another one.

    Args:
        views: of one process.
        alpha: of the beta distribution that lambda, or 1 - lambda where that is larger, is drawn
            from; at 0 the batch is returned as it is.
        key: seed, step and rank, which decide the draws.
    """
    if not alpha:
        return views
    rng = np.random.default_rng([key[0], key[1], 3, key[2]])
    ages = views.targets.ages
    other = torch.from_numpy(_partners(views.present, rng)).to(ages.device)
    mixup_lambda = torch.from_numpy(rng.beta(alpha, alpha, len(ages))).float().to(ages.device)
    mixup_lambda = torch.maximum(mixup_lambda, 1 - mixup_lambda)
    weight = mixup_lambda[:, None, None, None]
    pixels = {
        name: values * weight + values[other] * (1 - weight)
        for name, values in views.pixels.items()
    }
    targets = views.targets
    partner = targets.take(other)
    return ViewBatch(pixels, views.present, targets.mixed(partner, mixup_lambda))


def _partners(present: Mapping[str, Tensor], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Draw a partner for each picture among those that lack the same views.

    Of a view that the partner lacks nothing could be mixed in, while its age would be.
    """
    flags = np.concatenate([values.cpu().numpy() for values in present.values()], axis=1)
    other = np.arange(len(flags))
    for pattern in np.unique(flags, axis=0):
        rows = np.flatnonzero((flags == pattern).all(axis=1))
        other[rows] = rng.permutation(rows)
    return other
