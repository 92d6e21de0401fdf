"""What is read out of NVIDIA's tool, without the tool."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pytest

from agebench.benchmark.tables import gpu_lines
from agebench.errors import DeviceError
from agebench.runtimes.gpu_state import FIELDS, GpuWatch, read_gpu
from agebench.types import plain

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


def test_bench_says_what_the_driver_said_and_why_there_is_no_verdict() -> None:
    hot = LINE.replace("0x0000000000000001", "0x0000000000000020").replace(
        " 1980, 1980", " 900, 1980"
    )
    watch = GpuWatch.begin(lambda _: LINE).end(lambda _: hot)
    assert watch.trouble == "the GPU's clock was reduced by heat"
    text = " ".join(gpu_lines(plain(watch) | {"trouble": watch.trouble}))
    assert "NVIDIA H100 80GB, driver 580.65.06: 1980 MHz before, 900 after" in text
    assert "No estimator is called faster: the GPU's clock was reduced by heat" in text
    assert GpuWatch.begin(lambda _: LINE).end(lambda _: LINE).trouble == ""


def test_a_shared_gpu_gives_no_verdict() -> None:
    watch = GpuWatch.begin(lambda _: LINE.replace(" 0, 4,", " 55, 4,"))
    assert "55 % busy" in watch.trouble
    # What is used after a measurement is the measurement itself.
    assert (
        GpuWatch.begin(lambda _: LINE).end(lambda _: LINE.replace(" 0, 4,", " 99, 4,")).trouble
        == ""
    )


def test_without_the_tool_it_is_said() -> None:
    watch = GpuWatch.begin(_missing).end(_missing)
    assert (watch.before, watch.trouble) == (None, "")
    assert "not known" in gpu_lines(plain(watch) | {"trouble": ""})[0]
    assert gpu_lines(None) == []
