"""Writes frames to a file: with PyAV if it is installed, in formats of browsers, else with OpenCV.

OpenCV's wheels have no encoder for H.264 or VP9; PyAV's (extra `video`) have both.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from agebench.errors import AgebenchError, MissingDependencyError, error_text
from agebench.types import Image
from agebench.vision.opencv import cv2

OPENCV_CODECS: Mapping[str, str] = {
    ".mp4": "mp4v",
    ".m4v": "mp4v",
    ".mov": "mp4v",
    ".mkv": "mp4v",
    ".avi": "MJPG",
}
"""OpenCV's codecs by suffix; all are in its own wheels, and no browser plays any."""

AV_CODECS: Mapping[str, str] = {
    ".mp4": "libx264",
    ".m4v": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx-vp9",
}
"""PyAV's codecs by suffix; browsers play H.264 in .mp4 and VP9 in .webm."""

SUFFIXES = tuple(dict.fromkeys((*OPENCV_CODECS, *AV_CODECS)))

_OPTIONS = {
    "libx264": {"crf": "20", "preset": "veryfast"},
    "libvpx-vp9": {"crf": "32", "b": "0", "deadline": "realtime", "cpu-used": "6"},
}
_EXTRA = "pip install 'agebench[video]'"


class Writer(Protocol):
    """An open video that takes frames of one size."""

    def write(self, image_bgr: Image) -> None:
        """Add a frame: uint8 (height, width, 3)."""
        ...

    def close(self) -> None:
        """Write buffered frames, and the end of the file."""
        ...


def pyav() -> ModuleType | None:
    """Return PyAV; None if it can't be imported."""
    try:
        import av
    except ImportError:
        return None
    module: ModuleType = av
    return module


def plays_in_browsers(path: Path) -> str:
    """Return why browsers can't play a video with this name; "" if they can."""
    suffix = path.suffix.lower()
    if pyav() is not None and suffix in (".mp4", ".m4v", ".webm"):
        return ""
    if suffix in (".mp4", ".m4v"):
        return f"browsers do not play {path.name} as OpenCV writes it (MPEG-4 part 2): {_EXTRA}"
    return f"browsers do not play {suffix}: name a file that ends in .mp4 or .webm"


def require_writer(suffix: str) -> None:
    """Check that a kind of video can be written before anything long begins.

    Raises:
        MissingDependencyError: it needs PyAV, which is not installed.
    """
    if suffix not in OPENCV_CODECS and pyav() is None:
        raise MissingDependencyError(f"a video that ends in {suffix} needs PyAV: {_EXTRA}")


def open_writer(path: Path, rate_hz: float, size_wh: tuple[int, int]) -> Writer:
    """Open a video for writing.

    Args:
        path: its suffix determines the codec.
        rate_hz: frames per second.
        size_wh: width and height of all frames, even numbers.

    Raises:
        MissingDependencyError: it needs PyAV, which is not installed.
        AgebenchError: there is no encoder for it.
    """
    suffix = path.suffix.lower()
    av = pyav()
    if suffix in AV_CODECS and av is not None:
        return _AvWriter(av, path, AV_CODECS[suffix], rate_hz, size_wh)
    require_writer(suffix)
    return _OpenCvWriter(path, OPENCV_CODECS[suffix], rate_hz, size_wh)


class _OpenCvWriter:
    def __init__(self, path: Path, codec: str, rate_hz: float, size_wh: tuple[int, int]) -> None:
        fourcc = cv2.VideoWriter.fourcc(*codec)
        self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, rate_hz, size_wh)
        if not self._writer.isOpened():
            raise AgebenchError(
                f"OpenCV has no encoder for {codec} at {size_wh[0]}x{size_wh[1]}; try .avi"
            )

    def write(self, image_bgr: Image) -> None:
        self._writer.write(image_bgr)

    def close(self) -> None:
        self._writer.release()


class _AvWriter:
    def __init__(
        self, av: ModuleType, path: Path, codec: str, rate_hz: float, size_wh: tuple[int, int]
    ) -> None:
        self._av = av
        # The index is at the start, so that a browser can play while it loads.
        options = {} if codec != "libx264" else {"movflags": "faststart"}
        try:
            self._file: Any = av.open(str(path), "w", options=options)
            try:
                rate = Fraction(rate_hz).limit_denominator(1001)
                self._stream: Any = self._file.add_stream(codec, rate=rate, options=_OPTIONS[codec])
            except BaseException:
                self._file.close()
                raise
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise AgebenchError(
                f"PyAV can't write {codec} ({error_text(error)}); try .avi"
            ) from error
        self._stream.width, self._stream.height = size_wh
        self._stream.pix_fmt = "yuv420p"  # supported by every browser

    def write(self, image_bgr: Image) -> None:
        self._mux(self._av.VideoFrame.from_ndarray(image_bgr, format="bgr24"))

    def close(self) -> None:
        try:
            self._mux(None)
        finally:
            self._file.close()

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._file.mux(packet)
        except (self._av.error.FFmpegError, OSError) as error:
            raise AgebenchError(f"PyAV can't write the video: {error_text(error)}") from error
