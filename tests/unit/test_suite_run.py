"""Suites: what is missing is measured and nothing else, whatever breaks or is interrupted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image as PillowImage

from agebench.cli.suite import command
from agebench.errors import AgebenchError, UsageError
from agebench.harness.loading import Contender
from agebench.harness.reading import read_result
from agebench.harness.results import PREDICTIONS_FILE, RESULT_FILE
from agebench.protocols import Estimator
from agebench.registry.plugins import load_estimator
from agebench.report.joining import join
from agebench.suite import loaded
from agebench.suite.board import read_board
from agebench.suite.cells import cells_of
from agebench.suite.leaderboard import BOARD, SuiteOutcome, make_leaderboard
from agebench.suite.parts import measure_part, parts_of
from agebench.suite.plan import PlannedContender, SuitePlan, read_plan
from agebench.suite.publish import find_results, write_board
from agebench.suite.run import CellReport, RunOptions
from agebench.suite.standing import standings
from agebench.types import AgePrediction, Crops, Image
from tests.unit.suite_boards import SUITE, made_suite

CELLS = 2 * 2 + 2 * 3
"""Models on sets, and models on the untouched and two changed kinds of pictures."""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return made_suite(tmp_path)


def _make(path: Path, out: str, **more: object) -> SuiteOutcome:
    options = RunOptions(path.parent / out, path.parent)
    return make_leaderboard(read_plan(path), options, **more)  # type: ignore[arg-type]


@pytest.fixture
def measured(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the suite of which all cells were measured once, into "out"."""
    folder = tmp_path_factory.getbasetemp() / "measured-suite"
    if not folder.exists():
        _make(made_suite(folder), "out")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path / "suite.toml"


def _page(outcome: SuiteOutcome) -> str:
    return re.sub(r"20\d\d-\d\d-\d\d", "DAY", outcome.files[0].read_text())


def test_every_cell_is_measured_once(suite: Path) -> None:
    said: list[str] = []
    first = _make(suite, "out", log=said.append)
    assert [item.state for item in first.report.cells] == ["measured"] * CELLS
    assert len(said) == CELLS
    assert first.problems == []
    second = _make(suite, "out")
    assert [item.state for item in second.report.cells] == ["kept"] * CELLS
    assert _page(second) == _page(first)
    # One cell more is one cell to be measured.
    suite.write_text(SUITE.replace("face-px=24", 'jpeg=10", "face-px=24'))
    third = _make(suite, "out")
    assert [item.state for item in third.report.cells].count("measured") == 2


def test_what_decides_a_figure_is_measured_again(measured: Path) -> None:
    measured.write_text(SUITE.replace("years=40", "years=41"))
    states = [item.state for item in _make(measured, "out").report.cells]
    assert states.count("measured") == states.count("kept") == CELLS // 2
    labels = measured.parent / "pictures" / "list.csv"
    labels.write_text(labels.read_text().replace("00.png,10", "00.png,11"))
    measured.write_text(SUITE)
    states = [item.state for item in _make(measured, "out").report.cells]
    assert states.count("measured") >= 2  # the first set holds that picture, whatever was sampled
    # How many threads decode decides nothing.
    measured.write_text(SUITE.replace("decode_threads = 0", "decode_threads = 1"))
    assert {item.state for item in _make(measured, "out").report.cells} == {"kept"}


def test_broken_off_ten_times_the_page_is_the_same(suite: Path) -> None:
    whole = _page(_make(suite, "whole"))
    for after in (1, 5, 14, 23, 24, 25, 30, 38, 50, 61):
        seen = 0

        def stop(stage: str, _done: int, _total: int, limit: int = after) -> None:
            nonlocal seen
            seen += stage == "pictures"
            if seen > limit:
                raise KeyboardInterrupt

        try:
            _make(suite, "broken", progress=stop)
        except KeyboardInterrupt:
            continue
    outcome = _make(suite, "broken")
    assert _page(outcome) == whole
    assert {item.state for item in outcome.report.cells} <= {"kept", "measured"}


