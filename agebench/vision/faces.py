"""The common steps for faces: decode, detect, choose, map to the canonical frame, crop.

All commands use these, so that a picture gives the same face everywhere: `face_pictures` processes
many pictures, `find_faces` and `cut_faces` are its steps for one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agebench.errors import AgebenchError, RunEndsError, UsageError, error_text
from agebench.protocols import FaceDetector
from agebench.types import Box, Crops, CropSpec, Face, FaceFrame, Image, Sample
from agebench.util.foreign_code import found_faces
from agebench.vision.crops import cut_shared
from agebench.vision.decoding import Decoded, decode_all
from agebench.vision.frames import box_iou, canonical_frame

PictureStatus: TypeAlias = Literal[
    "ok",
    "unreadable",
    "bad_landmarks",
    "detector_failed",
    "no_face",
    "crop_failed",
    "estimator_failed",
    "not_storable",
    "crashed",
]
"""The outcome for a picture, in the order of the steps.

Each command uses a subset: "bad_landmarks" (of the data set) and "not_storable" are used by
`prepare`, "estimator_failed" (no face has an age) by `predict`, "crashed" (the process that worked
on it died) by both; for `predict` a picture without a face is "ok".
"""


class LeftOutError(AgebenchError):
    """A picture can't be used; callers that process many count it and continue.

    Attributes:
        status: the step that failed.
    """

    def __init__(self, status: PictureStatus, reason: str) -> None:
        super().__init__(reason)
        self.status: PictureStatus = status


@contextmanager
def left_out(status: PictureStatus, *fatal: type[Exception]) -> Iterator[None]:
    """Convert any exception within the context to a `LeftOutError`.

    Detectors and estimators may be third-party code and fail in any way, and a picture's shape may
    be unusual; neither may end a long run.

    Args:
        status: of the error.
        fatal: exceptions that are not about the picture, besides `RunEndsError`, which are not
            converted.

    >>> with left_out("crop_failed"):
    ...     raise ValueError("too odd")
    Traceback (most recent call last):
        ...
    agebench.vision.faces.LeftOutError: ValueError: too odd
    """
    passing: tuple[type[Exception], ...] = (LeftOutError, RunEndsError, *fatal)
    try:
        yield
    except passing:
        raise
    except Exception as error:
        raise LeftOutError(status, error_text(error)) from error


MIN_LABEL_IOU = 0.3
"""A face whose IoU with the labelled box is smaller is another face.

Boxes of the same face by several detectors and annotators overlap by 0.5 and more; those of
neighbours in a group hardly at all.
"""


def no_face_reason(labelled_xyxy: Box | None) -> str:
    """Return what was not found: any face, or the labelled one."""
    where = "" if labelled_xyxy is None else " where the label's box is"
    return f"the detector found no face{where}"


def chosen_face(faces: Sequence[Face], labelled_xyxy: Box | None = None) -> Face | None:
    """Return the face that a label refers to, or None.

    Args:
        faces: as a detector found them.
        labelled_xyxy: the label's box in the picture's pixels: the face with the highest IoU is
            returned, if it is at least `MIN_LABEL_IOU`.  None: the largest face, which in
            a picture of one person is that person; the first of equal ones.
    """
    if labelled_xyxy is None:
        return max(faces, key=lambda face: face.area, default=None)
    overlaps = [box_iou(face.box_xyxy, labelled_xyxy) for face in faces]
    best = max(range(len(faces)), key=overlaps.__getitem__, default=None)
    return None if best is None or overlaps[best] < MIN_LABEL_IOU else faces[best]


Find: TypeAlias = Callable[[FaceDetector, Image], Sequence[Face]]
"""Detects all faces of a picture."""

FindKept: TypeAlias = Callable[[FaceDetector, str, Image], Sequence[Face]]
"""The same, also given the SHA-256 of the picture's file, to look up stored detections."""

Change: TypeAlias = Callable[[Sample, Image, FaceFrame], tuple[Image, FaceFrame]]
"""Returns another picture and frame for one whose face was found."""


@dataclass(frozen=True, slots=True)
class Faces:
    """The relevant faces of one picture.

    Attributes:
        faces: in the detector's order.
        frames: the canonical frame of each.
        found: number of all faces in the picture.
    """

    faces: tuple[Face, ...] = ()
    frames: tuple[FaceFrame, ...] = ()
    found: int = 0


def find_faces(
    detector: FaceDetector,
    image_bgr: Image,
    *,
    labelled_xyxy: Box | None = None,
    every: bool = False,
    find: Find = found_faces,
) -> Faces:
    """Find the relevant faces, and their canonical frames.

    Args:
        detector: anybody's.
        image_bgr: uint8 (height, width, 3).
        labelled_xyxy: the label's box: only the face in it is relevant (`chosen_face`).
        every: without a label's box all faces are relevant, otherwise the largest.
        find: the detector.

    Returns:
        An empty result if there is no face; see `no_face_reason`.

    Raises:
        LeftOutError: the detector failed.
        RunEndsError: `find` can't continue, whatever the picture.
    """
    with left_out("detector_failed"):
        found = find(detector, image_bgr)
        if every and labelled_xyxy is None:
            kept = tuple(found)
        else:
            face = chosen_face(found, labelled_xyxy)
            kept = () if face is None else (face,)
        frames = tuple(canonical_frame(face, detector.spec) for face in kept)
        return Faces(kept, frames, len(found))


