"""Converts any picture to an upright uint8 B, G, R array, or refuses it.

Rules: EXIF rotation is applied; 16 bits become 8; transparent parts become white; CMYK is converted
by Pillow; the first frame of an animation or a multi-page file is used.  AVIF, JPEG 2000 and, with
an extra, HEIC are decoded by Pillow.  Ordinary pictures are decoded by OpenCV, as in the published
pipelines; the others by Pillow.
"""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError, features

from agebench.errors import ImageError, UsageError
from agebench.types import Image
from agebench.util.regular_files import is_regular, read_regular
from agebench.vision.jpeg import MOST_SCANS, Scans, ending_with_its_data, several_scans
from agebench.vision.opencv import cv2

MAX_PIXELS = 100_000_000
"""Largest picture that is decoded by default: 100 megapixels, 300 MB of pixels."""

MAX_FILE_BYTES = 512 * 1024 * 1024

_LFS_PREFIX = b"version https://git-lfs"
# Multi-picture files (MPO) are JPEG files; Pillow stops at a name that it has not registered.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_JPEG2000 = (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_AVIF = frozenset({b"avif", b"avis"})
_HEIF = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_PHOTOMETRIC = 262  # TIFF's tag
_PLAIN_MODES = ("RGB", "L", "1", "YCbCr")
_JPEGS = ("JPEG", "MPO")  # files of several pictures start with an ordinary one


