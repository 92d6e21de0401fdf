"""Which of a picture's faces its label means: the one in the labelled box, else the largest."""

from __future__ import annotations

from collections.abc import Sequence

from agebench.types import Box, Face
from agebench.vision.frames import box_iou

MIN_LABEL_IOU = 0.3
"""A face whose box overlaps the labelled one by less (IoU) is another one.

Boxes of one face by several detectors and hands overlap by 0.5 and more; those of neighbours in a
group hardly at all.
"""


def no_face_reason(labelled_xyxy: Box | None) -> str:
    """Say what was not found: any face, or the one that the label means."""
    where = "" if labelled_xyxy is None else " where the label's box is"
    return f"the detector found no face{where}"


def chosen_face(faces: Sequence[Face], labelled_xyxy: Box | None = None) -> Face | None:
    """Return the face that a label means, or None where no face is it.

    Args:
        faces: as a detector found them.
        labelled_xyxy: the label's box in the picture's pixels: the face that overlaps it most is
            taken, if its IoU is at least `MIN_LABEL_IOU`.  None: the largest face, as a picture of
            one person shows that person largest; of equal ones the first.
    """
    if labelled_xyxy is None:
        return max(faces, key=lambda face: face.area, default=None)
    overlaps = [box_iou(face.box_xyxy, labelled_xyxy) for face in faces]
    best = max(range(len(faces)), key=overlaps.__getitem__, default=None)
    return None if best is None or overlaps[best] < MIN_LABEL_IOU else faces[best]
