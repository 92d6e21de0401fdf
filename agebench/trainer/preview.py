"""A sheet of pictures that shows the effect of augmentation settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from agebench.train.batches import Batches, HostBatch
from agebench.train.face_cache import TrainingFaces
from agebench.train.sections import (
    PROBABILITIES,
    STRENGTHS,
    AugmentSettings,
    FilterSettings,
    no_augmentation,
)
from agebench.types import CropSpec, Image
from agebench.vision.opencv import cv2

TITLE_PX = 22
GAP_PX = 4


def each_alone(settings: AugmentSettings) -> list[tuple[str, AugmentSettings]]:
    """Return settings that apply a single augmentation to all pictures, for each that is on.

    Its strength is that of `settings`; probabilities are replaced by 1.
    """
    nothing = replace(
        no_augmentation(),
        channel_space=settings.channel_space,
        noise_levels=settings.noise_levels,
    )
    changes: list[tuple[str, Any]] = [
        *((name, getattr(settings, name)) for name in STRENGTHS),
        *((name, 1.0) for name in PROBABILITIES),
    ]
    wanted = [(name, value) for name, value in changes if getattr(settings, name)]
    filters = [item.name for item in fields(FilterSettings) if getattr(settings.filters, item.name)]
    return [
        ("nothing", nothing),
        *((name, replace(nothing, **{name: value})) for name, value in wanted),
        *((name, replace(nothing, filters=FilterSettings(**{name: 1.0}))) for name in filters),
    ]


def _row(faces: TrainingFaces, crop: CropSpec, settings: AugmentSettings, seed: int) -> Image:
    """Return all pictures side by side, with the views of each stacked vertically."""
    batches = Batches(faces, crop, settings, seed, torch.device("cpu"))
    gathered: HostBatch = batches.gather(0, np.arange(len(faces)), slice(None))
    views = batches.views(gathered)
    width = max(view.size_hw[1] for view in crop.views.values())
    columns = []
    for index in range(len(faces)):
        parts = [_fit(views.pixels[name][index], width) for name in crop.views]
        columns.append(np.concatenate(parts))
    return np.concatenate(columns, axis=1)


def _fit(pixels: torch.Tensor, width: int) -> Image:
    """Return a view as uint8 (height, width, 3), padded on the right."""
    image = pixels.permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
    padded: Image = np.full((len(image) + GAP_PX, width + GAP_PX, 3), 255, np.uint8)
    padded[: len(image), : image.shape[1]] = image
    return padded


def _titled(row: Image, title: str) -> Image:
    strip: Image = np.full((TITLE_PX, row.shape[1], 3), 255, np.uint8)
    place = (2, TITLE_PX - 7)
    cv2.putText(strip, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, row])


def preview(
    faces: TrainingFaces,
    crop: CropSpec,
    rows: Sequence[tuple[str, AugmentSettings]],
    seed: int = 0,
) -> Image:
    """Draw a sheet with a titled row per setting and a column per picture.

    Args:
        faces: the pictures, one column each.
        crop: the views to draw.
        rows: titles and settings.
        seed: of all random numbers; row k uses seed + k.

    Returns:
        uint8 (height, width, 3), B, G, R.
    """
    drawn = [
        _titled(_row(faces, crop, settings, seed + index), title)
        for index, (title, settings) in enumerate(rows)
    ]
    return np.concatenate(drawn)
