"""Batches of views on the device, cut from cached faces."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from agebench.train.augment import (
    FILTERS,
    AugmentPlan,
    FilterCache,
    add_noise,
    choose_filters,
    draw_plan,
    erase,
    jittered,
    lower_resolution,
    recolour,
    warp,
)
from agebench.train.face_cache import TrainingFaces, ViewTransforms, padded
from agebench.train.losses import Targets
from agebench.train.sections import AugmentSettings, no_augmentation
from agebench.types import CropSpec, Floats, Image, ViewSpec
from agebench.util.arrays import Bools, Ints

MISSING_LEVEL = 127.5
"""Value of a missing view's pixels, so that others can't affect a network's statistics."""

AHEAD = 3
"""Number of batches prepared on the host while the device works."""


@dataclass(frozen=True, slots=True, eq=False)
class HostBatch:
    """One step's input on the host.

    Attributes:
        step: number of the step.
        rows: indices of the pictures.
        pixels_bgr: uint8 (n, side, side, 3), cached faces after slow filters.
        originals: per view of the whole picture uint8 (n, height, width, 3).
        plan: random parameters of the augmentation.
    """

    step: int
    rows: Ints
    pixels_bgr: Image
    originals: Mapping[str, Image]
    plan: AugmentPlan


@dataclass(frozen=True, slots=True, eq=False)
class ViewBatch:
    """One step's input on the device.

    Attributes:
        pixels: per view float32 (n, 3, height, width), B, G, R, 0 to 255.
        present: per view float32 (n, 1) of 0 and 1.
        targets: the labels.
    """

    pixels: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    targets: Targets


