"""Calls of plug-ins that do not come back, close the streams or print past Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.cli.main import main
from agebench.errors import UsageError
from agebench.estimators.constant import Constant
from agebench.harness.accuracy import PassSettings, run_accuracy
from agebench.protocols import DetectorSpec
from agebench.registry.plugins import load_detector
from agebench.types import AgePrediction, Crops, Face, Image, Sample
from agebench.util import call_limit
from agebench.util.call_limit import (
    SECONDS_VARIABLE,
    NoAnswerError,
    limit_seconds,
    limited_by_default,
)
from agebench.util.foreign_code import foreign_code, found_faces

needs_timers = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="timers of Unix")


def _for_ever() -> None:
    while True:
        pass


def _sleeps() -> None:
    time.sleep(1e6)


def _swallows() -> None:
    try:
        _sleeps()
    except BaseException:  # as someone's code may
        _sleeps()


class Silent(Constant):
    """Does not come back from predict."""

    def __init__(self, hang: Callable[[], None]) -> None:
        super().__init__()
        self.calls = 0
        self._hang = hang

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        self.calls += 1
        self._hang()
        return []


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "0.2")
    monkeypatch.setattr("agebench.util.call_limit._AGAIN_S", 0.2)


@needs_timers
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("hang", [_for_ever, _sleeps, _swallows])
def test_the_others_finish_and_the_silent_one_is_left(
    hang: Callable[[], None], tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    PillowImage.new("RGB", (40, 40), "gray").save(path)
    samples = [Sample(path, f"{number}", age_years=30.0) for number in range(6)]
    how = PassSettings(batch_size=2, decode_threads=0, max_pixels=10_000)
    silent = Silent(hang)
    groups = run_accuracy(samples, load_detector("aligned"), [silent, Constant()], how)
    records = [record for group in groups for record in group]
    assert [item.outcomes[1].status for item in records] == ["ok"] * 6
    reasons = [item.outcomes[0].reason for item in records]
    assert "predict of constant did not return within 0.2 s" in reasons[0]
    assert "3 times and is no longer called" in reasons[-1]
    assert silent.calls == 3


@needs_timers
@pytest.mark.usefixtures("short")
def test_a_detector_too() -> None:
    class Asleep:
        spec = DetectorSpec("asleep")

        def detect(self, image_bgr: Image, /) -> list[Face]:
            _sleeps()
            return []

    with pytest.raises(NoAnswerError, match="detect of asleep did not return"):
        found_faces(Asleep(), np.zeros((4, 4, 3), np.uint8))


@needs_timers
@pytest.mark.usefixtures("short")
def test_a_timer_of_somebody_else_goes_on() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: rung.append(number))
    kept = signal.setitimer(signal.ITIMER_REAL, 1000.0)
    try:
        with foreign_code(object(), "call"):
            pass
        assert 900 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000
        assert signal.getsignal(signal.SIGALRM) is not before
    finally:
        signal.setitimer(signal.ITIMER_REAL, *kept)
        signal.signal(signal.SIGALRM, before)
    assert not rung


def test_off_in_python_on_in_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECONDS_VARIABLE, raising=False)
    assert limit_seconds() is None
    with limited_by_default():
        assert limit_seconds() == 300
    assert limit_seconds() is None
    monkeypatch.setenv(SECONDS_VARIABLE, "0")
    with limited_by_default():
        assert limit_seconds() is None
    for wrong in ("soon", "-1", "nan", "inf", "1e12"):
        monkeypatch.setenv(SECONDS_VARIABLE, wrong)
        with pytest.raises(UsageError, match="must be a number from 0"):
            limit_seconds()


def test_a_wrong_limit_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "soon")
    with pytest.raises(SystemExit) as ended:
        main(["ls"])
    assert ended.value.code == 2
    assert "AGEBENCH_CALL_SECONDS must be a number from 0" in capsys.readouterr().err


def _run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", program]
    return subprocess.run(  # noqa: S603 - a text of this file
        command, check=False, capture_output=True, text=True, timeout=1800
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="its mutex")
def test_native_code_that_does_not_come_back_ends_the_run() -> None:
    done = _run(
        "import ctypes, os\n"
        "os.environ['AGEBENCH_CALL_SECONDS'] = '0.2'\n"
        "from agebench.util import call_limit\n"
        "from agebench.util.foreign_code import foreign_code\n"
        "call_limit.GRACE_S = 0.2\n"
        "lock, system = ctypes.create_string_buffer(64), ctypes.CDLL(None)\n"
        "with foreign_code('mine', 'predict'):\n"
        "    system.pthread_mutex_lock(lock)\n"
        "    system.pthread_mutex_lock(lock)\n"
    )
    assert done.returncode == 1
    assert "agebench: predict of mine does not return and can't be interrupted" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="descriptors of Unix")
def test_nothing_that_a_plug_in_does_to_stdout_breaks_the_json() -> None:
    done = _run(
        "import os, sys\n"
        "from agebench.cli.main import main\n"
        "from agebench.estimators.constant import Constant\n"
        "predict = Constant.predict\n"
        "def noisy(self, crops):\n"
        "    print('by Python')\n"
        "    os.write(1, b'past\\x1b[31m Python\\n')\n"
        "    os.system('echo a child')\n"
        "    sys.stdout.close(), sys.stderr.close(), sys.__stdout__.close()\n"
        "    sys.stdout = sys.stderr = None\n"
        "    os.close(1)\n"
        "    return predict(self, crops)\n"
        "Constant.predict = noisy\n"
        "main(['compare', 'constant', '--dataset', 'sample', '--limit', '3',\n"
        "      '--latency-pictures', '0', '--json'])\n"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["total"] == 3
    assert "by Python" in done.stderr
    assert "message of a library: past\\x1b[31m Python" in done.stderr
    assert "a child" in done.stderr


class _Racing(call_limit._Running):
    """The alarm comes at the very end of a call, before that is noted down."""

    @property
    def ends_at(self) -> float | None:
        return self._ends_at

    @ends_at.setter
    def ends_at(self, value: float | None) -> None:
        over = value is None and getattr(self, "_ends_at", None) is not None
        if over and not self.raced:
            self.raced = True
            raise call_limit._Late
        self._ends_at = value

    raced = False


@needs_timers
def test_an_alarm_at_the_very_end_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "60")
    running, before = _Racing(), signal.getsignal(signal.SIGALRM)
    monkeypatch.setattr(call_limit, "_RUNNING", running)
    with pytest.raises(NoAnswerError), foreign_code(Constant(), "predict"):
        pass
    assert running.raced
    assert running.ends_at is None  # else the process would be ended half a minute later
    assert signal.getsignal(signal.SIGALRM) is before
