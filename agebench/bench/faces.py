"""From a picture to the one face that is scored, the same for every estimator."""

from __future__ import annotations

from agebench.foreign import found_faces
from agebench.protocols import FaceDetector
from agebench.types import Box, Face, FaceFrame, Image
from agebench.vision.choice import chosen_face
from agebench.vision.frames import canonical_frame


def find_face(
    detector: FaceDetector, image_bgr: Image, labelled_xyxy: Box | None = None
) -> tuple[Face, FaceFrame, int] | None:
    """Return the face that the label means, its canonical frame and how many faces were found.

    None where there is none; see `agebench.vision.choice.chosen_face`.
    """
    faces = found_faces(detector, image_bgr)
    face = chosen_face(faces, labelled_xyxy)
    if face is None:
        return None
    return face, canonical_frame(face, detector.spec), len(faces)
