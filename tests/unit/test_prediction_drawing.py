"""Labels lie on no other label and inside the picture; drawings keep what they should."""

from __future__ import annotations

import io
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from agebench.prediction.drawing import (
    MOST_PANELS_WIDTH,
    draw_faces,
    draw_side_by_side,
    enlargement,
    save_picture,
)
from agebench.prediction.labels import place_labels
from agebench.prediction.records import AgeAnswer, PredictedFace
from agebench.types import Box, Face
from agebench.vision.images import decode_image


def overlap(first: Box, second: Box) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(0.0, width) * max(0.0, height)


def face(box: Box, text: str = "a") -> PredictedFace:
    return PredictedFace(Face(box, 0.9), {"a": AgeAnswer(36.2, (28.1, 45.0)), "b": AgeAnswer(9.0)})


boxes = st.tuples(
    st.floats(-50, 400), st.floats(-50, 300), st.floats(2, 150), st.floats(2, 150)
).map(lambda item: (item[0], item[1], item[0] + item[2], item[1] + item[3]))


@settings(max_examples=60, deadline=None)
@given(st.lists(boxes, max_size=25), st.floats(10, 90), st.floats(8, 30))
def test_no_label_lies_on_another_or_outside(faces: list[Box], width: float, height: float) -> None:
    placed = place_labels(faces, [(width, height)] * len(faces), (400, 300))
    assert len(placed) == len(faces)
    there = [place for place in placed if place is not None]
    for place in there:
        assert place[0] >= 0
        assert place[1] >= 0
        assert place[2] <= 400 + 1e-9
        assert place[3] <= 300 + 1e-9
        assert (place[2] - place[0], place[3] - place[1]) == pytest.approx((width, height))
    for first, second in itertools.combinations(there, 2):
        assert overlap(first, second) < 1e-6


def test_labels_keep_off_faces_where_there_is_room() -> None:
    row: list[Box] = [(float(x), 100.0, x + 30.0, 140.0) for x in range(20, 360, 34)]
    placed = place_labels(row, [(60.0, 15.0)] * len(row), (400, 300))
    assert None not in placed
    for place, box in itertools.product(placed, row):
        assert place is not None
        assert overlap(place, box) == 0.0


def test_a_label_that_must_lie_on_a_face_hides_neither_eyes_nor_mouth() -> None:
    stacked: list[Box] = [(10, 10, 110, 150), (10, 152, 110, 300)]
    placed = place_labels(stacked, [(100, 30)] * 2, (120, 300))
    # Below the lower face is no room, and above it is the upper one's chin: on its forehead.
    assert placed == [(10, 0, 110, 30), (10, 152, 110, 182)]


def test_a_label_larger_than_the_picture_has_no_place() -> None:
    assert place_labels([(0, 0, 5, 5)], [(50, 50)], (20, 20)) == [None]


def test_two_hundred_faces_are_all_labelled() -> None:
    grid: list[Box] = [
        (x * 330.0 + 100, y * 440.0 + 100, x * 330.0 + 180, y * 440.0 + 200)
        for x in range(20)
        for y in range(10)
    ]
    placed = place_labels(grid, [(250.0, 60.0)] * 200, (6708, 4472))
    there = [place for place in placed if place is not None]
    assert len(there) == 200
    assert all(overlap(a, b) == 0 for a, b in itertools.combinations(there, 2))


@pytest.mark.parametrize(
    "size_hw", [(1, 1), (2, 3), (1, 4000), (4000, 1), (48, 48), (480, 640), (1300, 1000)]
)
def test_any_size_of_picture_can_be_drawn_on(size_hw: tuple[int, int]) -> None:
    picture = np.full((*size_hw, 3), 200, np.uint8)
    height, width = size_hw
    whole = face((-0.5, -0.5, width - 0.5, height - 0.5))
    far = face((width + 40.0, 0.0, width + 50.0, 10.0))
    drawn = draw_faces(picture, [whole, far], "a")
    factor = enlargement(size_hw)
    assert drawn.shape == (height * factor, width * factor, 3)
    assert (drawn != 200).any()
    assert (picture == 200).all()


def test_small_faces_get_type_that_can_be_read() -> None:
    picture = np.full((1000, 1000, 3), 128, np.uint8)
    drawn = draw_faces(picture, [face((500.0, 500.0, 512.0, 514.0))], "a")
    changed = np.argwhere((drawn != 128).any(axis=2))
    height, width = changed.max(axis=0) - changed.min(axis=0)
    assert width >= 60  # ten letters of at least twelve pixels
    assert height >= 14 + 12


def test_faces_side_by_side_have_different_colours() -> None:
    cells = [(0, 0), (1, 1), (2, 0), (3, 0), (4, 0), (2, 1), (3, 1), (4, 1), (0, 1), (1, 0)]
    corners = [(column * 200 + 50, row * 300 + 100) for column, row in cells]
    faces = [face((x - 0.5, y - 0.5, x + 99.5, y + 119.5)) for x, y in corners]
    drawn = draw_faces(np.full((600, 1000, 3), 128, np.uint8), faces, "a")
    colours = {
        cell: tuple(drawn[y + 60, x + 1]) for cell, (x, y) in zip(cells, corners, strict=True)
    }
    assert len(set(colours.values())) == 8  # of ten faces: two are used again
    for one, other in itertools.combinations(cells, 2):
        if math.dist(one, other) < 2:
            assert colours[one] != colours[other]


def test_no_face_leaves_the_picture_as_it_is() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (600, 600, 3), dtype=np.uint8)
    assert np.array_equal(draw_faces(picture, [], "a"), picture)


def test_estimators_stand_side_by_side() -> None:
    picture = np.full((500, 600, 3), 90, np.uint8)
    faces = [face((100.0, 100.0, 200.0, 220.0))]
    one = draw_side_by_side(picture, faces, ["a"])
    two = draw_side_by_side(picture, faces, ["a", "b"])
    assert one.shape == picture.shape
    assert two.shape[1] == 2 * 600 + 4
    assert two.shape[0] > 500
    wide = draw_side_by_side(np.full((20, 30_000, 3), 9, np.uint8), [], ["a", "b"])
    assert wide.shape[1] <= MOST_PANELS_WIDTH + 4


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".webp", ".bmp", ".tif"])
def test_drawings_are_written_in_the_format_of_their_name(tmp_path: Path, suffix: str) -> None:
    picture = np.full((40, 50, 3), (10, 120, 250), np.uint8)
    path = tmp_path / f"a{suffix}"
    save_picture(picture, path)
    assert np.abs(decode_image(path.read_bytes(), "a").astype(int) - picture).max() < 12
    kind = PillowImage.open(io.BytesIO(path.read_bytes())).format
    assert kind is not None
    assert kind.lower()[:2] in suffix.lower()
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_a_crowd_is_enlarged_in_a_picture_and_never_in_a_video() -> None:
    picture = np.full((800, 1000, 3), 90, np.uint8)
    crowd = [
        face((x * 18.0 + 100, y * 20.0 + 100, x * 18.0 + 110, y * 20.0 + 112))
        for x in range(10)
        for y in range(6)
    ]
    assert draw_faces(picture, crowd, "a").shape == (3200, 4000, 3)
    assert draw_faces(picture, crowd, "a", moving=True).shape == picture.shape
    assert draw_faces(picture, crowd[:5], "a").shape == picture.shape
