"""Answers that must not change: known numbers, and the same by the shortest possible code."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agebench import load_estimator
from agebench.estimators.caffe_age_net import CaffeAgeNet
from agebench.export.random_age_net import random_age_net
from agebench.runtimes.age_net_layout import deploy_prototxt
from agebench.types import Crops, FaceFrame, Floats, Image
from agebench.vision.crops import cut_crops
from agebench.vision.opencv import cv2
from tests.unit.caffe_files import write_mean

FRAME = FaceFrame((223.0, 118.0), 119.0)


@pytest.fixture(scope="module")
def random_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("caffe") / "random.caffemodel"
    random_age_net(path, seed=21)
    return path


def _mean_image() -> Floats:
    """A mean image that differs everywhere, float64 (3, 256, 256)."""
    rows, columns = np.mgrid[0:256, 0:256] / 4.0
    return np.stack([rows, columns, 150 - rows - columns])


@cache
def _net(path: Path) -> Any:
    prototxt = np.frombuffer(deploy_prototxt().encode(), np.uint8)
    return cv2.dnn.readNetFromCaffe(prototxt, np.frombuffer(path.read_bytes(), np.uint8))


def _forward(net_path: Path, blob: Floats) -> Floats:
    net = _net(net_path)
    net.setInput(blob.astype(np.float32))
    return np.asarray(net.forward("prob"), np.float64).reshape(8)


def _shares(estimator: CaffeAgeNet, crops: Crops) -> Floats:
    (answer,) = estimator.predict(crops)
    assert answer.probabilities is not None
    return answer.probabilities


def test_one_crop_is_the_usual_call(random_net: Path, astronaut_bgr: Image) -> None:
    estimator = CaffeAgeNet(random_net)
    crops = cut_crops(astronaut_bgr, [FRAME], estimator.spec.crop)
    blob = np.asarray(
        cv2.dnn.blobFromImage(
            crops.views["face"][0],
            1.0,
            (227, 227),
            (78.4263377603, 87.7689143744, 114.895847746),
            swapRB=False,
            crop=False,
        ),
        np.float64,
    )
    np.testing.assert_allclose(_shares(estimator, crops), _forward(random_net, blob), atol=1e-5)


def test_ten_crops_are_the_mean_of_ten_windows(
    random_net: Path, astronaut_bgr: Image, tmp_path: Path
) -> None:
    write_mean(tmp_path / "mean.binaryproto", _mean_image())
    estimator = CaffeAgeNet(random_net, crops=10, mean_file=tmp_path / "mean.binaryproto")
    crops = cut_crops(astronaut_bgr, [FRAME], estimator.spec.crop)
    picture = crops.views["face"][0].astype(float).transpose(2, 0, 1) - _mean_image()
    total = np.zeros(8)
    for top, left in ((0, 0), (0, 29), (29, 0), (29, 29), (14, 14)):
        window = picture[:, top : top + 227, left : left + 227]
        total += _forward(random_net, window[None])
        total += _forward(random_net, window[None, :, :, ::-1])
    np.testing.assert_allclose(_shares(estimator, crops), total / 10, atol=1e-5)


def test_one_crop_with_the_mean_image_is_the_centre(
    random_net: Path, astronaut_bgr: Image, tmp_path: Path
) -> None:
    write_mean(tmp_path / "mean.binaryproto", _mean_image())
    estimator = CaffeAgeNet(random_net, mean="image", mean_file=tmp_path / "mean.binaryproto")
    crops = cut_crops(astronaut_bgr, [FRAME], estimator.spec.crop)
    picture = crops.views["face"][0].astype(float).transpose(2, 0, 1) - _mean_image()
    expected = _forward(random_net, picture[None, :, 14:241, 14:241])
    np.testing.assert_allclose(_shares(estimator, crops), expected, atol=1e-5)


def test_channel_order_matters_and_is_bgr(random_net: Path, astronaut_bgr: Image) -> None:
    estimator = CaffeAgeNet(random_net)
    shares = [
        _shares(estimator, cut_crops(np.ascontiguousarray(image), [FRAME], estimator.spec.crop))
        for image in (astronaut_bgr, astronaut_bgr[:, :, ::-1])
    ]
    assert np.abs(shares[0] - shares[1]).max() > 1e-3


@pytest.mark.shared
@pytest.mark.parametrize(
    ("rule", "years"), [("top2-expectation", 33.89), ("expectation", 36.43), ("median", 36.0)]
)
def test_hse_mobilenet_on_the_astronaut(
    shared_weights: Path, astronaut_bgr: Image, rule: str, years: float
) -> None:
    estimator = load_estimator("hse-mobilenet", years=rule)
    crops = cut_crops(astronaut_bgr, [FRAME], estimator.spec.crop)
    assert estimator.predict(crops)[0].years == pytest.approx(years, abs=0.05)


@pytest.mark.shared
def test_hse_mobilenet_is_the_plain_call(shared_weights: Path, astronaut_bgr: Image) -> None:
    estimator = load_estimator("hse-mobilenet")
    crops = cut_crops(astronaut_bgr, [FRAME], estimator.spec.crop)
    file = shared_weights / "age_gender_tf2_new-01-0.14-0.92_quantized.pb"
    net = cv2.dnn.readNetFromTensorflow(str(file))
    pixels = crops.views["face"][0].astype(np.float32) - (103.939, 116.779, 123.68)
    net.setInput(pixels.transpose(2, 0, 1)[None].astype(np.float32))
    shares = np.asarray(net.forward("age_pred/Softmax"), np.float64)[0]
    first, second = np.argsort(shares)[::-1][:2]
    expected = ((first + 1) * shares[first] + (second + 1) * shares[second]) / (
        shares[first] + shares[second]
    )
    assert estimator.predict(crops)[0].years == pytest.approx(float(expected), abs=1e-3)
