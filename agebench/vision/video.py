"""Reads videos and cameras frame by frame, and writes annotated videos, with OpenCV."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agebench.errors import AgebenchError, ImageError, MissingDependencyError, UsageError
from agebench.types import Image
from agebench.util.files import new_beside
from agebench.util.regular_files import open_regular
from agebench.vision.images import check_regular
from agebench.vision.opencv import cv2
from agebench.vision.video_writers import SUFFIXES, Writer, open_writer, require_writer

# FFmpeg would print dozens of messages about a damaged frame.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

CONTAINERS = (
    "avi,mov,matroska,mpeg,mpegts,mpegvideo,m4v,h264,hevc,mjpeg,flv,asf,ogg,ivf,dv,mxf,wtv,gif"
)
"""FFmpeg's demuxers of files that contain the frames themselves.

Playlists that name other files or addresses (HLS, DASH, concat, SDP) are excluded.
"""

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"

MOST_BROKEN = 100
"""After this many consecutive frames that can't be decoded, the rest of a file is skipped."""

ROOM_BYTES = 1 << 16
"""More than FFmpeg buffers: if this much space is free at the end, the video was written too."""

MOST_REPEATS = 1000
"""Of one frame, for a gap in a video; a file may state any times."""

DEFAULT_RATE_HZ = 25.0
"""Assumed if a file or camera does not report its frame rate."""


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """One frame.

    Attributes:
        index: from 0; broken frames are counted.
        time_s: seconds from the start, as the file states them; by the frame rate for cameras,
            broken frames and files without times.
        image_bgr: uint8 (height, width, 3); None if it can't be decoded.
    """

    index: int
    time_s: float
    image_bgr: Image | None


class VideoSource:
    """An open video file or camera.

    Args:
        source: a path, or a camera's number.

    Raises:
        ImageError: it can't be opened.
    """

    def __init__(self, source: Path | int) -> None:
        self._source = source
        if isinstance(source, Path):
            check_regular(source, "a video")
        try:
            self._capture: Any = (
                cv2.VideoCapture(source) if isinstance(source, int) else open_video(source)
            )
        except cv2.error as error:
            raise ImageError(f"{self.name}: can't be opened: {error.err}") from error
        except (OSError, ValueError) as error:
            raise ImageError(f"{self.name}: can't be opened: {error}") from error
        if not self._capture.isOpened():
            self._capture.release()
            raise ImageError(f"{self.name}: {_why_not_opened(source)}")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.rate_hz = rate if 0.1 < rate < 1000 else DEFAULT_RATE_HZ
        self._stated_hz = rate if 0.1 < rate < 1e6 else DEFAULT_RATE_HZ

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    @property
    def may_vary(self) -> bool:
        """Whether its rate need not be the mean of its frames', as in Matroska and WebM."""
        return isinstance(self._source, Path) and self._source.suffix.lower() in (".mkv", ".webm")

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"camera {self._source}" if isinstance(self._source, int) else str(self._source)

    def frames(self) -> Iterator[VideoFrame]:
        """Yield all frames; those that can't be decoded have no picture.

        Raises:
            ImageError: not a single one can be decoded.
        """
        declared = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        index, broken, last, whole = 0, 0, 0, False
        time_s = shown_s = 0.0
        held: list[VideoFrame] = []
        while broken < MOST_BROKEN:
            image = self._read()
            if image is None:
                # At the end of a file, or when a camera stops, this is not a broken frame.
                if isinstance(self._source, int) or index >= declared:
                    break
                broken += 1
                time_s += 1 / self.rate_hz if index else 0.0
                held.append(VideoFrame(index, time_s, None))
            else:
                yield from held
                held.clear()
                broken, last, whole = 0, index, True
                time_s = shown_s = self._time_of(index, shown_s, time_s)
                yield VideoFrame(index, time_s, image)
            index += 1
        if not whole:
            raise ImageError(f"{self.name}: has no frame that can be decoded")
        # Matroska and WebM only declare a duration, which has fewer frames at a variable rate.
        each_s = shown_s / last if last and shown_s else 1 / self.rate_hz
        missing = round((declared / self._stated_hz - shown_s) / each_s) - 1
        yield from held[: max(0, missing)]

    def _time_of(self, index: int, shown_s: float, before_s: float) -> float:
        """Return the time of the frame just read; `shown_s` is that of the last whole one."""
        if isinstance(self._source, int):
            return index / self.rate_hz
        stated = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
        if stated > shown_s or not index:
            return max(0.0, stated)
        return before_s + 1 / self.rate_hz

    def _read(self) -> Image | None:
        try:
            got, image = self._capture.read()
        except cv2.error:
            return None
        if not got or image is None or image.size == 0:
            return None
        pixels = np.asarray(image, np.uint8)
        return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def open_video(path: Path) -> Any:
    """Return a `cv2.VideoCapture` for a local file only.

    FFmpeg interprets a relative name such as ``http:host:80?cam.mp4`` as an address, and some files
    as playlists; other readers of OpenCV interpret names as patterns (``%d``).
    """
    with _files_only(), open_regular(path) as file:
        # If possible, the open file that was checked: its name may now belong to another.
        opened = f"/proc/self/fd/{file.fileno()}"
        place = opened if os.path.exists(opened) else os.path.abspath(path)  # noqa: PTH100, PTH110 - FFmpeg follows links itself
        return cv2.VideoCapture(place, cv2.CAP_FFMPEG)


