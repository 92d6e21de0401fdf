"""Split files: ours come back as they were, published lists are read, and damage is told."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest

from agebench.datasets.base import SampleList
from agebench.errors import AgebenchError, DatasetError, UsageError
from agebench.protocols import DatasetSpec
from agebench.splits.align import align
from agebench.splits.files import read_split, write_split
from agebench.splits.parts import Split, check_split
from agebench.types import Problem, Sample

STAMP = "20170116174525125.jpg.chip.jpg"


def dataset(*names: str) -> SampleList:
    samples = tuple(Sample(Path(name), name, 30.0) for name in sorted(names))
    return SampleList(DatasetSpec("utkface", "dex-estimated"), samples)


def ours() -> Split:
    return Split(
        protocol="holdout",
        parts={"a.jpg": "train", 'odd, "name"\n.jpg': "test", "r\r.jpg": "test", "ö/é.png": "val"},
        unused=(Problem("z.jpg", "its copies, say, carry other ages"),),
        dataset="csv",
        label_kind="apparent",
        parameters={"fraction": 0.1, "seed": 3, "stratify": True, "note": None},
        sha256={"a.jpg": "ab" * 32},
    )


def test_a_name_says_what_is_written(tmp_path: Path) -> None:
    for name in ("split", "split.txt"):
        with pytest.raises(UsageError, match=r"called \.csv or \.json"):
            write_split(ours(), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["split.csv", "split.json"])
def test_ours_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    write_split(ours(), file)
    again = read_split(file)
    assert again == ours()
    assert again.fingerprint == ours().fingerprint
    if name != "split.json":
        lines = file.read_text().splitlines()
        assert lines[0].startswith("# agebench-split {")
        assert lines[1:3] == ["picture,part,sha256,reason", f"a.jpg,train,{'ab' * 32},"]


def test_ours_saved_by_a_spreadsheet_come_back(tmp_path: Path) -> None:
    file = tmp_path / "split.csv"
    write_split(ours(), file)
    written = file.read_bytes().decode()
    rows = list(csv.reader(io.StringIO(written, newline="")))
    saved = {"bom": "\ufeff" + written}
    for mark in (",", ";", "\t"):
        cells = io.StringIO(newline="")  # each row is as long as the longest
        padded = [[*row, *[""] * (20 - len(row))] for row in rows]
        csv.writer(cells, delimiter=mark).writerows(padded)
        saved[mark] = cells.getvalue()
        saved["bom" + mark] = "\ufeff" + cells.getvalue()
    for text in saved.values():
        file.write_bytes(text.encode())
        assert read_split(file) == ours()
    file.write_bytes(saved["bom;"].replace(";val;", ";test;").encode())
    with pytest.raises(DatasetError, match="changed after it was written"):
        read_split(file)


@pytest.mark.parametrize(
    ("name", "present", "former"),
    [
        ("split.csv", b"\npicture,part", b"\nimage,part"),
        ("split.json", b'"picture":', b'"image":'),
    ],
)
def test_a_split_file_of_before_calls_a_picture_otherwise(
    tmp_path: Path, name: str, present: bytes, former: bytes
) -> None:
    file = tmp_path / name
    write_split(ours(), file)
    written = file.read_bytes()
    assert (present in written, former in written) == (True, False)
    file.write_bytes(written.replace(present, former))
    assert read_split(file) == ours()


@pytest.mark.parametrize("heading", ["picture", "image"])
def test_a_split_file_without_its_first_line_is_a_list(tmp_path: Path, heading: str) -> None:
    file = tmp_path / "list.csv"
    file.write_text(f"{heading},part,sha256,reason\na.jpg,train,,\nb.jpg,test,,\n")
    assert read_split(file).parts == {"a.jpg": "train", "b.jpg": "test"}


@pytest.mark.parametrize("name", ["split.csv", "split.json"])
def test_a_change_by_hand_is_told(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    write_split(ours(), file)
    file.write_text(file.read_text().replace("val", "test"))
    with pytest.raises(DatasetError, match="changed after it was written"):
        read_split(file)


def test_a_picture_twice_in_ours_is_told(tmp_path: Path) -> None:
    file = tmp_path / "split.csv"
    write_split(ours(), file)
    with file.open("a") as stream:
        stream.write("a.jpg,test,,\n")
    with pytest.raises(DatasetError, match=r"'a.jpg' is listed twice"):
        read_split(file)


def coral(folder: Path) -> Path:
    """Lists as the CORAL authors publish them: an index, the file and its age."""
    folder.mkdir()
    rows = {
        "utk_train.csv": [f"21_0_0_{STAMP}", f"22_0_0_{STAMP}", f"59_1_3_{STAMP}"],
        "utk_valid.csv": [f"30_0_0_{STAMP}"],
        "utk_test.csv": [f"40_1_0_{STAMP}", f"99_0_0_{STAMP}"],
    }
    for name, files in rows.items():
        lines = [f"{index},{file},{file[:2]}" for index, file in enumerate(files)]
        (folder / name).write_text("\n".join([",file,age", *lines]) + "\n")
    (folder / "README.txt").write_text("not a list\n")
    return folder


def test_coral_lists_are_read_and_aligned(tmp_path: Path) -> None:
    split = read_split(coral(tmp_path / "coral"))
    assert split.protocol == "list coral"
    assert Counter(split.parts.values()) == {"train": 3, "val": 1, "test": 2}
    here = dataset(
        f"part1/21_0_0_{STAMP}",
        f"part2/22_0_0_{STAMP}",
        f"30_0_0_{STAMP}",
        f"40_1_0_{STAMP}",
        f"59_1_3_{STAMP}",
        f"18_0_0_{STAMP}",
    )
    fitted = align(split, here)
    assert fitted.parts == {
        f"part1/21_0_0_{STAMP}": "train",
        f"part2/22_0_0_{STAMP}": "train",
        f"30_0_0_{STAMP}": "val",
        f"40_1_0_{STAMP}": "test",
        f"59_1_3_{STAMP}": "train",
    }
    reasons = {problem.name: problem.reason for problem in fitted.unused}
    assert "listed in 'test', but not" in reasons[f"99_0_0_{STAMP}"]
    assert reasons[f"18_0_0_{STAMP}"] == "in no part of 'list coral'"
    assert len(reasons) == 2
    assert (fitted.dataset, fitted.label_kind) == ("utkface", "dex-estimated")
    assert align(fitted, here) == fitted


def test_leaks_of_a_read_in_list_are_found(tmp_path: Path) -> None:
    class Copies:
        members = (f"21_0_0_{STAMP}", f"40_1_0_{STAMP}", f"18_0_0_{STAMP}")
        conflicting = True

    (leak,) = check_split(read_split(coral(tmp_path / "coral")), [Copies()])
    assert dict(leak.parts) == {"train": (f"21_0_0_{STAMP}",), "test": (f"40_1_0_{STAMP}",)}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "x.csv",
            "name,part\na,Train\nb,Valid\nc,testing\nd,TEST\n",
            {"a": "train", "b": "val", "c": "test", "d": "test"},
        ),
        ("x.csv", "﻿Image;Fold\na;0\nb;4\n", {"a": "fold-0", "b": "fold-4"}),
        ("x.tsv", "idx\tfilename\tsplit\n0\ta\tdev\n", {"a": "val"}),
        ("test.txt", "# a comment\na.jpg\n\n  b c.jpg \n", {"a.jpg": "test", "b c.jpg": "test"}),
        ("my_fold-3.txt", "a\na\n", {"a": "fold-3"}),
        ("train.csv", "file\na\n", {"a": "train"}),
    ],
)
def test_lists_of_many_kinds(
    tmp_path: Path, name: str, text: str, expected: dict[str, str]
) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    assert read_split(file).parts == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "x.csv",
            b"name,part\na,train\na,test\n",
            r"'a' is in two parts, 'train' \(x.csv line 2\)",
        ),
        ("x.csv", b"name,part\na,\n", "line 2 gives no part"),
        ("x.csv", b"name,part\na,in between\n", "not a list of parts"),
        ("x.csv", b"name,part\n", "no name is listed"),
        ("names.txt", b"a\nb\n", "does not say which part"),
        ("test.txt", b"", "no name is listed"),
        ("test.txt", b"\xff\xd8\xff\xe0\x00", "UTF-8"),
        ("test.txt", b"a\x00b", "zero bytes"),
        ("x.csv", b'name,part\n"a,train\n', "quotes"),
        ("x.json", b"{", "not valid JSON"),
        ("x.json", b"[1]", "JSON object"),
        ("x.json", b'{"format": "other", "pictures": []}', "not a split file"),
        ("x.json", b"[" * 100_000, "not valid JSON"),
        ("x.csv", b"# agebench-split {}\nimage,part,sha256,reason\n", "header lacks"),
        ("x.csv", b"# agebench-split {}\nimage,part\n", "must have the columns"),
        ("x.csv", b"# agebench-split {}\nimage,part,sha256,reason\na\n", "4 strings"),
        ("x.csv", b"# agebench-split []\n", "JSON object"),
    ],
)
def test_hostile_lists_get_a_sentence(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        read_split(file)


def test_odd_values_in_our_json_get_a_sentence(tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    write_split(ours(), good)
    content = json.loads(good.read_text())
    wrong: list[dict[str, object]] = [
        {"version": 2},
        {"parameters": None},
        {"label_kind": "guess"},
        {"label_kind": ["apparent"]},
        {"pictures": [{"picture": 3, "part": "a"}]},
        {"pictures": ["a"]},
        {"pictures": {}},
        {"pictures": []},
    ]
    for index, change in enumerate(wrong):
        file = tmp_path / f"{index}.json"
        file.write_text(json.dumps({**content, **change}))
        with pytest.raises(DatasetError):
            read_split(file)


def test_missing_and_empty_places(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no split file"):
        read_split(tmp_path / "nothing.csv")
    with pytest.raises(DatasetError, match="holds no list of a part"):
        read_split(tmp_path)
    with pytest.raises(AgebenchError, match="can't be written"):
        write_split(ours(), tmp_path / "no" / "folder.csv")


def test_names_are_matched_without_guessing() -> None:
    here = dataset("1/a.jpg", "2/a.jpg", "2/b.jpg", "c.jpg")
    listed = {
        "UTK/2/a.jpg": "test",
        "b.jpg": "test",
        ".\\c.jpg": "val",
        "a.jpg": "test",
        "3/b.jpg": "val",
    }
    fitted = align(Split("list", listed), here)
    assert fitted.parts == {"2/a.jpg": "test", "2/b.jpg": "test", "c.jpg": "val"}
    assert {problem.name for problem in fitted.unused} == {"1/a.jpg", "a.jpg", "3/b.jpg"}


def test_a_name_that_holds_a_backslash_is_itself() -> None:
    here = dataset("a\\b.jpg", "c.jpg")
    assert align(Split("list", {"a\\b.jpg": "train"}), here).parts == {"a\\b.jpg": "train"}


def test_what_cannot_be_aligned_is_refused() -> None:
    here = dataset("a.jpg", "b.jpg")
    with pytest.raises(DatasetError, match=r"none of the 1 names of 'list'.*'zzz'"):
        align(Split("list", {"zzz": "test"}), here)
    with pytest.raises(DatasetError, match=r"'a\.jpg'.*twice.*'test'"):
        align(Split("list", {"a.jpg": "test", "x/a.jpg": "train"}), here)
    with pytest.raises(DatasetError, match=r"'fgnet'.*got 'utkface'"):
        align(Split("list", {"a.jpg": "test"}, dataset="fgnet"), here)
