"""Age thresholds against counting by hand and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from agebench.metrics.age_thresholds import BUFFERS_YEARS, THRESHOLDS_YEARS, threshold_rates
from agebench.metrics.proportions import proportion_interval


def test_every_gate_is_scikit_learns_confusion_matrix() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(5, 40, 500)
    predicted = np.clip(true + generator.normal(0, 6, 500), 0, 100)
    found = threshold_rates(true, predicted)
    assert [(rates.threshold_years, rates.buffer_years) for rates in found] == [
        (threshold, buffer) for threshold in THRESHOLDS_YEARS for buffer in BUFFERS_YEARS
    ]
    for rates in found:
        adult = true >= rates.threshold_years
        passed = predicted >= rates.threshold_years + rates.buffer_years
        (stopped_minors, passed_minors), (stopped_adults, passed_adults) = confusion_matrix(
            adult, passed
        )
        assert (rates.minors, rates.adults) == ((~adult).sum(), adult.sum())
        assert rates.false_pass_rate == passed_minors / (stopped_minors + passed_minors)
        assert rates.false_stop_rate == stopped_adults / (stopped_adults + passed_adults)
        bounds = binomtest(int(passed_minors), rates.minors).proportion_ci(0.95, "wilson")
        assert rates.false_pass_interval is not None
        assert rates.false_pass_interval.low == pytest.approx(bounds.low, abs=1e-12)


def test_a_larger_buffer_lets_fewer_minors_pass_and_stops_more_adults() -> None:
    generator = np.random.default_rng(1)
    true = generator.uniform(5, 40, 300)
    found = threshold_rates(true, true + generator.normal(5, 6, 300), thresholds_years=[18])
    passes = [rates.false_pass_rate or 0.0 for rates in found]
    stops = [rates.false_stop_rate or 0.0 for rates in found]
    assert passes == sorted(passes, reverse=True)
    assert stops == sorted(stops)


def test_who_is_exactly_at_a_limit() -> None:
    (rates,) = threshold_rates(
        [18, 17.99], [20, 20], thresholds_years=[18], buffers_years=[2], minimum=1
    )
    assert (rates.minors, rates.adults) == (1, 1)
    assert (rates.false_pass_rate, rates.false_stop_rate) == (1.0, 0.0)


def test_without_minors_or_pictures_there_is_no_rate() -> None:
    (rates,) = threshold_rates([40] * 20, [40] * 20, thresholds_years=[18], buffers_years=[0])
    assert (rates.minors, rates.false_pass_rate, rates.false_pass_interval) == (0, None, None)
    assert rates.false_stop_rate == 0.0
    (rates,) = threshold_rates([40] * 19, [40] * 19, thresholds_years=[18], buffers_years=[0])
    assert (rates.adults, rates.false_stop_rate, rates.false_stop_interval) == (19, None, None)
    (rates,) = threshold_rates([], [], thresholds_years=[18], buffers_years=[0])
    assert (rates.false_pass_rate, rates.false_stop_rate) == (None, None)


def test_pictures_of_few_people_say_less() -> None:
    true = np.full(120, 15.0)
    predicted = np.repeat([14.0, 30.0, 14.0, 14.0, 14.0, 30.0] * 2, 10)
    people = np.repeat(np.arange(12), 10).tolist()
    (alone,) = threshold_rates(true, predicted, thresholds_years=[18], buffers_years=[0])
    (together,) = threshold_rates(
        true, predicted, clusters=people, thresholds_years=[18], buffers_years=[0]
    )
    assert alone.false_pass_rate == together.false_pass_rate == 2 / 6
    narrow, wide = alone.false_pass_interval, together.false_pass_interval
    assert narrow is not None
    assert wide is not None
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert (together.minor_people, together.adult_people) == (12, None)
    assert (alone.minor_people, alone.adult_people) == (None, None)


def test_both_intervals_have_the_level_and_the_people() -> None:
    true = np.tile([15.0, 30.0], 60)
    predicted = np.where(np.arange(120) % 7 == 0, 45.0 - true, true)
    people = (np.arange(120) // 5).tolist()
    (rates,) = threshold_rates(
        true, predicted, clusters=people, thresholds_years=[18], buffers_years=[0], level=0.8
    )
    codes, minor, passed = np.array(people), true < 18, predicted >= 18
    assert rates.false_pass_rate == passed[minor].mean()
    assert rates.false_stop_rate == (~passed[~minor]).mean()
    of_minors = proportion_interval(passed[minor], codes[minor], 0.8)
    of_adults = proportion_interval(~passed[~minor], codes[~minor], 0.8)
    assert (rates.false_pass_interval, rates.false_stop_interval) == (of_minors, of_adults)
    assert (rates.minor_people, rates.adult_people) == (24, 24)
    assert (rates.minors, rates.adults) == (60, 60)


def test_a_side_without_pictures_has_no_rate_whatever_the_minimum() -> None:
    (rates,) = threshold_rates([40], [30], thresholds_years=[35], buffers_years=[0], minimum=0)
    assert (rates.false_pass_rate, rates.false_stop_rate) == (None, 1.0)


def test_wrong_arguments_are_named() -> None:
    for true, predicted, said in (
        ([121.0], [3.0], r"^true_years: expected ages"),
        ([3.0], [np.nan], r"^predicted_years: expected finite"),
        ([3.0, 4.0], [3.0], "true_years: 2, predicted_years: 1"),
    ):
        with pytest.raises(ValueError, match=said):
            threshold_rates(true, predicted)


@pytest.mark.parametrize(("true", "predicted"), [([-1], [3]), ([3], [np.inf]), ([3], [3, 4])])
def test_what_is_no_age_is_refused(true: list[float], predicted: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        threshold_rates(true, predicted)
