"""What the report opens with, and the words and marks of its tables."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agebench.harness.reading import read_result
from agebench.report import page
from agebench.report.context import citations, methods
from agebench.report.figures import drawn
from agebench.report.joining import Joined, join
from agebench.report.opening import answer, false_adult_grid
from agebench.report.rows_analysis import threshold_grids, thresholds_without_rate
from agebench.report.rows_errors import pair_grid, small_groups
from agebench.report.rows_ranking import ranking
from agebench.report.tables import as_latex, as_markdown
from tests.unit.made_results import analysed

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]
AGES = np.arange(1.0, 61.0)


@pytest.fixture
def joined_of(write_result: Write, make_result: Make) -> Callable[..., Joined]:
    """Join a made-up result; of these estimators the `seen` were trained on 9 of the pictures."""

    def make(predicted: dict[str, Any], seen: tuple[str, ...] = (), **given: Any) -> Joined:
        content = make_result(predicted, **given)
        for item in content["estimators"]:
            if item["name"] in seen:
                item["seen_in_training"] = {"what": "x", "count": 9, "pictures": []}
            if item["name"] == "constant":
                item["spec"]["name"] = "constant"
        content["analysis"] = analysed(content)
        return join([read_result(write_result(content=content))])

    return make


JoinedOf = Callable[..., Joined]


def test_the_answer_says_who_is_best_and_by_how_much(joined_of: JoinedOf) -> None:
    joined = joined_of({"near": AGES + 1, "far": AGES + 9})
    (told,) = answer(joined)
    assert told == (
        "near has the lowest mean error: 1.00 years [1.00, 1.00] on 60 pictures; the next, far, "
        "is worse by 8.00 [8.00, 8.00] years."
    )


def test_the_answer_does_not_say_better_where_nothing_was_shown(joined_of: JoinedOf) -> None:
    predicted = {"one": AGES + 0.95, "two": AGES + np.resize([2.0, 0.1], 60)}
    for names in (("one", "two"), ("two", "one")):
        (told,) = answer(joined_of({name: predicted[name] for name in names}))
        assert (
            "not shown to be better than two (difference \u22120.10 years [\u22120.35, +0.15])"
            in told
        )
        assert "worse" not in told


def test_the_age_that_a_miss_counts_as_is_rounded(joined_of: JoinedOf) -> None:
    ages = np.resize([0.1, 0.2], 20)
    told = methods(joined_of({"one": ages}, true=ages.tolist()))
    assert "the error of predicting 0.15 years" in told[2]


def test_the_answer_does_not_praise_who_knew_the_pictures(joined_of: JoinedOf) -> None:
    predicted = {"cheat": AGES, "honest": AGES + 2, "other": AGES + 9}
    first, second = answer(joined_of(predicted, seen=("cheat",)))
    assert first.startswith("honest has the lowest mean error: 2.00 years")
    assert second.startswith("Not judged")
    assert second.endswith(": cheat.")
    (told,) = answer(joined_of(predicted, seen=tuple(predicted)))
    assert told.startswith("No estimator can be judged here")


def test_the_baseline_is_nobodys_victory(joined_of: JoinedOf) -> None:
    predicted = {"cheat": AGES, "constant": AGES * 0 + 30}
    (sentence,) = answer(joined_of(predicted, seen=("cheat",)))
    assert sentence.startswith("Only the baseline can be judged here")


def test_the_false_adult_rate_is_that_of_people_below_the_age(joined_of: JoinedOf) -> None:
    grid = false_adult_grid(joined_of({"older": AGES + 5}))
    assert grid is not None
    # Of 12, 15 and 17 people no rate is given, and a column of dashes says nothing.
    assert [column.title for column in grid.columns] == ["estimator", "21 (of 20)", "25 (of 24)"]
    # Of 1 to 24 years, 20 to 24 are taken for 25 or older; of 1 to 20 years 16 to 20 for 21.
    assert grid.rows[0][-1].value == pytest.approx(5 / 24)
    assert grid.rows[0][-2].value == pytest.approx(5 / 20)
    assert re.match(r"20\.8 \[\d+\.\d,\u00a0\d+\.\d\]$", grid.rows[0][-1].text)


def test_gates_with_too_few_people_are_a_sentence(joined_of: JoinedOf) -> None:
    joined = joined_of({"older": AGES + 5})
    assert thresholds_without_rate(joined) == ["below 13 (12)", "below 16 (15)", "below 18 (17)"]
    assert "Fewer than 20 pictures, and no rate: below 13 (12), below 16" in page.render(joined)
    passed, stopped = threshold_grids(joined)
    assert {row[0].text for row in passed.rows} == {"21", "25"}
    assert {row[0].text for row in stopped.rows} == {"13", "16", "18", "21", "25"}
    few = joined_of({"older": AGES[:15] + 5}, true=AGES[:15].tolist())
    assert false_adult_grid(few) is None
    assert threshold_grids(few) == []
    assert "No threshold has enough people on both sides" in page.render(few)


def test_nobody_of_24_is_called_a_minor(joined_of: JoinedOf) -> None:
    joined = joined_of({"a": AGES + 1, "b": AGES + 3})
    for text in (page.render(joined), as_markdown(joined), as_latex(joined)):
        assert not re.search(r"\b[Mm]inors?\b", text)
        assert not re.search(r"\b[Aa]dults? (stopped|let)", text)


def test_the_best_figure_of_each_column_is_bold_and_no_other(joined_of: JoinedOf) -> None:
    level, same = AGES + np.resize([2, -2], 60), AGES * 0 + 30
    predicted = {"near": AGES + 1, "level": level, "constant": same, "x": AGES}
    joined = joined_of(predicted, seen=("x",))
    grid = ranking(joined)
    bold = {
        column.title: [row[0].text for row in grid.rows if row[at].kind == "strong"]
        for at, column in enumerate(grid.columns)
    }
    assert bold["MAE"] == bold["RMSE"] == ["near"]
    assert bold["bias"] == ["level"]
    assert all(set(names) <= {"near", "level"} for names in bold.values())


def test_the_matrix_of_pairs_says_the_same_from_both_sides(joined_of: JoinedOf) -> None:
    grid = pair_grid(joined_of({"near": AGES + 1, "far": AGES + 9, "x": AGES}, seen=("x",)))
    assert grid is not None
    assert [row[0].text for row in grid.rows] == ["near", "far", "x"]
    near, far, seen = grid.rows
    assert near[2].text == "\u22128.00 [\u22128.00,\u00a0\u22128.00] better"
    assert far[1].text == "+8.00 [+8.00,\u00a0+8.00] worse"
    assert near[3].text == "+1.00 no\u00a0verdict"
    assert seen[1].text == "\u22121.00 no\u00a0verdict"
    assert near[1].text == far[2].text == ""


def test_small_groups_are_a_sentence(joined_of: JoinedOf) -> None:
    joined = joined_of({"a": AGES + 1, "b": AGES + 3})  # ten pictures a decade
    assert len(small_groups(joined)) == 7
    text = page.render(joined)
    assert "7 groups have fewer than 20 pictures, and no figures: decade: 0-9" in text
    assert "Signed bias by group" not in text


def test_the_baseline_is_grey_and_takes_no_colour(joined_of: JoinedOf) -> None:
    alone = drawn(joined_of({"near": AGES + 1, "far": AGES + 9}))
    among = drawn(joined_of({"near": AGES + 1, "constant": AGES + 5, "far": AGES + 9}))
    looks = {entry.label: look for entry, look in among}
    assert looks["constant"].colour == "#767676"
    assert [looks["near"], looks["far"]] == [look for _, look in alone]


def test_the_opening_comes_before_the_sections(joined_of: JoinedOf) -> None:
    text = page.render(joined_of({"near": AGES + 1, "far": AGES + 9}))
    opening = text.split("<main>")[0]
    assert opening.index('class="answer"') < opening.index('<svg class="plot"')
    assert "False-adult rate" in opening
    assert re.findall("<h([1-6])", opening) == ["1", "2"]
    assert "prefers-color-scheme: dark" in text


def test_what_is_cited_stands_as_bibtex_too(joined_of: JoinedOf) -> None:
    joined = joined_of({"near": AGES + 1}, citation="Who & Co., 50 % of it, 2020", name="a_set")
    text = html.unescape(page.render(joined))
    assert "@software{agebench," in text
    assert "@misc{a-set,\n  title = {a\\_set},\n  note = {Who \\& Co., 50 \\% of it, 2020" in text
    assert text.count("@misc{") == len(citations(joined))


def test_tables_of_a_paper_have_labels_of_their_own(joined_of: JoinedOf) -> None:
    tex = as_latex(joined_of({"near": AGES + 1, "far": AGES + 9}))
    labels = re.findall(r"\\label\{tab:([^}]+)\}", tex)
    assert len(labels) == tex.count(r"\begin{table}") == len(set(labels))
    assert "agebench-error-in-years-on-60" in labels
