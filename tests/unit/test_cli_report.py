"""`agebench report` and `compare --report`: files, exit codes, one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Write = Callable[..., Path]


Cli = Callable[..., tuple[int, str, str]]


def test_the_page_lies_beside_the_result(cli: Cli, write_result: Write) -> None:
    path = write_result()
    code, out, err = cli("report", path)
    assert (code, err) == (0, "")
    assert str(path.with_name("report.html")) in "".join(out.split("\n"))
    assert sorted(item.name for item in path.parent.iterdir()) == ["report.html", "result.json"]


def test_formats_and_folder_are_as_asked_for(cli: Cli, write_result: Write, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    assert cli("report", write_result(), "--out", out, "--format", "md,tex, csv")[0] == 0
    assert sorted(item.name for item in out.iterdir()) == ["report.csv", "report.md", "report.tex"]


def test_json_holds_the_figures_unrounded(cli: Cli, write_result: Write) -> None:
    code, out, _ = cli("report", write_result(), "--json")
    assert code == 0
    content = json.loads(out)
    assert [row["estimator"] for row in content["estimators"]] == ["good", "poor"]
    assert content["estimators"][1]["mae_years"] == 15.0


def test_what_changed_is_said_in_a_line(cli: Cli, write_result: Write, tmp_path: Path) -> None:
    ages = range(1, 61)
    before = write_result("a", predicted={"x\x1b[31m": [age + 5.0 for age in ages]})
    after = write_result("b", predicted={"x\x1b[31m": [age + 1.0 for age in ages]})
    code, out, _ = cli("report", before, after, "--out", tmp_path / "c")
    assert code == 0
    assert "MAE 5.00 to 1.00 (better" in " ".join(out.split())
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("{a}", "--format", "pdf"), 2, "unknown format 'pdf'"),
        (("{a}", "--format", ","), 2, "expected a format"),
        (("{a}", "{b}"), 2, "people's guesses"),
        (("{a}", "{a}"), 2, "given twice"),
        (("no/such.json",), 2, "there is no file"),
        (("{a}", "--thumbnails", "no/such"), 2, "(--thumbnails) needs the folder"),
        (("{a}", "--out", "{a}"), 2, "can't be created: expected a folder, got a file"),
        (("{a}", "--fail-if", "mae>5"), 1, "poor"),
        ((), 2, "Missing argument"),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    cli: Cli, write_result: Write, arguments: tuple[str, ...], code: int, told: str
) -> None:
    places = {"a": write_result("a"), "b": write_result("b", label_kind="apparent")}
    found, _, err = cli("report", *(part.format(**places) for part in arguments))
    assert found == code
    assert told in " ".join(err.split())


def test_compare_writes_the_page_too(cli: Cli, tmp_path: Path) -> None:
    base = ("compare", "constant", "--dataset", "demo", "--detector", "aligned")
    code, _, err = cli(*base, "--report")
    assert code == 2
    assert "--report needs --out" in err
    code, out, err = cli(*base, "--latency-pictures", "2", "--report", "--out", tmp_path / "o")
    assert (code, err) == (0, "")
    assert "report.html" in out
    assert (tmp_path / "o" / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_a_page_that_can_not_be_written_is_known_before(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "o" / "report.html").mkdir(parents=True)
    base = ("compare", "constant", "--dataset", "demo", "--detector", "aligned")
    code, _, err = cli(*base, "--report", "--out", tmp_path / "o")
    assert code == 1
    assert "is a folder" in err
    assert not (tmp_path / "o" / "result.json").exists()


def test_pictures_that_are_left_out_are_told_of(
    cli: Cli, write_result: Write, tmp_path: Path
) -> None:
    path = write_result()
    content = json.loads(path.read_text(encoding="utf-8"))
    content["dataset"]["licence"] = "research only"
    path.write_text(json.dumps(content), encoding="utf-8")
    code, out, _ = cli("report", path, "--thumbnails", tmp_path)
    assert code == 0
    assert "Pictures are left out: the terms of" in out
    assert "Pictures are left out" not in cli("report", write_result(), "--thumbnails", tmp_path)[1]


def test_gates_about_nobody_are_refused_before_anything_is_written(
    cli: Cli, write_result: Write, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, _, err = cli("report", write_result(), "--fail-if", "bogus:mae>5", "--out", out)
    assert code == 2
    assert "no estimator 'bogus' here" in err
    assert not out.exists()


def test_gates_judge_each_of_several_results_and_name_it(
    cli: Cli, write_result: Write, tmp_path: Path
) -> None:
    ages = range(1, 61)
    first = write_result("a", predicted={"one": [age + 2.0 for age in ages]})
    second = write_result("b", predicted={"two": [age + 7.0 for age in ages]})
    base = ("report", first, second, "--out", tmp_path / "c")
    assert cli(*base, "--fail-if", "one:mae>3")[0] == 0  # no estimator of the second is meant
    code, _, err = cli(*base, "--fail-if", "two:mae>3")
    told = f"agebench: check failed: B ({second}): two: mae is 7 (> 3)"
    assert (code, err) == (1, f"{told}\n")
    code, _, err = cli(*base, "--fail-if", "mae>1", "--fail-if", "two:mae>3")
    assert code == 1
    assert f"A ({first}): one: mae is 2 (> 1); B ({second}): two: mae is 7 (> 1); B (" in err
    code, _, err = cli(*base, "--fail-if", "three:mae>3")
    assert code == 2
    assert "no estimator 'three' here" in err


def test_a_folder_is_taken_for_the_baseline_in_it(cli: Cli, write_result: Write) -> None:
    path = write_result()
    assert cli("report", path, "--baseline", path.parent)[0] == 0


def test_a_tilde_is_the_home_folder_where_the_shell_left_it(
    cli: Cli, write_result: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cli("report", write_result(), "--out=~/made")[0] == 0
    assert (tmp_path / "made" / "report.html").is_file()
    assert not (tmp_path / "~").exists()
    code, _, err = cli("report", write_result(), "--out=~nosuchuser/made")
    assert code == 2
    assert "names a user without a home folder" in err


def test_an_empty_path_is_not_this_folder(cli: Cli, write_result: Write) -> None:
    for words in (("report", write_result(), "--out", ""), ("doctor", "")):
        code, _, err = cli(*words)
        assert code == 2
        assert "the path is empty" in err
        assert len(err.strip().splitlines()) == 1


def test_a_verb_without_what_it_needs_is_one_sentence(cli: Cli) -> None:
    code, _, err = cli("split")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "--dataset" in err
    assert "--help" in err


@pytest.mark.parametrize("more", [(), ("--json",), ("--csv",)])
def test_a_closed_standard_output_is_one_sentence(tmp_path: Path, more: tuple[str, ...]) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (40, 40)).save(picture)
    words = ["predict", str(picture), "--estimator", "constant", "--detector", "aligned", *more]
    code = "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", code, "-m", "agebench", *words],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "standard output is closed" in done.stderr


def test_the_ranking_has_the_columns_that_a_paper_wants(cli: Cli, write_result: Write) -> None:
    path = write_result()
    assert cli("report", path, "--format", "tex,md", "--columns", "interval, mae")[0] == 0
    tex = path.with_name("report.tex").read_text(encoding="utf-8")
    first = tex.split("\\begin{table}")[1]
    assert "\\begin{tabular}{lrr}" in first
    assert "estimator & 95 \\% & MAE \\\\" in first
    assert "\\caption{Error in years" in first
    assert "\\label{tab:agebench-error-in-years" in first
    assert tex.count("\\begin{table}") > 2
    head = path.with_name("report.md").read_text(encoding="utf-8")
    assert "| estimator | 95 % | MAE |" in head


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--columns", "mae"), "(--columns) are for tables in md and tex"),
        (("--columns", "mea", "--format", "tex"), "unknown column 'mea': did you mean"),
        (("--columns", " ,", "--format", "md"), "expected a column, got none"),
    ],
)
def test_a_column_that_is_not_there_is_refused(
    options: tuple[str, ...], sentence: str, cli: Cli, write_result: Write
) -> None:
    code, _, err = cli("report", write_result(), *options)
    assert code == 2
    assert sentence in err


def test_figures_go_into_their_folder(
    cli: Cli, write_result: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'notebook'")
    from agebench.report import charts, figure_files

    name = min(charts.CHARTS)
    for module in (charts, figure_files):  # all of them: test_report_browser.py
        monkeypatch.setattr(module, "CHARTS", {name: charts.CHARTS[name]})
    code, out, _ = cli("report", write_result(), "--figures", tmp_path / "f")
    assert code == 0
    count = len(list((tmp_path / "f").iterdir()))
    assert f"{count} figures, such as age-thresholds-1col.pdf" in out
    (tmp_path / "file").write_text("")
    code, _, err = cli("report", write_result(), "--figures", tmp_path / "file" / "x")
    assert code == 1
    assert "can't be created" in err