def test_a_broken_model_and_a_missing_set_end_nothing(suite: Path) -> None:
    more = """
[[contenders]]
model = "spec:gone.toml"
[[sets]]
key = "gone"
dataset = "fgnet"
root = "nowhere"
"""
    suite.write_text(SUITE.replace("[robustness]", f"{more}[robustness]"))
    done = CliRunner().invoke(command, [str(suite), "--out", str(suite.parent / "out")])
    assert isinstance(done.exception, AgebenchError)
    message = str(done.exception)
    assert message.startswith("2 parts of the suite failed; the others were measured:")
    assert "gone.toml" in message
    assert "set gone: " in message
    assert "nowhere" in message
    assert message.count("gone.toml") <= 2  # told once, not for each of its cells
    board = read_board(suite.parent / "out" / BOARD)
    assert [len(model.cells) for model in board.models] == [5, 5, 0]
    page = (suite.parent / "out" / "leaderboard.html").read_text()
    assert "gone.toml" in page


def test_a_damaged_result_ends_nothing(measured: Path) -> None:
    first, *_ = _make(measured, "out").report.cells
    assert first.folder is not None
    (first.folder / RESULT_FILE).write_text("{")
    measured.write_text(SUITE.replace("gray", "jpeg=10"))  # something new to be measured
    outcome = _make(measured, "out")
    states = [item.state for item in outcome.report.cells]
    assert (states[0], states.count("measured"), states.count("broken")) == ("broken", 2, 1)
    (problem,) = outcome.problems
    assert problem.startswith(f"{first.cell.title}: {first.folder / RESULT_FILE} is not a result")
    assert problem.endswith(f"; to have it measured again, remove {first.folder}")
    board = read_board(measured.parent / "out" / BOARD)
    assert [len(model.cells) for model in board.models] == [4, 5]
    # The same goes for one of another machine.
    joined = _make(measured, "joined", joined=[measured.parent / "out"])
    assert [item.state for item in joined.report.cells] == ["broken", *["joined"] * (CELLS - 1)]
    assert joined.problems == [problem]
    shutil.rmtree(first.folder)
    again = _make(measured, "out")
    assert [item.state for item in again.report.cells] == ["measured", *["kept"] * (CELLS - 1)]


def test_altered_predictions_are_listed_and_end_nothing(measured: Path) -> None:
    first, *_ = _make(measured, "out").report.cells
    assert first.folder is not None
    (first.folder / PREDICTIONS_FILE).write_text("altered")
    outcome = _make(measured, "out", reports=True)
    (problem,) = outcome.problems
    assert f"{first.folder / PREDICTIONS_FILE} does not belong to the run" in problem
    board = read_board(measured.parent / "out" / BOARD)
    assert [len(model.cells) for model in board.models] == [5, 5]


DOUBT = """
[[contenders.suspected]]
sets = ["first"]
why = "its errors are too small"
"""


def _doubted(text: str, doubt: str = DOUBT) -> str:
    """Return the suite with a suspicion of its second model."""
    return text.replace('title = "forty"\n', f'title = "forty"\n{doubt}')


def test_a_suspicion_costs_the_rank_and_measures_nothing_again(measured: Path) -> None:
    board = measured.parent / "out" / BOARD
    listed = json.loads((board / "board.json").read_text())["models"]
    assert not any("suspected" in entry for entry in listed)
    measured.write_text(_doubted(SUITE))
    outcome = _make(measured, "out")
    assert {item.state for item in outcome.report.cells} == {"kept"}
    first, second = standings(read_board(board))
    assert first.models["constant years=40"].rank is None
    assert second.models["constant years=40"].rank is not None
    page = outcome.files[0].read_text()
    assert page.count("suspected to have been trained on it: its errors are too small") >= 2


def test_two_machines_are_joined(suite: Path) -> None:
    whole = _make(suite, "whole")
    halves = [SUITE.replace(_contender(one), "") for one in ("thirty", "forty")]
    for at, text in enumerate(halves):
        suite.write_text(text)
        _make(suite, f"half{at}")
    suite.write_text(SUITE)
    others = [suite.parent / "half0", suite.parent / "half1"]
    outcome = _make(suite, "joined", joined=others)
    assert {item.state for item in outcome.report.cells} == {"joined"}
    assert _page(outcome) == _page(whole)
    with pytest.raises(AgebenchError, match="no folder"):
        _make(suite, "joined", joined=[suite.parent / "nobody"])


def _contender(title: str) -> str:
    found = re.search(rf'\[\[contenders\]\]\nmodel = "[^"]*"\ntitle = "{title}"\n', SUITE)
    assert found is not None
    return found[0]


