"""The cache of training faces: the part of every picture around its face, held in memory.

It is cut once from the decoded picture, without rotating or enlarging it; every view of the face,
with any jitter, is then cut from it in one warp.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agebench.protocols import Dataset, FaceDetector, ProgressStep, no_progress
from agebench.types import CropSpec, FaceFrame, Floats, Image, Problem, Sample, ViewSpec
from agebench.util.arrays import Ints
from agebench.vision.crops import cut_patch, place_view, view_patch
from agebench.vision.decoding import Decoded
from agebench.vision.faces import FacePicture, LeftOutError, face_pictures, left_out
from agebench.vision.images import MAX_PIXELS
from agebench.vision.opencv import cv2
from agebench.vision.regions import MIRRORED_REGIONS

REACH = 0.75
"""Cached distance from the frame's centre, in frame heights: for views with their jitter."""

ORIGINAL = "original"
"""The region that shows the whole picture, and is cached separately."""


@dataclass(frozen=True, slots=True)
class CachedFace:
    """The part of a picture around a face.

    Attributes:
        pixels_bgr: uint8 (height, width, 3), neither side longer than the limit.
        frame: of the face, in pixels of `pixels_bgr`.
        full_frame: of the face, in pixels of the picture.
        picture_hw: height and width of the picture.
    """

    pixels_bgr: Image
    frame: FaceFrame
    full_frame: FaceFrame
    picture_hw: tuple[int, int]


def _moved(frame: FaceFrame, left: float, top: float, scale: float) -> FaceFrame:
    """Return the frame in a picture cut at (left, top) and then scaled."""

    def move(x: float, y: float) -> tuple[float, float]:
        # Pixel centres: the outer edge of pixel 0 is at -0.5.
        return ((x - left + 0.5) * scale - 0.5, (y - top + 0.5) * scale - 0.5)

    box = frame.box_xyxy
    return replace(
        frame,
        center_xy=move(*frame.center_xy),
        height=frame.height * scale,
        points_xy=tuple(move(x, y) for x, y in frame.points_xy),
        box_xyxy=None if box is None else (*move(*box[:2]), *move(*box[2:])),
    )


def _reach(frame: FaceFrame, views: Iterable[ViewSpec], size_hw: tuple[int, int]) -> float:
    """Return the distance from the frame's centre that all views need, pixels."""
    reach = REACH * frame.height
    for view in views:
        patch = view_patch(view, frame, size_hw)
        cos, sin = abs(math.cos(patch.roll_rad)), abs(math.sin(patch.roll_rad))
        half = (patch.width * cos + patch.height * sin, patch.width * sin + patch.height * cos)
        for axis in (0, 1):
            away = abs(patch.center_xy[axis] - frame.center_xy[axis])
            reach = max(reach, away + half[axis] / 2)
    return reach


def cache_face(
    image_bgr: Image, frame: FaceFrame, longest_px: int, views: Iterable[ViewSpec] = ()
) -> CachedFace:
    """Cut a face with its surroundings from a picture, and shrink it if it is too large.

    Args:
        image_bgr: uint8 (height, width, 3).
        frame: the face.
        longest_px: limit of the longer side.
        views: that will be cut from the result; it includes them even beyond `REACH`.
    """
    height, width = image_bgr.shape[:2]
    (x, y), reach = frame.center_xy, _reach(frame, views, (height, width))
    left = min(max(0, math.floor(x - reach)), width - 1)
    top = min(max(0, math.floor(y - reach)), height - 1)
    right = max(left + 1, min(width, math.ceil(x + reach) + 1))
    bottom = max(top + 1, min(height, math.ceil(y + reach) + 1))
    pixels = image_bgr[top:bottom, left:right]
    scale = min(1.0, longest_px / max(pixels.shape[:2]))
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in (right - left, bottom - top))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    moved = _moved(frame, left, top, scale)
    return CachedFace(np.ascontiguousarray(pixels), moved, frame, (height, width))


def padded(pixels_bgr: Image, side: int) -> Image:
    """Repeat the last row and column until the picture has `side` x `side` pixels."""
    height, width = pixels_bgr.shape[:2]
    return np.pad(pixels_bgr, ((0, side - height), (0, side - width), (0, 0)), mode="edge")


