from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agebench.errors import AgebenchError, ModelError, UsageError, WeightsError
from agebench.export.random_age_net import random_age_net, random_age_net_layers
from agebench.runtimes.age_net_layout import MICRO, deploy_prototxt
from agebench.runtimes.caffe_model import (
    CaffeLayer,
    Encoding,
    read_caffemodel,
    read_mean,
    write_caffemodel,
)
from agebench.vision.opencv import cv2
from tests.unit.caffe_files import write_mean

Array = npt.NDArray[Any]
ENCODINGS: tuple[Encoding, ...] = ("v1", "v2")


def _layers() -> tuple[CaffeLayer, ...]:
    return random_age_net_layers(seed=5, widths=MICRO)


def _load(folder: Path, model: Path) -> Any:
    prototxt = folder / "micro.prototxt"
    prototxt.write_text(deploy_prototxt(widths=MICRO))
    return cv2.dnn.readNetFromCaffe(str(prototxt), str(model))


def _input() -> Array:
    rng = np.random.default_rng(7)
    return rng.uniform(-110, 150, (1, 3, 227, 227)).astype(np.float32)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_round_trip(tmp_path: Path, encoding: Encoding, half: bool) -> None:
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, _layers(), encoding=encoding, half=half, name="näme")
    net = read_caffemodel(path)
    assert (net.encoding, net.name) == (encoding, "näme")
    for got, written in zip(net.layers, _layers(), strict=True):
        assert (got.name, got.type) == (written.name, written.type)
        assert (got.bottoms, got.tops) == (written.bottoms, written.tops)
        assert len(got.blobs) == len(written.blobs)
        for values, original in zip(got.blobs, written.blobs, strict=True):
            expected = original.astype(np.float16).astype(np.float32) if half else original
            np.testing.assert_array_equal(values, expected)
            assert values.dtype == np.float32
            assert not values.flags.writeable
    assert list(tmp_path.iterdir()) == [path], "no temporary file may remain"


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _top_level_fields(data: bytes) -> list[tuple[int, int, bytes]]:
    """Field number, wire type and content of each field, read by the wire format's rules."""
    at, found = 0, []
    while at < len(data):
        tag, at = _varint(data, at)
        assert tag & 7 in (0, 2)
        value, at = _varint(data, at)
        content = b""
        if tag & 7 == 2:
            content, at = data[at : at + value], at + value
        found.append((tag >> 3, tag & 7, content or bytes(str(value), "ascii")))
    return found


@pytest.mark.parametrize(
    ("encoding", "layers_at", "name_at", "type_at", "blobs_at", "conv_type"),
    [("v1", 2, 4, 5, 6, b"4"), ("v2", 100, 1, 2, 7, b"Convolution")],
)
def test_bytes_have_caffes_field_numbers(
    tmp_path: Path,
    encoding: Encoding,
    layers_at: int,
    name_at: int,
    type_at: int,
    blobs_at: int,
    conv_type: bytes,
) -> None:
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, _layers(), encoding=encoding)
    layers = _top_level_fields(path.read_bytes())
    assert [number for number, _, _ in layers if number != 1] == [layers_at] * len(_layers())
    conv1 = _top_level_fields(next(content for number, _, content in layers if number != 1))
    fields = {number: content for number, _, content in reversed(conv1)}
    assert fields[name_at] == b"conv1"
    assert fields[type_at] == conv_type
    blob = {number: content for number, _, content in _top_level_fields(fields[blobs_at])}
    weights = _layers()[0].blobs[0]
    assert blob[5] == struct.pack(f"<{weights.size}f", *weights.ravel())
    if encoding == "v1":
        assert [blob[number] for number in (1, 2, 3, 4)] == [b"8", b"3", b"7", b"7"]
    else:
        assert blob[7] == b"\x0a\x04\x08\x03\x07\x07"  # BlobShape: dim = 1, packed 8 3 7 7


def _windows(image: Array, kernel: int, stride: int) -> Array:
    windows = np.lib.stride_tricks.sliding_window_view(image, (kernel, kernel), axis=(1, 2))
    return windows[:, ::stride, ::stride]


def _conv(image: Array, layer: CaffeLayer, stride: int = 1, pad: int = 0) -> Array:
    weights, biases = layer.blobs
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    windows = _windows(padded, weights.shape[2], stride)
    out: Array = np.einsum("chwij,ocij->ohw", windows, weights) + biases[:, None, None]
    return out