def test_results_on_other_pictures_are_left_out_and_said(suite: Path) -> None:
    suite.write_text(SUITE.replace(_contender("thirty"), ""))
    _make(suite, "theirs")
    labels = suite.parent / "pictures" / "list.csv"
    labels.write_text(labels.read_text().replace("00.png,10", "00.png,12"))
    suite.write_text(SUITE.replace(_contender("forty"), ""))
    _make(suite, "ours")
    suite.write_text(SUITE)
    outcome = _make(suite, "ours", joined=[suite.parent / "theirs"])
    assert any("first: constant years=40" in line for line in outcome.problems)
    assert "other pictures or labels" in outcome.problems[0]


def test_results_of_other_weights_are_not_joined(suite: Path) -> None:
    """A model that was trained on keeps its name: what is there is of its weights of before."""
    suite.write_text(SUITE.replace(_contender("thirty"), ""))
    theirs = _make(suite, "theirs")
    for item in theirs.report.cells:
        assert item.folder is not None
        result = item.folder / RESULT_FILE
        content = json.loads(result.read_text())
        content["estimators"][0]["spec"]["weights"] = [{"file": "old.onnx", "sha256": "a" * 64}]
        result.write_text(json.dumps(content))
    outcome = _make(suite, "ours", joined=[suite.parent / "theirs"])
    assert {item.state for item in outcome.report.cells} == {"measured"}
    assert outcome.problems == []
    # Where the model is not available nobody knows which weights are meant: the latest are.
    plan = read_plan(suite)
    first, *rest = cells_of(plan)
    reports = [CellReport(cell, "joined") for cell in rest]
    found = find_results(reports, [suite.parent / "theirs"])
    (ours,) = find_results([CellReport(first, "joined")], [suite.parent / "ours"])
    problems = write_board(plan, [ours, *found], None, suite.parent / "board")
    assert len(problems) == len(rest)
    assert f"{rest[0].title}: measured with other weights" in problems[0]
    (model,) = read_board(suite.parent / "board").models
    assert list(model.cells) == [("first", "")]
    assert "other weights" in model.missing["second"]


def test_the_board_says_what_the_full_report_says(measured: Path) -> None:
    outcome = _make(measured, "out")
    folders = [
        item.folder
        for item in outcome.report.cells
        if item.cell.place == "first/as-is" and item.folder
    ]
    joined = join([read_result(folder) for folder in folders])
    (one, _) = standings(read_board(measured.parent / "out" / BOARD))
    for entry in joined.entries:
        standing = one.models[entry.name]
        assert entry.errors is not None
        assert standing.n == entry.errors.n == 24
        assert standing.error_years == pytest.approx(entry.errors.mae_years, abs=0.006)
        assert standing.bias_years == pytest.approx(entry.errors.bias_years, abs=0.006)
        assert standing.interval is not None
        assert entry.errors.mae_interval is not None
        assert standing.interval.low == pytest.approx(entry.errors.mae_interval.low, abs=0.01)
    (pair,) = joined.pairs
    better = {"first better": pair.first, "second better": pair.second}.get(pair.verdict)
    assert one.best == ([better] if better else list(one.models))


def test_the_small_files_hold_no_names_paths_or_pictures(suite: Path) -> None:
    _make(suite, "out")
    text = "".join(
        path.read_text() for path in sorted((suite.parent / "out" / BOARD).rglob("*.json"))
    )
    assert ".png" not in text
    assert str(suite.parent) not in text
    assert "list.csv" not in text
    assert "kept_detections" not in text  # of the run: the same suite makes the same files


