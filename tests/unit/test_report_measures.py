"""What the report's pictures show, against a second computation; axes and escapes."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agebench.metrics.number_format import milliseconds, number, signed
from agebench.report.escaping import latex, markdown, spreadsheet
from agebench.report.grid import Cell, Column, Grid
from agebench.report.measures import age_curve, density, front, score_curve, worst
from agebench.report.rows_errors import heat_class
from agebench.report.svg import Drawing, linear_axis, log_axis, look, percent_axis, tag

RNG = np.random.default_rng(5)
TRUE = RNG.integers(0, 90, 3000).astype(np.float64)
GIVEN = np.clip(TRUE + RNG.normal(1, 8, 3000), 0, 120)


def test_error_by_age_is_the_mean_of_each_step() -> None:
    curve = age_curve(TRUE, GIVEN)
    for age, mean, low, high in zip(
        curve.ages_years, curve.mae_years, curve.low_years, curve.high_years, strict=True
    ):
        inside = [
            abs(given - true)
            for true, given in zip(TRUE, GIVEN, strict=True)
            if age - 2.5 <= true < age + 2.5
        ]
        assert mean == pytest.approx(sum(inside) / len(inside))
        assert low < mean < high
    assert len(curve.ages_years) == 18


def test_steps_with_few_pictures_have_no_mean() -> None:
    true = np.array([2.0] * 19 + [12.0] * 20)
    curve = age_curve(true, true + 1)
    assert np.isnan(curve.mae_years).tolist() == [True, True, False]
    assert len(age_curve(np.array([]), np.array([])).mae_years) == 0


def test_one_person_alone_gives_no_band() -> None:
    true = np.full(20, 7.0)
    curve = age_curve(true, true + 1, ["ann"] * 20)
    assert curve.mae_years.tolist() == [1.0]
    assert np.isnan(curve.low_years).all()


def test_cumulative_scores_count_an_error_of_exactly_k() -> None:
    years, shares = score_curve(TRUE, np.round(GIVEN))
    errors = np.abs(np.round(GIVEN) - TRUE)
    for k in (0, 1, 5, 20):
        assert shares[years == k].item() == pytest.approx((errors <= k).mean())


def test_density_counts_every_picture_once() -> None:
    table = density(TRUE, GIVEN)
    assert table.step_years == 2.5
    edges = np.arange(0, table.end_years + 1, 2.5)
    expected, _, _ = np.histogram2d(TRUE, GIVEN, bins=(edges, edges))
    assert table.counts.sum() == 3000
    assert np.array_equal(table.counts, expected.astype(int))
    assert density(np.array([0.0]), np.array([120.0])).counts.sum() == 1


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_front_holds_what_nobody_beats_in_both(points: list[tuple[int, int]]) -> None:
    costs, errors = [float(c) for c, _ in points], [float(e) for _, e in points]
    kept = {(costs[at], errors[at]) for at in front(costs, errors)}
    expected = {
        (c, e)
        for c, e in zip(costs, errors, strict=True)
        if not any(
            a <= c and b <= e and (a, b) != (c, e) for a, b in zip(costs, errors, strict=True)
        )
    }
    assert kept == expected


def test_the_worst_come_first_and_what_is_unknown_never() -> None:
    rows = worst(np.where(TRUE < 5, np.nan, TRUE), GIVEN, 20)
    errors = np.abs(GIVEN - TRUE)
    assert (TRUE[rows] >= 5).all()
    assert errors[rows].tolist() == sorted(errors[TRUE >= 5].tolist())[::-1][:20]


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e5))
def test_a_linear_axis_holds_its_ends_with_few_round_ticks(low: float, span: float) -> None:
    axis = linear_axis("x", low, low + span)
    assert axis.low <= low + 1e-6 * span + 1e-6
    assert axis.high >= low + span - 1e-6 * span - 1e-6
    assert 2 <= len(axis.ticks) <= 8
    assert axis.place([axis.low, axis.high]).tolist() == [0.0, 1.0]


@given(st.floats(1e-3, 1e5), st.floats(1.0, 1e7))
def test_a_log_axis_holds_its_ends(low: float, ratio: float) -> None:
    axis = log_axis("ms", low, low * ratio)
    assert axis.low <= low * 1.001
    assert axis.high >= low * ratio * 0.999
    assert 2 <= len(axis.ticks) <= 14
    places = axis.place([at for at, _ in axis.ticks])
    assert (np.diff(places) > 0).all()


def test_an_axis_of_nothing_still_stands() -> None:
    for axis in (linear_axis("x", 3, 3), percent_axis("x", 0.0), log_axis("x", 2, 2)):
        assert axis.high > axis.low


def test_looks_differ_in_more_than_colour() -> None:
    looks = [look(place) for place in range(10)]
    assert len({(one.dashes, one.mark) for one in looks}) == 10
    assert len({one.colour for one in looks[:7]}) == 7


def test_lines_break_where_a_value_is_missing() -> None:
    drawing = Drawing(linear_axis("x", 0, 4), linear_axis("y", 0, 1))
    drawing.line([0, 1, 2, 3, 4], [0, 1, np.nan, 0, 1], look(0))
    text = str(drawing.svg("words"))
    path = next(part for part in text.split("<path") if 'class="line"' in part)
    assert path.count("M") == 2
    assert "nan" not in path


def test_text_and_attributes_of_a_drawing_are_escaped() -> None:
    text = str(tag("text", "<b>&\x1b", title='"><script>'))
    assert text == '<text title="&#34;&gt;&lt;script&gt;">&lt;b&gt;&amp;\\x1b</text>'


@pytest.mark.parametrize(
    "start", ["=", "+", "-", "@", "\t=", "\r=", " =", "\n+", "\uff0b", "\uff20"]
)
def test_no_cell_is_a_formula(start: str) -> None:
    cell = spreadsheet(start + "1+1")
    assert cell.startswith(("'", "\\"))
    line = io.StringIO()
    csv.writer(line).writerow([cell])
    assert next(csv.reader([line.getvalue()])) == [cell]


@given(st.text())
def test_markdown_and_latex_stay_on_their_line(text: str) -> None:
    for escaped in (markdown(text), latex(text)):
        assert "\n" not in escaped
        assert "\r" not in escaped
        escaped.encode("utf-8")
    assert "<" not in markdown(text)
    assert "|" not in markdown(text).replace("\\|", "")
    bare = latex(text).replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")


def test_latex_escapes_what_it_would_act_on() -> None:
    assert latex(r"\a{b}$%#_^~&") == (
        r"\textbackslash{}a\{b\}\$\%\#\_\textasciicircum{}\textasciitilde{}\&"
    )
    assert latex("[x]--*") == "{[}x{]}{-}-{*}"


def test_markdown_makes_no_links_and_no_calls() -> None:
    assert "http://" not in markdown("see http://x.invalid and www.x.invalid")
    assert markdown("@someone [a](b)").startswith("&#64;someone \\[a\\](b)")


def test_words_round_and_never_show_minus_zero() -> None:
    assert number(-0.004) == "0.00"
    assert signed(-0.004) == "0.00"
    assert signed(-1.005, 1) == "\u22121.0"
    assert milliseconds(0.0004) == "0.000"
    assert heat_class(-50.0) == "u5"


def test_a_table_with_a_ragged_row_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 cells, got 2"):
        Grid("x", [Column("a")], [[Cell("1"), Cell("2")]])
