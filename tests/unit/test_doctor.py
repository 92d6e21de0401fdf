"""`agebench doctor` and what it is made of: every defect that was put in is found, no other."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.api.doctor import open_dataset, split_against
from agebench.cli.main import main
from agebench.datasets import folders
from agebench.doctor.diagnosis import examine, shared_pictures, suspicious_ages
from agebench.doctor.pictures import SheetTile, age_chart, contact_sheets
from agebench.errors import DatasetError
from agebench.types import Sample
from tests.unit.blobs import blobs, jpeg


def put(root: Path, name: str, data: bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    """A folder set with one of everything."""
    root = tmp_path / "sick"
    whole = jpeg(blobs(1, 120))
    put(root, "020/one.jpg", whole)
    put(root, "055/one.jpg", whole)
    put(root, "030/two.jpg", jpeg(blobs(2, 120)))
    put(root, "030/two_again.jpg", jpeg(blobs(2, 120), 60))
    put(root, "040/three.jpg", jpeg(blobs(3, 120)))
    put(root, "115/old.jpg", jpeg(blobs(4, 120)))
    put(root, "030/half.jpg", whole[: len(whole) // 2])
    put(root, "030/lfs.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    put(root, "030/page.jpg", b"<!DOCTYPE html><title>404</title>")
    put(root, "030/empty.jpg", b"")
    put(root, "not an age/four.jpg", whole)
    os.mkfifo(root / "030" / "pipe.jpg")
    return root


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", *map(str, arguments)])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_every_defect_is_found(sick: Path) -> None:
    diagnosis, prints = examine(folders.load(sick), sick)
    assert (diagnosis.pictures, diagnosis.decoded, len(prints)) == (10, 6, 10)
    assert {item.name: item.kind for item in diagnosis.broken} == {
        "030/half.jpg": "truncated",
        "030/lfs.jpg": "lfs-pointer",
        "030/page.jpg": "html",
        "030/empty.jpg": "empty",
    }
    assert {item.name for item in diagnosis.problems} == {"not an age", "030/pipe.jpg"}
    assert [group.members for group in diagnosis.identical] == [("020/one.jpg", "055/one.jpg")]
    assert [group.members for group in diagnosis.near] == [("030/two.jpg", "030/two_again.jpg")]
    (conflict,) = diagnosis.conflicting
    assert conflict.age_gap_years == 35
    assert diagnosis.ages == {20: 1, 30: 6, 40: 1, 55: 1, 115: 1}
    assert diagnosis.sizes == {"120x120": 6}
    assert [item.age_years for item in diagnosis.suspicious] == [115]
    assert diagnosis.suspicious[0].names == ("115/old.jpg",)


def test_without_near_only_bytes_are_compared(sick: Path) -> None:
    diagnosis, _ = examine(folders.load(sick), sick, near=False)
    assert diagnosis.near == ()
    assert not diagnosis.near_searched
    assert len(diagnosis.identical) == len(diagnosis.conflicting) == 1


def test_a_conflict_within_a_near_group_is_listed_once(tmp_path: Path) -> None:
    whole = jpeg(blobs(1, 120))
    put(tmp_path, "010/a.jpg", whole)
    put(tmp_path, "020/b.jpg", whole)
    put(tmp_path, "060/c.jpg", jpeg(blobs(1, 120), 60))
    diagnosis, _ = examine(folders.load(tmp_path), tmp_path)
    (group,) = diagnosis.conflicting
    assert group.members == ("010/a.jpg", "020/b.jpg", "060/c.jpg")
    assert group.age_gap_years == 50


def _aged(counts: dict[int, int]) -> list[Sample]:
    return [
        Sample(Path(f"{age}_{number}"), f"{age}_{number}", float(age))
        for age, count in counts.items()
        for number in range(count)
    ]


def test_suspicious_ages_are_heaps_and_the_very_old() -> None:
    counts = dict.fromkeys(range(20, 40), 100) | {26: 600, 109: 1, 110: 1}
    found = suspicious_ages(_aged(counts))
    assert [(item.age_years, item.pictures) for item in found] == [(26, 600), (110, 1)]
    assert "100 pictures (median)" in found[0].reason
    assert len(found[0].names) == 5


def test_a_few_pictures_of_one_age_are_no_heap() -> None:
    assert suspicious_ages(_aged({0: 5, 50: 9})) == ()
    assert [item.age_years for item in suspicious_ages(_aged({0: 50, 1: 2}))] == [0]


def _two_sets(tmp_path: Path) -> tuple[Path, Path]:
    here, there = tmp_path / "here", tmp_path / "there"
    put(here, "020/a.jpg", jpeg(blobs(1, 120)))
    put(here, "030/b.jpg", jpeg(blobs(2, 120)))
    put(here, "040/own.jpg", jpeg(blobs(3, 120)))
    put(here, "041/own_copy.jpg", jpeg(blobs(3, 120)))
    put(there, "25/same name as nothing.jpg", jpeg(blobs(1, 120)))
    put(there, "25/again.jpg", jpeg(blobs(1, 120), 50))
    put(there, "30/b.jpg", jpeg(blobs(2, 120), 50))
    put(there, "040/own.jpg", jpeg(blobs(4, 120)))
    return here, there


def test_pictures_in_both_sets_are_found_whatever_they_are_called(tmp_path: Path) -> None:
    sets = [folders.load(root) for root in _two_sets(tmp_path)]
    prints = [examine(one, "x", near=False)[1] for one in sets]
    both = shared_pictures((sets[0].samples, prints[0]), (sets[1].samples, prints[1]))
    assert [(item.here, item.there, item.kind) for item in both] == [
        (("020/a.jpg",), ("25/again.jpg", "25/same name as nothing.jpg"), "identical"),
        (("030/b.jpg",), ("30/b.jpg",), "near"),
    ]
    assert (both[0].conflicting, both[0].age_gap_years) == (True, 5)
    assert not both[1].conflicting
    bytes_only = shared_pictures(
        (sets[0].samples, prints[0]), (sets[1].samples, prints[1]), near=False
    )
    assert [item.there for item in bytes_only] == [("25/same name as nothing.jpg",)]


def test_the_report_on_the_terminal_and_on_disk(
    sick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "report"
    (tmp_path / "new").mkdir()
    out.mkdir()
    (out / "different_ages_9.png").write_bytes(b"of an earlier report")
    (out / "mine.png").write_bytes(b"the user's own")
    assert run(sick, "--out", out) == 0
    text = capsys.readouterr().out
    assert "unknown origin" in text
    assert '--dataset "folders label_kind=birth-age"' in text
    assert re.search(r"groups of identical files\W+1\b", text)
    assert "35 years apart, identical: 020/one.jpg (20), 055/one.jpg (55)" in text
    assert "030/pipe.jpg: not a regular file" in text
    found = {path.name for path in out.iterdir()}
    assert found == {"doctor.json", "ages.png", "different_ages_1.png", "mine.png"}
    with PillowImage.open(out / "different_ages_1.png") as sheet:
        assert min(sheet.size) > 150
    content = json.loads((out / "doctor.json").read_text())
    assert content["schema_version"] == 1
    assert content["against"] is None
    assert content["identical"][0]["age_gap_years"] == 35


def _json_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(capsys.readouterr().out)
    return loaded


def test_two_sets_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = _two_sets(tmp_path)
    out = tmp_path / "out"
    assert run("--dataset", "folders", here, "--against", f"folders:{there}", "--out", out) == 0
    text = capsys.readouterr().out
    assert "LEAK: 2 pictures are in both sets (1 identical, 1 near-identical)" in text
    assert (out / "in_both_1.png").is_file()
    assert run(here, "--against", there, "--json") == 0
    shared = _json_of(capsys)["against"]["shared"]
    assert [item["kind"] for item in shared] == ["identical", "near"]


def test_no_report_is_written_into_a_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = _two_sets(tmp_path)
    for inside in (here, there):
        assert run(here, "--against", there, "--out", inside / "report") == 2
        assert "lies inside the data set's folder" in capsys.readouterr().err
        assert not (inside / "report").exists()


def test_sets_with_nothing_in_common(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "a/01/x.jpg", jpeg(blobs(1, 120)))
    put(tmp_path, "b/01/x.jpg", jpeg(blobs(2, 120)))
    assert run(tmp_path / "a", "--against", tmp_path / "b") == 0
    assert "No identical or near-identical picture is in both sets" in capsys.readouterr().out


def test_an_empty_folder_and_none_at_all_give_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        assert run(root) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("agebench: ")
        assert "Traceback" not in captured.err
        assert captured.err.count("\n") == 1


def test_nothing_that_can_be_decoded_is_reported_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "data/010/a.jpg", b"<html>")
    put(tmp_path, "data/010/b.jpg", b"<html>")
    assert run(tmp_path / "data", "--out", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert re.search(r"not decoded: html\W+2\b", captured.out)
    assert "none of the 2 pictures" in captured.err
    assert (tmp_path / "out" / "doctor.json").is_file()
    assert run(tmp_path / "data", "--json") == 1
    assert _json_of(capsys)["decoded"] == 0


def test_names_that_look_like_markup_are_printed_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "010/[red]a[/x].jpg", b"")
    put(tmp_path, "010/ok.jpg", jpeg(blobs(1, 120)))
    assert run(tmp_path) == 0
    assert "010/[red]a[/x].jpg: the file is empty" in capsys.readouterr().out


def test_an_output_folder_that_can_not_be_made_is_told_first(
    sick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run(sick, "--out", tmp_path / "file") == 2
    captured = capsys.readouterr()
    assert "expected a folder, got a file" in captured.err
    assert "--out" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x", "--decode-threads", "0"],
        ["x", "--decode-threads", "65"],
        ["x", "--dataset", "folder"],
    ],
)
def test_wrong_calls(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_set_that_brings_its_pictures_needs_no_root(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--dataset", "sample", "--no-near", "--json") == 0
    assert _json_of(capsys)["pictures"] == 71


def test_the_kind_is_guessed_by_what_gives_most_pictures(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path, f"utk/2{number}_0_0_20170117175041574.jpg", b"x")
        put(tmp_path, f"fg/00{number}A02.JPG", b"x")
        put(tmp_path, f"dirs/01{number}/a.jpg", b"x")
    put(tmp_path, "table.csv", b"filename,age\nutk/20_0_0_20170117175041574.jpg,20\n")
    kinds = {"utk": "utkface", "fg": "fgnet", "dirs": "folders", "table.csv": "csv"}
    for name, kind in kinds.items():
        assert open_dataset(None, tmp_path / name).spec.name == kind


def test_what_can_not_be_guessed_is_told_in_its_own_words(tmp_path: Path) -> None:
    put(tmp_path, "photos/holiday.jpg", jpeg(blobs(1, 120)))
    put(tmp_path, "notes/notes.txt", b"")
    for name, sentence in (
        ("nix", "there is no file or folder"),
        ("notes", "holds no picture"),
        (
            "photos",
            r"no picture in .* has its age in the name .* give dataset .--dataset., such as",
        ),
        ("photos/holiday.jpg", "is a picture: give a CSV file"),
    ):
        with pytest.raises(DatasetError, match=sentence):
            open_dataset(None, tmp_path / name)
    put(tmp_path, "list.csv", b"path,age\nphotos/holiday.jpg,0+\n")  # as the sentence says
    assert len(open_dataset(None, tmp_path / "list.csv").samples) == 1
    put(tmp_path, "photos/b_30.jpg", jpeg(blobs(2, 120)))
    assert len(open_dataset("names pattern={}_{age}", tmp_path / "photos").samples) == 1


def test_a_colon_belongs_to_the_path_unless_a_data_set_is_named() -> None:
    assert split_against("fgnet:a:b") == ("fgnet", Path("a:b"))
    assert split_against("C:/data") == (None, Path("C:/data"))


def test_the_chart_and_sheets_take_what_is_missing(tmp_path: Path) -> None:
    assert min(age_chart({}, "nothing").size) > 0
    assert contact_sheets([]) == []
    gone = SheetTile(tmp_path / "gone.jpg", ("age 3", "a" * 500 + "\u202e\n", ""))
    (sheet,) = contact_sheets([[gone] * 9])
    assert sheet.size[0] <= 1340
    assert len(contact_sheets([[gone, gone]] * 25)) == 2


def test_bars_are_as_high_as_their_counts() -> None:
    chart = np.asarray(age_chart({10: 50, 11: 100}, ""))
    blue = (chart == (0x3B, 0x6E, 0xA5)).all(axis=2).sum(axis=0)
    heights = blue[blue > 0]
    assert heights.max() / heights.min() == pytest.approx(2, abs=0.02)


@pytest.mark.shared
def test_doctor_on_fgnet(shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json", "--dataset", "fgnet", shared_dir / "data" / "fgnet") == 0
    content = _json_of(capsys)
    assert content["label_kind"] == "birth-age"
    assert content["decoded"] == content["pictures"]


def test_findings_do_not_go_into_the_data_set(tmp_path: Path, capsys: Any) -> None:
    put(tmp_path / "set", "030/a.jpg", jpeg(blobs(1, 120)))
    root = tmp_path / "set"
    for words in (
        [str(root), "--out", str(root / "findings")],
        [str(root), "--against", str(root)],
        [str(root), "--against", f"folders:{root}"],
        [str(root), "--against", "folders:"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--dataset", "folders", *words])
        assert ended.value.code == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert [path.name for path in root.iterdir()] == ["030"]


@pytest.mark.parametrize(
    ("limits", "code", "told"),
    [
        (("broken>0",), 1, "the data set fails --fail-if broken>0: there are 1"),
        (("broken>1", "identical>1"), 0, ""),
        (("broken>0", "identical > 0"), 1, "broken>0: there are 1; identical > 0: there are 1"),
        (("brokn>0",), 2, "did you mean 'broken'"),
        (("broken>=0",), 2, "is not a condition: expected COUNT>NUMBER"),
        (("near>0",), 2, "needs --near"),
        (("shared>0",), 2, "needs --against"),
    ],
)
def test_a_data_set_can_fail_in_ci(
    limits: tuple[str, ...],
    code: int,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, seed in (("3/a.jpg", 1), ("9/b.jpg", 2), ("9/c.jpg", 2)):
        put(tmp_path, name, jpeg(blobs(seed, 120)))
    put(tmp_path, "9/d.jpg", b"not a picture")
    words = [word for limit in limits for word in ("--fail-if", limit)]
    assert run("--dataset", "folders", tmp_path, "--no-near", *words) == code
    assert told in capsys.readouterr().err
