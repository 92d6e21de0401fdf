"""IMDB-WIKI by its own table, and `folders`, which must not take its numbered folders for ages."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from agebench.datasets import folders
from agebench.datasets.imdb_wiki import age_in_name, load
from agebench.errors import DatasetError
from agebench.registry.plugins import load_dataset

NAMES = [
    "00/1_1899-05-10_1968.jpg",
    "00/2_1960-08-20_2000.jpg",
    "01/3_1960-08-20_2000.jpg",
    "01/4_1960-08-20_2000.jpg",
    "01/5_2001-01-01_2000.jpg",
    "01/absent_1960-08-20_2000.jpg",
]
BORN = [(1899, 5, 10), (1960, 8, 20), (1960, 8, 20), (1960, 8, 20), (2001, 1, 1), (1960, 8, 20)]
SCORES = [3.5, 2.0, -np.inf, 1.0, 1.0, 1.0]
SECOND = [np.nan, np.nan, np.nan, 1.5, np.nan, np.nan]


def make(root: Path, stem: str = "wiki", **changed: Any) -> Path:
    """Write pictures of no bytes and the table as Matlab holds it."""
    for name in NAMES[:-1]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    texts = np.empty(len(NAMES), dtype=object)
    texts[:] = NAMES
    people = np.empty(len(NAMES), dtype=object)
    people[:] = ["Ann", "Bob", "Cyd", "Dan", "Eve", "Fay"]
    locations = np.empty(len(NAMES), dtype=object)
    locations[:] = [np.array([[1.0, 2.0, 11.0, 22.0]])] * len(NAMES)
    fields = {
        # Matlab's datenum counts from the year 0.
        "dob": np.array([[dt.date(*born).toordinal() + 366 for born in BORN]], np.int32),
        "photo_taken": np.array([[1968, 2000, 2000, 2000, 2000, 2000]], np.uint16),
        "full_path": texts[None],
        "gender": np.array([[0.0, 1.0, np.nan, 1.0, 1.0, 1.0]]),
        "name": people[None],
        "face_score": np.array([SCORES]),
        "second_face_score": np.array([SECOND]),
        "face_location": locations[None],
    }
    savemat(root / f"{stem}.mat", {stem: {**fields, **changed}})
    return root


def test_the_makers_table_and_what_is_left_out_of_it(tmp_path: Path) -> None:
    dataset = load(make(tmp_path / "wiki_crop"))
    assert [
        (item.name, item.age_years, item.identity, item.attributes.get("gender"), item.box_xyxy)
        for item in dataset.samples
    ] == [
        ("00/1_1899-05-10_1968.jpg", 69.0, "Ann", "female", None),
        ("00/2_1960-08-20_2000.jpg", 39.0, "Bob", "male", None),
    ]
    reasons = {problem.name[3:4]: problem.reason for problem in dataset.problems}
    assert "no face" in reasons["3"]
    assert "second face" in reasons["4"]
    assert "-1 years is not a possible age" in reasons["5"]
    assert "no picture" in reasons["a"]
    assert dataset.spec.label_kind == "birth-age"
    assert "cut around a face" in dataset.spec.notes[1]


def test_whole_pictures_have_boxes_and_unclean_ones_can_be_had(tmp_path: Path) -> None:
    root = make(tmp_path / "imdb", "imdb")
    dataset = load_dataset("imdb-wiki clean=false", root)
    assert len(dataset.samples) == 4
    assert {item.box_xyxy for item in dataset.samples} == {(0.0, 1.0, 10.0, 21.0)}
    assert load(root, pictures="crops").samples[0].box_xyxy is None


def test_a_table_as_csv(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "wiki.mat").unlink()
    born = dt.date(1899, 5, 10).toordinal() + 366
    (tmp_path / "meta.csv").write_text(
        "full_path,dob,photo_taken,gender,face_score\n"
        f"['{NAMES[0]}'],{born},1968,0,3.5\n"
        f"wiki_crop/{NAMES[1]},1960-08-20,2000,1,2.0\n"
        f"{NAMES[2]},,2000,1,2.0\n"
    )
    dataset = load(tmp_path, pictures="crops")
    assert [item.age_years for item in dataset.samples] == [69.0, 39.0]
    assert dataset.problems[0].reason == "the date of birth is not known"


def test_boxes_of_a_csv_table_and_what_is_said_where_there_are_none(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "wiki.mat").unlink()
    table = tmp_path / "meta.csv"
    rows = [f"{name},1960-08-20,2000" for name in NAMES[:2]]
    table.write_text("full_path,dob,photo_taken\n" + "\n".join(rows) + "\n")
    dataset = load(tmp_path, pictures="originals")
    assert [item.box_xyxy for item in dataset.samples] == [None, None]
    assert "the table's box for 0 of 2; for the others, the largest" in dataset.spec.notes[1]
    boxed = [f'{rows[0]},"[[1.0 2.0 11.0 22.0]]"', f'{rows[1]},"[1, 2, 11, 22]"']
    table.write_text("full_path,dob,photo_taken,face_location\n" + "\n".join(boxed) + "\n")
    dataset = load(tmp_path, pictures="originals")
    assert [item.box_xyxy for item in dataset.samples] == [(0.0, 1.0, 10.0, 21.0)] * 2
    assert dataset.spec.notes[1] == "whole pictures, the face by the table's box"


@pytest.mark.parametrize("name", ["folders", "facial-age", "agfw"])
def test_no_set_of_age_folders_takes_its_numbered_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="IMDB-WIKI"):
        load_dataset(name, make(tmp_path))


def test_tables_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "wiki.mat").write_bytes(b"<html>" * 100)
    with pytest.raises(DatasetError, match="IMDB-WIKI"):
        load(tmp_path)
    savemat(tmp_path / "wiki.mat", {"wiki": {"dob": [1.0, 2.0]}})
    with pytest.raises(DatasetError, match="full_path"):
        load(tmp_path)
    (tmp_path / "wiki.mat").unlink()
    with pytest.raises(DatasetError, match=r"imdb\.mat, wiki\.mat"):
        load(tmp_path)


def test_one_row_alone(tmp_path: Path) -> None:
    (tmp_path / "00").mkdir()
    (tmp_path / NAMES[0]).touch()
    born = dt.date(1899, 5, 10).toordinal() + 366
    savemat(
        tmp_path / "wiki.mat", {"wiki": {"dob": born, "photo_taken": 1968, "full_path": NAMES[0]}}
    )
    assert load(tmp_path).samples[0].age_years == 69.0


def test_ages_in_names() -> None:
    assert age_in_name("a/nm0000001_rm124825600_1899-5-10_1968.jpg") == 69
    assert age_in_name("10000217_1981-05-05_2009.JPG") == 28
    assert age_in_name("a_1981-13-05_2009.jpg") is None
    assert age_in_name("20_1_2_20170117175041574.jpg") is None


def test_folders_refuses_numbered_folders_of_imdb_wiki(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(DatasetError, match=r"folders in .* are not ages: 5 of 5") as error:
        folders.load(tmp_path)
    assert "--dataset imdb-wiki" in str(error.value)


def test_folders_takes_such_names_where_they_agree(tmp_path: Path) -> None:
    for folder, name in (("69", "1_1899-05-10_1968"), ("30-39", "2_1960-08-20_2000")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.jpg").touch()
    assert len(folders.load(tmp_path).samples) == 2
