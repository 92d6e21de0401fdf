"""The one door for models that strangers made: a process of its own goes first, with limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.cli.main import main
from agebench.errors import AgebenchError, UsageError
from agebench.harness import trial
from agebench.registry.plugins import DETECTORS
from agebench.timing import children
from agebench.timing.children import ChildDiedError

DIES = "trial of it crashed (SIGSEGV), exit code -11"


@pytest.fixture
def died(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Have every trial die, and note what was tried."""
    asked: list[dict[str, Any]] = []

    def die(task: str, order: dict[str, Any], **limits: Any) -> None:
        asked.append({"task": task, **order, **limits})
        raise ChildDiedError(DIES)

    monkeypatch.setattr(trial, "ask_child", die)
    return asked


VERBS = {
    "predict": ("predict", "{picture}", "--estimator", "{model}"),
    "check-spec": ("check-spec", "{model}"),
    "check-spec detector": ("check-spec", "{none}", "{picture}", "--detector", "{finder}"),
    "predict detector": ("predict", "{picture}", "--detector", "{finder}"),
    "export-onnx": ("export-onnx", "{caffe}", "-o", "{out}.onnx"),
    "export-onnx detector": ("export-onnx", "--detector", "{darknet}", "-o", "{out}.onnx"),
    "bench": ("bench", "{model}"),
    "fit-years": ("fit-years", "{model}", "--dataset", "demo", "--protocol", "x", "-o", "{out}"),
    "compare detector": ("compare", "constant", "--dataset", "demo", "--detector", "{finder}"),
    "prepare detector": ("prepare", "--dataset", "demo", "--detector", "{finder}", "-o", "{out}"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_sends_a_child_ahead(
    verb: str,
    died: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "strange.file"
    file.write_bytes(b"strange")
    picture = tmp_path / "a.png"
    PillowImage.new("RGB", (32, 32)).save(picture)
    names = {
        "model": f"onnx:{file}",
        "caffe": f"caffe-age-net:{file}",
        "finder": f"yunet:{file}",
        "darknet": f"yoloface-500k:{file}",
        "picture": str(picture),
        "none": f"spec:{tmp_path / 'none.toml'}",
        "out": str(tmp_path / "out"),
    }
    with pytest.raises(SystemExit) as ended:
        main([word.format(**names) for word in VERBS[verb]])
    assert ended.value.code == 1
    assert DIES in capsys.readouterr().err
    (asked,) = died
    assert asked["task"] == "trial"
    assert asked["timeout_s"] == trial.TRIAL_SECONDS
    assert asked["memory_bytes"] == trial.TRIAL_MEMORY_GB * 1e9
    assert not (tmp_path / "out").exists()


def test_models_without_a_path_need_no_child(died: list[dict[str, Any]], tmp_path: Path) -> None:
    trial.try_models(["constant", None, f"onnx:{tmp_path}/nothing.onnx"], ["yunet"])
    assert died == []


@pytest.mark.parametrize("text", ["0", "-1", "much", "nan", "inf"])
@pytest.mark.parametrize("variable", [trial.SECONDS_VARIABLE, trial.MEMORY_VARIABLE])
def test_the_limits_are_the_users(
    variable: str,
    text: str,
    died: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "a.onnx"
    file.touch()
    monkeypatch.setenv(variable, "2.5")
    assert trial.crash_of(f"yunet:{file}", DETECTORS) == DIES
    assert 2.5 in {died[0]["timeout_s"], died[0]["memory_bytes"] / 1e9}
    monkeypatch.setenv(variable, text)
    with pytest.raises(UsageError, match=f"{variable} must be a number above 0"):
        trial.crash_of(f"yunet:{file}", DETECTORS)


def test_what_takes_too_much_memory_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    hungry = "import time; x = b'x' * 300_000_000; time.sleep(120)"
    monkeypatch.setattr(children, "_CODE", hungry)
    with pytest.raises(ChildDiedError, match=r"more than 0\.2 GB"):
        children.ask_child("trial", {}, threads=1, memory_bytes=2e8)


def test_a_crash_is_named_by_its_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_CODE", "import os; os.abort()")
    with pytest.raises(ChildDiedError, match=r"crashed \(SIGABRT\), exit code -6"):
        children.ask_child("trial", {}, threads=1, memory_bytes=2e9)


def test_what_fails_in_a_sentence_is_left_to_the_verb(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AgebenchError("no such option")

    monkeypatch.setattr(trial, "ask_child", fail)
    file = tmp_path / "a.onnx"
    file.write_bytes(np.zeros(3).tobytes())
    assert not trial.crash_of(f"onnx:{file}")
