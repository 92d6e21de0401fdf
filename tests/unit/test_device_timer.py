"""The device path, up to the device: through the CPU, and with stand-ins for the libraries."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from agebench.benchmark.device_pass import run_timers, time_networks
from agebench.benchmark.resources import NetworkRuns
from agebench.benchmark.sweep import Rounds
from agebench.errors import DeviceError, ModelError, UsageError
from agebench.runtimes import onnx_runtime
from agebench.runtimes.base import ModelSource
from agebench.runtimes.cuda_library import (
    CudaDevices,
    CudaEvents,
    find_devices,
    load_runtime,
    used_bytes,
)
from agebench.runtimes.device_timer import DeviceSample, OnnxTimer, onnx_timer
from agebench.runtimes.onnx_runtime import OnnxRuntimeModel, open_session
from agebench.timing import devices
from agebench.timing.devices import load_on, reference_on, require_device
from agebench.timing.roofline import measure_device_peaks


class FakeCuda:
    """Driver and runtime in one; notes what is called."""

    def __init__(self, devices: int = 2, start: int = 0, refuses: str = "") -> None:
        self.calls: list[str] = []
        self._devices, self._start, self._refuses = devices, start, refuses

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            return 999 if name == self._refuses else 0

        return call

    def cuInit(self, flags: int) -> int:  # noqa: N802 - NVIDIA's name
        return self._start

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self._devices
        return 0

    def cuDeviceGetName(self, text: Any, size: int, number: int) -> int:  # noqa: N802
        text.value = f"GPU {number}".encode()
        return 0

    def cudaStreamCreate(self, stream: Any) -> int:  # noqa: N802
        stream._obj.value = 1234
        return 0

    def cudaEventElapsedTime(self, elapsed: Any, first: Any, last: Any) -> int:  # noqa: N802
        self.calls.append("cudaEventElapsedTime")
        elapsed._obj.value = 2.5
        return 0

    def cudaMemGetInfo(self, free: Any, total: Any) -> int:  # noqa: N802
        free._obj.value, total._obj.value = 300, 1000
        return 0


def _absent(name: str) -> Any:
    raise OSError(name)


def test_devices_are_what_the_driver_says() -> None:
    assert find_devices(lambda name: FakeCuda()) == CudaDevices(("GPU 0", "GPU 1"))
    assert "is not installed" in find_devices(_absent).reason
    assert "error 100" in find_devices(lambda name: FakeCuda(start=100)).reason
    assert "finds no device" in find_devices(lambda name: FakeCuda(devices=0)).reason


def test_events_are_recorded_around_and_waited_for() -> None:
    library = FakeCuda()
    events = CudaEvents(library)
    assert events.provider_options == {"user_compute_stream": "1234"}
    events.start()
    assert events.stop() == 2.5
    assert library.calls[-4:] == [
        "cudaEventRecord",
        "cudaEventRecord",
        "cudaEventSynchronize",
        "cudaEventElapsedTime",
    ]
    assert used_bytes(library) == 700


def test_a_refusal_of_the_runtime_is_a_sentence() -> None:
    with pytest.raises(DeviceError, match="cudaEventCreate gives CUDA error 999"):
        CudaEvents(FakeCuda(refuses="cudaEventCreate"))
    with pytest.raises(DeviceError, match="can't be loaded"):
        load_runtime(_absent)


def test_device_cuda_without_one_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_devices", lambda: CudaDevices((), "no driver"))
    with pytest.raises(DeviceError, match=r"asks for a CUDA device.*no driver.*leave --device out"):
        require_device("cuda")
    monkeypatch.setattr(devices, "find_devices", lambda: CudaDevices(("GPU 0",)))
    assert require_device("cuda") == ("GPU 0",)
    assert require_device("cpu") == ()
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        require_device("tpu")


def test_references_get_the_device() -> None:
    assert reference_on("a:b.onnx@onnxruntime k=v", "cuda").device == "cuda"
    assert reference_on("a@onnxruntime:cuda", None).device == "cuda"
    assert reference_on("a", "cpu").device is None
    with pytest.raises(UsageError, match="leave one of them out"):
        reference_on("a@onnxruntime:cpu", "cuda")
    with pytest.raises(UsageError, match="takes no device"):
        load_on("constant", "cuda")


@pytest.fixture
def doubling(tmp_path: Path) -> ModelSource:
    """Adds its input to itself; takes any number of rows."""
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "double.onnx"))
    return ModelSource("onnx", tmp_path / "double.onnx")


def test_the_same_calls_on_the_cpu(doubling: ModelSource) -> None:
    sample = onnx_timer(doubling, {"": np.ones((3, 4), np.float32)}, "cpu").sample()
    assert sample.event_ms is None
    assert min(sample.to_device_ms, sample.network_ms, sample.to_host_ms) > 0
    with pytest.raises(ModelError, match="IO binding"):
        onnx_timer(doubling, {"": np.ones((3, 5), np.float32)}, "cpu").sample()


class FakeSession:
    """A session whose work is done when it is waited for."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def get_inputs(self) -> list[Any]:
        return [type("Input", (), {"name": "x"})]

    def get_outputs(self) -> list[Any]:
        return [type("Output", (), {"name": "y"})]

    def run_with_iobinding(self, binding: Any) -> None:
        self._log.append("run")

    def io_binding(self) -> Any:
        log = self._log

        class Binding:
            def __getattr__(self, name: str) -> Any:
                return lambda *arguments: log.append(name)

        return Binding()


