"""The required part of NVIDIA's libraries, through ctypes: list of devices, and events.

Not yet run on a GPU: tested with stand-ins for the two libraries.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from agebench.errors import DeviceError

NOT_PROVEN = (
    "not tested on a GPU: the code that times networks there and reads its memory has only been "
    "tested with stand-ins for NVIDIA's libraries"
)
"""Applies to this module and `device_timer`, until they have been run on a GPU."""

Loader: TypeAlias = Callable[[str], Any]

_WINDOWS = sys.platform == "win32"
DRIVER_NAMES = ("nvcuda.dll",) if _WINDOWS else ("libcuda.so.1", "libcuda.so")
RUNTIME_NAMES = (
    ("cudart64_13.dll", "cudart64_12.dll")
    if _WINDOWS
    else ("libcudart.so.13", "libcudart.so.12", "libcudart.so")
)


@dataclass(frozen=True, slots=True)
class CudaDevices:
    """The CUDA devices of this machine.

    Attributes:
        names: from the driver, in its order.
        reason: why there are none; "" if there are.
    """

    names: tuple[str, ...]
    reason: str = ""


def _load(names: Sequence[str], loader: Loader) -> Any | None:
    for name in names:
        try:
            return loader(name)
        except OSError:
            continue
    return None


def find_devices(loader: Loader = ctypes.CDLL) -> CudaDevices:
    """Ask the driver for its devices; never raises."""
    driver = _load(DRIVER_NAMES, loader)
    if driver is None:
        return CudaDevices((), f"NVIDIA's driver ({DRIVER_NAMES[0]}) is not installed")
    code = driver.cuInit(0)
    if code:
        return CudaDevices((), f"NVIDIA's driver can't be started (cuInit gives error {code})")
    count = ctypes.c_int(0)
    driver.cuDeviceGetCount(ctypes.byref(count))
    if not count.value:
        return CudaDevices((), "NVIDIA's driver finds no device")
    names = []
    for number in range(count.value):
        text = ctypes.create_string_buffer(256)
        driver.cuDeviceGetName(text, len(text), number)
        names.append(text.value.decode(errors="replace"))
    return CudaDevices(tuple(names))


def load_runtime(loader: Loader = ctypes.CDLL) -> Any:
    """Return the CUDA runtime library, which onnxruntime's `preload_dlls` loads into the process.

    Raises:
        DeviceError: it can't be loaded.
    """
    library = _load(RUNTIME_NAMES, loader)
    if library is None:
        wanted = ", ".join(RUNTIME_NAMES)
        raise DeviceError(f"the CUDA runtime can't be loaded (tried {wanted})")
    return library


def _check(code: int, call: str) -> None:
    if code:
        raise DeviceError(f"{call} gives CUDA error {code}")


def used_bytes(library: Any) -> int:
    """Return how much of the current device's memory is used by all processes.

    Raises:
        DeviceError: the runtime fails.
    """
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _check(library.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)), "cudaMemGetInfo")
    return int(total.value - free.value)


class CudaEvents:
    """A stream and two events on it, to time what the device does between them.

    Args:
        library: from `load_runtime`.

    Raises:
        DeviceError: the runtime fails.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._stream = ctypes.c_void_p()
        self._first, self._last = ctypes.c_void_p(), ctypes.c_void_p()
        _check(library.cudaStreamCreate(ctypes.byref(self._stream)), "cudaStreamCreate")
        for event in (self._first, self._last):
            _check(library.cudaEventCreate(ctypes.byref(event)), "cudaEventCreate")

    @property
    def provider_options(self) -> dict[str, str]:
        """The option that makes onnxruntime's CUDA provider use this stream."""
        return {"user_compute_stream": str(self._stream.value or 0)}

    def start(self) -> None:
        """Record the device's time before what follows."""
        _check(self._library.cudaEventRecord(self._first, self._stream), "cudaEventRecord")

    def stop(self) -> float:
        """Wait for the device; return the milliseconds since `start`, by its own clock."""
        library, elapsed = self._library, ctypes.c_float()
        _check(library.cudaEventRecord(self._last, self._stream), "cudaEventRecord")
        _check(library.cudaEventSynchronize(self._last), "cudaEventSynchronize")
        code = library.cudaEventElapsedTime(ctypes.byref(elapsed), self._first, self._last)
        _check(code, "cudaEventElapsedTime")
        return float(elapsed.value)
