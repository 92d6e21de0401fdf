"""Prepares one picture: reads it, finds the faces, cuts the views and writes the files."""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image as PillowImage

from agebench.datasets.landmarks import read_pts
from agebench.datasets.prepared_layout import ORIGINAL_FOLDER, picture_file
from agebench.errors import AgebenchError, DatasetError, ImageError
from agebench.prepare.records import FaceRecord, PictureRecord, PreparedView
from agebench.prepare.settings import PrepareSettings
from agebench.prepare.store import Store
from agebench.protocols import FaceDetector
from agebench.registry.plugins import load_detector
from agebench.types import FGNET_68_POINTS, Box, CropSpec, Face, FaceFrame, Image
from agebench.util.process_pool import TRIES, Death, Work, in_processes
from agebench.vision.decoding import decode_file
from agebench.vision.faces import LeftOutError, cut_faces, find_faces, no_face_reason
from agebench.vision.frames import face_from_landmarks, frame_from_points, to_five_points
from agebench.vision.opencv import cv2

READABLE_LENGTH = 60
HASH_DIGITS = 10

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}\Z")


def readable_stem(source: str) -> str:
    """Return a source's file name in only letters, digits, ``_`` and ``-``.

    >>> readable_stem("albums/Zoë 7.JPG"), readable_stem("東京.png")
    ('Zoe_7', 'picture')
    """
    base = _SUFFIX.sub("", source.rpartition("/")[2])
    plain = unicodedata.normalize("NFKD", base).encode("ascii", "ignore").decode("ascii")
    return _UNSAFE.sub("_", plain).strip("_-")[:READABLE_LENGTH] or "picture"


def _stem(source: str, digits: int) -> str:
    return f"{readable_stem(source)}-{hashlib.sha256(source.encode()).hexdigest()[:digits]}"


def stems(sources: Iterable[str], digits: int = HASH_DIGITS) -> dict[str, str]:
    """Return a stem for each source name.

    The stem is the readable part and the first `digits` of the SHA-256 of the whole name, so it
    does not depend on the other pictures.  If two are nevertheless equal, ignoring case as some
    file systems do, they get the whole hash.
    """
    short = {source: _stem(source, digits) for source in sources}
    counts = Counter(stem.lower() for stem in short.values())
    return {
        source: stem if counts[stem.lower()] == 1 else _stem(source, 64)
        for source, stem in short.items()
    }


def face_name(stem: str, face_index: int) -> str:
    """Return the name of a face's files, without suffix."""
    return f"{stem}-{face_index}"


JPEG_QUALITY = 95
JPEG_SAMPLING = "4:4:4"
"""Colour at full resolution: the crops are small, and the colour of skin matters."""

_ORIENTATION_TAG = 0x0112
_TURNED = range(2, 9)


@dataclass(frozen=True, slots=True)
class PreparationTask:
    """A picture to prepare; plain values, so that it can be sent to another process.

    Attributes:
        path: the picture's file.
        source: its name in the data set.
        stem: start of its files' names.
        group: folder of its age group.
        landmarks_path: its landmark file, if the data set has one.
        labelled_xyxy: box of the labelled face, if the data set states it.
    """

    path: Path
    source: str
    stem: str
    group: str
    landmarks_path: Path | None = None
    labelled_xyxy: Box | None = None


@dataclass(frozen=True, slots=True)
class PreparationPlan:
    """Settings for all pictures: the detector's reference, options and folders."""

    detector: str
    settings: PrepareSettings
    out: Path
    scratch: Path


@dataclass(frozen=True, slots=True)
class _Found:
    face: Face
    frame: FaceFrame
    landmarks_from: str


