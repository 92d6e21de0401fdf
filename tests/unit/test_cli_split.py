"""`agebench split`: sizes, the file, and copies that straddle."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agebench.api.split import warnings
from agebench.cli import main
from agebench.datasets.base import SampleList
from agebench.protocols import DatasetSpec
from agebench.splits.files import read_split
from agebench.splits.parts import Split
from agebench.types import Sample

COUNT = 40


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A CSV data set: 40 pictures of 40 ages, the last a copy of the first."""
    noise = np.random.default_rng(0)
    rows = ["path,age"]
    for index in range(COUNT):
        Image.fromarray(noise.integers(0, 255, (24, 24, 3), np.uint8)).save(
            tmp_path / f"{index:02d}.png"
        )
        rows.append(f"{index:02d}.png,{index}")
    shutil.copy(tmp_path / "00.png", tmp_path / f"{COUNT - 1}.png")
    file = tmp_path / "list.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["split", *arguments])
    return int(ended.value.code or 0)


def test_parts_that_can_show_little_are_warned_of(
    listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--dataset", "csv", "--root", str(listed), "--protocol"]
    assert run(*call, "holdout fraction=0.1 val_fraction=0.001", "--json") == 0
    told = json.loads(capsys.readouterr().out)["warnings"]
    assert told == [
        "part 'val' is empty: nothing can be measured on it",
        "part 'test' has only 4 pictures: such figures are not meaningful",
    ]
    assert run(*call, "holdout fraction=0.6 val_fraction=0") == 0
    assert "warning" not in capsys.readouterr().out
    assert run(*call, "holdout fraction=0.2 val_fraction=0") == 0
    assert "warning: part 'test' has only 8 pictures" in capsys.readouterr().out


@pytest.mark.parametrize("people", [1, 9, 10])
def test_few_people_in_a_part_are_warned_of(people: int) -> None:
    samples = tuple(
        Sample(Path("x"), f"{index:03d}", 30.0, identity=f"{index % people}") for index in range(90)
    )
    dataset = SampleList(DatasetSpec("mine", "birth-age"), samples)
    parts = {item.name: "test" for item in samples}
    told = warnings(dataset, Split("mine", parts | {"other": "train"}))
    assert (told == []) == (people == 10)
    words = "1 person" if people == 1 else "9 people"
    assert people == 10 or told[0].startswith(f"part 'test' has only {words}: below 10 no interval")
    # One person a part, by design: leave one person out.
    assert warnings(dataset, Split("mine", {item.name: "person-1" for item in samples})) == []


def test_sizes_are_shown_and_the_file_is_written(
    listed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "split.csv"
    call = ["--dataset", "csv", "--root", str(listed), "--protocol"]
    assert run(*call, "holdout seed=2", "--out", str(out), "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["protocol"] == "holdout"
    assert content["parameters"]["seed"] == 2
    assert list(content["by_decade"]) == ["0-9", "10-19", "20-29", "30-39"]
    assert sum(content["total"].values()) == COUNT
    split = read_split(out)
    assert split.fingerprint == content["fingerprint"]
    assert list(split.parts.values()).count("test") == content["total"]["test"]
    assert run(*call, str(out)) == 0
    text = capsys.readouterr().out
    for word in ("holdout of csv", "train", "val", "test", "unused", "30-39", "all"):
        assert word in text


def test_a_list_with_a_leak_is_told(
    listed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "train.txt").write_text("".join(f"{index:02d}.png\n" for index in range(30)))
    (folder / "test.txt").write_text("".join(f"{index}.png\n" for index in range(30, COUNT)))
    call = ["--dataset", "csv", "--root", str(listed), "--protocol", str(folder), "--check"]
    assert run(*call, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["straddling"] == [{"train": ["00.png"], "test": ["39.png"]}]
    assert run(*call) == 0
    text = capsys.readouterr().out
    assert "in different parts: 1" in text
    assert "00.png" in text
    assert run("--dataset", "csv", "--root", str(listed), "--protocol", "holdout", "--check") == 0
    assert "in different parts: 0" in capsys.readouterr().out


def test_wrong_calls_get_a_sentence(
    listed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    call = ["--dataset", "csv", "--root", str(listed), "--protocol"]
    assert run(*call, "utkface-full") == 2
    assert "is for the data set 'utkface'" in capsys.readouterr().err
    assert run(*call, "houldout") == 2
    assert "did you mean 'holdout'" in capsys.readouterr().err
    for out, said in ((tmp_path / "no" / "x.csv", "can't be written"), (tmp_path, "is a folder")):
        assert run(*call, "holdout", "--out", str(out)) == 1
        assert said in capsys.readouterr().err
    assert run("--dataset", "csv", "--root", str(listed)) == 2
    capsys.readouterr()


def test_the_protocols_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--protocols") == 0
    text = capsys.readouterr().out
    for name in ("utkface-full", "fgnet-lopo", "holdout fraction=0.1", "not the published CORAL"):
        assert name in text


def test_many_parts_are_listed_downwards(
    listed: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folds = tmp_path / "folds.csv"
    folds.write_text("image,fold\n" + "".join(f"{n:02d}.png,{n % 12}\n" for n in range(COUNT)))
    assert run("--dataset", "csv", "--root", str(listed), "--protocol", str(folds)) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (row,) = [line for line in lines if "fold-11" in line]
    assert [cell for cell in row if cell.isdigit()] == ["0", "1", "1", "1", "3"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_what_is_read_is_not_written_over(
    listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--dataset", "csv", "--root", str(listed))
    before = listed.read_bytes()
    assert run(*given, "--protocol", "holdout", "--out", str(listed)) == 2
    assert "would be overwritten" in capsys.readouterr().err
    split = tmp_path / "split.csv"
    assert run(*given, "--protocol", "holdout", "--out", str(split)) == 0
    assert run(*given, "--protocol", str(split), "--out", str(split)) == 2
    assert run(*given, "--protocol", "holdout seed=1", "--out", str(split)) == 0
    link = tmp_path / "link.csv"
    link.symlink_to(listed.name)
    through = ("--dataset", "csv", "--root", str(link), "--protocol", "holdout")
    assert run(*through, "--out", str(listed)) == 2
    lists = tmp_path / "lists"
    lists.mkdir()
    for part, name in (("train", "01.png"), ("test", "02.png")):
        (lists / f"{part}.csv").write_text(f"name\n{name}\n")
    assert run(*given, "--protocol", str(lists), "--out", str(lists / "test.csv")) == 2
    assert (lists / "test.csv").read_text() == "name\n02.png\n"
    assert listed.read_bytes() == before
