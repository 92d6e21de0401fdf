"""The latency pass: what is counted, in which order, and what is left out."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.protocols import DetectorSpec, EstimatorSpec
from agebench.timing.latency import (
    WARM_UP_PICTURES,
    StageTimes,
    choose_pictures,
    run_latency,
    turns,
)
from agebench.types import AgePrediction, Crops, CropSpec, Face, Image, Sample, ViewSpec

MAX_PIXELS = 10_000


class WholePicture:
    def __init__(self) -> None:
        self.spec = DetectorSpec("whole")
        self.calls = 0

    def detect(self, image_bgr: Image, /) -> Sequence[Face]:
        self.calls += 1
        height, width = image_bgr.shape[:2]
        return [Face((0.0, 0.0, float(width), float(height)), 1.0)]


class Logging:
    """Notes its name each time it is asked."""

    def __init__(self, name: str, log: list[str], *, fails: bool = False) -> None:
        self.spec = EstimatorSpec(name, CropSpec({"face": ViewSpec("face", (4, 4))}), "none")
        self._log = log
        self._fails = fails

    def predict(self, crops: Crops, /) -> Sequence[AgePrediction]:
        assert len(crops) == 1
        self._log.append(self.spec.name)
        if self._fails:
            raise RuntimeError("never works")
        return [AgePrediction(1.0)]


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    found = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        PillowImage.fromarray(np.full((20, 20, 3), number, np.uint8)).save(path)
        found.append(Sample(path, path.name, 1.0))
    return found


def test_warm_up_is_run_but_not_counted(samples: list[Sample]) -> None:
    log: list[str] = []
    detector = WholePicture()
    found = run_latency(samples, detector, [Logging("a", log)], max_pixels=MAX_PIXELS)
    assert detector.calls == WARM_UP_PICTURES + 4
    assert len(log) == WARM_UP_PICTURES + 4
    stages = [*found.shared.values(), *found.own[0].values()]
    assert [len(stage.samples_ms) for stage in stages] == [4] * 5


def test_the_order_is_another_one_for_each_picture_and_the_same_every_time(
    samples: list[Sample],
) -> None:
    log: list[str] = []
    run_latency(
        samples, WholePicture(), [Logging(name, log) for name in "abc"], max_pixels=MAX_PIXELS
    )
    orders = ["".join(log[at : at + 3]) for at in range(3 * WARM_UP_PICTURES, len(log), 3)]
    assert orders == ["".join("abc"[place] for place in turns(number, 3)) for number in range(4)]
    assert len(set(orders)) > 1


def test_nobody_is_first_or_after_the_same_one_more_often() -> None:
    rounds = [turns(number, 4) for number in range(2000)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in rounds)
    first = Counter(order[0] for order in rounds)
    follows = Counter(pair for order in rounds for pair in itertools.pairwise(order))
    assert set(first.values()) == {500}
    assert len(follows) == 12
    assert set(follows.values()) == {500}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_places_and_neighbours_are_balanced_in_every_cycle(count: int) -> None:
    cycle = count if count % 2 == 0 or count == 1 else 2 * count
    for start in (0, cycle):
        rounds = [turns(number, count) for number in range(start, start + cycle)]
        for place in range(count):
            assert len(set(Counter(order[place] for order in rounds).values())) == 1
        follows = Counter(pair for order in rounds for pair in itertools.pairwise(order))
        assert len(follows) == count * (count - 1)
        assert len(set(follows.values())) <= 1


def test_of_two_each_is_first_in_half_of_the_rounds() -> None:
    assert sum(turns(number, 2)[0] for number in range(60)) == 30


def test_the_first_is_measured_once_more_as_one_contender_more(samples: list[Sample]) -> None:
    log: list[str] = []
    found = run_latency(
        samples,
        WholePicture(),
        [Logging(name, log) for name in "ab"],
        max_pixels=MAX_PIXELS,
        second_copy=Logging("a", log),
    )
    assert len(found.own) == 2
    assert len(found.second_copy["total"].samples_ms) == 4
    assert Counter(log[3 * WARM_UP_PICTURES :]) == {"a": 8, "b": 4}
    assert found.busyness.threads == 1


def test_a_failed_estimator_has_no_samples_and_holds_nobody_up(samples: list[Sample]) -> None:
    estimators = [Logging("dead", [], fails=True), Logging("alive", [])]
    found = run_latency(samples, WholePicture(), estimators, max_pixels=MAX_PIXELS)
    assert all(not stage.samples_ms for stage in found.own[0].values())
    assert [len(stage.samples_ms) for stage in found.own[1].values()] == [4, 4, 4]
    assert found.own[0]["total"].summary() == {
        "n": 0,
        "mean_ms": None,
        "p50_ms": None,
        "p90_ms": None,
        "p99_ms": None,
    }


def test_total_is_the_sum_of_the_stages(samples: list[Sample]) -> None:
    found = run_latency(samples, WholePicture(), [Logging("a", [])], max_pixels=MAX_PIXELS)
    sums = np.sum(
        [
            found.shared["decode"].samples_ms,
            found.shared["detect"].samples_ms,
            found.own[0]["crop"].samples_ms,
            found.own[0]["infer"].samples_ms,
        ],
        axis=0,
    )
    assert found.own[0]["total"].samples_ms == pytest.approx(sums)


def test_a_clock_by_hand(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1_000))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    found = run_latency(samples, WholePicture(), [Logging("a", [])], max_pixels=MAX_PIXELS)
    # Each stage reads the clock once before and once after: one tick, a second, each.
    assert found.shared["decode"].samples_ms == (1000.0,) * 4
    assert found.own[0]["total"].samples_ms == (4000.0,) * 4


def test_a_detector_that_fails_now_and_then_ends_nothing(samples: list[Sample]) -> None:
    class Moody(WholePicture):
        def detect(self, image_bgr: Image, /) -> Sequence[Face]:
            if image_bgr[0, 0, 0] == 2:
                raise RuntimeError("moody")
            return super().detect(image_bgr)

    found = run_latency(samples, Moody(), [Logging("a", [])], max_pixels=MAX_PIXELS)
    assert len(found.shared["detect"].samples_ms) == 3


def test_a_picture_that_went_away_and_one_without_a_face_are_left_out(
    samples: list[Sample],
) -> None:
    class Choosy(WholePicture):
        def detect(self, image_bgr: Image, /) -> Sequence[Face]:
            return [] if image_bgr[0, 0, 0] == 1 else super().detect(image_bgr)

    samples[3].path.unlink()
    found = run_latency(samples, Choosy(), [Logging("a", [])], max_pixels=MAX_PIXELS)
    assert len(found.shared["decode"].samples_ms) == 2


def test_no_pictures_give_no_samples() -> None:
    found = run_latency([], WholePicture(), [Logging("a", [])], max_pixels=MAX_PIXELS)
    assert found.shared["decode"].samples_ms == ()


def test_percentiles_of_all_samples_in_any_order() -> None:
    times = StageTimes((9.0, 1.0, 5.0, 3.0, 7.0))
    summary = times.summary()
    assert (summary["n"], summary["mean_ms"], summary["p50_ms"]) == (5, 5.0, 5.0)
    assert summary["p90_ms"] == pytest.approx(8.2)
    assert summary["p99_ms"] == pytest.approx(8.92)
    assert times.samples_ms == (9.0, 1.0, 5.0, 3.0, 7.0)


def test_only_scored_pictures_are_chosen_and_the_same_for_a_seed() -> None:
    face = np.arange(100) % 2 == 1
    chosen = choose_pictures(face, 10, seed=3)
    assert len(set(chosen)) == 10
    assert chosen == sorted(chosen)
    assert face[chosen].all()
    assert chosen == choose_pictures(face, 10, seed=3)
    assert chosen != choose_pictures(face, 10, seed=4)
    assert len(choose_pictures(face, 500, seed=3)) == 50
    assert choose_pictures(face[:1], 10, seed=3) == []
