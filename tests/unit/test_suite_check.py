"""A stranger's entry: what was altered is found, what is right is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agebench.cli.suite import command
from agebench.errors import AgebenchError
from agebench.suite.check import check_submission
from agebench.suite.packed import pack_numbers, unpack_numbers
from tests.unit.suite_boards import made_model, made_set, write_made

TRUE = [float(age) for age in range(12, 72)]
AGES: list[float | None] = [age + (1.5 if at % 3 else -4.25) for at, age in enumerate(TRUE)]


@pytest.fixture
def board(tmp_path: Path) -> Path:
    one, ranges = _sets()
    models = [made_model("ours", {("one", ""): [30.0] * 60}, {"one": one})]
    write_made(tmp_path / "board", [one, ranges], models)
    return tmp_path / "board"


def _sets() -> tuple[dict[str, Any], dict[str, Any]]:
    one = made_set("one", TRUE, people=[at // 2 for at in range(60)])
    return one, made_set("ranges", ranges=[(20, 29)] * 60, kind="apparent")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    one, ranges = _sets()
    sets = {"one": one, "ranges": ranges}
    ages = {("one", ""): [None, *AGES[1:]], ("ranges", ""): AGES}
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(made_model("theirs", ages, sets)))
    return path


def test_what_is_right_is_taken(theirs: Path, board: Path) -> None:
    checked = check_submission(theirs, board)
    assert checked.problems == []
    assert checked.weights == [("net.onnx", "a" * 64)]
    (first, second) = checked.cells
    assert (first.set, first.pictures, first.rank) == ("one", 59, 1)
    assert second.set == "ranges"
    assert any("contamination can't be checked" in note for note in checked.notes)
    done = CliRunner().invoke(command, ["check", str(theirs), "--board", str(board)])
    assert done.exit_code == 0, done.output
    assert "all figures agree with its ages" in done.output


def _years(cell: dict[str, Any]) -> None:
    numbers = unpack_numbers(cell["years"], 60)
    numbers[5] += 100
    cell["years"] = pack_numbers(numbers)


@pytest.mark.parametrize(
    ("alter", "expected"),
    [
        (
            lambda cell: cell["errors"].update(mae_years=1.0),
            "one: errors.mae_years is stated as 1.0",
        ),
        (lambda cell: cell["errors"]["mae_interval"].__setitem__(0, 1.0), "errors.mae_interval[0]"),
        (lambda cell: cell["errors"]["cs"].update({"3": 1.0}), "errors.cs.3"),
        (lambda cell: cell["errors"].update(n=60), "errors.n is stated as 60"),
        (lambda cell: cell.update(missed=0), "missed is stated as 0, but its ages give 1"),
        (lambda cell: cell.update(contamination="no"), "contamination is stated as 'no'"),
        (_years, "errors.mae_years"),
    ],
)
def test_what_was_altered_is_found(
    theirs: Path, board: Path, alter: Callable[[dict[str, Any]], None], expected: str
) -> None:
    content = json.loads(theirs.read_text())
    alter(content["cells"][0])
    theirs.write_text(json.dumps(content))
    assert any(expected in line for line in check_submission(theirs, board).problems)
    done = CliRunner().invoke(command, ["check", str(theirs), "--board", str(board)])
    assert isinstance(done.exception, AgebenchError)


def test_of_changed_pictures_the_ages_are_enough(theirs: Path, board: Path) -> None:
    one, ranges = _sets()
    changed = {**one, "changed": True}
    places = {("one", ""): AGES, ("one", "gray"): AGES}
    model = made_model("theirs", places, {"one": one, "one.changed": changed})
    write_made(board, [one, ranges, changed], [model])
    plain, gray = model["cells"]
    for name in ("errors", "ranges"):
        del gray[name]
    assert check_submission(_written(theirs, model), board).problems == []
    numbers = unpack_numbers(gray["years"], 60)
    numbers[3] = -1
    gray["years"] = pack_numbers(numbers)
    assert "one gray: scored is stated as 60" in str(
        check_submission(_written(theirs, model), board).problems
    )
    del plain["errors"]
    with pytest.raises(AgebenchError, match="'errors'"):
        check_submission(_written(theirs, model), board)


def test_other_data_are_refused(theirs: Path, board: Path) -> None:
    content = json.loads(theirs.read_text())
    content["cells"][0]["content_sha256"] = "f" * 64
    theirs.write_text(json.dumps(content))
    with pytest.raises(AgebenchError, match="the pictures or labels differ"):
        check_submission(theirs, board)


def test_a_new_file_of_a_suspected_model_is_not_ranked(theirs: Path, board: Path) -> None:
    """Anyone who hands it in can't take the suspicion away: it stands in the board's own file."""
    one, ranges = _sets()
    models = [made_model("theirs", {("one", ""): AGES}, {"one": one})]
    write_made(board, [one, ranges], models, suspected={"theirs": {"one": "a reason"}})
    checked = check_submission(theirs, board)
    assert checked.problems == []
    assert [cell.rank for cell in checked.cells] == [None, 1]
    assert "one: suspected to have been trained on it: a reason" in checked.notes


def test_what_a_maintainer_must_look_at_is_told(theirs: Path, board: Path) -> None:
    one, ranges = _sets()
    copied = made_model("copied", {("one", ""): list(TRUE)}, {"one": one, "ranges": ranges})
    theirs.write_text(json.dumps(copied))
    notes = " ".join(check_submission(theirs, board).notes)
    assert "more than half of its ages are equal to the label" in notes
    assert "not measured on ranges" in notes


def test_contamination_is_judged_anew(tmp_path: Path, theirs: Path) -> None:
    utkface = made_set("utkface", TRUE, kind="dex-estimated")
    folder = tmp_path / "other"
    model = made_model("m", {("utkface", ""): AGES}, {"utkface": utkface}, ["utkface"])
    write_made(folder, [utkface], [model])
    assert check_submission(_written(theirs, model), folder).problems == []
    model["cells"][0]["contamination"] = ""
    (problem,) = check_submission(_written(theirs, model), folder).problems
    assert "its makers trained on UTKFace" in problem


def _written(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_a_file_is_on_the_page_once_it_is_listed(theirs: Path, board: Path) -> None:
    copied = board / "models" / "theirs.json"
    copied.write_bytes(theirs.read_bytes())
    done = CliRunner().invoke(command, ["page", str(board)])
    assert done.exit_code == 0, done.output
    assert done.stderr == (
        f"agebench: {copied} is not listed in board.json, and is not on the page: "
        "docs/leaderboard.md says how to list it\n"
    )
    assert "The model theirs" not in (board / "leaderboard.md").read_text()
    list_file = board / "board.json"
    content = json.loads(list_file.read_text())
    entry = {"name": "theirs", "title": "Theirs", "file": "theirs", "missing": {}}
    list_file.write_text(json.dumps({**content, "models": [*content["models"], entry]}))
    assert CliRunner().invoke(command, ["page", str(board)]).stderr == ""
    assert "The model theirs" in (board / "leaderboard.md").read_text()


def test_what_is_cut_off_says_what_to_do(theirs: Path, board: Path) -> None:
    theirs.write_text(theirs.read_text()[:200])
    with pytest.raises(AgebenchError) as refused:
        check_submission(theirs, board)
    message = str(refused.value)
    assert message.startswith(f"{theirs} is not a file of a leaderboard: not valid JSON: ")
    assert message.endswith(": make it again with 'agebench suite', or download it again")
    with pytest.raises(
        AgebenchError, match=r"gone\.json can't be read: No such file.*check the path"
    ):
        check_submission(theirs.with_name("gone.json"), board)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "model": "a"}', "\0"])
def test_what_is_no_entry_is_told(theirs: Path, board: Path, text: str) -> None:
    theirs.write_text(text)
    with pytest.raises(AgebenchError, match=r"theirs\.json"):
        check_submission(theirs, board)
