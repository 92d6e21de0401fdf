"""Darknet detectors as ONNX: row by row what cv2.dnn's Darknet importer gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agebench import load_detector, load_estimator
from agebench.conversion.darknet_files import parse_cfg
from agebench.conversion.darknet_onnx import darknet_model, read_detector_file
from agebench.errors import ModelError, UsageError
from agebench.export.detector_file import DarknetFiles, export_detector
from agebench.runtimes.base import ModelSource
from agebench.runtimes.onnx_metadata import SourceFile
from agebench.runtimes.opening import open_model
from agebench.types import Image

CFG = """
[net]
width=64
height=32
channels=3

[convolutional]
filters=8   # eight
size=3
stride=2
pad=1
batch_normalize=1
activation=relu

[convolutional]
filters=8
size=3
groups=8
stride=1
pad=1
batch_normalize=1
activation=leaky

[shortcut]
from=-2
activation=linear

[maxpool]
size=2
stride=2

[convolutional]
filters=8
size=1
stride=1
activation=linear

[avgpool]

[convolutional]
filters=8
size=1
stride=1
activation=logistic

[scale_channels]
from=-3

[upsample]
stride=2

[route]
layers = -1,2

[maxpool]
size=3
stride=1

[convolutional]
filters=12
size=1
stride=1
pad=1
activation=linear

[yolo]
mask = 0,2
anchors = 4,6, 7,10, 20,30
classes=1
num=3
scale_x_y = 1.0
"""
# Of each convolution: filters, numbers per filter, batch normalisation.
CONVOLUTIONS = ((8, 27, True), (8, 9, True), (8, 8, False), (8, 8, False), (12, 16, False))
NUMBERS = sum(filters * (count + (4 if norm else 1)) for filters, count, norm in CONVOLUTIONS)


def write_weights(path: Path, numbers: int = NUMBERS) -> Path:
    """Write random weights under Darknet's newer header, so many of them as asked."""
    random = np.random.default_rng(5)
    parts = []
    for filters, count, norm in CONVOLUTIONS:
        parts.append(random.normal(0, 0.3, filters))
        if norm:
            parts += [random.uniform(0.5, 1.5, filters), random.normal(0, 0.2, filters)]
            parts.append(random.uniform(0.5, 2.0, filters))
        parts.append(random.normal(0, count**-0.5, filters * count))
    values = np.resize(np.concatenate(parts), numbers).astype("<f4")
    head = np.array([0, 2, 5], "<i4").tobytes() + np.array([77], "<i8").tobytes()
    path.write_bytes(head + values.tobytes())
    return path


