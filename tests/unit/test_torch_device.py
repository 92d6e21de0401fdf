"""Time on a device that is not here: stand-ins for its clock, its memory and its graphs."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from agebench.errors import DeviceError
from tests.unit.scripts import load_script

torch = pytest.importorskip("torch")
torch_device: Any = pytest.importorskip("agebench.runtimes.torch_device")
gpu_times = load_script("benchmarks.gpu_times")


class _Event:
    """A device's clock that goes 2.5 ms forward at each mark."""

    now = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.at = math.nan

    def record(self) -> None:
        _Event.now += 2.5
        self.at = _Event.now

    def elapsed_time(self, other: _Event) -> float:
        return other.at - self.at


def test_a_device_is_waited_for_and_timed_by_its_own_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: happened.append("wait"))
    times = gpu_times.time_runs(lambda: happened.append("run"), "cuda", seconds=0.0, least=4)
    assert times.event_ms == (2.5,) * 4
    assert len(times.wall_ms) == 4
    # One warm-up run and a wait, then each run is waited for before the host's clock is read.
    assert happened == ["run", "wait"] * 5


def test_the_cpu_has_no_second_clock() -> None:
    times = gpu_times.time_runs(lambda: None, "cpu", seconds=0.0, least=3)
    assert (len(times.wall_ms), times.event_ms) == (3, ())


def test_memory_that_does_not_suffice_ends_the_call_in_a_sentence() -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    with pytest.raises(DeviceError, match=r"does not fit.*9 GiB.*smaller batches"):
        gpu_times.time_runs(full, "cpu", seconds=0.0)


def test_no_graph_is_captured_of_the_cpu() -> None:
    with pytest.raises(DeviceError, match="GPU"):
        gpu_times.captured(lambda value: [value], [torch.zeros(1)])


def test_float32_is_exact_inside_and_as_before_outside() -> None:
    flags = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [item.allow_tf32 for item in flags]
    with torch_device.exact_float32(tf32=True):
        assert [item.allow_tf32 for item in flags] == [True, True]
        with torch_device.exact_float32():
            assert [item.allow_tf32 for item in flags] == [False, False]
    assert [item.allow_tf32 for item in flags] == before


@pytest.fixture
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `benchmarks` be imported, as ``python -m benchmarks.gpu`` does."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2]))


@pytest.mark.usefixtures("_scripts")
def test_a_row_that_fails_is_written_and_the_rest_goes_on(tmp_path: Path) -> None:
    from benchmarks.gpu import Run, markdown
    from benchmarks.gpu_networks import How

    about = {"created": "today", "command": ["gpu"], "gpu": None}
    now = time.monotonic()
    run = Run(How("cpu", 0.0), (1, 2), now, now + 60, tmp_path / "g.json", about)
    facts: dict[str, Any] = {"network": "n", "batch": 1024, "mode": "eager"}
    facts |= {"precision": "float16", "layout": "contiguous"}

    def full() -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore")

    run.row("torch", full, **facts)
    run.row("torch", lambda: {"wall_p50_ms": 1.25}, **facts | {"batch": 1})
    run.end = time.monotonic() - 1
    run.row("torch", lambda: {"wall_p50_ms": 1.25}, **facts)
    written = json.loads((tmp_path / "g.json").read_text())
    first, second, third = written["torch"]
    assert first["failed"].endswith("CUDA out of memory. Tried to allocate 9 GiB")
    assert second["wall_p50_ms"] == 1.25
    assert "no time left" in third["failed"]
    table = (tmp_path / "g.md").read_text()
    assert table == markdown(written), "written after every row, not at the end"
    assert "| n | 1 | eager | float16 | contiguous | 1.25 |" in table
    assert "Tried to allocate 9 GiB" in table


@pytest.mark.usefixtures("_scripts")
def test_a_section_that_fails_or_takes_too_long_leaves_the_others_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is missing, every section has its rows; only its own part of the time is used."""
    from benchmarks import gpu, gpu_networks, gpu_rows

    def gone(*_: object, **__: object) -> dict[str, float]:
        raise ModuleNotFoundError("No module named 'rich'")

    figures = [name for name in dir(gpu_rows) if name.startswith(("time_", "profile", "power"))]
    for name in (*figures, "product_rate", "copy_rate", "ages_in", "harness_ratio"):
        monkeypatch.setattr(gpu_rows, name, gone)
    monkeypatch.setattr(gpu_rows, "sample_inputs", gone)
    for name in list(gpu_networks.NETWORKS)[1:]:
        monkeypatch.setitem(gpu_networks.NETWORKS, name, gone)
    now = time.monotonic()
    about = {"created": "today", "command": ["gpu"], "gpu": None}
    run = gpu.Run(gpu_networks.How("cpu", 0.0), (1, 2), now, now + 1000, tmp_path / "g.json", about)
    gpu.measure_all(run, tmp_path)
    sections = {*gpu.TIME_FRACTIONS, "networks", "profile"} - {"kernels", "compiled"}
    assert sections <= run.rows.keys()
    rows = [row for name in sections for row in run.rows[name]]
    assert [row["network"] for row in rows if "failed" not in row] == ["multicrop-resnet"]
    assert {row["failed"] for row in rows if "failed" in row} == {
        "ModuleNotFoundError: No module named 'rich'"
    }
    run.rows.clear()
    run.began, run.end = now - 500, now + 500  # half of the time is gone
    gpu.measure_all(run, tmp_path)
    late = {
        name
        for name, section in run.rows.items()
        if any("section had no time" in row["failed"] for row in section if "failed" in row)
    }
    assert late == {"peaks", "torch"}, "those whose share is in the half that is gone"
    assert sum(gpu.TIME_FRACTIONS.values()) == pytest.approx(1)


@pytest.mark.usefixtures("_scripts")
def test_what_is_said_of_the_run_and_its_rows_do_not_get_in_each_others_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both files can be written from the first row on, whatever it is of."""
    from benchmarks import gpu

    def measure(run: Any, _folder: Path) -> None:
        assert not set(run.about) & {*gpu.TIME_FRACTIONS, "networks", "profile", "power"}
        run.row("peaks", lambda: {"flops_per_s": 1e12}, what="float32")

    monkeypatch.setattr(gpu, "measure_all", measure)
    words = ["--device", "cpu", "--quick", "--name", "x", "--out", str(tmp_path)]
    assert gpu.main(words) == 0
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["peaks"] == [{"what": "float32", "flops_per_s": 1e12}]
    assert written["pytorch"]["version"] == torch.__version__
    assert "rehearsal on a processor" in (tmp_path / "x.md").read_text()


@pytest.mark.usefixtures("_scripts")
def test_a_gpu_that_is_not_here_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from agebench.runtimes.cuda_library import CudaDevices
    from agebench.timing import devices
    from benchmarks.gpu import main

    monkeypatch.setattr(devices, "find_devices", lambda: CudaDevices((), "no driver"))
    assert main(["--name", "x", "--out", str(tmp_path)]) == 1
    assert "no driver" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
