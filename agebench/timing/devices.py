"""The device that all estimators of a measurement run on."""

from __future__ import annotations

from dataclasses import replace

from agebench.errors import DeviceError, UsageError
from agebench.protocols import Estimator
from agebench.references import Reference, parse_reference
from agebench.registry.plugins import load_estimator
from agebench.runtimes.cuda_library import find_devices

DEVICES = ("cpu", "cuda")


def require_device(device: str) -> tuple[str, ...]:
    """Return the names of this machine's devices of that kind; empty for the CPU.

    Raises:
        UsageError: there is no such kind.
        DeviceError: this machine has none.
    """
    if device not in DEVICES:
        raise UsageError(f"unknown device {device!r}: expected {' or '.join(DEVICES)}")
    if device == "cpu":
        return ()
    found = find_devices()
    if not found.names:
        raise DeviceError(
            f"--device {device} asks for a CUDA device, but this machine has none that can be "
            f"used: {found.reason}; leave --device out to measure on the CPU"
        )
    return found.names


def reference_on(text: str, device: str | None) -> Reference:
    """Return an estimator's reference with the device set; None leaves it as it is.

    Raises:
        UsageError: it is malformed, or already names another device.
    """
    parsed = parse_reference(text)
    if device is not None and parsed.device not in (None, device):
        raise UsageError(
            f"{text!r} asks for {parsed.device!r}, --device for {device!r}: leave one of them out"
        )
    # For the CPU nothing is set, since an estimator without a network takes no device.
    return parsed if device in (None, "cpu") else replace(parsed, device=device)


def load_on(text: str, device: str | None) -> Estimator:
    """Load an estimator on a device, and check that it runs there.

    Without a device it runs as its reference says.

    Raises:
        UsageError: an unknown name or option, or an estimator that takes no device.
        DeviceError: it runs, or would run, on another device.
        AgebenchError: it can't be loaded.
    """
    estimator = load_estimator(reference_on(text, device))
    runs_on = estimator.spec.runtime.device
    if device is not None and runs_on != device:
        raise DeviceError(
            f"{text!r} runs on {runs_on!r} instead of {device!r}: name a runtime that supports "
            f"it, such as '@onnxruntime:{device}'"
        )
    return estimator
