"""Reads Darknet's files: a .cfg as sections, a .weights as the numbers of each convolution.

Sources: darknet (Redmon; AlexeyAB), src/parser.c, for the order of the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agebench.errors import ModelError, inert
from agebench.runtimes.opening import require_checked
from agebench.util.regular_files import read_regular

MAX_WEIGHTS_BYTES = 1 << 29
BATCH_NORM_EPS = 1e-6
"""Added to variances by Darknet."""

Floats32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DarknetSection:
    """One section of a .cfg.

    Attributes:
        kind: the name in brackets.
        line: number of its first line, from 1.
        values: its keys and values as written.
    """

    kind: str
    line: int
    values: Mapping[str, str]

    def number(self, key: str, default: int | None = None) -> int:
        """Return a whole number.

        Raises:
            ModelError: it is not a whole number, or is missing and there is no default.
        """
        return self.numbers(key, None if default is None else (default,))[0]

    def numbers(self, key: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """Return whole numbers separated by commas, at least one; see `number`."""
        text = self.values.get(key)
        if text is None and default is not None:
            return tuple(default)
        try:
            return tuple(int(part) for part in (text or "").split(","))
        except ValueError:
            raise ModelError(
                f"line {self.line}: [{self.kind}] needs {key} as whole numbers, got {text!r:.60}"
            ) from None


def parse_cfg(text: str) -> list[DarknetSection]:
    """Return the sections of a .cfg, the first of which is [net].

    Raises:
        ModelError: it is not such a file; the message names the line.
    """
    sections: list[DarknetSection] = []
    values: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.split("#")[0].strip()
        if line.startswith("[") and line.endswith("]"):
            values = {}
            sections.append(DarknetSection(inert(line[1:-1].strip()), number, values))
        elif line:
            key, equals, value = line.partition("=")
            if not equals or not sections:
                raise ModelError(f"line {number} of the Darknet layout can't be read: {raw!r:.60}")
            values[key.strip()] = value.strip()
    if not sections or sections[0].kind not in ("net", "network"):
        raise ModelError("a Darknet layout must begin with [net], this one does not")
    return sections


class WeightReader:
    """Reads the numbers of a .weights file in order.

    Args:
        path: the file.
        sha256: of its bytes when they were checked; "" if they were not.

    Raises:
        ModelError: it is too short or too large, or can't be read.
        WeightsError: it has changed since it was checked.
    """

    def __init__(self, path: Path, sha256: str = "") -> None:
        try:
            size = path.stat().st_size
            content = read_regular(path) if size <= MAX_WEIGHTS_BYTES else b""
        except OSError as error:
            raise ModelError(f"{path}: can't be read: {error.strerror}") from error
        if size > MAX_WEIGHTS_BYTES or len(content) < 16:
            raise ModelError(f"{path} has {size:,} bytes: it is not a Darknet weights file")
        require_checked(path, content, sha256)
        major, minor = (int(value) for value in np.frombuffer(content, "<i4", 2))
        start = 20 if major * 10 + minor >= 2 else 16
        self._path = path
        body = content[start:]
        self._values = np.frombuffer(body[: len(body) // 4 * 4], "<f4")
        self._place = 0

    def take(self, *shape: int) -> Floats32:
        """Return the next numbers in this shape.

        Raises:
            ModelError: the file ends too early, or a number is not finite.
        """
        count = int(np.prod(shape))
        values = self._values[self._place : self._place + count]
        if len(values) != count:
            raise ModelError(
                f"{self._path} ends too early: its layout needs at least {self._place + count:,} "
                f"numbers, it has {len(self._values):,}: it is truncated or belongs to another "
                "layout"
            )
        if not np.isfinite(values).all():
            raise ModelError(
                f"{self._path} is damaged: it contains values that are not finite numbers"
            )
        self._place += count
        return np.asarray(values.reshape(shape), np.float32)

    def finish(self) -> None:
        """Check that all numbers were read.

        Raises:
            ModelError: there are more.
        """
        left = len(self._values) - self._place
        if left:
            raise ModelError(f"{self._path} has {left:,} more numbers than its layout needs")
