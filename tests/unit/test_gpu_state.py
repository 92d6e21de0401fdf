"""What is read out of NVIDIA's tool, without the tool."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pytest

from agebench.errors import DeviceError
from agebench.runtimes.gpu_state import FIELDS, read_gpu

LINE = "NVIDIA H100 80GB, 580.65.06, 1980, 1980, 121.34, 700.00, 38, 0, 4, 0x0000000000000001\n"


def test_a_device_at_rest_is_neither_held_back_nor_shared() -> None:
    asked: list[Sequence[str]] = []

    def answer(words: Sequence[str]) -> str:
        asked.append(words)
        return LINE

    state = read_gpu(1, answer)
    assert asked[0][:2] == ["nvidia-smi", "--id=1"]
    assert ",".join(FIELDS) in asked[0][2]
    assert (state.name, state.driver) == ("NVIDIA H100 80GB", "580.65.06")
    assert (state.clock_mhz, state.power_w, state.used_mib) == (1980, 121.34, 4)
    assert state.held_back == state.shared == ""


def test_what_holds_it_back_is_said() -> None:
    line = LINE.replace("0x0000000000000001", "0x0000000000000064").replace(" 0, 4,", " 87, 900,")
    state = read_gpu(ask=lambda _: line)
    assert state.held_back == "the power limit and heat"
    assert "87 %" in state.shared


def test_what_the_driver_does_not_tell_is_none() -> None:
    line = LINE.replace("121.34", "[N/A]").replace("0x0000000000000001", "[Not Supported]")
    state = read_gpu(ask=lambda _: line)
    assert state.power_w is None
    assert state.reasons == 0


def _missing(_words: Sequence[str]) -> str:
    raise FileNotFoundError("nvidia-smi")


def _failing(words: Sequence[str]) -> str:
    raise subprocess.CalledProcessError(9, list(words))


@pytest.mark.parametrize("ask", [_missing, _failing, lambda _: "No devices were found\n"])
def test_no_tool_no_device(ask: object) -> None:
    with pytest.raises(DeviceError, match="nvidia-smi"):
        read_gpu(ask=ask)  # type: ignore[arg-type]  # as typed, but for the lambda
