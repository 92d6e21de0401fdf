"""The models that come with the package: by the shortest possible code, and known answers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from agebench import load_dataset, load_detector, load_estimator
from agebench.modelfiles.manifest import bundled_dir
from agebench.types import Crops, FaceFrame, Floats, Image
from agebench.vision.crops import cut_crops
from agebench.vision.frames import canonical_frame
from agebench.vision.images import read_image
from agebench.vision.opencv import cv2

SAMPLE = load_dataset("sample")
TRUE = np.array([item.age_years for item in SAMPLE.samples], float)


@cache
def _faces() -> list[tuple[Image, FaceFrame]]:
    detector = load_detector("aligned")
    pictures = [read_image(item.path) for item in SAMPLE.samples]
    return [
        (picture, canonical_frame(detector.detect(picture)[0], detector.spec))
        for picture in pictures
    ]


def _years(reference: str) -> Floats:
    estimator = load_estimator(reference)
    cut = [cut_crops(picture, [frame], estimator.spec.crop) for picture, frame in _faces()]
    # At once: half the time of one by one, which test_contracts.py compares.
    return np.array([answer.years for answer in estimator.predict(Crops.join(cut))])


@pytest.fixture(scope="module")
def by_caffe() -> Floats:
    return _years("caffe-age-net-utkface")


@pytest.mark.parametrize(
    ("name", "further"), [("multicrop-resnet", ("imdb-wiki",)), ("multicrop-resnet-small", ())]
)
def test_all_that_the_networks_learnt_from_is_named(name: str, further: tuple[str, ...]) -> None:
    spec = load_estimator(name).spec
    assert spec.trained_sets == ("utkface", "longevitynet", "fairface", *further)
    words = ("UTKFace", "LongevityNet", "FairFace", "hse-mobilenet", "IMDB-WIKI")
    assert all(word in spec.trained_on for word in words)


def test_the_baseline_is_the_usual_call_of_opencv(by_caffe: Floats) -> None:
    stem = bundled_dir() / "caffe-age-net-utkface"
    net = cv2.dnn.readNetFromCaffe(f"{stem}.prototxt", f"{stem}.caffemodel")
    years = []
    for picture, _ in _faces():
        # The whole chip, enlarged: what the view "chip" of an aligned chip is.
        chip = cv2.resize(picture, (227, 227), interpolation=cv2.INTER_LINEAR)
        mean = (78.4263377603, 87.7689143744, 114.895847746)
        net.setInput(cv2.dnn.blobFromImage(chip, 1.0, (227, 227), mean, swapRB=False))
        years.append(np.searchsorted(np.cumsum(net.forward().reshape(-1)), 0.5))
    # The frame of an aligned chip is the chip to a fraction of a pixel only, and a median moves by
    # whole years: by one in a third of the pictures.
    assert np.abs(np.array(years) - by_caffe).mean() < 0.5


def test_the_baseline_is_the_same_under_onnxruntime(by_caffe: Floats) -> None:
    converted = _years("caffe-age-net-utkface@onnxruntime")
    np.testing.assert_allclose(converted, by_caffe, atol=0.01)


def test_known_errors_on_the_sample(by_caffe: Floats) -> None:
    ours = _years("multicrop-resnet")
    np.testing.assert_allclose(ours, _years("multicrop-resnet@cv2dnn"), atol=0.01)
    assert np.abs(ours - TRUE).mean() == pytest.approx(OURS_MAE, abs=0.05)
    small = _years("multicrop-resnet-small")
    assert np.abs(small - IN_FLOAT32).mean() < 1.5  # without the mirror image, and rounded
    # Processors round 8-bit products differently.
    assert np.abs(small - TRUE).mean() == pytest.approx(SMALL_MAE, abs=0.2)
    assert np.abs(by_caffe - TRUE).mean() == pytest.approx(CAFFE_MAE, abs=0.05)


def test_the_open_network_learnt_from_other_pictures() -> None:
    spec = load_estimator("multicrop-resnet-open").spec
    assert spec.trained_sets == ("fairface", "imdb-wiki")
    assert "UTKFace" not in spec.trained_on
    assert spec.licence == "Apache-2.0"
    assert list(spec.crop.views) == ["face"]
    ours = _years("multicrop-resnet-open")
    np.testing.assert_allclose(ours, _years("multicrop-resnet-open@cv2dnn"), atol=0.01)
    assert np.abs(ours - TRUE).mean() == pytest.approx(OPEN_MAE, abs=0.05)


OURS_MAE, SMALL_MAE, CAFFE_MAE, OPEN_MAE = 4.12, 3.84, 4.54, 4.59
"""As `agebench compare` printed them when the weights were bundled, years."""

# fmt: off
IN_FLOAT32 = [
    1, 5.5, 6, 9, 12, 17, 22, 26, 26, 25, 25, 23, 27, 26, 25, 39, 30, 28, 36, 32, 41, 47, 36, 55,
    55, 53, 59, 52, 62, 71, 80, 87, 1, 2, 6, 11, 11, 11, 23, 31, 25, 30, 33, 40, 34, 36, 30, 38,
    37, 42, 44, 44, 42, 46, 44, 50, 46, 54, 54, 49, 53, 57, 60, 57, 60, 69.9, 58, 64, 66, 68, 64,
]
# fmt: on
"""Ages on the sample by the weights of the small network in float32, with mirror images."""
