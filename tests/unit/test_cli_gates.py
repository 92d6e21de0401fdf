"""Checks on the command line: exit codes, one line, and everything still written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agebench.cli.main import main

# `constant` says 30 of the one picture of `demo`, who was 36.
COMPARE = ("compare", "constant", "constant years=35", "--dataset", "demo", "--detector", "haar")


def _run(*options: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*COMPARE, "--latency-pictures", "0", *map(str, options)])
    return int(caught.value.code or 0)


def test_a_failing_gate_exits_1_after_writing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = _run("--fail-if", "mae>5", "--fail-if", "constant years=35:mae>5", "--out", tmp_path)
    captured = capsys.readouterr()
    assert code == 1
    assert captured.err == "agebench: check failed: constant: mae is 6 (> 5)\n"
    assert "Error in years" in captured.out
    assert (tmp_path / "result.json").is_file()


def test_json_is_printed_before_the_gate_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--fail-if", "mae>5", "--json") == 1
    content = json.loads(capsys.readouterr().out)
    (pair,) = content["analysis"]["pairs"]
    assert (pair["n"], pair["p_value"], pair["difference_years"]) == (1, None, 5.0)


def test_gates_that_hold_exit_0(tmp_path: Path) -> None:
    assert _run("--fail-if", "mae>6", "--out", tmp_path) == 0
    assert _run("--baseline", tmp_path / "result.json", "--tolerance", "0") == 0


def test_a_better_baseline_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--out", tmp_path) == 0
    path = tmp_path / "result.json"
    stored = json.loads(path.read_text())
    stored["estimators"][0]["own_errors"]["mae_years"] = 5.0
    path.write_text(json.dumps(stored))
    capsys.readouterr()
    assert _run("--baseline", path) == 1
    assert "constant: MAE 6.000 is more than 0.1 above 5.000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--fail-if", "maee>5"), 2, "did you mean 'mae'"),
        (("--fail-if", "konstant:mae>5"), 2, "did you mean 'constant'"),
        (("--tolerance", "1"), 2, "needs a baseline"),
        (
            ("--baseline", "no/such.json"),
            1,
            "the baseline can't be used: there is no file",
        ),
    ],
)
def test_wrong_gates_stop_before_anything_runs(
    options: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(*options) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
