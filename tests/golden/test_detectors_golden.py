"""The published detectors on the astronaut picture: boxes and points that were looked at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from agebench.errors import UsageError
from agebench.protocols import FaceDetector
from agebench.registry.plugins import load_detector
from agebench.types import FIVE_POINTS, Face, Image
from agebench.vision.frames import box_iou, canonical_frame, frame_box

pytestmark = pytest.mark.shared

# Left, top, right, bottom in pixels.
BOXES = {
    "yolov8-face": (180.7, 57.4, 269.2, 176.7),
    "yolov8-face@onnxruntime": (180.7, 57.4, 269.2, 176.7),
    "yoloface-500k": (176.1, 59.9, 264.5, 177.0),
    "yoloface-500k version=v1": (175.8, 60.1, 276.8, 162.9),
    "opencv-ssd": (178.7, 60.0, 271.0, 174.4),
    "opencv-ssd pad=0": (178.7, 60.0, 271.0, 174.4),
    "yunet": (177.7, 62.4, 267.6, 175.7),
    "haar": (176.5, 65.5, 271.5, 160.5),
}
# Pupils, nose tip and mouth corners.
POINTS = [(202, 101), (246, 102), (221, 125), (201, 143), (240, 144)]


loaded = cache(load_detector)  # no picture changes them: test_odd_pictures


@cache
def on_the_astronaut(name: str) -> Sequence[Face]:
    """What the detector of that name finds, asked once."""
    from skimage import data

    return loaded(name).detect(np.ascontiguousarray(data.astronaut()[:, :, ::-1]))  # type: ignore[no-untyped-call]  # not typed


@pytest.fixture(params=sorted(BOXES))
def named(request: pytest.FixtureRequest, shared_weights: Path) -> tuple[str, FaceDetector]:
    return request.param, loaded(request.param)


def test_one_face_where_it_was(named: tuple[str, FaceDetector]) -> None:
    name, _ = named
    (face,) = on_the_astronaut(name)
    assert face.box_xyxy == pytest.approx(BOXES[name], abs=1.5)


def test_points_lie_on_the_eyes_nose_and_mouth(named: tuple[str, FaceDetector]) -> None:
    name, detector = named
    face = on_the_astronaut(name)[0]
    assert face.landmark_scheme == detector.spec.landmark_scheme
    if face.landmark_scheme == FIVE_POINTS:
        distances = np.linalg.norm(np.array(face.landmarks_xy) - POINTS, axis=1)
        assert distances.max() < 6.0


def test_all_detectors_lead_to_one_frame(named: tuple[str, FaceDetector]) -> None:
    boxes = [
        frame_box(canonical_frame(on_the_astronaut(name)[0], loaded(name).spec))
        for name in ("yolov8-face@onnxruntime", named[0])
    ]
    assert box_iou(boxes[0], boxes[1]) > 0.7


def test_a_flipped_picture_gives_flipped_faces(
    named: tuple[str, FaceDetector], astronaut_bgr: Image
) -> None:
    name, detector = named
    face = detector.detect(np.ascontiguousarray(astronaut_bgr[:, ::-1]))[0]
    left, top, right, bottom = face.box_xyxy
    assert box_iou((511 - right, top, 511 - left, bottom), BOXES[name]) > 0.7
    if face.landmarks_xy:
        mirrored = [(511 - x, y) for x, y in (POINTS[index] for index in (1, 0, 2, 4, 3))]
        assert np.linalg.norm(np.array(face.landmarks_xy) - mirrored, axis=1).max() < 6.0


# The cascade needs some space around a face, the SSD without it finds others there.
@pytest.mark.parametrize("named", sorted(set(BOXES) - {"haar", "opencv-ssd pad=0"}), indirect=True)
def test_a_face_that_fills_the_picture_is_found_with_its_points(
    named: tuple[str, FaceDetector], astronaut_bgr: Image
) -> None:
    name, detector = named
    face = max(detector.detect(astronaut_bgr[50:185, 170:280]), key=lambda face: face.area)
    left, top, right, bottom = face.box_xyxy
    assert box_iou((left + 170, top + 50, right + 170, bottom + 50), BOXES[name]) > 0.6
    if face.landmarks_xy:
        points = np.array(face.landmarks_xy) + np.array([170, 50])
        assert np.linalg.norm(points - POINTS, axis=1).max() < 8.0


def test_odd_pictures(named: tuple[str, FaceDetector], astronaut_bgr: Image) -> None:
    name, detector = named
    expected = on_the_astronaut(name)
    odd = astronaut_bgr[:, :, ::-1].copy()[:, :, ::-1]
    odd.flags.writeable = False
    assert detector.detect(odd) == expected
    for size_hw in ((1, 1), (1, 500), (500, 1), (2, 2), (7, 33), (1, 20000)):
        detector.detect(np.full((*size_hw, 3), 128, np.uint8))
    assert detector.detect(astronaut_bgr) == expected


@pytest.fixture(scope="module")
def large_bgr(astronaut_bgr: Image) -> Image:
    return np.repeat(np.repeat(astronaut_bgr, 14, axis=0), 14, axis=1)


def test_a_picture_of_50_megapixels(named: tuple[str, FaceDetector], large_bgr: Image) -> None:
    name, detector = named
    face = detector.detect(large_bgr)[0]
    small = [(side + 0.5) / 14 - 0.5 for side in face.box_xyxy]
    assert box_iou((small[0], small[1], small[2], small[3]), BOXES[name]) > 0.75


def test_threads_get_what_one_thread_gets(
    named: tuple[str, FaceDetector], astronaut_bgr: Image
) -> None:
    name, detector = named
    other = np.ascontiguousarray(astronaut_bgr[:, :400])
    expected = [on_the_astronaut(name), detector.detect(other)]
    assert expected[0] != expected[1]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, [astronaut_bgr, other] * 2)) == expected * 2


def test_options_change_what_is_found(
    named: tuple[str, FaceDetector], astronaut_bgr: Image
) -> None:
    name, _ = named
    assert load_detector(name, confidence=1.0).detect(astronaut_bgr) == []
    half = astronaut_bgr[:, 96:352]
    twice = np.concatenate([half, half[:, ::-1]], axis=1)
    assert len(load_detector(name, faces="largest").detect(twice)) == 1
    assert len(load_detector(name, faces="best").detect(twice)) == 1
    every = load_detector(name).detect(twice)
    assert len(every) >= 2
    assert [face.score for face in every] == sorted((face.score for face in every), reverse=True)


def test_the_published_network_takes_one_size(shared_weights: Path) -> None:
    with pytest.raises(UsageError, match="takes pictures of 640x640, got 320"):
        load_detector("yolov8-face size=320")


def test_the_ssd_invents_a_face_where_one_fills_the_picture_and_padding_ends_that(
    shared_weights: Path, astronaut_bgr: Image
) -> None:
    # opencv/opencv#15912: the same face again, a third of the input further right and down.
    picture = np.ascontiguousarray(astronaut_bgr[20:220, 130:320])
    shift = np.array(picture.shape[1::-1]) / 3
    invented = load_detector("opencv-ssd pad=0").detect(picture)
    assert len(invented) >= 2
    centers = np.array([face.box_xyxy for face in invented]).reshape(-1, 2, 2).mean(axis=1)
    steps = np.abs(centers[1:] - centers[0]) / shift
    assert np.abs(steps - 1.0).max(axis=1).min() < 0.15
    (face,) = load_detector("opencv-ssd").detect(picture)
    left, top, right, bottom = face.box_xyxy
    box = (left + 130, top + 20, right + 130, bottom + 20)
    assert box_iou(box, BOXES["opencv-ssd"]) > 0.7
