"""Pictures that are small as files and huge, endless or odd as pictures."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.errors import ImageError
from agebench.prediction.predictor import AgePredictor
from agebench.protocols import DetectorSpec
from agebench.types import Face, Image
from agebench.vision.faces import find_faces
from agebench.vision.images import MAX_FILE_BYTES, decode_image, read_file
from agebench.vision.opencv import cv2


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *extra: bytes) -> bytes:
    """A whole black-and-white PNG; ten thousand pixels take about a byte."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    body = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    parts = [_chunk(b"IHDR", header), *extra, _chunk(b"IDAT", body), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _jpeg_of(width: int, height: int) -> bytes:
    """A small JPEG whose header declares another size."""
    stream = io.BytesIO()
    PillowImage.new("RGB", (16, 16), (9, 99, 199)).save(stream, "JPEG")
    data = bytearray(stream.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def test_bombs_are_refused_by_their_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("was decoded")

    bombs = (_png(30_000, 30_000), _jpeg_of(65_500, 65_500))
    monkeypatch.setattr(cv2, "imdecode", never)
    monkeypatch.setattr(PillowImage.Image, "load", never)
    assert len(bombs[0]) < 200_000
    for data in bombs:
        with pytest.raises(ImageError, match="more than the limit"):
            decode_image(data, "x")


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (3, 40_000), (1, 1), (1, 7)])
@pytest.mark.parametrize("detector", ["haar", "aligned"])
def test_absurd_sides(size: tuple[int, int], detector: str) -> None:
    answer = AgePredictor("constant years=30", detector=detector).predict_one(_png(*size))
    assert answer.status == "ok", answer.reason
    assert all(age.years == 30 for face in answer.faces for age in face.ages.values())


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_thousands_of_frames_one_is_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 300 if kind == "TIFF" else 2000
    frames = [PillowImage.new("RGB", (8, 8), (index % 256, 50, 9)) for index in range(count)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    assert getattr(PillowImage.open(stream), "n_frames", 1) > 200
    sought: list[int] = []
    for plugin in ("GifImagePlugin.GifImageFile", "WebPImagePlugin.WebPImageFile"):
        monkeypatch.setattr(f"PIL.{plugin}.seek", lambda _self, frame: sought.append(frame))
    first = decode_image(stream.getvalue(), "x")
    assert first.shape == (8, 8, 3)
    assert np.abs(first.astype(int) - (9, 50, 0)).max() <= 6
    assert not sought


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_packed_texts_are_not_unpacked_without_end(kind: bytes) -> None:
    """A hundred kilobytes of text or profile that unpack to a hundred megabytes."""
    packed = zlib.compress(bytes(100_000_000), 9)
    start = b"key\0\1\0\0\0" if kind == b"iTXt" else b"key\0\0"
    data = _png(8, 8, _chunk(kind, start + packed))
    assert len(data) < 200_000
    with pytest.raises(ImageError) as caught:
        decode_image(data, "x")
    assert len(str(caught.value).splitlines()) == 1


def test_files_above_the_limit_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse: no disk is filled
    with pytest.raises(ImageError, match="more than the limit"):
        read_file(path)


class Many:
    """A detector that sees a face in every few pixels."""

    spec = DetectorSpec("many")

    def __init__(self, count: int) -> None:
        self._count = count

    def detect(self, image_bgr: Image, /) -> list[Face]:
        return [
            Face((float(index % 64), 0.0, index % 64 + 3.0, 4.0 + index % 7), 0.5)
            for index in range(self._count)
        ]


def test_ten_thousand_faces_are_all_answered(astronaut_bgr: Image) -> None:
    answer = AgePredictor("constant years=30", detector=Many(10_000)).predict_image(astronaut_bgr)
    assert answer.status == "ok"
    assert len(answer.faces) == 10_000


def test_of_ten_thousand_faces_the_referee_keeps_one(astronaut_bgr: Image) -> None:
    found = find_faces(Many(10_000), astronaut_bgr)
    assert [face.box_xyxy[3] for face in found.faces] == [10.0]
    assert found.found == 10_000
