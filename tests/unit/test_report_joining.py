"""Several results as one, and what changed between two."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agebench.errors import AgebenchError, UsageError
from agebench.harness.reading import read_result
from agebench.harness.scores import RangeScore
from agebench.metrics.age_classes import ADIENCE_CLASSES
from agebench.metrics.label_accuracy import ClassAccuracy
from agebench.report.cautions import cautions
from agebench.report.changes import changes, circumstances
from agebench.report.escaping import markdown
from agebench.report.joining import join
from agebench.report.rows_analysis import faster_grid
from agebench.report.rows_errors import class_grid, own_class_grid
from agebench.report.tables import as_csv, as_markdown
from agebench.types import AgeBins, plain

Write = Callable[..., Path]
Make = Callable[..., dict[str, Any]]
AGES = np.arange(1.0, 61.0)


def test_a_single_result_keeps_its_own_figures(write_result: Write, make_result: Make) -> None:
    content = make_result()
    joined = join([read_result(write_result(content=content))])
    assert [entry.label for entry in joined.scored] == ["good", "poor"]
    assert joined.scored[0].mae_years == 1.0
    stated = content["estimators"][0]["errors"]["mae_interval"]
    interval = joined.scored[0].errors.mae_interval if joined.scored[0].errors else None
    assert interval is not None
    assert [interval.low, interval.high] == stated
    assert plain(joined.analysis) == content["analysis"]


def test_a_result_without_analysis_is_analysed(write_result: Write, make_result: Make) -> None:
    content = make_result()
    expected = content.pop("analysis")
    assert plain(join([read_result(write_result(content=content))]).analysis) == expected


def test_a_result_that_no_statistics_can_be_made_of_is_refused(
    write_result: Write, make_result: Make
) -> None:
    content = make_result()
    del content["analysis"]
    del content["pictures"][5]["predictions"]["good"]["crps_years"]
    with pytest.raises(AgebenchError, match="can't be analysed"):
        join([read_result(write_result(content=content))])


def test_joined_results_are_scored_on_what_all_have(write_result: Write, make_result: Make) -> None:
    first = make_result({"one": AGES + 2})
    second = make_result({"two": np.where(AGES > 30, AGES - 6, AGES)})
    # "two" gave no age for the ten youngest, on which it is not wrong at all.
    for image in second["pictures"][:10]:
        image["predictions"] = {}
        image["status"], image["reason"] = "no_face", "none"
    # On the other 50 it is 6 years too low for those above 30, and right for 20.
    second["estimators"][0]["errors"] |= {
        "n": 50,
        "mae_years": 3.6,
        "rmse_years": float(np.sqrt(36 * 30 / 50)),
        "median_years": 6.0,
        "bias_years": -3.6,
    }
    del second["analysis"]
    joined = join(
        [
            read_result(write_result("a", content=first)),
            read_result(write_result("b", content=second)),
        ]
    )
    errors = {entry.label: entry.mae_years for entry in joined.scored}
    assert errors == {"one": pytest.approx(2.0), "two": pytest.approx(180 / 50)}
    assert int(joined.common.sum()) == 50
    (pair,) = joined.pairs
    assert pair.n == 50
    assert pair.difference_years is not None
    assert abs(pair.difference_years) == pytest.approx(1.6)
    assert any("50 pictures" in remark for remark in joined.remarks)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"label_kind": "apparent"}, "people's guesses"),
        ({"name": "else"}, "the other of 'else'"),
        ({"subset": "first 60 by name"}, "first 60 by name"),
        ({"content_sha256": "0" * 64}, "the copies of the data set differ"),
        (
            {
                "split": {
                    "protocol": "holdout",
                    "part": "test",
                    "parts": ["test"],
                    "fingerprint": "0" * 64,
                    "parameters": {},
                    "unused": 0,
                }
            },
            "holdout/test",
        ),
    ],
)
def test_mixed_protocols_and_labels_are_refused(
    write_result: Write, other: dict[str, Any], reason: str
) -> None:
    files = [read_result(write_result("a")), read_result(write_result("b", **other))]
    with pytest.raises(UsageError, match="can't be in one report") as caught:
        join(files)
    assert reason in str(caught.value)


def test_equal_hashes_with_other_pictures_are_refused(
    write_result: Write, make_result: Make
) -> None:
    other = make_result()
    other["pictures"][0]["picture"] = "other.png"
    files = [read_result(write_result("a")), read_result(write_result("b", content=other))]
    with pytest.raises(UsageError, match="list different pictures"):
        join(files)


def test_one_file_given_twice_is_refused(write_result: Write) -> None:
    path = write_result()
    with pytest.raises(UsageError, match="given twice"):
        join([read_result(path), read_result(path.parent / ".." / "a")])


def test_other_detectors_and_machines_are_said(write_result: Write, make_result: Make) -> None:
    other = make_result()
    other["detector"] = {**other["detector"], "reference": "haar"}
    other["environment"] = {**other["environment"], "cores": 64}
    joined = join([read_result(write_result("a")), read_result(write_result("b", content=other))])
    text = " ".join(joined.remarks)
    assert "different detectors" in text
    assert "different machines" in text
    names = [name for name, _, _ in circumstances(*joined.results)]
    assert names == ["detector", "environment.cores"]


def test_what_one_result_does_not_have_is_not_said_to_differ(
    write_result: Write, make_result: Make
) -> None:
    before = make_result({"same": AGES, "gone": AGES + 1})
    after = make_result({"same": AGES, "new": AGES + 1})
    after["settings"] = {**after["settings"], "added_later": True, "seed": 0}
    files = [write_result("a", content=before), write_result("b", content=after)]
    assert circumstances(*map(read_result, files)) == []
    after["estimators"][0]["spec"]["settings"] = {"years": 3}
    after["settings"] = {**after["settings"], "limit": 7}
    files[1] = write_result("b", content=after)
    assert [name for name, *_ in circumstances(*map(read_result, files))] == [
        "same: settings.years",
        "settings.limit",
    ]


def test_what_changed_between_two(write_result: Write) -> None:
    rng = np.random.default_rng(1)
    before = {"grown": AGES + rng.normal(6, 1, 60), "same": AGES * 0 + 30, "noisy": AGES + 4}
    after = {**before, "grown": AGES + rng.normal(2, 1, 60)}
    after["noisy"] = AGES + np.where(np.arange(60) == 7, 5.0, 4.0)
    joined = join(
        [
            read_result(write_result("a", predicted=before)),
            read_result(write_result("b", predicted=after)),
        ]
    )
    found = {change.name: change for change in changes(joined)}
    grown = found["grown"]
    assert grown.verdict == "better"
    assert grown.changed == 60
    assert grown.after_mae_years == pytest.approx(np.abs(after["grown"] - AGES).mean())
    assert grown.interval is not None
    assert grown.interval.high < 0
    assert found["same"].verdict == "the same"
    assert found["same"].pictures == ()
    # One picture out of sixty is no evidence.
    assert found["noisy"].verdict == "no difference shown"
    assert [picture.picture for picture in found["noisy"].pictures] == ["p007.png"]
    assert {entry.label for entry in joined.entries} >= {"grown (A)", "grown (B)"}


def test_one_result_has_no_changes(write_result: Write) -> None:
    assert changes(join([read_result(write_result())])) == ()


def test_markdown_says_which_result_has_which_letter(write_result: Write) -> None:
    read = [read_result(write_result(name)) for name in "ab"]
    (line,) = [text for text in as_markdown(join(read)).splitlines() if "Results:" in text]
    first, second = (f"{file.path}, {file.content.created}" for file in read)
    assert line == markdown(f"Results: A is {first}; B is {second}.")
    assert "Results:" not in as_markdown(join(read[:1]))


def test_labels_stay_apart_whatever_estimators_are_called(write_result: Write) -> None:
    odd = {"x": AGES, "x (A)": AGES + 1}
    joined = join(
        [
            read_result(write_result("a", predicted=odd)),
            read_result(write_result("b", predicted={"x": AGES})),
        ]
    )
    assert len({entry.label for entry in joined.entries}) == 3


def test_shares_that_nobody_asked_for_are_passed_over(
    write_result: Write, make_result: Make
) -> None:
    content = make_result()
    content["estimators"][0]["errors"]["cs"]["odd"] = 0.5
    errors = join([read_result(write_result(content=content))]).scored[0].errors
    assert errors is not None
    assert list(errors.cs) == [1, 3, 5, 10]


def _of_ranges(content: dict[str, Any], hit_rate: float) -> dict[str, Any]:
    """Turn a result into one of range labels, such as 'compare' writes it."""
    for image in content["pictures"]:
        image["true_years"], image["true_range"] = None, [20, 29]
    for item in content["estimators"]:
        nothing = dict.fromkeys(item["errors"])
        item["errors"] = {**nothing, "n": 0, "cs": dict.fromkeys(item["errors"]["cs"])}
        item["errors"]["by_decade"] = []
        item["ranges"] = {"n": 60, "hit_rate": hit_rate, "distance_years": 0.0}
    del content["analysis"]
    return content


def test_joined_ranges_are_scored_on_what_all_have(write_result: Write, make_result: Make) -> None:
    first = _of_ranges(make_result({"one": AGES}), 10 / 60)
    second = _of_ranges(make_result({"two": 0 * AGES + 31}), 0.0)
    # "two" gave no age for the pictures that "one" said 1 to 25 years of.
    for image in second["pictures"][:25]:
        image["predictions"] = {}
        image["status"], image["reason"] = "no_face", "none"
    files = [write_result("a", content=first), write_result("b", content=second)]
    joined = join([read_result(file) for file in files])
    found = {entry.label: entry.ranges for entry in joined.entries}
    # 26 to 29 of 26 to 60 are hits; 30 is 1 year off the label 29, 60 is 31 years off it.
    assert found["one"] == RangeScore(35, 4 / 35, sum(range(32)) / 35)
    assert found["two"] == RangeScore(35, 0.0, 2.0)
    rows = list(csv.DictReader(io.StringIO(as_csv(joined))))
    assert {row["estimator"]: float(row["range_distance_years"]) for row in rows}["two"] == 2.0


def test_joined_classes_are_adiences_on_what_all_ranked_have(
    write_result: Write, make_result: Make
) -> None:
    files = []
    for name, gap, classes in (
        ("eight", 0, ADIENCE_CLASSES),
        ("decades", 25, AgeBins((0, 20), (19, 29))),  # in which figures are not comparable
        ("few", 58, ADIENCE_CLASSES),
    ):
        content = _of_ranges(make_result({name: AGES}), 10 / 60)
        content["estimators"][0]["classes"] = plain(ClassAccuracy(60, 0, 0, 1.0, 1.0))
        content["estimators"][0]["spec"]["classes"] = plain(classes)
        for at, image in enumerate(content["pictures"]):
            image["true_range"] = [25, 29]
            image["predictions"][name]["class_index"] = (4 if at < 40 else 2) % len(classes)
            if at < gap:
                image["predictions"] = {}
        files.append(write_result(name, content=content))
    joined = join([read_result(file) for file in files])
    grid = class_grid(joined)
    assert grid is not None
    rows = [[cell.text for cell in row] for row in grid.rows]
    assert rows == [["eight", "42.9", "42.9", "35", "0", "0"]]
    own = own_class_grid(joined)
    assert own is not None
    assert [[cell.text for cell in row] for row in own.rows] == [
        ["decades", "0.0", "100.0", "35", "0", "0"]
    ]
    assert [entry.ranges for entry in joined.entries if entry.label == "few"] == [None]


@pytest.mark.parametrize("classes", [AgeBins((0, 20), (19, 29)), {"lows": [30], "highs": [20]}])
def test_a_class_that_there_is_not_is_no_result(
    write_result: Write, make_result: Make, classes: Any
) -> None:
    content = make_result({"a": AGES})
    content["estimators"][0]["spec"]["classes"] = plain(classes)
    content["pictures"][3]["predictions"]["a"]["class_index"] = 2
    with pytest.raises(AgebenchError, match="is not a result: "):
        join([read_result(write_result(content=content))])


def test_a_range_that_runs_downwards_is_no_result(write_result: Write, make_result: Make) -> None:
    content = make_result()
    content["pictures"][3]["true_range"] = [30, 20]
    with pytest.raises(AgebenchError, match=r"pictures\[3\].true_range: expected a range"):
        read_result(write_result(content=content))


def test_who_is_faster_holds_for_all_results_together(write_result: Write) -> None:
    predicted = {"one": AGES + 1, "three": AGES + 3}  # the made-up times hang on the names' length
    files = [read_result(write_result(name, predicted=predicted)) for name in "abcde"]
    one, both = faster_grid(join(files[:1])), faster_grid(join(files))
    assert one is not None
    assert both is not None
    assert [len(one.rows), len(both.rows)] == [1, 5]
    ends = [
        [float(end) for end in grid.rows[0][3].text.strip("[]").split(", ")] for grid in (one, both)
    ]
    assert ends[1][0] <= ends[0][0] < ends[0][1] <= ends[1][1]
    assert ends[0] != ends[1]


def test_times_of_who_failed_on_a_picture_are_not_paired(
    write_result: Write, make_result: Make
) -> None:
    content = make_result({"one": AGES + 1, "three": AGES + 3})
    assert faster_grid(join([read_result(write_result("a", content=content))])) is not None
    content["estimators"][0]["failed"], content["timing"]["comparisons"] = 1, []
    assert faster_grid(join([read_result(write_result("b", content=content))])) is None


@pytest.mark.parametrize(("few", "pictures"), [(1, "1 picture"), (2, "2 pictures")])
def test_one_with_an_age_for_few_pictures_shrinks_nobody_elses_set(
    write_result: Write, make_result: Make, few: int, pictures: str
) -> None:
    first = make_result({"one": AGES + 1})
    second = make_result({"shy": AGES})
    for image in second["pictures"][few:]:
        image["predictions"] = {}
        image["status"], image["reason"] = "no_face", "none"
    for errors in ("errors", "own_errors"):
        second["estimators"][0][errors]["n"] = few
    files = [write_result("a", content=first), write_result("b", content=second)]
    joined = join([read_result(file) for file in files])
    found = {entry.label: entry for entry in joined.entries}
    assert joined.common.sum() == 60
    assert "60 pictures that every ranked estimator of every result" in joined.remarks[0]
    assert found["one"].errors is not None
    assert (found["one"].errors.n, found["one"].mae_years) == (60, 1.0)
    assert found["shy"].mae_years is None
    assert [entry.label for entry in joined.scored] == ["one"]
    (note,) = [note for note in cautions(joined, found["shy"]) if "not ranked" in note.text]
    assert f"an age for only {few} of 60 pictures" in note.text
    assert f"; on its own {pictures} its MAE is" in note.text
    assert note.severe
