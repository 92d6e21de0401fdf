"""Loaders of published sets: what is listed, what is left out and why, hostile lists included."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agebench.datasets import adience, agfw, facial_age, fairface, kaggle_merged
from agebench.datasets.base import ORIGIN, SampleList
from agebench.datasets.listed import path_ending
from agebench.datasets.names import AgeLabel
from agebench.errors import DatasetError
from agebench.metrics.age_classes import ADIENCE_CLASSES, nearest_class
from agebench.registry.plugins import list_plugins, load_dataset
from agebench.types import LABEL_KINDS, Problem
from tests.unit.listings import make, names_of, reasons

needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")


def write(file: Path, text: str | bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))


# What all of them share

LOADERS: dict[str, Callable[..., SampleList]] = {
    "adience": adience.load,
    "agfw": agfw.load,
    "facial-age": facial_age.load,
    "fairface": fairface.load,
    "kaggle-merged": kaggle_merged.load,
}


@pytest.mark.parametrize("name", LOADERS)
def test_missing_empty_and_wrong_roots_say_so(name: str, tmp_path: Path) -> None:
    load = LOADERS[name]
    with pytest.raises(DatasetError, match=f"{name}.*there is nothing at"):
        load(tmp_path / "absent")
    make(tmp_path, "file.txt")
    with pytest.raises(DatasetError, match="not a folder"):
        load(tmp_path / "file.txt")
    with pytest.raises(DatasetError, match=r"can't be reached|there is nothing at"):
        load(tmp_path / "a\0b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=name):
        load(tmp_path / "empty")


@pytest.mark.parametrize("name", LOADERS)
def test_they_are_registered_by_their_own_name(name: str) -> None:
    assert name in {plugin.name for plugin in list_plugins("agebench.datasets")}
    with pytest.raises(DatasetError, match=name):
        load_dataset(name, Path("nowhere/at/all"))


@pytest.mark.parametrize("module", [adience, agfw, facial_age, fairface, kaggle_merged])
def test_their_specs_state_terms_and_kind(module: Any) -> None:
    spec = module.SPEC
    assert spec.label_kind in LABEL_KINDS
    assert spec.licence
    assert spec.source
    assert not spec.aligned


@given(st.text(max_size=40), st.integers(1, 4))
def test_an_ending_never_leads_anywhere(written: str, parts: int) -> None:
    ending = path_ending(written, parts)
    assert ending.count("/") < parts
    assert "\\" not in ending
    assert written.replace("\\", "/").endswith(ending)


# facial-age and AGFW


def test_facial_age_takes_the_folder_around_a_picture(tmp_path: Path) -> None:
    make(
        tmp_path,
        "face_age/001/1.png",
        "face_age/110/2.png",
        "face_age/121/3.png",
        "007/8.png",
        "20/originals/4.png",
        "5.png",
        "face_age/notes.txt",
    )
    dataset = facial_age.load(tmp_path)
    assert {sample.name: sample.age_years for sample in dataset.samples} == {
        "007/8.png": 7.0,
        "face_age/001/1.png": 1.0,
        "face_age/110/2.png": 110.0,
    }
    assert reasons(dataset).keys() == {"face_age/121", "20/originals", "5.png"}
    assert "above 120" in reasons(dataset)["face_age/121"]


def test_agfw_groups_and_genders(tmp_path: Path) -> None:
    make(
        tmp_path,
        "cropped/128/male/age_15_19/1.jpg",
        "cropped/128/female/age_60_94/1.jpg",
        "cropped/128/female/Age 20-24/2.jpg",
        "35-39/3.jpg",
        "cropped/128/male/age_40_3/4.jpg",
        "cropped/128/5.jpg",
        "cropped/64/other/6.jpg",
    )
    dataset = agfw.load(tmp_path)
    assert {item.name: (item.age_range, dict(item.attributes)) for item in dataset.samples} == {
        "cropped/128/male/age_15_19/1.jpg": ((15, 19), {"gender": "male"}),
        "cropped/128/female/age_60_94/1.jpg": ((60, 94), {"gender": "female"}),
        "cropped/128/female/Age 20-24/2.jpg": ((20, 24), {"gender": "female"}),
        "35-39/3.jpg": ((35, 39), {}),
    }
    assert all(sample.age_years is None for sample in dataset.samples)
    # 64 is the side of the pictures, not an age; only the folder right around them counts.
    assert reasons(dataset).keys() == {
        "cropped/128/male/age_40_3",
        "cropped/128",
        "cropped/64/other",
    }


@given(st.text(max_size=20) | st.from_regex(r"(age[_ ])?[0-9]{1,3}[_-][0-9]{1,3}", fullmatch=True))
def test_agfw_group_reads_anything(text: str) -> None:
    label = agfw.parse_group(text)
    if isinstance(label, Problem):
        assert label.name == text
    elif label.age_range is not None:
        low, high = label.age_range
        numbers = [int(number) for number in re.findall("[0-9]+", text)]
        assert low == numbers[0]
        assert high in (*numbers[1:], 116)


# kaggle-merged


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("8_163.jpg", (8, "8_163", "")),
        ("8_163_rot_pos40.jpg", (8, "8_163", "rot_pos40")),
        ("8_163_fliplr.jpg", (8, "8_163", "fliplr")),
        ("110_1_FLIPLR_rot_neg20.JPG", (110, "110_1", "fliplr_rot_neg20")),
        ("45_6201.png", (45, "45_6201", "")),
        ("8_163_3.jpg", (8, "8_163", "3")),
    ],
)
def test_kaggle_names(name: str, expected: tuple[int, str, str]) -> None:
    assert kaggle_merged.parse_kaggle_merged(name) == kaggle_merged.MergedName(*expected)


@pytest.mark.parametrize(
    "name",
    [
        "26_1_2_20170117175041574.jpg.chip.jpg",
        "26_1_2_20170117175041574.jpg",
        "8.jpg",
        "_163.jpg",
        "8_163_.jpg",
        "8_163.jpg.exe",
        "117_1.jpg",
        "\u0668_163.jpg",
        "-8_163.jpg",
        "8_163\n.jpg",
        "8_163 rot.jpg",
        "",
    ],
)
def test_kaggle_names_that_say_nothing(name: str) -> None:
    assert isinstance(kaggle_merged.parse_kaggle_merged(name), Problem)


@given(st.integers(0, 116), st.integers(0, 9_999_999), st.sampled_from(["", "_fliplr", "_rot_x"]))
def test_all_copies_of_a_picture_share_its_origin(age: int, number: int, altered: str) -> None:
    original = kaggle_merged.parse_kaggle_merged(f"{age}_{number}.jpg")
    copy = kaggle_merged.parse_kaggle_merged(f"{age}_{number}{altered}.jpg")
    assert isinstance(original, kaggle_merged.MergedName)
    assert isinstance(copy, kaggle_merged.MergedName)
    assert original.origin == copy.origin == f"{age}_{number}"
    assert original.age_years == copy.age_years == age


@given(st.text(max_size=40))
def test_kaggle_names_never_raise(text: str) -> None:
    kaggle_merged.parse_kaggle_merged(text)
    kaggle_merged.parse_kaggle_merged(f"8_163_{text}.jpg")


TURNED = "combined_faces_train_augmented"


def test_kaggle_merged_ages_origins_and_contradictions(tmp_path: Path) -> None:
    make(
        tmp_path,
        "combined_faces/8_163.jpg",
        "combined_faces/9_1.jpg",
        "combined_faces/10_1.jpg",
        "combined_faces/11_1.jpg",
        "combined_faces/holiday.jpg",
        "combined_faces/other.jpg",
        f"{TURNED}/8_163.jpg",
        f"{TURNED}/8_163_fliplr_rot_pos40.jpg",
        f"{TURNED}/9_1_shear7.jpg",
    )
    write(
        tmp_path / "images_filenames_labels_train.csv",
        "filename,age,target\n"
        "/content/content/combined_faces/8_163.jpg,8,1\n"
        "/content/content/combined_faces/10_1.jpg,12,1\n"
        "/content/content/combined_faces/11_1.jpg,11,1\n"
        "C:\\faces\\holiday.jpg,33,4\n"
        "/content/content/combined_faces/70_5.jpg,70,6\n"
        "/content/content/combined_faces/71_5.jpg,old,6\n"
        "x.jpg,20-29,6\n",
    )
    write(tmp_path / "test.csv", "filename,age\n11_1.jpg,13\n")
    write(tmp_path / "unrelated.csv", "a,b\n1,2\n")
    dataset = kaggle_merged.load(tmp_path)
    assert {
        item.name: (item.age_years, item.attributes[ORIGIN], item.attributes.get("altered"))
        for item in dataset.samples
    } == {
        "combined_faces/8_163.jpg": (8.0, "8_163", None),
        "combined_faces/9_1.jpg": (9.0, "9_1", None),
        "combined_faces/holiday.jpg": (33.0, "holiday", None),
        f"{TURNED}/8_163.jpg": (8.0, "8_163", None),
        f"{TURNED}/8_163_fliplr_rot_pos40.jpg": (8.0, "8_163", "fliplr_rot_pos40"),
        f"{TURNED}/9_1_shear7.jpg": (9.0, "9_1", "shear7"),
    }
    said = reasons(dataset)
    assert "name says 10 years, the CSV file 12" in said["combined_faces/10_1.jpg"]
    assert "different ages for it: 11, 13" in said["combined_faces/11_1.jpg"]
    assert "no CSV file gives its age" in said["combined_faces/other.jpg"]
    assert "'old' is not an age" in said["images_filenames_labels_train.csv:7"]
    assert "range" in said["images_filenames_labels_train.csv:8"]
    assert "'filename' and 'age'" in said["unrelated.csv"]
    assert len(said) == 6
    assert dataset.spec.notes[-2].startswith("1 pictures are named as copies in a way not known")
    assert dataset.spec.notes[-1] == "1 pictures that the CSV files name are not here"
    assert any("unverified" in note for note in dataset.spec.notes)
    plain = kaggle_merged.load(tmp_path, altered=False)
    assert names_of(plain) == [name for name in names_of(dataset) if "fliplr" not in name][:4]
    assert not any("altered" in item.attributes for item in plain.samples)


@pytest.mark.parametrize(
    "data",
    [
        "filename,age\n8_1.jpg,8\n".encode("utf-16"),
        b"filename,age\n\xe9.jpg,8\n",
        b'filename,age\n"8_1.jpg,8\n',
        b"filename,age\n\x00,8\n",
        b"<html></html>",
        b"",
    ],
)
def test_kaggle_merged_survives_a_broken_list(data: bytes, tmp_path: Path) -> None:
    make(tmp_path, "8_1.jpg")
    write(tmp_path / "list.csv", data)
    dataset = kaggle_merged.load(tmp_path)
    assert names_of(dataset) == ["8_1.jpg"]
    assert reasons(dataset)["list.csv"].startswith("not used: ")


# FairFace


@pytest.mark.parametrize(
    ("text", "name", "repaired"),
    [
        ("3-9", "3-9", False),
        ("more than 70", "more than 70", False),
        (" More  than 70 ", "more than 70", False),
        ("70+", "more than 70", False),
        ("10\u201319", "10-19", False),
        ("03-Sep", "3-9", True),
        ("3-Sep", "3-9", True),
        ("Sep-03", "3-9", True),
        ("Oct-19", "10-19", True),
        ("19-Oct", "10-19", True),
    ],
)
def test_fairface_groups(text: str, name: str, repaired: bool) -> None:
    assert fairface.parse_group(text) == fairface.AgeGroup(name, repaired)


@pytest.mark.parametrize(
    "text", ["", "3", "25", "9-3", "04-Sep", "Oct-20", "20-30", "10-19-", "nan"]
)
def test_fairface_other_cells_are_problems(text: str) -> None:
    found = fairface.parse_group(text)
    assert isinstance(found, Problem)
    assert "none of FairFace's nine" in found.reason


def test_fairface_groups_cover_all_ages_once() -> None:
    years = [year for low, high in fairface.AGE_GROUPS.values() for year in range(low, high + 1)]
    assert years == list(range(117))


@given(st.text(max_size=30))
def test_fairface_groups_never_raise(text: str) -> None:
    found = fairface.parse_group(text)
    assert isinstance(found, Problem) or found.name in fairface.AGE_GROUPS


TRAIN = "fairface_label_train.csv"


def fairface_folder(root: Path) -> Path:
    make(root, *(f"train/{number}.jpg" for number in range(1, 6)), "val/1.jpg")
    write(
        root / TRAIN,
        "file,age,gender,race,service_test\n"
        "train/1.jpg,50-59,Male,East Asian,True\n"
        "train/2.jpg,03-Sep,Female,Indian,False\n"
        "train/3.jpg,Oct-19,Male,Black,False\n"
        "train/4.jpg,more than 70,Female,White,False\n"
        "train/5.jpg,forty,Female,White,False\n"
        "train/6.jpg,0-2,Female,White,False\n"
        ",0-2,Female,White,False\n",
    )
    write(root / "fairface_label_val.csv", "file,age,gender,race\nval/1.jpg,0-2,Female,White\n")
    return root


def test_fairface_lists_ranges_and_repairs(tmp_path: Path) -> None:
    dataset = fairface.load(fairface_folder(tmp_path))
    assert {item.name: item.age_range for item in dataset.samples} == {
        "train/1.jpg": (50, 59),
        "train/2.jpg": (3, 9),
        "train/3.jpg": (10, 19),
        "train/4.jpg": (70, 116),
        "val/1.jpg": (0, 2),
    }
    assert dict(dataset.samples[0].attributes) == {
        "part": "train",
        "gender": "male",
        "race": "East Asian",
        "service_test": "True",
    }
    assert dataset.samples[1].attributes["label_note"] == "age group was written '03-Sep'"
    assert dataset.spec.notes[1:] == (
        "1 age groups '03-Sep' read as 3-9: a spreadsheet had damaged them",
        "1 age groups 'Oct-19' read as 10-19: a spreadsheet had damaged them",
    )
    said = reasons(dataset)
    assert said.keys() == {"train/5.jpg", "train/6.jpg", f"line {TRAIN}:8"}
    assert said["train/5.jpg"].startswith(f"line {TRAIN}:6: 'forty'")
    assert "no picture 'train/6.jpg'" in said["train/6.jpg"]
    assert dataset.spec.label_kind == "apparent"


def test_fairface_parts_and_short_names(tmp_path: Path) -> None:
    fairface_folder(tmp_path)
    assert names_of(fairface.load(tmp_path, part="val")) == ["val/1.jpg"]
    assert len(fairface.load(tmp_path, part="train")) == 4
    (tmp_path / "fairface_label_val.csv").rename(tmp_path / "val.csv")
    assert names_of(fairface.load(tmp_path, part="val")) == ["val/1.jpg"]
    (tmp_path / "val.csv").unlink()
    assert len(fairface.load(tmp_path)) == 4
    with pytest.raises(DatasetError, match="part=val"):
        fairface.load(tmp_path, part="val")


def test_fairface_pictures_one_folder_down_and_twice(tmp_path: Path) -> None:
    make(tmp_path, "margin025/train/1.jpg", "margin125/train/1.jpg", "margin025/train/2.jpg")
    write(tmp_path / TRAIN, "file,age\ntrain/1.jpg,3-9\ntrain/2.jpg,3-9\n")
    dataset = fairface.load(tmp_path)
    assert names_of(dataset) == ["margin025/train/2.jpg"]
    assert "2 pictures end in 'train/1.jpg'" in reasons(dataset)["train/1.jpg"]
    make(tmp_path, f"margin025/{TRAIN}")
    with pytest.raises(DatasetError, match=r"there are 2 .*margin025/fairface"):
        fairface.load(tmp_path)


def test_fairface_rows_that_repeat_or_contradict(tmp_path: Path) -> None:
    make(tmp_path, "train/1.jpg", "train/2.jpg", "train/3.jpg")
    write(
        tmp_path / TRAIN,
        "file,age\ntrain/1.jpg,3-9\ntrain/1.jpg,03-Sep\ntrain/2.jpg,3-9\ntrain/3.jpg,0-2\n",
    )
    write(tmp_path / "val.csv", "file,age\ntrain/2.jpg,0-2\n")
    dataset = fairface.load(tmp_path)
    assert names_of(dataset) == ["train/1.jpg", "train/3.jpg"]
    assert reasons(dataset)["train/1.jpg"] == f"line {TRAIN}:3: repeats line {TRAIN}:2"
    expected = f"lines {TRAIN}:4 and val.csv:2 give different ages: neither is used"
    assert reasons(dataset)["train/2.jpg"] == expected


@needs_posix
def test_a_list_leads_out_of_no_folder(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", "train/9.jpg")
    root = make(tmp_path / "root", "train/1.jpg")
    (root / "train" / "8.jpg").symlink_to(outside / "train" / "9.jpg")
    os.mkfifo(root / "train" / "7.jpg")
    rows = [
        "file,age",
        "train/1.jpg,3-9",
        "../outside/train/9.jpg,3-9",
        f"{outside}/train/9.jpg,3-9",
        "train/8.jpg,3-9",
        "train/7.jpg,3-9",
        "..,3-9",
        "train/,3-9",
        f"train/{'x' * 5000}.jpg,3-9",
    ]
    write(root / TRAIN, "\n".join(rows))
    dataset = fairface.load(root)
    assert names_of(dataset) == ["train/1.jpg"]
    about_rows = [item for item in dataset.problems if item.reason.startswith("line ")]
    assert len(about_rows) == 7
    assert all("no picture" in problem.reason for problem in about_rows)
    assert all(len(problem.reason) < 300 for problem in about_rows)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "must name the columns"),
        (b"file,gender\n", "'age'"),
        ("file,age\ntrain/1.jpg,3-9\n".encode("utf-16"), "must be UTF-8"),
        (b"file,age\n\xff,3-9\n", "line 2 is not"),
        (b'file,age\n"train/1.jpg,3-9\n', "fix its quotes"),
        (b"file,age\n", "no usable picture"),
    ],
)
def test_fairface_broken_lists_are_one_sentence(data: bytes, said: str, tmp_path: Path) -> None:
    make(tmp_path, "train/1.jpg")
    write(tmp_path / TRAIN, data)
    with pytest.raises(DatasetError, match=said):
        fairface.load(tmp_path)


# Adience


@pytest.mark.parametrize(
    ("text", "label", "name", "published"),
    [
        ("(25, 32)", AgeLabel(age_range=(25, 32)), "25-32", True),
        ("(60, 100)", AgeLabel(age_range=(60, 100)), "60-100", True),
        ("(25, 23)", AgeLabel(age_range=(25, 32)), "25-32", False),
        ("(38, 42)", AgeLabel(age_range=(38, 42)), "38-43", False),
        ("(38, 48)", AgeLabel(age_range=(38, 48)), "38-43", False),
        ("(8, 23)", AgeLabel(age_range=(8, 23)), "8-12", False),
        ("(25,32)", AgeLabel(age_range=(25, 32)), "25-32", False),
        ("35", AgeLabel(age_years=35.0), "38-43", False),
        ("29", AgeLabel(age_years=29.0), "25-32", False),
        ("2", AgeLabel(age_years=2.0), "0-2", False),
    ],
)
def test_adience_ages(text: str, label: AgeLabel, name: str, published: bool) -> None:
    assert adience.parse_age(text) == adience.AgeClass(label, name, published)


@pytest.mark.parametrize("text", ["None", "", "7", "(7, 9)", "(32, 25)", "(25, 32", "121", "x"])
def test_adience_ages_of_no_class(text: str) -> None:
    assert isinstance(adience.parse_age(text), Problem)


def test_adience_mapped_ages_lie_nearest_to_their_class() -> None:
    # A second way to the same answer; 35 is as far from both of its neighbours.
    for text, name in adience.COMMON_CLASSES.items():
        if text.isdigit() and text != "35":
            index = int(nearest_class([float(text)], ADIENCE_CLASSES)[0])
            assert ADIENCE_CLASSES.labels[index] == name, text


@example("15-20")
@example(" (15, 20) ")
@given(st.text(max_size=20) | st.tuples(st.integers(0, 130), st.integers(0, 130)).map(str))
def test_adience_ages_never_raise(text: str) -> None:
    found = adience.parse_age(text)
    if isinstance(found, adience.AgeClass):
        assert found.class_name in ADIENCE_CLASSES.labels
        # The authors write "(15, 20)"; "15-20" means the same and is not as published.
        written = f"({found.class_name.replace('-', ', ')})"
        assert found.as_published == (" ".join(text.split()) == written)


HEAD = (
    "user_id\toriginal_image\tface_id\tage\tgender\tx\ty\tdx\tdy\ttilt_ang\t"
    "fiducial_yaw_angle\tfiducial_score\n"
)


def row(user: str, image: str, face: int, age: str, gender: str = "f") -> str:
    return f"{user}\t{image}\t{face}\t{age}\t{gender}\t0\t414\t1086\t1383\t-115\t30\t17\n"


def adience_folder(root: Path, *, kinds: tuple[str, ...] = ("aligned", "faces")) -> Path:
    user = "30601258@N03"
    for kind in kinds:
        prefix = {"aligned": "landmark_aligned_face", "faces": "coarse_tilt_aligned_face"}[kind]
        make(root, *(f"{kind}/{user}/{prefix}.{face}.a_o.jpg" for face in range(1, 6)))
        make(root, f"{kind}/7@N00/{prefix}.9.b_o.jpg")
    write(
        root / "fold_0_data.txt",
        HEAD
        + row(user, "a_o.jpg", 1, "(25, 23)")
        + row(user, "a_o.jpg", 2, "(25, 32)", "m")
        + row(user, "a_o.jpg", 3, "None", "")
        + row(user, "a_o.jpg", 4, "35", "u")
        + row(user, "missing.jpg", 2, "(25, 32)", "m"),
    )
    write(root / "fold_4_data.txt", HEAD + row("7@N00", "b_o.jpg", 9, "(60, 100)"))
    write(root / "fold_frontal_2_data.txt", HEAD + row(user, "a_o.jpg", 5, "(0, 2)"))
    return root


def test_adience_published_rows(tmp_path: Path) -> None:
    dataset = adience.load(adience_folder(tmp_path))
    assert [
        (item.name, item.age_range, item.identity, dict(item.attributes))
        for item in dataset.samples
    ] == [
        (
            "aligned/30601258@N03/landmark_aligned_face.2.a_o.jpg",
            (25, 32),
            "30601258@N03/2",
            {"class": "25-32", "fold": "0", "gender": "male"},
        ),
        (
            "aligned/7@N00/landmark_aligned_face.9.b_o.jpg",
            (60, 100),
            "7@N00/9",
            {"class": "60-100", "fold": "4", "gender": "female"},
        ),
    ]
    said = {name.rpartition("/")[2]: reason for name, reason in reasons(dataset).items()}
    assert "no age was noted" in said["landmark_aligned_face.3.a_o.jpg"]
    assert "'(25, 23)' is not one of the eight" in said["landmark_aligned_face.1.a_o.jpg"]
    assert "labels=mapped" in said["landmark_aligned_face.4.a_o.jpg"]
    assert "fold_0_data.txt:6: no picture" in said["landmark_aligned_face.2.missing.jpg"]
    assert len(said) == 4
    assert dataset.spec.notes[0].startswith("aligned pictures, labels=published, 2 of 5")
    assert dataset.spec.notes[1].startswith("2 of 6 rows kept")
    assert "17,424" in dataset.spec.notes[1]


def test_adience_mapped_rows(tmp_path: Path) -> None:
    dataset = adience.load(adience_folder(tmp_path), labels="mapped")
    found = {sample.identity: sample for sample in dataset.samples}
    misprint, single = found["30601258@N03/1"], found["30601258@N03/4"]
    assert misprint.age_range == (25, 32)
    assert misprint.attributes["label_note"] == "age was written '(25, 23)'"
    assert (single.age_years, single.age_range) == (35.0, None)
    assert dict(single.attributes) == {
        "class": "38-43",
        "fold": "0",
        "label_note": "age was written '35'",
    }
    assert len(dataset) == 4


def test_adience_pictures_and_frontal_folds(tmp_path: Path) -> None:
    adience_folder(tmp_path / "both")
    faces = adience.load(tmp_path / "both", pictures="faces")
    assert names_of(faces)[0] == "faces/30601258@N03/coarse_tilt_aligned_face.2.a_o.jpg"
    frontal = adience.load(tmp_path / "both", frontal=True)
    assert [sample.attributes["fold"] for sample in frontal.samples] == ["2"]
    adience_folder(tmp_path / "one", kinds=("faces",))
    assert names_of(adience.load(tmp_path / "one")) == names_of(faces)
    with pytest.raises(DatasetError, match="no usable picture"):
        adience.load(tmp_path / "one", pictures="aligned")


def test_adience_hostile_rows(tmp_path: Path) -> None:
    root = adience_folder(tmp_path / "root")
    make(tmp_path, "aligned/x/landmark_aligned_face.1.a.jpg")
    user = "30601258@N03"
    write(
        root / "fold_1_data.txt",
        HEAD.encode()
        + b"\xef\xbb\xbf\t\t\t\t\n"
        + (
            row("../../aligned/x", "a.jpg", 1, "(0, 2)")
            + row("..", "../../etc/passwd", 1, "(0, 2)")
            + row("", "", 1, "(0, 2)")
            + "\n\t\t\n"
            + row(user, "a_o.jpg", 2, "(25, 32)")
            + row(user, "a_o.jpg", 5, "(0, 2)")
            + row(user, "a_o.jpg", 5, "(4, 6)")
        ).encode(),
    )
    dataset = adience.load(root)
    assert len(dataset) == 2
    said = list(reasons(dataset).values())
    assert sum("fold_1_data.txt" in reason for reason in said) == 6
    assert any(
        reason == "line fold_1_data.txt:8: repeats line fold_0_data.txt:3" for reason in said
    )
    assert "lines fold_1_data.txt:9 and fold_1_data.txt:10 give different ages" in " ".join(said)


def test_adience_fold_files_missing_twice_or_broken(tmp_path: Path) -> None:
    make(tmp_path, "aligned/u/landmark_aligned_face.1.a.jpg")
    with pytest.raises(DatasetError, match=r"fold_0_data\.txt"):
        adience.load(tmp_path)
    write(tmp_path / "fold_0_data.txt", "user_id,age\n")
    with pytest.raises(DatasetError, match="'original_image'"):
        adience.load(tmp_path)
    write(tmp_path / "old" / "fold_0_data.txt", HEAD)
    with pytest.raises(DatasetError, match="each fold file once"):
        adience.load(tmp_path)


def test_headings_of_endless_length_are_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,age," + "x" * 140_000 + "\na.png,1,\n")
    with pytest.raises(DatasetError, match="has no column names"):
        load_dataset("csv", path)


def test_lists_above_the_limit_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    with path.open("wb") as file:
        file.truncate(500_000_001)  # sparse: no disk is filled
    with pytest.raises(DatasetError, match="more than 500,000,000 bytes"):
        load_dataset("csv", path)