def test_every_kind_of_layer_equals_darknet(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "net.weights")
    model, rows = darknet_model(CFG, weights, (32, 64))
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    assert rows == 16 * 32 * 2
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 64)).astype(np.float32)
    darknet = open_model(ModelSource("darknet", weights, config=CFG))
    expected = [
        np.concatenate(list(darknet.run({"": picture[None, ::-1] / np.float32(255)}).values()))
        for picture in pixels
    ]
    assert np.std(expected, axis=1).min() > 0
    for runtime in ("onnxruntime", "cv2dnn"):
        got = open_model(ModelSource("onnx", path), runtime=runtime).run({"image": pixels})["rows"]
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[avgpool]", "[crnn]", r"line \d+: Darknet's \[crnn\] can't be converted"),
        ("layers = -1,2", "layers = -1,99", "does not name an earlier layer"),
        ("layers = -1,2", "layers = -1,3", "concatenates layers of different sizes"),
        ("from=-2", "from=-9", "does not name an earlier layer"),
        ("filters=12", "filters=13", "must be of one class"),
        ("filters=12", "filters=twelve", "needs filters as whole numbers, got 'twelve'"),
        ("groups=8", "groups=3", "does not fit 8 channels"),
        ("activation=leaky", "activation=mish", "activation 'mish' is not known"),
        ("scale_x_y = 1.0", "scale_x_y = 1.2", "scale_x_y = 1"),
        ("scale_x_y = 1.0", "scale_x_y = wide", "scale_x_y = 1"),
        ("anchors = 4,6,", "anchors = 4,", "anchors of two numbers each.*got 5 numbers"),
        ("mask = 0,2", "mask = 0,3", "anchors of two numbers each.*the mask 0, 3"),
        ("mask = 0,2", "mask = 0,-1", "anchors of two numbers each.*the mask 0, -1"),
        ("[net]", "[start]", r"begin with \[net\]"),
        ("width=64", "width", "line 3 of the Darknet layout can't be read"),
        ("[yolo]", "[avgpool]", r"has no \[yolo\] section"),
    ],
)
def test_layouts_that_can_not_be_converted(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    weights = write_weights(tmp_path / "net.weights", NUMBERS + 17 * ("13" in new))
    with pytest.raises(ModelError, match=message):
        darknet_model(CFG.replace(old, new), weights, (32, 64))


def test_absurd_sizes_are_refused_before_memory_is_taken_for_them(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "net.weights")
    with pytest.raises(ModelError, match=r"\[yolo\] gives .* boxes .*lower width and height"):
        darknet_model(CFG, weights, (2**20, 2**20))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [(NUMBERS - 1, "ends too early"), (NUMBERS + 3, "3 more numbers"), (0, "ends too early")],
)
def test_weights_of_another_length(tmp_path: Path, numbers: int, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        darknet_model(CFG, write_weights(tmp_path / "net.weights", numbers), (32, 64))


def test_weights_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "net.weights"
    path.write_bytes(b"short")
    with pytest.raises(ModelError, match="not a Darknet weights file"):
        darknet_model(CFG, path, (32, 64))
    write_weights(path)
    path.write_bytes(path.read_bytes()[:-4] + np.array([np.nan], "<f4").tobytes())
    with pytest.raises(ModelError, match="is damaged"):
        darknet_model(CFG, path, (32, 64))


def test_comments_and_spaces_in_a_layout() -> None:
    sections = parse_cfg("[net]\n# all\n a = 1 # one\n[route]\nlayers = -1, 4\n")
    assert sections[0].values == {"a": "1"}
    assert sections[1].numbers("layers") == (-1, 4)
    assert sections[1].line == 4


def _files(tmp_path: Path) -> DarknetFiles:
    weights = write_weights(tmp_path / "net.weights")
    return DarknetFiles("v2", CFG, weights, (SourceFile("net.weights", "0" * 64),), "CC0", (32, 64))


def test_an_exported_detector_states_what_it_is(tmp_path: Path) -> None:
    out = tmp_path / "faces.onnx"
    written = export_detector(_files(tmp_path), out)
    assert written.report is not None
    assert written.report.passed
    assert {row.batch for row in written.report.rows} == {1, 2, 7}
    spec = read_detector_file(out).spec
    assert (spec.size_hw, spec.rows) == ((32, 64), 1024)
    with pytest.raises(ModelError, match="'face-detector', expected 'age-estimator'"):
        load_estimator(f"onnx:{out}")


def test_the_detector_takes_its_exported_file(tmp_path: Path) -> None:
    out = tmp_path / "faces.onnx"
    export_detector(_files(tmp_path), out)
    detector = load_detector(f"yoloface-500k:{out}@onnxruntime")
    assert detector.spec.settings["size"] == "64x32"
    with pytest.raises(UsageError, match="was exported for 64x32, size=96 contradicts it"):
        load_detector(f"yoloface-500k:{out} size=96")


@pytest.mark.shared
@pytest.mark.parametrize("version", ["v2", "v1"])
def test_the_published_detector_finds_the_same_faces(
    shared_weights: Path, astronaut_bgr: Image, version: str
) -> None:
    assert shared_weights.is_dir()
    first = load_detector(f"yoloface-500k version={version}").detect(astronaut_bgr)
    loaded = load_detector(f"yoloface-500k@onnxruntime version={version}")
    second = loaded.detect(astronaut_bgr)
    assert loaded.spec.runtime.runtime == "onnxruntime"
    assert len(first) == len(second) > 0
    for one, two in zip(first, second, strict=True):
        np.testing.assert_allclose(one.box_xyxy, two.box_xyxy, atol=0.01)
        assert one.score == pytest.approx(two.score, abs=1e-5)


def test_kinds_of_layers_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    weights = tmp_path / "x.weights"
    weights.write_bytes(bytes(32))
    with pytest.raises(ModelError, match="can't be converted") as caught:
        darknet_model("[net]\n[\x1b[31mred]\n", weights, (32, 32))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("size_hw", [(128, 0), (100, 128), (8200, 128)])
def test_sizes_that_no_exported_detector_has(size_hw: tuple[int, int], tmp_path: Path) -> None:
    files = DarknetFiles("own", "[net]", tmp_path / "none.weights", (), "", size_hw)
    with pytest.raises(ModelError, match=rf"width {size_hw[1]} and height {size_hw[0]}.*of 8"):
        export_detector(files, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
