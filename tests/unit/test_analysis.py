"""The statistics of a result's JSON, each figure computed a second way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from scipy.stats import binomtest
from threadpoolctl import threadpool_info, threadpool_limits

from agebench.harness import analysis, results
from agebench.harness.analysis import MOST_VALUES, AnalysisSettings
from agebench.harness.columns import Columns, columns_of
from agebench.harness.predictions import Predictions, predictions_in
from agebench.metrics.age_classes import ADIENCE_CLASSES, nearest_class
from agebench.types import plain
from tests.unit.made_results import analysed, whole

FEW = AnalysisSettings(permutations=199)
SCHEMA = json.loads(Path(results.__file__).with_name("result.schema.json").read_text())


def _outcome(years: float | None, **more: Any) -> dict[str, Any]:
    return {"status": "ok" if years is not None else "estimator_failed", "years": years, **more}


def _image(number: int, age: float | None, **given: Any) -> dict[str, Any]:
    image: dict[str, Any] = {
        "picture": f"{number:04}.jpg",
        "true_years": age,
        "identity": None,
        "attributes": {},
        "status": "ok",
        "predictions": {},
    }
    return {**image, **given}


def _estimator(name: str, kind: str = "other", **settings: Any) -> dict[str, Any]:
    spec = {"name": kind, "classes": None, "settings": settings}
    return {"name": name, "available": True, "spec": spec}


def _result(images: list[dict[str, Any]], *estimators: dict[str, Any]) -> dict[str, Any]:
    return {"settings": {"seed": 3}, "estimators": list(estimators), "pictures": images}


@pytest.fixture
def result() -> dict[str, Any]:
    """`good` and `bad` on 120 pictures; 10 have no face, and `bad` fails on 5 more."""
    generator = np.random.default_rng(0)
    images = []
    for number in range(120):
        age = float(generator.integers(1, 60))
        good, bad = age + generator.normal(0, 2), age + generator.normal(0, 8)
        predictions = {
            "good": _outcome(float(np.clip(good, 0, 100))),
            "bad": _outcome(None if number < 5 else float(np.clip(bad, 0, 100))),
        }
        seen = number < 110
        images.append(
            _image(
                number,
                age,
                attributes={"gender": "female" if number % 3 else "male"},
                status="ok" if seen else "no_face",
                predictions=predictions if seen else {},
            )
        )
    return _result(images, _estimator("good"), _estimator("bad"))


def _check(analysis: dict[str, Any]) -> None:
    schema = {**SCHEMA["$defs"]["analysis"], "$defs": SCHEMA["$defs"]}
    text = json.dumps(analysis, allow_nan=False)
    jsonschema.Draft202012Validator(schema).validate(json.loads(text))


def _arrays(result: dict[str, Any], name: str) -> tuple[Any, Any]:
    rows = [
        (image["true_years"], image["predictions"][name]["years"])
        for image in result["pictures"][5:110]
    ]
    return tuple(np.array(rows).T)


def test_pairs_are_over_the_common_subset(result: dict[str, Any]) -> None:
    analysis = analysed(result, FEW)
    _check(analysis)
    (pair,) = analysis["pairs"]
    true, good = _arrays(result, "good")
    _, bad = _arrays(result, "bad")
    expected = np.abs(good - true).mean() - np.abs(bad - true).mean()
    assert (pair["first"], pair["second"], pair["n"]) == ("good", "bad", 105)
    assert pair["difference_years"] == pytest.approx(expected)
    assert pair["interval"][0] < expected < pair["interval"][1] < 0
    assert (pair["p_value"], pair["verdict"]) == (1 / 200, "first better")


def test_swapped_estimators_have_the_other_verdict(result: dict[str, Any]) -> None:
    result["estimators"].reverse()
    (pair,) = analysed(result, FEW)["pairs"]
    assert (pair["first"], pair["verdict"]) == ("bad", "second better")
    assert pair["difference_years"] > 0


def test_what_chance_explains_is_not_called_better(result: dict[str, Any]) -> None:
    for image in result["pictures"]:
        if image["predictions"]:
            image["predictions"]["bad"] = dict(image["predictions"]["good"])
    (pair,) = analysed(result, FEW)["pairs"]
    assert (pair["p_value"], pair["verdict"]) == (1.0, "no difference shown")


def test_misses_count_at_the_baselines_error(result: dict[str, Any]) -> None:
    true = np.array([image["true_years"] for image in result["pictures"]])
    analysis = analysed(result, FEW)
    baseline = analysis["settings"]["baseline"]
    assert baseline["years"] == np.median(true)
    assert baseline["from"].startswith("oracle")
    shared = np.array([image["predictions"]["good"]["years"] for image in result["pictures"][:110]])
    errors = [*np.abs(shared - true[:110]), *np.abs(np.median(true) - true[110:])]
    found = analysis["estimators"]["good"]["with_misses"]
    assert found == {
        "n": 120,
        "mae_years": pytest.approx(np.mean(errors)),
        "missed": 10,
        "people": None,
    }
    assert analysis["estimators"]["bad"]["with_misses"]["missed"] == 15

    result["estimators"].append(_estimator("constant years=40", "constant", years=40.0))
    baseline = analysed(result, FEW)["settings"]["baseline"]
    assert baseline == {"years": 40.0, "from": "constant years=40"}

    result["estimators"][-1] = _estimator("someone's", "constant")
    assert analysed(result, FEW)["settings"]["baseline"]["from"].startswith("oracle")


def test_groups_have_figures_from_the_minimum_on(result: dict[str, Any]) -> None:
    groups = analysed(result, FEW)["estimators"]["good"]["groups"]
    true, good = _arrays(result, "good")
    decades = [group for group in groups if group["attribute"] == "decade"]
    assert [group["value"] for group in decades] == [f"{d}-{d + 9}" for d in range(0, 60, 10)]
    for decade in decades:
        inside = np.floor(true / 10) * 10 == int(decade["value"].split("-")[0])
        assert decade["n"] == inside.sum()
        if decade["n"] < 20:
            assert (decade["mae_years"], decade["mae_interval"], decade["bias_years"]) == (
                None,
            ) * 3
        else:
            errors = (good - true)[inside]
            assert decade["mae_years"] == pytest.approx(np.abs(errors).mean())
            assert decade["bias_years"] == pytest.approx(errors.mean())
            assert decade["mae_interval"][0] < decade["mae_years"] < decade["mae_interval"][1]
    assert any(group["mae_years"] is None for group in decades)
    assert any(group["mae_years"] is not None for group in decades)
    genders = [(g["value"], g["n"]) for g in groups if g["attribute"] == "gender"]
    assert genders == [("female", 70), ("male", 35)]


def test_a_label_that_names_pictures_makes_no_groups(result: dict[str, Any]) -> None:
    for number, image in enumerate(result["pictures"]):
        image["attributes"] = {"camera": f"c{number}", "decade": "none"}
    groups = analysed(result, FEW)["estimators"]["good"]["groups"]
    assert len(result["pictures"]) > MOST_VALUES
    assert {group["attribute"] for group in groups} == {"decade"}
    assert "none" not in {group["value"] for group in groups}


def test_people_are_resampled_where_they_are_known(result: dict[str, Any]) -> None:
    alone = analysed(result, FEW)
    for number, image in enumerate(result["pictures"]):
        image["identity"] = f"person {number % 12}"
    together = analysed(result, FEW)
    assert (alone["settings"]["clustered"], together["settings"]["clustered"]) == (False, True)
    pair = together["pairs"][0]
    assert (pair["people"], alone["pairs"][0]["people"]) == (12, None)
    # Twelve people swap in 4,096 ways, which are more than were asked for.
    assert (pair["swaps"], pair["all_swaps"]) == (199, False)
    assert together["estimators"]["good"]["with_misses"]["people"] == 12
    rates = [a["estimators"]["bad"]["age_thresholds"][22] for a in (alone, together)]
    widths = [one["false_pass_interval"][1] - one["false_pass_interval"][0] for one in rates]
    assert rates[0]["false_pass_rate"] == rates[1]["false_pass_rate"]
    assert widths[0] != widths[1]


def test_buckets_take_the_class_of_the_years(result: dict[str, Any]) -> None:
    buckets = analysed(result, FEW)["estimators"]["bad"]["buckets"]
    true, bad = _arrays(result, "bad")
    lows, highs = np.array(ADIENCE_CLASSES.lows), np.array(ADIENCE_CLASSES.highs)
    in_class = [
        (np.flatnonzero((lows <= age) & (age <= highs)), years)
        for age, years in zip(true, bad, strict=True)
    ]
    steps = [
        abs(int(nearest_class([years], ADIENCE_CLASSES)[0]) - int(found[0]))
        for found, years in in_class
        if len(found)
    ]
    assert (buckets["n"], buckets["n_in_gap"]) == (len(steps), 105 - len(steps))
    assert buckets["exact"] == pytest.approx(np.mean(np.array(steps) == 0))
    assert buckets["one_off"] == pytest.approx(np.mean(np.array(steps) <= 1))


def test_buckets_take_the_estimators_own_class_where_it_has_these() -> None:
    images = [
        _image(0, 1.0, predictions={"e": _outcome(90.0, class_index=0)}),
        _image(1, 5.0, predictions={"e": _outcome(90.0, class_index=None)}),
    ]
    estimator = _estimator("e")
    estimator["spec"]["classes"] = plain(ADIENCE_CLASSES)
    found = analysed(_result(images, estimator), FEW)["estimators"]["e"]["buckets"]
    assert found == {
        "n": 2,
        "n_in_gap": 0,
        "n_unclassified": 1,
        "exact": 0.5,
        "one_off": 0.5,
        "people": None,
    }


def test_calibration_is_over_pictures_with_a_distribution() -> None:
    def scores(low: float, high: float, nll: float) -> dict[str, Any]:
        ends = {f"interval_{level}": [low, high] for level in (50, 80, 95)}
        return {"nll": nll, "crps_years": 2 * nll, "pit": nll / 10, **ends}

    images = [
        _image(0, 30.0, predictions={"e": _outcome(30.0, **scores(29, 31, 1.0))}),
        _image(1, 40.0, predictions={"e": _outcome(30.0, **scores(29, 31, 4.0))}),
        _image(2, 30.0, predictions={"e": _outcome(30.0, nll=None, crps_years=None, pit=None)}),
    ]
    analysis = analysed(_result(images, _estimator("e")), FEW)
    _check(analysis)
    found = analysis["estimators"]["e"]["calibration"]
    assert (found["n"], found["nll"], found["crps_years"]) == (2, 2.5, 5.0)
    assert [part["fraction"] for part in found["coverage"]] == [0.5] * 3
    assert found["pit_counts"] == [0, 1, 0, 0, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("age", [None, 30.0])
def test_an_estimator_that_failed_everywhere_has_empty_figures(age: float | None) -> None:
    images = [
        _image(n, age, predictions={"ok": _outcome(31.0), "dead": _outcome(None)}) for n in range(3)
    ]
    analysis = analysed(_result(images, _estimator("ok"), _estimator("dead")), FEW)
    _check(analysis)
    assert analysis["pairs"] == []
    dead = analysis["estimators"]["dead"]
    assert (dead["groups"], dead["calibration"], dead["age_thresholds"]) == ([], None, [])
    assert (dead["buckets"]["n"], dead["buckets"]["exact"]) == (0, None)
    assert dead["with_misses"] == {
        "n": 0 if age is None else 3,
        "mae_years": None if age is None else 0.0,
        "missed": 0 if age is None else 3,
        "people": None,
    }


def test_a_set_of_ranges_alone_has_no_error_to_count_misses_in() -> None:
    images = [_image(0, None, predictions={"floor": _outcome(30.0), "other": _outcome(31.0)})]
    analysis = analysed(
        _result(images, _estimator("floor", "constant", years=30), _estimator("other"))
    )
    _check(analysis)
    nothing = {"n": 0, "mae_years": None, "missed": 0, "people": None}
    assert analysis["estimators"]["floor"]["with_misses"] == nothing
    assert analysis["estimators"]["other"]["with_misses"] == nothing


def test_the_level_holds_for_the_intervals_of_coverage_too() -> None:
    scores = {"nll": 1.0, "crps_years": 1.0, "pit": 0.5}
    ends = {f"interval_{level}": [20.0, 40.0] for level in (50, 80, 95)}
    images = [
        _image(
            number, 30.0 + 20 * (number % 2), predictions={"one": _outcome(30.0, **scores, **ends)}
        )
        for number in range(40)
    ]
    result = _result(images, _estimator("one"))
    for level in (0.8, 0.99):
        found = analysed(result, AnalysisSettings(permutations=199, level=level))
        (first, *_) = found["estimators"]["one"]["calibration"]["coverage"]
        expected = binomtest(20, 40).proportion_ci(level, method="wilson")
        assert first["interval"] == pytest.approx([expected.low, expected.high])


def test_no_pictures_at_all() -> None:
    analysis = analysed(_result([], _estimator("e")), FEW)
    _check(analysis)
    assert analysis["settings"]["baseline"] is None


def test_one_that_answers_next_to_nothing_stands_apart(result: dict[str, Any]) -> None:
    alone = analysed(result, FEW)
    for number, image in enumerate(result["pictures"]):
        if image["predictions"]:
            image["predictions"]["shy"] = _outcome(image["true_years"] if number < 12 else None)
    result["estimators"].append(_estimator("shy"))
    together = analysed(result, FEW)
    _check(together)
    shy = together["estimators"]["shy"]
    assert shy["unranked_reason"] == "an age for only 12 of 110 pictures: 50 % is needed for a rank"
    assert (shy["groups"], shy["calibration"], shy["age_thresholds"]) == ([], None, [])
    assert (shy["buckets"]["n"], shy["with_misses"]["missed"]) == (0, 108)
    assert together["estimators"]["good"] == alone["estimators"]["good"]
    first, second, third = together["pairs"]
    assert first["n"] == alone["pairs"][0]["n"] == 105
    assert first["interval"] == alone["pairs"][0]["interval"]
    assert (second["first"], second["second"], second["n"]) == ("good", "shy", 12)
    assert second["verdict"] == "second better"
    assert (third["second"], third["n"], third["verdict"]) == ("shy", 7, "no verdict")


def test_too_few_people_or_too_many_pairs_have_no_verdict(result: dict[str, Any]) -> None:
    for number, image in enumerate(result["pictures"]):
        image["identity"] = f"person {number % 9}"
    (pair,) = analysed(result, FEW)["pairs"]
    assert (pair["verdict"], pair["p_value"], pair["interval"]) == ("no verdict", None, None)
    assert pair["reason"] == "only 9 people: 10 are needed"
    for number, image in enumerate(result["pictures"]):
        image["identity"] = f"person {number % 10}"
        for name in "abcdef" if image["predictions"] else "":
            image["predictions"][name] = dict(image["predictions"]["good"])
    result["estimators"] += [_estimator(name) for name in "abcdef"]
    analysis = analysed(result, FEW)
    _check(analysis)
    pairs = analysis["pairs"]
    # 2 of 1,024 ways at best, times 28 pairs: 0.055.
    assert {pair["verdict"] for pair in pairs} == {"no verdict"}
    assert pairs[0]["reason"].endswith("p is 0.055 at best")


def test_unavailable_estimators_are_left_out(result: dict[str, Any]) -> None:
    gone = {"name": "gone", "available": False, "spec": None}
    result["estimators"].append(gone)
    assert set(analysed(result, FEW)["estimators"]) == {"good", "bad"}


def test_one_that_only_scored_ranges_is_waited_for_like_the_scores_do() -> None:
    # `half` gave an age for the picture with a range only: the subset with true ages is empty.
    images = [
        _image(0, None, predictions={"e": _outcome(31.0), "half": _outcome(50.0)}),
        _image(1, 30.0, predictions={"e": _outcome(31.0), "half": _outcome(None)}),
    ]
    result = whole(_result(images, _estimator("e"), _estimator("half")))
    predictions = predictions_in(columns_of(result.pictures, ["e", "half"]))
    assert predictions.common.tolist() == [False]


def test_the_whole_analysis_keeps_matrix_products_to_one_thread(
    result: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside other work, threads that wait for each other take processor time."""
    seen: list[int] = []

    def watched(columns: Columns) -> Predictions:
        seen.extend(item["num_threads"] for item in threadpool_info() if item["user_api"] == "blas")
        return predictions_in(columns)

    monkeypatch.setattr(analysis, "predictions_in", watched)
    with threadpool_limits(2, user_api="blas"):
        analysed(result, FEW)
    assert set(seen) == {1}


def test_it_repeats_and_follows_the_seed(result: dict[str, Any]) -> None:
    first = analysed(result, FEW)
    assert analysed(json.loads(json.dumps(result)), FEW) == first
    result["settings"]["seed"] = 4
    assert analysed(result, FEW)["settings"]["seed"] == 4


@pytest.mark.parametrize("wrong", [{"permutations": 0}, {"minimum_n": 0}, {"level": 1.0}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        AnalysisSettings(**wrong)
