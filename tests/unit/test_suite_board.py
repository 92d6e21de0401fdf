"""Leaderboards from small files: figures by hand, ranks that claim no more, and a page."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agebench.errors import AgebenchError
from agebench.metrics.age_errors import METRICS
from agebench.metrics.number_format import bounds, signed
from agebench.suite.board import BOARD_FILE, MODELS, SETS, Board, read_board
from agebench.suite.drawings import MAX_WHISKERS, chart_figure
from agebench.suite.fairness import fairness
from agebench.suite.packed import (
    FAILED,
    NO_FACE,
    STEP_YEARS,
    as_years,
    pack_numbers,
    unpack_numbers,
    unpack_years,
)
from agebench.suite.page import as_html, as_markdown
from agebench.suite.robustness import charts
from agebench.suite.standing import standings
from agebench.suite.tables import set_grid
from tests.unit.suite_boards import made_model, made_set, write_made

TRUE = [float(age) for age in range(10, 70)]
PUBLISHED = Path(__file__).parents[2] / "benchmarks" / "leaderboard"


def _off(by: float, spread: float = 1.0) -> list[float | None]:
    random = np.random.default_rng(round(10 * abs(by)))
    return [
        age + by + spread * noise for age, noise in zip(TRUE, random.normal(size=60), strict=True)
    ]


def _board(tmp_path: Path, **more: Any) -> Board:
    one, two = made_set("one", TRUE), made_set("utkface", TRUE, kind="dex-estimated")
    sets = {"one": one, "utkface": two}
    models = [
        made_model("good", {("one", ""): _off(1.0), ("utkface", ""): _off(1.0)}, sets),
        made_model("alike", {("one", ""): _off(-1.05)}, sets),
        made_model("bad", {("one", ""): _off(9.0), ("utkface", ""): _off(6.0)}, sets),
        made_model("knows it", {("utkface", ""): _off(0.1, 0.1)}, sets, ["utkface"]),
        made_model("seldom", {("one", ""): [30.0, *[None] * 59]}, sets),
    ]
    return write_made(tmp_path, [one, two], models, **more)


@given(st.lists(st.one_of(st.none(), st.floats(0, 120))))
def test_ages_are_kept_to_a_hundredth(years: list[float | None]) -> None:
    numbers = [FAILED if age is None else round(age / STEP_YEARS) for age in years]
    again = unpack_years(pack_numbers(numbers), len(years))
    for age, kept in zip(years, again.tolist(), strict=True):
        assert math.isnan(kept) if age is None else abs(kept - age) <= 0.005 + 1e-9


def test_packed_numbers_that_are_none_are_refused() -> None:
    packed = pack_numbers([3010, NO_FACE, FAILED, 0])
    assert as_years(unpack_numbers(packed, 4)).tolist()[0] == 30.1  # not 30.1 and a bit
    for text, count, why in (
        (packed, 3, "expected 3 packed numbers"),
        (packed, 5, "expected 5 packed numbers"),
        ("no base64!", 4, "can't be read"),
        (pack_numbers([0] * 1_000_000), 4, "expected 4 packed numbers"),  # unfolds to much more
        (packed, 10**12, "at most"),
    ):
        with pytest.raises(ValueError, match=why):
            unpack_numbers(text, count)
    with pytest.raises(ValueError, match="16 bits"):
        pack_numbers([40_000])
    for wrong in (12_001, -3):
        with pytest.raises(ValueError, match="ages from 0 to 120"):
            as_years(np.array([wrong]))


def test_ranks_claim_no_more_than_was_shown(tmp_path: Path) -> None:
    one, two = standings(_board(tmp_path))
    ranks = {name: standing.rank for name, standing in one.models.items()}
    # `good` and `alike` are as far off to either side: nobody has shown one to be better.
    assert ranks == {"good": 1, "alike": 1, "bad": 3, "seldom": None}
    assert one.best == ["good", "alike"]
    assert "only 1 of 60 pictures" in one.models["seldom"].why_unranked
    assert one.common == 60  # whom hardly anybody waits for
    good = np.rint(100 * np.array(_off(1.0))) / 100 - TRUE
    assert one.models["good"].error_years == pytest.approx(np.abs(good).mean())
    assert one.models["good"].bias_years == pytest.approx(good.mean())
    assert one.models["good"].figures == pytest.approx(
        {metric.key: metric.compute(TRUE, TRUE + good) for metric in METRICS}
    )
    titles = [column.title for column in set_grid(_board(tmp_path), one).columns]
    assert {metric.title for metric in METRICS[1:]} <= set(titles)
    # Who was trained on the set has the least error of all, and no rank.
    known = two.models["knows it"]
    assert known.error_years < two.models["good"].error_years
    assert (known.rank, known.contaminated) == (None, True)
    assert two.best == ["good"]
    assert two.models["bad"].rank == 2


def test_who_is_suspected_is_shown_marked_and_not_ranked(tmp_path: Path) -> None:
    why = "half of its errors are <b>0</b>"
    doubts = {"good": {"one": why, "utkface": why}, "knows it": {"utkface": why}}
    plain, board = _board(tmp_path / "plain"), _board(tmp_path / "doubted", suspected=doubts)
    before, (one, two) = standings(plain), standings(board)
    good = one.models["good"]
    assert (good.rank, good.suspected, good.contaminated) == (None, True, False)
    assert good.error_years == before[0].models["good"].error_years
    # Nobody has a place behind it, and whom it would have shared the first with keeps that.
    ranks = {name: standing.rank for name, standing in one.models.items()}
    assert ranks == {"good": None, "alike": 1, "bad": 2, "seldom": None}
    assert two.best == ["bad"]
    # What is known of a model is told, not what is thought of it.
    known = two.models["knows it"]
    assert (known.contaminated, known.suspected) == (True, False)
    assert known.why_unranked == "its makers trained on UTKFace"
    for text in (as_html(board), as_markdown(board)):
        assert f"({good.error_years:.2f}?)" in text
        assert f"({known.error_years:.2f})" in text
        assert "suspected to have been trained on it: half of its errors are" in text
        assert "<b>0</b>" not in text
        assert f"Not ranked, on suspicion: The model good ({good.error_years:.2f})" in text
        assert "A question mark" in text
    for text in (as_html(plain), as_markdown(plain)):
        assert "?)" not in text
        assert "A question mark" not in text
        assert "suspicion" not in text


def test_errors_that_look_the_same_are_told_once(tmp_path: Path) -> None:
    one = made_set("one", TRUE)
    models = [made_model(name, {("one", ""): _off(2.0)}, {"one": one}) for name in ("a", "b")]
    board = write_made(tmp_path, [one], models)
    error = f"{standings(board)[0].models['a'].error_years:.2f}"
    assert f"The model a, The model b, {error} years," in as_html(board)


def test_who_remembers_the_pictures_is_told_at_every_table_of_them(tmp_path: Path) -> None:
    groups = {"who": ["a", "b"] * 30}
    one = made_set("utkface", TRUE, groups=groups, kind="dex-estimated")
    sets = {"utkface": one, "utkface.changed": made_set("utkface", TRUE, changed=True)}
    places = [("utkface", ""), ("utkface", "untouched"), ("utkface", "gray")]
    models = [
        made_model(name, {place: _off(by) for place in places}, sets, trained)
        for name, by, trained in (("a", 1.0, []), ("b", 2.0, ["utkface"]), ("c", 3.0, []))
    ]
    board = write_made(tmp_path, [*sets.values()], models, suspected={"c": {"utkface": "a reason"}})
    page = as_html(board)
    (table,) = re.findall(
        r"<table[^>]*>\s*<caption><span>[^<]* by who:.*?</table>", page, re.DOTALL
    )
    assert table.count("its makers trained on UTKFace") == 1
    assert table.count("suspected to have been trained on it: a reason") == 1
    told = "Trained on The set utkface, or suspected of it: The model b, The model c."
    assert told in page


def test_labels_that_are_ranges_give_distances(tmp_path: Path) -> None:
    ranges = [(20, 29)] * 30 + [(30, 39)] * 30
    one = made_set("ranges", ranges=ranges, kind="apparent")
    ages: list[float | None] = [*[25.0] * 20, *[19.0] * 10, *[42.0] * 30]
    board = write_made(tmp_path, [one], [made_model("it", {("ranges", ""): ages}, {"ranges": one})])
    standing = standings(board)[0].models["it"]
    assert standing.error_years == pytest.approx((20 * 0 + 10 * 1 + 30 * 3) / 60)
    assert standing.bias_years == pytest.approx((-10 * 1 + 30 * 3) / 60)
    stated = board.models[0].cells["ranges", ""].content
    assert stated.ranges is not None
    assert stated.ranges.n == 60
    assert stated.ranges.hit_rate == pytest.approx(1 / 3)
    assert stated.ranges.distance_years == pytest.approx(100 / 60)
    assert stated.errors is not None
    assert stated.errors.n == 0
    assert "distance to the range" in as_html(board)
    assert standing.figures == {}
    titles = [column.title for column in set_grid(board, standings(board)[0]).columns]
    assert not {"RMSE", "median"} & set(titles)


def test_groups_by_hand(tmp_path: Path) -> None:
    true = [10.0] * 20 + [40.0] * 20 + [15.0] * 20 + [50.0] * 25 + [30.0] * 3
    groups = {"who": ["a"] * 40 + ["b"] * 45 + ["few"] * 3}
    one = made_set("one", true, groups=groups)
    spread = [1.0, 3.0] * 20
    ages: list[float | None] = []
    ages += [age + off for age, off in zip(true[:40], spread, strict=True)]
    ages += [*[19.0] * 5, *[16.0] * 15, *[46.0] * 25, *[30.0] * 3]
    board = write_made(tmp_path, [one], [made_model("it", {("one", ""): ages}, {"one": one})])
    (found,) = fairness(board.sets[0], board.models[0].cells["one", ""])
    a, b, few = found.groups
    assert (a.n, a.error_years, a.bias_years) == (40, 2.0, 2.0)
    assert b.error_years == pytest.approx((5 * 4 + 15 * 1 + 25 * 4) / 45)
    assert b.bias_years == pytest.approx((5 * 4 + 15 * 1 - 25 * 4) / 45)
    assert few.error_years is None
    assert (found.worst, found.best) == (b, a)
    assert found.gap_years == pytest.approx((b.error_years or 0) - 2.0)
    # Minors of b: 20 of 15 years, five of whom are taken for 19.
    assert b.false_adults is not None
    assert (b.false_adults.minors, b.false_adults.false_pass_rate) == (20, 0.25)
    assert a.false_adults is not None
    assert a.false_adults.false_pass_rate == 0.0
    assert found.gap_interval is not None
    assert a.interval is not None and b.interval is not None  # noqa: PT018
    gap = found.gap_years or 0.0
    down = math.hypot((b.error_years or 0) - b.interval.low, a.interval.high - 2.0)
    assert found.gap_interval.low == pytest.approx(gap - down)
    page = as_html(board)
    assert "25 % of 20 minors pass" in page


def test_a_gap_between_pictures_of_the_same_people_has_no_interval(tmp_path: Path) -> None:
    """The interval takes two means as independent: people with and without glasses are not."""
    true, glasses = [40.0] * 60, {"glasses": ["no", "yes"] * 30}
    said = [age + 3.0 + at % 7 + 2 * (at % 2) for at, age in enumerate(true)]
    found = []
    for key, people in (("apart", list(range(60))), ("shared", [at // 2 for at in range(60)])):
        one = made_set(key, true, people=people, groups=glasses)
        model = made_model("it", {(key, ""): said}, {key: one})
        board = write_made(tmp_path / key, [one], [model])
        found += fairness(board.sets[0], board.models[0].cells[key, ""])
    apart, shared = found
    assert apart.gap_interval is not None
    assert shared.gap_interval is None
    assert shared.gap_years == apart.gap_years == pytest.approx(2.0, abs=0.5)


def test_the_gaps_interval_holds_the_gap_as_often_as_it_says(tmp_path: Path) -> None:
    one = made_set("one", [40.0] * 140)
    board = write_made(
        tmp_path, [one], [made_model("it", {("one", ""): [40.0] * 140}, {"one": one})]
    )
    made = board.models[0].cells["one", ""]
    random, inside = np.random.default_rng(1), 0
    for _ in range(300):
        errors = np.concatenate([random.exponential(3.0, 60), random.exponential(5.0, 80)])
        codes = np.array([0] * 60 + [1] * 80)
        pictures = replace(board.sets[0], groups={"g": (["a", "b"], codes)})
        (found,) = fairness(pictures, replace(made, years=pictures.true_years + errors))
        assert found.gap_interval is not None
        if found.worst is not None and found.worst.name == "b":
            inside += found.gap_interval.low <= 2.0 <= found.gap_interval.high
    assert 0.91 <= inside / 300 <= 0.985


def test_robustness_is_paired(tmp_path: Path) -> None:
    plain, changed = made_set("one", TRUE), made_set("one", TRUE, changed=True)
    base = _off(2.0)
    worse = [None if at == 3 else (age or 0.0) + 4.0 for at, age in enumerate(base)]
    sets = {"one": plain}
    ages: dict[tuple[str, str], list[float | None]] = {
        ("one", ""): base,
        ("one", "untouched"): base,
        ("one", "face-px=24"): worse,
        ("one", "face-px=48"): [(age or 0.0) + 1.0 for age in base],
        ("one", "gray"): base,
    }
    board = write_made(tmp_path, [plain, changed], [made_model("it", ages, sets)])
    pixels, covered = charts(board)
    assert (pixels.kind, covered.kind) == ("face-px", "covered")
    (line,) = pixels.lines
    assert [step.variant for step in line.steps] == ["face-px=24", "face-px=48"]
    assert (line.n, covered.lines[0].n) == (59, 60)
    small, larger = line.steps
    assert small.cost_years == pytest.approx(4.0, abs=0.3)  # a few were too young before
    # All points of a line are of the same pictures: one without an age at one step is in none.
    for step, variant in ((small, "face-px=24"), (larger, "face-px=48")):
        before, after = (
            [abs(round(age or 0.0, 2) - true) for age, true in zip(said, TRUE, strict=True)]
            for said in (base, ages["one", variant])
        )
        del before[3], after[3]
        assert line.untouched_years == pytest.approx(np.mean(before))
        assert step.error_years == pytest.approx(np.mean(after))
        assert step.cost_years == pytest.approx(np.mean(after) - np.mean(before))
    assert covered.lines[0].steps[0].cost_years == 0.0
    page = as_html(board)
    assert "Harder pictures" in page
    assert "face-px=24" in page
    assert small.cost_interval is not None
    shown = map(re.escape, (signed(small.cost_years), bounds(small.cost_interval)))
    assert re.search(".*?".join(shown), page, re.DOTALL)


def test_the_page_needs_nothing_else_and_says_what_is_missing(tmp_path: Path) -> None:
    board = _board(tmp_path, missing={"alike": {"utkface": "weights <b>gone</b>"}})
    page, text = as_html(board), as_markdown(board)
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", page)
    assert "default-src 'none'" in page
    for shown in (page, text):
        assert "The model good" in shown
        assert "its makers trained on UTKFace" in shown
        assert "gone" in shown
        assert "<b>gone</b>" not in shown
    (one, _) = standings(board)
    assert f"{one.models['bad'].error_years:.2f}" in page
    # Nothing is averaged over sets of different labels: every column is of one set.
    head = re.search(r"<thead>(.*?)</thead>", page, re.DOTALL)
    assert head is not None
    assert re.findall(r">([^<>]+)</th>", head[1]) == [
        "model",
        "The set one (birth ages)",
        "The set utkface (estimated ages)",
        "The set of later (nothing measured)",
        "ms",
    ]


def test_code_without_a_network_has_no_version(tmp_path: Path) -> None:
    one = made_set("one", TRUE)
    model = made_model("plain", {("one", ""): _off(1.0)}, {"one": one})
    (spec,) = model["specs"]
    model["specs"] = [{**spec, "runtime": {**spec["runtime"], "version": ""}}]
    assert "| python, cpu |" in as_markdown(write_made(tmp_path, [one], [model]))


def test_damaged_files_are_told(tmp_path: Path) -> None:
    _board(tmp_path)
    model, of_set = tmp_path / MODELS / "m0.json", tmp_path / SETS / "one.json"
    board = tmp_path / BOARD_FILE
    entry = json.loads(board.read_text())["models"][0]
    for path, change, expected in (
        (model, {"model": ""}, "m0.json: model: expected text"),
        (of_set, {"pictures": 0}, "one.json: pictures: expected a whole number from 1"),
        (of_set, {"true_years": pack_numbers([3000])}, "expected 60 packed numbers"),
        (of_set, {"format": 9}, "one.json: format: expected one of 1"),
        (board, {"models": [{**entry, "suspected": {"one": ""}}]}, "'one': expected text, got ''"),
        (board, {"models": [{**entry, "suspected": None}]}, "suspected: expected an object, got"),
    ):
        before = path.read_text()
        path.write_text(json.dumps({**json.loads(before), **change}))
        with pytest.raises(AgebenchError, match=re.escape(expected)):
            read_board(tmp_path)
        path.write_text("{")
        with pytest.raises(AgebenchError, match="is not a file of a leaderboard"):
            read_board(tmp_path)
        path.write_text(before)
    content = json.loads(model.read_text())
    content["cells"][0]["content_sha256"] = "e" * 64
    model.write_text(json.dumps(content))
    with pytest.raises(AgebenchError, match="the pictures or labels differ"):
        read_board(tmp_path)


@pytest.mark.skipif(not (PUBLISHED / "board.json").is_file(), reason="nothing is published yet")
def test_the_published_page_comes_from_the_small_files_alone() -> None:
    board = read_board(PUBLISHED)
    assert as_markdown(board) == (PUBLISHED / "leaderboard.md").read_text()
    files = [path for path in PUBLISHED.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".md", ".toml"}
    assert sum(path.stat().st_size for path in files) < 600_000
    page = as_html(board)
    for one in standings(board):
        for standing in one.models.values():
            assert f"{standing.error_years:.2f}" in page


def test_charts_of_many_models_name_them_by_title_and_leave_intervals_out(tmp_path: Path) -> None:
    sets = {"one": made_set("one", TRUE), "one.changed": made_set("one", TRUE, changed=True)}
    places = [("one", ""), ("one", "untouched"), ("one", "blur=1")]
    pages = []
    for many in (MAX_WHISKERS, 12):
        models = [
            made_model(f"name-{at}", {place: _off(at + 1.0) for place in places}, sets)
            for at in range(many)
        ]
        board = write_made(tmp_path / f"{many}", [*sets.values()], models)
        (chart,) = charts(board)
        pages.append(str(chart_figure(board, chart).drawing))
    few, crowded = pages
    assert few.count('class="whisker"') == MAX_WHISKERS
    assert 'class="whisker"' not in crowded
    assert "The model name-3" in re.sub("<[^>]*aria-label[^>]*>", "", crowded)
