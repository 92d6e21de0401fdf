"""Ages for batches of tables: pieces of Ray Data, Spark and pandas."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench import AgePredictor, PredictBatch
from agebench.errors import UsageError
from agebench.prediction import tables
from agebench.types import Image

ESTIMATORS = ("constant years=30", "constant years=40")


@pytest.fixture
def pictures(tmp_path: Path, astronaut_bgr: Image) -> list[str]:
    """A face, no face, and no picture."""
    PillowImage.fromarray(astronaut_bgr[:, :, ::-1]).save(tmp_path / "a.png")
    PillowImage.new("RGB", (64, 64)).save(tmp_path / "black.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return [str(tmp_path / name) for name in ("a.png", "black.png", "broken.jpg")]


def test_a_row_per_face_and_estimator(pictures: list[str]) -> None:
    function = PredictBatch(ESTIMATORS, detector="haar", picture="path", keep=("path", "id"))
    batch = {"path": np.array(pictures), "id": np.arange(3), "other": np.zeros(3)}
    found = function(batch)
    assert list(found) == ["path", "id", *tables.TYPES]
    assert len({len(column) for column in found.values()}) == 1
    direct = AgePredictor(list(ESTIMATORS), detector="haar").predict_one(pictures[0])
    faces = len(direct.faces)
    assert faces >= 1
    assert found["id"].tolist() == [0] * (2 * faces) + [1, 2]
    assert found["path"].tolist()[-2:] == pictures[1:]
    assert found["face"].tolist() == [n + 1 for n in range(faces) for _ in ESTIMATORS] + [0, 0]
    assert found["years"].tolist()[:-2] == [30.0, 40.0] * faces
    assert found["estimator"].tolist() == [*ESTIMATORS] * faces + ["", ""]
    assert found["status"].tolist()[-2:] == ["ok", "unreadable"]
    assert found["reason"][-1]
    assert all(math.isnan(found[name][-1]) for name in ("years", "left", "score", "low_80"))
    box = [found[name][0] for name in ("left", "top", "right", "bottom")]
    assert box == list(direct.faces[0].face.box_xyxy)
    assert {name: column.dtype for name, column in found.items()}["face"] == np.int32


def test_a_row_without_a_picture_has_no_face(pictures: list[str]) -> None:
    function = PredictBatch("constant years=30", detector="haar", keep=("id",))
    cells = np.array([None, pictures[0], float("nan")], dtype=object)
    found = function({"picture": cells, "id": np.arange(3)})
    empty = found["id"] != 1
    assert found["status"][empty].tolist() == ["unreadable", "unreadable"]
    assert set(found["reason"][empty]) == {"there is no picture in this row"}
    assert (found["face"][~empty] >= 1).all()


def test_bytes_and_arrays_are_pictures_too(pictures: list[str], astronaut_bgr: Image) -> None:
    function = PredictBatch("constant years=30", detector="haar")
    data = np.array([Path(pictures[0]).read_bytes(), bytearray(b"no picture")], dtype=object)
    by_bytes = function({"picture": data})
    by_array = function({"picture": astronaut_bgr[None]})
    assert by_bytes["left"][0] == by_array["left"][0]
    assert by_bytes["status"].tolist() == ["ok"] * (len(by_bytes["status"]) - 1) + ["unreadable"]


def test_an_empty_batch_has_all_columns() -> None:
    found = PredictBatch("constant", detector="haar", keep=("id",))(
        {"picture": np.array([], object), "id": np.array([], np.int64)}
    )
    assert {name: len(column) for name, column in found.items()} == dict.fromkeys(
        ("id", *tables.TYPES), 0
    )


def test_no_model_is_sent_to_other_processes(pictures: list[str]) -> None:
    function = PredictBatch("constant years=30", detector="haar", picture="path")
    before = pickle.dumps(function)
    batch = {"path": np.array(pictures)}
    here = function(batch)
    assert pickle.dumps(function) == before
    there = pickle.loads(before)(batch)  # noqa: S301 - made two lines above
    for name, column in here.items():
        np.testing.assert_array_equal(there[name], column, err_msg=name)


@pytest.mark.parametrize(
    ("options", "batch", "words"),
    [
        ({"keep": ("years",)}, {}, "can't be kept"),
        ({}, {"image": np.zeros(1)}, "no column 'picture', only image"),
        ({"keep": ("id",)}, {"picture": np.zeros(1)}, "no column 'id'"),
        ({}, {"picture": np.zeros(1)}, "expected a path"),
        ({}, {"picture": "one/path.jpg"}, "expected a column of values"),
    ],
)
def test_wrong_use_is_said(
    options: dict[str, object], batch: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        PredictBatch("constant", detector="haar", **options)(batch)  # type: ignore[arg-type]


def test_a_schema_needs_the_types_of_kept_columns() -> None:
    function = PredictBatch("constant", keep=("id",))
    assert function.schema({"id": "bigint"}).startswith("`id` bigint, `status` string")
    with pytest.raises(UsageError, match="'id'"):
        function.schema({})


@pytest.mark.extra
def test_data_frames_as_spark_hands_them_over(pictures: list[str]) -> None:
    pd = pytest.importorskip("pandas", reason="needs pandas (pip install agebench[ray])")
    function = PredictBatch("constant years=30", detector="haar", picture="path", keep=("id",))

    def frames() -> Iterator[object]:
        yield pd.DataFrame({"path": pictures[:1], "id": ["a"]}, index=[5])
        yield pd.DataFrame({"path": pictures[1:], "id": ["b", "c"]}, index=[7, 9])

    first, second = function.in_pandas(frames())  # type: ignore[arg-type]
    assert list(first.columns) == ["id", *tables.TYPES]
    assert set(first["id"]) == {"a"}
    assert second["id"].tolist() == ["b", "c"]
    assert second["years"].isna().all()