@dataclass(frozen=True, slots=True, eq=False)
class ViewTransforms:
    """How one view is cut from each of n cached faces.

    Attributes:
        matrices: float32 (n, 2, 2, 3): from crop pixels to pixels of the cached face, for the
            picture itself and mirrored left to right.
        present: bool (n, 2): whether the view exists, for the picture itself and mirrored.
        frame_px: crop pixels per frame height, the median over the faces.
        size_hw: height and width of the crops that the matrices are for.
    """

    matrices: npt.NDArray[np.float32]
    present: npt.NDArray[np.bool_]
    frame_px: float
    size_hw: tuple[int, int]


def _reversed_x(matrix: Floats, width: int) -> Floats:
    """Return the matrix for crops with reversed columns."""
    flipped = matrix.copy()
    flipped[:, 2] += matrix[:, 0] * (width - 1)
    flipped[:, 0] *= -1
    return flipped


def _transforms(view: ViewSpec, faces: Sequence[CachedFace]) -> ViewTransforms:
    mirrored = replace(view, region=MIRRORED_REGIONS.get(view.region, view.region))
    matrices = np.zeros((len(faces), 2, 2, 3), np.float32)
    present = np.zeros((len(faces), 2), np.bool_)
    scales = []
    for index, face in enumerate(faces):
        size_hw = (face.pixels_bgr.shape[0], face.pixels_bgr.shape[1])
        for side, shown in enumerate((view, mirrored)):
            if place_view(shown, face.full_frame, face.picture_hw).missing:
                continue
            present[index, side] = True
            place = place_view(shown, face.frame, size_hw)
            matrix = place.matrix(view.size_hw)
            matrices[index, side] = _reversed_x(matrix, view.size_hw[1]) if side else matrix
            scales.append(face.frame.height * view.size_hw[0] / place.patch.height)
    frame_px = float(np.median(scales)) if scales else 1.0
    return ViewTransforms(matrices, present, frame_px, view.size_hw)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingFaces:
    """The cached faces of n training pictures, with their labels.

    Attributes:
        pixels_bgr: uint8 (n, side, side, 3), padded at the right and the bottom.
        sizes_hw: (n, 2), height and width without padding.
        originals: per view of the region "original" uint8 (n, height, width, 3).
        transforms: per other view how it is cut from `pixels_bgr`.
        present: per view bool (n,), whether it exists in the pictures (not mirrored).
        centers_xy: float32 (n, 2), the frame's centre, in pixels of `pixels_bgr`.
        heights: float32 (n,), the frame's height, likewise.
        lows, highs: float64 (n,), the label's lowest and highest age; equal for an exact age.
        names: of the samples.
        hashes: SHA-256 of the files.
        problems: pictures left out, with the reason.
        label_weights: float32 (n,), 0 to 1, of each label in the loss; None if all are 1.
        answers: float16 (n, bins), a teacher's distribution for each picture, rows of 0 where it
            has none; None without a teacher.
    """

    pixels_bgr: Image
    sizes_hw: Ints
    originals: Mapping[str, Image]
    transforms: Mapping[str, ViewTransforms]
    present: Mapping[str, npt.NDArray[np.bool_]]
    centers_xy: npt.NDArray[np.float32]
    heights: npt.NDArray[np.float32]
    lows: Floats
    highs: Floats
    names: tuple[str, ...]
    hashes: tuple[str, ...]
    problems: tuple[Problem, ...]
    label_weights: npt.NDArray[np.float32] | None = None
    answers: npt.NDArray[np.float16] | None = None

    def __len__(self) -> int:
        return len(self.pixels_bgr)

    @property
    def ages(self) -> Floats:
        """Exact ages, and midpoints of ranges, float64 (n,)."""
        middle: Floats = (self.lows + self.highs) / 2
        return middle

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the names, contents and labels of all pictures, in any order."""
        labels = zip(self.lows.tolist(), self.highs.tolist(), strict=True)
        rows = zip(self.names, self.hashes, labels, strict=True)
        return hashlib.sha256("\n".join(sorted(map(json.dumps, rows))).encode()).hexdigest()


def _label(sample: Sample) -> tuple[float, float] | None:
    if sample.age_years is not None:
        return sample.age_years, sample.age_years
    if sample.age_range is not None:
        return float(sample.age_range[0]), float(sample.age_range[1])
    return None


@dataclass(slots=True, eq=False)
class _Collected:
    faces: list[CachedFace]
    originals: dict[str, list[Image]]
    labels: list[tuple[float, float]]
    samples: list[Decoded]
    problems: list[Problem]


def _original(image_bgr: Image, frame: FaceFrame, view: ViewSpec) -> Image:
    patch = view_patch(view, frame, (image_bgr.shape[0], image_bgr.shape[1]))
    return cut_patch(image_bgr, patch, view.size_hw)


def _sorted_views(crop: CropSpec) -> tuple[dict[str, ViewSpec], dict[str, ViewSpec]]:
    """Return the views that are cut from the cached face, and those of the whole picture."""
    originals = {name: view for name, view in crop.views.items() if view.region == ORIGINAL}
    return {name: view for name, view in crop.views.items() if name not in originals}, originals


def _collect(
    pictures: Iterable[FacePicture], crop: CropSpec, longest_px: int, step: Callable[[], None]
) -> _Collected:
    cut, originals = _sorted_views(crop)
    found = _Collected([], {name: [] for name in originals}, [], [], list[Problem]())
    for picture in pictures:
        label, reason = _label(picture.sample), ""
        try:
            image_bgr, frame = picture.required()
            with left_out("crop_failed"):
                face = cache_face(image_bgr, frame, longest_px, cut.values())
                whole = {
                    name: _original(image_bgr, frame, view) for name, view in originals.items()
                }
        except LeftOutError as error:
            failed = "the detector failed: " if error.status == "detector_failed" else ""
            reason = f"{failed}{error}"
        if label is None and picture.image_bgr is not None:
            reason = "it has no age"
        if reason or label is None:
            found.problems.append(Problem(picture.sample.name, reason))
        else:
            found.faces.append(face)
            for name, pixels in whole.items():
                found.originals[name].append(pixels)
            found.labels.append(label)
            found.samples.append(replace(picture.decoded, image_bgr=None))
        step()
    return found


def gather_faces(
    dataset: Dataset,
    detector: FaceDetector,
    crop: CropSpec,
    *,
    longest_px: int = 256,
    workers: int = 2,
    progress: ProgressStep = no_progress,
    stage: str = "Reading pictures",
) -> TrainingFaces:
    """Read all pictures of a data set and cache the largest face of each.

    Args:
        dataset: pictures with ages or age ranges.
        detector: finds the faces.
        crop: the views that training needs.
        longest_px: cached faces are shrunk so that neither side is longer.
        workers: number of threads that decode.
        progress: called after every picture.
        stage: label of the progress.

    Returns:
        The faces, in the order of the samples; pictures left out are in `problems`.
    """
    total = len(dataset.samples)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(stage, done, total)

    pictures = face_pictures(dataset.samples, detector, workers=workers, max_pixels=MAX_PIXELS)
    return _packed(_collect(pictures, crop, longest_px, step), crop)


def _packed(found: _Collected, crop: CropSpec) -> TrainingFaces:
    """Return everything collected as arrays."""
    cut, originals = _sorted_views(crop)
    faces = found.faces
    side = max((max(face.pixels_bgr.shape[:2]) for face in faces), default=1)
    pixels = np.zeros((len(faces), side, side, 3), np.uint8)
    for index, face in enumerate(faces):
        pixels[index] = padded(face.pixels_bgr, side)
    transforms = {name: _transforms(view, faces) for name, view in cut.items()}
    present = {name: place.present[:, 0] for name, place in transforms.items()}
    present |= {name: np.ones(len(faces), np.bool_) for name in originals}
    labels = np.array(found.labels, np.float64).reshape(-1, 2)
    return TrainingFaces(
        pixels_bgr=pixels,
        sizes_hw=np.array([face.pixels_bgr.shape[:2] for face in faces], np.intp).reshape(-1, 2),
        originals={
            name: _stack(images, originals[name].size_hw)
            for name, images in found.originals.items()
        },
        transforms=transforms,
        present=present,
        centers_xy=np.array([face.frame.center_xy for face in faces], np.float32).reshape(-1, 2),
        heights=np.array([face.frame.height for face in faces], np.float32),
        lows=labels[:, 0],
        highs=labels[:, 1],
        names=tuple(item.sample.name for item in found.samples),
        hashes=tuple(item.sha256 for item in found.samples),
        problems=tuple(found.problems),
    )


def _stack(images: Sequence[Image], size_hw: tuple[int, int]) -> Image:
    return np.stack(images) if images else np.zeros((0, *size_hw, 3), np.uint8)
