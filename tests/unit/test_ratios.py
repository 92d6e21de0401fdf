"""Faster is said only where the interval says so."""

from __future__ import annotations

import numpy as np
import pytest

from agebench.bench.ratios import compare_pairs, ratio_interval


def test_a_clear_difference_and_its_direction() -> None:
    generator = np.random.default_rng(0)
    fast = (10 + generator.random(60)).tolist()
    slow = (20 + generator.random(60)).tolist()
    found = compare_pairs([("slow", [slow]), ("fast", [fast])], [4])
    assert [item.verdict for item in found] == ["second faster"]
    interval = found[0].interval
    assert interval is not None
    assert interval.low < np.median(fast) / np.median(slow) < interval.high < 1


def test_the_same_times_show_nothing() -> None:
    times = (10 + np.random.default_rng(1).random(50)).tolist()
    found = compare_pairs([("a", [times]), ("b", [times])], [1])[0]
    assert (found.ratio, found.verdict) == (1.0, "no difference shown")


def test_what_slows_a_whole_round_down_cancels_out() -> None:
    generator = np.random.default_rng(2)
    drift = np.exp(np.cumsum(generator.normal(0, 0.2, 80)))
    first, second = 10 * drift, 11 * drift
    interval = ratio_interval(first.tolist(), second.tolist())
    assert interval is not None
    assert interval.low == pytest.approx(1.1)
    assert interval.high == pytest.approx(1.1)


@pytest.mark.parametrize(("rounds", "length"), [(8, 2), (63, 3), (64, 4), (125, 5), (1000, 10)])
def test_runs_are_as_long_as_the_cube_root(rounds: int, length: int) -> None:
    # One round in each run takes twice as long: the mean logarithm tells how many there are in it.
    second = [2.0 if place % length == 0 else 1.0 for place in range(rounds)]
    found = compare_pairs([("a", [[1.0] * rounds]), ("b", [second])], [1])[0]
    assert found.ratio == pytest.approx(2 ** (1 / length))


def test_few_rounds_say_nothing() -> None:
    short = [1.0] * 11
    found = compare_pairs([("a", [short]), ("b", [[9.0] * len(short)])], [1])[0]
    assert (found.interval, found.verdict) == (None, "no difference shown")


def test_intervals_widen_with_the_number_of_statements() -> None:
    times = [[1.0 + n % 7 for n in range(30)], [2.0 + n % 5 for n in range(30)]]
    one = compare_pairs([("a", times[:1]), ("b", times[1:])], [1])[0].interval
    many = compare_pairs([(name, times) for name in "abc"], [1, 4])[0].interval
    assert one is not None
    assert many is not None
    assert one.level == pytest.approx(0.95)
    assert many.level == pytest.approx(1 - 0.05 / 6)


@pytest.mark.parametrize(("rounds", "statements"), [(12, 1), (20, 12), (200, 12)])
def test_false_alarms_are_as_rare_as_promised(rounds: int, statements: int) -> None:
    generator = np.random.default_rng(3)
    level = 1 - 0.05 / statements
    alarms = 0
    for _ in range(600):
        first, second = generator.gamma(9.0, 1.0, (2, rounds))
        interval = ratio_interval(first.tolist(), second.tolist(), level=level)
        assert interval is not None
        alarms += not interval.low <= 1 <= interval.high
    expected = 600 * 0.05 / statements
    assert alarms <= expected + 3 * expected**0.5


def test_the_interval_is_that_of_the_sign_test() -> None:
    times = [float(2**power) for power in range(3)]  # runs of one round: 1, 2, 4
    interval = ratio_interval([1.0] * 3, times, level=0.7)  # 1/8 lies outside at each end
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((1.0, 4.0))
    assert ratio_interval([1.0] * 3, times, level=0.8) is None


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [([1.0], [1.0, 2.0], "as many rounds"), ([0.0] * 12, [1.0] * 12, "above 0")],
)
def test_wrong_samples(first: list[float], second: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ratio_interval(first, second)


def test_intervals_of_several_calls_can_be_made_to_hold_together() -> None:
    rng = np.random.default_rng(4)
    times = [(name, [rng.gamma(9.0, size=60).tolist()]) for name in ("a", "b")]
    alone = compare_pairs(times, [1])[0].interval
    one_of_ten = compare_pairs(times, [1], number=10)[0].interval
    assert alone is not None
    assert one_of_ten is not None
    assert alone.level == pytest.approx(0.95)
    assert one_of_ten.level == pytest.approx(0.995)
    assert one_of_ten.low < alone.low < alone.high < one_of_ten.high