def encode_jpeg(image_bgr: Image) -> bytes:
    """Return a picture as a JPEG file's bytes.

    Raises:
        ImageError: it is too large for a JPEG, whose sides are limited to 65,535 pixels.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    height, width = image_bgr.shape[:2]
    try:
        done, data = cv2.imencode(".jpg", image_bgr, options)
    except cv2.error as error:
        raise ImageError(
            f"a picture of {width}x{height} pixels can't be a JPEG: {error.err}"
        ) from error
    if not done:
        raise ImageError(f"a picture of {width}x{height} pixels can't be a JPEG")
    return bytes(data.tobytes())


def is_upright_jpeg(data: bytes) -> bool:
    """Return whether a decodable file is a gray or colour JPEG that no EXIF tag rotates."""
    try:
        header = PillowImage.open(io.BytesIO(data), formats=("JPEG",))
        turned = header.getexif().get(_ORIENTATION_TAG) in _TURNED
    except Exception:  # not a JPEG, or metadata that Pillow can't read: encoded again
        return False
    return header.mode in ("RGB", "L") and not turned


class PicturePreparer:
    """Prepares pictures one by one with one detector."""

    def __init__(self, plan: PreparationPlan) -> None:
        self._settings = plan.settings
        self._crop_spec: CropSpec = plan.settings.crop_spec()
        self._detector: FaceDetector = load_detector(plan.detector)
        self._store = Store(plan.out, plan.scratch)

    def prepare(self, task: PreparationTask) -> PictureRecord:
        """Write a picture's files; problems of the picture itself are stated in the record.

        Raises:
            AgebenchError: the output can't be written.
        """
        read = decode_file(task.path, task.source, self._settings.max_pixels)
        sha256 = read.sha256
        if read.image_bgr is None:
            reason = f"{task.source}: {read.reason}"
            return PictureRecord(task.source, "unreadable", reason, sha256)
        try:
            kept, found = self._faces(task, read.image_bgr)
            faces, files = self._cut(task, read.data, read.image_bgr, kept)
        except LeftOutError as error:
            return PictureRecord(task.source, error.status, str(error), sha256)
        except MemoryError:
            return PictureRecord(task.source, "unreadable", "not enough memory for it", sha256)
        for name, content in files.items():
            self._store.write(name, content)
        sizes = {name: len(content) for name, content in files.items()}
        return PictureRecord(task.source, "ok", "", sha256, found, tuple(faces), sizes)

    def _faces(self, task: PreparationTask, image: Image) -> tuple[Sequence[_Found], int]:
        """Return the faces to keep, the largest first, and the number of faces found."""
        if self._settings.landmarks == "dataset" and task.landmarks_path is not None:
            return [_from_dataset(task.landmarks_path)], 1
        seen = find_faces(
            self._detector,
            image,
            labelled_xyxy=task.labelled_xyxy,
            every=self._settings.faces != "largest",
        )
        if not seen.faces:
            raise LeftOutError("no_face", no_face_reason(task.labelled_xyxy))
        found = [
            _Found(face, frame, "detector" if face.landmarks_xy else "")
            for face, frame in zip(seen.faces, seen.frames, strict=True)
        ]
        return sorted(found, key=lambda item: -item.face.area), seen.found

    def _cut(
        self, task: PreparationTask, data: bytes, image: Image, kept: Sequence[_Found]
    ) -> tuple[list[FaceRecord], dict[str, bytes]]:
        """Return the records of the faces, and the content of all files by name."""
        (crops,) = cut_faces(image, [found.frame for found in kept], [self._crop_spec])
        records: list[FaceRecord] = []
        files: dict[str, bytes] = {}
        try:
            original = data if is_upright_jpeg(data) else encode_jpeg(image)
            for index, found in enumerate(kept):
                name = face_name(task.stem, index)
                files[picture_file(task.group, ORIGINAL_FOLDER, name)] = original
                views = {}
                for view, pixels in crops.views.items():
                    present = bool(crops.present[view][index])
                    views[view] = PreparedView(present, float(crops.outside[view][index]))
                    if present:
                        files[picture_file(task.group, view, name)] = encode_jpeg(pixels[index])
                records.append(
                    FaceRecord(name, found.face, found.landmarks_from, found.frame, views)
                )
        except ImageError as error:
            raise LeftOutError("not_storable", str(error)) from error
        return records, files


def _from_dataset(path: Path) -> _Found:
    """Return the face of a landmark file of the data set."""
    try:
        points = read_pts(path)
    except DatasetError as error:
        raise LeftOutError("bad_landmarks", str(error).replace(str(path), path.name)) from error
    face = face_from_landmarks(points, FGNET_68_POINTS)
    frame = frame_from_points(to_five_points(points, FGNET_68_POINTS))
    if face is None or frame is None:
        raise LeftOutError("bad_landmarks", f"the points of {path.name!r} coincide")
    return _Found(face, frame, "dataset")


def prepare_pictures(
    plan: PreparationPlan, tasks: Sequence[PreparationTask], processes: int
) -> Generator[tuple[PreparationTask, str], None, None]:
    """Yield each task with its record's line, in order.

    Raises:
        AgebenchError: the output can't be written, or no process can be used.
    """
    count = min(processes, len(tasks))
    if count > 1:
        work = Work(partial(worker, plan), _given_up)
        yield from in_processes(work, tasks, count)
    else:
        yield from _in_this_process(plan, tasks)


def _in_this_process(
    plan: PreparationPlan, tasks: Sequence[PreparationTask]
) -> Iterator[tuple[PreparationTask, str]]:
    before = cv2.getNumThreads()
    try:
        yield from map(worker(plan), tasks)
    finally:
        cv2.setNumThreads(before)


def worker(plan: PreparationPlan) -> Callable[[PreparationTask], tuple[PreparationTask, str]]:
    """Return a function that prepares one picture on one thread; also used in child processes."""
    # With several threads, sums in a different order would change the crops.
    cv2.setNumThreads(1)
    preparer = PicturePreparer(plan)
    return lambda task: (task, preparer.prepare(task).to_line())


def _given_up(task: PreparationTask, death: Death) -> tuple[PreparationTask, str]:
    if death.killed:
        raise AgebenchError(
            f"the process working on {task.source!r} was killed {TRIES} times, perhaps because "
            "memory was short: run the same command with fewer --processes to resume"
        )
    return task, PictureRecord(task.source, "crashed", death.reason).to_line()
