"""Times one network on a device, with transfers and computation separately.

Not yet run on a GPU: tested on the CPU through the same calls, and with stand-ins.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agebench.errors import AgebenchError, DeviceError, ModelError
from agebench.runtimes.base import ModelSource, Tensor
from agebench.runtimes.cuda_library import CudaEvents, load_runtime
from agebench.runtimes.onnx_runtime import import_onnxruntime, open_session, preload_cuda


@dataclass(frozen=True, slots=True)
class DeviceSample:
    """Milliseconds of one run.

    Attributes:
        to_device_ms: inputs copied to the device.
        network_ms: wall time of the network, from before its start until the device is idle.
        event_ms: the same by the device's own clock; None if there is none.
        to_host_ms: outputs copied back.
    """

    to_device_ms: float
    network_ms: float
    event_ms: float | None
    to_host_ms: float


class DeviceTimer(Protocol):
    """Runs one network on the same inputs repeatedly."""

    def sample(self) -> DeviceSample:
        """Copy, run, wait, copy back; return the duration of each."""
        ...


class Events(Protocol):
    """The device's own clock."""

    def start(self) -> None:
        """Record the device's time."""
        ...

    def stop(self) -> float:
        """Wait for the device and return the milliseconds since `start`."""
        ...


class OnnxTimer:
    """An ONNX Runtime session through IO binding; see `DeviceTimer`.

    Args:
        session: an `onnxruntime.InferenceSession`.
        inputs: by name, "" for the only one.
        device: of inputs and outputs: "cpu" or "cuda".
        ort_value: class that creates values on a device: `onnxruntime.OrtValue`.
        events: the device's clock; None if there is none.
    """

    def __init__(
        self,
        session: Any,
        inputs: Mapping[str, Tensor],
        device: str,
        ort_value: Any,
        events: Events | None = None,
    ) -> None:
        only = session.get_inputs()[0].name
        self._session = session
        self._inputs = {name or only: value for name, value in inputs.items()}
        self._outputs = [item.name for item in session.get_outputs()]
        self._device = device
        self._ort_value = ort_value
        self._events = events

    def sample(self) -> DeviceSample:
        """See `DeviceTimer.sample`.

        Raises:
            ModelError: the runtime refuses the input or fails.
        """
        try:
            return self._sample()
        except AgebenchError:
            raise
        except Exception as error:  # onnxruntime raises a dozen kinds of exceptions
            raise ModelError(f"onnxruntime failed with IO binding: {error}") from error

    def _sample(self) -> DeviceSample:
        binding = self._session.io_binding()
        for name in self._outputs:
            binding.bind_output(name, self._device, 0)
        begin = time.perf_counter()
        for name, value in self._inputs.items():
            binding.bind_ortvalue_input(
                name, self._ort_value.ortvalue_from_numpy(value, self._device, 0)
            )
        binding.synchronize_inputs()
        copied = time.perf_counter()
        event_ms = self._run(binding)
        # The call returns when the work is queued, not when it is done.
        binding.synchronize_outputs()
        computed = time.perf_counter()
        binding.copy_outputs_to_cpu()
        back = time.perf_counter()
        return DeviceSample(
            (copied - begin) * 1e3, (computed - copied) * 1e3, event_ms, (back - computed) * 1e3
        )

    def _run(self, binding: Any) -> float | None:
        if self._events is None:
            self._session.run_with_iobinding(binding)
            return None
        self._events.start()
        self._session.run_with_iobinding(binding)
        return self._events.stop()


def onnx_timer(source: ModelSource, inputs: Mapping[str, Tensor], device: str) -> OnnxTimer:
    """Return a timer for an ONNX file; with device events if the CUDA runtime is available.

    Raises:
        DeviceError: the device can't be used.
        ModelError: the file can't be loaded.
    """
    onnxruntime = import_onnxruntime()
    events: CudaEvents | None = None
    if device == "cuda":
        preload_cuda(onnxruntime)
        try:
            events = CudaEvents(load_runtime())
        except DeviceError:
            events = None  # wall time is still correct, because the run is waited for
    options = None if events is None else events.provider_options
    session = open_session(source, device, options)
    return OnnxTimer(session, inputs, device, onnxruntime.OrtValue, events)