class Batches:
    """Assembles and augments batches.

    Args:
        faces: the pictures.
        crop: the views.
        settings: of the augmentation.
        seed: of all random numbers.
        device: of the views.

    Raises:
        ValueError: the faces were gathered for crops of another size, which would be cut at the
            wrong place.
    """

    def __init__(
        self,
        faces: TrainingFaces,
        crop: CropSpec,
        settings: AugmentSettings,
        seed: int,
        device: torch.device,
    ) -> None:
        for name, transforms in faces.transforms.items():
            if name in crop.views and crop.views[name].size_hw != transforms.size_hw:
                raise ValueError(
                    f"view {name!r} has crops of {crop.views[name].size_hw} pixels, but the faces "
                    f"were gathered for {transforms.size_hw}"
                )
        self._faces = faces
        self._crop = crop
        self._settings = settings
        self._seed = seed
        self._device = device
        self._filters = FilterCache()

    def gather(self, step: int, rows: Ints, shard: slice) -> HostBatch:
        """Return one process's shard of a step; random numbers are drawn for the whole batch."""
        views = tuple(self._crop.views)
        plan = draw_plan(self._settings, views, len(rows), (self._seed, step, 1)).shard(shard)
        names = choose_filters(self._settings.filters, len(rows), (self._seed, step, 2))[shard]
        own_rows = rows[shard]
        cached = self._faces.pixels_bgr[own_rows]
        originals = {name: pixels[own_rows] for name, pixels in self._faces.originals.items()}
        for place, name in enumerate(names):
            if name:
                index = int(own_rows[place])
                height, width = self._faces.sizes_hw[index]
                own = cached[place, :height, :width]  # without padding
                cached[place] = padded(self._filters.apply(name, index, own), cached.shape[1])
                for pixels in originals.values():
                    pixels[place] = FILTERS[name](pixels[place])
        return HostBatch(step, own_rows, cached, originals, plan)

    def views(self, batch: HostBatch, scale: float = 1.0) -> ViewBatch:
        """Cut and augment all views on the device.

        Args:
            batch: from `gather`.
            scale: factor on the crops' sides, below 1 for smaller ones.
        """
        faces, plan, device = self._faces, batch.plan, self._device
        sources = _planes(batch.pixels_bgr, device)
        pixels, present = {}, {}
        colours = torch.from_numpy(plan.colours).to(device)
        for at, (name, view) in enumerate(self._crop.views.items()):
            size_hw = scaled(view.size_hw, scale)
            if name in batch.originals:
                crop = self._original(_planes(batch.originals[name], device), view, plan, size_hw)
                frame_px = size_hw[0] / 2.0  # a face covers about half the height of a portrait
            else:
                transforms = faces.transforms[name]
                crop = self._cut(sources, batch, transforms, view, size_hw)
                frame_px = transforms.frame_px * size_hw[0] / view.size_hw[0]
            crop = lower_resolution(crop, plan.low_resolution, frame_px)
            crop = add_noise(recolour(crop, colours), plan.noise, plan.keys + at)
            crop = erase(crop, plan.erased[name])
            there = self._present(name, batch)
            if not there.all():
                crop[torch.from_numpy(~there).to(device)] = MISSING_LEVEL
            pixels[name] = crop
            present[name] = torch.from_numpy(there[:, None].astype(np.float32)).to(device)
        lows = torch.from_numpy(faces.lows[batch.rows])
        highs = torch.from_numpy(faces.highs[batch.rows])
        targets = self._taught(Targets.ranges(lows, highs), batch.rows)
        return ViewBatch(pixels, present, targets.to(device))

    def _taught(self, targets: Targets, rows: Ints) -> Targets:
        """Return the targets with label weights and teacher's answers, if there are any."""
        weights, answers = self._faces.label_weights, self._faces.answers
        return replace(
            targets,
            label_weights=None if weights is None else torch.from_numpy(weights[rows]),
            answers=None if answers is None else torch.from_numpy(answers[rows]).float(),
        )

    def _present(self, name: str, batch: HostBatch) -> Bools:
        if name in batch.originals:
            return self._faces.present[name][batch.rows]
        flags = self._faces.transforms[name].present
        there: Bools = flags[batch.rows, batch.plan.flipped.astype(np.intp)]
        return there

    def _cut(
        self,
        sources: Tensor,
        batch: HostBatch,
        transforms: ViewTransforms,
        view: ViewSpec,
        size_hw: tuple[int, int],
    ) -> Tensor:
        plan, rows = batch.plan, batch.rows
        matrices = transforms.matrices[rows, plan.flipped.astype(np.intp)].astype(np.float64)
        centers = self._faces.centers_xy[rows].astype(np.float64)
        heights = self._faces.heights[rows].astype(np.float64)
        resized = _resized(matrices, view.size_hw, size_hw)
        turned = jittered(resized, plan, centers, heights)
        levels = _halvings(resized)
        if not levels.any():
            return warp(sources, torch.from_numpy(turned).float().to(self._device), size_hw)
        crops = sources.new_empty((len(rows), 3, *size_hw))
        for level in np.unique(levels):
            chosen = np.flatnonzero(levels == level)
            indices = torch.from_numpy(chosen).to(self._device)
            crops[indices] = _shrunk_warp(sources[indices], turned[chosen], level, size_hw)
        return crops

    def _original(
        self, sources: Tensor, view: ViewSpec, plan: AugmentPlan, size_hw: tuple[int, int]
    ) -> Tensor:
        height, width = view.size_hw
        one = np.array([[1.0, 0, 0], [0, 1, 0]])
        mirrored = np.array([[-1.0, 0, width - 1], [0, 1, 0]])
        matrices = np.where(plan.flipped[:, None, None], mirrored, one)
        centers = np.tile([(width - 1) / 2, (height - 1) / 2], (len(plan), 1))
        heights = np.full(len(plan), height / 2.0)
        turned = jittered(_resized(matrices, view.size_hw, size_hw), plan, centers, heights)
        return warp(sources, torch.from_numpy(turned).float().to(self._device), size_hw)


