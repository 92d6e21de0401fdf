"""The ranking in the terminal: within its width, every caution at its row, no odd figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from agebench.harness.reading import read_result
from agebench.metrics.number_format import percent
from agebench.report.joining import Joined, join
from agebench.report.terminal_grids import full_grids
from agebench.report.terminal_ranking import ranking_lines, without_middle
from tests.unit.made_results import analysed

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]
AGES = np.arange(1.0, 61.0)

LONG = "onnx:/home/someone/models/2026/night/tiny-network.onnx@cv2dnn"


@pytest.fixture
def joined(write_result: Write, make_result: Make) -> Joined:
    content = make_result(
        {LONG: AGES + 2, "cheat": AGES, "\u5e74\u9f62" * 20: AGES + 9, "even": AGES}
    )
    cheat = content["estimators"][1]
    names = [image["picture"] for image in content["pictures"]]
    cheat["seen_in_training"] = {"what": "x", "count": 45, "pictures": names[:45]}
    content["analysis"] = analysed(content)
    return join([read_result(write_result(content=content))])


@pytest.mark.parametrize("width", [50, 80, 140])
def test_no_line_is_wider_than_the_terminal(joined: Joined, width: int) -> None:
    lines = [line.plain for line in ranking_lines(joined, width)]
    assert max(map(cell_len, lines)) <= width
    table = lines[: next((at for at, line in enumerate(lines) if "Too narrow" in line), None)]
    # Every estimator has a line of its own, whatever the width.
    assert sum(not line.startswith("  ") for line in table) == 2 + 4
    assert any("MAE" in line and "[95 %]" in line for line in lines[1:2])


def test_columns_without_room_are_named(joined: Joined) -> None:
    wide, narrow = ([line.plain for line in ranking_lines(joined, width)] for width in (140, 50))
    assert not any("Too narrow" in line for line in wide)
    hint = " ".join(narrow).partition("Too narrow for ")[2]
    omitted = hint.partition(". A wider")[0].split("; ")
    assert "ms" in omitted
    assert all(title in wide[1] and title not in narrow[1] for title in omitted)


def test_a_long_name_loses_its_middle_and_not_its_ends(joined: Joined) -> None:
    (line,) = (line.plain for line in ranking_lines(joined, 80) if line.plain.startswith("onnx"))
    assert line.split()[0].endswith("cv2dnn")
    assert ".." in line.split()[0]
    wide = [line.plain for line in ranking_lines(joined, 160)]
    assert any(line.startswith(LONG) for line in wide)


def test_runs_whose_names_end_alike_are_told_apart(write_result: Write, make_result: Make) -> None:
    runs = {
        f"torch:/home/me/runs/{name}/best.safetensors": AGES + 2 for name in ("first", "second")
    }
    joined = join([read_result(write_result(content=make_result({**runs, "a": AGES})))])
    names = [line.plain.split()[0] for line in ranking_lines(joined, 80)]
    assert {name[-8:] for name in names if name.startswith("torch")} == {"/first..", "second.."}


def test_a_caution_stands_below_its_row(joined: Joined) -> None:
    lines = [line.plain for line in ranking_lines(joined, 80)]
    at = next(at for at, line in enumerate(lines) if line.startswith("cheat"))
    assert "no verdict" in lines[at]
    assert lines[at + 1].startswith("  ! trained on 45 of its 60 pictures: no verdict; on the 15")
    assert lines[2].startswith("even")
    assert " best " in lines[2]


def test_no_figure_is_minus_nought(write_result: Write, make_result: Make) -> None:
    almost = AGES + np.resize([0.001, -0.0012], 60)
    joined = join([read_result(write_result(content=make_result({"a": almost, "b": AGES + 9})))])
    text = "\n".join(line.plain for line in ranking_lines(joined, 80))
    assert "-0.00" not in text
    assert "+0.00" not in text


@pytest.mark.parametrize("room", [8, 9, 20, 61])
def test_names_are_shortened_to_what_there_is(room: int) -> None:
    for name in (LONG, "\u5e74" * 50, "short"):
        short = without_middle(name, room)
        assert cell_len(short) <= room
        assert short[0] == name[0]
        assert short[-1] == name[-1]


def test_classes_of_an_estimator_without_any_are_adiences(
    write_result: Write, make_result: Make
) -> None:
    content = make_result()
    # Nor do classes of its own stand in the column: another one's are Adience's.
    wrong = {"n": 60, "n_in_gap": 0, "n_unclassified": 0, "exact": 0.0, "one_off": 0.0}
    next(item for item in content["estimators"] if item["name"] == "good")["classes"] = wrong
    joined = join([read_result(write_result(content=content))])
    stated = joined.analysis.estimators["good"].buckets
    assert stated is not None
    (shares,) = (grid for grid in full_grids(joined) if grid.columns[1].title == "CS@1")
    (row,) = ([cell.text for cell in row] for row in shares.rows if row[0].text == "good")
    assert row[5:] == [percent(stated.exact), percent(stated.one_off)]
    assert "-" not in row


def test_how_many_people_there_are_stands_beside_the_pictures(
    write_result: Write, make_result: Make
) -> None:
    titles = []
    for folder, people in (("few", ["ann", "bob"]), ("one", ["ann"]), ("unknown", [None])):
        content = make_result({"a": AGES + 1}, people=people * (60 // len(people)))
        joined = join([read_result(write_result(folder, content))])
        titles.append(next(ranking_lines(joined)).plain.removeprefix("Error in years on "))
    assert titles == ["60 pictures of 2 people", "60 pictures of 1 person", "60 pictures"]
