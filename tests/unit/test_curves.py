"""The plot of a run: what is read from the logs, and that a file comes out whole."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from agebench.errors import AgebenchError, UsageError
from agebench.trainer.curves import draw_curves, read_curves, running_median

STEPS = "step,epoch,loss,learning_rate\n"
EPOCHS = "epoch,step,jump,val_mae,val_mae_ema,decision\n"


def _logs(folder: Path, steps: str, epochs: str = "") -> tuple[Path, Path]:
    first, second = folder / "steps.csv", folder / "epochs.csv"
    first.write_bytes((STEPS + steps).encode())
    second.write_bytes((EPOCHS + epochs).encode())
    return first, second


def _run(folder: Path) -> tuple[Path, Path]:
    """Twelve epochs of 50 steps, made up: two cuts, then stable."""
    generator = np.random.default_rng(0)
    steps, epochs = "", ""
    rate = 3e-3
    for number in range(12):
        jump = "" if number == 0 else f"{0.2 * math.exp(-number / 4):.6f}"
        for step in range(number * 50, number * 50 + 50):
            wave = 0.6 * math.exp(-(step % 50) / 10) * (number > 0)
            loss = 6 * math.exp(-step / 150) + 3 + wave + generator.normal(0, 0.2)
            steps += f"{step},{number},{loss:.6f},{rate:g}\n"
        decision = {4: "cut", 8: "cut", 11: "stable"}.get(number, "go on")
        mae = 5 + 5 * math.exp(-number / 2)
        epochs += f"{number},{number * 50 + 50},{jump},{mae + 0.3:.4f},{mae:.4f},{decision}\n"
        rate *= 0.3 if decision == "cut" else 1
    return _logs(folder, steps, epochs)


def test_the_logs_are_read_number_for_number(tmp_path: Path) -> None:
    epochs = "0,2,,9.5,,go on\n1,4,-0.25,8.5,8.25,stable\n"
    curves = read_curves(
        *_logs(tmp_path, "0,0,4.5,0.1\n1,0,4,0.1\n2,1,3.5,0.01\n3,1,3,0.01\n", epochs)
    )
    assert curves.steps.tolist() == [0, 1, 2, 3]
    assert curves.losses.tolist() == [4.5, 4.0, 3.5, 3.0]
    assert curves.rates.tolist() == [0.1, 0.1, 0.01, 0.01]
    assert curves.ends.tolist() == [2, 4]
    assert np.isnan(curves.jumps[0])
    assert curves.jumps[1] == -0.25
    assert curves.maes.tolist() == [9.5, 8.5]
    assert np.isnan(curves.maes_ema[0])
    assert curves.decisions == ("go on", "stable")


def test_columns_may_come_in_any_order_with_more_of_them(tmp_path: Path) -> None:
    steps, epochs = _logs(tmp_path, "")
    steps.write_text("loss,seconds,learning_rate,step,epoch\n4.5,9,0.1,7,0\n")
    assert read_curves(steps, epochs).steps.tolist() == [7]
    assert read_curves(steps, epochs).losses.tolist() == [4.5]


def test_steps_written_again_after_a_break_count_once(tmp_path: Path) -> None:
    curves = read_curves(*_logs(tmp_path, "0,0,5,1\n1,0,4,1\n2,0,9,1\n1,0,4.5,1\n2,0,4.25,1\n"))
    assert curves.steps.tolist() == [0, 1, 2]
    assert curves.losses.tolist() == [5, 4.5, 4.25]


def test_a_line_cut_off_by_a_break_is_left_out(tmp_path: Path) -> None:
    curves = read_curves(*_logs(tmp_path, "0,0,5,1\n1,0,4", "0,1,,9,9,go on\n1,2,0.1"))
    assert curves.steps.tolist() == [0]
    assert curves.decisions == ("go on",)


@pytest.mark.parametrize("name", ["curves.png", "curves.svg", "CURVES.PNG"])
def test_a_picture_comes_out_and_is_the_same_each_time(tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib", reason="curves need matplotlib (pip install agebench[train])")
    logs = _run(tmp_path)
    target = tmp_path / name
    draw_curves(*logs, target, threshold=0.05)
    first = target.read_bytes()
    assert first.startswith(b"\x89PNG" if name.lower().endswith("png") else b"<?xml")
    assert len(first) > 10_000
    draw_curves(*logs, target, threshold=0.05)
    assert target.read_bytes() == first
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(
        [name, "epochs.csv", "steps.csv"]
    )


def test_the_svg_names_each_decision_where_it_fell(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="curves need matplotlib (pip install agebench[train])")
    logs = _run(tmp_path)
    draw_curves(*logs, tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    assert text.count("<!-- cut -->") == 2
    assert text.count("<!-- stable -->") == 1
    assert text.count("<!-- best 5.02 -->") == 1
    assert "go on" not in text


@pytest.mark.parametrize(
    "epochs", ["", "0,1,,,,go on\n", "0,1,,9,,go on\n", "0,1,,,9,change structure\n"]
)
def test_a_run_that_has_just_begun_can_be_drawn(tmp_path: Path, epochs: str) -> None:
    pytest.importorskip("matplotlib", reason="curves need matplotlib (pip install agebench[train])")
    draw_curves(*_logs(tmp_path, "0,0,5,0\n", epochs), tmp_path / "curves.png", threshold=0.05)
    assert (tmp_path / "curves.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("steps", "epochs", "message"),
    [
        ("", "", "contains no steps yet"),
        ("0,0,x,1\n", "", "line 2: expected a number as loss, got 'x'"),
        ("0,0,5,1\n1,0,nan,1\n", "", "line 3: expected a number as loss, got 'nan'"),
        (",0,5,1\n", "", "expected a number as step, got ''"),
        ("0,0,5\n", "", "line 2: expected 4 cells, got 3"),
        ("0,0,5,1\n", "0,1,0.1,9,9,halt\n", "line 2: expected a decision"),
        ("0,0,5,1\n", "0,1,big,9,9,cut\n", "expected a number as jump"),
        ('0,0,"5,1\n', "", "line 2"),
    ],
)
def test_damaged_logs_are_named_with_the_line(
    tmp_path: Path, steps: str, epochs: str, message: str
) -> None:
    with pytest.raises(AgebenchError, match=message):
        read_curves(*_logs(tmp_path, steps, epochs))


def test_files_that_are_no_logs(tmp_path: Path) -> None:
    steps, epochs = _logs(tmp_path, "0,0,5,1\n")
    with pytest.raises(AgebenchError, match="can't be read"):
        read_curves(tmp_path / "none.csv", epochs)
    with pytest.raises(AgebenchError, match="no column jump"):
        read_curves(steps, steps)
    epochs.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AgebenchError, match="can't be read"):
        read_curves(steps, epochs)
    epochs.write_bytes(b"")
    with pytest.raises(AgebenchError, match="no column epoch"):
        read_curves(steps, epochs)


def test_where_it_is_written_is_checked_first(tmp_path: Path) -> None:
    logs = _logs(tmp_path, "0,0,5,1\n")
    with pytest.raises(UsageError, match=r"\.png or \.svg, got 'curves.pdf'"):
        draw_curves(*logs, tmp_path / "curves.pdf")
    with pytest.raises(AgebenchError, match="does not exist"):
        draw_curves(*logs, tmp_path / "none" / "curves.png")


def test_the_running_median_ignores_a_single_odd_value() -> None:
    values = np.array([1.0, 1.0, 50.0, 1.0, 1.0])
    assert running_median(values, 3).tolist() == [1.0] * 5
    assert running_median(values, 1).tolist() == values.tolist()
