"""Whether two pictures are copies: a hash to find candidates, pixels to confirm them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agebench.types import Image
from agebench.vision.opencv import cv2

THUMBNAIL_PX = 64
COARSE_PX = 16
DETAIL_PX = 32
FLATTEST = 4.0
"""Standard deviation, in gray levels, below which a picture has too little detail to compare."""

LEAST_OVERLAP = 0.7
"""Fraction of a thumbnail that the other one must cover after alignment."""

DETAIL_SIGMAS_PX = (1.5, 4.0)
"""Gaussian blurs whose difference is compared: coarser than noise and overprints, finer than light
and pose, in which different people may agree."""

WORTH_ALIGNING = 0.7
"""Thumbnails whose detail correlates less before alignment are not copies: misses 1 in 540."""

NEEDS_NO_ALIGNING = 0.97
"""Thumbnails whose windows agree this well without alignment are copies."""

WORTH_ALIGNING_CLOSELY = 0.8
"""Thumbnails of half the size whose detail correlates less after a few steps of alignment are not
aligned further.  Of 549 pairs of UTKFace's chips that are copies none is below 0.9, of pairs that
are not copies but pass the earlier checks 87 % are, and it takes a quarter of the time."""

_FEW_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 8, 1e-3)

WINDOW_PX = 16
"""Side of the square windows in which detail is compared, thumbnail pixels."""

AGREEING_FRACTION = 0.8
"""Fraction of the windows that must agree; overprints may spoil the others."""

FLATTEST_WINDOW = 1.5
"""Standard deviation of the detail, in gray levels, below which a window is ignored."""

FEWEST_WINDOWS = 150
"""With fewer usable windows (of about 2,300) the pictures are not compared."""

_NOISE_VARIANCE = 0.2  # of compression, in the detail: keeps nearly flat windows from agreeing

UNIFORM_LINE = 16
"""Range of gray levels in a row or column of a plain border; compression adds a few."""

Thumbnail: TypeAlias = Image
"""uint8 (64, 64), gray."""

_ALIGN_UNTIL = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)


def hash_version() -> str:
    """Identifies the hash function; hashes of different versions are not comparable."""
    return f"phash64-unframed-mirrored/opencv-{cv2.__version__}"


def without_frame(image_bgr: Image) -> Image:
    """Crop plain rows and columns at the four sides, such as a data set's padding.

    Pictures with the same border would otherwise look similar.  A completely plain picture is
    returned unchanged.
    """
    edges = (image_bgr[:1], image_bgr[-1:], image_bgr[:, :1], image_bgr[:, -1:])
    if not any(_is_plain(edge) for edge in edges):  # most pictures have no frame
        return np.ascontiguousarray(image_bgr)
    gray = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    rows, columns = (
        np.flatnonzero(gray.max(axis=axis).astype(int) - gray.min(axis=axis) > UNIFORM_LINE)
        for axis in (1, 0)
    )
    if not len(rows) or not len(columns):
        return image_bgr
    cut = image_bgr[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.ascontiguousarray(cut)


def _is_plain(line_bgr: Image) -> bool:
    darkest, brightest, _, _ = cv2.minMaxLoc(cv2.cvtColor(line_bgr, cv2.COLOR_BGR2GRAY))
    return brightest - darkest <= UNIFORM_LINE


def picture_hashes(image_bgr: Image) -> tuple[int, int]:
    """Return the 64-bit pHash of a picture, and of its mirror image.

    The signs of its lowest cosine frequencies: copies that were resized, compressed again or
    brightened differ in few bits; rotated copies do not look similar to it.  Source: OpenCV's
    img_hash module, after Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions", 2010.

    Args:
        image_bgr: uint8 (height, width, 3), B, G, R.
    """
    return _hashes(without_frame(image_bgr))


def _hashes(unframed: Image) -> tuple[int, int]:
    turned = cv2.flip(unframed, 1)
    upright, mirrored = (cv2.img_hash.PHash.create().compute(one) for one in (unframed, turned))
    return _as_number(upright), _as_number(mirrored)


def _as_number(digest: object) -> int:
    return int.from_bytes(np.asarray(digest, np.uint8).tobytes(), "big")


def thumbnail(image_bgr: Image) -> Thumbnail:
    """Return a picture as uint8 (64, 64) gray levels, ignoring its aspect ratio."""
    return _small(without_frame(image_bgr))


def hashes_and_thumbnail(image_bgr: Image) -> tuple[tuple[int, int], Thumbnail]:
    """Return what `picture_hashes` and `thumbnail` do, and look for a frame only once."""
    unframed = without_frame(image_bgr)
    return _hashes(unframed), _small(unframed)


def _small(unframed: Image) -> Thumbnail:
    gray = cv2.cvtColor(unframed, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(gray, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def coarse_looks(thumbnails: Image) -> npt.NDArray[np.float32]:
    """Return 16x16 means of thumbnails, each with mean 0 and norm 1; all 0 for a flat one.

    The dot product of two is the correlation of the thumbnails without alignment, independent of
    brightness and contrast.

    Args:
        thumbnails: uint8 (n, 64, 64).

    Returns:
        float32 (n, 16, 16).
    """
    side, square = COARSE_PX, THUMBNAIL_PX // COARSE_PX
    means = thumbnails.reshape(-1, side, square, side, square).mean(axis=(2, 4), dtype=np.float32)
    means -= means.mean(axis=(1, 2), keepdims=True)
    lengths = np.sqrt(np.einsum("ijk,ijk->i", means, means))[:, None, None]
    means[lengths[:, 0, 0] < FLATTEST * side] = 0.0
    return np.asarray(means / np.maximum(lengths, 1e-6), np.float32)


def detail_looks(thumbnails: Image) -> npt.NDArray[np.int8]:
    """Return the detail of thumbnails at half their size, to be correlated quickly.

    Args:
        thumbnails: uint8 (n, 64, 64).

    Returns:
        int8 (n, 32, 32), mean about 0, gray levels times 4 and clipped at 127.
    """
    found = np.zeros((len(thumbnails), DETAIL_PX, DETAIL_PX), np.int8)
    for row, one in zip(found, thumbnails, strict=True):
        small = cv2.resize(
            _detail(one.astype(np.float32)), (DETAIL_PX, DETAIL_PX), interpolation=cv2.INTER_AREA
        )
        row[:] = np.clip(np.rint((small - small.mean()) * 4), -127, 127)
    return found


def detail_correlation(
    first: Thumbnail,
    second: Thumbnail,
    *,
    worth_aligning: float = WORTH_ALIGNING,
    quick: bool = False,
) -> float:
    """Align the second thumbnail to the first, and correlate the detail in windows of both.

    Copies of one photograph that were cropped or rotated slightly differently become aligned; two
    people in the same pose do not.  Alignment: Evangelidis & Psarakis, "Parametric Image Alignment
    Using Enhanced Correlation Coefficient Maximization", 2008, in OpenCV.

    Args:
        first: from `thumbnail`.
        second: of the other picture.
        worth_aligning: pairs whose detail correlates less without alignment are not aligned.
        quick: nor are pairs that reach `NEEDS_NO_ALIGNING` without it, or that stay below
            `WORTH_ALIGNING_CLOSELY` at half the size.

    Returns:
        -1 to 1: the correlation that `AGREEING_FRACTION` of the windows reach; that of the whole if
        they were not aligned; 0 if one of the two is flat or they can't be aligned.
    """
    a, b = first.astype(np.float32), second.astype(np.float32)
    if min(float(a.std()), float(b.std())) < FLATTEST:
        return 0.0
    detail = _detail(a)
    as_they_lie = _correlation(detail, _detail(b))
    if as_they_lie < worth_aligning:
        return as_they_lie
    if quick and as_they_lie >= WORTH_ALIGNING_CLOSELY:
        lying = _windowed(detail, _detail(b), np.ones(b.shape, np.bool_))
        if lying >= NEEDS_NO_ALIGNING:
            return lying
    if quick and (coarsely := _coarsely_aligned(a, b)) < WORTH_ALIGNING_CLOSELY:
        return coarsely
    return _closely_aligned(a, b)


def _closely_aligned(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Align `b` to `a`; return the correlation that `AGREEING_FRACTION` of windows reach, or 0."""
    turn = _alignment(a, b, _ALIGN_UNTIL)
    if turn is None:
        return 0.0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # No window may extend outside of the copy.
    covered = cv2.warpAffine(np.ones_like(b), turn, a.shape, flags=flags) > 0.99
    inner = cv2.erode(
        covered.astype(np.uint8),
        np.ones((WINDOW_PX, WINDOW_PX), np.uint8),
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    if covered.mean() < LEAST_OVERLAP:
        return 0.0
    return _windowed(_detail(a), _detail(_turned_back(b, turn)), inner > 0)


def _alignment(
    a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], until: tuple[int, int, float]
) -> npt.NDArray[np.float32] | None:
    """Return the transform of `b` to `a`, (2, 3); None if there is none."""
    everywhere, start = np.ones(b.shape, np.uint8), np.eye(2, 3, dtype=np.float32)
    try:
        _, turn = cv2.findTransformECC(a, b, start, cv2.MOTION_AFFINE, until, everywhere, 3)
    except cv2.error:
        return None
    return np.asarray(turn, np.float32)


