"""PyTorch's computation: exact float32, threads, out-of-memory errors.

Not yet run on a GPU: tested on the CPU through the same calls, and with stand-ins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from agebench.errors import DeviceError
from agebench.runtimes.base import when_threads_are_left


@contextmanager
def exact_float32(*, tf32: bool = False) -> Iterator[None]:
    """Compute float32 exactly, or with `tf32` with the 10 bits of tensor cores.

    PyTorch's default is TF32 for convolutions and float32 for products.
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = tf32
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before


def keep_to_threads(count: int | None) -> None:
    """Set PyTorch's number of threads until the end of `use_threads`; None changes nothing."""
    before = torch.get_num_threads()
    if count is None or count == before:
        return
    if when_threads_are_left(partial(torch.set_num_threads, before)):
        torch.set_num_threads(count)


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Set PyTorch's number of threads within the context; None keeps its own.

    Setting it is slow (its thread pool restarts): `keep_to_threads` sets it once for all runs, and
    then nothing is set here.
    """
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def out_of_memory(what: str, error: BaseException) -> DeviceError:
    """Return the error for a device that runs out of memory."""
    first = (str(error) or type(error).__name__).splitlines()[0]
    return DeviceError(
        f"{what} does not fit into the device's memory: {first}; use smaller batches"
    )