@contextmanager
def _files_only() -> Iterator[None]:
    """Restrict OpenCV's FFmpeg to containers, in addition to the user's own options."""
    before = os.environ.get(_OPTIONS)
    ours = f"protocol_whitelist;file|format_whitelist;{CONTAINERS}"
    os.environ[_OPTIONS] = f"{before}|{ours}" if before else ours
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_OPTIONS, None)
        else:
            os.environ[_OPTIONS] = before


def _why_not_opened(source: Path | int) -> str:
    """Return the likely reason, which OpenCV does not report."""
    if isinstance(source, int):
        return "expected a camera with this number, found none that can be opened"
    if not source.stat().st_size:
        return "expected a video, but the file is empty"
    return (
        "expected a video, but it can't be opened: it has no frames, is truncated (for example "
        "still being written), or its format is unknown"
    )


class VideoSink:
    """Writes frames to a video, which gets its name when it is complete.

    Args:
        path: its suffix determines the codec (see `agebench.vision.video_writers`).
        rate_hz: frames per second.

    Raises:
        UsageError: another suffix.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        check_video_name(path)
        self._path = path
        self._rate_hz = rate_hz
        self._writer: Writer | None = None
        self._temporary: Path | None = None
        self._size_wh = (0, 0)
        self._count = 0
        self._start_s = 0.0
        self._last: Image | None = None

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._temporary is None:
            return
        try:
            if self._writer is not None:
                self._writer.close()
            if kind is None:
                self._require_whole(self._temporary)
                self._temporary.replace(self._path)
        except OSError as reason:
            raise AgebenchError(f"{self._path} can't be written: {reason.strerror}") from reason
        finally:
            self._temporary.unlink(missing_ok=True)

    def write(self, image_bgr: Image, time_s: float | None = None) -> None:
        """Add a frame; all get the size of the first.

        Args:
            image_bgr: the frame.
            time_s: when it is to be shown; the frame before it is repeated until then.

        Raises:
            AgebenchError: the file can't be written.
        """
        if self._writer is None:
            self._writer = self._open(image_bgr)
            self._start_s = time_s or 0.0
        if self._last is not None and time_s is not None:
            missing = round((time_s - self._start_s) * self._rate_hz) - self._count
            for _ in range(min(missing, MOST_REPEATS)):
                self._writer.write(self._last)
                self._count += 1
        height, width = image_bgr.shape[:2]
        if (width, height) != self._size_wh:
            image_bgr = np.asarray(cv2.resize(image_bgr, self._size_wh), np.uint8)
        self._writer.write(image_bgr)
        self._count += 1
        self._last = image_bgr

    def _require_whole(self, video: Path) -> None:
        """Check what OpenCV does not report: whether the disk took every frame and the end.

        Raises:
            OSError: the disk is full, so that something may be missing.
            AgebenchError: frames are missing.
        """
        with tempfile.TemporaryFile(dir=video.parent) as room:
            room.write(bytes(ROOM_BYTES))
        capture = open_video(video)
        capture.set(cv2.CAP_PROP_FORMAT, -1)  # packets: counted without being decoded
        count = 0
        while capture.grab():
            count += 1
        capture.release()
        if count != self._count:
            raise AgebenchError(
                f"{self._path} can't be written: only {count} of {self._count} frames were "
                "written: is the disk full?"
            )

    def _open(self, image_bgr: Image) -> Writer:
        # Codecs store colour for pairs of pixels: an odd row or column is dropped.
        self._size_wh = (max(2, image_bgr.shape[1] // 2 * 2), max(2, image_bgr.shape[0] // 2 * 2))
        suffix = self._path.suffix.lower()
        try:
            handle, self._temporary = new_beside(self._path, suffix)
            os.close(handle)
        except OSError as error:
            raise AgebenchError(f"{self._path} can't be written: {error.strerror}") from error
        whole_path = Path(os.path.abspath(self._temporary))  # noqa: PTH100 - no link is to be followed
        try:
            return open_writer(whole_path, self._rate_hz, self._size_wh)
        except MissingDependencyError:
            raise
        except AgebenchError as error:
            raise AgebenchError(f"{self._path} can't be written: {error}") from error


def check_video_name(path: Path) -> None:
    """Check that a video with this name can be written.

    Raises:
        UsageError: its suffix is unknown.
        MissingDependencyError: its suffix needs PyAV, which is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"--draw {path}: expected a video's name, one of {', '.join(SUFFIXES)}")
    require_writer(suffix)
