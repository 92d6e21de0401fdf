"""Runs that go on: what failed is tried again, listed and no success; what is new is asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agebench.cli.predict import command
from agebench.errors import AgebenchError, UsageError
from agebench.prediction import run as run_module
from agebench.prediction.lines import LineFile
from agebench.testing import generated_picture
from agebench.vision.opencv import cv2

FAST = ("--detector", "aligned", "--estimator", "constant years=41")
MADE_WITH = ("aligned", ("constant years=41",))


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), generated_picture(40, 40, 0))
    return path


def damaged(path: Path) -> Path:
    path.write_bytes(b"no picture")
    return path


def go_on(root: Path, out: Path, *more: object) -> Result:
    arguments = [root, "--json", "--out", out, *FAST, *more]
    return CliRunner().invoke(command, [*map(str, arguments)])


def statuses(out: Path) -> list[tuple[str, str]]:
    records = [json.loads(line) for line in out.read_text().splitlines()]
    return [(Path(record["picture"]).name, record["status"]) for record in records]


def record(name: str, status: str = "ok", **more: Any) -> dict[str, Any]:
    return {
        "picture": name,
        "status": status,
        "reason": "" if status == "ok" else f"why {name}",
        "detector": "aligned",
        "estimators": ["constant years=41"],
        "faces": [],
        **more,
    }


def face(years: object) -> dict[str, Any]:
    return {"ages": {"constant years=41": {"years": years}}}


def test_what_could_not_be_read_is_no_success_the_next_time(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "r.jsonl"
    root.mkdir()
    names = [str(damaged(root / name)) for name in ("a.png", "b.png")]
    for _ in range(3):
        done = go_on(root, out)
        assert done.exit_code == 1
        assert "2 without an answer (2 unreadable):" in done.stderr
        assert all(f"  {name}: expected a picture" in done.stderr for name in names)
        assert statuses(out) == [("a.png", "unreadable"), ("b.png", "unreadable")]


@pytest.mark.parametrize("processes", [1, 2])
def test_what_was_mended_is_looked_at_again(tmp_path: Path, processes: int) -> None:
    root, out = tmp_path / "in", tmp_path / "r.jsonl"
    for name in ("a.png", "b.png", "c.png"):
        picture(root / name)
    damaged(root / "a.png")
    damaged(root / "b.png")
    assert go_on(root, out).exit_code == 0
    picture(root / "b.png")
    out.chmod(0o640)
    done = go_on(root, out, "--processes", processes)
    assert done.exit_code == 0
    assert "1 picture finished by an earlier run" in done.stderr
    assert "1 face in 2 pictures" in done.stderr
    assert "1 without an answer (1 unreadable)" in done.stderr
    assert statuses(out) == [("c.png", "ok"), ("a.png", "unreadable"), ("b.png", "ok")]
    assert out.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_other_failures_stay_and_are_listed(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "r.jsonl"
    name = str(picture(root / "a.png"))
    elsewhere = record("elsewhere.png", "unreadable")
    with LineFile(out, *MADE_WITH) as lines:
        lines.append(record(name, "detector_failed"))
        lines.append(elsewhere)
    before = out.read_bytes()
    done = go_on(root, out)
    assert done.exit_code == 1
    assert "1 without an answer (1 detector_failed):" in done.stderr
    assert f"  {name}: why {name}" in done.stderr
    assert out.read_bytes() == before  # what is not asked for is not dropped either
    assert go_on(picture(root / "b.png").parent, out).exit_code == 0


def test_lines_are_dropped_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, link = tmp_path / "r.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(out)
    with LineFile(link, *MADE_WITH) as lines:
        for name, status in (("a", "ok"), ("b", "crashed"), ("c", "ok"), ("d", "unreadable")):
            lines.append(record(name, status))
        before = out.read_bytes()
        assert lines.failure("a") is None
        assert lines.failure("b") == ("crashed", "why b")

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as full:
            full.setattr(os, "fsync", fail)
            with pytest.raises(AgebenchError, match="No space left"):
                lines.drop(["b"])
        assert out.read_bytes() == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link.jsonl", "r.jsonl"]
        lines.drop(["b", "d", "unknown"])
        assert statuses(out) == [("a", "ok"), ("c", "ok")]
        assert "b" not in lines
        assert lines.failure("b") is None
        with pytest.raises(AgebenchError, match="another run is writing"):
            LineFile(out, *MADE_WITH)
        lines.append(record("b"))
    assert statuses(out) == [("a", "ok"), ("c", "ok"), ("b", "ok")]
    assert link.is_symlink()


def test_drawings_that_are_not_there_are_made(tmp_path: Path) -> None:
    root, out, drawn = tmp_path / "in", tmp_path / "r.jsonl", tmp_path / "drawn"
    for name in ("a.png", "b.png"):
        picture(root / name)
    assert go_on(root, out).exit_code == 0
    before = out.read_bytes()
    done = go_on(root, out, "--draw", drawn)
    assert "2 faces in 2 pictures" in done.stderr
    assert sorted(path.name for path in drawn.iterdir()) == ["a.png", "b.png"]
    (drawn / "b.png").unlink()
    done = go_on(root, out, "--draw", drawn)
    assert "1 picture finished by an earlier run" in done.stderr
    assert (drawn / "b.png").exists()
    assert "2 pictures finished by an earlier run" in go_on(root, out, "--draw", drawn).stderr
    assert out.read_bytes() == before


def test_lines_with_and_without_what_moved_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = tmp_path / "in", tmp_path / "r.jsonl"
    name = str(picture(root / "a.png"))
    assert go_on(root, out).exit_code == 0
    before = out.read_bytes()
    monkeypatch.setattr(run_module, "check_explainable", lambda *_: None)
    refused = go_on(root, out, "--explain")
    assert isinstance(refused.exception, UsageError)
    assert "was started without --explain: resume without it" in str(refused.exception)
    assert out.read_bytes() == before
    with LineFile(tmp_path / "e.jsonl", *MADE_WITH, explain=True) as lines:
        lines.append(record(name, faces=[{**face(41.0), "moved_years": {}}]))
        lines.append(record("no face"))  # can't tell, and need not
    refused = go_on(root, tmp_path / "e.jsonl")
    assert "was started with --explain: resume with it" in str(refused.exception)
    LineFile(tmp_path / "e.jsonl", *MADE_WITH, explain=True).__exit__(None, None, None)


@pytest.mark.parametrize("faces", [5, [5], None])
def test_faces_of_another_kind_are_something_else(tmp_path: Path, faces: object) -> None:
    out = tmp_path / "r.jsonl"
    out.write_text(json.dumps(record("a", faces=faces)) + "\n")
    with pytest.raises(UsageError, match="expected a line of"):
        LineFile(out, *MADE_WITH)


@pytest.mark.parametrize(
    "change",
    [
        {"faces": [face(float("nan"))]},
        {"faces": [face("41")]},
        {"faces": [{"ages": {}}]},
        {"faces": [{}]},
        {"status": "zzz"},
        {"status": "broken"},
        {"reason": None},
        {"picture": 5},
    ],
)
def test_a_line_that_no_run_writes_is_not_finished(
    tmp_path: Path, change: dict[str, object]
) -> None:
    out = tmp_path / "r.jsonl"
    with LineFile(out, *MADE_WITH) as lines:
        lines.append(record("a", faces=[face(41.0), face(None)]))
    with out.open("a") as file:
        file.write(json.dumps(record("b") | change) + "\n")
    before = out.read_bytes()
    with pytest.raises(UsageError, match=r"r\.jsonl, line 2: expected a line of"):
        LineFile(out, *MADE_WITH)
    assert out.read_bytes() == before


def test_a_second_line_of_a_picture_is_refused(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "r.jsonl"
    for name in ("a.png", "b.png"):
        picture(root / name)
    assert go_on(root, out).exit_code == 0
    first, second = out.read_text().splitlines(keepends=True)
    out.write_text(first + second + first)
    refused = go_on(root, out)
    assert isinstance(refused.exception, UsageError)
    assert "line 3: expected one line for each picture" in str(refused.exception)
    assert out.read_text() == first + second + first


def test_the_pictures_of_another_folder_are_not_mixed_in(tmp_path: Path) -> None:
    here, there = picture(tmp_path / "A" / "a.png").parent, picture(tmp_path / "B" / "b.png").parent
    out = tmp_path / "r.jsonl"
    assert go_on(here, out).exit_code == 0
    with out.open("a") as file:
        file.write('{"picture":"cut o')
    before = out.read_bytes()
    refused = go_on(there, out)
    assert isinstance(refused.exception, UsageError)
    assert f"holds other pictures, such as {str(here / 'a.png')!r}" in str(refused.exception)
    assert out.read_bytes() == before


def test_pictures_that_came_and_went_end_no_run(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "r.jsonl"
    for name in ("b.png", "c.png"):
        picture(root / name)
    assert "not among the inputs" not in go_on(root, out).stderr
    (root / "b.png").unlink()
    picture(root / "a.png")
    done = go_on(root, out)
    assert done.exit_code == 0
    assert f"{out} keeps 1 line of pictures that are not among the inputs\n" in done.stderr
    assert "1 picture finished by an earlier run" in done.stderr
    assert statuses(out) == [("b.png", "ok"), ("c.png", "ok"), ("a.png", "ok")]


def test_a_file_that_can_not_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    root = picture(tmp_path / "in" / "a.png").parent
    for out, said in (
        (tmp_path / "none" / "a.jsonl", f"the folder {tmp_path / 'none'} does not exist"),
        (tmp_path, f"{tmp_path} is a folder: name a file to write"),
    ):
        refused = go_on(root, out)
        assert isinstance(refused.exception, AgebenchError)
        assert said in str(refused.exception)
        assert "finished work" not in str(refused.exception)
    with pytest.raises(AgebenchError, match=r"can't be written: .*: name another --out"):
        LineFile(tmp_path / "none" / "a.jsonl", *MADE_WITH)