class FakeEvents:
    def __init__(self, log: list[str]) -> None:
        self._log = log

    def start(self) -> None:
        self._log.append("start")

    def stop(self) -> float:
        self._log.append("stop")
        return 7.0


def test_the_order_of_calls_on_a_device() -> None:
    log: list[str] = []

    class Value:
        @staticmethod
        def ortvalue_from_numpy(value: Any, device: str, number: int) -> str:
            log.append(f"copy to {device}")
            return "there"

    timer = OnnxTimer(FakeSession(log), {"": np.ones(1)}, "cuda", Value, FakeEvents(log))
    assert timer.sample().event_ms == 7.0
    assert log == [
        "bind_output",
        "copy to cuda",
        "bind_ortvalue_input",
        "synchronize_inputs",
        "start",
        "run",
        "stop",
        "synchronize_outputs",
        "copy_outputs_to_cpu",
    ]


def test_what_cuda_misses_is_in_the_error_and_not_on_stdout(
    doubling: ModelSource, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def preload() -> None:
        sys.stdout.write("\x1b[33mFailed to load libmade_up.so: no such file\x1b[0m\nSee a page\n")

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("a session of the CPU only")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    found = CudaDevices(("a GPU",))
    monkeypatch.setattr(onnx_runtime, "find_devices", lambda: found)
    with pytest.raises(DeviceError, match=r"'cuda' here: Failed to load libmade_up\.so: .*'gpu'"):
        open_session(doubling, "cuda")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    with pytest.raises(DeviceError, match="here: a session of the CPU only;"):
        open_session(doubling, "cuda")
    found = CudaDevices((), "there is no driver")  # which CUDA's libraries would not replace
    with pytest.raises(DeviceError, match="here: there is no driver; ask for '@onnxruntime:cpu'"):
        open_session(doubling, "cuda")


def test_what_is_timed_apart_computes_as_exactly_as_what_is_used(
    doubling: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []

    def session(*_: object, providers: list[object], **__: object) -> None:
        given.extend(providers)
        raise RuntimeError("no GPU here")

    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(DeviceError):
        OnnxRuntimeModel(doubling, "cuda")
    with pytest.raises(DeviceError):
        onnx_timer(doubling, {"": np.ones((3, 4), np.float32)}, "cuda")
    with pytest.raises(DeviceError):
        open_session(doubling, "cuda", {"user_compute_stream": "7"})
    exact = {"use_tf32": "0"}
    assert given == [
        ("CUDAExecutionProvider", exact),
        ("CUDAExecutionProvider", exact),
        ("CUDAExecutionProvider", {**exact, "user_compute_stream": "7"}),
    ]


def test_parts_are_summed_over_the_runs_of_a_call(doubling: ModelSource) -> None:
    class Fixed:
        def sample(self) -> DeviceSample:
            return DeviceSample(1.0, 10.0, 9.0, 0.5)

    class NoClock(Fixed):
        def sample(self) -> DeviceSample:
            return DeviceSample(1.0, 10.0, None, 0.5)

    found = run_timers([Fixed(), Fixed()], 3)
    assert found["network"].samples_ms == (20.0,) * 3
    assert found["network_events"].samples_ms == (18.0,) * 3
    assert run_timers([Fixed(), NoClock()], 2)["network_events"].samples_ms == ()
    runs = {2: [{"": (2, 4)}, {"": (2, 4)}]}
    stages = time_networks([NetworkRuns(doubling, "onnxruntime", runs)], 2, "cpu", Rounds(2))
    assert stages is not None
    assert len(stages["to_device"].samples_ms) == 2
    assert time_networks([NetworkRuns(doubling, "cv2dnn", runs)], 2, "cpu", Rounds(2)) is None
    assert time_networks([], 2, "cpu", Rounds(2)) is None


def test_the_probe_of_a_device_through_the_cpu() -> None:
    peaks = measure_device_peaks("cpu", side=64, seconds=0.01)
    assert peaks.flops_per_s > 0
    assert "64 x 64" in peaks.method


def test_ctypes_values_are_what_the_fakes_think() -> None:
    number = ctypes.c_int(1)
    assert ctypes.byref(number)._obj is number  # type: ignore[attr-defined]  # not in the stubs
