"""Code of others: what it raises, prints, forks or writes ends no more than its own call."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.cli.main import cli, main
from agebench.errors import AgebenchError, ContractError, error_text
from agebench.estimators.constant import Constant
from agebench.harness.accuracy import PassSettings, run_accuracy
from agebench.prediction.lines import LineFile
from agebench.prediction.predictor import AgePredictor
from agebench.protocols import DetectorSpec, EstimatorSpec
from agebench.registry.plugins import load_detector, named_estimator
from agebench.types import AgePrediction, Crops, Face, Image, Sample
from agebench.util.foreign_code import foreign_code, found_faces
from agebench.util.progress import progress_bars


class Odd(BaseException):
    """Neither an Exception nor an exit."""


class UnspeakableError(Exception):
    """Fails at saying what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Raises(Constant):
    """Raises in every call."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        raise self._error


FAILURES = [SystemExit(0), GeneratorExit(), Odd("odd"), UnspeakableError(), RuntimeError("usual")]


@pytest.mark.parametrize("error", FAILURES[:3])
def test_what_ends_programs_ends_a_call(error: BaseException) -> None:
    told = f"third-party code raised {type(error).__name__}"
    with pytest.raises(ContractError, match=told), foreign_code():
        raise error


def test_ctrl_c_is_the_user() -> None:
    with pytest.raises(KeyboardInterrupt), foreign_code():
        raise KeyboardInterrupt


def test_prints_leave_stdout_to_results(capsys: pytest.CaptureFixture[str]) -> None:
    with foreign_code():
        sys.stdout.write("hello")
    sys.stdout.write("{}")
    assert capsys.readouterr() == ("{}", "hello")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_was_forked_does_not_go_on_with_the_run() -> None:
    child = 1
    with foreign_code():
        child = os.fork()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 70


def test_an_exception_without_words_is_named() -> None:
    assert error_text(UnspeakableError()) == "UnspeakableError: (its message is not available)"


@pytest.mark.parametrize("error", FAILURES)
def test_the_other_contenders_finish(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PillowImage.new("RGB", (40, 40), "gray").save(path)
    samples = [Sample(path, name, age_years=30.0) for name in ("a", "b")]
    how = PassSettings(batch_size=2, decode_threads=0, max_pixels=10_000)
    contenders = [Raises(error), Constant()]
    (records,) = run_accuracy(samples, load_detector("aligned"), contenders, how)
    assert [item.outcomes[0].status for item in records] == ["estimator_failed"] * 2
    assert [item.outcomes[1].status for item in records] == ["ok"] * 2


@pytest.mark.parametrize("error", FAILURES)
def test_faces_without_any_age_are_no_success(error: BaseException) -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    answer = AgePredictor(Raises(error), detector="aligned").predict_image(black)
    assert answer.status == "estimator_failed"
    assert answer.reason.startswith("no estimator gave an age for any face: ")
    assert len(answer.faces) == 1
    both = AgePredictor([Raises(error), "constant years=30"], detector="aligned")
    assert both.predict_image(black).status == "ok"


def test_a_spec_that_cannot_be_read_is_a_sentence() -> None:
    class NoSpec(Constant):
        @property
        def spec(self) -> EstimatorSpec:
            raise OSError("gone")

    with pytest.raises(ContractError, match=r"NoSpec.*spec.*OSError: gone"):
        named_estimator(NoSpec())


class Paints:
    """A detector that draws into the picture it is given."""

    def __init__(self) -> None:
        self.spec: DetectorSpec = load_detector("aligned").spec

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        image_bgr[:] = 255
        return [Face((0.0, 0.0, 20.0, 20.0), 1.0)]


def test_a_detector_cannot_change_what_is_measured() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ContractError, match=r"'aligned': .*read-only: detect must not change"):
        found_faces(Paints(), black)
    assert not black.any()
    answer = AgePredictor("constant", detector=Paints()).predict_image(black)
    assert answer.status == "detector_failed"


class Gives:
    """A detector whose answer a test chooses."""

    spec = DetectorSpec("mine")

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def detect(self, _image_bgr: Image, /) -> Sequence[Face]:
        answer: Sequence[Face] = self._answer()
        return answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: [(0, 0, 9, 9)], "detect must return Face values, got tuple: use agebench.Face"),
        (lambda: None, "detect must return a list of agebench.Face, got NoneType"),
        (lambda: Face((0, 0, 9, 9), 1.0), "detect must return a list of agebench.Face, got Face"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: [Face((0, 0, 9), 1.0)], "ValueError: box must be 4 numbers, got (0, 0, 9)"),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_what_is_wrong_with_a_detector_is_said_with_its_name(
    answer: Callable[[], Any], said: str
) -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    named = f"detector 'mine': {said}"
    with pytest.raises(ContractError, match=f"^{re.escape(named)}$"):
        found_faces(Gives(answer), black)
    picture = AgePredictor("constant", detector=Gives(answer)).predict_image(black)
    assert (picture.status, picture.reason) == ("detector_failed", named)


def test_short_memory_is_not_the_detectors_fault() -> None:
    def exhausted() -> Any:
        raise MemoryError

    with pytest.raises(MemoryError):
        found_faces(Gives(exhausted), np.zeros((64, 64, 3), np.uint8))


class Bare(Constant):
    """Gives what a test chooses for each face."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self._answer = answer

    def predict(self, crops: Crops, /) -> list[AgePrediction]:
        return [self._answer] * len(crops)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (np.float64(30), "predict must return AgePrediction values, got float64"),
        (AgePrediction(30.0, np.ones(5) / 5), "a prediction with probabilities needs spec.bins"),
    ],
)
def test_what_is_wrong_with_ages_is_said_with_the_estimators_name(answer: Any, said: str) -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    picture = AgePredictor(Bare(answer), detector="aligned").predict_image(black)
    assert picture.status == "estimator_failed"
    assert f"estimator 'constant': {said}" in picture.reason


