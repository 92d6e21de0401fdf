"""Landmark files: the ``.pts`` format that comes with FG-NET."""

from __future__ import annotations

import math
from pathlib import Path

from agebench.errors import DatasetError
from agebench.types import FGNET_68_POINTS, LANDMARK_COUNTS, Point
from agebench.util.regular_files import open_regular

# A file with 68 points has about 1.5 kB; a much larger one is something else.
_LARGEST_BYTES = 1_000_000


def read_pts(path: Path, count: int = LANDMARK_COUNTS[FGNET_68_POINTS]) -> tuple[Point, ...]:
    r"""Read a ``.pts`` file: ``version: 1``, ``n_points: 68``, and x y per line within braces.

    Args:
        path: the file.
        count: required number of points.

    Returns:
        `count` points (x, y) in pixels of the stored picture, unchanged; they may be outside of the
        picture.

    Raises:
        DatasetError: no such file, or not in this format, or another number of points.
    """
    lines = [line.strip() for line in _text(path).splitlines()]
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line]
    texts = [line for _, line in numbered]
    if texts.count("{") != 1 or texts.count("}") != 1 or texts[-1] != "}":
        raise _malformed(path, "the points between one line '{' and a last line '}'")
    start = texts.index("{")
    stated = _stated_count(path, texts[:start])
    points = tuple(_point(path, *entry) for entry in numbered[start + 1 : -1])
    if not stated == len(points) == count:
        raise _malformed(path, f"{count} points, got {len(points)} where it states {stated}")
    return points


def _malformed(path: Path, expected: str) -> DatasetError:
    return DatasetError(f"landmark file {str(path)!r} is malformed: expected {expected}")


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            raise DatasetError(f"no landmark file at {str(path)!r}: expected a .pts file")
        with open_regular(path) as stream:
            data = stream.read(_LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise DatasetError(f"landmark file {str(path)!r} can't be read: {error}") from error
    if len(data) > _LARGEST_BYTES:
        raise _malformed(path, f"at most {_LARGEST_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _malformed(path, "plain text") from error


def _stated_count(path: Path, header: list[str]) -> int:
    fields = dict(line.lower().replace(" ", "").split(":", 1) for line in header if ":" in line)
    stated = fields.get("n_points", "")
    if not (stated.isascii() and stated.isdigit() and len(stated) <= 6):
        raise _malformed(path, "a line such as 'n_points: 68' above the points")
    return int(stated)


def _point(path: Path, number: int, line: str) -> Point:
    try:
        x, y = (float(field) for field in line.split())
    except ValueError:
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)):
        raise _malformed(path, f"two finite numbers in line {number}, got {line[:80]!r}")
    return x, y