def _pool(image: Array) -> Array:
    channels, height, width = image.shape
    out = np.empty((channels, math.ceil((height - 3) / 2) + 1, math.ceil((width - 3) / 2) + 1))
    for row in range(out.shape[1]):
        for column in range(out.shape[2]):
            window = image[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            out[:, row, column] = window.max(axis=(1, 2))
    return out


def _norm(image: Array) -> Array:
    out = np.empty_like(image)
    for channel in range(len(image)):
        neighbours = image[max(0, channel - 2) : channel + 3]
        scale = 1 + 1e-4 / 5 * (neighbours**2).sum(axis=0)
        out[channel] = image[channel] / scale**0.75
    return out


def _forward(image: Array, layers: dict[str, CaffeLayer]) -> Array:
    """The network written down plainly, in double precision."""
    hidden = _norm(_pool(np.maximum(_conv(image, layers["conv1"], stride=4), 0)))
    hidden = _norm(_pool(np.maximum(_conv(hidden, layers["conv2"], pad=2), 0)))
    hidden = _pool(np.maximum(_conv(hidden, layers["conv3"], pad=1), 0)).ravel()
    for name in ("fc6", "fc7"):
        weights, biases = layers[name].blobs
        hidden = np.maximum(weights @ hidden + biases, 0)
    weights, biases = layers["fc8"].blobs
    logits = weights @ hidden + biases
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_opencv_computes_the_network(tmp_path: Path, encoding: Encoding) -> None:
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, _layers(), encoding=encoding)
    net = _load(tmp_path, path)
    for layer in _layers():
        for index, blob in enumerate(layer.blobs):
            param = net.getParam(layer.name, index)
            np.testing.assert_array_equal(param.reshape(blob.shape), blob)
    net.setInput(_input())
    layers = {layer.name: layer for layer in read_caffemodel(path).layers}
    expected = _forward(_input()[0].astype(np.float64), layers)
    np.testing.assert_allclose(net.forward()[0], expected, atol=1e-4)
    assert np.ptp(expected) > 0.01, "a flat answer would prove nothing"


def test_the_check_above_sees_a_missing_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {layer.name: layer for layer in _layers()}
    image = _input()[0].astype(np.float64)
    expected = _forward(image, layers)
    monkeypatch.setitem(globals(), "_norm", lambda values: values)
    assert np.abs(_forward(image, layers) - expected).max() > 1e-3


def test_both_encodings_and_half_answer_alike(tmp_path: Path) -> None:
    answers = {}
    for encoding in ENCODINGS:
        for half in (False, True):
            path = tmp_path / f"{encoding}{half}.caffemodel"
            random_age_net(path, seed=2, micro=True, encoding=encoding, half=half)
            net = _load(tmp_path, path)
            net.setInput(_input())
            answers[encoding, half] = net.forward()
    np.testing.assert_array_equal(answers["v1", False], answers["v2", False])
    np.testing.assert_array_equal(answers["v1", True], answers["v2", True])
    np.testing.assert_allclose(answers["v1", True], answers["v1", False], atol=2e-3)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_reads_what_opencv_shrinks(tmp_path: Path, encoding: Encoding) -> None:
    whole, shrunk = tmp_path / "whole.caffemodel", tmp_path / "shrunk.caffemodel"
    random_age_net(whole, seed=5, micro=True, encoding=encoding)
    cv2.dnn.shrinkCaffeModel(str(whole), str(shrunk))
    assert shrunk.stat().st_size < 0.6 * whole.stat().st_size
    net = read_caffemodel(shrunk)
    for layer in _layers():
        got = net.layer(layer.name)
        assert (got.type, len(got.blobs)) == (layer.type, len(layer.blobs))
        for values, original in zip(got.blobs, layer.blobs, strict=True):
            np.testing.assert_array_equal(values, original.astype(np.float16).astype(np.float32))


def _blob_message(*fields: bytes) -> bytes:
    """A new-encoding net with one layer `x` that holds one blob of these fields."""
    blob = b"".join(fields)
    layer = b"\x0a\x01x" + b"\x3a" + bytes([len(blob)]) + blob
    return b"\xa2\x06" + bytes([len(layer)]) + layer


SHAPE_2 = b"\x3a\x03\x0a\x01\x02"
LEGACY_2 = b"\x08\x01\x10\x01\x18\x01\x20\x02"


