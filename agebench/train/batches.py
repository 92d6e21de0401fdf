"""From pictures held in memory to batches of views on the device."""

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
from agebench.train.face_cache import TrainingFaces, ViewPlaces, padded
from agebench.train.losses import Targets
from agebench.train.sections import AugmentSettings, no_augmentation
from agebench.types import CropSpec, Floats, Image, ViewSpec

Ints = npt.NDArray[np.intp]

MISSING_LEVEL = 127.5
"""Pixels of a view that is not there: what lies there must not reach a network's statistics."""

AHEAD = 3
"""Batches that wait on the host while the device works."""


@dataclass(frozen=True, slots=True, eq=False)
class HostBatch:
    """What was gathered for one step, before it goes to the device.

    Attributes:
        step: number of the step.
        rows: indices of the pictures.
        windows: uint8 (n, side, side, 3), filtered where that was drawn.
        wholes: per view of the whole picture uint8 (n, height, width, 3).
        plan: what is drawn for each.
    """

    step: int
    rows: Ints
    windows: Image
    wholes: Mapping[str, Image]
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
    """Gathers and augments.

    Args:
        faces: the pictures.
        crop: the views.
        settings: what may happen to them.
        seed: of all that is drawn.
        device: where the views go.
    """

    def __init__(
        self,
        faces: TrainingFaces,
        crop: CropSpec,
        settings: AugmentSettings,
        seed: int,
        device: torch.device,
    ) -> None:
        self._faces = faces
        self._crop = crop
        self._settings = settings
        self._seed = seed
        self._device = device
        self._filters = FilterCache()

    def gather(self, step: int, rows: Ints, shard: slice) -> HostBatch:
        """Collect one process's shard of a step's pictures; all is drawn for the whole batch."""
        views = tuple(self._crop.views)
        plan = draw_plan(self._settings, views, len(rows), (self._seed, step, 1)).shard(shard)
        names = choose_filters(self._settings.filters, len(rows), (self._seed, step, 2))[shard]
        mine = rows[shard]
        windows = self._faces.windows[mine]
        wholes = {name: pixels[mine] for name, pixels in self._faces.wholes.items()}
        for place, name in enumerate(names):
            if name:
                index = int(mine[place])
                height, width = self._faces.sizes_hw[index]
                own = windows[place, :height, :width]  # without what fills the window up
                windows[place] = padded(self._filters.apply(name, index, own), windows.shape[1])
                for pixels in wholes.values():
                    pixels[place] = FILTERS[name](pixels[place])
        return HostBatch(step, mine, windows, wholes, plan)

    def views(self, batch: HostBatch, scale: float = 1.0) -> ViewBatch:
        """Cut and augment all views on the device.

        Args:
            batch: what was gathered.
            scale: of the crops' sides, below 1 for smaller ones.
        """
        faces, plan, device = self._faces, batch.plan, self._device
        sources = _planes(batch.windows, device)
        pixels, present = {}, {}
        colours = torch.from_numpy(plan.colours).to(device)
        for at, (name, view) in enumerate(self._crop.views.items()):
            size_hw = scaled(view.size_hw, scale)
            if name in batch.wholes:
                crop = self._whole(_planes(batch.wholes[name], device), view, plan, size_hw)
                frame_px = size_hw[0] / 2.0  # a face fills about half of a portrait
            else:
                places = faces.places[name]
                crop = self._window(sources, batch, places, view, size_hw)
                frame_px = places.frame_px * size_hw[0] / view.size_hw[0]
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
        """Return the targets with the labels' weights and the teacher's answers, if any."""
        weights, answers = self._faces.label_weights, self._faces.answers
        return replace(
            targets,
            label_weights=None if weights is None else torch.from_numpy(weights[rows]),
            answers=None if answers is None else torch.from_numpy(answers[rows]).float(),
        )

    def _present(self, name: str, batch: HostBatch) -> npt.NDArray[np.bool_]:
        if name in batch.wholes:
            return self._faces.present[name][batch.rows]
        flags = self._faces.places[name].present
        there: npt.NDArray[np.bool_] = flags[batch.rows, batch.plan.flipped.astype(np.intp)]
        return there

    def _window(
        self,
        sources: Tensor,
        batch: HostBatch,
        places: ViewPlaces,
        view: ViewSpec,
        size_hw: tuple[int, int],
    ) -> Tensor:
        plan, rows = batch.plan, batch.rows
        matrices = places.matrices[rows, plan.flipped.astype(np.intp)].astype(np.float64)
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
            places_of = torch.from_numpy(chosen).to(self._device)
            crops[places_of] = _shrunk_warp(sources[places_of], turned[chosen], level, size_hw)
        return crops

    def _whole(
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
    """Return height and width times `scale`, rounded to whole multiples of 8; as they are at 1."""
    if scale == 1:
        return size_hw
    height, width = (max(16, 8 * round(side * scale / 8)) for side in size_hw)
    return height, width


def _resized(
    matrices: npt.NDArray[np.float64], from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Let crops of another size show the same rectangle; outer edges stay where they are."""
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
    """Return how often each window is halved before its crop is cut, as `vision.crops` does."""
    steps = np.linalg.norm(matrices[:, :, :2], axis=1).min(axis=1)
    levels: npt.NDArray[np.intp] = np.floor(np.log2(np.maximum(steps, 1.0))).astype(np.intp)
    return levels


def _shrunk_warp(sources: Tensor, matrices: Floats, level: int, size_hw: tuple[int, int]) -> Tensor:
    """Cut crops from windows that are halved `level` times first, so that nothing aliases."""
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


def prefetched(
    gather: Callable[[int], HostBatch], steps: Iterable[int], ahead: int = AHEAD
) -> Iterator[HostBatch]:
    """Yield the steps' batches in order; a thread gathers the next ones meanwhile."""
    waiting: deque[Future[HostBatch]] = deque()
    with ThreadPoolExecutor(1, "gather") as pool:
        try:
            for step in steps:
                waiting.append(pool.submit(gather, step))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def plain_views(
    faces: TrainingFaces, crop: CropSpec, device: torch.device, batch: int, *, mirrored: bool
) -> Iterator[ViewBatch]:
    """Yield all pictures in order, without augmentation, as they are or mirrored."""
    settings = no_augmentation()
    batches = Batches(faces, crop, settings, 0, device)
    for start in range(0, len(faces), batch):
        rows = np.arange(start, min(start + batch, len(faces)))
        gathered = batches.gather(0, rows, slice(None))
        if mirrored:
            gathered.plan.flipped[:] = True
        yield batches.views(gathered)


def mixed(views: ViewBatch, alpha: float, key: tuple[int, int, int]) -> ViewBatch:
    """Return a batch of which every picture is mixed with another one.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

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
