"""Files that a user names: nothing is waited for, and no folder is walked without end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from agebench.errors import AgebenchError
from agebench.prediction.sources import find_sources
from agebench.registry.plugins import load_estimator
from agebench.util.files import read_whole
from agebench.util.regular_files import open_regular, read_regular
from agebench.vision.images import read_image
from agebench.vision.video import VideoSource

posix = pytest.mark.skipif(os.name != "posix", reason="needs pipes and devices")


def special(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            before = Path.cwd()
            os.chdir(folder)  # the path of a socket is short
            try:
                bound.bind(path.name)
            finally:
                os.chdir(before)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "kmsg":
        if not os.access("/proc/kmsg", os.R_OK):
            pytest.skip("/proc/kmsg can't be read here")
        path.symlink_to("/proc/kmsg")
    else:
        path.mkdir()
    return path


@posix
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "kmsg", "folder"])
def test_what_is_no_regular_file_is_a_sentence_at_once(kind: str, tmp_path: Path) -> None:
    path = special(tmp_path, kind)
    with pytest.raises(OSError, match=r"not a regular file|it is a folder"):
        read_regular(path)
    for read in (
        lambda: read_image(path),
        lambda: VideoSource(path),
        lambda: read_whole(path, "a list", 10),
        lambda: load_estimator(f"onnx:{path}"),
        lambda: load_estimator(f"spec:{path}"),
        lambda: load_estimator(f"caffe-age-net:{path}"),
    ):
        with pytest.raises(AgebenchError):
            read()


@posix
@pytest.mark.timeout(120)
def test_a_file_that_takes_the_name_in_between_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, pipe = tmp_path / "good", special(tmp_path, "pipe")
    good.write_bytes(b"x")
    real = os.open
    monkeypatch.setattr(os, "open", lambda _, flags: real(pipe, flags))
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(good)


@posix
@pytest.mark.timeout(120)
def test_links_to_the_folder_itself_are_followed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("a.jpg", "deep/b.jpg", "deep/.hidden/c.jpg", ".d.jpg"):
        (tmp_path / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / place).touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "e.jpg").touch()
    for name in ("one", "two"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "in")
    (tmp_path / "in" / "out").symlink_to(tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    assert find_sources(["in/**/*.jpg"]).names == ("in/a.jpg", "in/deep/b.jpg", "in/out/e.jpg")
    assert find_sources(["**/b.jpg"]).names == ("in/deep/b.jpg",)
    assert find_sources(["in/**"]).names == ("in/a.jpg", "in/deep/b.jpg", "in/out/e.jpg")
    assert find_sources(["i*/**/deep/**/*.jpg"]).names == ("in/deep/b.jpg",)
    assert find_sources(["./in/d**/*.jpg"]).names == ("in/deep/b.jpg",)
