"""Checks: what fails, what does not, and in which words."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agebench.errors import AgebenchError, UsageError
from agebench.harness.analysis import analyse
from agebench.harness.columns import columns_of
from agebench.harness.fail_if import FIGURES, Checks, FailedCheckError, parse_condition, read_checks
from agebench.metrics.age_errors import METRICS
from tests.unit.made_results import completed, errors_json, stage_json, whole


def _estimator(name: str, mae: float, n: int = 4) -> dict[str, Any]:
    errors = {
        **errors_json([], [], []),
        **{metric.key: mae for metric in METRICS},
        "n": n,
        "mae_years": mae,
        "rmse_years": mae + 1,
        "median_years": mae - 1,
        "bias_years": -mae,
    }
    return {
        "name": name,
        "available": True,
        "unavailable_reason": "",
        "missed": 3,
        "failed": 1,
        "errors": errors,
        "own_errors": errors,
        "latency": {
            "crop": stage_json([2.0] * 4),
            "infer": stage_json([2.0] * 4),
            "total": stage_json([21.0] * 4),
        },
    }


@pytest.fixture
def result() -> dict[str, Any]:
    images = [
        {
            "true_years": 30.0,
            "identity": None,
            "attributes": {},
            "predictions": {"hse": {"years": 30.0 + off}, "a:b": {"years": 35.0}},
        }
        for off in (0.0, 2.0, 4.0, 9.0)
    ]
    dataset = {
        "name": "tiny",
        "label_kind": "birth-age",
        "protocol": "all pictures",
        "subset": "",
        "split": None,
        "content_sha256": "ab" * 32,
    }
    return {
        "schema_version": 4,
        "dataset": dataset,
        "shared_latency": {"decode": stage_json([9.0] * 4), "detect": stage_json([70.0] * 4)},
        "estimators": [_estimator("hse", 4.0), _estimator("a:b", 6.0)],
        "pictures": images,
    }


@pytest.mark.parametrize(
    ("text", "failing"),
    [
        ("mae>5", ["a:b"]),
        ("mae >= 4", ["hse", "a:b"]),
        ("mae>4", ["a:b"]),
        ("hse:mae>5", []),
        ("a:b:mae>5", ["a:b"]),
        (" a:b : mae > 5 ".replace(" : ", ":"), ["a:b"]),
        ("bias<-5", ["a:b"]),
        ("rmse>6", ["a:b"]),
        ("median<=3", ["hse"]),
        ("missed>2", ["hse", "a:b"]),
        ("failed>1", []),
        ("p99_total_ms>20", ["hse", "a:b"]),
        ("p50_infer_ms>2", []),
        ("p99_detect_ms>69.5", ["hse", "a:b"]),
        ("p99_decode_ms>9.5", []),
        ("hse:cs2<0.6", ["hse"]),
        ("hse:cs4<0.75", []),
        ("cs5<1", ["hse"]),
        ("cs10<1", []),
    ],
)
def test_a_gate_fails_where_its_condition_holds(
    result: dict[str, Any], text: str, failing: list[str]
) -> None:
    reasons = read_checks([text]).failures(whole(result))
    assert [reason.split(": ")[0] for reason in reasons] == failing


@pytest.mark.parametrize("limit", ["0", "1"])
def test_a_share_may_be_held_against_either_end(limit: str) -> None:
    assert parse_condition(f"cs5<{limit}").limit == float(limit)


@pytest.mark.parametrize("limit", ["-0.01", "1.01", "60"])
def test_a_share_beyond_its_ends_is_refused(limit: str) -> None:
    with pytest.raises(UsageError, match=rf"cs5<{limit}.*0 to 1"):
        parse_condition(f"cs5<{limit}")


def test_a_gate_keeps_its_text_and_closes_up_the_name() -> None:
    condition = parse_condition("hse  margin=.2:mae>5")
    assert (condition.text, condition.name) == ("hse  margin=.2:mae>5", "hse margin=.2")


def test_the_reason_is_one_line_with_the_value(result: dict[str, Any]) -> None:
    with pytest.raises(FailedCheckError) as caught:
        read_checks(["mae>5", "hse:p99_total_ms>20"]).require(whole(result))
    assert str(caught.value) == (
        "check failed: a:b: mae is 6 (> 5); hse: p99_total_ms is 21 (> 20)"
    )
    assert caught.value.exit_code == 1
    read_checks(["mae>7"]).require(whole(result))
    result["estimators"][1]["errors"]["mae_years"] = 5.00003
    assert read_checks(["mae>5"]).failures(whole(result)) == ("a:b: mae is 5.00003 (> 5)",)


def test_one_that_is_not_ranked_has_no_figure_for_that_reason(result: dict[str, Any]) -> None:
    for image in result["pictures"][1:]:
        image["predictions"]["hse"]["years"] = None
    result["estimators"][0]["errors"] = errors_json([], [], [])
    written = whole(result)
    names = [item.name for item in written.estimators]
    analysis = analyse(
        columns_of(written.pictures, names), written.estimators, written.dataset, seed=0
    )
    for figure in ("mae", "cs3"):
        reasons = read_checks([f"{figure}<0"]).failures(replace(written, analysis=analysis))
        assert reasons == (
            f"hse: {figure} is not known: an age for only 1 of 4 pictures: "
            "50 % is needed for a rank",
        )


def test_a_figure_that_is_not_there_fails_with_the_reason(result: dict[str, Any]) -> None:
    hse = result["estimators"][0]
    hse["latency"] = {}
    (reason,) = read_checks(["hse:p99_total_ms>20"]).failures(whole(result))
    assert reason == "hse: p99_total_ms is not known: nothing was timed"
    hse["errors"] = {**hse["errors"], "mae_years": None}
    assert "no picture" in read_checks(["hse:mae>5"]).failures(whole(result))[0]
    one_without = copy.deepcopy(result)
    for image in one_without["pictures"]:
        del image["predictions"]["hse"]  # which scores nowhere, where a:b does
    assert "no picture" in read_checks(["hse:cs3<0.5"]).failures(whole(one_without))[0]
    for image in result["pictures"]:
        image["predictions"] = {}
    assert "no picture" in read_checks(["hse:cs3<0.5"]).failures(whole(result))[0]
    gone = {"name": "hse", "available": False, "unavailable_reason": "no file", "spec": None}
    result["estimators"][0] = gone
    assert "not available: no file" in read_checks(["hse:mae>5"]).failures(whole(result))[0]


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_found_in_a_result(result: dict[str, Any], figure: str) -> None:
    assert not any(
        "not known" in text for text in read_checks([f"{figure}>1"]).failures(whole(result))
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("maee>5", "did you mean 'mae'"),
        ("p99_totl_ms>5", "did you mean 'p99_total_ms'"),
        ("zzz>5", "known: mae"),
        ("cs11<0.5", "cs1"),
        ("mae", "not a condition"),
        ("mae=5", "not a condition"),
        ("mae>", "not a condition"),
        ("mae>five", "not a condition"),
        ("mae>nan", "not a condition"),
        ("mae>inf", "not a condition"),
        ("mae>5,0", "not a condition"),
        ("", "not a condition"),
        (":mae>5", "not a condition"),
        ("cs5<60", "0 to 1"),
    ],
)
def test_what_is_no_gate_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_condition(text)


def test_a_gate_about_nobody_is_refused(result: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="did you mean 'hse'"):
        read_checks(["hsee:mae>5"]).failures(whole(result))


def _stored(folder: Path, content: Any) -> Path:
    path = folder / "stored.json"
    path.write_text(content if isinstance(content, str) else json.dumps(completed(content)))
    return path


@pytest.mark.parametrize(
    ("mae", "tolerance", "fails"),
    [
        (4.09, None, False),
        (4.11, None, True),
        (4.11, 0.2, False),
        (4.238, 0.238, False),  # their sum in floats is a little less
        (4.01, 0.0, True),
        (3, 0, False),
    ],
)
def test_the_mae_may_rise_by_the_tolerance(
    result: dict[str, Any], tmp_path: Path, mae: float, tolerance: float | None, fails: bool
) -> None:
    checks = read_checks((), _stored(tmp_path, result), tolerance)
    result["estimators"][0] = _estimator("hse", mae)
    reasons = checks.failures(whole(result))
    assert bool(reasons) == fails
    assert all(reason.startswith(f"hse: MAE {mae:.3f} is more than") for reason in reasons)


def test_a_small_rise_is_shown_with_all_its_decimals(
    result: dict[str, Any], tmp_path: Path
) -> None:
    checks = read_checks((), _stored(tmp_path, result), 0.1)
    result["estimators"][0] = _estimator("hse", 4.1001)
    (reason,) = checks.failures(whole(result))
    assert reason.startswith("hse: MAE 4.1001 is more than 0.1 above 4.0 in")


def test_fewer_pictures_with_an_age_fail(result: dict[str, Any], tmp_path: Path) -> None:
    checks = read_checks((), _stored(tmp_path, result))
    result["estimators"][0] = _estimator("hse", 3.0, n=3)
    (reason,) = checks.failures(whole(result))
    assert reason.startswith("hse: an age for 3 pictures only, 4 in")


@pytest.mark.parametrize(
    ("distance", "n", "reason"),
    [
        (2.09, 60, None),
        (2.0 + 0.1, 60, None),
        (2.11, 60, "hse: 2.110 years to the range is more than 0.1 above 2.000"),
        (1.0, 59, "hse: 59 pictures with an age range had an age from every estimator, 60 in"),
    ],
)
def test_labels_that_are_ranges_have_a_baseline_too(
    result: dict[str, Any], tmp_path: Path, distance: float, n: int, reason: str | None
) -> None:
    result["estimators"][0]["ranges"] = {"n": 60, "hit_rate": 0.5, "distance_years": 2.0}
    checks = read_checks((), _stored(tmp_path, result))
    result["estimators"][0]["ranges"] = {"n": n, "hit_rate": 0.5, "distance_years": distance}
    reasons = checks.failures(whole(result))
    assert len(reasons) == (reason is not None)
    assert all(given.startswith(reason or "") for given in reasons)


def test_one_that_had_nothing_to_fall_behind_does_not_answer_for_the_next(
    result: dict[str, Any], tmp_path: Path
) -> None:
    first, second = result["estimators"]
    first["own_errors"] = {**first["own_errors"], "mae_years": None}
    second["ranges"] = {"n": 60, "hit_rate": 0.5, "distance_years": 2.0}
    checks = read_checks((), _stored(tmp_path, result))
    result["estimators"][1] = {**_estimator("a:b", 6.2), "ranges": second["ranges"]}
    (reason,) = checks.failures(whole(result))
    assert reason.startswith("a:b: MAE 6.200 is more than")
    result["estimators"][1] = {
        **_estimator("a:b", 6.0),
        "ranges": {"n": 60, "hit_rate": 0.5, "distance_years": 2.2},
    }
    (reason,) = checks.failures(whole(result))
    assert reason.startswith("a:b: 2.200 years to the range")
    assert reason.endswith(f"baseline {tmp_path / 'stored.json'}")


@pytest.mark.parametrize("why", ["failed", "unavailable"])
def test_no_answer_at_all_to_ranges_fails(result: dict[str, Any], tmp_path: Path, why: str) -> None:
    item = result["estimators"][0]
    item["own_errors"] |= {"mae_years": None}
    item["ranges"] = {"n": 60, "hit_rate": 0.5, "distance_years": 2.0}
    checks = read_checks((), _stored(tmp_path, result))
    assert checks.failures(whole(result)) == ()
    item["ranges"] = None
    if why == "unavailable":
        item |= {"available": False, "unavailable_reason": "no file"}
    reasons = checks.failures(whole(result))
    assert any(reason.startswith("hse: 0 pictures with an age range") for reason in reasons)


def test_results_of_other_pictures_are_not_compared(result: dict[str, Any], tmp_path: Path) -> None:
    checks = read_checks((), _stored(tmp_path, result))
    for change in ({"content_sha256": "cd" * 32}, {"name": "other"}, {"subset": "first 3 by name"}):
        other = copy.deepcopy(result)
        other["dataset"] |= change
        (reason,) = checks.failures(whole(other))
        assert reason.startswith("can't be compared with baseline")


def test_a_baseline_without_these_estimators_fails(result: dict[str, Any], tmp_path: Path) -> None:
    checks = read_checks((), _stored(tmp_path, result))
    result["estimators"] = [_estimator("new", 1.0)]
    assert "none of these estimators, only hse, a:b" in checks.failures(whole(result))[0]


def test_an_estimator_that_is_gone_or_dead_fails(result: dict[str, Any], tmp_path: Path) -> None:
    checks = read_checks((), _stored(tmp_path, result))
    result["estimators"][0] |= {"available": False, "unavailable_reason": "no file"}
    assert any("hse: no MAE, 4.000" in reason for reason in checks.failures(whole(result)))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"schema_version": 5}',
        '{"schema_version": 3}',
        '{"schema_version": 1}',
        "[" * 100_000,
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(AgebenchError, match="baseline"):
        read_checks((), _stored(tmp_path, content))


def test_wrong_calls_are_refused(tmp_path: Path, result: dict[str, Any]) -> None:
    with pytest.raises(AgebenchError, match="baseline can't be used: there is no file"):
        read_checks((), tmp_path / "none.json")
    with pytest.raises(UsageError, match="needs a baseline"):
        read_checks((), None, 0.1)
    for tolerance in (-0.1, float("nan")):
        with pytest.raises(UsageError, match="tolerance"):
            read_checks((), _stored(tmp_path, result), tolerance)
    assert not Checks().wanted
    assert read_checks(["mae>5"]).wanted
    assert Checks().failures(whole(result)) == ()


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("dataset", "label_kind"), "odd"),
        (("dataset", "label_kind"), ["birth-age"]),
        (("dataset", "name"), 7),
        (("dataset", "subset"), [1]),
        (("estimators", 0, "own_errors", "mae_years"), "3"),
        (("estimators", 0, "own_errors", "mae_years"), True),
        (("estimators", 0, "own_errors", "mae_years"), 1000),
        (("estimators", 0, "own_errors", "mae_years"), -1.0),
        (("estimators", 0, "own_errors", "n"), "many"),
        (("estimators", 0, "own_errors", "n"), "4"),
        (("estimators", 0, "own_errors", "n"), 0),
        (("estimators", 0, "own_errors"), None),
        (("estimators", 0, "ranges"), {"n": 60}),
        (("estimators", 0, "ranges"), {"n": 60, "hit_rate": 0.5, "distance_years": "far"}),
        (("estimators", 0, "ranges"), {"n": 60, "hit_rate": 0.5, "distance_years": 1000.0}),
        (("estimators", 0, "ranges"), {"n": 0, "hit_rate": 0.5, "distance_years": 2.0}),
    ],
)
def test_a_baseline_with_odd_values_is_a_sentence(
    result: dict[str, Any], tmp_path: Path, keys: tuple[Any, ...], value: Any
) -> None:
    path = tmp_path / "result.json"
    result = completed(result)
    path.write_text(json.dumps(result))
    assert read_checks([], path).failures(whole(result)) == ()
    inner = result
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(result))
    with pytest.raises(AgebenchError, match=r"baseline can't be used: .*expected"):
        read_checks([], path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_baseline_of_no_number_would_pass_everything_and_is_refused(
    result: dict[str, Any], tmp_path: Path, value: float
) -> None:
    result["estimators"][0]["own_errors"]["mae_years"] = value
    with pytest.raises(AgebenchError, match=r"it contains (NaN|Infinity)"):
        read_checks([], _stored(tmp_path, result))
    too_large = json.dumps(result).replace("NaN", "1e999").replace("Infinity", "1e999")
    with pytest.raises(AgebenchError, match="1e999 is too large"):
        read_checks([], _stored(tmp_path, too_large))
