"""Error figures: hand-computed cases, second implementations, and what must always hold."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agebench.harness import results
from agebench.harness.fail_if import FIGURES
from agebench.metrics import age_errors
from agebench.metrics.age_classes import ADIENCE_CLASSES, class_of_age
from agebench.metrics.age_errors import CS_YEARS, absolute_errors, cumulative_score
from agebench.metrics.common_pictures import common_pictures
from agebench.metrics.error_summary import DecadeError, mae_by_decade, summarise
from agebench.metrics.intervals import mean_interval
from agebench.metrics.label_accuracy import (
    ClassAccuracy,
    class_accuracy,
    distance_to_range,
    range_hit,
)
from agebench.report.measures import score_curve
from agebench.report.rows_ranking import RANKING_COLUMNS
from agebench.types import plain

PAIRS = st.lists(st.tuples(st.floats(0, 120), st.floats(0, 120)), min_size=1, max_size=40)
Figure = Callable[[list[float], list[float]], float]

TRUE = [20.0, 30.0, 40.0, 50.0]
PREDICTED = [21.0, 27.0, 45.0, 39.0]
"""Errors of +1, -3, +5 and -11 years."""


def test_every_figure_by_hand() -> None:
    assert age_errors.signed_errors(TRUE, PREDICTED).tolist() == [1, -3, 5, -11]
    assert age_errors.absolute_errors(TRUE, PREDICTED).tolist() == [1, 3, 5, 11]
    assert age_errors.mae(TRUE, PREDICTED) == 5.0
    assert age_errors.rmse(TRUE, PREDICTED) == pytest.approx(math.sqrt((1 + 9 + 25 + 121) / 4))
    assert age_errors.median_absolute_error(TRUE, PREDICTED) == 4.0
    assert age_errors.signed_bias(TRUE, PREDICTED) == -2.0


@pytest.mark.parametrize(
    ("years", "share"), [(0, 0.0), (1, 0.25), (2.9, 0.25), (3, 0.5), (5, 0.75), (10, 0.75), (11, 1)]
)
def test_cumulative_score_counts_an_error_of_exactly_k(years: float, share: float) -> None:
    assert cumulative_score(TRUE, PREDICTED, years) == share


@pytest.mark.parametrize("years", CS_YEARS)
def test_an_error_of_exactly_k_counts_with_decimals_too(years: int) -> None:
    true = np.arange(1000) / 10
    predicted = (np.arange(1000) + 10 * years) / 10  # up to 1e-14 more than k above
    assert cumulative_score(true, predicted, years) == 1.0
    assert cumulative_score(true, predicted + 1e-6, years) == 0.0
    steps, fractions = score_curve(true, predicted)
    assert fractions[steps == years] == 1.0


def test_bias_is_positive_where_people_are_taken_for_older() -> None:
    assert age_errors.signed_bias([20], [30]) == 10.0


@given(PAIRS)
def test_second_implementations_agree(pairs: list[tuple[float, float]]) -> None:
    true, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    off = [abs(p - t) for t, p in pairs]
    assert age_errors.mae(true, predicted) == pytest.approx(statistics.fmean(off))
    squares = statistics.fmean(error * error for error in off)
    assert age_errors.rmse(true, predicted) == pytest.approx(math.sqrt(squares))
    assert age_errors.median_absolute_error(true, predicted) == pytest.approx(
        statistics.median(off)
    )
    bias = statistics.fmean(predicted) - statistics.fmean(true)
    assert age_errors.signed_bias(true, predicted) == pytest.approx(bias, abs=1e-9)
    assert cumulative_score(true, predicted, 5) == sum(e <= 5 + 1e-9 for e in off) / len(off)


@given(PAIRS)
def test_what_must_hold_between_the_figures(pairs: list[tuple[float, float]]) -> None:
    true, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    error = age_errors.mae(true, predicted)
    assert error >= abs(age_errors.signed_bias(true, predicted)) - 1e-9
    assert age_errors.rmse(true, predicted) >= error - 1e-9
    scores = [cumulative_score(true, predicted, years) for years in (0, *CS_YEARS, 120)]
    assert scores == sorted(scores)
    assert scores[-1] == 1.0
    # Exchanging truth and prediction turns the bias round and leaves the error.
    assert age_errors.mae(predicted, true) == error
    assert age_errors.signed_bias(predicted, true) == -age_errors.signed_bias(true, predicted)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 120)), min_size=1), st.randoms())
def test_a_summary_does_not_depend_on_the_order(
    pairs: list[tuple[int, int]], random: Random
) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    first, second = (
        summarise([t for t, _ in rows], [p for _, p in rows]) for rows in (pairs, shuffled)
    )
    assert first.mae_interval == second.mae_interval
    assert first.rmse_years == pytest.approx(second.rmse_years)
    assert dict(first.cs) == dict(second.cs)
    assert [(d.decade, d.n, d.mae_years) for d in first.by_decade] == [
        (d.decade, d.n, d.mae_years) for d in second.by_decade
    ]


@pytest.mark.parametrize(
    "figure",
    [
        age_errors.mae,
        age_errors.rmse,
        age_errors.median_absolute_error,
        age_errors.signed_bias,
        lambda true, predicted: cumulative_score(true, predicted, 5),
    ],
)
def test_every_figure_refuses_what_it_cannot_score(figure: Figure) -> None:
    cases: list[tuple[Any, Any, str]] = [
        ([], [], "at least one age"),
        ([1.0], [1.0, 2.0], "true_years: 1, predicted_years: 2"),
        ([math.nan], [1.0], "true_years: expected finite"),
        ([1.0], [math.inf], "predicted_years: expected finite"),
        ([[1.0]], [[1.0]], "1 dimension"),
    ]
    for true, predicted, said in cases:
        with pytest.raises(ValueError, match=said):
            figure(true, predicted)


@pytest.mark.parametrize("years", [-1.0, math.nan, math.inf])
def test_cumulative_score_refuses_a_senseless_k(years: float) -> None:
    with pytest.raises(ValueError, match="years: expected a number from 0"):
        cumulative_score(TRUE, PREDICTED, years)


def test_decades_by_hand() -> None:
    true = [0, 9.99, 10, 19, 104]
    parts = mae_by_decade(true, [2, 9.99, 6, 20, 100], minimum=1)
    assert [part.decade for part in parts] == ["0-9", "10-19", "100-109"]
    assert [part.n for part in parts] == [2, 2, 1]
    assert [part.mae_years for part in parts] == [1.0, 2.5, 4.0]
    assert [part.bias_years for part in parts] == [1.0, -1.5, -4.0]
    assert [part.mae_interval for part in parts] == [None] * 3


def test_a_decade_gets_its_interval_from_the_minimum_on_and_from_its_own_people() -> None:
    generator = np.random.default_rng(0)
    true = np.repeat([25, 35], [20, 19])
    predicted = true + generator.normal(0, 5, 39)
    people = [f"p{i * i % 23}" for i in range(39)]
    twenties, thirties = mae_by_decade(true, predicted, clusters=people)
    errors = np.abs(predicted - true)
    assert twenties.mae_interval == mean_interval(errors[:20], clusters=people[:20])
    assert twenties.mae_interval is not None
    assert (twenties.n, twenties.people) == (20, len(set(people[:20])))
    # One picture too few for any figure, and its number is said all the same.
    assert thirties == DecadeError("30-39", 19, None, None, None, len(set(people[20:])))
    lower = mae_by_decade(true, predicted, clusters=people, minimum=19)[1].mae_interval
    assert lower == mean_interval(errors[20:], clusters=people[20:])
    # The other decade's people are grouped otherwise, so the wrong ones would show.
    assert lower != mean_interval(errors[20:], clusters=people[:19])


def test_decade_parts_make_up_the_whole() -> None:
    generator = np.random.default_rng(1)
    true = generator.integers(0, 100, 500)
    predicted = np.clip(true + generator.normal(0, 8, 500), 0, 120)
    parts = mae_by_decade(true, predicted)
    assert sum(part.n for part in parts) == 500
    whole = sum(part.n * (part.mae_years or 0.0) for part in parts) / 500
    assert whole == pytest.approx(age_errors.mae(true, predicted))


def test_a_summary_bundles_what_the_functions_give() -> None:
    people = ["ann", "ann", "bob", None]
    summary = summarise(TRUE, PREDICTED, clusters=people)
    assert (summary.n, summary.mae_years, summary.bias_years) == (4, 5.0, -2.0)
    assert summary.rmse_years == age_errors.rmse(TRUE, PREDICTED)
    assert summary.median_years == 4.0
    assert dict(summary.cs) == {1: 0.25, 3: 0.5, 5: 0.75, 10: 0.75}
    assert summary.mae_interval == mean_interval([1, 3, 5, 11], clusters=people)
    assert summary.by_decade == mae_by_decade(TRUE, PREDICTED, clusters=people)


def test_a_summary_leaves_out_whole_people_at_the_level_asked_for() -> None:
    people = [name for name in "abcdefghijkl" for _ in range(2)]
    predicted = [20.0 + 2 * row - row % 2 for row in range(24)]
    true = [20.0] * 24
    summary = summarise(true, predicted, clusters=people, minimum=24, level=0.8)
    assert summary.people == 12
    errors = absolute_errors(true, predicted)
    assert summary.mae_interval == mean_interval(errors, clusters=people, level=0.8)
    assert summary.mae_interval not in (None, mean_interval(errors, level=0.8))
    assert summary.by_decade == mae_by_decade(
        true, predicted, clusters=people, minimum=24, level=0.8
    )
    assert [part.mae_interval for part in summary.by_decade] == [summary.mae_interval]
    assert summarise(true, predicted, minimum=25).by_decade[0].mae_interval is None
    assert summarise(true, predicted).people is None


def test_a_summary_of_nothing_is_a_row_of_none() -> None:
    summary = summarise([], [], clusters=[])
    assert summary.n == 0
    figures = (summary.mae_years, summary.rmse_years, summary.median_years, summary.bias_years)
    assert figures == (None,) * 4
    assert summary.mae_interval is None
    assert dict(summary.cs) == {1: None, 3: None, 5: None, 10: None}
    assert summary.by_decade == ()


def test_one_picture_or_one_person_has_an_error_but_no_interval() -> None:
    assert summarise([20], [23]).mae_years == 3.0
    assert summarise([20], [23]).mae_interval is None
    assert summarise(TRUE, PREDICTED, clusters=["ann"] * 4).mae_interval is None


def test_a_summary_can_be_written_as_json() -> None:
    summary = summarise(TRUE * 3, PREDICTED * 3)
    written = json.loads(json.dumps(plain(summary)))
    assert written["mae_years"] == 5.0
    assert written["cs"]["5"] == 0.75
    assert summary.mae_interval is not None
    assert written["mae_interval"] == list(summary.mae_interval.ends)


@pytest.mark.parametrize(
    ("true", "predicted", "clusters", "said"),
    [
        ([20], [20, 30], None, "equal lengths"),
        ([20, 30], [20, 30], ["a"], "clusters: expected 2 members, got 1"),
        ([], [], ["a"], "clusters: expected 0 members, got 1"),
        ([-1], [3], None, "true_years: expected ages from 0 to 120"),
        ([1e300], [3], None, "true_years: expected ages from 0 to 120"),
        ([20], [math.nan], None, "predicted_years: expected finite"),
    ],
)
def test_a_summary_refuses_wrong_input(
    true: list[float], predicted: list[float], clusters: list[str] | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        summarise(true, predicted, clusters=clusters)


def test_class_accuracy_by_hand() -> None:
    #            right  next  far  gap  gap  next over a gap
    true = [1.0, 30.0, 80.0, 3.0, 22.0, 5.9]
    given_class = [0, 5, 0, 0, 4, 2]
    got = class_accuracy(true, given_class, ADIENCE_CLASSES)
    assert got == ClassAccuracy(n=4, n_in_gap=2, n_unclassified=0, exact=0.25, one_off=0.75)


def test_class_accuracy_counts_the_people_of_the_pictures_that_are_in_a_class() -> None:
    people = ["ann", "bob", "ann", "cid"]
    assert class_accuracy([1, 3, 1, 30], [0, 0, 0, 5], ADIENCE_CLASSES, people).people == 2
    assert class_accuracy([1, 3, 1, 30], [0, 0, 0, 5], ADIENCE_CLASSES).people is None


def test_no_class_is_wrong_and_no_neighbour_of_the_first() -> None:
    got = class_accuracy([1, 1, 3], [-1, 0, -1], ADIENCE_CLASSES)
    assert got == ClassAccuracy(n=2, n_in_gap=1, n_unclassified=1, exact=0.5, one_off=0.5)


def test_class_accuracy_with_nobody_in_a_class() -> None:
    assert class_accuracy([], [], ADIENCE_CLASSES) == ClassAccuracy(0, 0, 0, None, None)
    assert class_accuracy([3, 7], [0, 1], ADIENCE_CLASSES) == ClassAccuracy(0, 2, 0, None, None)


@given(st.lists(st.tuples(st.floats(0, 120), st.integers(-1, 7)), min_size=1))
def test_class_accuracy_agrees_with_a_loop(rows: list[tuple[float, int]]) -> None:
    got = class_accuracy([t for t, _ in rows], [c for _, c in rows], ADIENCE_CLASSES)
    classes = [(int(class_of_age([t], ADIENCE_CLASSES)[0]), c) for t, c in rows]
    scored = [(t, c) for t, c in classes if t >= 0]
    assert (got.n, got.n_in_gap) == (len(scored), len(rows) - len(scored))
    if scored:
        assert got.exact == sum(t == c for t, c in scored) / len(scored)
        assert got.one_off == sum(c in {t - 1, t, t + 1} - {-1} for t, c in scored) / len(scored)


@pytest.mark.parametrize("wrong", [-2, 8, 0.5])
def test_an_impossible_class_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"whole numbers from -1 to 7, got .* at \[1\]"):
        class_accuracy([1, 1], [0, wrong], ADIENCE_CLASSES)
    with pytest.raises(ValueError, match="equal lengths"):
        class_accuracy([1, 1], [0], ADIENCE_CLASSES)
    with pytest.raises(ValueError, match=r"^predicted_class: expected finite"):
        class_accuracy([1, 1], [0, math.nan], ADIENCE_CLASSES)


def test_ranges_by_hand() -> None:
    ranges = [(20, 29)] * 6 + [(7, 7)] * 3
    predicted = [19.5, 20, 29, 29.99, 30, 41, 6, 7.5, 9]
    hits = [False, True, True, True, False, False, False, True, False]
    assert range_hit(ranges, predicted).tolist() == hits
    assert distance_to_range(ranges, predicted).tolist() == pytest.approx(
        [0.5, 0, 0, 0.99, 1, 12, 1, 0.5, 2]
    )


@given(st.integers(0, 100), st.integers(0, 20), st.floats(0, 120))
def test_the_distance_is_the_least_error_that_the_label_allows(
    low: int, width: int, predicted: float
) -> None:
    labels = np.linspace(low, low + width, 64 * width + 1)
    distance = float(distance_to_range([(low, low + width)], [predicted])[0])
    assert distance == pytest.approx(np.abs(labels - predicted).min(), abs=1 / 64)
    if range_hit([(low, low + width)], [predicted])[0]:
        assert distance < 1.0
    else:
        assert distance > 0.0


def test_as_far_below_a_range_as_above_it_and_as_from_its_labels_alone() -> None:
    assert distance_to_range([(20, 29)] * 2, [19, 30]).tolist() == [1.0, 1.0]
    predicted = [27.25, 29.0, 29.5, 31.0]
    alone = absolute_errors([29] * 4, predicted)
    assert distance_to_range([(29, 29)] * 4, predicted) == pytest.approx(alone)


def test_one_that_answers_next_to_nothing_shrinks_nobody_elses_pictures() -> None:
    answered = np.array([[True] * 251, [True] * 249 + [False] * 2, [True] * 2 + [False] * 249])
    ranked, common = common_pictures(answered)
    assert ranked.tolist() == [True, True, False]
    assert common.sum() == 249
    # Half of the pictures that anybody gave an age for are enough, whatever nobody could.
    half = np.array([[True] * 4 + [False] * 6, [True] * 2 + [False] * 8])
    assert common_pictures(half)[0].tolist() == [True, True]
    assert [flags.any() for flags in common_pictures(np.zeros((2, 5), np.bool_))] == [False] * 2
    assert [flags.dtype for flags in common_pictures(np.zeros((2, 5), np.bool_))] == [np.bool_] * 2
    assert common_pictures(np.array([[True], [False]]))[0].tolist() == [True, False]


def test_no_ranges_give_nothing() -> None:
    assert range_hit([], []).tolist() == []
    assert distance_to_range(np.empty((0, 2)), []).tolist() == []


@pytest.mark.parametrize(
    ("ranges", "predicted", "said"),
    [
        ([(29, 20)], [25], r"first <= last, got \[29.0, 20.0\] at \[0\]"),
        ([(-5, 20)], [25], "0 <= first"),
        ([(20, 29)], [25, 26], "equal lengths"),
        ([], [25], "equal lengths"),
        ([(20, 25, 29)], [25], r"expected shape \(n, 2\), got \(1, 3\)"),
        ([20, 29], [25], "2 dimension"),
        ([(20, 29), (9, 8)], [25, 8], r"first <= last, got \[9.0, 8.0\] at \[1\]"),
        ([(20, math.inf)], [25], "^ranges_years: expected finite"),
        ([(20, 29)], [math.nan], "^predicted_years: expected finite"),
        ([None], [25], "real numbers"),
    ],
)
def test_wrong_ranges_are_refused(ranges: Any, predicted: list[float], said: str) -> None:
    for call in (range_hit, distance_to_range):
        with pytest.raises(ValueError, match=said):
            call(ranges, predicted)


def test_every_metric_is_a_field_of_the_summary_the_schema_and_the_page_about_it() -> None:
    docs = Path(__file__).parents[2] / "docs" / "result-schema.md"
    schema = Path(results.__file__).with_name("result.schema.json").read_text("utf-8")
    errors = json.loads(schema)["$defs"]["errors"]["properties"]
    summary = summarise(TRUE, PREDICTED)
    for metric in age_errors.METRICS:
        assert summary.figure(metric) == metric.compute(TRUE, PREDICTED)
        kind = "signed_years_or_null" if metric.signed else "years_or_null"
        assert errors[metric.key] == {"$ref": f"#/$defs/{kind}"}
        (row,) = (
            line
            for line in docs.read_text("utf-8").splitlines()
            if line.startswith(f"| `{metric.key}` | years |") and f"(`{metric.name}`)" in line
        )
        assert row.endswith("|")


def test_the_names_of_metrics_are_told_apart_everywhere() -> None:
    names = [metric.name for metric in age_errors.METRICS]
    assert names[0] == "mae"
    assert len(set(names)) == len({metric.key for metric in age_errors.METRICS}) == len(names)
    assert set(names) <= set(FIGURES)
    assert set(names) < set(RANKING_COLUMNS)


def test_a_mean_error_needs_pictures() -> None:
    summary = summarise([20, 30], [25, 27])
    with pytest.raises(ValueError, match="at least one picture"):
        replace(summary, n=0)
