"""Data sets on disk: what is listed, what is left out and why, for each layout."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agebench.datasets import csv_list, fgnet, folders, utkface
from agebench.datasets.base import SampleList, list_files, readable_name
from agebench.datasets.csv_table import read_csv_table
from agebench.datasets.suffixes import PICTURE_SUFFIXES, VIDEO_SUFFIXES, is_picture
from agebench.errors import DatasetError
from agebench.protocols import Dataset, DatasetSpec
from agebench.registry.plugins import convert_option
from agebench.types import LabelKind, Sample
from tests.unit.listings import make, names_of, reasons

STAMP = "20170116174525125"
CHIP = f"{STAMP}.jpg.chip.jpg"

needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs links, pipes and sockets")


# What all of them share


@needs_posix
def test_listing_follows_no_link_out_and_opens_nothing_odd(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "b/1.jpg", "a.png", "notes.txt", "2.JPG")
    outside = make(tmp_path / "outside", "secret.jpg", "folder/x.jpg")
    (root / "inside.jpg").symlink_to("b/1.jpg")
    (root / "escape.jpg").symlink_to(outside / "secret.jpg")
    (root / "dangling.jpg").symlink_to("nowhere")
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "b" / "up").symlink_to("..")
    (root / "away").symlink_to(outside / "folder")
    (root / "readme").symlink_to(outside / "secret.jpg")
    os.mkfifo(root / "pipe.jpg")
    make(root, "._a.png", ".hidden/h.jpg", "__MACOSX/a.png")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # a socket's address is too short for a temporary folder's path
        try:
            server.bind("socket.jpg")
        finally:
            os.chdir(here)
        files, problems = list_files(root)
    assert sorted(file.name for file in files) == ["2.JPG", "a.png", "b/1.jpg", "inside.jpg"]
    assert all(file.path == root / file.name for file in files)
    found = {problem.name: problem.reason for problem in problems}
    expected = {
        "escape.jpg": "out of the data set",
        "dangling.jpg": "broken",
        "loop.jpg": "broken",
        "b/up": "link to a folder",
        "away": "link to a folder",
        "pipe.jpg": "not a regular file",
        "socket.jpg": "not a regular file",
        "._a.png": "hidden",
        ".hidden": "hidden",
        "__MACOSX": "hidden",
    }
    assert found.keys() == expected.keys()
    for name, said in expected.items():
        assert said in found[name]


@needs_posix
def test_a_root_that_is_itself_a_link_is_searched(tmp_path: Path) -> None:
    make(tmp_path / "real", "a.jpg")
    (tmp_path / "real" / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "root").symlink_to("real")
    files, problems = list_files(tmp_path / "root")
    assert sorted(file.name for file in files) == ["a.jpg", "b.jpg"]
    assert problems == []


@needs_posix
def test_a_name_that_is_not_unicode_is_left_out_and_still_printable(tmp_path: Path) -> None:
    bad = os.fsdecode(b"a\xff.jpg")
    try:
        make(tmp_path, bad, "ok.jpg", "\u96ea\U0001f600.jpg")
    except OSError:
        pytest.skip("this file system refuses such names")
    files, problems = list_files(tmp_path)
    assert {file.name for file in files} == {"ok.jpg", "\u96ea\U0001f600.jpg"}
    assert [problem.name for problem in problems] == ["a\\udcff.jpg"]
    assert readable_name("b\u00e9.jpg") == "b\u00e9.jpg"


def test_a_closed_folder_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "open/a.jpg", "closed/b.jpg")
    real = os.scandir

    def scandir(path: Path) -> Any:
        if path.name == closed:
            raise PermissionError(13, "Permission denied")
        return real(path)

    # Not by chmod: to the administrator, as whom containers run tests, every folder is open.
    monkeypatch.setattr(os, "scandir", scandir)
    closed = "closed"
    files, problems = list_files(tmp_path)
    assert [file.name for file in files] == ["open/a.jpg"]
    assert [problem.name for problem in problems] == ["closed"]
    assert "Permission denied" in problems[0].reason
    closed = tmp_path.name
    with pytest.raises(DatasetError, match="can't be listed: Permission denied"):
        list_files(tmp_path)


def test_the_docs_list_every_suffix_of_pictures_and_videos() -> None:
    page = (Path(__file__).parents[2] / "docs" / "predict.md").read_text(encoding="utf-8")
    listed = [
        {f".{ending}" for ending in found.replace("\n", " ").split(", ")}
        for found in re.findall(r"(?:pictures|videos) \(((?:\w+,\s)+\w+)\)", page)
    ]
    assert listed == [PICTURE_SUFFIXES, VIDEO_SUFFIXES]


def test_pictures_are_told_by_suffix_in_any_case() -> None:
    assert all(map(is_picture, ["a.jpg", "a.JPEG", "a b.Png", "a.tar.webp"]))
    assert not any(map(is_picture, ["jpg", "a.jpg.txt", "a.pts", ".jpg", ""]))


def test_a_sample_list_must_be_sorted_and_unique() -> None:
    spec = DatasetSpec("x", "unknown")
    one, two = Sample(Path("a"), "a", 1.0), Sample(Path("b"), "b", 2.0)
    assert isinstance(SampleList(spec, (one, two)), Dataset)
    for wrong in ((two, one), (one, one)):
        with pytest.raises(ValueError, match="sorted by unique names"):
            SampleList(spec, wrong)


LOADERS = [utkface.load, fgnet.load, folders.load]


@pytest.mark.parametrize("load", LOADERS)
def test_missing_empty_and_wrong_roots_say_so(load: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is nothing at"):
        load(tmp_path / "absent")
    file = make(tmp_path, "file.txt") / "file.txt"
    with pytest.raises(DatasetError, match="not a folder"):
        load(file)
    with pytest.raises(DatasetError, match=r"can't be reached|there is nothing at"):
        load(tmp_path / ("x" * 5000))
    with pytest.raises(DatasetError, match=r"can't be reached|there is nothing at"):
        load(tmp_path / "a\0b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no usable picture"):
        load(tmp_path / "empty")


@pytest.mark.parametrize("load", LOADERS)
def test_only_problems_is_an_error_that_names_the_first(
    load: Callable[..., Any], tmp_path: Path
) -> None:
    make(tmp_path, "zzz.jpg", "holiday.jpg")
    with pytest.raises(DatasetError, match=r"2 .*'holiday\.jpg'"):
        load(tmp_path)
    (tmp_path / "zzz.jpg").unlink()
    with pytest.raises(DatasetError, match=r": 1 entry was left out, the first is 'holiday\.jpg'"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["birth-age", "apparent", "dex-estimated", "unknown"])
def test_label_kind_is_understood_as_an_option(text: str) -> None:
    assert convert_option(text, LabelKind) == text
    with pytest.raises(ValueError, match="birth-age"):
        convert_option("guess", LabelKind)


# utkface


def test_utkface_chips(tmp_path: Path) -> None:
    make(
        tmp_path,
        f"26_1_2_{CHIP}",
        f"part/5_0_4_{CHIP}",
        f"39_1_{CHIP}",
        "55_0_0_20170116232725357jpg.chip.jpg",
        f"200_0_0_{CHIP}",
        f"30_0_0_{STAMP}.jpg",
        "landmark_list.txt",
    )
    dataset = utkface.load(tmp_path)
    assert names_of(dataset) == sorted(names_of(dataset))
    assert {sample.name: sample.age_years for sample in dataset.samples} == {
        f"26_1_2_{CHIP}": 26.0,
        f"part/5_0_4_{CHIP}": 5.0,
        f"39_1_{CHIP}": 39.0,
        "55_0_0_20170116232725357jpg.chip.jpg": 55.0,
    }
    by_name = {sample.name: sample for sample in dataset.samples}
    assert by_name[f"26_1_2_{CHIP}"].attributes == {"gender": "female", "race": "Asian"}
    assert by_name[f"26_1_2_{CHIP}"].path == tmp_path / f"26_1_2_{CHIP}"
    lost = by_name[f"39_1_{CHIP}"].attributes
    assert lost == {"gender": "female", "label_note": "the name gives no race"}
    assert dataset.spec.aligned
    assert dataset.spec.label_kind == "dex-estimated"
    assert "4 of 5 names" in dataset.spec.notes[0]
    assert "1 kept" in dataset.spec.notes[1]
    assert reasons(dataset).keys() == {f"200_0_0_{CHIP}", f"30_0_0_{STAMP}.jpg"}
    assert "layout=chips" in reasons(dataset)[f"30_0_0_{STAMP}.jpg"]


def test_utkface_in_the_wild(tmp_path: Path) -> None:
    make(
        tmp_path,
        f"part1/26_1_2_{STAMP}.jpg",
        "part1/61_3_20170109150557335.jpg",
        "part2/53__0_20170116184028385.jpg",
        "part3/44_1_4_20170116235150272.pg",
        "part3/55_0_0_20170116232725357jpg",
        f"part3/8_0_0_{CHIP}",
    )
    dataset = utkface.load(tmp_path)
    assert [sample.age_years for sample in dataset.samples] == [26, 61, 53, 44, 55]
    assert not dataset.spec.aligned
    assert "gender" not in dataset.samples[1].attributes
    assert "'3'" in dataset.samples[1].attributes["label_note"]
    assert "gender" not in dataset.samples[2].attributes
    assert reasons(dataset).keys() == {f"part3/8_0_0_{CHIP}"}


def test_utkface_layout_by_majority_and_by_word(tmp_path: Path) -> None:
    make(tmp_path, f"26_1_2_{STAMP}.jpg", f"27_1_2_{CHIP}")
    assert not utkface.load(tmp_path).spec.aligned  # a tie is no majority
    assert names_of(utkface.load(tmp_path)) == [f"26_1_2_{STAMP}.jpg"]
    for layout, aligned in (("chips", True), ("wild", False)):
        dataset = utkface.load(tmp_path, layout=convert_option(layout, utkface.Layout))
        assert dataset.spec.aligned is aligned
        assert len(dataset) == 2
        assert dataset.problems == ()
        assert f"layout={layout}" in dataset.spec.notes[0]


def test_utkface_names_repeated_in_folders_are_kept_and_noted(tmp_path: Path) -> None:
    make(tmp_path, f"a/26_1_2_{CHIP}", f"b/26_1_2_{CHIP}", f"b/27_1_2_{CHIP}")
    dataset = utkface.load(tmp_path)
    assert names_of(dataset) == [f"a/26_1_2_{CHIP}", f"b/26_1_2_{CHIP}", f"b/27_1_2_{CHIP}"]
    assert dataset.spec.notes[1].startswith("1 file names occur in several folders")


@pytest.mark.shared
def test_utkface_real_chips(utkface_chips: SampleList) -> None:
    dataset = utkface_chips
    assert len(dataset) == 21_319
    assert dataset.problems == ()
    assert dataset.spec.aligned
    # Counted by a second route: what stands before the first underscore.
    samples = list(dataset.samples)
    ages = sorted(int(sample.name.split("_")[0]) for sample in samples)
    assert sorted(sample.age_years or 0.0 for sample in samples) == ages
    assert sum("race" not in sample.attributes for sample in samples) == 2


# fgnet


def fgnet_folder(root: Path) -> Path:
    return make(
        root,
        "images/001A02.JPG",
        "images/002a43B.jpg",
        "images/003A10.JPG",
        "images/cover.jpg",
        "images/001A70.JPG",
        "points/001a02.pts",
        "points/002A43b.PTS",
    )


def test_fgnet_pictures_with_their_points(tmp_path: Path) -> None:
    dataset = fgnet.load(fgnet_folder(tmp_path))
    assert names_of(dataset) == ["images/001A02.JPG", "images/002a43B.jpg", "images/003A10.JPG"]
    assert [sample.age_years for sample in dataset.samples] == [2, 43, 10]
    assert [sample.identity for sample in dataset.samples] == ["001", "002", "003"]
    points = [sample.landmarks_path for sample in dataset.samples]
    assert points == [tmp_path / "points/001a02.pts", tmp_path / "points/002A43b.PTS", None]
    assert dataset.spec.label_kind == "birth-age"
    assert dataset.spec.notes == ("1 of 3 pictures have no points file",)
    assert reasons(dataset).keys() == {"images/cover.jpg", "images/001A70.JPG"}


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (("Images/001A02.JPG", "POINTS/001a02.pts"), "Images/001A02.JPG"),
        (("001A02.JPG", "points/001a02.pts"), "001A02.JPG"),
        (("001A02.JPG", "../points/001a02.pts"), "001A02.JPG"),
    ],
)
def test_fgnet_layouts(made: tuple[str, str], name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    make(root, *made)
    dataset = fgnet.load(root)
    assert names_of(dataset) == [name]
    found = dataset.samples[0].landmarks_path
    assert found is not None
    assert found.samefile(root / made[1])
    assert dataset.spec.notes == ()


@needs_posix
def test_fgnet_follows_no_linked_images_folder(tmp_path: Path) -> None:
    fgnet_folder(tmp_path / "real")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "images").symlink_to(tmp_path / "real" / "images")
    with pytest.raises(DatasetError, match="link to a folder"):
        fgnet.load(tmp_path / "root")


@pytest.mark.shared
def test_fgnet_real_pictures(shared_dir: Path) -> None:
    dataset = fgnet.load(shared_dir / "data" / "fgnet")
    assert len(dataset) == 251
    assert dataset.problems == ()
    assert len({sample.identity for sample in dataset.samples}) == 20
    assert all(sample.landmarks_path for sample in dataset.samples)
    ages = [sample.age_years or 0.0 for sample in dataset.samples]
    assert 0 <= min(ages) <= max(ages) <= 69


# folders


def test_folders_of_ages_and_ranges(tmp_path: Path) -> None:
    make(
        tmp_path,
        "007/a.png",
        "7/a.png",
        "20-29/f/3/a.jpg",
        "(25, 32)/b.jpg",
        "60+/c.jpg",
        "train/9/d.jpg",
        "train/9/e.jpg",
        "loose.jpg",
        "7/readme.txt",
    )
    dataset = folders.load(tmp_path, label_kind="apparent")
    assert {sample.name: (sample.age_years, sample.age_range) for sample in dataset.samples} == {
        "007/a.png": (7.0, None),
        "7/a.png": (7.0, None),
        "20-29/f/3/a.jpg": (None, (20, 29)),
        "(25, 32)/b.jpg": (None, (25, 32)),
        "60+/c.jpg": (None, (60, 116)),
    }
    assert dataset.spec.label_kind == "apparent"
    assert folders.load(tmp_path).spec.label_kind == "unknown"
    assert reasons(dataset)["train"].startswith("2 pictures left out: 'train' is not an age")
    assert "no age folder" in reasons(dataset)["loose.jpg"]
    assert len(dataset.problems) == 2


# csv


def write_csv(root: Path, data: str | bytes, *pictures: str) -> Path:
    make(root, *pictures)
    file = root / "list.csv"
    file.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return file


def test_csv_columns(tmp_path: Path) -> None:
    text = (
        "path,age,identity,group,Gender\n"
        "a.jpg,25,p1,g1,female\n"
        "sub/b.jpg,7.5,,,\n"
        '"c, d.jpg","(25, 32)",p2,,male\n'
        "e.jpg,60+\n"
    )
    file = write_csv(tmp_path, text, "a.jpg", "sub/b.jpg", "c, d.jpg", "e.jpg")
    dataset = csv_list.load(file)
    assert [
        (sample.name, sample.age_years, sample.age_range, sample.identity, dict(sample.attributes))
        for sample in dataset.samples
    ] == [
        ("a.jpg", 25.0, None, "p1", {"group": "g1", "gender": "female"}),
        ("c, d.jpg", None, (25, 32), "p2", {"gender": "male"}),
        ("e.jpg", None, (60, 116), None, {}),
        ("sub/b.jpg", 7.5, None, None, {}),
    ]
    assert dataset.samples[3].path == tmp_path / "sub/b.jpg"
    assert dataset.problems == ()
    assert dataset.spec.label_kind == "unknown"
    assert csv_list.load(tmp_path, label_kind="birth-age").spec.label_kind == "birth-age"


@pytest.mark.parametrize(
    "data",
    [
        b"path,age\na.jpg,25\n",
        b"\xef\xbb\xbfpath,age\r\na.jpg,25\r\n",
        b"\xef\xbb\xbf\r\n\r\n Image ; AGE \r\n\r\na.jpg;25",
        b"\xef\xbb\xbfsep=;\r\nimage;age\r\na.jpg;25",
        b"SEP=|\nimage|age\na.jpg|25",
        b"age\tfilename\r25\ta.jpg\r",
        b'"file","age"\n"a.jpg","25"\n',
        b",path,age\n0,a.jpg,25\n",
        b"path,age\na.jpg,25,\n",
        b"identity,age,file,image\n,25,a.jpg,\n".replace(b",image", b",note"),
    ],
)
def test_csv_dialects_say_the_same(data: bytes, tmp_path: Path) -> None:
    dataset = csv_list.load(write_csv(tmp_path, data, "a.jpg"))
    assert dataset.samples == (Sample(tmp_path / "a.jpg", "a.jpg", 25.0),)
    assert dataset.problems == ()


def test_csv_bad_rows_are_listed_with_their_lines(tmp_path: Path) -> None:
    lines = [
        "path,age,note",
        "good.jpg,30,",
        "missing.jpg,30,",
        "a.jpg,old,",
        "b.jpg,NaN,",
        "c.jpg,-4,",
        ",30,",
        '"two\nlines.jpg",30,',
        "d.jpg,,",
        "folder,30,",
        "e.jpg,(25, 32),x",
        "good.jpg,30,",
        "./folder/../good.jpg,30,",
        "f.jpg,03-Sep,",
        f"{'x' * 5000}.jpg,30,",
    ]
    file = write_csv(tmp_path, "\n".join(lines), "good.jpg", *(f"{c}.jpg" for c in "abcdef"))
    (tmp_path / "folder").mkdir()
    dataset = csv_list.load(file)
    assert names_of(dataset) == ["good.jpg"]
    lines_said = [f"{problem.name}: {problem.reason}" for problem in dataset.problems]
    said = sorted((text[text.index("line ") :] for text in lines_said), key=_line_number)
    assert list(map(_line_number, said)) == [3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16]
    words = ["no file", "'old'", "'NaN'", "'-4'", "picture path", "no file", "''", "not a regular"]
    words += ["cells than headers", "repeats line 2", "repeats line 2", "spreadsheet", "too long"]
    for reason, word in zip(said, words, strict=True):
        assert word in reason
        assert len(reason) < 300


def _line_number(reason: str) -> int:
    return int(reason.split(":", maxsplit=1)[0].removeprefix("line "))


def test_csv_rows_that_contradict_each_other_are_all_left_out(tmp_path: Path) -> None:
    text = "path,age\na.jpg,25\nb.jpg,30\nb.jpg,30.0\na.jpg,26\na.jpg,25\n"
    dataset = csv_list.load(write_csv(tmp_path, text, "a.jpg", "b.jpg"))
    assert names_of(dataset) == ["b.jpg"]
    said = [problem.reason for problem in dataset.problems if problem.name == "a.jpg"]
    assert "lines 2 and 5 give different ages: neither is used" in said


def test_csv_paths_outside_of_its_folder_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "pictures/a.jpg", "b.jpg")
    text = f"path,age\n../pictures/a.jpg,25\n{(tmp_path / 'b.jpg').as_posix()},30\n"
    (tmp_path / "lists").mkdir()
    dataset = csv_list.load(write_csv(tmp_path / "lists", text))
    assert names_of(dataset) == ["../b.jpg", "../pictures/a.jpg"]
    assert all(sample.path.is_file() for sample in dataset.samples)


@needs_posix
def test_csv_opens_no_pipe(tmp_path: Path) -> None:
    file = write_csv(tmp_path, "path,age\npipe.jpg,25\ngood.jpg,30\n", "good.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reasons(csv_list.load(file))["pipe.jpg"].startswith("line 2: ")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DatasetError, match="not a regular file"):
        csv_list.load(tmp_path / "pipe.csv")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "must name the columns"),
        (b"a.jpg,25\n", "must name the columns"),
        (b"path,years\na.jpg,25\n", "'age'"),
        (b"age\n25\n", "'path' or 'filename' or 'file' or 'image' or 'picture'"),
        (b"path|age\na.jpg|25\n", "must name the columns"),
        (b"path,age,age\na.jpg,25,26\n", "twice"),
        (b"path,age\na.jpg,25\n\xe9.jpg,30\n", "line 3 is not"),
        ("path,age\na.jpg,25\n".encode("utf-16"), "must be UTF-8"),
        (b"path,age\na.jpg,\x0025\n", "NUL bytes"),
        (b'path,age\na.jpg,25\n"a.jpg,25\nb.jpg,3\n', "from line 3 on"),
        (b'path,age\n"a"b.jpg,25\n', "fix its quotes"),
        (b"path,age\n" + b"x" * 200_000 + b",25\n", "from line 2 on"),
        (b"path,age\n", "a header line and no rows"),
        (b"path,age\nmissing.jpg,25\n", "line 2: no file"),
        (b"<!DOCTYPE html><html></html>", "in place of a CSV file"),
    ],
)
def test_csv_wrong_as_a_whole_is_one_sentence(data: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as error:
        csv_list.load(write_csv(tmp_path, data, "a.jpg"))
    assert said in str(error.value)
    assert "list.csv" in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.skipif(os.name == "nt", reason="there are no pipes in folders")
def test_tables_open_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.csv")
    with pytest.raises(DatasetError, match="not a regular file"):
        read_csv_table(tmp_path / "manifest.csv", [("name",)])


def test_csv_root_must_be_one_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        csv_list.load(tmp_path / "absent.csv")
    with pytest.raises(DatasetError, match="has none: give the folder or path of one"):
        csv_list.load(tmp_path)
    make(tmp_path, "a.csv", "b.CSV")
    with pytest.raises(DatasetError, match=r"has 2 \(a.csv, b.CSV\)"):
        csv_list.load(tmp_path)
