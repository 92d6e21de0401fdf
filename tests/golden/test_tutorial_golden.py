"""`caffe-age-net recipe=tutorial` against the tutorials' own lines, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from agebench import load_detector, load_estimator
from agebench.errors import UsageError
from agebench.harness.compare import compare
from agebench.harness.settings import CompareSettings
from agebench.runtimes.age_net_layout import deploy_prototxt
from agebench.types import Floats, Image
from agebench.vision.crops import cut_crops
from agebench.vision.faces import find_faces
from agebench.vision.images import encode_png
from agebench.vision.opencv import cv2

pytestmark = pytest.mark.shared

LABELS = ["(0-2)", "(4-6)", "(8-12)", "(15-20)", "(25-32)", "(38-43)", "(48-53)", "(60-100)"]


class Tutorial:
    """What tutorials such as LearnOpenCV's AgeGender.py do with each face, line by line."""

    def __init__(self, folder: Path) -> None:
        graph, layout = "opencv_face_detector_uint8.pb", "opencv_face_detector.pbtxt"
        self.face_net = cv2.dnn.readNet(str(folder / graph), str(folder / layout))
        prototxt = np.frombuffer(deploy_prototxt().encode(), np.uint8)
        weights = np.frombuffer((folder / "age_net.caffemodel").read_bytes(), np.uint8)
        self.age_net = cv2.dnn.readNetFromCaffe(prototxt, weights)

    def boxes(self, frame: Image) -> list[list[int]]:
        height, width = frame.shape[0], frame.shape[1]
        blob = cv2.dnn.blobFromImage(frame, 1.0, (300, 300), [104, 117, 123], True, False)
        self.face_net.setInput(blob)
        detections = self.face_net.forward()
        boxes = []
        for i in range(detections.shape[2]):
            if detections[0, 0, i, 2] > 0.7:
                x1 = int(detections[0, 0, i, 3] * width)
                y1 = int(detections[0, 0, i, 4] * height)
                x2 = int(detections[0, 0, i, 5] * width)
                y2 = int(detections[0, 0, i, 6] * height)
                boxes.append([x1, y1, x2, y2])
        return boxes

    def age(self, frame: Image, box: list[int], padding: int = 20) -> tuple[Floats, str]:
        face = frame[
            max(0, box[1] - padding) : min(box[3] + padding, frame.shape[0] - 1),
            max(0, box[0] - padding) : min(box[2] + padding, frame.shape[1] - 1),
        ]
        mean = (78.4263377603, 87.7689143744, 114.895847746)
        blob = cv2.dnn.blobFromImage(face, 1.0, (227, 227), mean, swapRB=False)
        self.age_net.setInput(blob)
        shares = self.age_net.forward()
        return np.array(shares[0], np.float64), LABELS[shares[0].argmax()]


the_tutorial, the_estimator = cache(Tutorial), cache(load_estimator)


PICTURES: dict[str, Callable[[Image], Image]] = {
    "whole": lambda image: image,
    "at the left and upper border": lambda image: image[70:, 190:],
    "at the right and lower border": lambda image: image[:165, :260],
    "small": lambda image: np.ascontiguousarray(image[::2, ::3]),
    "large": lambda image: np.repeat(np.repeat(image, 5, axis=0), 4, axis=1),
}


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_it_is_the_tutorial_to_the_last_bit(
    name: str, shared_dir: Path, shared_weights: Path, astronaut_bgr: Image
) -> None:
    picture = np.ascontiguousarray(PICTURES[name](astronaut_bgr))
    tutorial = the_tutorial(shared_dir / "pretrained")
    expected, label = tutorial.age(picture, tutorial.boxes(picture)[0])
    estimator = the_estimator("caffe-age-net recipe=tutorial")
    found = find_faces(load_detector(estimator.spec.detector), picture)
    (answer,) = estimator.predict(cut_crops(picture, found.frames, estimator.spec.crop))
    assert answer.probabilities is not None
    # All that happens to the network's own numbers is that they are made to sum to 1.
    assert np.array_equal(answer.probabilities, expected / expected.sum())
    low, high = label.strip("()").split("-")
    assert answer.years == (int(low) + int(high)) / 2


def test_it_is_one_name_in_compare(
    shared_weights: Path, tmp_path: Path, astronaut_bgr: Image
) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(astronaut_bgr))
    (tmp_path / "list.csv").write_text("path,age\na.png,35\n")
    root, quick = tmp_path / "list.csv", CompareSettings(latency_pictures=0)
    names = ["caffe-age-net recipe=tutorial"]
    result = compare(names, "csv", root=root, settings=quick)
    about = result.about["detector"]
    assert about["reference"] == "opencv-ssd pad=0 faces=best"
    assert about["chosen_because"] == "the one that caffe-age-net recipe=tutorial is defined with"
    for others, detector in (([*names, "constant"], None), (names, "haar"), (names, "opencv-ssd")):
        with pytest.raises(UsageError, match="'opencv-ssd pad=0"):
            compare(others, "csv", root=root, detector=detector, settings=quick)
    both = compare(
        [*names, "constant"], "csv", root=root, detector=about["reference"], settings=quick
    )
    assert [item.score is not None and item.score.scored for item in both.estimators] == [1, 1]


@pytest.mark.parametrize("option", ["crops=10", "years=expectation", "mean=channel", "margin=0.4"])
def test_the_recipe_leaves_no_choice(option: str) -> None:
    with pytest.raises(UsageError, match="recipe=tutorial of caffe-age-net fixes"):
        load_estimator(f"caffe-age-net recipe=tutorial {option}")


def test_the_years_that_come_along_fit_the_published_file_as_it_is_set(
    shared_weights: Path,
) -> None:
    spec = load_estimator("caffe-age-net table=utkface").spec
    assert any("utkface-full/train (1500 pictures" in note for note in spec.notes)
    with pytest.raises(UsageError, match="years"):
        load_estimator("caffe-age-net table=utkface years=midpoint")
    with pytest.raises(UsageError, match="crop"):
        load_estimator("caffe-age-net table=utkface margin=0.4")