def test_an_estimator_cannot_change_what_others_see() -> None:
    crops = Crops(
        {"face": np.zeros((1, 4, 4, 3), np.uint8)},
        {"face": np.ones(1, np.bool_)},
        {"face": np.zeros(1)},
    )
    for array in (crops.views["face"], crops.present["face"], crops.outside["face"]):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1


@pytest.mark.parametrize("error", [*FAILURES, KeyError("k")])
def test_the_command_never_ends_as_if_it_had_done_all(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(**_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(cli, "main", run)
    with pytest.raises(SystemExit) as ended:
        main(["info"])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("agebench: ")
    assert said.count("\n") == 1
    assert "not finished" in said


def test_results_whose_file_is_removed_are_not_a_success(tmp_path: Path) -> None:
    record = {"picture": "a", "detector": "aligned", "estimators": ["constant"]}
    path = tmp_path / "out.jsonl"
    with LineFile(path, "aligned", ("constant",)) as lines:
        lines.append(record)
        path.unlink()
        with pytest.raises(
            AgebenchError, match="was removed or replaced while it was being written"
        ):
            lines.append(record)


@pytest.mark.parametrize(
    "error", [click.exceptions.Abort(), RuntimeError("can't start new thread")]
)
def test_want_of_threads_is_no_interruption(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(**_: object) -> NoReturn:
        def refuse(_: threading.Thread) -> NoReturn:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        raise error

    monkeypatch.setattr(cli, "main", run)
    with pytest.raises(SystemExit) as ended:
        main(["info"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("agebench: no more threads can be started: ")


def test_streams_come_back_when_calls_overlap() -> None:
    """The first that began ends first: what the second found is not put back."""
    out, err = sys.stdout, sys.stderr
    inside, go_on = threading.Event(), threading.Event()

    def second() -> None:
        with foreign_code():
            inside.set()
            go_on.wait()

    thread = threading.Thread(target=second)
    with foreign_code():
        thread.start()
        assert inside.wait()
    assert sys.stdout is not out  # the second is still at it
    go_on.set()
    thread.join()
    assert sys.stdout is out
    assert sys.stderr is err


class _Screen(io.StringIO):
    """A terminal, as far as a progress bar can tell."""

    def isatty(self) -> bool:
        return True


def test_a_bar_that_is_drawn_meanwhile_is_drawn_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Drawn into its own stand-in for stderr, it would print itself above itself, without end."""
    screen = _Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bars() as step:
        step("pictures", 1, 3)
        with foreign_code():
            time.sleep(0.3)  # drawn ten times a second, by a thread
            step("pictures", 2, 3)
            print("a word of theirs")  # noqa: T201 - as a plug-in might
    assert screen.getvalue().count("\n") == 2  # their line, and the bar's when all is done
    assert "a word of theirs\n" in screen.getvalue()
