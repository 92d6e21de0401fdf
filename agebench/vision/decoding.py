"""Decodes pictures ahead of time in worker threads, in order, a few at a time."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from agebench.errors import ImageError
from agebench.types import Image, Sample
from agebench.vision.images import decode_image, read_file

AHEAD_PER_WORKER = 4
"""Number of decoded pictures that may wait per worker, which limits the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A picture's pixels, or the reason why there are none, without the picture's name.

    `seconds` is the processor time of its thread for reading, hashing and decoding.
    """

    sample: Sample
    image_bgr: Image | None
    sha256: str = ""
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class PictureFile:
    """The content of a picture's file.

    Attributes:
        data: its bytes; b"" if it can't be read.
        sha256: of the bytes; "" if it can't be read.
        image_bgr: uint8 (height, width, 3); None if it can't be decoded.
        reason: why not, without the picture's name, which callers prepend.
    """

    data: bytes = b""
    sha256: str = ""
    image_bgr: Image | None = None
    reason: str = ""


def decode_file(path: Path, name: str, max_pixels: int) -> PictureFile:
    """Read, hash and decode one picture, or return the reason why it can't be."""
    data, sha256 = b"", ""
    try:
        data = read_file(path)
        sha256 = hashlib.sha256(data).hexdigest()
        image_bgr = decode_image(data, name, max_pixels=max_pixels)
    except ImageError as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{name}: ")
        return PictureFile(data, sha256, None, reason)
    except MemoryError:
        return PictureFile(data, sha256, None, "not enough memory to decode it")
    return PictureFile(data, sha256, image_bgr)


def decode_sample(sample: Sample, max_pixels: int) -> Decoded:
    """Read, hash and decode one picture of a data set; see `decode_file`."""
    start = time.thread_time()
    file = decode_file(sample.path, sample.name, max_pixels)
    took = time.thread_time() - start
    return Decoded(sample, file.image_bgr, file.sha256, file.reason, took)


def decode_all(samples: Iterable[Sample], *, workers: int, max_pixels: int) -> Iterator[Decoded]:
    """Yield all pictures in order; `workers` threads decode ahead, with 0 the caller's."""
    if workers == 0:
        yield from (decode_sample(sample, max_pixels) for sample in samples)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            yield from _in_order(pool, samples, workers * AHEAD_PER_WORKER, max_pixels)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, samples: Iterable[Sample], ahead: int, max_pixels: int
) -> Iterator[Decoded]:
    waiting: deque[Future[Decoded]] = deque()
    for sample in samples:
        waiting.append(pool.submit(decode_sample, sample, max_pixels))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
