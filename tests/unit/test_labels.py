"""Places of labels, computed by hand.

The label is 20 wide and 10 high, and a face's label is searched above, below, to the right and to
the left of it, then in the same order further away by 10, 20 and so on.
"""

from __future__ import annotations

import pytest

from agebench.prediction.labels import RINGS, place_labels
from agebench.types import Box

LABEL = (20.0, 10.0)
NO_LABEL = (0.0, 0.0)
"""A label that is in nobody's way."""

FACE: Box = (40.0, 40.0, 60.0, 60.0)


def placed(box: Box, canvas_wh: tuple[int, int], size_wh: tuple[float, float] = LABEL) -> Box:
    (found,) = place_labels([box], [size_wh], canvas_wh)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((10, 30, 30, 60), (10, 20, 30, 30)),  # above
        ((80, 10, 100, 30), (80, 0, 100, 10)),  # above, just inside the picture
        ((10, 9, 30, 60), (10, 60, 30, 70)),  # no room above: below
        ((10, 0, 30, 90), (10, 90, 30, 100)),  # below, just inside
        ((10, 0, 30, 91), (30, 0, 50, 10)),  # neither: to the right, at the top
        ((60, 0, 80, 100), (80, 0, 100, 10)),  # to the right, just inside
        ((70, 0, 90, 100), (50, 0, 70, 10)),  # to the left
        ((20, 0, 90, 100), (0, 0, 20, 10)),  # to the left, just inside
        ((30, -20, 99, 100), (10, 90, 30, 100)),  # to the left, level with the face's bottom
        ((30, -5, 99, 105), (0, 5, 20, 15)),  # further left, one height below the face's top
    ],
)
def test_the_first_free_place_is_taken(box: Box, expected: Box) -> None:
    assert placed(box, (100, 100)) == expected


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (50, 10),  # the label ends where the face does
        (40, 0),
        (39, 19),  # centred, as it would begin outside: (39 + 59 - 60) / 2
        (20, 0),
        (19, 19),  # it begins where the face does
        (0, 0),
    ],
)
def test_a_label_wider_than_its_face_keeps_left_as_far_as_there_is_room(
    left: float, expected: float
) -> None:
    found = placed((left, 50, left + 20, 70), (200, 100), (60, 10))
    assert found == (expected, 40, expected + 60, 50)


def test_a_label_narrower_than_its_face_begins_where_the_face_does() -> None:
    assert placed((10, 50, 70, 90), (100, 100)) == (10, 40, 30, 50)
    assert placed((-10, 50, 50, 90), (100, 100)) == (10, 40, 30, 50)  # centred
    assert placed((-50, 50, 50, 90), (100, 100)) == (30, 40, 50, 50)  # at the other end


@pytest.mark.parametrize(
    ("obstacles", "expected"),
    [
        ([], (40, 20, 60, 30)),  # above, one label's height away from the face
        ([(41, 21, 49, 29)], (50, 20, 70, 30)),  # half a label to the right of it
        ([(51, 21, 59, 29)], (30, 20, 50, 30)),  # half a label to the left of it
        ([(45, 21, 55, 29)], (40, 70, 60, 80)),  # below
        ([(45, 21, 55, 29), (41, 71, 49, 79)], (50, 70, 70, 80)),
        ([(45, 21, 55, 79)], (70, 40, 90, 50)),  # to the right, level with the face's top
        ([(45, 21, 55, 79), (81, 41, 89, 49)], (70, 50, 90, 60)),  # with its bottom
        ([(45, 21, 55, 79), (81, 41, 89, 59)], (70, 30, 90, 40)),  # a label's height above
        ([(45, 21, 55, 79), (81, 35, 89, 55)], (10, 40, 30, 50)),  # to the left
        ([(45, 21, 55, 79), (11, 35, 89, 55)], (40, 10, 60, 20)),  # above, two heights away
    ],
)
def test_a_label_moves_away_step_by_step(obstacles: list[Box], expected: Box) -> None:
    # A larger face behind it covers all places next to it.
    behind = (30.0, 30.0, 70.0, 70.0)
    boxes = [FACE, behind, *obstacles]
    sizes = [LABEL, *[NO_LABEL] * (1 + len(obstacles))]
    assert place_labels(boxes, sizes, (100, 100))[0] == expected


