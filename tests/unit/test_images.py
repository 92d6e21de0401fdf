"""Picture files of every odd kind: decoded by rule or refused with the reason."""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from agebench.errors import ImageError
from agebench.types import Image
from agebench.vision import images
from agebench.vision.images import decode_image, read_file, read_image
from agebench.vision.jpeg import ending_with_its_data
from agebench.vision.opencv import cv2

JPEG_TOLERANCE = 6
"""OpenCV and Pillow may decode a JPEG with other builds of libjpeg."""


def _blocks(height: int = 48, width: int = 64) -> npt.NDArray[np.uint8]:
    """R, G, B blocks of 16 pixels, which JPEG keeps well."""
    coarse = np.random.default_rng(3).integers(0, 256, (height // 16, width // 16, 3))
    return np.kron(coarse, np.ones((16, 16, 1))).astype(np.uint8)


def _encode(picture: Any, kind: str, **options: Any) -> bytes:
    if isinstance(picture, np.ndarray):
        picture = PillowImage.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _by_pillow(data: bytes) -> Image:
    with PillowImage.open(io.BytesIO(data)) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
    return np.asarray(upright)[:, :, ::-1]


def _difference(got: Image, expected: Any) -> float:
    assert got.shape == np.shape(expected)
    assert got.dtype == np.uint8
    return float(np.abs(got.astype(float) - expected).max())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_plain_pictures_come_as_b_g_r(kind: str) -> None:
    rgb = _blocks()
    assert _difference(decode_image(_encode(rgb, kind), "x"), rgb[:, :, ::-1]) == 0


def test_lossless_webp_and_jpeg() -> None:
    rgb = _blocks()
    webp = _encode(rgb, "WEBP", lossless=True)
    assert _difference(decode_image(webp, "x"), rgb[:, :, ::-1]) == 0
    jpeg = _encode(rgb, "JPEG", quality=100, subsampling=0)
    assert _difference(decode_image(jpeg, "x"), rgb[:, :, ::-1]) <= JPEG_TOLERANCE


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_gray_becomes_three_equal_channels(kind: str) -> None:
    gray = _blocks()[:, :, 0]
    got = decode_image(_encode(gray, kind), "x")
    assert _difference(got, np.repeat(gray[:, :, None], 3, 2)) <= JPEG_TOLERANCE
    assert (got[..., 0] == got[..., 2]).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(kind: str, orientation: int) -> None:
    picture = PillowImage.fromarray(_blocks())
    exif = picture.getexif()
    exif[0x0112] = orientation
    data = _encode(picture, kind, exif=exif)
    got = decode_image(data, "x")
    assert got.shape == ((64, 48, 3) if orientation >= 5 else (48, 64, 3))
    assert _difference(got, _by_pillow(data)) <= JPEG_TOLERANCE


def test_odd_pictures_are_turned_upright_too() -> None:
    picture = PillowImage.fromarray(_blocks()).convert("CMYK")
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    data = _encode(picture, "JPEG", exif=exif, quality=100)
    assert decode_image(data, "x").shape == (64, 48, 3)


def test_cmyk_is_converted() -> None:
    data = _encode(PillowImage.fromarray(_blocks()).convert("CMYK"), "JPEG", quality=100)
    assert _difference(decode_image(data, "x"), _by_pillow(data)) == 0
    assert _difference(decode_image(data, "x"), _blocks()[:, :, ::-1]) <= 3 * JPEG_TOLERANCE


@pytest.mark.parametrize("progressive", [False, True])
def test_cmyk_that_ends_amid_its_data_is_refused(*, progressive: bool) -> None:
    picture = PillowImage.fromarray(_blocks()).convert("CMYK")
    data = _encode(picture, "JPEG", progressive=progressive)
    middle = (data.rfind(b"\xff\xda") + len(data)) // 2
    decode_image(data, "x.jpg")
    with pytest.raises(ImageError, match="truncated"):
        decode_image(data[:middle] + b"\xff\xd9" + data[middle:], "x.jpg")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_gray_is_scaled_not_cut(kind: str) -> None:
    gray = (np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)
    got = decode_image(_encode(gray, kind), "x")
    assert _difference(got[:, :, 0], np.rint(gray / 257)) == 0


def test_white_may_be_the_zero_of_sixteen_bits() -> None:
    gray = (np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)
    got = decode_image(_encode(gray, "TIFF", tiffinfo={262: 0}), "x")
    assert _difference(got[:, :, 0], 255 - np.rint(gray / 257)) == 0


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_colour_is_scaled_not_cut(suffix: str) -> None:
    bgr = _blocks()[:, :, ::-1].astype(np.uint16) * 257
    _, data = cv2.imencode(suffix, bgr)
    assert _difference(decode_image(data.tobytes(), "x"), bgr / 257) <= 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_laid_over_white(kind: str) -> None:
    rgb = _blocks()
    alpha = np.zeros(rgb.shape[:2], np.uint8)
    alpha[:, 16:32], alpha[:, 32:] = 128, 255
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    got = decode_image(_encode(np.dstack([rgb, alpha]), kind, **options), "x")
    share = alpha[:, :, None] / 255.0
    assert _difference(got, (rgb * share + 255 * (1 - share))[:, :, ::-1]) <= 1


def test_transparent_palettes_and_colours() -> None:
    palette = PillowImage.new("P", (4, 2), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    got = decode_image(_encode(palette, "PNG", transparency=0), "x")
    assert got[0, :2].tolist() == [[255, 255, 255], [60, 50, 40]]
    opaque = decode_image(_encode(palette, "PNG"), "x")
    assert opaque[0, :2].tolist() == [[30, 20, 10], [60, 50, 40]]
    colour = PillowImage.new("RGB", (2, 1), (1, 2, 3))
    colour.putpixel((1, 0), (7, 8, 9))
    got = decode_image(_encode(colour, "PNG", transparency=(1, 2, 3)), "x")
    assert got[0].tolist() == [[255, 255, 255], [9, 8, 7]]


def test_one_tone_of_16_bits_may_be_transparent() -> None:
    tones = np.array([[1000, 20000, 40000, 65535]], np.uint16)
    plain = decode_image(_encode(tones, "PNG"), "x")
    assert plain[0, :, 0].tolist() == [4, 78, 156, 255]
    data = _encode(tones, "PNG", transparency=1000)
    assert PillowImage.open(io.BytesIO(data)).info["transparency"] == 1000
    assert decode_image(data, "x")[0, :, 0].tolist() == [255, 78, 156, 255]


@pytest.mark.parametrize(
    ("head", "pixels", "expected"),
    [
        (b"P6 2 1 15\n", [15, 15, 15, 0, 3, 15], [[255, 255, 255], [255, 51, 0]]),
        (b"P5 2 1 15\n", [15, 3], [[255] * 3, [51] * 3]),
        (b"P6 1 1 1023\n", [3, 255, 3, 255, 0, 0], [[0, 255, 255]]),
        (b"P5 2 1 65535\n", [255, 255, 128, 128], [[255] * 3, [128] * 3]),
        (b"P5 2 1 255\n", [7, 255], [[7] * 3, [255] * 3]),
        (b"P4 2 1\n", [0b01000000], [[255] * 3, [0] * 3]),
    ],
)
def test_portable_pixmaps_of_any_depth(
    head: bytes, pixels: list[int], expected: list[list[int]]
) -> None:
    assert decode_image(head + bytes(pixels), "x")[0].tolist() == expected


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [PillowImage.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = _encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert decode_image(data, "x")[0, 0].tolist() == [0, 0, 255], kind


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
def test_pictures_of_a_pixel(size: tuple[int, int]) -> None:
    data = _encode(PillowImage.new("RGB", size, (1, 2, 3)), "PNG")
    got = decode_image(data, "x")
    assert got.shape == (size[1], size[0], 3)
    assert (got == (3, 2, 1)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated_pictures_are_refused(kind: str, share: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    data = _encode(noise, kind)
    with pytest.raises(ImageError, match=r"^some\.file: "):
        decode_image(data[: int(len(data) * share)], "some.file")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello", "expected a picture, got a file of unknown format"),
        (b"\0" * 1000, "a file of unknown format"),
        (b"%PDF-1.7 ...", "a file of unknown format"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"\n  <HTML lang=en>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"GIF89a", "x.jpg: "),
        (b"\xff\xd8\xff", "x.jpg: "),
        (b"\x89PNG\r\n\x1a\n", "x.jpg: "),
        (b"BM", "x.jpg: "),
        (b"II*\0", "x.jpg: "),
        (b"RIFF\0\0\0\0WEBP", "x.jpg: "),
    ],
)
def test_files_that_are_no_pictures(content: bytes, said: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(content, "x.jpg")
    assert said in str(caught.value)


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    idat = chunk(b"IDAT", zlib.compress(b"\0" * 64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + idat + chunk(b"IEND", b"")


def test_too_many_declared_pixels_are_refused_undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("was decoded")

    monkeypatch.setattr(cv2, "imdecode", never)
    for width, height in ((20_000, 20_000), (10_001, 10_000), (2_000_000, 60_000)):
        with pytest.raises(ImageError, match=r"limit of 100,000,000.*shrink the picture first"):
            decode_image(_png_header(width, height), "x")
    with pytest.raises(ImageError, match="100x100 pixels, more than the limit of 9,999"):
        decode_image(_png_header(100, 100), "x", max_pixels=9_999)


def test_a_limit_above_pillows_own_names_the_one_that_holds() -> None:
    with pytest.raises(ImageError, match="limit of 178,956,970"):
        decode_image(_png_header(20_000, 20_000), "x", max_pixels=10**12)


def test_a_picture_at_the_limit_is_taken() -> None:
    data = _encode(_blocks(), "PNG")
    assert decode_image(data, "x", max_pixels=48 * 64).shape == (48, 64, 3)


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tmp_path / "\u00e9\u4e16 \u2603.png"
    good.write_bytes(_encode(_blocks(), "PNG"))
    assert read_image(good).shape == (48, 64, 3)
    assert read_image(str(good)).shape == (48, 64, 3)
    (tmp_path / "empty.jpg").touch()
    for name, said in (
        ("missing.jpg", "can't be read: No such file"),
        (".", "expected a picture, got a folder"),
        ("empty.jpg", "the file is empty"),
        ("a\0b.jpg", "can't be read"),
        (f"{good.name}/below.jpg", "can't be read: Not a directory"),
        ("n" * 300 + ".jpg", "can't be read"),
    ):
        with pytest.raises(ImageError) as caught:
            read_file(tmp_path / name)
        assert said in str(caught.value)
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 10)
    with pytest.raises(ImageError, match="more than the limit of 10"):
        read_file(good)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="a special file"):
        read_file(tmp_path / "pipe.jpg")


def test_threads_decode_what_one_does() -> None:
    kinds = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
    encoded = [_encode(_blocks(), kind) for kind in kinds] * 4
    expected = [decode_image(data, "x") for data in encoded]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda data: decode_image(data, "x"), encoded))
    assert all(map(np.array_equal, answers, expected))


def _by_opencv(data: bytes) -> Image:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(decoded, np.uint8)


@pytest.mark.parametrize("damage", ["end marker", "zeros"])
@pytest.mark.parametrize("restart", [0, 4])
def test_a_jpeg_whose_data_end_early_is_refused(damage: str, restart: int) -> None:
    """Decoders make up the rest where an end marker, or a run of zeros, follows."""
    pixels = np.random.default_rng(3).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    done, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_RST_INTERVAL, restart])
    assert done
    data = encoded.tobytes()
    half = data[: len(data) // 2].rstrip(b"\xff")
    rest = b"\xff\xd9" if damage == "end marker" else bytes(len(data) - len(half))
    with pytest.raises(ImageError, match="truncated or damaged JPEG"):
        decode_image(half + rest, "half.jpg")
    assert np.array_equal(decode_image(data, "whole.jpg"), _by_opencv(data))
    trailer = data + b"what some cameras put behind"
    assert np.array_equal(decode_image(trailer, "more.jpg"), _by_opencv(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_the_first_picture_of_a_phones_two_is_whole_or_refused(progressive: bool) -> None:
    """Phones put a second picture or a gain map behind the JPEG (MPO)."""
    noise = np.random.default_rng(3).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    one = PillowImage.fromarray(noise)
    data = _encode(one, "MPO", save_all=True, append_images=[one], progressive=progressive)
    assert np.array_equal(decode_image(data, "whole.jpg"), _by_opencv(data))
    quarter = len(data) // 4
    for rest in (bytes(len(data) - quarter), b"\xff\xd9" + data[quarter + 2 :]):
        with pytest.raises(ImageError, match="truncated or damaged"):
            decode_image(data[:quarter].rstrip(b"\xff") + rest, "damaged.jpg")


def _several_scans(pixels: Image, kind: str) -> bytes:
    if kind in ("by OpenCV", "restarts"):
        every = [cv2.IMWRITE_JPEG_RST_INTERVAL, 8 if kind == "restarts" else 0]
        done, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, *every])
        assert done
        return encoded.tobytes()
    picture = PillowImage.fromarray(pixels).convert("L" if kind == "gray" else "RGB")
    stream = io.BytesIO()
    sampling = 0 if kind == "full colour" else 2
    picture.save(stream, "JPEG", progressive=True, quality=88, subsampling=sampling)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["by OpenCV", "gray", "full colour", "half colour", "restarts"])
@pytest.mark.parametrize("tail", ["nothing", "end marker", "zeros"])
def test_a_progressive_jpeg_whose_data_end_early_is_refused(kind: str, tail: str) -> None:
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    data = _several_scans(np.asarray(cv2.resize(coarse, (128, 96)), np.uint8), kind)
    assert np.array_equal(decode_image(data, "whole.jpg"), _by_opencv(data))
    trailer = data + b"what some cameras put behind\xff\xd9"
    assert np.array_equal(decode_image(trailer, "more.jpg"), _by_opencv(data))
    start = data.index(b"\xff\xda")
    for end in np.linspace(start + 20, len(data) - 3, 25).astype(int).tolist():
        part = data[:end].rstrip(b"\xff")
        rest = {"nothing": b"", "end marker": b"\xff\xd9", "zeros": bytes(len(data) - end)}[tail]
        # Refused, unless the bits that are gone were those that are taken for missing ones.
        with contextlib.suppress(ImageError):
            assert np.array_equal(decode_image(part + rest, "part.jpg"), _by_opencv(data))


@pytest.mark.parametrize("kind", ["one scan", "one with restarts", "full colour", "restarts"])
@pytest.mark.parametrize("mark", ["application", "comment", "restart", "reserved", "start"])
def test_a_jpeg_with_a_marker_amid_its_data_is_refused(kind: str, mark: str) -> None:
    """Decoders stop at any marker, and make up what the scan lacks."""
    pixels = np.random.default_rng(3).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    if kind.startswith("one"):
        every = [cv2.IMWRITE_JPEG_RST_INTERVAL, 4 if kind.endswith("restarts") else 0]
        data = cv2.imencode(".jpg", pixels, every)[1].tobytes()
    else:
        data = _several_scans(pixels, kind)
    # Within the scan that begins last but one, or in the only one.
    starts = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    place = (starts[-2:][0] + (*starts, len(data))[-1 if len(starts) == 1 else -2]) // 2
    while data[place - 1] == 0xFF:
        place += 1
    due = len(re.findall(rb"\xff[\xd0-\xd7]", data[starts[-2:][0] : place])) % 8
    marks = {
        "application": b"\xff\xe5\x00\x04ab",
        "comment": b"\xff\xfe\x00\x02",
        "restart": bytes((0xFF, 0xD0 + (due + 4) % 8)),
        "reserved": b"\xff\x5a",
        "start": b"\xff\xd8",
    }
    damaged = data[:place] + marks[mark] + data[place:]
    with pytest.raises(ImageError, match="truncated or damaged"):
        decode_image(damaged, "rot.jpg")


def test_bytes_between_the_parts_of_a_jpeg_hide_no_damage() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    whole = cv2.imencode(".jpg", pixels)[1].tobytes()
    start = whole.index(b"\xff\xda")
    data = whole[:start] + b"lost" + whole[start:]
    assert np.array_equal(decode_image(data, "odd.jpg"), _by_opencv(whole))
    with pytest.raises(ImageError, match="truncated or damaged JPEG"):
        decode_image(data[: len(data) // 2].rstrip(b"\xff") + b"\xff\xd9", "half.jpg")


@pytest.mark.parametrize("kind", ["full colour", "one scan"])
@pytest.mark.parametrize("header", [b"\xff\xc2\xff\xf0", b"\xff\xc2\x00\x08\x08\x00\x10"])
def test_a_header_that_goes_beyond_the_file_is_a_sentence(kind: str, header: bytes) -> None:
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    one_scan = cv2.imencode(".jpg", pixels)[1].tobytes()
    data = one_scan if kind == "one scan" else _several_scans(pixels, kind)
    start = data.index(b"\xff\xda")
    for tail in (data[start + 60 :], b""):
        with pytest.raises(ImageError, match="truncated or damaged JPEG"):
            decode_image(data[: start + 40] + header + tail, "odd.jpg")


def test_scans_without_end_are_refused() -> None:
    data = _several_scans(np.zeros((16, 16, 3), np.uint8), "half colour")
    start = data.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match=r"JPEG of 3,0\d\d scans, the limit is 200"):
        decode_image(data[:start] + 3000 * data[start:-2] + data[-2:], "bomb.jpg")


@pytest.mark.parametrize("form", [{"progressive": True}, {"optimize": True}, {"quality": 3}])
def test_jpegs_of_all_forms_keep_their_pixels(form: dict[str, Any]) -> None:
    flat = PillowImage.new("RGB", (70, 41), (7, 7, 7))
    for picture in (flat, flat.convert("L")):
        stream = io.BytesIO()
        picture.save(stream, "JPEG", **form)
        data = stream.getvalue()
        assert np.array_equal(decode_image(data, "a.jpg"), _by_opencv(data))


@pytest.mark.parametrize("restarts", [0, 2])
def test_fill_bytes_before_a_marker_are_no_data(restarts: int) -> None:
    """Any number of 0xFF may stand before a marker (ITU-T T.81, B.1.1.2)."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_RST_INTERVAL, restarts])[1].tobytes()
    filled = re.sub(rb"(?=\xff[\xd0-\xd7\xd9])", b"\xff\xff", data)
    assert len(filled) >= len(data) + 2 * (1 + 5 * (restarts > 0))
    assert ending_with_its_data(filled) == filled[: filled.rindex(b"\xff\xff\xff")] + bytes(16)
    np.testing.assert_array_equal(decode_image(filled, "a"), decode_image(data, "a"))