def _turned_back(
    b: npt.NDArray[np.float32], turn: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(b, turn, b.shape, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def _coarsely_aligned(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Align at half the size in few steps; return the correlation of the detail."""
    half = (DETAIL_PX, DETAIL_PX)
    small, other = (
        np.asarray(
            cv2.resize(cv2.GaussianBlur(one, (0, 0), 1.0), half, interpolation=cv2.INTER_AREA),
            np.float32,
        )
        for one in (a, b)
    )
    turn = _alignment(small, other, _FEW_STEPS)
    if turn is None:
        return 0.0
    inner = np.s_[2:-2, 2:-2]
    details = (_detail(one, scale=0.5)[inner] for one in (small, _turned_back(other, turn)))
    return _correlation(*details)


def _windowed(
    x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], where: npt.NDArray[np.bool_]
) -> float:
    """Correlate every window separately; return the value that `AGREEING_FRACTION` of them reach.

    A mask or border that all pictures of a set have in common affects only a few windows, while it
    would dominate a correlation of the whole.
    """
    mean_x, mean_y = _window_means(x), _window_means(y)
    variance_x = np.maximum(_window_means(x * x) - mean_x**2, 0)
    variance_y = np.maximum(_window_means(y * y) - mean_y**2, 0)
    product = _window_means(x * y) - mean_x * mean_y
    agreement = product / (np.sqrt(variance_x * variance_y) + _NOISE_VARIANCE)
    half = WINDOW_PX // 2
    whole = np.zeros_like(where)
    whole[half:-half, half:-half] = where[half:-half, half:-half]
    shown = whole & (np.maximum(variance_x, variance_y) > FLATTEST_WINDOW**2)
    if np.count_nonzero(shown) < FEWEST_WINDOWS:
        return 0.0
    return float(np.quantile(agreement[shown], 1 - AGREEING_FRACTION))


def _window_means(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.boxFilter(values, -1, (WINDOW_PX, WINDOW_PX)), np.float32)


def _correlation(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> float:
    spread = float(x.std()) * float(y.std())
    if spread < 1e-3:
        return 0.0
    return float(((x - x.mean()) * (y - y.mean())).mean()) / spread


def _detail(image: npt.NDArray[np.float32], scale: float = 1.0) -> npt.NDArray[np.float32]:
    fine, coarse = (cv2.GaussianBlur(image, (0, 0), sigma * scale) for sigma in DETAIL_SIGMAS_PX)
    return np.asarray(fine - coarse, np.float32)
