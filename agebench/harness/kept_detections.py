"""Detections kept from run to run, since detection takes most of a comparison's time.

The key of a detection is the hash of the picture's bytes and of everything that determines the
detector's output: its description (model files by hash, settings, library and its version),
OpenCV's version, and the source code that decodes pictures and runs networks.  Times never come
from here: the latency pass runs the detector itself.  Other values computed from a picture are kept
in the same way.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from agebench.errors import RunEndsError
from agebench.harness.loading import reads_back_its_runtime
from agebench.modelfiles.weights import CACHE_VARIABLE, cache_dir
from agebench.protocols import FaceDetector
from agebench.types import Face, Image, plain
from agebench.util.files import why_no_folder
from agebench.util.foreign_code import found_faces

_T = TypeVar("_T")

FORMAT = 1
"""Version of the file format; files of other versions are refused."""

COMMIT_EVERY = 32
COMMIT_SECONDS = 2.0
"""Most pictures, and most seconds of work, that are lost if a run is killed."""

WAIT_S = 60.0
"""How long to wait for another run that is writing."""

DETECTING = ("conversion", "detectors", "estimators/common.py", "runtimes", "vision")
"""Sources, below the package, that affect what a detector finds in a picture."""

FILE_VARIABLE = "AGEBENCH_DETECTIONS"
"""Environment variable with the path of the default file; if empty, nothing is kept."""

_TABLES = """
CREATE TABLE IF NOT EXISTS faces (
  detector TEXT NOT NULL, picture TEXT NOT NULL, found TEXT NOT NULL,
  PRIMARY KEY (detector, picture)
) WITHOUT ROWID
"""


class KeptDetectionsError(RunEndsError):
    """The file of kept detections can't be used, which ends the run, whatever the picture."""


