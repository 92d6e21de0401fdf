"""Landmark files: FG-NET's form, and everything that is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agebench.datasets import fgnet
from agebench.datasets.landmarks import read_pts
from agebench.errors import DatasetError


def pts(count: int = 68, stated: object = None) -> str:
    points = "".join(f"{i}.5 {i * 2}\r\n" for i in range(count))
    return f"version: 1\r\nn_points: {count if stated is None else stated}\r\n{{\r\n{points}}}\r\n"


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "001a02.pts"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_points_come_in_order(tmp_path: Path) -> None:
    points = read_pts(write(tmp_path, pts()))
    assert points == tuple((i + 0.5, i * 2.0) for i in range(68))


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffversion: 1\nn_points: 2\n{\n1 2\n-3.5 4e1\n}",
        "n_points:2\n\n{\n\n  1\t2  \n-3.5 40\n\n}\n\n",
        "VERSION: 1\nN_Points : 2\n{\n1 2\n-3.5 40\n}\n",
    ],
)
def test_looser_forms_are_read(text: str, tmp_path: Path) -> None:
    assert read_pts(write(tmp_path, text), count=2) == ((1.0, 2.0), (-3.5, 40.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "between"),
        ("version: 1\n", "between"),
        (pts().replace("}", ""), "between"),
        (pts().replace("{", "["), "between"),
        (pts() + "more\n", "between"),
        (pts(67), "68 points, got 67"),
        (pts(69), "68 points, got 69"),
        (pts(68, stated=67), "states 67"),
        (pts(68, stated="many"), "n_points"),
        (pts(68, stated="9" * 5000), "n_points"),
        (pts(68, stated="\u00b2"), "n_points"),
        (pts().replace("n_points", "points"), "n_points"),
        (pts().replace("5.5 10", "5.5"), "line 9"),
        (pts().replace("5.5 10\r", "5.5 10 3\r"), "line 9"),
        (pts().replace("5.5 10\r", "nan 10\r"), "line 9"),
        (pts().replace("5.5 10\r", "5.5 inf\r"), "line 9"),
        (pts().replace("5.5 10\r", "5.5 ten\r"), "'5.5 ten'"),
        (b"\x89PNG\r\n\x1a\n\xff\xff", "plain text"),
        (b"version: 1\n" * 200_000, "bytes"),
    ],
)
def test_malformed_files_say_where(text: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"001a02\.pts") as error:
        read_pts(write(tmp_path, text))
    assert said in str(error.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.one_of(st.binary(max_size=200), st.text(alphabet="n_points:{}\n 12.e-", max_size=60)))
def test_no_content_raises_anything_else(tmp_path: Path, content: str | bytes) -> None:
    path = write(tmp_path, content)
    try:
        points = read_pts(path, count=1)
    except DatasetError:
        return
    assert len(points) == 1


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pts", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(DatasetError, match="landmark file"):
            read_pts(path)


@pytest.mark.skipif(os.name != "posix", reason="needs pipes")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pts")
    with pytest.raises(DatasetError, match="no landmark file"):
        read_pts(tmp_path / "pipe.pts")


@pytest.mark.shared
def test_real_files_hold_faces(shared_dir: Path) -> None:
    for sample in fgnet.load(shared_dir / "data" / "fgnet").samples:
        assert sample.landmarks_path is not None
        points = read_pts(sample.landmarks_path)
        assert len(points) == 68
        # The jaw's lowest point lies below every brow and eye point of these upright faces.
        assert max(y for _, y in points[:15]) > max(y for _, y in points[15:36])