def scaled(size_hw: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return height and width times `scale`, rounded to multiples of 8; unchanged if it is 1."""
    if scale == 1:
        return size_hw
    height, width = (max(16, 8 * round(side * scale / 8)) for side in size_hw)
    return height, width


def _resized(
    matrices: npt.NDArray[np.float64], from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Return matrices for crops of another size that show the same rectangle."""
    if from_hw == to_hw:
        return matrices
    factor_y, factor_x = from_hw[0] / to_hw[0], from_hw[1] / to_hw[1]
    resized = matrices.copy()
    # Pixel centres: pixel i of the new size lies at (i + 0.5) * factor - 0.5 of the old one.
    resized[:, :, 2] += (
        matrices[:, :, 0] * (factor_x - 1) / 2 + matrices[:, :, 1] * (factor_y - 1) / 2
    )
    resized[:, :, 0] *= factor_x
    resized[:, :, 1] *= factor_y
    return resized


def _halvings(matrices: Floats) -> npt.NDArray[np.intp]:
    """Return how often each picture is halved before its crop is cut, as in `vision.crops`."""
    steps = np.linalg.norm(matrices[:, :, :2], axis=1).min(axis=1)
    levels: npt.NDArray[np.intp] = np.floor(np.log2(np.maximum(steps, 1.0))).astype(np.intp)
    return levels


def _shrunk_warp(sources: Tensor, matrices: Floats, level: int, size_hw: tuple[int, int]) -> Tensor:
    """Cut crops from pictures that are first halved `level` times to prevent aliasing."""
    moved = matrices.copy()
    for _ in range(level):
        if min(sources.shape[2:]) < 2:
            break
        sources = functional.avg_pool2d(sources, 2)
        # Pixel centres: a halved picture's pixel i covers the pixels 2i and 2i+1.
        moved[:, :, 2] += 0.5
        moved /= 2
        moved[:, :, 2] -= 0.5
    return warp(sources, torch.from_numpy(moved).float().to(sources.device), size_hw)


def _planes(pixels: Image, device: torch.device) -> Tensor:
    """Return uint8 (n, height, width, 3) as float32 (n, 3, height, width) on the device."""
    moved = torch.from_numpy(np.ascontiguousarray(pixels)).to(device, non_blocking=True)
    return moved.permute(0, 3, 1, 2).float()


def prefetched(gather: Callable[[int], HostBatch], steps: Iterable[int]) -> Iterator[HostBatch]:
    """Yield the steps' batches in order, while a thread prepares the next ones."""
    waiting: deque[Future[HostBatch]] = deque()
    with ThreadPoolExecutor(1, "gather") as pool:
        try:
            for step in steps:
                waiting.append(pool.submit(gather, step))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def plain_views(
    faces: TrainingFaces, crop: CropSpec, device: torch.device, batch: int, *, mirrored: bool
) -> Iterator[ViewBatch]:
    """Yield all pictures in order without augmentation, optionally mirrored."""
    batches = Batches(faces, crop, no_augmentation(), 0, device)
    for start in range(0, len(faces), batch):
        rows = np.arange(start, min(start + batch, len(faces)))
        gathered = batches.gather(0, rows, slice(None))
        if mirrored:
            gathered.plan.flipped[:] = True
        yield batches.views(gathered)


def mixed(views: ViewBatch, alpha: float, key: tuple[int, int, int]) -> ViewBatch:
    """Return a batch in which every picture is mixed with another one.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

    Args:
        views: of one process.
        alpha: of the beta distribution of lambda, which is replaced by 1 - lambda where that is
            larger; 0 returns the batch unchanged.
        key: seed, step and rank, which determine the random numbers.
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
    """Draw a partner for each picture among those with the same missing views.

    If the partner lacked a view, its age would be mixed in but not its pixels.
    """
    flags = np.concatenate([values.cpu().numpy() for values in present.values()], axis=1)
    other = np.arange(len(flags))
    for pattern in np.unique(flags, axis=0):
        rows = np.flatnonzero((flags == pattern).all(axis=1))
        other[rows] = rng.permutation(rows)
    return other