@pytest.mark.parametrize(
    "fields",
    [
        (SHAPE_2, b"\x2a\x08" + struct.pack("<2f", 1.5, -2)),
        (SHAPE_2, b"\x2a\x04" + struct.pack("<f", 1.5), b"\x2a\x04" + struct.pack("<f", -2)),
        (SHAPE_2, b"\x42\x10" + struct.pack("<2d", 1.5, -2)),
        (SHAPE_2, b"\x50\x01\x62\x08" + struct.pack("<2f", 1.5, -2)),
        (SHAPE_2, b"\x50\x02\x62\x04" + struct.pack("<2e", 1.5, -2)),
        (SHAPE_2, b"\x50\x00\x62\x10" + struct.pack("<2d", 1.5, -2)),
        (LEGACY_2, b"\x2a\x08" + struct.pack("<2f", 1.5, -2)),
        # With both, the four old dimensions win, as in Caffe.
        (LEGACY_2, b"\x3a\x03\x0a\x01\x09", b"\x2a\x08" + struct.pack("<2f", 1.5, -2)),
    ],
)
def test_reads_every_way_to_store_numbers(tmp_path: Path, fields: tuple[bytes, ...]) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(_blob_message(*fields))
    np.testing.assert_array_equal(read_caffemodel(path).layer("x").blobs[0], [1.5, -2])


@pytest.mark.parametrize(
    "fields",
    [
        (SHAPE_2,),
        (SHAPE_2, b"\x2a\x04" + bytes(4)),
        (SHAPE_2, b"\x2a\x07" + bytes(7)),
        (b"\x3a\x03\x0a\x01\x00", b"\x2a\x04" + bytes(4)),
        (b"\x3a\x0c\x0a\x0a" + b"\xff" * 9 + b"\x01", b"\x2a\x04" + bytes(4)),  # -1
        (b"\x3a\x14\x0a\x12" + (b"\xff" * 8 + b"\x7f") * 2, b"\x2a\x04" + bytes(4)),  # huge
        (b"\x3a\x24\x0a\x22" + b"\x01" * 34, b"\x2a\x04" + bytes(4)),  # 34 axes
        (SHAPE_2, b"\x50\x07\x62\x08" + bytes(8)),  # unknown kind of raw data
        (b"\x20\x02", b"\x2a\x08" + bytes(8)),  # num, channels, height left out: 0
    ],
)
def test_blobs_that_contradict_themselves(tmp_path: Path, fields: tuple[bytes, ...]) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(_blob_message(*fields))
    with pytest.raises(ModelError, match="blob 0 of layer 'x'"):
        read_caffemodel(path)


def test_a_single_output_keeps_its_axes_in_the_old_encoding(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    shapes = {"Convolution": (1, 3, 2, 2), "InnerProduct": (1, 5)}
    layers = [
        CaffeLayer(kind, kind, (np.ones(shape, np.float32), np.zeros(1, np.float32)))
        for kind, shape in shapes.items()
    ]
    write_caffemodel(path, layers, encoding="v1")
    for kind, shape in shapes.items():
        weights, biases = read_caffemodel(path).layer(kind).blobs
        assert (weights.shape, biases.shape) == (shape, (1,))


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", ModelError, "it has no layers"),
        (b"\n <!DOCTYPE html><html><body>404</body></html>", WeightsError, "HTML page"),
        (b"<HTML>" + b"x" * 43_952, WeightsError, "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", WeightsError, "Git LFS pointer"),
        (b"\x0a\x04net1", ModelError, "it has no layers"),
        (b"\x0a\xff\xff\xff\xff\x07", ModelError, "truncated"),
        (b"\x12\x03\x22\x01\xff", ModelError, "not text"),
        (b"\x12\x03\x0a\x01x", ModelError, "V0 encoding"),
        (b"\x12\x03\x22\x01x\xa2\x06\x03\x0a\x01x", ModelError, "mixes"),
    ],
)
def test_what_is_no_model(
    tmp_path: Path, content: bytes, error: type[AgebenchError], words: str
) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    with pytest.raises(error, match=words) as caught:
        read_caffemodel(path)
    assert str(path) in str(caught.value)


