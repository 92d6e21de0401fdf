"""`agebench bench`: the whole way, the result's schema, hostile calls, and Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from agebench.benchmark.resources import Resources, measure_resources
from agebench.benchmark.result import BenchSettings
from agebench.benchmark.speed import bench
from agebench.benchmark.tables import print_bench
from agebench.cli.main import main
from agebench.errors import AgebenchError, DeviceError
from agebench.export.random_age_net import random_age_net
from agebench.protocols import RuntimeInfo
from agebench.registry.plugins import load_estimator
from agebench.runtimes.base import use_threads, wanted_threads, watch_models
from agebench.runtimes.threads import pinned
from agebench.timing.children import ask_child
from agebench.timing.roofline import Peaks, measure_peaks, roofline_ms
from agebench.timing.sweep_faces import generated_face
from agebench.types import Crops
from agebench.vision.opencv import cv2


def _schema() -> Any:
    return json.loads((resources.files("agebench.benchmark") / "bench.schema.json").read_text())


@pytest.fixture(scope="module")
def caffemodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "age_net.caffemodel"
    random_age_net(path, seed=0)
    return path


@pytest.mark.usefixtures("short_warm_up")
def test_the_whole_way(caffemodel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agebench.benchmark.speed.PROBE_SECONDS", 0.05)
    name = f"caffe-age-net:{caffemodel}"
    how = BenchSettings(batches=(1, 2), threads=1, repeats=2, cold_starts=1)
    result = bench([name, "constant"], out=tmp_path, settings=how)
    written = json.loads((tmp_path / "bench.json").read_text())
    jsonschema.validate(written, _schema())
    assert written["estimators"] == result.to_json()["estimators"]
    net, constant = written["estimators"]
    assert net["resources"]["parameters"] == 11_415_048
    assert net["resources"]["file_bytes"] == caffemodel.stat().st_size
    assert net["resources"]["network_batch"] == {"1": 1, "2": 2}
    assert net["resources"]["rss_before_bytes"] < net["resources"]["peak_rss_bytes"]["1"]
    assert [item["batch"] for item in net["batch_sweep"]] == [1, 2]
    one = net["batch_sweep"][0]
    assert one["n"] == len(one["samples_ms"]) == 2
    peaks = written["machine"]["peaks"]["cpu"]
    assert one["roofline_ms"] >= 2e3 * 709_253_120 / peaks["flops_per_s"] * 0.999
    assert one["infer_to_roofline"] == pytest.approx(
        one["stages"]["infer"]["p50_ms"] / one["roofline_ms"]
    )
    cold = {stage: times["samples_ms"][0] for stage, times in net["cold_start"].items()}
    parts = [cold[stage] for stage in ("process", "import", "load", "first")]
    assert min(parts) > 0
    assert cold["total"] == pytest.approx(sum(parts))
    assert constant["resources"]["macs_per_face"] == 0
    assert constant["batch_sweep"][0]["roofline_ms"] is None
    assert [item["verdict"] for item in written["comparisons"]] == ["no verdict"] * 2
    assert [item["reason"] for item in written["comparisons"]] == ["too few rounds"] * 2
    assert [item["batch"] for item in written["controls"]] == [1, 2]
    assert {item["name"] for item in written["controls"]} == {name}
    text = io.StringIO()
    print_bench(result, Console(file=text, width=80))
    assert "unverified" not in text.getvalue()
    lines = [line for line in text.getvalue().splitlines() if str(caffemodel) not in line]
    assert max(map(len, lines)) <= 80
    assert "11.4 M parameters, 709 MMAC per face" in text.getvalue()


@pytest.mark.usefixtures("short_probe", "short_warm_up")
def test_a_model_with_8_bit_numbers_has_no_roofline_of_float32() -> None:
    how = BenchSettings(batches=(1,), threads=1, repeats=1, cold_starts=0)
    written = bench(["multicrop-resnet-small", "multicrop-resnet"], settings=how).to_json()
    small, large = written["estimators"]
    assert small["spec"]["settings"]["precision"] == "int8"
    assert small["batch_sweep"][0]["roofline_ms"] is None
    assert large["batch_sweep"][0]["roofline_ms"] > 0
    others, dense = _resnet(1, 24, 64, 128) + _resnet(1, 24, 64, 96), 256 * (2 * 192 + 117)
    by_hand = [_resnet(2, 32, 128, 128) + 256 * 256, _mobilenet(160) + 1024 * 256]
    macs = [item["resources"]["macs_per_face"] for item in (small, large)]
    assert macs == pytest.approx([face + others + dense for face in by_hand], rel=0.001)


def _resnet(blocks: int, width: int, rows: int, columns: int) -> int:
    """Multiplications of a residual network of four stages (He et al. 2015), by hand."""
    rows, columns, inputs = rows // 2, columns // 2, width
    macs = rows * columns * width * 3 * 7 * 7
    rows, columns = rows // 2, columns // 2
    for stage in range(4):
        outputs = width << stage
        for block in range(blocks):
            if stage and not block:
                rows, columns = -(-rows // 2), -(-columns // 2)
            shortcut = inputs if inputs != outputs else 0
            macs += rows * columns * outputs * (9 * (inputs + outputs) + shortcut)
            inputs = outputs
    return macs


def _mobilenet(side: int) -> int:
    """The same of a MobileNet (Howard et al. 2017, table 1); 569 M with its classifier at 224."""
    side, inputs = side // 2, 32
    macs = side * side * 32 * 3 * 9
    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    for layer, outputs in enumerate([64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]):
        side //= strides.get(layer, 1)
        macs += side * side * inputs * (9 + outputs)
        inputs = outputs
    return macs


def test_ten_crops_are_counted_as_ten(caffemodel: Path, tmp_path: Path) -> None:
    reference = f"caffe-age-net:{caffemodel} crops=10 mean=channel"
    taken, _ = measure_resources(
        reference, RuntimeInfo("cv2dnn"), device=None, batches=[5], threads=1
    )
    assert taken.macs_per_face == 7_092_531_200
    assert taken.parameters == 11_415_048
    assert taken.network_batch == {5: 40}


def test_the_roofline_by_hand() -> None:
    peaks = Peaks(flops_per_s=1e9, bytes_per_s=1e8, threads=1, method="")
    # 4 outputs x 3 x 3 of 27 products each are 972 MACs, 1944 operations; 112 weights, 147 inputs.
    assert roofline_ms(972, 0, peaks) == pytest.approx(1.944e-3)
    taken = Resources(0, {}, None, 112, 972, 448, 588, 0, {}, ())
    assert taken.roofline_ms(1, peaks) == pytest.approx(1e3 * (448 + 588) / 1e8)
    busy = Peaks(1e8, 1e9, 1, "")
    assert taken.roofline_ms(10, busy) == pytest.approx(1e3 * 2 * 9720 / 1e8)
    assert Resources(0, {}, None, None, None, None, 0, 0, {}, ()).roofline_ms(1, peaks) is None
    assert peaks.at_least(busy) == Peaks(1e9, 1e9, 1, "")
    with pytest.raises(ValueError, match="above 0"):
        Peaks(0.0, 1.0, 1, "")


@pytest.mark.usefixtures("short_probe")  # of smaller arrays than test_the_whole_way's
def test_the_probe_measures_something() -> None:
    peaks = measure_peaks(1, seconds=0.01)
    assert peaks.flops_per_s > 1e8
    assert peaks.bytes_per_s > 1e8


def test_threads_are_set_and_put_back() -> None:
    before = cv2.getNumThreads()
    with pinned(1) as (threads, cores):
        assert (threads, cores, cv2.getNumThreads(), wanted_threads()) == (1, None, 1, 1)
    assert (cv2.getNumThreads(), wanted_threads()) == (before, None)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no pinning on this system")
def test_processors_are_pinned_and_put_back() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1, pin=True) as (_, cores):
        assert cores == [min(before)]
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_onnxruntime_gets_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from agebench.runtimes import onnx_runtime
    from agebench.runtimes.onnx_runtime import _options, import_onnxruntime

    monkeypatch.setattr(onnx_runtime, "wanted_threads", wanted_threads)  # not as for other tests
    with use_threads(3):
        assert _options(import_onnxruntime()).intra_op_num_threads == 3
    assert _options(import_onnxruntime()).intra_op_num_threads == 0


@pytest.mark.parametrize("threads", [None, 3])
def test_threads_of_onnxruntime_do_not_spin_after_a_run(threads: int | None) -> None:
    from agebench.runtimes.onnx_runtime import _options, import_onnxruntime

    with use_threads(threads):
        options = _options(import_onnxruntime())
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_torch_keeps_to_the_threads_it_was_opened_with(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="training needs PyTorch")
    from agebench.train.checkpoint import Checkpoint
    from agebench.train.inference import TrainedNetwork
    from agebench.train.losses import LOSSES
    from agebench.train.networks import build_network
    from agebench.train.settings import settings_from

    view = {"region": "chip", "size_hw": [32, 32], "backbone": {"depth": 10, "width": 4}}
    settings = settings_from({"model": {"views": {"face": view}, "dense": 8}}, "made")
    weights = build_network(settings.model, LOSSES[settings.loss.name].head).state_dict()
    averaged = {name: value.clone() for name, value in weights.items()}
    Checkpoint(settings, {"history": []}, {}, weights, averaged, {}).write(tmp_path / "a.st")
    with use_threads(3):
        network = TrainedNetwork.of(tmp_path / "a.st", "cpu")
    seen: list[int] = []
    network.model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    crops = Crops(
        {"face": np.zeros((1, 32, 32, 3), np.uint8)},
        {"face": np.ones(1, np.bool_)},
        {"face": np.zeros(1)},
    )
    network.probabilities(crops)
    assert (seen, torch.get_num_threads()) == ([3], before)


def test_models_are_watched_only_inside(caffemodel: Path) -> None:
    with watch_models() as models:
        estimator = load_estimator(f"caffe-age-net:{caffemodel}")
        models[0].runs.clear()
        estimator.predict(generated_face().cut(estimator.spec.crop, 3))
    assert models[0].source.path == caffemodel
    assert models[0].runs == [{"": (3, 3, 227, 227)}]
    load_estimator(f"caffe-age-net:{caffemodel}")
    assert len(models) == 1


def test_a_child_that_fails_gives_its_sentence() -> None:
    order = {"reference": "constant years=-1", "device": None, "batches": [1], "memory_of": "cpu"}
    with pytest.raises(AgebenchError, match=r"resources of constant years=-1: .*years must be"):
        ask_child("resources", order, threads=1)
    with pytest.raises(AgebenchError, match="no_such_task"):
        ask_child("no_such_task", {}, threads=1)


HOSTILE = [
    ("--batch 0", 2, "at least 1, got 0"),
    ("--batch -4", 2, "at least 1, got -4"),
    ("--batch 1,,2", 2, "whole numbers"),
    ("--batch 1.5", 2, "whole numbers"),
    ("--batch ٣", 2, "whole numbers"),
    ("--batch 1,1", 2, "given twice"),
    ("--batch 1000000000", 2, "GB of memory"),
    ("--batch 99999999999999999999", 2, "whole numbers"),
    ("--threads 0", 2, "threads must be at least 1"),
    ("--threads 1000000000", 2, "threads must be at most 1024"),
    ("--repeats 0", 2, "repeats must be at least 1"),
    ("--seconds nan", 2, "seconds must be"),
    ("--seconds 1 --repeats 1", 2, "exclude each other"),
    ("--cold-start -1", 2, "cold_starts must be"),
    ("--device tpu", 2, "unknown device 'tpu'"),
    ("--root .", 2, "--root needs --dataset"),
    ("constant", 2, "given twice"),
    ("--out /dev/null/x", 1, "can't be written to"),
    ("--detector nope", 2, "unknown detector 'nope'"),
]


@pytest.mark.parametrize(("words", "code", "sentence"), HOSTILE)
def test_hostile_calls(
    words: str, code: int, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["bench", "constant", *words.split()])
    said = capfd.readouterr()
    assert exited.value.code == code
    assert sentence in said.err
    assert "Traceback" not in said.err
    assert not said.out


def test_cuda_where_there_is_none(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_device: str) -> tuple[str, ...]:
        raise DeviceError("--device cuda asks for a CUDA device, this machine has none")

    monkeypatch.setattr("agebench.benchmark.speed.require_device", none)
    with pytest.raises(SystemExit) as exited:
        main(["bench", "constant", "--device", "cuda"])
    assert exited.value.code == 1
    assert capfd.readouterr().err.startswith("agebench: --device cuda asks for a CUDA device")


@pytest.mark.usefixtures("short_probe")
def test_json_is_all_that_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["bench", "constant", "--batch", "1", "--repeats", "1", "--cold-start", "0", "--json"])
    assert exited.value.code == 0
    written = json.loads(capfd.readouterr().out)
    jsonschema.validate(written, _schema())
    assert written["estimators"][0]["cold_start"] is None


@pytest.mark.usefixtures("short_probe")
def test_real_faces(tmp_path: Path) -> None:
    how = BenchSettings(batches=(2,), repeats=1, cold_starts=0)
    result = bench(["constant"], dataset="demo", detector="haar", settings=how)
    assert result.about["faces"]["pictures"] == len(result.about["faces"]["names"]) >= 1


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a child there")
def test_ctrl_c_ends_in_one_sentence_and_leaves_no_file(tmp_path: Path) -> None:
    # A job in the background ignores Ctrl-C, and so would its children.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from agebench.cli import main; main()"
    out_folder = tmp_path / "out"
    words = f"bench constant --batch 1000 --seconds 3000 --cold-start 0 --out {out_folder}".split()
    child = subprocess.Popen(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while not out_folder.exists() and child.poll() is None:
            time.sleep(0.05)
        time.sleep(1)
        os.killpg(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=1800)
    finally:
        child.kill()
    assert child.returncode == 130
    assert err.strip().startswith("agebench: interrupted")
    assert "Traceback" not in out + err
    assert not out_folder.exists()
