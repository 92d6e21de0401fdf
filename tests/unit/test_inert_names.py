"""Hostile names of files and labels come to no effect, wherever they are printed or written."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.cli.main import main
from agebench.errors import inert

NAMES = (
    "=1+cmd|' !A0.png",
    "@sum.png",
    "+1.png",
    "<img src=x onerror=alert(1)>.png",
    "a\x1b[31m\x1b]0;title\x07.png",
    "a\nb\r.png",
    "\u202egnp.png",
    'a"b,c;d.png',
    "{{ 7*7 }}.png",
    "c1\x9b31m.png",
)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Folders by age, and pictures of all those names; labels are hostile too."""
    rng = np.random.default_rng(0)
    for index, name in enumerate(NAMES):
        pixels = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
        path = tmp_path / "set" / f"{20 + index}" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            PillowImage.fromarray(pixels).save(path)
        except OSError:
            pytest.skip("these names are not available here")
    return tmp_path / "set"


def _run(words: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capfd.readouterr()
    return int(ended.value.code or 0), out, err


def _is_plain(text: str) -> bool:
    return inert(text, lines=True) == text


def _names_of(table: str, column: str) -> set[str]:
    return {row[column].rpartition("/")[2] for row in csv.DictReader(io.StringIO(table, ""))}


def test_compare(pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "constant", "--dataset", "folders", "--root", str(pictures)]
    words += ["--detector", "aligned", "--latency-pictures", "0", "-o", str(tmp_path / "out")]
    code, out, err = _run([*words, "--report"], capfd)
    assert code == 0, err
    assert _is_plain(out + err)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "<img src=x" not in page
    assert _is_plain(page)
    # A row stays a row, and every name reads back as it is on disk.
    table = (tmp_path / "out" / "predictions.csv").read_bytes().decode()
    assert _names_of(table, "picture") == set(NAMES)
    stored = json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))
    assert {image["picture"].rpartition("/")[2] for image in stored["pictures"]} == set(NAMES)


def test_predict(pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["predict", str(pictures), "--estimator", "constant", "--detector", "aligned"]
    code, out, err = _run(words, capfd)
    assert code == 0, err
    assert _is_plain(out + err)
    code, out, err = _run([*words, "--json"], capfd)
    assert code == 0
    assert _is_plain(out + err)
    lines = [json.loads(line) for line in out.splitlines()]
    assert {record["picture"].rpartition("/")[2] for record in lines} == set(NAMES)


def test_predict_csv_reads_back(pictures: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    words = ["predict", str(pictures), "--estimator", "constant", "--detector", "aligned"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--csv"])
    assert not ended.value.code
    assert _names_of(capfdbinary.readouterr().out.decode(), "picture") == set(NAMES)


def test_doctor(pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        (pictures / "30").mkdir(exist_ok=True)
        (pictures / "30" / name).write_bytes(b"no picture")
    for more in (["-o", str(tmp_path / "sick")], ["--json"]):
        _, out, err = _run(["doctor", f"folders:{pictures}", *more], capfd)
        assert "Traceback" not in err
        assert _is_plain(out + err)


def test_prepare(pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", "--dataset", "folders", "--root", str(pictures), "--detector", "aligned"]
    code, out, err = _run([*words, "--out", str(tmp_path / "made")], capfd)
    assert code == 0, err
    assert _is_plain(out + err)
    table = (tmp_path / "made" / "manifest.csv").read_bytes().decode()
    assert _names_of(table, "source") == set(NAMES)
    made = [path.name for path in (tmp_path / "made").rglob("*")]
    assert all(name.isascii() and _is_plain(name) and name[0].isalnum() for name in made)
