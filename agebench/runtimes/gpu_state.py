"""The state of a GPU according to nvidia-smi: driver, clocks, power; throttled or shared."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agebench.errors import DeviceError

FIELDS = (
    "name",
    "driver_version",
    "clocks.sm",
    "clocks.max.sm",
    "power.draw",
    "power.limit",
    "temperature.gpu",
    "utilization.gpu",
    "memory.used",
    "clocks_throttle_reasons.active",
)
"""The queried fields, by nvidia-smi's names; ``nvidia-smi --help-query-gpu`` explains them."""

IDLE, CLOCKS_SETTING = 0x1, 0x2
"""Harmless reasons for a lower clock: an idle GPU, and clocks set by the user.

Source: NVML, nvmlClocksEventReason*.
"""

HELD_BACK: Mapping[int, str] = {
    0x4: "the power limit",
    0x8: "hardware slowdown",
    0x20: "heat",
    0x40: "heat",
    0x80: "the power brake",
}

BUSY_PERCENT = 10
"""Utilisation above this before anything was started means that others use the device."""


def _ask(command: Sequence[str]) -> str:
    # The tool of the driver, by its name on the path; its arguments are ours.
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    return done.stdout


@dataclass(frozen=True, slots=True)
class GpuState:
    """One reading; numbers that the driver does not report are None.

    Attributes:
        name: of the device.
        driver: its version.
        clock_mhz, max_clock_mhz: of the multiprocessors, now and at most.
        power_w, power_limit_w: current and allowed.
        temperature_c: of the chip.
        used_percent: fraction of the last moments in which something ran.
        used_mib: memory in use by all processes.
        reasons: NVML's bits for a clock below the highest.
    """

    name: str
    driver: str
    clock_mhz: float | None
    max_clock_mhz: float | None
    power_w: float | None
    power_limit_w: float | None
    temperature_c: float | None
    used_percent: float | None
    used_mib: float | None
    reasons: int

    @property
    def held_back(self) -> str:
        """Why its clock is reduced, in words; "" if it is not."""
        found = dict.fromkeys(text for bit, text in HELD_BACK.items() if self.reasons & bit)
        return " and ".join(found)

    @property
    def shared(self) -> str:
        """How others use it, in words; "" if they don't seem to.  Only valid before a start."""
        if self.used_percent is not None and self.used_percent > BUSY_PERCENT:
            return f"it was {self.used_percent:.0f} % busy before anything was started"
        return ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "[N/A]", "[Not Supported]"
        return None


def _bits(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


def read_gpu(index: int = 0, ask: Callable[[Sequence[str]], str] = _ask) -> GpuState:
    """Ask once.

    Args:
        index: of the device.
        ask: runs a command and returns its output; replaced in tests.

    Raises:
        DeviceError: nvidia-smi is missing, fails, or its output is not as expected.
    """
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={','.join(FIELDS)}"]
    try:
        output = ask([*command, "--format=csv,noheader,nounits"])
    except (OSError, subprocess.SubprocessError) as error:
        raise DeviceError(
            f"nvidia-smi, which comes with NVIDIA's driver, fails: {error}"
        ) from error
    cells = [cell.strip() for cell in output.strip().split(",")]
    if len(cells) != len(FIELDS):
        raise DeviceError(f"nvidia-smi gave {len(cells)} values, expected {len(FIELDS)}")
    clock, most, drawn, allowed, heat, used, memory = map(_number, cells[2:9])
    return GpuState(
        cells[0], cells[1], clock, most, drawn, allowed, heat, used, memory, _bits(cells[9])
    )


@dataclass(frozen=True, slots=True)
class GpuWatch:
    """A GPU before and after a measurement.

    Attributes:
        before, after: from the driver; None if it could not be queried.
        note: why not; "" if it could.
    """

    before: GpuState | None
    after: GpuState | None = None
    note: str = ""

    @staticmethod
    def begin(ask: Callable[[Sequence[str]], str] = _ask) -> GpuWatch:
        """Query the GPU before anything is started."""
        try:
            return GpuWatch(read_gpu(ask=ask))
        except DeviceError as error:
            return GpuWatch(None, note=str(error))

    def end(self, ask: Callable[[Sequence[str]], str] = _ask) -> GpuWatch:
        """Look again."""
        if self.before is None:
            return self
        try:
            return GpuWatch(self.before, read_gpu(ask=ask))
        except DeviceError as error:
            return GpuWatch(self.before, note=str(error))

    @property
    def trouble(self) -> str:
        """Why times on it are not comparable, in words; "" if they seem to be."""
        states = [state for state in (self.before, self.after) if state is not None]
        held = dict.fromkeys(state.held_back for state in states if state.held_back)
        if held:
            return f"the GPU's clock was reduced by {' and '.join(held)}"
        if self.before is not None and self.before.shared:
            return f"the GPU is shared: {self.before.shared}"
        return ""
