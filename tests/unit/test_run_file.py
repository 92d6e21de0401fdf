"""A run in a file, and detections that are kept from run to run, as the command line has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agebench.harness import results
from agebench.harness.reading import read_result
from agebench.report import page
from agebench.report.joining import join

Cli = Callable[..., tuple[int, str, str]]
QUICK = ("--dataset", "sample", "--limit", "12", "--latency-pictures", "0", "--no-report")


def _content(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return content


def test_the_file_beside_a_result_repeats_it(cli: Cli, tmp_path: Path) -> None:
    words = ["compare", "constant", "years=40", "constant", *QUICK, "--fail-if", "mae>90"]
    assert cli(*words, "--seed", 7, "--out", tmp_path / "a")[0] == 0
    written = tomllib.loads((tmp_path / "a" / "run.toml").read_text(encoding="utf-8"))
    assert written["estimators"] == ["constant years=40", "constant"]
    assert (written["dataset"], written["limit"], written["seed"]) == ("sample", 12, 7)
    assert (written["latency-pictures"], written["fail-if"]) == (0, ["mae>90"])
    assert "out" not in written
    config = tmp_path / "a" / "run.toml"
    assert cli("compare", "--config", config, "--out", tmp_path / "b")[0] == 0
    first, second = _content(tmp_path / "a"), _content(tmp_path / "b")
    for name in ("settings", "dataset", "detector", "pictures", "analysis"):
        assert first[name] == second[name], name
    assert config.read_bytes() == (tmp_path / "b" / "run.toml").read_bytes()


def test_what_is_typed_goes_before_the_file(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "x.toml"
    config.write_text('estimators = ["constant"]\ndataset = "sample"\nlimit = 3\nreport = false\n')
    words = ("--latency-pictures", "0", "--out", tmp_path / "a")
    assert cli("compare", "constant years=20", "--config", config, "--limit", 5, *words)[0] == 0
    content = _content(tmp_path / "a")
    assert content["counts"]["total"] == 5
    assert [item["name"] for item in content["estimators"]] == ["constant years=20"]
    assert not (tmp_path / "a" / "report.html").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("limt = 3", "unknown option 'limt': did you mean 'limit'?"),
        ("limit = true", "limit must be a whole number, got True"),
        ("limit = 2.5", "limit must be a whole number, got 2.5"),
        ('report = "yes"', "report must be true or false, got 'yes'"),
        ('estimators = "constant"', "estimators must be a list of strings, got 'constant'"),
        ("estimators = []", "estimators is an empty list: name at least one"),
        ("fail-if = [5]", "fail-if must be a list of strings, got [5]"),
        ('out = "x"', "unknown option 'out'"),
        ("limit =", "is not valid TOML: Invalid value"),
        ("limit = -1", "limit must be at least 1, got -1"),
        ("limit = " + "[" * 9000, "x.toml can't be read: RecursionError"),
        ("a" + ".a" * 30_000 + " = 1", "a line has more than 1000 dots: split it"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_a_sentence(
    text: str, sentence: str, cli: Cli, tmp_path: Path
) -> None:
    config = tmp_path / "x.toml"
    config.write_text(text)
    code, _, err = cli("compare", "--config", config, "--json")
    assert code == 2
    assert sentence in err
    code, _, err = cli("compare", "--config", tmp_path / "none.toml")
    assert code == 2
    assert "none.toml can't be read: No such file or directory: check the path" in err
    config.write_bytes(bytes(70_000))
    code, _, err = cli("compare", "--config", config)
    assert (code, "longer than 65536 bytes" in err) == (2, True)
    code, _, err = cli("compare", "--config", os.devnull)
    assert (code, "it is not a regular file" in err) == (2, True)


def test_faces_are_found_once(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By picture and detector; said in the result; the same figures; anew where asked for."""
    monkeypatch.setenv("AGEBENCH_DETECTIONS", str(tmp_path / "kept" / "faces.sqlite"))
    words = ["compare", "--dataset", "demo", "--detector", "haar", "--latency-pictures", 0]

    def run(folder: str, *more: str) -> tuple[dict[str, Any], str]:
        code, out, err = cli(*words, *more, "--out", tmp_path / folder)
        assert (code, err) == (0, "")
        return _content(tmp_path / folder), out

    first, out = run("a", "constant")
    assert first["detector"]["kept_detections"] == {"used": 0, "found": 1}
    assert "earlier run" not in out
    second, out = run("b", "constant years=30")
    assert second["detector"]["kept_detections"] == {"used": 1, "found": 0}
    assert "The faces of 1 picture are those found by an earlier run, those of 0 were" in out
    schema = Path(results.__file__).with_name("result.schema.json").read_text(encoding="utf-8")
    jsonschema.validate(second, json.loads(schema))
    joined = join([read_result(tmp_path / "b")])
    assert "found by an earlier run" in page.render(joined)
    faces = ("box_xyxy", "detector_score", "landmarks_xy", "frame_from")
    for before, after in zip(first["pictures"], second["pictures"], strict=True):
        assert [before[name] for name in faces] == [after[name] for name in faces]
    third, out = run("c", "constant", "--fresh-detections")
    assert third["detector"]["kept_detections"] is None
    assert third["pictures"][0]["box_xyxy"] == first["pictures"][0]["box_xyxy"]


def test_a_place_that_cannot_keep_them_costs_time_alone(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AGEBENCH_DETECTIONS", str(tmp_path / "file" / "x.sqlite"))
    words = ("constant", "--dataset", "demo", "--detector", "haar", "--latency-pictures", "0")
    code, _, err = cli("compare", *words)
    assert code == 0
    assert "faces are detected again: the kept detections in" in err


def test_a_reader_who_stops_is_no_fault() -> None:
    """`agebench compare | head -1`: the reader is gone, and nobody is blamed."""
    code = (
        "import sys, click; from rich.console import Console; from agebench.cli import main\n"
        "@click.command('info')\n"
        "def command():\n"
        "    for _ in range(9999): Console().print('x' * 60)\n"
        "sys.modules['agebench.cli.info'] = type(sys)('x'); "
        "sys.modules['agebench.cli.info'].command = command\n"
        "main(['info'])"
    )
    process = subprocess.Popen(  # noqa: S603 - this Python
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait() == 1
    assert said == b""