def cut_faces(
    image_bgr: Image, frames: Sequence[FaceFrame], specs: Sequence[CropSpec]
) -> list[Crops]:
    """Cut the crops of all `frames`, one `Crops` per spec; equal specs share theirs.

    Raises:
        LeftOutError: a picture of an unusual shape.
        UsageError: a spec that is invalid for any picture.
    """
    with left_out("crop_failed", UsageError):
        return cut_shared(image_bgr, frames, specs)


@dataclass(frozen=True, slots=True, eq=False)
class FacePicture:
    """The result of searching for the one face that a picture's label refers to.

    Attributes:
        decoded: the picture, its hash and its sample.
        status: "ok", "unreadable", "detector_failed", "no_face" or "crop_failed".
        reason: the error, in a sentence without the picture's name.
        found: number of faces that the detector found; 0 if none is the labelled one.
        face, frame: the labelled one; None if there is none.
        crops: of that face, one per spec; empty unless ok.
    """

    decoded: Decoded
    status: PictureStatus = "ok"
    reason: str = ""
    found: int = 0
    face: Face | None = None
    frame: FaceFrame | None = None
    crops: tuple[Crops, ...] = ()

    @property
    def sample(self) -> Sample:
        """Its name and labels."""
        return self.decoded.sample

    @property
    def image_bgr(self) -> Image | None:
        """Its pixels, uint8 (height, width, 3); None if it is unreadable."""
        return self.decoded.image_bgr

    def required(self) -> tuple[Image, FaceFrame]:
        """Return the pixels and the frame of a picture that is ok.

        Raises:
            LeftOutError: it is not ok, or no detector was given.
        """
        if self.status != "ok" or self.image_bgr is None or self.frame is None:
            raise LeftOutError(self.status, self.reason)
        return self.image_bgr, self.frame

    @property
    def complete(self) -> bool:
        """Whether all crops exist, with all of their views."""
        views = (flags for crops in self.crops for flags in crops.present.values())
        return self.status == "ok" and all(flags.all() for flags in views)


class LeftOut:
    """Counts the pictures that are not ok, for error messages."""

    def __init__(self) -> None:
        self._counts: Counter[PictureStatus] = Counter()
        self._first: dict[PictureStatus, str] = {}

    def watch(self, pictures: Iterable[FacePicture]) -> Iterator[FacePicture]:
        """Yield all pictures; those that are not ok are counted."""
        for picture in pictures:
            if picture.status != "ok":
                self._counts[picture.status] += 1
                self._first.setdefault(picture.status, f"{picture.sample.name}: {picture.reason}")
            yield picture

    def __str__(self) -> str:
        """Number of pictures by status, with the first of each; "" if all are ok."""
        counts = (f"{count} {name}, {self._first[name]}" for name, count in self._counts.items())
        listed = "; ".join(counts)
        return f" ({listed})" if listed else ""


def face_pictures(
    samples: Iterable[Sample],
    detector: FaceDetector | None,
    specs: Sequence[CropSpec] = (),
    *,
    workers: int,
    max_pixels: int,
    find: FindKept | None = None,
    change: Change | None = None,
) -> Iterator[FacePicture]:
    """Yield all pictures in order, each with the face that its label refers to, and its crops.

    Args:
        samples: the pictures.
        detector: called once per picture; without one no face is searched for, and everything that
            can be decoded is "ok".
        specs: of the crops.
        workers: threads that decode ahead; 0 decodes in the caller's thread.
        max_pixels: larger pictures are refused.
        find: used instead of calling the detector directly.
        change: crops are cut from the picture that it returns.

    Raises:
        UsageError: a spec that is invalid for any picture.
        RunEndsError: `find` can't continue.
    """
    for decoded in decode_all(samples, workers=workers, max_pixels=max_pixels):
        if decoded.image_bgr is None:
            yield FacePicture(decoded, "unreadable", decoded.reason)
        elif detector is None:
            yield FacePicture(decoded)
        else:
            yield _seen(decoded, decoded.image_bgr, detector, specs, find, change)


def _seen(
    decoded: Decoded,
    image_bgr: Image,
    detector: FaceDetector,
    specs: Sequence[CropSpec],
    find: FindKept | None,
    change: Change | None,
) -> FacePicture:
    def ask(asked: FaceDetector, shown: Image) -> Sequence[Face]:
        return found_faces(asked, shown) if find is None else find(asked, decoded.sha256, shown)

    box = decoded.sample.box_xyxy
    try:
        faces = find_faces(detector, image_bgr, labelled_xyxy=box, find=ask)
    except LeftOutError as error:
        return FacePicture(decoded, error.status, str(error))
    if not faces.faces:
        return FacePicture(decoded, "no_face", no_face_reason(box))
    (face,), (frame,) = faces.faces, faces.frames
    try:
        with left_out("crop_failed", UsageError):
            shown, there = image_bgr, frame
            if change is not None:
                shown, there = change(decoded.sample, image_bgr, frame)
            crops = cut_faces(shown, [there], specs)
    except LeftOutError as error:
        return FacePicture(decoded, error.status, str(error), faces.found, face, frame)
    return FacePicture(decoded, "ok", "", faces.found, face, frame, tuple(crops))
