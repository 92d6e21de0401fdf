"""The meaning of file suffixes: a picture, a video, or an unsupported kind of picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

_PICTURES = (
    "bmp gif jfif jpe jpeg jpg mpo pgm png ppm tif tiff webp avif heic heif hif j2k jp2 jpf jpx"
)
PICTURE_SUFFIXES = frozenset(f".{ending}" for ending in _PICTURES.split())
"""Suffixes, in lower case, of files that are regarded as pictures.

HEIC needs an extra, AVIF needs Pillow 11.3 or later: without them each such picture is counted as
unreadable, with advice on what to install (`agebench.vision.images`).
"""

_VIDEOS = "3g2 3gp asf avi divx f4v flv m2ts m4v mkv mov mp4 mpeg mpg mts ogv ts vob webm wmv"
VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _VIDEOS.split())
"""Suffixes, in lower case, of files that are regarded as videos."""

_RAW = "3fr arw cr2 cr3 dng erf kdc mef mrw nef nrw orf pef raf raw rw2 sr2 srw x3f"
_OTHERS = "dcm dds exr hdr ico jxl jxr pcx psd svg tga wdp xcf"

UNREAD: Mapping[str, str] = {
    **{f".{ending}": "a camera's raw file" for ending in _RAW.split()},
    **{f".{ending}": "a kind of picture that is not read" for ending in _OTHERS.split()},
}
"""Suffixes of unsupported pictures, and their descriptions."""


def suffix_of(file_name: str) -> str:
    """Return a name's suffix in lower case, "" without one.

    >>> suffix_of("a.b.JPG"), suffix_of(".jpg")
    ('.jpg', '')
    """
    return PurePosixPath(file_name).suffix.lower()


def is_picture(file_name: str) -> bool:
    """Return whether the suffix, in any case, is that of a picture.

    >>> is_picture("001A02.JPG"), is_picture("001a02.pts")
    (True, False)
    """
    return suffix_of(file_name) in PICTURE_SUFFIXES


def is_video(file_name: str) -> bool:
    """Return whether the suffix, in any case, is that of a video.

    >>> is_video("a.MP4"), is_video("a.jpg")
    (True, False)
    """
    return suffix_of(file_name) in VIDEO_SUFFIXES


def why_passed_over(file_name: str) -> str:
    """Return why a picture or video is not used; "" for other files.

    >>> why_passed_over("IMG_1.CR2"), why_passed_over("notes.txt")
    ("a camera's raw file: save it as JPEG or PNG", '')
    """
    suffix = suffix_of(file_name)
    if suffix in UNREAD:
        return f"{UNREAD[suffix]}: save it as JPEG or PNG"
    if suffix in VIDEO_SUFFIXES:
        return "a video: not used here, 'agebench predict' reads it"
    if suffix in PICTURE_SUFFIXES:
        return f"a picture, but those of this set are not named {suffix}"
    return ""
