"""The most memory that this process has taken, in the machine and on a device."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psutil

from agebench.errors import DeviceError
from agebench.runtimes.cuda_library import load_runtime, used_bytes

_STATUS = Path("/proc/self/status")


def peak_rss_bytes() -> int:
    """Return the peak resident memory of this process since it began.

    On Linux from VmHWM: what `getrusage` says there includes the parent's memory at the moment
    the child was made, often far more than the child itself ever takes.
    """
    if _STATUS.exists():
        match = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
        if match:
            return int(match.group(1)) * 1024
    info = psutil.Process().memory_info()
    if sys.platform == "win32":
        return int(info.peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def device_used_bytes(device: str) -> int | None:
    """Return the CUDA device's memory in use; None for the CPU, or where it can't be asked."""
    if device != "cuda":
        return None
    from agebench.runtimes.onnx_runtime import import_onnxruntime, preload_cuda

    preload_cuda(import_onnxruntime())
    try:
        return used_bytes(load_runtime())
    except DeviceError:
        return None