def test_of_places_at_the_same_distance_the_left_and_the_upper_ones_come_first() -> None:
    behind = (20.0, 20.0, 80.0, 80.0)  # covers the places next to the face and one height away
    above = (41.0, 11.0, 59.0, 19.0)
    boxes, sizes = [FACE, behind, above], [LABEL, NO_LABEL, NO_LABEL]
    assert place_labels(boxes, sizes, (100, 100))[0] == (20.0, 10.0, 40.0, 20.0)
    above_and_below = (15.0, 5.0, 85.0, 95.0)
    to_the_right = (81.0, 41.0, 109.0, 59.0)
    boxes = [FACE, behind, above_and_below, to_the_right]
    found = place_labels(boxes, [LABEL, *[NO_LABEL] * 3], (110, 100))[0]
    # At x = 90, three heights away, as 80 is still on the face behind.
    assert found == (90.0, 10.0, 110.0, 20.0)


def test_the_search_ends_at_the_stated_number_of_heights() -> None:
    reach = FACE[3] + RINGS * LABEL[1]
    behind = (-900.0, -900.0, 900.0, reach)
    found, _ = place_labels([FACE, behind], [LABEL, NO_LABEL], (400, 400))
    assert found == (40.0, reach, 60.0, reach + 10)
    # One pixel further, and the label lies on the face: at the first place without another label.
    behind = (-900.0, -900.0, 900.0, reach + 1)
    found, _ = place_labels([FACE, behind], [LABEL, NO_LABEL], (400, 400))
    assert found == (40.0, 30.0, 60.0, 40.0)


def test_labels_of_faces_that_fill_the_picture_lie_on_them_side_by_side() -> None:
    whole: Box = (0.0, 0.0, 100.0, 100.0)
    found = place_labels([whole] * 8, [LABEL] * 8, (100, 100))
    # At the top from left to right, at the bottom, then at the sides; at last further inside.
    assert found[:6] == [
        (0, 0, 20, 10),
        (40, 0, 60, 10),
        (80, 0, 100, 10),
        (0, 90, 20, 100),
        (40, 90, 60, 100),
        (80, 90, 100, 100),
    ]
    assert None not in found


def test_a_picture_full_of_labels_has_no_place_for_another() -> None:
    whole: Box = (0.0, 0.0, 40.0, 10.0)
    found = place_labels([whole] * 3, [LABEL] * 3, (40, 10))
    assert found == [(0, 0, 20, 10), (20, 0, 40, 10), None]


def test_large_faces_choose_first_and_places_keep_the_order_of_the_faces() -> None:
    small: Box = (10.0, 40.0, 30.0, 60.0)
    tall: Box = (10.0, 40.0, 30.0, 61.0)
    wide: Box = (10.0, 40.0, 31.0, 60.0)
    first: Box = (10, 30, 30, 40)
    assert place_labels([small, tall], [LABEL] * 2, (100, 100))[1] == first
    assert place_labels([small, wide], [LABEL] * 2, (100, 100))[1] == first
    assert place_labels([wide, small], [LABEL] * 2, (100, 100))[0] == first
    # Of two that are equally large, the first in the list.
    left, right = place_labels([small, small], [LABEL] * 2, (100, 100))
    assert left == first
    assert right == (10, 60, 30, 70)


def test_the_larger_area_is_first_wherever_the_faces_are() -> None:
    large: Box = (10.0, 5.0, 40.0, 35.0)
    small: Box = (28.0, 47.0, 53.0, 72.0)
    # Above the large face there is no room; the small one's label is moved to the side of its.
    expected = [(10.0, 35.0, 30.0, 45.0), (30.5, 37.0, 50.5, 47.0)]
    assert place_labels([large, small], [LABEL] * 2, (100, 100)) == expected
    assert place_labels([small, large], [LABEL] * 2, (100, 100)) == expected[::-1]


def test_many_faces_of_one_size_choose_in_their_order() -> None:
    whole: Box = (0.0, 0.0, 100.0, 100.0)
    few = place_labels([whole] * 6, [LABEL] * 6, (100, 100))
    assert place_labels([whole] * 60, [LABEL] * 60, (100, 100))[:6] == few


def test_each_label_has_its_own_size() -> None:
    boxes: list[Box] = [(10.0, 40.0, 30.0, 60.0), (60.0, 40.0, 90.0, 90.0)]
    assert place_labels(boxes, [(20.0, 10.0), (30.0, 15.0)], (100, 100)) == [
        (10, 30, 30, 40),
        (60, 25, 90, 40),
    ]


def test_no_faces_have_no_labels() -> None:
    assert place_labels([], [], (100, 100)) == []
