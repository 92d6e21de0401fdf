"""Ctrl-C at any moment of a command: a sentence and exit code 130, never a traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import ExtensionFileLoader
from typing import Any

import click
import pytest

from agebench.cli import signals
from agebench.cli.signals import held_interrupts
from agebench.util.foreign_code import foreign_code

door = import_module("agebench.cli.main")

pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread() or os.name != "posix",
    reason="signals come to the main thread of a POSIX system",
)


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """What a shell starts in its background is deaf to SIGINT; the tests are not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _press() -> None:
    signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def _pressed_around(before: int, after: int) -> Iterator[None]:
    for _ in range(before):
        _press()
    yield
    for _ in range(after):
        _press()


def _ended(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        door.main([*arguments])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return ended.value.code


def test_before_a_verb_it_ends_the_verb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(door, "caught_messages", lambda: _pressed_around(1, 0))
    assert _ended("ls") == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("agebench: interrupted: no incomplete file")


def test_after_a_verb_it_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(door, "caught_messages", lambda: _pressed_around(0, 1))
    assert _ended("ls") == 0
    assert capsys.readouterr().err == ""


def test_while_the_first_one_is_told_a_second_one_is_not_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def echo(*_given: Any, **_more: Any) -> None:
        monkeypatch.undo()
        _press()  # click writes a line end for the first one

    def interrupted(**_given: Any) -> None:
        monkeypatch.setattr(click.core, "echo", echo)
        _press()

    monkeypatch.setattr(door.cli, "invoke", lambda _context: interrupted())
    assert _ended("ls") == 130
    assert capsys.readouterr().err.endswith("no incomplete file was left\n")


def test_who_insists_ends_a_command_that_is_at_its_end() -> None:
    code = (
        "import signal\n"
        "from agebench.cli.signals import held_interrupts\n"
        "with held_interrupts(to_the_end=True) as interrupts:\n"
        "    with interrupts.heard():\n"
        "        pass\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "print('still here', flush=True)\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "print('not reached')\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - own
    assert (done.returncode, done.stdout, done.stderr) == (130, "still here\n", "")


def test_while_a_verb_runs_it_is_raised_each_time() -> None:
    with held_interrupts(to_the_end=False) as interrupts, interrupts.heard():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                _press()


def _loaded_module() -> None:
    try:
        _press()
    except KeyboardInterrupt as pressed:
        raise ImportError("initialization failed") from pressed


def test_a_module_that_makes_it_its_own_error_ends_the_verb_as_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As pybind11's do, where it is pressed while a verb loads its libraries."""
    monkeypatch.setattr(door.cli, "invoke", lambda _context: _loaded_module())
    assert _ended("ls") == 130
    assert capsys.readouterr().err.startswith("agebench: interrupted: no incomplete file")


def test_a_plugin_that_makes_it_its_own_error_is_not_to_blame() -> None:
    with (
        held_interrupts(to_the_end=False) as interrupts,
        interrupts.heard(),
        pytest.raises(KeyboardInterrupt),
        foreign_code(),
    ):
        _loaded_module()


def test_while_a_compiled_module_is_loaded_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would raise there goes through code that aborts the process, or calls it a fault."""
    loaded = []

    def load() -> None:  # what a compiled module runs of Python while it is made
        _press()
        time.sleep(0.1)  # it comes again meanwhile, and waits again
        loaded.append("whole")

    monkeypatch.setattr(signals, "_LOADERS", frozenset({load.__code__}))
    monkeypatch.setattr(signals, "_PATIENCE_S", 1800.0)  # however busy the machine is
    with held_interrupts(to_the_end=False) as interrupts, interrupts.heard():
        load()
        with pytest.raises(KeyboardInterrupt):
            _wait_for_it()
    assert loaded == ["whole"]


def _wait_for_it() -> None:
    while True:  # what hangs is ended by pytest
        time.sleep(0.01)


def test_a_module_that_is_never_loaded_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load() -> None:
        _press()
        _wait_for_it()

    monkeypatch.setattr(signals, "_LOADERS", frozenset({load.__code__}))
    monkeypatch.setattr(signals, "_PATIENCE_S", 0.1)
    with (
        held_interrupts(to_the_end=False) as interrupts,
        interrupts.heard(),
        pytest.raises(KeyboardInterrupt),
    ):
        load()


def test_loaders_are_those_of_compiled_modules() -> None:
    def found() -> bool:
        return signals._out_of_reach(sys._getframe())

    assert not found()
    seen: list[bool] = []

    class Spec:
        name = "made_up"

        @property
        def origin(self) -> str:
            seen.append(found())
            return "nowhere"

    with pytest.raises(ImportError):
        ExtensionFileLoader("made_up", "nowhere").create_module(Spec())  # type: ignore[arg-type]
    assert seen
    assert all(seen)


class _Finalized:
    def __del__(self) -> None:
        _press()


def test_in_finalizers_and_callbacks_it_waits(capsys: pytest.CaptureFixture[str]) -> None:
    """Python would print it with a traceback, and go on as if nothing had been pressed."""
    lock = import_module("importlib._bootstrap")._get_module_lock("made_up")
    (callback,) = (each.__callback__ for each in weakref.getweakrefs(lock))
    assert callback.__globals__["__name__"] in signals._OF_CALLBACKS
    assert weakref.WeakSet()._remove.__globals__["__name__"] in signals._OF_CALLBACKS  # type: ignore[attr-defined]
    with held_interrupts(to_the_end=False) as interrupts, interrupts.heard():
        _Finalized()
        with pytest.raises(KeyboardInterrupt):
            _wait_for_it()
    assert capsys.readouterr().err == ""


def test_an_end_that_is_asked_for_before_a_verb_begins_ends_the_verb(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Raised where the command is set up, it would be a traceback."""
    monkeypatch.setattr(signals, "_insist", lambda *_given: None)  # it ends the process
    with signals.orderly_ends() as ended:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(signals.Terminated, match="SIGTERM"), ended.heard():
            raise AssertionError("the verb has begun")
        signal.raise_signal(signal.SIGTERM)
    assert ended.code == 128 + signal.SIGTERM


def test_an_end_that_is_asked_for_behind_a_verb_changes_nothing_but_the_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signals, "_insist", lambda *_given: None)  # it ends the process
    with signals.orderly_ends() as ended:
        with ended.heard():
            pass
        signal.raise_signal(signal.SIGTERM)
    assert ended.code == 128 + signal.SIGTERM