def test_a_dry_run_measures_nothing(suite: Path) -> None:
    out = suite.parent / "out"
    done = CliRunner().invoke(command, [str(suite), "--out", str(out), "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert [item["state"] for item in content["cells"]] == ["left"] * CELLS
    assert sum(item["pictures"] for item in content["cells"]) == 2 * (24 + 12 + 3 * 12)
    assert not list(out.rglob(RESULT_FILE))
    assert not (out / "leaderboard.html").exists()


def test_after_its_minutes_nothing_is_begun(suite: Path) -> None:
    options = RunOptions(suite.parent / "out", suite.parent, minutes=0.0)
    outcome = make_leaderboard(read_plan(suite), options)
    assert [item.state for item in outcome.report.cells] == ["left"] * CELLS
    assert "10 cells of 144 pictures left to another run" in list(outcome.summary(dry=False))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text.replace('key = "first"', 'key = "First set"'), "lower-case letters"),
        (lambda text: text.replace('key = "second"', 'key = "first"'), "'first' is given twice"),
        (lambda text: text.replace("years=40", "years=30"), "is given twice"),
        (lambda text: text.replace('sets = ["first"]', 'sets = ["frist"]'), "did you mean 'first'"),
        (lambda text: text.replace("gray", "grey"), "did you mean 'gray'"),
        (
            lambda text: text.replace("decode_threads = 0", "decode_threads = -1"),
            "decode_threads must be at least 0",
        ),
        (lambda text: text.replace("sample = 12\ndetector", "sample = 0\ndetector"), "at least 1"),
        (lambda text: text.replace("title", "titel", 1), "did you mean 'title'"),
        (lambda text: text + "[times]\nset = 'third'\n", "there is no 'third'"),
        (lambda text: text.replace('"constant years=40"', '"@@"'), "has no name"),
        (lambda text: _doubted(text).replace("its errors are too small", " "), "a reason in words"),
        (
            lambda text: _doubted(text).replace('sets = ["first"]', "sets = []", 1),
            "at least one set",
        ),
        (lambda text: _doubted(text).replace('["first"]', '["frist"]', 1), "did you mean 'first'"),
        (lambda text: _doubted(text, DOUBT + DOUBT), "'first' is given twice"),
        (lambda text: _doubted(text, f'sets = ["second"]\n{DOUBT}'), "not measured on 'first'"),
    ],
)
def test_a_wrong_file_is_told_where(
    suite: Path, change: Callable[[str], str], expected: str
) -> None:
    suite.write_text(change(SUITE))
    with pytest.raises(UsageError, match=expected):
        read_plan(suite)


def test_a_suite_without_any_result_has_no_others(suite: Path) -> None:
    suite.write_text(
        '[[contenders]]\nmodel = "spec:gone.toml"\n[[sets]]\nkey = "one"\ndataset = "sample"\n'
    )
    done = CliRunner().invoke(command, [str(suite), "--out", str(suite.parent / "out")])
    assert str(done.exception).startswith("1 part of the suite failed:\n")


def test_a_wrong_call_is_told(suite: Path) -> None:
    for arguments, expected in (
        ([str(suite)], "give --out"),
        (["check", str(suite)], "--board FOLDER"),
        (["page", str(suite.parent)], "has no board.json"),
        ([str(suite), "--out", str(suite.parent / "o"), "--join", "nowhere"], "there is no folder"),
        ([str(suite), "--out", str(suite.parent / "o"), "--minutes", "nan"], "at least 0, got nan"),
        ([str(suite), "--out", str(suite.parent / "o"), "--data", "nix"], "there is no folder nix"),
        (
            [str(suite), "--out", str(suite.parent / "o"), "--join", str(suite.parent)],
            f"{suite.parent} has no results of a suite",
        ),
        ([str(suite.parent), "--out", str(suite.parent / "o")], "expected a TOML file, got a fol"),
        ([str(suite), "--out", str(suite)], "expected a folder, got a file"),
    ):
        done = CliRunner().invoke(command, arguments)
        assert isinstance(done.exception, UsageError)
        assert expected in str(done.exception)


def test_times_come_from_one_run(suite: Path) -> None:
    suite.write_text(
        f'{SUITE}\n[times]\nset = "first"\npictures = 4\n'
        'contenders = ["constant  years=30", "constant years=40"]\n'
    )
    outcome = _make(suite, "out")
    board = read_board(suite.parent / "out" / BOARD)
    assert board.times is not None
    assert sorted(board.times.models) == ["constant years=30", "constant years=40"]
    assert outcome.report.times is not None
    again = _make(suite, "out")
    assert again.report.times == outcome.report.times
    plan: SuitePlan = read_plan(suite)
    assert plan.times is not None


TIMED = f'{SUITE}\n[times]\nset = "first"\npictures = 4\n'


