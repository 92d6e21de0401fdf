"""Runs networks with ONNX Runtime, on the CPU, CUDA or TensorRT."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agebench.errors import MissingDependencyError, ModelError, UsageError
from agebench.protocols import RuntimeInfo
from agebench.runtimes.base import (
    ModelSource,
    Tensor,
    library_message,
    refuse_device,
    text_names,
    wanted_threads,
)
from agebench.runtimes.cuda_library import find_devices

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

# Otherwise float32 would be computed with the 10 bits of TF32 on GPUs that have it; the same for
# all sessions, so that timings are of the same computation.
_EXACT: Mapping[str, Mapping[str, str]] = {"cuda": {"use_tf32": "0"}}


def import_onnxruntime() -> Any:
    """Return the library.

    Raises:
        MissingDependencyError: it can't be imported.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            f"onnxruntime can't be imported: {error}. Install it with: pip install onnxruntime-gpu "
            "(Linux x86-64, Windows) or: pip install onnxruntime"
        ) from error
    return onnxruntime


def preload_cuda(onnxruntime: Any) -> str:
    """Load the libraries of CUDA and cuDNN into the process, if they are installed.

    The library prints missing ones on stdout, which is reserved for results.

    Returns:
        The first missing library, and what installs it, in plain text; "" if none is missing.
    """
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        onnxruntime.preload_dlls()
    plain_text = re.sub(r"\x1b\[[0-9;]*m", "", output.getvalue()).strip()
    if not plain_text:
        return ""
    return f"{plain_text.splitlines()[0]} (the extra 'gpu' of agebench installs CUDA's libraries)"


def _options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Its log messages, with colours, would repeat our own error.
    onnxruntime.set_default_logger_severity(4)
    # Threads that keep spinning after a run slow down whatever comes next, such as another network.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    threads = wanted_threads()
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    return options


def open_session(
    source: ModelSource, device: str, provider_options: Mapping[str, str] | None = None
) -> Any:
    """Return an `onnxruntime.InferenceSession` that only runs on `device`.

    Args:
        source: an ONNX file.
        device: "cpu", "cuda" or "tensorrt".
        provider_options: of the execution provider, in addition to exact float32.

    Raises:
        UsageError: an unknown device.
        DeviceError: the device can't be used.
        ModelError: the file can't be loaded.
    """
    onnxruntime = import_onnxruntime()
    if device not in _PROVIDERS:
        raise UsageError(f"unknown device {device!r} for onnxruntime: use {', '.join(_PROVIDERS)}")
    provider = _PROVIDERS[device]
    if provider not in onnxruntime.get_available_providers():
        raise refuse_device("onnxruntime", device, f"this build has no {provider}")
    options = _options(onnxruntime)
    missing = ""
    if device != "cpu":
        missing = preload_cuda(onnxruntime)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    providers = [(provider, {**_EXACT.get(device, {}), **(provider_options or {})})]
    try:
        session = onnxruntime.InferenceSession(
            str(source.path) if source.data is None else source.data,
            options,
            providers=providers,
            enable_fallback=0,
        )
    except UnicodeDecodeError as error:  # of a name in the file
        raise ModelError(
            f"{source.path} is damaged: a name in it is not text: compare its size and sha256 with "
            "those of the original"
        ) from error
    except Exception as error:  # onnxruntime raises a dozen kinds, all similar to RuntimeError
        reason = library_message(error)
        if device != "cpu":
            why = find_devices().reason or missing or reason
            raise refuse_device("onnxruntime", device, why) from error
        raise ModelError(f"{source.path}: onnxruntime can't load it: {reason}") from error
    # "Available" only means compiled in; the session uses the CPU if the libraries can't be loaded.
    if session.get_providers()[0] != provider:
        used = f"the session runs on {session.get_providers()}"
        reason = find_devices().reason or missing or used
        raise refuse_device("onnxruntime", device, reason)
    return session


class OnnxRuntimeModel:
    """A network loaded by ONNX Runtime; see `agebench.runtimes.base.Model`."""

    def __init__(self, source: ModelSource, device: str = "cpu") -> None:
        self._source = replace(source, data=None)  # the bytes are not needed after parsing
        self._session = open_session(source, device)
        outputs, inputs = self._session.get_outputs(), self._session.get_inputs()
        names = text_names(source, lambda: (item.name for item in outputs))
        self._outputs = list(source.outputs) or names
        self._inputs = tuple(text_names(source, lambda: (item.name for item in inputs)))
        version = import_onnxruntime().__version__
        self._info = RuntimeInfo("onnxruntime", device, self._session.get_providers()[0], version)

    @property
    def info(self) -> RuntimeInfo:
        """See `Model.info`."""
        return self._info

    @property
    def input_names(self) -> tuple[str, ...]:
        """See `Model.input_names`."""
        return self._inputs

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Model.run`."""
        feed = {name or self._inputs[0]: value for name, value in inputs.items()}
        try:
            values = self._session.run(self._outputs, feed)
        except Exception as error:  # onnxruntime raises a dozen kinds of exceptions
            reason = library_message(error)
            raise ModelError(f"{self._source.path}: onnxruntime failed: {reason}") from error
        return dict(zip(self._outputs, values, strict=True))
