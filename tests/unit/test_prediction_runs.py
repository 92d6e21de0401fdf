"""Runs over folders: order, resuming after a kill, hostile files, processes that die, outputs."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as PillowImage

from agebench.cli.predict import command
from agebench.errors import AgebenchError, UsageError
from agebench.prediction import work as work_module
from agebench.prediction.lines import LineFile
from agebench.prediction.run import PictureRun, PredictSettings
from agebench.prediction.sources import find_sources
from agebench.prediction.work import PredictionPlan, PredictionTask
from agebench.testing import generated_picture
from agebench.util import process_pool
from tests.unit.forking import ForkedPython

FAST = ("--detector", "aligned", "--estimator", "constant years=41")
PLAN = PredictionPlan(("constant years=41",), "aligned")
MAIN = "from agebench.cli import main; main()"


def save(path: Path, seed: int = 0, side: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = generated_picture(side, side, seed)
    PillowImage.fromarray(np.ascontiguousarray(picture[:, :, ::-1])).save(path)
    return path


def folder(root: Path, count: int) -> Path:
    for index in range(count):
        save(root / f"{index % 3}" / f"p{index:03d}.png", index)
    return root


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments)], catch_exceptions=True)


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_gives_one_line_per_picture_in_order(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", 7)
    done = invoke(root, "--json", *FAST)
    assert done.exit_code == 0, done.output
    names = [record["picture"] for record in records(done.stdout)]
    assert names == sorted(str(path) for path in root.rglob("*.png"))
    ages = [record["faces"][0]["ages"] for record in records(done.stdout)]
    wanted = {"constant years=41": {"years": 41.0, "interval_80": None, "reason": ""}}
    assert ages == [wanted] * 7


def test_hostile_files_are_counted_and_listed(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", 2)
    whole = save(root / "big.jpg", side=200).read_bytes()
    (root / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "empty.png").touch()
    (root / "page.jpg").write_text("<!DOCTYPE html><html>")
    (root / "dangling.jpg").symlink_to("nowhere")
    (root / "folder.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")
    done = invoke(root, "--json", *FAST)
    assert done.exit_code == 0
    by_name = {Path(record["picture"]).name: record for record in records(done.stdout)}
    assert by_name["cut.jpg"]["reason"] == "truncated or damaged JPEG picture"
    assert by_name["page.jpg"]["reason"] == "expected a picture, got an HTML page"
    assert {name for name, record in by_name.items() if record["status"] != "ok"} == {
        "cut.jpg",
        "empty.png",
        "page.jpg",
    }
    assert "5 without an answer (2 left out, 3 unreadable)" in done.stderr
    for name in ("cut.jpg", "empty.png", "page.jpg", "dangling.jpg", "pipe.jpg"):
        assert f"{root / name}: " in done.stderr


def test_what_has_no_line_is_not_said_to_be_in_the_json(tmp_path: Path) -> None:
    for index in range(25):
        (tmp_path / f"{index}.jpg").symlink_to("nowhere")
    save(tmp_path / "a.png")
    for options in ((), ("--json",)):
        done = invoke(tmp_path, *options, *FAST)
        assert "25 without an answer (25 left out):" in done.stderr
        assert done.stderr.endswith("\n  and 5 more\n")
    bad = tmp_path / "bad"
    bad.mkdir()
    for index in range(21):
        (bad / f"{index}.jpg").write_bytes(b"x")
    assert invoke(bad, *FAST).stderr.endswith("\n  and 1 more (--json lists all)\n")
    assert invoke(bad, "--json", *FAST).stderr.endswith("\n  and 1 more\n")


@pytest.mark.parametrize("kind", ["pipe", "dangling", "cut", "gone", "pattern"])
def test_one_bad_picture_is_one_sentence_and_exit_code_1(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nothing")
    elif kind == "cut":
        path.write_bytes(save(tmp_path / "whole.jpg").read_bytes()[:200])
    elif kind == "pattern":
        path = tmp_path / "*.tiff"
    done = invoke(path, *FAST)
    assert done.exit_code == 1
    assert done.exception is None or isinstance(done.exception, (AgebenchError, SystemExit))
    assert "Traceback" not in done.output


def test_what_is_said_of_one_face_is_in_the_singular_and_no_zero_is_negative(
    tmp_path: Path,
) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    done = invoke(tmp_path, *FAST)
    assert "agebench: 1 face in 2 pictures" in done.stderr
    # The detector's box begins half a pixel left of and above the first one's centre.
    assert "box 0,0 to 40,40" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("",),
        ("a.png", ""),
        ("a.png", "--json", "--csv"),
        ("a.png", "--out", "x.jsonl"),
        ("a.png", "--processes", "0"),
        ("a.png", "--max-pixels", "0"),
        ("a.png", "--estimator", "nobody"),
        ("a.png", "--detector", "nobody"),
        ("a.png", "--explain"),
        ("a.png", "--csv", "--explain"),
        ("a.png", "--draw", "a.png"),
        ("a.png", "--draw", "a.xyz"),
        (".", "--draw", "drawn"),
        ("*.png", "--draw", "."),
        ("-", "--processes", "2"),
        ("a.png", "--no-window"),
    ],
)
def test_wrong_calls_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = save(tmp_path / "a.png").read_bytes()
    named = any(item in arguments for item in ("--estimator", "--detector"))
    done = invoke(*arguments, *(() if named else FAST))
    assert isinstance(done.exception, UsageError)
    assert "\n" not in str(done.exception)
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_patterns_names_and_stdin(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", 6)
    odd = save(tmp_path / "in" / "a[1].png")
    pattern = find_sources([str(root / "*" / "*.png"), str(odd), str(odd)])
    assert len(pattern.names) == 7
    assert not pattern.single
    assert find_sources([str(odd)]).names == (str(odd),)
    piped = CliRunner().invoke(command, ["-", "--json", *FAST], input=odd.read_bytes())
    (record,) = records(piped.stdout)
    assert (record["picture"], record["status"], record["size_hw"]) == ("-", "ok", [40, 40])
    nothing = CliRunner().invoke(command, ["-", "--json", *FAST], input=b"")
    assert nothing.exit_code == 1
    assert nothing.stderr == "agebench: -: the file is empty\n"


def test_standard_input_that_is_closed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="standard input is closed"):
        PictureRun(find_sources(["-"]), PredictSettings(("constant",), "aligned"))


@pytest.mark.parametrize("argument", ["./-", "?", "{}/-"])
def test_a_file_called_as_standard_input_is_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.png", side=30).rename(tmp_path / "-")
    piped = save(tmp_path / "piped.png").read_bytes()
    call = [argument.format(tmp_path), "--json", *FAST]
    (record,) = records(CliRunner().invoke(command, call, input=piped).stdout)
    assert (record["status"], record["size_hw"]) == ("ok", [30, 30])
    assert record["picture"] == ("./-" if argument[0] != "{" else str(tmp_path / "-"))


def test_csv_reads_back(tmp_path: Path) -> None:
    root = tmp_path / "in"
    save(root / "a,\rb.png")
    (root / "broken.png").write_bytes(b"\x89PNG")
    done = invoke(root, "--csv", "--detector", "aligned", "--estimator", "constant years=41")
    rows = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    assert rows[0]["picture"] == str(root / "a,\rb.png")
    assert float(rows[0]["constant years=41 years"]) == 41.0
    assert (rows[0]["face"], rows[1]["face"]) == ("1", "")
    assert (rows[0]["status"], rows[1]["status"]) == ("ok", "unreadable")
    assert all(None not in row for row in rows)


def test_names_that_a_terminal_would_act_on_are_escaped(tmp_path: Path) -> None:
    path = save(tmp_path / "a\x1b[31m\n.png")
    done = invoke(path, *FAST)
    assert "\\x1b[31m\\n.png: 40x40, 1 face" in done.stdout
    assert "\x1b" not in done.output


def test_drawings_lie_as_the_pictures_do(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", 3)
    save(root / "0" / "same.gif".replace("gif", "ppm"))
    save(tmp_path / "more" / "p000.png")
    out = tmp_path / "drawn"
    done = invoke(root, tmp_path / "more" / "p000.png", "--draw", out, *FAST)
    assert done.exit_code == 0, done.output
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == {
        "0/p000.png",
        "1/p001.png",
        "2/p002.png",
        "0/same.ppm.png",
        "p000.png",
    }
    single = tmp_path / "one.jpg"
    assert invoke(root / "1" / "p001.png", "--draw", single, *FAST).exit_code == 0
    assert PillowImage.open(single).format == "JPEG"


def test_any_number_of_processes_gives_the_same_lines(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", 9)
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for count, file in enumerate(files, start=1):
        done = invoke(root, "--json", "--out", file, "--processes", count, *FAST)
        assert done.exit_code == 0, done.output
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(records(files[0].read_text())) == 9


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_goes_on_without_doubles_or_gaps(tmp_path: Path, processes: int) -> None:
    root = folder(tmp_path / "in", 300)
    out = tmp_path / "ages.jsonl"
    call = ["predict", str(root), "--json", "--out", str(out), *FAST, "--processes", str(processes)]
    killed = 0
    for _ in range(40):
        process = ForkedPython("-c", MAIN, *call)
        size = out.stat().st_size if out.exists() else 0
        while process.poll() is None:
            if out.exists() and out.stat().st_size > size + 4000 and killed < 3:
                process.kill()
                killed += 1
                with out.open("ab") as file:  # what a kill in the middle of a line leaves
                    file.write(b'{"picture":"cut o')
                break
            time.sleep(0.002)
        if process.wait() == 0:
            break
    assert killed >= 1
    names = [record["picture"] for record in records(out.read_text())]
    assert len(names) == 300
    assert sorted(names) == sorted(str(path) for path in root.rglob("*.png"))


def test_what_is_in_the_way_of_the_results_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "notes.txt"
    for foreign in ("my notes\n", "my notes", '{"a": 1}\n', "[]\n", "\x00\xff"):
        out.write_text(foreign)
        with pytest.raises(UsageError, match="expected a line of"):
            LineFile(out, "aligned", ("constant",))
        assert out.read_text() == foreign
    out.unlink()
    record = {"picture": "a", "detector": "aligned", "estimators": ["constant"]}
    with LineFile(out, "aligned", ("constant",)) as lines:
        lines.append(record)
        with pytest.raises(AgebenchError, match="another run is writing"):
            LineFile(out, "aligned", ("constant",))
    with pytest.raises(UsageError, match="was started with detector 'aligned'"):
        LineFile(out, "haar", ("constant",))
    with LineFile(out, "aligned", ("constant",)) as lines:
        assert "a" in lines
        assert len(lines) == 1
    with pytest.raises(AgebenchError, match="can't be written"):
        LineFile(tmp_path, "aligned", ("constant",))


def test_tasks_are_read_as_they_are_needed(tmp_path: Path) -> None:
    path = str(save(tmp_path / "a.png"))
    taken = 0

    def endless() -> Iterator[PredictionTask]:
        nonlocal taken
        while True:
            taken += 1
            yield PredictionTask(path)

    pictures = work_module.predict_pictures(PLAN, endless(), 2)
    for _ in range(5):
        next(pictures)
    pictures.close()
    assert taken <= 5 + 2 * process_pool.AHEAD + 2


DEADLY = """
import os
from agebench.prediction import work

