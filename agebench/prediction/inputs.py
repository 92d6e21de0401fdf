"""From what a caller has (a path, an array, a Pillow image, bytes) to a picture in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from agebench.errors import ImageError, UsageError
from agebench.types import Image
from agebench.vision.images import MAX_PIXELS, decode_image, from_pillow, read_image

Picture: TypeAlias = str | Path | bytes | npt.NDArray[Any] | PillowImage.Image
"""A file, its bytes, an array, or an image of Pillow."""

Channels: TypeAlias = Literal["bgr", "rgb"]
"""Order of the channels of arrays: OpenCV's, or that of nearly everybody else."""


def to_image(
    picture: Picture, *, channels: Channels = "bgr", max_pixels: int = MAX_PIXELS
) -> Image:
    """Return a picture as uint8 (height, width, 3), B, G, R.

    Args:
        picture: a path, the bytes of a file, a Pillow image, or a uint8 array of shape (height,
            width, 3) or, gray, (height, width).
        channels: order of the channels in an array; Pillow's images and files know theirs.
        max_pixels: larger files are refused.

    Raises:
        UsageError: an array of another shape or type, or none of the above.
        ImageError: the file can't be read, or the picture is empty.
    """
    if channels not in ("bgr", "rgb"):
        raise UsageError(f"channels must be 'bgr' or 'rgb', got {channels!r}")
    if isinstance(picture, (str, Path)):
        return read_image(picture, max_pixels=max_pixels)
    if isinstance(picture, bytes):
        return decode_image(picture, "the bytes given", max_pixels=max_pixels)
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