def test_files_that_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        read_caffemodel(tmp_path / "none")
    with pytest.raises(WeightsError, match="not a regular file"):
        read_caffemodel(tmp_path)
    with pytest.raises(WeightsError):
        read_caffemodel("a\0b")
    big = tmp_path / "big"
    random_age_net(big, seed=0, micro=True)
    size = big.stat().st_size
    with pytest.raises(WeightsError, match="at most"):
        read_caffemodel(big, max_bytes=size - 1)
    assert len(read_caffemodel(big, max_bytes=size).layers) == 19
    with pytest.raises(ModelError, match="no layer 'fc9'"):
        read_caffemodel(big).layer("fc9")


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_never_ends_in_a_traceback(
    tmp_path: Path, encoding: Encoding, data: st.DataObject
) -> None:
    path = tmp_path / "damaged.caffemodel"
    tiny = [
        CaffeLayer("c", "Convolution", (np.ones((2, 1, 2, 2), np.float32),), ("data",), ("c",)),
        CaffeLayer("f", "InnerProduct", (np.ones((2, 3), np.float32), np.ones(2, np.float32))),
    ]
    write_caffemodel(path, tiny, encoding=encoding, half=data.draw(st.booleans()), name="tiny")
    content = bytearray(path.read_bytes())
    position = st.integers(0, len(content) - 1)
    for at, value in data.draw(st.lists(st.tuples(position, st.integers(0, 255)), max_size=6)):
        content[at] = value
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), position))])
    try:
        net = read_caffemodel(path)
    except AgebenchError as error:
        message = str(error)
    else:
        message = str(path)
        assert all(blob.dtype == np.float32 for layer in net.layers for blob in layer.blobs)
    assert str(path) in message


def test_what_can_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"

    def one(shape: tuple[int, ...], kind: str = "Convolution", value: float = 1) -> CaffeLayer:
        return CaffeLayer("x", kind, (np.full(shape, value, np.float32),))

    with pytest.raises(UsageError, match="'v1' or 'v2'"):
        write_caffemodel(path, [], encoding="v3")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(UsageError, match="no type 'PReLU'"):
        write_caffemodel(path, [one((1,), "PReLU")], encoding="v1")
    with pytest.raises(UsageError, match="four axes"):
        write_caffemodel(path, [one((1, 1, 1, 1, 1))], encoding="v1")
    with pytest.raises(UsageError, match="empty"):
        write_caffemodel(path, [one((0, 3))], encoding="v2")
    with pytest.raises(UsageError, match="65504"):
        write_caffemodel(path, [one((3,), value=1e6)], encoding="v2", half=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(AgebenchError, match="can't be written"):
        write_caffemodel(tmp_path / "none" / "net", [one((1,))], encoding="v2")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"old")

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(AgebenchError, match="No space left"):
        random_age_net(path, seed=0, micro=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_blobs_are_copied_when_they_could_change() -> None:
    values = np.ones(3, np.float32)
    layer = CaffeLayer("x", "Bias", (values,))
    values[0] = 9
    np.testing.assert_array_equal(layer.blobs[0], [1, 1, 1])


def _mean() -> Array:
    return np.random.default_rng(0).uniform(60, 140, (3, 256, 256)).astype(np.float32)


def test_mean_round_trip_with_the_published_size(tmp_path: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    write_mean(path, _mean())
    assert path.stat().st_size == 786_446
    np.testing.assert_array_equal(read_mean(path), _mean())
    # num, channels, height and width, then the packed numbers: 1, 3, 256, 256.
    assert path.read_bytes()[:10] == b"\x08\x01\x10\x03\x18\x80\x02\x20\x80\x02"


def test_what_is_no_mean_image(tmp_path: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    for values, said in (
        (_mean().transpose(1, 2, 0), r"got \(1, 256, 256, 3\)"),
        (_mean() * np.nan, "finite"),
    ):
        write_mean(path, values)
        with pytest.raises(ModelError, match=said):
            read_mean(path)
    write_mean(path, _mean())
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ModelError, match="truncated"):
        read_mean(path)
    path.write_bytes(b"\x08\x01\x10\x03\x18\x01\x20\x01\x2a\x0c" + bytes(12))
    with pytest.raises(ModelError, match=r"\(3, 256, 256\), got \(1, 3, 1, 1\)"):
        read_mean(path)
    path.write_bytes(whole[:-4] + struct.pack("<f", math.inf))
    with pytest.raises(ModelError, match="finite"):
        read_mean(path)
    path.write_bytes(b"<!doctype html>")
    with pytest.raises(WeightsError, match="HTML"):
        read_mean(path)
    path.write_bytes(bytes(4_000_000))
    with pytest.raises(WeightsError, match="at most"):
        read_mean(path)
    random_age_net(path, seed=0, micro=True)
    with pytest.raises(ModelError):
        read_mean(path)
