"""Pictures of further formats are read, or counted with what would read them; never dropped."""

from __future__ import annotations

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import features

from agebench.datasets.base import list_files
from agebench.datasets.suffixes import PICTURE_SUFFIXES, UNREAD, VIDEO_SUFFIXES
from agebench.datasets.utkface import load as load_utkface
from agebench.errors import ImageError
from agebench.prediction.sources import find_sources
from agebench.types import Sample
from agebench.vision.decoding import decode_sample
from agebench.vision.images import decode_image

COLOUR_BGR = (40, 90, 200)


def saved(kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    PillowImage.new("RGB", (48, 32), COLOUR_BGR[::-1]).save(content, kind, **options)
    return content.getvalue()


def assert_is_the_picture(data: bytes) -> None:
    image = decode_image(data, "a")
    assert image.shape == (32, 48, 3)
    assert np.abs(image.astype(int) - COLOUR_BGR).max() < 8


def test_no_suffix_is_of_two_kinds() -> None:
    kinds = (PICTURE_SUFFIXES, VIDEO_SUFFIXES, frozenset(UNREAD))
    assert len(frozenset().union(*kinds)) == sum(map(len, kinds))


def test_what_shows_something_is_never_dropped_in_silence(tmp_path: Path) -> None:
    names = ["a.HEIC", "b.avif", "c.jp2", "d.mpo", "e.3gp", "f.CR2", "g.svg", "h.txt", ".h.cr2"]
    for name in names:
        (tmp_path / name).touch()
    files, problems = list_files(tmp_path)
    assert sorted(file.name for file in files) == ["a.HEIC", "b.avif", "c.jp2", "d.mpo"]
    said = {problem.name: problem.reason for problem in problems}
    assert said.keys() == {"e.3gp", "f.CR2", "g.svg"}
    assert "agebench predict" in said["e.3gp"]
    assert "save it as JPEG or PNG" in said["f.CR2"]


def test_predict_takes_videos_of_telephones_and_lists_raw_files(tmp_path: Path) -> None:
    for name in ("e.3gp", "f.CR2", "a.jpg"):
        (tmp_path / name).touch()
    found = find_sources([str(tmp_path)])
    assert [Path(name).name for name in found.names] == ["a.jpg", "e.3gp"]
    assert [Path(problem.name).name for problem in found.problems] == ["f.CR2"]


def test_pictures_that_a_set_does_not_have_are_listed(tmp_path: Path) -> None:
    for name in ("26_1_2_20170117175041574.jpg", "27_1_2_20170117175041574.heic"):
        (tmp_path / name).touch()
    dataset = load_utkface(tmp_path)
    assert len(dataset.samples) == 1
    assert [problem.reason for problem in dataset.problems] == [
        "a picture, but those of this set are not named .heic"
    ]


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow reads no JPEG 2000")
def test_jpeg_2000_is_read() -> None:
    assert_is_the_picture(saved("JPEG2000"))


def test_the_first_of_several_pictures_in_one_file_is_read() -> None:
    other = PillowImage.new("RGB", (48, 32))
    assert_is_the_picture(saved("MPO", save_all=True, append_images=[other]))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_read() -> None:
    assert_is_the_picture(saved("AVIF"))


def test_avif_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda _name: False)
    data = b"\0\0\0\x1cftypavif" + bytes(100)
    with pytest.raises(ImageError, match=r"AVIF picture, which Pillow .* 'pillow>=11.3'"):
        decode_image(data, "a.avif")


@pytest.mark.extra
def test_heic_is_read_with_its_extra() -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    assert_is_the_picture(saved("HEIF"))


def test_heic_without_its_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "pillow_heif":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x1cftypheic" + bytes(100))
    decoded = decode_sample(Sample(tmp_path / "a.heic", "a.heic", 3.0), 10_000)
    assert decoded.image_bgr is None
    assert decoded.reason == ("a HEIC picture, which needs an extra: pip install 'agebench[heif]'")


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x1cftypheic" + bytes(200),
        b"\0\0\0\x1cftypavif" + bytes(200),
        b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(200),
    ],
)
def test_damaged_files_of_these_kinds_are_a_sentence(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode_image(data, "a")


def test_a_reason_does_not_repeat_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    for name in ("a.jpg", "absent.jpg"):
        reason = decode_sample(Sample(tmp_path / name, name, 3.0), 10_000).reason
        assert reason
        assert name not in reason
