"""What is measured again, and what is taken from a result that is there."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from agebench.errors import AgebenchError
from agebench.harness.environment import describe_environment
from agebench.harness.picture_store import PART_FILE
from agebench.harness.reading import read_result
from agebench.harness.results import RESULT_FILE
from agebench.protocols import DetectorSpec, no_progress
from agebench.suite import cells, loaded, timing_run
from agebench.suite.cells import cells_of, described
from agebench.suite.compact import compact_set
from agebench.suite.kept_cells import CELL_FILE, kept_cell
from agebench.suite.leaderboard import BOARD, SuiteOutcome, make_leaderboard
from agebench.suite.loaded import Loader
from agebench.suite.plan import read_plan
from agebench.suite.run import RunOptions
from agebench.suite.timing_run import find_times
from agebench.types import WeightsFile
from tests.unit.suite_boards import made_suite

TIMES = '[times]\nset = "first"\npictures = 4\n'
ONE_CELL = """
[settings]
decode_threads = 0
threads = 1
[[contenders]]
model = "constant years=30"
title = "thirty"
[[sets]]
key = "first"
dataset = "csv label_kind=birth-age"
root = "pictures/list.csv"
detector = "aligned"
groups = ["gender"]
"""


def _make(path: Path, out: str, *joined: str) -> SuiteOutcome:
    options = RunOptions(path.parent / out, path.parent)
    return make_leaderboard(read_plan(path), options, [path.parent / one for one in joined])


def _key(path: Path) -> str:
    loader = Loader(path.parent / "out", path.parent, no_progress)
    (cell,) = cells_of(read_plan(path))
    return loader.size_and_key(cell)[1]


def _detector_of(monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    spec = DetectorSpec("aligned", weights=(WeightsFile("faces.onnx", weights * 64),))
    monkeypatch.setattr(loaded, "load_detector", lambda _: SimpleNamespace(spec=spec))


def test_other_weights_of_the_detector_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made_suite(tmp_path, ONE_CELL)
    keys = []
    for weights in ("a", "b", "a"):
        _detector_of(monkeypatch, weights)
        keys.append(_key(path))
    assert keys[0] == keys[2] != keys[1]


def test_other_attributes_are_measured_again(tmp_path: Path) -> None:
    path = made_suite(tmp_path, ONE_CELL)
    before = _key(path)
    labels = tmp_path / "pictures" / "list.csv"
    labels.write_text(labels.read_text().replace("female", "woman"))
    assert _key(path) != before


def test_groups_by_an_attribute_that_no_picture_has_are_told(tmp_path: Path) -> None:
    path = made_suite(tmp_path, ONE_CELL.replace('["gender"]', '["gender", "gendr", "nope"]'))
    assert _make(path, "out").problems == [
        "set first: groups: no picture has the attribute 'gendr': did you mean 'gender'?",
        "set first: groups: no picture has the attribute 'nope': known: gender",
    ]


def test_a_class_from_elsewhere_is_known_by_its_source(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.py"
    source = "class Finder:\n    spec = {}\n"
    file.write_text(source)
    module_spec = importlib.util.spec_from_file_location("elsewhere", file)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:  # where Python looks for a class's file
        patch.setitem(sys.modules, "elsewhere", module)
        before = described(module.Finder())
        assert described(module.Finder()) == before
        file.write_text(f"{source}    threshold = 0.5\n")
        assert described(module.Finder()) != before


def _other_machine(patch: pytest.MonkeyPatch, _path: Path) -> None:
    here = describe_environment()
    patch.setattr(timing_run, "describe_environment", lambda: {**here, "processor": "another"})


def _other_version(patch: pytest.MonkeyPatch, _path: Path) -> None:
    patch.setattr(timing_run, "__version__", "99")


def _other_detector(patch: pytest.MonkeyPatch, _path: Path) -> None:
    _detector_of(patch, "c")


def _other_labels(_patch: pytest.MonkeyPatch, path: Path) -> None:
    labels = path.parent / "pictures" / "list.csv"
    labels.write_text(labels.read_text().replace(",p", ",q"))


def _other_set(_patch: pytest.MonkeyPatch, path: Path) -> None:
    path.write_text(path.read_text().replace("label_kind=birth-age", "label_kind=apparent"))


def test_times_are_of_what_decides_them(tmp_path: Path) -> None:
    path = made_suite(tmp_path, ONE_CELL + TIMES)

    def found() -> Path | None:
        return find_times(read_plan(path), Loader(tmp_path / "out", tmp_path, no_progress))

    assert found() is None
    taken = _make(path, "out").report.times
    assert taken is not None
    assert found() == taken
    changes: tuple[Callable[[pytest.MonkeyPatch, Path], None], ...] = (
        _other_machine,
        _other_version,
        _other_detector,
    )
    for change in changes:
        with pytest.MonkeyPatch.context() as patch:
            change(patch, path)
            assert found() is None, change.__name__
    assert found() == taken
    for alter in (_other_set, _other_labels):
        with pytest.MonkeyPatch.context() as patch:
            alter(patch, path)
            assert found() is None, alter.__name__
        path.write_text(ONE_CELL + TIMES)


def test_times_of_a_set_that_is_gone_are_told(tmp_path: Path) -> None:
    path = made_suite(tmp_path, ONE_CELL + TIMES)
    (tmp_path / "pictures" / "list.csv").unlink()
    outcome = _make(path, "out")
    assert outcome.report.times is None
    assert "list.csv" in outcome.report.why_no_times


def test_a_result_that_was_measured_again_by_hand_is_believed(tmp_path: Path) -> None:
    path = made_suite(tmp_path, ONE_CELL)
    (report,) = _make(path, "out").report.cells
    assert report.folder is not None
    result = report.folder / RESULT_FILE
    kept = kept_cell(report.cell, report.folder)
    assert kept == kept_cell(report.cell, report.folder)
    before = json.loads(result.read_text())["created"]
    result.write_text(result.read_text().replace(before, "2031-01-02T03:04:05+00:00"))
    again = kept_cell(report.cell, report.folder)
    assert again is not None
    assert again["cells"][0]["created"] == "2031-01-02T03:04:05+00:00"
    # What was kept is not the truth: where it is damaged it is made again.
    (report.folder / CELL_FILE).write_text("{")
    assert kept_cell(report.cell, report.folder) == again


def test_records_of_a_run_that_was_killed_once_its_result_was_written_go(tmp_path: Path) -> None:
    path = made_suite(tmp_path, ONE_CELL)
    (report,) = _make(path, "out").report.cells
    assert report.folder is not None
    before = sorted(file.name for file in report.folder.iterdir())
    (report.folder / PART_FILE).write_text("{}\n")
    _make(path, "out")
    assert sorted(file.name for file in report.folder.iterdir()) == before


def test_a_result_elsewhere_counts_for_its_own_model_alone(tmp_path: Path) -> None:
    path = made_suite(tmp_path, ONE_CELL)
    _make(path, "theirs")
    path.write_text(ONE_CELL.replace("years=30", "years=+30"))  # a folder of the same start
    (cell,) = cells_of(read_plan(path))
    assert cell.others(tmp_path / "theirs")
    outcome = _make(path, "ours", "theirs")
    assert [item.state for item in outcome.report.cells] == ["measured"]


def test_results_of_another_version_are_taken_where_they_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made_suite(tmp_path, ONE_CELL)
    before = _make(path, "out").files[0].read_text()
    monkeypatch.setattr(cells, "__version__", "99")
    again = _make(path, "out", "out")
    assert [item.state for item in again.report.cells] == ["joined"]
    assert again.files[0].read_text() == before


def test_a_joined_folder_may_be_read_only(tmp_path: Path) -> None:
    path = made_suite(tmp_path, ONE_CELL)
    (report,) = _make(path, "theirs").report.cells
    assert report.folder is not None
    (report.folder / CELL_FILE).unlink()
    (report.folder / CELL_FILE).mkdir()  # nothing can be written there
    outcome = _make(path, "ours", "theirs")
    assert [item.state for item in outcome.report.cells] == ["joined"]
    assert "thirty" in outcome.files[0].read_text()


def test_a_board_that_cant_be_written_is_told(tmp_path: Path) -> None:
    path = made_suite(tmp_path, ONE_CELL)
    (tmp_path / "out" / BOARD).mkdir(parents=True)
    (tmp_path / "out" / BOARD / "sets").write_text("in the way")
    with pytest.raises(AgebenchError, match=r"board can't be written: File exists"):
        _make(path, "out")


def test_a_note_that_names_a_picture_is_kept_without_it(tmp_path: Path) -> None:
    (report,) = _make(made_suite(tmp_path, ONE_CELL), "out").report.cells
    assert report.folder is not None
    file = read_result(report.folder)
    note = "1 of 24 pictures have another content, such as 03.png: the parts may share copies"
    dataset = replace(file.dataset, notes=("kept, such as it is", note))
    noted = replace(file, content=replace(file.content, dataset=dataset))
    made = compact_set("first", "", "", (), noted, changed=False)
    assert made["dataset"]["notes"] == [
        "kept, such as it is",
        "1 of 24 pictures have another content: the parts may share copies",
    ]