def check_regular(path: Path, expected: str) -> int:
    """Check that it is a regular file (a FIFO could block the run); return its size in bytes.

    Raises:
        ImageError: missing, or not a regular file; `expected` says what it should be.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(f"{path}: can't be read: {reason}") from error
    if not is_regular(status):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a special file"
        raise ImageError(f"{path}: expected {expected}, got {kind}")
    return status.st_size


def read_file(path: Path) -> bytes:
    """Read a picture's bytes from a regular file (a FIFO could block the run).

    Raises:
        ImageError: missing, not a regular file, empty, too large or unreadable.
    """
    size_bytes = check_regular(path, "a picture")
    if size_bytes > MAX_FILE_BYTES:
        raise ImageError(f"{path}: {size_bytes:,} bytes, more than the limit of {MAX_FILE_BYTES:,}")
    try:
        data = read_regular(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(f"{path}: can't be read: {reason}") from error
    _require_content(data, str(path))
    return data


def _require_content(data: bytes, name: str) -> None:
    if not data:
        raise ImageError(f"{name}: the file is empty")


def _further_kind(data: bytes) -> str:
    """Return "AVIF", "HEIF" or "JPEG2000" by the first bytes, "" for everything else."""
    if data.startswith(_JPEG2000):
        return "JPEG2000"
    if data[4:8] != b"ftyp":
        return ""
    brands = {data[start : start + 4] for start in (8, *range(16, 64, 4))}
    if brands & _AVIF:
        return "AVIF"
    return "HEIF" if brands & _HEIF else ""


def _require_reader(kind: str, name: str) -> None:
    """Register the Pillow plugin for a `_further_kind`.

    Raises:
        ImageError: it is not installed; the message says what to install.
    """
    if kind == "HEIF":
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise ImageError(
                f"{name}: a HEIC picture, which needs an extra: pip install 'agebench[heif]'"
            ) from error
        register_heif_opener()
    PillowImage.init()
    if kind not in PillowImage.OPEN or (kind == "AVIF" and not features.check("avif")):
        raise ImageError(
            f"{name}: an {kind} picture, which Pillow {PIL.__version__} can't read: "
            "pip install 'pillow>=11.3'"
        )


def _what_it_is(data: bytes) -> str:
    """Return what a file without a picture contains, judging by its first bytes."""
    head = data[:512].lstrip().lower()
    if data.startswith(_LFS_PREFIX):
        return "a Git LFS pointer: fetch the real files with 'git lfs pull'"
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    return "a file of unknown format"


def _open_header(data: bytes, name: str, max_pixels: int) -> PillowImage.Image:
    """Read only the header, so that pixels are not decoded before the size is checked."""
    kind = _further_kind(data)
    if kind:
        _require_reader(kind, name)
    try:
        header = PillowImage.open(io.BytesIO(data), formats=(kind,) if kind else _FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: expected a picture, got {_what_it_is(data)}") from error
    except PillowImage.DecompressionBombError as error:
        # Pillow has its own limit, and ours may be higher.
        limit = min(max_pixels, 2 * (PillowImage.MAX_IMAGE_PIXELS or max_pixels))
        raise ImageError(
            f"{name}: the header declares more than the limit of {limit:,} pixels; "
            "shrink the picture first"
        ) from error
    except Exception as error:  # Pillow's parsers raise many kinds on a damaged header
        raise ImageError(f"{name}: damaged picture header ({error})") from error
    width, height = header.size
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} pixels, more than the limit of {max_pixels:,}; "
            "shrink the picture first"
        )
    return header


def from_pillow(picture: PillowImage.Image, name: str) -> Image:
    """Return a Pillow image as an upright uint8 array of shape (height, width, 3), B, G, R.

    Transparent parts become white; 16-bit gray is scaled to 8 bits.

    Raises:
        ImageError: it can't be decoded, or the range of its pixels is unknown.
    """
    try:
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        # Pillow reads 16-bit gray PNG files as mode "I" too, and PGM files always.
        read_as_i = upright.mode == "I" and picture.format in ("PNG", "PPM")
        wide = upright.mode.startswith("I;16") or read_as_i
        if upright.has_transparency_data and not wide:
            rgba = upright.convert("RGBA")
            white = PillowImage.new("RGBA", rgba.size, (255, 255, 255, 255))
            upright = PillowImage.alpha_composite(white, rgba)
        known = wide or upright.mode not in {"I", "F"}
        pixels = np.asarray(upright if wide else upright.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise many kinds on damaged data
        raise ImageError(f"{name}: truncated or damaged picture ({error})") from error
    if not known:
        raise ImageError(
            f"{name}: pixels of 32 bits, whose value range is unknown; save the picture with 8 "
            "or 16 bits"
        )
    if wide:
        gray = np.clip(np.rint(pixels.astype(np.float64) / 257.0), 0, 255).astype(np.uint8)
        if getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # white is 0: kept by Pillow
            gray = 255 - gray
        gray[pixels == upright.info.get("transparency", -1)] = 255  # one tone, if any
        return np.repeat(gray[:, :, None], 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, ::-1])


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode a picture's bytes to an upright uint8 array of shape (height, width, 3), B, G, R.

    Args:
        data: the file's content.
        name: of the picture, for errors.
        max_pixels: larger pictures are refused before they are decoded.

    Raises:
        ImageError: empty, not a picture, truncated, damaged or too large.
    """
    _require_content(data, name)
    header = _open_header(data, name, max_pixels)
    scans = several_scans(data) if header.format in _JPEGS else None
    if scans is not None:
        _require_whole(scans, name)
    # OpenCV does not scale PPM files that do not have 8 bits.
    by_pillow = header.format in ("PPM", "AVIF", "HEIF", "JPEG2000")
    whole = ending_with_its_data(data) if header.format in _JPEGS else data
    if header.mode not in _PLAIN_MODES or header.has_transparency_data or by_pillow:
        if whole is not data:
            header = _open_header(whole, name, max_pixels)
        pixels = from_pillow(header, name)
        if scans is not None:
            filled = _open_header(scans.filled, name, max_pixels)
            _require_uncut(pixels, from_pillow(filled, name), name)
        return pixels
    try:
        decoded = _by_opencv(whole)
        if scans is not None:
            _require_uncut(decoded, _by_opencv(scans.filled), name)
    except cv2.error as error:
        raise ImageError(f"{name}: truncated or damaged picture ({error.err})") from error
    if decoded is None:
        if header.format == "GIF":
            return from_pillow(header, name)
        raise ImageError(f"{name}: truncated or damaged {header.format} picture")
    return decoded