def test_times_can_be_taken_alone_and_again(suite: Path) -> None:
    suite.write_text(TIMED)
    call = [str(suite), "--out", str(suite.parent / "out"), "--times", "--json"]
    done = CliRunner().invoke(command, call)
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert {item["state"] for item in content["cells"]} == {"left"}
    (times,) = (suite.parent / "out" / "results").glob(f"*/*/{RESULT_FILE}")
    first = times.read_bytes()
    board = read_board(suite.parent / "out" / BOARD)
    assert board.times is not None
    assert len(board.times.models) == 2
    assert CliRunner().invoke(command, call).exit_code == 0
    assert times.read_bytes() != first
    times.write_text("{")
    (problem,) = _make(suite, "out").problems
    assert problem.endswith("; to measure them again, give --times")
    assert CliRunner().invoke(command, call).exit_code == 0
    suite.write_text(SUITE)
    refused = CliRunner().invoke(command, call)
    assert "has no table [times]" in str(refused.exception)


class _WithItsOwnDetector:
    """An estimator that is defined with a detector, as the recipes of tutorials are."""

    def __init__(self, model: Estimator) -> None:
        self._model = model
        self.spec = replace(model.spec, detector="aligned layout=tight")

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        return self._model.predict(crops)


def test_a_model_with_its_own_detector_is_timed_on_the_faces_of_all(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(planned: PlannedContender) -> Contender:
        model = load_estimator(planned.model)
        ours = "years=40" in planned.model
        return Contender(planned.name, _WithItsOwnDetector(model) if ours else model)

    monkeypatch.setattr(loaded, "_load_model", load)
    suite.write_text(TIMED)
    outcome = _make(suite, "out")
    assert outcome.problems == []
    board = read_board(suite.parent / "out" / BOARD)
    assert board.times is not None
    assert sorted(board.times.models) == ["constant years=30", "constant years=40"]
    assert board.times.detector == "aligned"
    assert "Faces were found by aligned for all" in outcome.files[0].read_text()


def test_the_help_of_each_part_fits_a_terminal() -> None:
    for part in ("run", "page", "check", "spent"):
        for option in ("--help", "--help-all") if part == "run" else ("--help",):
            done = CliRunner().invoke(command, [part, option], terminal_width=79)
            assert done.exit_code == 0
            lines = done.output.splitlines()
            assert len(lines) <= 24
            assert max(map(len, lines)) <= 79


def test_in_parts_it_is_the_same_suite(suite: Path) -> None:
    suite.write_text(
        SUITE.replace('sets = ["first"]', 'sets = ["first"]\ncontenders = ["constant years=40"]')
    )
    plan = read_plan(suite)
    parts = parts_of(plan)
    assert [len(cells_of(part)) for part in parts] == [2, 2 + 3]
    whole = _make(suite, "whole")
    folders = [
        measure_part(part, suite.parent / f"part{at}", suite.parent)
        for at, part in enumerate(parts)
    ]
    outcome = _make(suite, "joined", joined=folders)
    assert {item.state for item in outcome.report.cells} == {"joined"}
    assert _page(outcome) == _page(whole)


RAY_BEGINS = re.compile(
    r"^ray\.init\(num_cpus=\d, include_dashboard=False, log_to_driver=False\)$", re.MULTILINE
)


def _example_of_ray(page: str) -> str:
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    blocks = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    (code,) = [block for block in blocks if "import ray" in block]
    assert len(RAY_BEGINS.findall(code)) == 1
    return code


@pytest.mark.extra
def test_the_documented_examples_of_ray_run(suite: Path, astronaut_bgr: Image) -> None:
    """One after the other in one Ray, which takes longer to begin than they do."""
    pytest.importorskip("ray.data", reason="needs Ray (pip install agebench[ray])")
    PillowImage.fromarray(astronaut_bgr[:, :, ::-1]).save(suite.parent / "a.png")
    PillowImage.new("RGB", (64, 64)).save(suite.parent / "black.png")
    (suite.parent / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    code = _example_of_ray("leaderboard.md") + RAY_BEGINS.sub("", _example_of_ray("predict.md"))
    done = subprocess.run(  # noqa: S603 - our own examples
        [sys.executable, "-c", code], cwd=suite.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    page = (suite.parent / "OUT" / "leaderboard.html").read_text()
    assert re.sub(r"20\d\d-\d\d-\d\d", "DAY", page) == _page(_make(suite, "whole"))
    assert "a.png 1 30.0" in done.stdout
    assert "broken.jpg 0 nan" in done.stdout
