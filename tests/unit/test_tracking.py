"""Faces keep their numbers from frame to frame, and their ages are averaged."""

from __future__ import annotations

import math

import pytest

from agebench.errors import UsageError
from agebench.prediction.records import AgeAnswer, PredictedFace
from agebench.prediction.tracking import (
    LEAST_IOU,
    MAX_GAP_FRAMES,
    SMOOTHING_FRAMES,
    Tracker,
    mean_answer,
)
from agebench.types import Box, Face


def found(box: Box, **years: float | None) -> PredictedFace:
    return PredictedFace(Face(box, 0.9), {name: AgeAnswer(age) for name, age in years.items()})


def numbers(faces: list[PredictedFace]) -> list[int | None]:
    return [face.track for face in faces]


def test_an_overlap_of_the_limit_is_the_same_person_and_a_smaller_one_is_not() -> None:
    whole: Box = (0.0, 0.0, 10.0, 1.0)
    assert LEAST_IOU == 0.3
    for width, number in ((3.0, 1), (math.nextafter(3.0, 0), 2)):
        tracker = Tracker()
        tracker.update(0, [found(whole)])
        # A part of a box has its fraction of the area as IoU.
        assert numbers(tracker.update(1, [found((0.0, 0.0, width, 1.0))])) == [number]
        assert tracker.people == number


def test_somebody_who_walks_keeps_the_number() -> None:
    tracker = Tracker()
    for frame in range(40):
        x = 5.0 * frame
        assert numbers(tracker.update(frame, [found((x, 0.0, x + 20.0, 20.0))])) == [1]


@pytest.mark.parametrize(("gap", "number"), [(MAX_GAP_FRAMES, 1), (MAX_GAP_FRAMES + 1, 2)])
def test_frames_without_a_face_count_as_a_gap(gap: int, number: int) -> None:
    tracker, box = Tracker(), (0.0, 0.0, 20.0, 20.0)
    tracker.update(3, [found(box)])
    for frame in range(4, 3 + gap):
        assert tracker.update(frame, []) == []
    assert numbers(tracker.update(3 + gap, [found(box)])) == [number]
    # Seen just now, however long ago the first sighting was.
    assert numbers(tracker.update(4 + gap, [found(box)])) == [number]


def test_each_estimator_is_averaged_on_its_own() -> None:
    tracker, box = Tracker(smoothing=2), (0.0, 0.0, 20.0, 20.0)
    frames = [found(box, a=20.0, b=50.0), found(box, a=30.0, b=None), found(box, a=50.0, b=60.0)]
    shown = [tracker.update(at, [face])[0] for at, face in enumerate(frames)]
    assert [face.ages["a"].years for face in shown] == [20.0, 25.0, 40.0]
    assert [face.ages["b"].years for face in shown] == [50.0, 50.0, 55.0]
    assert shown[-1].face.box_xyxy == box


def test_people_are_averaged_on_their_own() -> None:
    tracker = Tracker()
    left, right = (0.0, 0.0, 20.0, 20.0), (100.0, 0.0, 120.0, 20.0)
    tracker.update(0, [found(left, a=10.0), found(right, a=70.0)])
    shown = tracker.update(1, [found(right, a=80.0), found(left, a=20.0)])
    assert [(face.track, face.ages["a"].years) for face in shown] == [(2, 75.0), (1, 15.0)]


def test_the_default_is_the_stated_number_of_sightings() -> None:
    tracker, box = Tracker(), (0.0, 0.0, 20.0, 20.0)
    count = SMOOTHING_FRAMES + 4
    shown = [tracker.update(frame, [found(box, a=float(frame))])[0] for frame in range(count)]
    assert shown[SMOOTHING_FRAMES - 1].ages["a"].years == (SMOOTHING_FRAMES - 1) / 2
    assert shown[-1].ages["a"].years == (4 + count - 1) / 2


def test_one_sighting_is_the_least() -> None:
    tracker, box = Tracker(smoothing=1), (0.0, 0.0, 20.0, 20.0)
    tracker.update(0, [found(box, a=20.0)])
    assert tracker.update(1, [found(box, a=40.0)])[0].ages["a"].years == 40.0
    with pytest.raises(UsageError, match=r"^--smoothing .*at least 1, got 0$"):
        Tracker(smoothing=0)


def test_an_unknown_age_leaves_the_mean_and_its_interval_as_they_are() -> None:
    tracker, box = Tracker(), (0.0, 0.0, 20.0, 20.0)
    (face,) = tracker.update(0, [PredictedFace(Face(box, 0.9), {"a": AgeAnswer(None, None, "no")})])
    assert face.ages["a"] == AgeAnswer(None, None, "no")
    known = PredictedFace(Face(box, 0.9), {"a": AgeAnswer(30.0, (20.0, 44.0))})
    tracker.update(1, [known])
    (face,) = tracker.update(2, [found(box, a=None)])
    assert face.ages["a"] == AgeAnswer(30.0, (20.0, 44.0))


def test_the_mean_of_answers_is_that_of_ages_and_of_ends_apart() -> None:
    answers = [AgeAnswer(20.0), AgeAnswer(30.0, (10.0, 60.0)), AgeAnswer(70.0, (20.0, 80.0))]
    assert mean_answer(answers) == AgeAnswer(40.0, (15.0, 70.0))
    assert mean_answer(answers[:1]) == AgeAnswer(20.0)
