"""From a picture to the one face that is scored, the same for every estimator."""

from __future__ import annotations

from collections.abc import Sequence

from agebench.protocols import FaceDetector
from agebench.types import Face, FaceFrame, Image
from agebench.vision.frames import canonical_frame


def largest(faces: Sequence[Face]) -> Face:
    """Return the face with the largest box; of equal ones the first.

    A labelled picture shows the person whom the label means largest.
    """
    return max(faces, key=lambda face: face.area)


def find_face(detector: FaceDetector, image_bgr: Image) -> tuple[Face, FaceFrame, int] | None:
    """Return the largest face, its canonical frame and how many were found; None without one."""
    faces = detector.detect(image_bgr)
    if not faces:
        return None
    face = largest(faces)
    return face, canonical_frame(face, detector.spec), len(faces)
