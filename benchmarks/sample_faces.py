"""Faces of the bundled sample: chips are grouped and averaged into composites."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import RBFInterpolator

from agebench.protocols import FaceDetector
from agebench.splits.protocols import PictureContents
from agebench.types import Floats, Image, Sample
from agebench.vision.faces import chosen_face
from agebench.vision.images import read_image
from agebench.vision.opencv import cv2

SOURCES = 12
"""Faces in a composite."""

SPREAD_YEARS, OLD_SPREAD_YEARS = 1.0, 3.0
"""Maximum difference between a source's age and the composite's label; the second value applies if
all sources are older than `OLD_YEARS`."""

OLD_YEARS = 60
APART_YEARS = 1.5
"""Minimum difference between the labels of two composites of one gender."""

PER_AGE = 16
"""Maximum number of faces of one gender and age; the most frontal ones are used."""

SIDE_PX = 200
PAD_PX = 100
"""Padding for detection: detectors expect some space around a face."""

MOST_TURNED_PX = 12.0
"""A face is turned too far if, after the best similarity transform, one of its five points is
farther than this from its median position."""

MOST_ALIKE = 0.5
"""Faces whose detail correlates more than this are not combined: they may be the same person.

The record states the fraction of all pairs above this; nearly all pairs are of different people.
"""

DETAIL_SIGMAS_PX = (2.0, 8.0)
"""Standard deviations of the two Gaussian blurs whose difference is the detail."""

FACE_ROWS, FACE_COLUMNS = slice(30, 165), slice(40, 160)
"""Position of the face in a chip; only these pixels are compared."""


@dataclass(frozen=True, eq=False)
class Chip:
    """One source of a composite.

    Attributes:
        sample: the sample with its label.
        image_bgr: its picture, uint8 (200, 200, 3).
        points_xy: eyes, nose tip and mouth corners, (5, 2).
        turned_px: maximum distance of a point from its median position, after alignment.
        detail: detail that distinguishes it from other faces, a vector of length 1.
    """

    sample: Sample
    image_bgr: Image
    points_xy: Floats
    turned_px: float
    detail: Floats

    @property
    def age(self) -> float:
        """The age label, years."""
        assert self.sample.age_years is not None  # noqa: S101 - UTKFace has no ranges
        return self.sample.age_years


@dataclass(frozen=True, eq=False)
class Composite:
    """One composite, which becomes one file."""

    name: str
    gender: str
    chips: tuple[Chip, ...]
    faces_bgr: Image
    """The sources after warping, uint8 (sources, 200, 200, 3)."""

    @property
    def age(self) -> float:
        """The mean of the sources' labels, years."""
        return float(np.mean([chip.age for chip in self.chips]))

    @property
    def average_bgr(self) -> Image:
        """The mean of the faces."""
        mean: Image = np.rint(self.faces_bgr.astype(np.float64).mean(axis=0)).astype(np.uint8)
        return mean


def one_of_each(samples: Iterable[Sample], contents: PictureContents) -> list[Sample]:
    """Return the samples without copies: the first of each group of duplicates is kept."""
    copies = {name for group in contents.duplicates for name in group.members[1:]}
    return [sample for sample in samples if sample.name not in copies]


def find_points(sample: Sample, detector: FaceDetector) -> tuple[Image, Floats] | None:
    """Return a chip's pixels and five points; None if it has no face or the wrong size."""
    image = read_image(sample.path)
    padded = cv2.copyMakeBorder(image, PAD_PX, PAD_PX, PAD_PX, PAD_PX, cv2.BORDER_REPLICATE)
    face = chosen_face(detector.detect(np.asarray(padded, np.uint8)))
    if image.shape != (SIDE_PX, SIDE_PX, 3) or face is None:
        return None
    return image, np.asarray(face.landmarks_xy) - PAD_PX


def similarity(source_xy: Floats, target_xy: Floats) -> tuple[complex, complex]:
    """Return factor and offset of the least-squares similarity transform, as complex numbers."""
    source, target = (points @ np.array([1, 1j]) for points in (source_xy, target_xy))
    centred = source - source.mean()
    factor = np.vdot(centred, target - target.mean()) / np.vdot(centred, centred).real
    return complex(factor), complex(target.mean() - factor * source.mean())