class Deadly(work.PictureWorker):
    def do(self, task):
        if "deadly" in task.name:
            os._exit(3)
        return super().do(task)

REAL = work.worker

def worker(plan):
    work.PictureWorker = Deadly
    return REAL(plan)
"""
"""A worker that dies on some pictures, as a module that child processes can import."""


def test_a_picture_that_kills_its_process_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(save(tmp_path / f"{name}.png")) for name in ("a", "b deadly", "c", "d")]
    module = tmp_path / "code" / "deadly_worker.py"
    module.parent.mkdir()
    module.write_text(DEADLY)
    monkeypatch.syspath_prepend(module.parent)
    monkeypatch.setattr(work_module, "worker", import_module("deadly_worker").worker)
    started = []
    start = process_pool._Pool._start

    def counted(pool: Any) -> None:
        started.append(pool)
        start(pool)

    monkeypatch.setattr(process_pool._Pool, "_start", counted)
    finished = list(work_module.predict_pictures(PLAN, map(PredictionTask, names), 2))
    assert [item.record["picture"] for item in finished] == names
    assert [item.record["status"] for item in finished] == ["ok", "crashed", "ok", "ok"]
    assert f"died {process_pool.TRIES} times (exit code 3)" in finished[1].record["reason"]
    assert len(started) == 2 + process_pool.TRIES


def test_a_run_counts_what_it_did(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", 4)
    (root / "bad.png").write_bytes(b"x")
    settings = PredictSettings(("constant years=41",), "aligned")
    run = PictureRun(find_sources([str(root)]), settings)
    with LineFile(tmp_path / "o.jsonl", "aligned", ("constant years=41",)) as lines:
        pictures = run.finished(lines)
        next(pictures)
        pictures.close()
    assert (run.tally.pictures, run.tally.faces, run.tally.resumed) == (1, 1, 0)
    again = PictureRun(find_sources([str(root)]), settings)
    with LineFile(tmp_path / "o.jsonl", "aligned", ("constant years=41",)) as lines:
        list(again.finished(lines))
    assert (again.tally.pictures, again.tally.resumed, again.tally.answered) == (4, 1, 4)
    assert set(again.tally.stage_ms) == {"decode", "detect", "crop", "infer"}
