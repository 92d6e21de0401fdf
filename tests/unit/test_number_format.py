"""Figures as text: signs, rounding, units and the characters that replace what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agebench.metrics.age_errors import METRICS
from agebench.metrics.error_summary import ErrorSummary
from agebench.metrics.intervals import Interval
from agebench.metrics.number_format import (
    amount,
    bounds,
    counted,
    figure,
    milliseconds,
    number,
    of_people,
    p_value,
    percent,
    percent_bounds,
    shortened,
    signed,
    significant,
)

DASH = "\u2013"  # an en dash
MINUS = "\u2212"  # not a hyphen


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (7.436, 2, "7.44"),
        (7.436, 0, "7"),
        (-7.436, 1, f"{MINUS}7.4"),
        (-0.004, 2, "0.00"),
        (-0.004, 3, f"{MINUS}0.004"),
        (0.0, 1, "0.0"),
        (-1.0, 0, f"{MINUS}1"),
        (None, 2, DASH),
    ],
)
def test_a_number_has_its_decimals_and_a_true_minus(
    value: float | None, digits: int, text: str
) -> None:
    assert number(value, digits) == text


def test_two_decimals_are_the_default() -> None:
    assert (number(1.0), signed(1.0), bounds([1.0, 2.0])) == ("1.00", "+1.00", "[1.00, 2.00]")


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (5.07, 2, "+5.07"),
        (0.6, 0, "+1"),
        (0.04, 1, "0.0"),  # rounded to zero, which has no sign
        (0.0, 2, "0.00"),
        (-5.07, 1, f"{MINUS}5.1"),
        (None, 2, DASH),
    ],
)
def test_a_signed_number_has_a_plus_unless_it_rounds_to_zero(
    value: float | None, digits: int, text: str
) -> None:
    assert signed(value, digits) == text


def test_a_figure_has_the_format_of_its_metric() -> None:
    summary = ErrorSummary(
        n=3,
        mae_years=4.125,
        mae_interval=None,
        rmse_years=5.25,
        median_years=None,
        bias_years=1.5,
        cs={},
        by_decade=(),
    )
    shown = {metric.name: figure(summary, metric) for metric in METRICS}
    assert shown == {"mae": "4.12", "rmse": "5.25", "median": DASH, "bias": "+1.50"}
    assert figure(summary, replace(METRICS[0], decimals=1)) == "4.1"


def test_fractions_are_shown_in_per_cent() -> None:
    assert [percent(0.4567), percent(0.4567, 2), percent(1.0, 0)] == ["45.7", "45.67", "100"]
    assert [percent(-0.05), percent(None)] == [f"{MINUS}5.0", DASH]
    assert percent_bounds([0.1, 0.25]) == "[10.0, 25.0]"
    assert percent_bounds(Interval(0.005, 1.0)) == "[0.5, 100.0]"
    assert percent_bounds(None) == ""


def test_both_ends_of_an_interval_are_rounded_alike() -> None:
    assert bounds(Interval(-1.234, 8.213)) == f"[{MINUS}1.23, 8.21]"
    assert bounds([6.61, 8.25], 1) == "[6.6, 8.2]"
    assert bounds((1.0, 2.0), 0) == "[1, 2]"
    assert bounds(None) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0312, "0.031"),
        (0.9994, "0.999"),
        (1.0, "1.00"),
        (9.99, "9.99"),
        (10.0, "10.0"),
        (99.94, "99.9"),
        (100.0, "100"),
        (205.2, "205"),
        (None, DASH),
    ],
)
def test_milliseconds_have_about_three_digits(value: float | None, text: str) -> None:
    assert milliseconds(value) == text


def test_long_names_lose_their_middle() -> None:
    assert shortened("caffe-age-net", 13) == "caffe-age-net"
    assert shortened("caffe-age-net", 12) == "caffe-\u2026ge-net"
    assert shortened("abcdefgh", 5) == "ab\u2026gh"


def test_people_and_things_are_counted_in_english() -> None:
    assert of_people("93 pictures", 2345) == "93 pictures of 2,345 people"
    assert of_people("2 pictures", 1) == "2 pictures of 1 person"
    assert of_people("2 pictures", None) == "2 pictures"
    assert [counted(n, "face") for n in (0, 1, 2, 1234567)] == [
        "0 faces",
        "1 face",
        "2 faces",
        "1,234,567 faces",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.01234, "0.0123"),
        (0.9876, "0.988"),
        (-0.5, "-0.5"),
        (1, "1.00"),
        (-1.2345, "-1.23"),
        (9.876, "9.88"),
        (10, "10.0"),
        (-12.345, "-12.3"),
        (99.87, "99.9"),
        (100, "100"),
        (-123.45, "-123"),
        (1234.5, "1234"),
    ],
)
def test_three_digits_are_significant(value: float | None, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "B", "unknown"),
        (12, "", "12.0"),
        (999, "B", "999 B"),
        (1000, "", "1.00 k"),
        (1e6, "B", "1.00 MB"),
        (11_415_048, "", "11.4 M"),
        (709e6, "MAC", "709 MMAC"),
        (1e9, "", "1.00 G"),
        (-2.5e9, "FLOP", "-2.50 GFLOP"),
    ],
)
def test_large_numbers_have_a_prefix(value: float | None, unit: str, text: str) -> None:
    assert amount(value, unit) == text
    if not unit:
        assert amount(value) == text


def test_p_values_have_four_decimals() -> None:
    assert [p_value(0.01234), p_value(1.0), p_value(None)] == ["0.0123", "1.0000", DASH]
