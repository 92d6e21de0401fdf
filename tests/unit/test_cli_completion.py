"""What a shell asks at Tab, in click's way: `_AGEBENCH_COMPLETE=bash_complete agebench`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

from agebench.cli.main import VERBS, main

Answer: TypeAlias = Callable[..., str]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def answer(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Answer:
    def ask(line: str, instruction: str = "bash_complete") -> str:
        words = line.split(" ")
        monkeypatch.setenv("_AGEBENCH_COMPLETE", instruction)
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        with pytest.raises(SystemExit) as stopped:
            main([])
        assert stopped.value.code == 0
        output = capsys.readouterr()
        assert output.err == ""
        return output.out

    return ask


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("agebench ", sorted(VERBS)),
        ("agebench co", ["compare", "convert-caffe"]),
        ("agebench compare --d", ["--dataset", "--detector", "--decode-threads"]),
        ("agebench no-such-verb --", ["--version", "--help"]),
        ("agebench compare multicrop-resnet-s", ["multicrop-resnet-small"]),
        ("agebench compare --dataset fg", ["fgnet"]),
        ("agebench predict --detector yo", ["yoloface-500k", "yolov8-face"]),
        ("agebench split X --protocol utkface-fu", ["utkface-full", "utkface-full-2"]),
        ("agebench report x --format tex,m", ["tex,md"]),
        ("agebench export-onnx --export-detector yolof", ["yoloface-500k"]),
    ],
)
def test_verbs_options_and_names_are_completed(
    answer: Answer, line: str, expected: list[str]
) -> None:
    found = [text.partition(",")[2] for text in answer(line).splitlines()]
    assert found == expected


def test_shells_show_the_same_words_as_the_help(answer: Answer) -> None:
    lines = answer("agebench ", "zsh_complete").splitlines()
    assert dict(zip(lines[1::3], lines[2::3], strict=True)) == VERBS


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_lines_of_the_quick_start_give_a_script(answer: Answer, shell: str) -> None:
    assert "agebench" in answer("agebench", f"{shell}_source")
