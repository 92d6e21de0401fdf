"""Lists as they lie on people's disks: other columns, separators, folders, boxes of faces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from agebench import compare
from agebench.datasets.csv_list import load
from agebench.doctor.diagnosis import examine
from agebench.errors import DatasetError, UsageError
from agebench.harness.settings import CompareSettings
from agebench.protocols import DetectorSpec
from agebench.registry.plugins import load_dataset
from agebench.report.terminal_tables import print_result
from agebench.types import Face, Image, Sample
from agebench.vision.faces import chosen_face


def write(folder: Path, text: str, *pictures: str) -> Path:
    for name in pictures:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "list.csv").write_text(text, encoding="utf-8")
    return folder / "list.csv"


# As APPA-REAL's gt_avg_test.csv: two ages, and the pictures in a folder of their own.
APPA = "img_name,num_ratings,apparent_age_avg,real_age\n001.jpg,38,25.5,24\n002.jpg,40,61.2,70\n"


def test_two_ages_in_one_list_and_the_pictures_elsewhere(tmp_path: Path) -> None:
    file = write(tmp_path, APPA, "my pictures/001.jpg", "my pictures/002.jpg")
    wanted = 'csv path=IMG_NAME age={} images="my pictures" label_kind=birth-age'
    real = load_dataset(wanted.format("real_age"), file)
    assert [(item.name, item.age_years) for item in real.samples] == [
        ("my pictures/001.jpg", 24.0),
        ("my pictures/002.jpg", 70.0),
    ]
    assert real.samples[0].attributes == {"num_ratings": "38", "apparent_age_avg": "25.5"}
    assert real.spec.notes == ("paths are those of column img_name", "ages: age = real_age")
    apparent = load_dataset(wanted.format("apparent_age_avg"), file)
    assert [item.age_years for item in apparent.samples] == [25.5, 61.2]


def test_ages_as_sums_bounds_and_headings_that_look_like_sums(tmp_path: Path) -> None:
    text = "path,real-age,birth,photo,who\na.jpg,30,1970,2001,p1\nb.jpg,31,1970,1960,p2\n"
    file = write(tmp_path, text, "a.jpg", "b.jpg")
    assert [item.age_years for item in load(file, age="Real-Age").samples] == [30.0, 31.0]
    summed = load(file, age="photo-birth", identity="who")
    assert [(item.age_years, item.identity) for item in summed.samples] == [(31.0, "p1")]
    assert "photo-birth gives -10 years" in summed.problems[0].reason
    bounds = load(file, low="photo-birth-1", high="photo-birth")
    assert [item.age_range for item in bounds.samples] == [(30, 31)]


@pytest.mark.parametrize(
    ("mark", "name"), [("|", "bar"), (" ", "space"), ("\t", "tab"), (";", "semicolon")]
)
def test_separators_by_name(mark: str, name: str, tmp_path: Path) -> None:
    file = write(tmp_path, f"path{mark}age\na.jpg{mark}25\n", "a.jpg")
    assert load_dataset(f"csv separator={name}", file).samples[0].age_years == 25.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"age": "real_ag"}, "did you mean 'real_age'"),
        ({"age": "real_age", "identity": "who"}, "has no such column"),
        ({"age": "real_age", "box": "x,y"}, "left, top, right and bottom"),
        ({"age": "real_age", "low": "num_ratings"}, "an age or a range"),
        ({"age": "real_age", "box": "x0,y0,x1,y1"}, "no 'x0'"),
    ],
)
def test_options_that_do_not_fit_the_list(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = write(tmp_path, APPA)
    with pytest.raises(UsageError) as error:
        load(file, path="img_name", **options)
    assert said in str(error.value)


def test_missing_columns_and_folders(tmp_path: Path) -> None:
    file = write(tmp_path, APPA)
    with pytest.raises(DatasetError, match="must name the columns 'file_name'") as caught:
        load(file, path="file_name", age="real_age")
    assert str(caught.value).endswith("rename them, or name yours: 'csv path=HEADING age=HEADING'")
    with pytest.raises(DatasetError, match="expected a folder, found none"):
        load(file, path="img_name", age="real_age", images="absent")
    with pytest.raises(UsageError, match="'csv' takes no path"):
        load_dataset("csv:list.csv", file)


@pytest.mark.skipif(os.name == "nt", reason="there a backslash divides folders anyway")
def test_paths_written_on_windows_are_found(tmp_path: Path) -> None:
    file = write(tmp_path, "path,age\nsub\\a.jpg,25\nodd\\name.jpg,30\n", "sub/a.jpg")
    (tmp_path / "odd\\name.jpg").touch()
    names = [item.name for item in load(file).samples]
    assert names == ["odd\\name.jpg", "sub/a.jpg"]


def test_no_name_is_said_twice(tmp_path: Path) -> None:
    file = write(tmp_path, "path,age\nmissing.jpg,25\n,30\na.jpg,1\n", "a.jpg")
    said = [f"{problem.name}: {problem.reason}" for problem in load(file).problems]
    assert said[0].startswith("line 3: no picture path")
    assert said[1].count("missing.jpg") == 1
    assert all(text.count("line") == 1 for text in said)


# Boxes of faces, as LAGENDA's and other lists of group photographs have them.

BOXES = (
    "path,age,x0,y0,x1,y1\n"
    "group.png,10,0,0,40,40\n"
    "group.png,60,60,0,100,40\n"
    "group.png,30,200,200,240,240\n"
    "group.png,31,-1,-1,-1,-1\n"
)


class TwoFaces:
    """Finds two faces, a little beside the labelled boxes; the second is the larger one."""

    spec = DetectorSpec(name="two")

    def detect(self, _image_bgr: Image, /) -> Sequence[Face]:
        return [Face((2.0, 2.0, 40.0, 42.0), 0.9), Face((58.0, -4.0, 104.0, 44.0), 0.8)]


class Brightness:
    """An age from where the crop was cut: the left half of the picture is dark."""

    def __init__(self) -> None:
        from agebench.registry.plugins import load_estimator

        self._spec = load_estimator("constant").spec

    @property
    def spec(self) -> Any:
        return self._spec

    def predict(self, crops: Any, /) -> Any:
        from agebench.types import AgePrediction

        (pixels,) = crops.views.values()
        return [AgePrediction(float(face.mean() > 100) * 50 + 10) for face in pixels]


def group_picture(folder: Path) -> None:
    picture = np.zeros((300, 300, 3), np.uint8)
    picture[:, 50:] = 255
    (folder / "group.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def test_faces_are_matched_to_their_boxes_and_misses_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, BOXES)
    group_picture(tmp_path)
    dataset = load(file)
    assert [item.name for item in dataset.samples] == [
        "group.png#0,0,40,40",
        "group.png#200,200,240,240",
        "group.png#60,0,100,40",
    ]
    assert dataset.problems[0].reason == "line 5: the face's box is empty: -1, -1, -1, -1"
    settings = CompareSettings(latency_pictures=2, decode_threads=0)
    result = compare([Brightness()], dataset, detector=TwoFaces(), settings=settings)
    by_age = {record.sample.age_years: record for record in result.records}
    assert by_age[10.0].box_xyxy == (2.0, 2.0, 40.0, 42.0)
    assert by_age[10.0].outcomes[0].years == 10.0
    assert by_age[60.0].outcomes[0].years == 60.0
    assert (by_age[30.0].status, by_age[30.0].faces) == ("no_face", 0)
    assert "where the label's box is" in by_age[30.0].reason
    score = result.estimators[0].score
    assert score is not None
    assert (score.missed, score.errors.mae_years) == (1, 0.0)
    print_result(result, Console(width=200))
    assert "the labelled or else largest one was used: 2." in " ".join(
        capsys.readouterr().out.split()
    )
    assert "of at least 0.3" in result.about["dataset"]["notes"][0]


def test_width_and_height_as_sums(tmp_path: Path) -> None:
    file = write(tmp_path, "path,age,x,y,w,h\na.jpg,3,1,2,10,20\n", "a.jpg")
    (sample,) = load(file, box="x,y,x+w,y+h").samples
    assert sample.box_xyxy == (1.0, 2.0, 11.0, 22.0)
    assert sample.attributes == {}


def test_faces_of_one_picture_are_neither_copies_nor_contradictions(tmp_path: Path) -> None:
    file = write(tmp_path, BOXES)
    group_picture(tmp_path)
    diagnosis, _prints = examine(load(file), file, near=True)
    assert diagnosis.identical == diagnosis.near == diagnosis.conflicting == ()


def test_the_face_of_a_label() -> None:
    faces = [Face((0.0, 0.0, 10.0, 10.0), 0.9), Face((20.0, 0.0, 40.0, 20.0), 0.8)]
    assert chosen_face(faces) is faces[1]
    assert chosen_face(faces, (0.0, 0.0, 10.0, 30.0)) is faces[0]  # IoU 1/3
    assert chosen_face(faces, (0.0, 0.0, 10.0, 34.0)) is None  # IoU 10/34
    assert chosen_face([]) is None
    assert chosen_face([], (0.0, 0.0, 1.0, 1.0)) is None


def test_a_sample_has_no_empty_box(tmp_path: Path) -> None:
    for box in ((0.0, 0.0, 0.0, 1.0), (0.0, 0.0, float("nan"), 1.0)):
        with pytest.raises(ValueError, match="not empty"):
            Sample(tmp_path, "a", 3.0, box_xyxy=box)
