"""The faces of a batch sweep: a generated picture, or real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

import numpy as np

from agebench.errors import DatasetError
from agebench.protocols import DetectorSpec, Estimator, FaceDetector
from agebench.types import Crops, CropSpec, Face, FaceFrame, Image, Sample
from agebench.vision.crops import cut_crops
from agebench.vision.faces import LeftOut, face_pictures
from agebench.vision.frames import canonical_frame

REAL_FACES = 16
"""Largest number of real faces; a larger batch repeats them."""

_PICTURE_HW = (480, 640)
_BOX_XYXY = (220.0, 100.0, 420.0, 360.0)


@dataclass(frozen=True, slots=True, eq=False)
class FaceSource:
    """Pictures with the frame of one face each.

    Attributes:
        pairs: picture and frame.
        origin: description of where they come from.
        names: of the pictures; empty for a generated one.
    """

    pairs: tuple[tuple[Image, FaceFrame], ...]
    origin: str
    names: tuple[str, ...] = field(default=())

    def cut(self, spec: CropSpec, batch: int) -> Crops:
        """Return the crops of `batch` faces, cycling through the pictures."""
        faces = islice(cycle(self.pairs), batch)
        return Crops.join([cut_crops(image_bgr, [frame], spec) for image_bgr, frame in faces])


def generated_face(seed: int = 0) -> FaceSource:
    """Return one picture of noise, 640 pixels wide, with a face of 200 x 260 in it.

    A network takes as long for noise as for a face.  Equal seeds give equal pictures everywhere.
    """
    noise = np.random.default_rng(seed).integers(0, 256, (*_PICTURE_HW, 3), np.uint8)
    frame = canonical_frame(Face(_BOX_XYXY, 1.0), DetectorSpec("generated"))
    height, width = _PICTURE_HW
    return FaceSource(((noise, frame),), f"a generated picture of noise, {width} x {height}")


def real_faces(
    samples: Sequence[Sample],
    detector: FaceDetector,
    estimators: Sequence[Estimator],
    *,
    origin: str,
    max_pixels: int,
) -> FaceSource:
    """Return the first `REAL_FACES` faces that have all views of every estimator.

    Raises:
        DatasetError: there is none.
    """
    pairs: list[tuple[Image, FaceFrame]] = []
    names: list[str] = []
    specs = [item.spec.crop for item in estimators]
    left_out = LeftOut()
    seen = face_pictures(samples, detector, specs, workers=0, max_pixels=max_pixels)
    for picture in left_out.watch(seen):
        if picture.complete:
            pairs.append(picture.required())
            names.append(picture.sample.name)
        if len(pairs) == REAL_FACES:
            break
    if not pairs:
        raise DatasetError(
            f"{origin}: none of the {len(samples)} pictures has a face that every estimator can "
            f"use: choose another data set or detector{left_out}"
        )
    return FaceSource(tuple(pairs), origin, tuple(names))
