"""Settings of `compare`."""

from __future__ import annotations

from dataclasses import InitVar, dataclass

from agebench.errors import UsageError
from agebench.runtimes.threads import check_threads
from agebench.util.checks import require_whole
from agebench.vision.images import MAX_PIXELS
from agebench.vision.variants import parse_variant

MOST_DECODE_THREADS = 64
"""Of `agebench doctor` too; each holds a decoded picture."""


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """Settings of one comparison; all are written into its result.

    Attributes:
        protocol: score a part of this protocol (with options) or split file; None for no split.
        part: which part, such as "test", "train+val" or "not-fold-0"; None for "test".
        variant: change each picture after its face was found (`agebench.vision.variants`), to
            measure robustness; times are then those of the unchanged pictures.  None for no change.
        limit: number of pictures to take, the first by name; None for all.
        sample: number of pictures to take, drawn at random with `seed`; None for all.
        seed: for the sample, the permutation tests and the choice of timed pictures.
        batch_size: faces per call of an estimator in the accuracy pass.
        decode_threads: number of threads that decode ahead, at most `MOST_DECODE_THREADS`; 0
            decodes in the main thread.
        threads: that OpenCV and ONNX Runtime may use; None for one per processor.
        latency_pictures: number of scored pictures to time, at batch 1; 0 skips the timing.
        max_pixels: larger pictures are refused.
        skip_unavailable: continue without the estimators whose model files or library are missing.
        workers: former name of `decode_threads`.

    Raises:
        UsageError: a number is not whole or out of range, `limit` and `sample` are both given,
            `part` is given without `protocol`, or there is no such `variant`.
    """

    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    batch_size: int = 32
    decode_threads: int = 2
    threads: int | None = None
    latency_pictures: int = 100
    max_pixels: int = MAX_PIXELS
    skip_unavailable: bool = False
    protocol: str | None = None
    part: str | None = None
    variant: str | None = None
    workers: InitVar[int | None] = None

    def __post_init__(self, workers: int | None) -> None:
        if workers is not None:
            object.__setattr__(self, "decode_threads", workers)
        if self.limit is not None and self.sample is not None:
            raise UsageError("limit and sample exclude each other: give one of them")
        if self.part is not None and self.protocol is None:
            raise UsageError(f"part {self.part!r} needs a protocol: say what it is a part of")
        if self.variant is not None:
            parse_variant(self.variant)
        least = {
            "limit": 1,
            "sample": 1,
            "seed": 0,
            "batch_size": 1,
            "latency_pictures": 0,
            "max_pixels": 1,
        }
        for name, minimum in least.items():
            require_whole(name, getattr(self, name), minimum)
        require_whole("decode_threads", self.decode_threads, 0, MOST_DECODE_THREADS)
        check_threads(self.threads)