class KeptDetections:
    """A file of detections; several runs may use it at the same time.

    Attributes:
        used: number of pictures whose faces were in the file.
        added: number of pictures whose faces were detected in this run.
        seconds: time that these detections took.

    Args:
        path: the file; created, with its folder, if missing.
        tell: called once with a message if the file fails after it was opened; from then on all
            faces are detected again.  If None, such a failure is raised.

    Raises:
        KeptDetectionsError: it can't be created, or is not a file of kept detections.
    """

    def __init__(self, path: str | Path, notify: Callable[[str], None] | None = None) -> None:
        self.path = Path(path)
        self._notify = notify
        self._lost = False
        self.used = 0
        self.added = 0
        self.seconds = 0.0
        self._saved = time.monotonic()
        self._waiting: dict[tuple[str, str], str] = {}
        self._make_folder()
        with self._failing():
            self._file = sqlite3.connect(self.path, timeout=WAIT_S)
            version = self._file.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                version = self._make()
            if version != FORMAT:
                raise KeptDetectionsError(
                    f"{self.path} is not a file of kept detections of this version (expected "
                    f"format {FORMAT}, got {version}): remove it, or name another file"
                )

    def keeps(self, detector: FaceDetector) -> bool:
        """Return whether a detector's answers can be kept.

        This holds for agebench's own detectors, whose description is complete.  A fixed place in
        the picture costs nothing, and a class from another package may change unnoticed.
        """
        return reads_back_its_runtime(detector) and not detector.spec.layout

    def find(self, detector: FaceDetector, picture_sha256: str, image_bgr: Image) -> list[Face]:
        """Return the faces of a picture, from the file if possible.

        Args:
            detector: used if the file does not have them.
            picture_sha256: of the file that the picture was decoded from.
            image_bgr: the picture.

        Raises:
            KeptDetectionsError: the file can't be read or written, and `tell` is None.
            Exception: anything the detector raises; it is not kept.
        """
        if not (picture_sha256 and self.keeps(detector)):
            return found_faces(detector, image_bgr)
        key = detector_key(detector)
        kept = self.recall(key, picture_sha256, _faces)
        if kept is not None:
            self.used += 1
            return kept
        start = time.monotonic()
        faces = found_faces(detector, image_bgr)
        self.seconds += time.monotonic() - start
        self.keep(key, picture_sha256, [plain(face) for face in faces])
        self.added += 1
        return faces

    def recall(self, key: str, picture_sha256: str, read: Callable[[list[Any]], _T]) -> _T | None:
        """Return the value kept for a picture; None if there is none.

        Args:
            key: hash of everything that determines the value, except the picture.
            picture_sha256: of the picture's file.
            read: converts the parsed JSON of what `keep` was given.

        Raises:
            KeptDetectionsError: the file can't be read, and `tell` is None.
        """
        return self._or_without(lambda: self._read(key, picture_sha256, read))

    def keep(self, key: str, picture_sha256: str, content: Sequence[object]) -> None:
        """Keep a value for a picture; see `recall`.

        Raises:
            KeptDetectionsError: the file can't be written, and `tell` is None.
        """
        self._or_without(lambda: self._write(key, picture_sha256, content))

    def save(self) -> None:
        """Write the values found so far.

        Raises:
            KeptDetectionsError: the file can't be written, and `tell` is None.
        """
        self._or_without(self._save)

    def _save(self) -> None:
        rows = [(*key, text) for key, text in self._waiting.items()]
        with self._failing(), self._file:  # one short transaction, as other runs write too
            self._file.executemany("INSERT OR REPLACE INTO faces VALUES (?, ?, ?)", rows)
        self._waiting = {}
        self._saved = time.monotonic()

    def close(self) -> None:
        """Write the remaining values and close the file.

        Raises:
            KeptDetectionsError: the file can't be written, and `tell` is None.
        """
        try:
            self.save()
        finally:
            self._file.close()

    def __enter__(self) -> KeptDetections:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            _, reason = why_no_folder(error)
            raise KeptDetectionsError(
                f"the kept detections in {self.path} can't be used, as their folder can't be "
                f"created ({reason}): name another folder with {CACHE_VARIABLE}, or another file "
                f"with {FILE_VARIABLE}"
            ) from error

    def _make(self) -> int:
        """Create the table in an empty file; return the file's format, perhaps set by another run.

        In one transaction: two runs may start at once, and a killed run must not leave a table
        without its format, which would then be refused.
        """
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            version = int(self._file.execute("PRAGMA user_version").fetchone()[0])
            if version or self._file.execute("SELECT * FROM sqlite_master").fetchone():
                return version
            self._file.execute(_TABLES)
            self._file.execute(f"PRAGMA user_version = {FORMAT}")
            return FORMAT

    def _read(self, key: str, picture: str, read: Callable[[list[Any]], _T]) -> _T | None:
        text = self._waiting.get((key, picture))
        with self._failing():
            if text is None:
                row = self._file.execute(
                    "SELECT found FROM faces WHERE detector = ? AND picture = ?", (key, picture)
                ).fetchone()
                text = None if row is None else row[0]
            return None if text is None else read(json.loads(text))

    def _write(self, key: str, picture: str, content: Sequence[object]) -> None:
        with self._failing():
            text = json.dumps(content, allow_nan=False, separators=(",", ":"))
            self._waiting[key, picture] = text
        late = time.monotonic() - self._saved > COMMIT_SECONDS
        if late or len(self._waiting) >= COMMIT_EVERY:
            self._save()

    def _or_without(self, work: Callable[[], _T]) -> _T | None:
        """Return the result of `work`; None once the file has failed and is no longer used."""
        if self._lost:
            return None
        try:
            return work()
        except KeptDetectionsError as error:
            if self._notify is None:
                raise
            self._lost, self._waiting = True, {}
            self._notify(f"from now on faces are detected again and not kept: {error}")
            return None

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Convert the errors of a file into a `KeptDetectionsError`."""
        try:
            yield
        except (
            sqlite3.Error,
            OSError,
            ValueError,
            TypeError,
            KeyError,
            RecursionError,
        ) as error:
            raise KeptDetectionsError(
                f"the kept detections in {self.path} can't be used ({error}): remove the file, "
                "or name another file"
            ) from error


def usual_file() -> Path | None:
    """Return the default file: AGEBENCH_DETECTIONS, or one in the cache.

    None if the variable is set but empty: nothing is kept.
    """
    named = os.environ.get(FILE_VARIABLE)
    if named is None:
        return cache_dir() / "detections.sqlite"
    return Path(named) if named else None


@contextmanager
def usually_kept(notify: Callable[[str], None]) -> Iterator[KeptDetections | None]:
    """Open the default file; None if there is none.

    If the cache is not available, or fails later, the run continues without it, and `tell` is
    called with a message.
    """
    file = usual_file()
    kept = None
    try:
        kept = None if file is None else KeptDetections(file, notify)
    except KeptDetectionsError as error:
        notify(f"faces are detected again: {error}")
    if kept is None:
        yield None
    else:
        with kept:
            yield kept


def kept_json(
    kept: KeptDetections | None, detector: FaceDetector, before: tuple[int, int]
) -> dict[str, int] | None:
    """Return for how many pictures faces came from the file, and for how many from the detector.

    Args:
        kept: the file; None for none.
        detector: of the run.
        before: `used` and `added` at the start of the run, since the file may have been used
            before.

    Returns:
        None if this detector's answers are not kept.
    """
    if kept is None or not kept.keeps(detector):
        return None
    return {"used": kept.used - before[0], "found": kept.added - before[1]}


def detector_key(detector: FaceDetector) -> str:
    """Return the hash of everything that determines what a detector finds in a picture."""
    from agebench.vision.opencv import cv2

    described = {
        "spec": plain(detector.spec),
        "class": type(detector).__qualname__,
        "opencv": cv2.__version__,
        "sources": sources_sha256(*DETECTING),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


@lru_cache
def sources_sha256(*places: str) -> str:
    """Return the hash of source files of agebench, given as files or folders below the package."""
    digest = hashlib.sha256()
    for place in places:
        at = resources.files("agebench") / place
        files = [at] if at.is_file() else sorted(at.iterdir(), key=lambda item: item.name)
        for item in files:
            if item.name.endswith(".py"):
                digest.update(item.name.encode() + b"\0" + item.read_bytes())
    return digest.hexdigest()


def _faces(content: list[Any]) -> list[Face]:
    return [_face(item) for item in content]


def _face(content: dict[str, Any]) -> Face:
    left, top, right, bottom = content["box_xyxy"]
    return Face(
        (left, top, right, bottom),
        content["score"],
        tuple((x, y) for x, y in content["landmarks_xy"]),
        content["landmark_scheme"],
    )
