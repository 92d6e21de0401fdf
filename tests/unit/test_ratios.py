"""Faster is said only where the interval and the control say so, and the machine was free."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from agebench.metrics.intervals import Interval
from agebench.timing.ratios import (
    BLOCKS,
    Comparison,
    Control,
    block_logarithms,
    block_sizes,
    compare_speeds,
    measure_control,
    ratio_interval,
    statement_level,
)
from agebench.types import Floats

QUIET = Control("a", 1, 1.0, Interval(0.99, 1.01), ())


def _times(seed: int, mean: float = 10.0, rounds: int = 60) -> list[float]:
    drawn = mean + np.random.default_rng(seed).random(rounds)
    return [float(value) for value in drawn]


def _compare(
    first: list[float], second: list[float], control: Control | None = QUIET, **more: float | str
) -> Comparison:
    (found,) = compare_speeds([("a", first), ("b", second)], 1, control, number=1, **more)  # type: ignore[arg-type]  # by name
    return found


def test_a_clear_difference_and_its_direction() -> None:
    slow, fast = _times(0, 20.0), _times(1)
    found = _compare(slow, fast)
    assert (found.verdict, found.reason) == ("second faster", "")
    assert found.interval is not None
    assert found.interval.low < found.ratio < found.interval.high < 1
    assert found.ratio == pytest.approx(np.median(fast) / np.median(slow), rel=0.02)
    assert _compare(fast, slow).verdict == "first faster"


def test_the_same_times_show_nothing() -> None:
    times = _times(1)
    found = _compare(times, times)
    assert (found.ratio, found.verdict) == (1.0, "no difference shown")


def test_what_slows_a_whole_round_down_cancels_out() -> None:
    drift = np.exp(np.cumsum(np.random.default_rng(2).normal(0, 0.2, 80)))
    interval = ratio_interval(10 * drift, 11 * drift)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((1.1, 1.1))


def test_the_interval_is_students_t_of_the_blocks_medians() -> None:
    generator = np.random.default_rng(3)
    first, second = generator.gamma(9.0, 1.0, (2, 33))
    logs = np.log(second / first)
    ends = np.cumsum([0, 6, 6, 6, 5, 5, 5])
    medians = [np.median(logs[start:end]) for start, end in pairwise(ends.tolist())]
    expected = stats.t.interval(0.9, 5, np.mean(medians), stats.sem(medians))
    interval = ratio_interval(first, second, level=0.9)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(np.exp(expected))
    own = block_logarithms(first, second, [3, 30])
    assert own == pytest.approx([np.median(logs[:3]), np.median(logs[3:])])


def _shared_disturbances(generator: np.random.Generator, rounds: int) -> Floats:
    """Times of three copies, each slowed down for stretches of about eight rounds."""
    slowed = np.zeros((3, rounds))
    for row in slowed:
        level = 0.0
        for place in range(rounds):
            if generator.random() < 1 / 8:
                level = generator.normal(0, 0.3)
            row[place] = level
    return 10 * np.exp(slowed + generator.normal(0, 0.05, slowed.shape))


def test_disturbances_that_outlast_a_round_deceive_nobody() -> None:
    """Of three copies no estimator is called faster in more than one sweep of twenty, or so."""
    generator = np.random.default_rng(4)
    alarms = 0
    for _ in range(400):
        times = _shared_disturbances(generator, 120)
        samples = list(zip("abc", times.tolist(), strict=True))
        found = compare_speeds(samples, 1, QUIET, number=3)
        alarms += any("faster" in one.verdict for one in found)
    assert alarms <= 0.05 * 400 + 3 * (0.05 * 400) ** 0.5


def test_few_rounds_say_nothing() -> None:
    found = _compare([1.0] * 11, [9.0] * 11)
    assert (found.interval, found.verdict) == (None, "no verdict")
    assert found.reason == "too few rounds"
    assert block_sizes(11) == (2, 2, 2, 2, 2, 1)
    assert _compare([1.0] * 12, [9.0] * 12).verdict == "first faster"


@pytest.mark.parametrize(
    ("control", "said"),
    [
        (None, "no estimator was measured twice"),
        (Control("a", 1, 1.0, None, ()), "no estimator was measured twice"),
        (Control("a", 1, 1.0, Interval(0.7, 1.2), ()), "a may differ from itself by 43 %"),
    ],
)
def test_without_a_good_control_there_is_no_verdict(control: Control | None, said: str) -> None:
    found = _compare([1.0] * 60, [9.0] * 60, control)
    assert found.verdict == "no verdict"
    assert found.ratio == pytest.approx(9.0)
    assert said in found.reason


def test_what_an_estimator_differs_from_itself_is_no_difference() -> None:
    control = Control("a", 1, 1.05, Interval(1.0, 1.12), ())
    assert control.noise_floor == 1.12
    assert Control("a", 1, 0.9, Interval(0.8, 1.0), ()).noise_floor == 1.25
    first = [1.0] * 60
    assert _compare(first, [1.11] * 60, control).verdict == "no difference shown"
    assert _compare(first, [1.13] * 60, control).verdict == "first faster"
    assert _compare([1.13] * 60, first, control).verdict == "second faster"
    assert _compare(first, [1.13] * 60, control, minimum_ratio=1.2).verdict == "no difference shown"


def test_a_busy_machine_has_no_verdict() -> None:
    found = _compare([1.0] * 60, [9.0] * 60, busy="the machine was too busy")
    assert (found.verdict, found.reason) == ("no verdict", "the machine was too busy")


def test_a_control_is_the_interval_of_the_second_copy() -> None:
    first, again = _times(5), _times(6)
    control = measure_control("a", 4, first, again)
    assert control.interval == ratio_interval(first, again)
    assert control.ratio == pytest.approx(np.exp(block_logarithms(first, again).mean()))
    assert (control.name, control.batch, control.samples_ms) == ("a", 4, tuple(again))


def test_intervals_widen_with_the_number_of_statements() -> None:
    times = [_times(7), _times(8)]
    found = [
        compare_speeds([("a", times[0]), ("b", times[1])], 1, QUIET, number=number)[0].interval
        for number in (1, 12)
    ]
    one, many = found
    assert one is not None
    assert many is not None
    assert [one.level, many.level] == pytest.approx([0.95, 1 - 0.05 / 12])
    assert many.low < one.low < one.high < many.high
    assert statement_level(0) == 0.95


def test_rounds_are_cut_into_blocks_that_are_as_equal_as_can_be() -> None:
    for rounds in range(1, 100):
        sizes = block_sizes(rounds)
        assert sum(sizes) == rounds
        assert len(sizes) == min(rounds, BLOCKS)
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("first", "second", "sizes", "words"),
    [
        ([1.0], [1.0, 2.0], None, "numbers of rounds, got 1 and 2"),
        ([0.0] * 12, [1.0] * 12, None, "above 0"),
        ([1.0] * 12, [1.0] * 12, [6, 5], "blocks of 12 rounds"),
    ],
)
def test_wrong_samples(
    first: list[float], second: list[float], sizes: list[int] | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        ratio_interval(first, second, sizes=sizes)
