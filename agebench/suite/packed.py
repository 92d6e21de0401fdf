"""Compact encoding of many ages: whole hundredths of a year, deflated, as base64."""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np
import numpy.typing as npt

from agebench.types import MAX_AGE_YEARS, Floats

STEP_YEARS = 0.01
"""Resolution of stored ages, which changes the mean of many errors by far less."""

NO_FACE, FAILED = -1, -2
"""Codes for no age, if the detector found no face, and for any other failure."""

MAX_PICTURES = 10_000_000


def pack_numbers(numbers: npt.ArrayLike) -> str:
    """Return whole numbers from -32,768 to 32,767 as text.

    Raises:
        ValueError: one is not.

    >>> unpack_numbers(pack_numbers([3000, -1]), 2).tolist()
    [3000, -1]
    """
    values = np.asarray(numbers, np.int64)
    narrow = values.astype("<i2")
    if (narrow != values).any():
        raise ValueError("expected whole numbers of 16 bits")
    # Low and high bytes separately, as the high ones hardly differ and compress well.
    parts = narrow.view(np.uint8).reshape(-1, 2).T.tobytes()
    return base64.b64encode(zlib.compress(parts, 9)).decode("ascii")


def unpack_numbers(text: str, count: int) -> npt.NDArray[np.int64]:
    """Return the numbers encoded by `pack_numbers`.

    Args:
        text: the encoded numbers.
        count: expected number of numbers.

    Raises:
        ValueError: it has a different number of them, or is malformed.
    """
    if not 0 <= count <= MAX_PICTURES:
        raise ValueError(f"expected at most {MAX_PICTURES:,} numbers, got {count}")
    try:
        reader = zlib.decompressobj()
        # A few submitted bytes could expand to all memory of the machine, so the size is limited.
        data = reader.decompress(base64.b64decode(text, validate=True), 2 * count + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ValueError(f"packed numbers can't be read: {error}") from error
    if len(data) != 2 * count:
        raise ValueError(f"expected {count} packed numbers, got {len(data) / 2:g} or more")
    pairs = np.frombuffer(data, np.uint8).reshape(2, count).T
    return np.ascontiguousarray(pairs).view("<i2").ravel().astype(np.int64)


def unpack_years(text: str, count: int) -> Floats:
    """Return ages as float64 (count,), NaN if there is none.

    Raises:
        ValueError: as `unpack_numbers`, or an age is out of range.
    """
    return as_years(unpack_numbers(text, count))


def as_years(numbers: npt.NDArray[np.int64]) -> Floats:
    """Return unpacked ages in years, NaN for `NO_FACE` and `FAILED`.

    Raises:
        ValueError: one is out of range.
    """
    if len(numbers) and not (
        numbers.min() >= FAILED and numbers.max() * STEP_YEARS <= MAX_AGE_YEARS
    ):
        raise ValueError(f"expected ages from 0 to {MAX_AGE_YEARS:g} years")
    # Divided, so that 3,010 hundredths are exactly 30.1.
    return np.where(numbers < 0, np.nan, numbers / round(1 / STEP_YEARS))
