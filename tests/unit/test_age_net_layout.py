from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from agebench.errors import UsageError
from agebench.export.random_age_net import random_age_net, random_age_net_layers
from agebench.runtimes.age_net_layout import (
    MICRO,
    PUBLISHED,
    Widths,
    age_net_layers,
    convolved,
    deploy_prototxt,
    pooled,
)
from agebench.runtimes.caffe_model import read_caffemodel
from agebench.vision.opencv import cv2

PUBLISHED_BYTES = 45_661_480
PUBLISHED_GENDER_BYTES = 45_649_168
PINNED = [0.1258668154478073, -0.1674230396747589, -0.12952552735805511]


def test_layer_names_are_those_of_the_published_file() -> None:
    names = (
        "conv1 relu1 pool1 norm1 conv2 relu2 pool2 norm2 conv3 relu3 pool5 "
        "fc6 relu6 drop6 fc7 relu7 drop7 fc8 prob"
    )
    assert [layer.name for layer in age_net_layers()] == names.split()


def test_sizes_computed_by_hand() -> None:
    # conv1: (227 - 7) / 4 + 1 = 56.  pool1: ceil((56 - 3) / 2) + 1 = 28 (floor would give 27).
    # conv2 keeps 28 (pad 2).  pool2: ceil(25 / 2) + 1 = 14 (13).  conv3 keeps 14 (pad 1).
    # pool5: ceil(11 / 2) + 1 = 7 (6), so that fc6 sees 384 * 7 * 7 = 18816.
    shapes = {layer.name: layer.output_shape for layer in age_net_layers()}
    assert shapes["conv1"] == (96, 56, 56)
    assert shapes["pool1"] == shapes["norm1"] == (96, 28, 28)
    assert shapes["conv2"] == (256, 28, 28)
    assert shapes["pool2"] == (256, 14, 14)
    assert shapes["conv3"] == (384, 14, 14)
    assert shapes["pool5"] == (384, 7, 7)
    assert shapes["prob"] == (8,)
    blobs = {layer.name: layer.blob_shapes for layer in age_net_layers()}
    assert blobs["conv2"] == ((256, 96, 5, 5), (256,)), "no groups"
    assert blobs["fc6"] == ((512, 18816), (512,))


@pytest.mark.parametrize(("size", "expected"), [(3, 1), (4, 2), (5, 2), (6, 3), (7, 3)])
def test_pooling_rounds_up(size: int, expected: int) -> None:
    assert pooled(size, 3, 2) == expected


@pytest.mark.parametrize(("size", "expected"), [(7, 1), (10, 1), (11, 2), (14, 2), (15, 3)])
def test_convolution_rounds_down(size: int, expected: int) -> None:
    assert convolved(size, 7, 4) == expected


def _floats(classes: int) -> int:
    layers = age_net_layers(classes)
    return sum(math.prod(shape) for layer in layers for shape in layer.blob_shapes)


def test_weights_fill_the_published_files() -> None:
    assert 0 < PUBLISHED_BYTES - 4 * _floats(8) < 2000
    # The same network with two classes is the published gender net: all but the weights cancels.
    assert 4 * (_floats(8) - _floats(2)) == PUBLISHED_BYTES - PUBLISHED_GENDER_BYTES


def test_full_size_file_has_the_published_size_and_loads(tmp_path: Path) -> None:
    model = tmp_path / "random.caffemodel"
    random_age_net(model, seed=1)
    assert abs(model.stat().st_size - PUBLISHED_BYTES) < 1000
    prototxt = tmp_path / "deploy.prototxt"
    prototxt.write_text(deploy_prototxt())
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(model))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 227, 227)).astype(np.float32)
    net.setInput(pixels - 100)
    probabilities = net.forward()
    assert probabilities.shape == (1, 8)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert probabilities.max() < 0.9, "a saturated softmax would hide a wrong input"


def test_opencv_sees_the_same_shapes(tmp_path: Path) -> None:
    model, prototxt = tmp_path / "micro.caffemodel", tmp_path / "micro.prototxt"
    random_age_net(model, seed=1, micro=True)
    prototxt.write_text(deploy_prototxt(widths=MICRO))
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(model))
    for layer in age_net_layers(widths=MICRO):
        net.setInput(np.zeros((1, 3, 227, 227), np.float32))
        assert net.forward(layer.name).shape == (1, *layer.output_shape), layer.name
    assert net.getUnconnectedOutLayersNames() == ("prob",)


def test_prototxt_states_the_normalisation() -> None:
    text = " ".join(deploy_prototxt(classes=2).split())
    expected = "lrn_param { norm_region: ACROSS_CHANNELS local_size: 5 alpha: 0.0001 beta: 0.75 }"
    assert text.count(expected) == 2
    assert "inner_product_param { num_output: 2 }" in text
    assert "dim: 1 dim: 3 dim: 227 dim: 227" in text
    assert "group" not in text


def test_random_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, seed in zip(paths, (3, 3, 4), strict=True):
        random_age_net(path, seed=seed, micro=True)
    first, second, other = (path.read_bytes() for path in paths)
    assert first == second != other
    # Pinned, so that a machine or a numpy that makes other numbers is noticed.
    assert read_caffemodel(paths[0]).layer("conv1").blobs[0].ravel()[:3].tolist() == PINNED


def test_random_weights_have_the_stated_spread() -> None:
    layers = {layer.name: layer for layer in random_age_net_layers(seed=0)}
    for name in ("conv1", "conv2", "conv3", "fc6", "fc7"):
        weights = layers[name].blobs[0]
        spread = math.sqrt(2 / math.prod(weights.shape[1:]))
        assert weights.std() == pytest.approx(spread, rel=0.02), name
        assert abs(weights.mean()) < 0.03 * spread, name


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed"):
        random_age_net(tmp_path / "a", seed=-1, micro=True)
    with pytest.raises(ValueError, match="classes"):
        deploy_prototxt(classes=0)
    with pytest.raises(ValueError, match="widths"):
        Widths(0, 1, 1, 1, 1)
    assert PUBLISHED.conv2 == 256