def _require_whole(scans: Scans, name: str) -> None:
    if scans.count > MOST_SCANS:
        raise ImageError(f"{name}: a JPEG of {scans.count:,} scans, the limit is {MOST_SCANS}")
    if not scans.complete:
        raise ImageError(f"{name}: truncated or damaged JPEG picture (its last scans are missing)")


def _by_opencv(data: bytes) -> Image | None:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if decoded is None else np.asarray(decoded, np.uint8)


def _require_uncut(decoded: Image | None, filled: Image | None, name: str) -> None:
    """Appending data changes the pixels if the decoder did not have enough."""
    if decoded is None or filled is None or not np.array_equal(decoded, filled):
        raise ImageError(f"{name}: truncated or damaged JPEG picture (a scan is cut off)")


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read a picture file; see `decode_image`.

    Raises:
        ImageError: the file can't be read or is not a complete picture.
    """
    file = Path(path)
    return decode_image(read_file(file), str(file), max_pixels=max_pixels)


def encode_png(image_bgr: Image) -> bytes:
    """Return a picture, uint8 (height, width, 3), as the bytes of a PNG file.

    Raises:
        ImageError: OpenCV can't encode it.
    """
    done, data = cv2.imencode(".png", image_bgr)
    if not done:
        raise ImageError(f"a picture of {image_bgr.shape} can't be written as PNG")
    return bytes(np.asarray(data, np.uint8).tobytes())


Picture: TypeAlias = str | Path | bytes | npt.NDArray[Any] | PillowImage.Image
"""A file, its bytes, an array, or an image of Pillow."""

Channels: TypeAlias = Literal["bgr", "rgb"]
"""Order of the channels of arrays: OpenCV's, or that of most other libraries."""


def require_channels(channels: str) -> None:
    """Refuse an order of channels that arrays don't have.

    Raises:
        UsageError: it is neither "bgr" nor "rgb".
    """
    if channels not in ("bgr", "rgb"):
        raise UsageError(f"channels must be 'bgr' or 'rgb', got {channels!r}")


def to_image(
    picture: Picture, *, channels: Channels = "bgr", max_pixels: int = MAX_PIXELS, name: str = ""
) -> Image:
    """Return a picture as uint8 (height, width, 3), B, G, R.

    Args:
        picture: a path, the bytes of a file, a Pillow image, or a uint8 array of shape (height,
            width, 3) or, gray, (height, width).
        channels: order of the channels in an array; Pillow images and files define theirs.
        max_pixels: larger files are refused.
        name: of bytes, for errors.

    Raises:
        UsageError: an array of another shape or type, or another kind of object.
        ImageError: the file can't be read, or the picture is empty.
    """
    require_channels(channels)
    if isinstance(picture, (str, Path)):
        return read_image(picture, max_pixels=max_pixels)
    if isinstance(picture, bytes):
        return decode_image(picture, name or "the bytes given", max_pixels=max_pixels)
    if isinstance(picture, PillowImage.Image):
        return _from_array(from_pillow(picture, "the Pillow image"), "bgr")
    return _from_array(cast("object", picture), channels)


def _from_array(picture: object, channels: Channels) -> Image:
    if not isinstance(picture, np.ndarray):
        raise UsageError(
            "expected a path, the bytes of a file, a Pillow image or a numpy array, got "
            f"{type(picture).__name__}"
        )
    gray = picture.ndim == 2
    if picture.dtype != np.uint8 or not (gray or (picture.ndim == 3 and picture.shape[2] == 3)):
        raise UsageError(
            "expected a uint8 array of shape (height, width, 3) or (height, width), got "
            f"{picture.dtype} {picture.shape}"
        )
    if picture.size == 0:
        raise ImageError(f"the picture is empty: its shape is {picture.shape}")
    if gray:
        return np.repeat(picture[:, :, None], 3, axis=2)
    return np.ascontiguousarray(picture if channels == "bgr" else picture[:, :, ::-1])
