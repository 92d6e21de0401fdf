"""Whether two pictures are copies of one: a hash to find candidates, pixels to confirm them."""

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
"""Standard deviation, in gray levels, below which a picture shows too little to be compared."""

LEAST_OVERLAP = 0.7
"""Fraction of a thumbnail that must be covered by the other one after they were aligned."""

DETAIL_SIGMAS_PX = (1.5, 4.0)
"""Gaussian blurs whose difference is compared: coarser than noise and print over the picture,
finer than light and pose, in which different people may well agree."""

WORTH_ALIGNING = 0.7
"""Thumbnails whose detail correlates less as they lie are not copies: one copy in 540 is missed."""

NEEDS_NO_ALIGNING = 0.97
"""Thumbnails whose windows agree so well as they lie are copies, and aligning them is left out."""

WORTH_ALIGNING_CLOSELY = 0.8
"""Thumbnails of half the size whose detail correlates less after a few steps of alignment are not
aligned any further.  Of 549 pairs of UTKFace's chips that are copies none comes below 0.9, of those
that are not but pass all before 87 % do, and it takes a quarter of the time."""

_FEW_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 8, 1e-3)

WINDOW_PX = 16
"""Side of the square windows in which detail is compared, thumbnail pixels."""

AGREEING_SHARE = 0.8
"""Fraction of the windows that must agree; print over a picture may spoil the others."""

FLATTEST_WINDOW = 1.5
"""Standard deviation of the detail, in gray levels, below which a window shows nothing."""

FEWEST_WINDOWS = 150
"""With fewer windows (of about 2,300) that show anything, too little is compared."""

_NOISE_VARIANCE = 0.2  # of compression, in the detail: keeps almost plain windows from agreeing

UNIFORM_LINE = 16
"""Gray levels that a row or column of a plain frame may span; compression adds a few."""

Thumbnail: TypeAlias = Image
"""uint8 (64, 64), gray."""

_ALIGN_UNTIL = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)


def hash_version() -> str:
    """Name what decides a picture's hash; hashes of different versions are not comparable."""
    return f"phash64-unframed-mirrored/opencv-{cv2.__version__}"


def without_frame(image_bgr: Image) -> Image:
    """Cut off plain rows and columns at the four sides, as a set's padding leaves them.

    Pictures with one frame in common would otherwise look alike.  A picture that is plain as a
    whole is returned as it is.
    """
    gray = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    rows, columns = (
        np.flatnonzero(gray.max(axis=axis).astype(int) - gray.min(axis=axis) > UNIFORM_LINE)
        for axis in (1, 0)
    )
    if not len(rows) or not len(columns):
        return image_bgr
    cut = image_bgr[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.ascontiguousarray(cut)


def picture_hashes(image_bgr: Image) -> tuple[int, int]:
    """Return the 64-bit pHash of a picture as it is, and of it in a mirror.

    The signs of its lowest cosine frequencies: copies that were resized, compressed again or
    brightened differ in few bits; copies turned by more do not look alike to it.  Source: OpenCV's
    img_hash module, after Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions", 2010.

    Args:
        image_bgr: uint8 (height, width, 3), B, G, R.
    """
    unframed = without_frame(image_bgr)
    turned = np.ascontiguousarray(unframed[:, ::-1])
    upright, mirrored = (cv2.img_hash.PHash.create().compute(one) for one in (unframed, turned))
    return _as_number(upright), _as_number(mirrored)


def _as_number(digest: object) -> int:
    return int.from_bytes(np.asarray(digest, np.uint8).tobytes(), "big")


def thumbnail(image_bgr: Image) -> Thumbnail:
    """Return a picture as uint8 (64, 64) gray levels; its proportions are not kept."""
    gray = cv2.cvtColor(without_frame(image_bgr), cv2.COLOR_BGR2GRAY)
    small = cv2.resize(gray, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def coarse_looks(thumbnails: Image) -> npt.NDArray[np.float32]:
    """Return 16x16 means of thumbnails, each of mean 0 and length 1; all 0 for a flat one.

    The sum of the products of two is the correlation of the thumbnails as they lie: brightness and
    contrast do not count.

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
        int8 (n, 32, 32), mean about 0, gray levels times 4 and cut at 127.
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

    Copies of one photograph that were cut or turned slightly differently come to lie on one
    another; two people in one pose do not.  Alignment: Evangelidis & Psarakis, "Parametric Image
    Alignment Using Enhanced Correlation Coefficient Maximization", 2008, as OpenCV has it.

    Args:
        first: as `thumbnail` gives it.
        second: the same of the other picture.
        worth_aligning: those whose detail correlates less as they lie are not aligned.
        quick: those that reach `NEEDS_NO_ALIGNING` as they lie are not aligned either, nor those
            that stay below `WORTH_ALIGNING_CLOSELY` at half the size.

    Returns:
        -1 to 1: what `AGREEING_SHARE` of the windows reach; what the whole has in common where
        they were not aligned; 0 where one of the two is flat or they can't be aligned.
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
    """Align `b` to `a`; return what `AGREEING_SHARE` of their windows reach then, 0 where none."""
    turn = _alignment(a, b, _ALIGN_UNTIL)
    if turn is None:
        return 0.0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # No window may reach outside of the copy.
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
    """Return what lays `b` on `a`, (2, 3); None where no alignment was found."""
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
    """Align at half the size in few steps; return how the detail correlates then."""
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
    """Correlate in every window on its own; return what `AGREEING_SHARE` of them reach.

    A mask or frame that all pictures of a set have in common decides a few windows only, where
    it would decide a correlation of the whole.
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
    return float(np.quantile(agreement[shown], 1 - AGREEING_SHARE))


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