def make_chips(found: Mapping[str, tuple[Image, Floats]], samples: Sequence[Sample]) -> list[Chip]:
    """Return the chips, with `turned_px` and `detail` relative to all faces."""
    usual: Floats = np.median([points for _, points in found.values()], axis=0)
    turned, details = [], []
    for image, points in found.values():
        factor, offset = similarity(points, usual)
        moved = factor * (points @ np.array([1, 1j])) + offset
        turned.append(float(np.abs(moved - usual @ np.array([1, 1j])).max()))
        turn = np.array(
            [[factor.real, -factor.imag, offset.real], [factor.imag, factor.real, offset.imag]]
        )
        upright = cv2.warpAffine(image, turn, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE)
        gray = upright.astype(np.float32).mean(axis=-1)
        fine, coarse = (cv2.GaussianBlur(gray, (0, 0), sigma) for sigma in DETAIL_SIGMAS_PX)
        details.append(_unit((fine - coarse)[FACE_ROWS, FACE_COLUMNS].astype(np.float64).ravel()))
    common = np.mean(details, axis=0)
    by_name = {sample.name: sample for sample in samples}
    return [
        Chip(by_name[name], image, points, turned[at], _unit(details[at] - common))
        for at, (name, (image, points)) in enumerate(found.items())
    ]


def _unit(vector: Floats) -> Floats:
    centred: Floats = vector - vector.mean()
    return centred / max(float(np.linalg.norm(centred)), 1e-9)


def in_order(chips: Iterable[Chip], seed: int) -> list[Chip]:
    """Return chips sorted by age, oldest first, in random order within an age.

    Faces turned too far are omitted; at most `PER_AGE` are used per age.
    """
    by_age: dict[float, list[Chip]] = defaultdict(list)
    for chip in sorted(chips, key=lambda chip: (chip.turned_px, chip.sample.name)):
        if chip.turned_px <= MOST_TURNED_PX and len(by_age[chip.age]) < PER_AGE:
            by_age[chip.age].append(chip)
    draw = random.Random(seed)
    return [
        chip
        for age in sorted(by_age, reverse=True)
        for chip in draw.sample(by_age[age], len(by_age[age]))
    ]


def groups(chips: Sequence[Chip]) -> Iterator[tuple[Chip, ...]]:
    """Yield disjoint groups of chips that are close in age and do not look alike."""
    start, before = 0, np.inf
    while start + SOURCES <= len(chips):
        group = chips[start : start + SOURCES]
        ages = np.array([chip.age for chip in group])
        spread = OLD_SPREAD_YEARS if ages.min() > OLD_YEARS else SPREAD_YEARS
        label = float(ages.mean())
        details = np.array([chip.detail for chip in group])
        alike = np.triu(details @ details.T, 1).max() > MOST_ALIKE
        if np.abs(ages - label).max() <= spread and before - label >= APART_YEARS and not alike:
            yield tuple(group)
            start, before = start + SOURCES, label
        else:
            start += 1


def warp(chip: Chip, target_xy: Floats) -> Image:
    """Warp a chip so that its five points coincide with the target's.

    The chip's border follows a similarity transform; a thin-plate spline interpolates in between.
    """
    ends = np.linspace(0, SIDE_PX - 1, 3)
    border = np.array([(x, y) for x in ends for y in ends if (x, y) != (ends[1], ends[1])])
    factor, offset = similarity(target_xy, chip.points_xy)
    moved = factor * (border @ np.array([1, 1j])) + offset
    bend = RBFInterpolator(
        np.concatenate([target_xy, border]),
        np.concatenate([chip.points_xy, np.stack([moved.real, moved.imag], axis=1)]),
        kernel="thin_plate_spline",
    )
    grid = np.stack(np.meshgrid(np.arange(SIDE_PX), np.arange(SIDE_PX)), axis=-1)
    places = bend(grid.reshape(-1, 2).astype(np.float64)).reshape(SIDE_PX, SIDE_PX, 2)
    xy = places.astype(np.float32)
    warped = cv2.remap(
        chip.image_bgr, xy[..., 0], xy[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, np.uint8)


def compose(gender: str, chips: tuple[Chip, ...]) -> Composite:
    """Warp the faces of a group to their mean shape."""
    target: Floats = np.mean([chip.points_xy for chip in chips], axis=0)
    label = float(np.mean([chip.age for chip in chips]))
    name = f"composite_{gender}_{label:04.1f}.jpg".replace(".", "_", 1)
    return Composite(name, gender, chips, np.stack([warp(chip, target) for chip in chips]))
