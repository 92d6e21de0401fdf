"""Measures how a detector's boxes relate to the canonical face frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agebench.errors import DatasetError, UsageError
from agebench.protocols import BoxToFrame, FaceDetector, ProgressStep, no_progress
from agebench.types import Box, Face, FaceFrame, Sample
from agebench.vision.faces import (
    FacePicture,
    LeftOut,
    LeftOutError,
    face_pictures,
    find_faces,
)
from agebench.vision.frames import (
    box_iou,
    five_points,
    frame_box,
    frame_from_box,
    frame_from_points,
)

MIN_FACES = 20
"""Minimum number of faces for a meaningful median."""


@dataclass(frozen=True)
class Relation:
    """Boxes, their reference frames, and the number of pictures without a reference."""

    boxes: list[Box]
    frames: list[FaceFrame]
    missed: int

    def fitted(self) -> BoxToFrame:
        """Return the medians of offset (in box widths and heights) and height (box heights)."""
        boxes = np.array(self.boxes)
        centers = np.array([frame.center_xy for frame in self.frames])
        heights = np.array([frame.height for frame in self.frames])
        sizes = boxes[:, 2:] - boxes[:, :2]
        offsets = (centers - (boxes[:, :2] + boxes[:, 2:]) / 2) / sizes
        dx, dy = np.median(offsets, axis=0)
        return BoxToFrame(float(dx), float(dy), float(np.median(heights / sizes[:, 1])))

    def overlaps(self, detector: FaceDetector, relation: BoxToFrame) -> list[float]:
        """Return the IoU of the frame from each box with its reference."""
        spec = replace(detector.spec, box_to_frame=relation)
        pairs = zip(self.boxes, self.frames, strict=True)
        return [
            box_iou(frame_box(frame_from_box(box, spec)), frame_box(frame)) for box, frame in pairs
        ]


def reference_frame(face: Face | None) -> FaceFrame | None:
    """Return the frame of a face's landmarks, or None."""
    points = None if face is None else five_points(face)
    return None if points is None else frame_from_points(points)


def paired(pairs: Iterable[tuple[Face | None, FaceFrame | None]]) -> Relation:
    """Keep the faces whose box contains the centre of their reference, and count the others."""
    boxes, frames, missed = [], [], 0
    for face, frame in pairs:
        if frame is None or face is None or not _contains_centre(face.box_xyxy, frame):
            missed += 1
            continue
        boxes.append(face.box_xyxy)
        frames.append(frame)
    return Relation(boxes, frames, missed)


def _find_face(detector: FaceDetector, picture: FacePicture) -> Face | None:
    if picture.image_bgr is None:
        return None
    box_xyxy = picture.sample.box_xyxy
    try:
        found = find_faces(detector, picture.image_bgr, labelled_xyxy=box_xyxy)
    except LeftOutError:
        return None
    return found.faces[0] if found.faces else None


def _contains_centre(box: Box, frame: FaceFrame) -> bool:
    x, y = frame.center_xy
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


@dataclass(frozen=True)
class FrameFit:
    """The result of `fit_frame`.

    Attributes:
        frame: the proportions: offset in box widths and heights, height in box heights.
        reference: name of the detector with the landmarks.
        faces: number of faces compared.
        missed: pictures without a face to compare.
        median_iou: of the frames from the proportions with the reference frames.
        boxes_median_iou: the same, with each box itself as the frame.
        under_half: fraction of faces whose frames have an IoU below 0.5.
    """

    frame: BoxToFrame
    reference: str
    faces: int
    missed: int
    median_iou: float
    boxes_median_iou: float
    under_half: float

    def toml(self) -> str:
        """Return the table [frame] of a detector's spec file."""
        return (
            f"[frame]  # {self.faces} faces against the landmarks of {self.reference}: median IoU "
            f"{self.median_iou:.3f} ({self.boxes_median_iou:.3f} by the box alone), below 0.5 for "
            f"{self.under_half:.1%}\n"
            f"dx = {self.frame.dx:.3f}\ndy = {self.frame.dy:.3f}\n"
            f"height = {self.frame.height:.3f}\n"
        )


def fit_frame(
    detector: FaceDetector,
    reference: FaceDetector,
    samples: Sequence[Sample],
    *,
    max_pixels: int,
    progress: ProgressStep = no_progress,
) -> FrameFit:
    """Measure the proportions of a detector's boxes on pictures of one large face each.

    Args:
        detector: whose boxes are measured.
        reference: whose landmarks define the frame; may be the same.
        samples: the pictures; their labels are not used, except boxes of labelled faces.
        max_pixels: larger pictures are skipped.
        progress: called during the work.

    Raises:
        UsageError: the reference gives no landmarks.
        DatasetError: fewer than `MIN_FACES` faces were found by both.
    """
    if not reference.spec.landmark_scheme:
        raise UsageError(
            f"{reference.spec.name} finds no landmarks, which define the frame: name a "
            "detector that does with --reference, such as yolov8-face"
        )
    pairs: list[tuple[Face | None, FaceFrame | None]] = []
    left_out = LeftOut()
    pictures = face_pictures(samples, detector, workers=1, max_pixels=max_pixels)
    for done, picture in enumerate(left_out.watch(pictures), start=1):
        progress("faces", done, len(samples))
        face = picture.face if reference is detector else _find_face(reference, picture)
        pairs.append((picture.face, reference_frame(face)))
    relation = paired(pairs)
    if len(relation.boxes) < MIN_FACES:
        raise DatasetError(
            f"{detector.spec.name} and {reference.spec.name} both found a face in "
            f"{len(relation.boxes)} of {len(samples)} pictures, expected at least {MIN_FACES}: "
            f"give more pictures, of one large face each{left_out}"
        )
    fitted = relation.fitted()
    overlaps = np.array(relation.overlaps(detector, fitted))
    return FrameFit(
        fitted,
        reference.spec.name,
        len(relation.boxes),
        relation.missed,
        float(np.median(overlaps)),
        float(np.median(relation.overlaps(detector, BoxToFrame()))),
        float((overlaps < 0.5).mean()),
    )
