"""From a picture to the one face that is scored, the same for every estimator."""

from __future__ import annotations

from collections.abc import Sequence

from agebench.foreign import found_faces
from agebench.protocols import DetectorSpec, FaceDetector
from agebench.types import Box, Face, FaceFrame, Image
from agebench.vision.choice import chosen_face
from agebench.vision.frames import canonical_frame


def find_face(
    detector: FaceDetector, image_bgr: Image, labelled_xyxy: Box | None = None
) -> tuple[Face, FaceFrame, int] | None:
    """Return the face that the label means, its canonical frame and how many faces were found.

    None where there is none; see `agebench.vision.choice.chosen_face`.
    """
    return chosen_frame(found_faces(detector, image_bgr), detector.spec, labelled_xyxy)


def chosen_frame(
    faces: Sequence[Face], spec: DetectorSpec, labelled_xyxy: Box | None = None
) -> tuple[Face, FaceFrame, int] | None:
    """Return the same as `find_face`, of faces that `spec`'s detector has found already."""
    face = chosen_face(faces, labelled_xyxy)
    return None if face is None else (face, canonical_frame(face, spec), len(faces))
