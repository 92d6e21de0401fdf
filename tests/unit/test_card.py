"""The model card: its figures are the result's, and what nobody said is not made up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agebench.cli.main import main
from agebench.harness.reading import read_result
from agebench.report.card import FILL_IN, card

Write = Callable[..., Path]
Make = Callable[..., dict[str, Any]]


def _content(make_result: Make) -> dict[str, Any]:
    true = np.repeat([10.0, 22.0, 40.0], 20)
    both = {"mine": true + 2, "poor": true * 0 + 30}
    sexes = {"sex": "f"}
    return make_result(both, true.tolist(), attributes=sexes)


@pytest.mark.extra
def test_the_card_has_the_figures_of_every_result(make_result: Make, write_result: Write) -> None:
    yaml = pytest.importorskip("yaml", reason="needs the extra 'docs'")
    first, second = _content(make_result), _content(make_result)
    second["dataset"]["name"] = "other"
    paths = [write_result("a", first), write_result("b", second)]
    text = card([read_result(path) for path in paths], "mine")
    _, front, body = text.split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["license_name"] == "CC0"
    results = head["model-index"][0]["results"]
    assert [item["dataset"]["type"] for item in results] == ["made-up", "other"]
    values = {item["type"]: item["value"] for item in results[0]["metrics"]}
    assert values == {"mae": 2.0, "rmse": 2.0, "bias": 2.0, "cs5": 1.0}
    assert "**2.00 years [2.00, 2.00]**" in body
    assert "| sex: f | 60 | 2.00 |" in body
    assert "poor" not in body.split("## How to repeat")[0]
    assert body.count("## On ") == 2
    assert f"**Intended use:** {FILL_IN}" in body
    assert first["dataset"]["content_sha256"] in body


def test_a_model_is_found_by_its_file(
    make_result: Make, write_result: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    content = _content(make_result)
    weights = {"file": "model.onnx", "sha256": sha256, "size": 7, "licence": "", "source": ""}
    content["estimators"][0]["spec"]["weights"] = [weights]
    path = write_result("a", content)
    with pytest.raises(SystemExit) as stopped:
        main(["card", str(path), str(tmp_path / "model.onnx"), "-o", str(tmp_path / "CARD.md")])
    assert stopped.value.code == 0
    assert "# Model card: mine" in (tmp_path / "CARD.md").read_text(encoding="utf-8")
    assert "CARD.md" in capsys.readouterr().out
    for words, sentence in (
        ([str(path), "mien"], "that name or file: did you mean 'mine'"),
        ([str(path)], "expected one or more results and then a model"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["card", *words])
        assert stopped.value.code == 2
        assert sentence in capsys.readouterr().err


def test_without_an_interval_none_is_announced(make_result: Make, write_result: Write) -> None:
    path = write_result("a", _content(make_result))
    assert "years [2.00, 2.00]** (95 % interval), " in card([read_result(path)], "mine")
    few = make_result({"mine": np.arange(8.0) + 2}, np.arange(8.0).tolist())
    few["estimators"][0]["errors"]["mae_interval"] = None
    text = card([read_result(write_result("b", few))], "mine")
    assert "Mean absolute error **2.00 years**, RMSE 2.00" in text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("", "is an input and would be overwritten"), ("my.csv", "a file name that ends in .md")],
)
def test_only_a_card_is_overwritten(
    make_result: Make,
    write_result: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    sentence: str,
) -> None:
    result = write_result("a", _content(make_result))
    target = tmp_path / name if name else result
    before = result.read_bytes() if not name else b"mine"
    target.write_bytes(before)
    with pytest.raises(SystemExit) as stopped:
        main(["card", str(result), "mine", "-o", str(target)])
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err
    assert target.read_bytes() == before


def test_the_card_of_a_folder_is_written_into_it_again(
    make_result: Make, write_result: Write
) -> None:
    folder = write_result("a", _content(make_result)).parent
    for _ in range(2):
        with pytest.raises(SystemExit) as stopped:
            main(["card", str(folder), "mine", "-o", str(folder / "README.md")])
        assert stopped.value.code == 0


@pytest.mark.extra
def test_hostile_names_are_names_in_a_card(write_result: Write) -> None:
    yaml = pytest.importorskip("yaml", reason="needs the extra 'docs'")
    name = '"\n---\n# x: <script>alert(1)</script>\x1b[31m'
    true = np.repeat([10.0, 40.0], 20)
    path = write_result(predicted={name: true + 1}, true=true.tolist())
    text = card([read_result(path)], name)
    front, body = text.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(front)["model-index"][0]["name"] == name
    assert "<script" not in body.split("## How to repeat")[0]  # there it is code
    assert "\x1b" not in text
