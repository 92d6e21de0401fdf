"""A network's predictions for cached faces, and their mean absolute error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from agebench.metrics.age_errors import mae
from agebench.train.batches import plain_views
from agebench.train.face_cache import TrainingFaces
from agebench.train.formulas import decode
from agebench.train.losses import LossSpec
from agebench.train.networks import AgeNetwork
from agebench.train.settings import TrainSettings
from agebench.train.stability import DIVERGED, DivergedError
from agebench.types import Floats

BATCH = 256


@contextmanager
def using_weights(model: AgeNetwork, state: dict[str, Tensor]) -> Iterator[None]:
    """Use other weights within the context, and restore the model's own afterwards."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    try:
        yield
    finally:
        model.load_state_dict(own)


@torch.no_grad()
def probabilities(
    model: AgeNetwork, faces: TrainingFaces, spec: LossSpec, *, flip_average: bool
) -> Tensor:
    """Return a distribution per picture, float32 (n, bins), on the CPU.

    Args:
        model: its mode is restored afterwards.
        faces: the pictures.
        spec: of the loss, which converts the outputs to distributions.
        flip_average: average the distributions of each picture and its mirror image.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        passes = []
        for mirrored in (False, True) if flip_average else (False,):
            views = plain_views(faces, model.settings.crop, device, BATCH, mirrored=mirrored)
            rows = [spec.to_probabilities(model(v.pixels, v.present).final).cpu() for v in views]
            passes.append(torch.cat(rows))
    finally:
        model.train(training)
    return torch.stack(passes).mean(0)


def predicted_years(
    model: AgeNetwork, faces: TrainingFaces, spec: LossSpec, settings: TrainSettings
) -> Floats:
    """Return the predicted ages, float64 (n,), years."""
    found = probabilities(model, faces, spec, flip_average=settings.flip_average)
    years = torch.arange(settings.model.youngest, settings.model.oldest + 1, dtype=torch.float64)
    return np.asarray(decode(found, years, settings.decode).numpy(), np.float64)


def validation_mae(
    model: AgeNetwork, faces: TrainingFaces, spec: LossSpec, settings: TrainSettings
) -> float:
    """Return the mean absolute error in years, from the midpoints of ranges.

    Raises:
        DivergedError: a predicted age is not finite.
    """
    years = predicted_years(model, faces, spec, settings)
    if not np.isfinite(years).all():
        raise DivergedError(f"the network predicts ages that are not finite: {DIVERGED}")
    return mae(faces.ages, years)
