"""The measured limits of the machine, and the least time of a network that follows from them.

A network with a number of operations and bytes to read can't be faster than either limit allows
(Williams, Waterman & Patterson, "Roofline", CACM 2009).  docs/latency.md describes the limitations
of this roofline.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from agebench.runtimes.base import ModelSource
from agebench.runtimes.device_timer import onnx_timer
from agebench.util.memory_limit import left_to_us

PROBE_SECONDS = 0.75
MATRIX_SIDE = 1536
DEVICE_MATRIX_SIDE = 8192
COPY_BYTES = 256 * 1024 * 1024
"""Far more than any cache can hold."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """The limits of the machine, as measured by the probe.

    Attributes:
        flops_per_s: float32 additions and multiplications.
        bytes_per_s: read and written.
        threads: number used; 0 on a device.
        method: how they were measured.
    """

    flops_per_s: float
    bytes_per_s: float
    threads: int
    method: str

    def __post_init__(self) -> None:
        if not (self.flops_per_s > 0 and self.bytes_per_s > 0):
            raise ValueError(f"expected peaks above 0, got {self}")

    def at_least(self, other: Peaks) -> Peaks:
        """Return the larger figure of each kind from two equal probes."""
        flops = max(self.flops_per_s, other.flops_per_s)
        return replace(
            self, flops_per_s=flops, bytes_per_s=max(self.bytes_per_s, other.bytes_per_s)
        )


def roofline_ms(macs: int, moved_bytes: int, peaks: Peaks) -> float:
    """Return the least time in milliseconds, limited by operations or by bytes.

    Args:
        macs: multiply-accumulate operations, two floating-point operations each.
        moved_bytes: bytes that are read at least once.
        peaks: of the machine.

    >>> roofline_ms(500_000_000, 8_000_000, Peaks(1e11, 1e10, 1, ""))
    10.0
    """
    return 1e3 * max(2 * macs / peaks.flops_per_s, moved_bytes / peaks.bytes_per_s)


def _fastest_s(run: Callable[[], object], seconds: float) -> float:
    """Return the time of the fastest run among those that fit into `seconds`, at least one."""
    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        best = min(best, now - start)
        if now >= end:
            return best


def measure_peaks(threads: int, *, seconds: float = PROBE_SECONDS) -> Peaks:
    """Measure this process's limits; its BLAS must have been started with `threads` threads.

    Args:
        threads: that copy memory; the matrix product takes its number from the environment.
        seconds: for each of the two.
    """
    first, second = np.ones((2, MATRIX_SIDE, MATRIX_SIDE), np.float32)
    product = np.empty_like(first)
    gemm_s = _fastest_s(lambda: np.matmul(first, second, out=product), seconds)
    size = min(COPY_BYTES, left_to_us(psutil.virtual_memory().available) // 8)
    source, target = np.ones((2, size), np.uint8)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        # numpy releases the interpreter's lock while it copies.
        copy_s = _fastest_s(
            lambda: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), parts)), seconds
        )
    method = (
        f"fastest of {seconds:g} s each: float32 product of {MATRIX_SIDE} x {MATRIX_SIDE} matrices "
        f"by numpy; copy of {size / 2**20:.0f} MiB, bytes read and written counted"
    )
    return Peaks(2 * MATRIX_SIDE**3 / gemm_s, 2 * size / copy_s, threads, method)


def measure_device_peaks(
    device: str, *, side: int = DEVICE_MATRIX_SIDE, seconds: float = PROBE_SECONDS
) -> Peaks:
    """Measure a device's limits through ONNX Runtime, with the precision that it uses.

    Raises:
        DeviceError: the device can't be used.
    """
    values = np.random.default_rng(0).random((side, side), np.float32)
    with tempfile.TemporaryDirectory(prefix="agebench-") as folder:
        product = _probe_model(Path(folder) / "product.onnx", "MatMul", ("x", "x"))
        negated = _probe_model(Path(folder) / "negated.onnx", "Neg", ("x",))
        best = []
        for path in (product, negated):
            timer = onnx_timer(ModelSource("onnx", path), {"x": values}, device)
            samples: list[float] = []

            def run(timer: Any = timer, samples: list[float] = samples) -> None:
                sample = timer.sample()
                samples.append(sample.network_ms if sample.event_ms is None else sample.event_ms)

            _fastest_s(run, seconds)
            best.append(min(samples) / 1e3)
    method = (
        f"fastest of {seconds:g} s each: product and negation of {side} x {side} float32 matrices "
        f"by onnxruntime on {device}, transfers not counted"
    )
    return Peaks(2 * side**3 / best[0], 2 * values.nbytes / best[1], 0, method)


def _probe_model(path: Path, operator: str, inputs: tuple[str, ...]) -> Path:
    import onnx
    from onnx import TensorProto, helper

    shape = ["rows", "columns"]
    graph = helper.make_graph(
        [helper.make_node(operator, list(inputs), ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path
