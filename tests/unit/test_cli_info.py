"""`agebench info`: says what is there, and what is broken, and never fails over it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from agebench.cli import info
from agebench.cli.main import main
from agebench.modelfiles.manifest import load_manifest
from agebench.registry.plugins import DETECTORS, Plugin
from agebench.runtimes import cuda_library, device_timer
from agebench.runtimes.cuda_library import CudaDevices

Capture = pytest.CaptureFixture[str]

MIRROR = "https://me:password@mirror.example"


def run(capsys: Capture, *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["info", *words])
    assert stopped.value.code == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def described(capsys: Capture) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(capsys, "--json"))
    return found


def test_it_says_what_is_there(capsys: Capture, tmp_path: Path) -> None:
    found = described(capsys)
    assert found["machine"]["python"] == sys.version.split()[0]
    assert found["machine"]["cores"] >= 1
    assert found["packages"]["numpy"] == version("numpy")
    assert "agebench" not in found["packages"]
    states = {state["name"]: state for state in found["runtimes"]}
    assert list(states) == ["cv2dnn", "onnxruntime", "torch"]
    assert states["onnxruntime"]["devices"]["cpu"] == ""
    files = found["model_files"]
    assert set(files["files"]) == set(load_manifest())
    assert files["files"]["multicrop-resnet.onnx"] is True
    assert files["files"]["age_net.caffemodel"] is False
    assert files["cache_folder"] == os.environ["AGEBENCH_CACHE"]
    assert files["mirror_is_set"] is False


def test_the_mirrors_address_is_not_shown(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGEBENCH_MIRROR", MIRROR)
    for words in ((), ("--json",)):
        assert "password" not in run(capsys, *words)
    assert described(capsys)["model_files"]["mirror_is_set"] is True


def test_what_can_not_be_imported_is_said(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules makes an import fail, as a missing package does.
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "agebench.vision.opencv", raising=False)
    monkeypatch.setitem(sys.modules, "cv2", None)
    found = described(capsys)
    states = {state["name"]: state for state in found["runtimes"]}
    for name, word in (("cv2dnn", "OpenCV can't be imported"), ("onnxruntime", "pip install")):
        assert word in states[name]["reason"]
        assert states[name]["version"] == ""
        assert states[name]["devices"] == {}
    assert found["machine"]["processor"]


def test_whatever_a_library_raises_is_said(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> info.RuntimeState:
        raise OSError("libfoo.so.1: wrong ELF class\x1b[31m")

    def absent() -> info.RuntimeState:
        raise PackageNotFoundError("torch")

    monkeypatch.setattr(info, "_RUNTIMES", {"cv2dnn": broken, "torch": absent})
    monkeypatch.setattr(info, "_machine", lambda: 1 / 0)
    out = run(capsys)
    assert "cv2dnn: OSError: libfoo.so.1: wrong ELF class\\x1b[31m" in out
    assert "torch: not installed" in out
    assert "reason: ZeroDivisionError: division by zero" in out


def test_what_never_ran_on_a_gpu_is_said(capsys: Capture) -> None:
    assert described(capsys)["gpu_measurement"].startswith("not tested on a GPU")
    assert "times and memory of GPUs: not tested on a GPU" in run(capsys)
    page = Path(__file__).resolve().parents[2] / "docs" / "latency.md"
    assert "None of this has been run on a GPU yet" in page.read_text(encoding="utf-8")
    for module in (cuda_library, device_timer):
        assert "Not yet run on a GPU" in str(module.__doc__)


def test_torch_is_loaded_only_where_there_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "version", lambda _: "2.9")
    monkeypatch.setattr(info, "find_devices", lambda: CudaDevices((), "no driver"))
    monkeypatch.setattr(info, "_ASK_TORCH", "raise SystemExit('was loaded')")
    assert info._torch().devices == {"cpu": "", "cuda": "no driver"}
    monkeypatch.setattr(info, "find_devices", lambda: CudaDevices(("A100",)))
    assert info._torch().devices["cuda"] == "torch can't be loaded: was loaded"
    monkeypatch.setattr(info, "_ASK_TORCH", "print('')")
    assert info._torch().devices["cuda"] == ""


def test_plugins_of_others_are_named(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = Plugin(DETECTORS, "theirs", "nowhere.at.all:X", "their-package", "2.1")
    own = Plugin(DETECTORS, "haar", "nowhere.at.all:Y", "agebench", "0")
    monkeypatch.setattr(info, "list_plugins", lambda group: [own, theirs] * (group == DETECTORS))
    assert [plugin["name"] for plugin in described(capsys)["plugins"]] == ["theirs"]
    assert "agebench.detectors: theirs of their-package 2.1" in run(capsys)


def test_it_loads_neither_torch_nor_any_plugin() -> None:
    script = (
        "import sys\n"
        "from agebench.cli.main import main\n"
        "try: main(['info'])\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "loaded = [n for n in sys.modules if n.partition('.')[0] in {'torch', 'skimage', 'scipy'}\n"
        "          or n.startswith(('agebench.estimators.', 'agebench.detectors.'))]\n"
        "assert not loaded, loaded\n"
    )
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, check=False, capture_output=True, text=True)  # noqa: S603  (ours)
    assert done.returncode == 0, done.stderr
    assert "mirror: not set" in done.stdout
