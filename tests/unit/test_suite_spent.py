"""What a suite's cells took: kept beside each result, summed up by set, and in no page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agebench.cli.suite import command
from agebench.errors import AgebenchError, UsageError
from agebench.harness.results import RESULT_FILE
from agebench.suite.leaderboard import make_leaderboard
from agebench.suite.plan import read_plan
from agebench.suite.run import RunOptions
from agebench.suite.spent import SPENT_FILE, spent_by_set, total, write_spent
from agebench.timing.stage_seconds import STAGES
from tests.unit.suite_boards import made_suite


def _result(out: Path, place: str) -> Path:
    folder = out / "results" / place
    folder.mkdir(parents=True)
    (folder / RESULT_FILE).write_text("{}")
    return folder


def test_cells_are_summed_by_set(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    stages = {"decode": 1.0, "detect": 2.0, "near copies": 0.5, "crop": 0.25, "infer": 4.0}
    write_spent(_result(here, "faces/as-is/a-1"), 10, 8.0, stages)
    write_spent(_result(there, "faces/as-is/b-1"), 10, 7.0, {**stages, "decode": 0.0})
    write_spent(_result(there, "faces/gray/a-1"), 4, 20.0, {**dict.fromkeys(STAGES, 1.0)})
    _result(there, "faces/blur=2/a-1")  # of a version that did not say
    # The same cell in two folders counts once, by the one that says what it took.
    _result(here, "faces/as-is/b-1")
    parts = spent_by_set([here, there])
    as_is, changed = parts["faces"], parts["faces, changed"]
    assert (as_is.cells, as_is.untimed, as_is.pictures) == (2, 0, 20)
    assert as_is.seconds == {**{k: 2 * v for k, v in stages.items()}, "decode": 1.0, "rest": 0.5}
    assert (changed.cells, changed.untimed, changed.seconds["rest"]) == (1, 1, 15.0)
    assert total(parts).whole_seconds == 35.0
    done = CliRunner().invoke(command, ["spent", str(here), str(there)])
    assert done.exit_code == 0, done.output
    table = [[part.strip() for part in line.split("|")[1:-1]] for line in done.output.splitlines()]
    assert table[0] == ["set", "cells", "pictures", *STAGES, "rest", "all, s"]
    assert table[3] == ["faces, changed", "1 of 2", "4", *["1.0"] * 5, "15.0", "20.0"]
    assert table[4][:4] == ["all", "3 of 4", "24", "2.0"]
    assert table[5][3:9] == ["6", "14", "6", "4", "26", "44"]
    as_json = CliRunner().invoke(command, ["spent", str(here), str(there), "--json"])
    assert json.loads(as_json.stdout)["all"]["pictures"] == 24


def test_a_suite_says_what_each_cell_took(tmp_path: Path) -> None:
    suite, out = made_suite(tmp_path), tmp_path / "out"
    outcome = make_leaderboard(read_plan(suite), RunOptions(out, tmp_path))
    for item in outcome.report.cells:
        assert item.folder is not None
        told = json.loads((item.folder / SPENT_FILE).read_text())
        assert told["pictures"] == item.pictures
        assert 0 < sum(told["stages"].values()) <= told["whole"] + 0.05  # two clocks, their steps
        assert min(told["stages"][stage] for stage in ("decode", "crop", "infer")) > 0
    board = "".join(path.read_text() for path in sorted((out / "board").rglob("*.json")))
    assert "near copies" not in board  # of the machine: the same suite makes the same page


def test_what_holds_no_results_or_is_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no results of a suite"):
        spent_by_set([tmp_path])
    done = CliRunner().invoke(command, ["spent"])
    assert isinstance(done.exception, UsageError)
    folder = _result(tmp_path, "faces/as-is/a-1")
    for text, why in (("{", "is not a file of"), ('{"format": 1}', "'pictures'"), ("[]", "object")):
        (folder / SPENT_FILE).write_text(text)
        with pytest.raises(AgebenchError, match=f"{SPENT_FILE}.*{why}") as refused:
            spent_by_set([tmp_path])
        assert str(refused.value).endswith(": remove it, and the cell counts as one without times")
        assert "leaderboard" not in str(refused.value)
