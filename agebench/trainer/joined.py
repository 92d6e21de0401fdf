"""Several sets of training pictures as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from agebench.train.face_cache import TrainingFaces, ViewPlaces
from agebench.types import Image, Problem


def named(prefix: str, faces: TrainingFaces, label_weight: float) -> TrainingFaces:
    """Return the faces of a further set: names begin with its own, labels have its weight."""
    return replace(
        faces,
        names=tuple(f"{prefix}/{name}" for name in faces.names),
        problems=tuple(Problem(f"{prefix}/{p.name}", p.reason) for p in faces.problems),
        label_weights=np.full(len(faces), label_weight, np.float32),
    )


def join_faces(parts: Sequence[TrainingFaces]) -> TrainingFaces:
    """Return all pictures of sets that were cut for the same views, in their order.

    Windows of different sides are filled up to the longest.
    """
    first, *others = parts
    if not others:
        return first
    return TrainingFaces(
        windows=_windows([part.windows for part in parts]),
        sizes_hw=np.concatenate([part.sizes_hw for part in parts]),
        wholes={
            name: np.concatenate([part.wholes[name] for part in parts]) for name in first.wholes
        },
        places={name: _places([part.places[name] for part in parts]) for name in first.places},
        present={
            name: np.concatenate([part.present[name] for part in parts]) for name in first.present
        },
        centers_xy=np.concatenate([part.centers_xy for part in parts]),
        heights=np.concatenate([part.heights for part in parts]),
        lows=np.concatenate([part.lows for part in parts]),
        highs=np.concatenate([part.highs for part in parts]),
        names=_chained(part.names for part in parts),
        hashes=_chained(part.hashes for part in parts),
        problems=tuple(problem for part in parts for problem in part.problems),
        label_weights=np.concatenate([label_weights(part) for part in parts]),
    )


def label_weights(faces: TrainingFaces) -> npt.NDArray[np.float32]:
    """Return the weight of each picture's label, float32 (n,)."""
    if faces.label_weights is None:
        return np.ones(len(faces), np.float32)
    return faces.label_weights


def _chained(texts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(text for part in texts for text in part)


def _windows(parts: Sequence[Image]) -> Image:
    side = max(part.shape[1] for part in parts)
    joined = np.zeros((sum(map(len, parts)), side, side, 3), np.uint8)
    start = 0
    for part in parts:
        rows = joined[start : start + len(part)]
        own = part.shape[1]
        rows[:, :own, :own] = part
        # As `face_cache.padded`: the last row and column are repeated.
        rows[:, own:, :own] = part[:, -1:]
        rows[:, :, own:] = rows[:, :, own - 1 : own]
        start += len(part)
    return joined


def _places(parts: Sequence[ViewPlaces]) -> ViewPlaces:
    """Lay places one behind another; crop pixels per frame height are a matter of the view."""
    counts = [int(part.present.sum()) for part in parts]
    sizes = [part.frame_px for part in parts]
    return ViewPlaces(
        np.concatenate([part.matrices for part in parts]),
        np.concatenate([part.present for part in parts]),
        float(np.average(sizes, weights=counts)) if any(counts) else sizes[0],
    )
