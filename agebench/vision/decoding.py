"""Pictures decoded ahead of time in worker threads, in order, few at a time."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from agebench.errors import ImageError
from agebench.types import Image, Sample
from agebench.vision.images import decode_image, read_file

AHEAD_PER_WORKER = 4
"""Pictures that wait decoded per worker: bounds the memory, whatever the data set's size."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A picture's pixels, or why there are none: a reason that does not repeat its name."""

    sample: Sample
    image_bgr: Image | None
    sha256: str = ""
    reason: str = ""


def decode_sample(sample: Sample, max_pixels: int) -> Decoded:
    """Read, hash and decode one picture; a picture that can't be read gives its reason."""
    sha256 = ""
    try:
        data = read_file(sample.path)
        sha256 = hashlib.sha256(data).hexdigest()
        image = decode_image(data, sample.name, max_pixels=max_pixels)
    except ImageError as error:
        # Whoever shows the reason shows the sample's name before it.
        reason = str(error).removeprefix(f"{sample.path}: ").removeprefix(f"{sample.name}: ")
        return Decoded(sample, None, sha256, reason)
    except MemoryError:
        return Decoded(sample, None, sha256, "not enough memory to decode it")
    return Decoded(sample, image, sha256)


def decode_all(samples: Iterable[Sample], *, workers: int, max_pixels: int) -> Iterator[Decoded]:
    """Yield all pictures in order; `workers` threads decode ahead, 0 decodes in the caller's."""
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
