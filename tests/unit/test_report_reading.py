"""Result files that are damaged, foreign, altered or too large: one sentence each."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agebench.errors import AgebenchError, UsageError
from agebench.harness import reading
from agebench.harness import results as bench_results
from agebench.harness.reading import read_result
from agebench.report import page
from agebench.report.joining import join
from agebench.report.tables import as_latex

Write = Callable[..., Path]
Make = Callable[..., dict[str, Any]]


def test_the_made_up_result_is_what_compare_writes(make_result: Make) -> None:
    schema = Path(bench_results.__file__).with_name("result.schema.json").read_text("utf-8")
    jsonschema.validate(make_result(), json.loads(schema))


def test_a_result_from_before_fields_were_added_is_still_read(
    write_result: Write, make_result: Make
) -> None:
    content = make_result()
    for item in content["estimators"]:
        for name in ("contamination", "unseen_errors", "unclipped_errors", "runtime_proven"):
            del item[name]
    del content["detector"]["runtime_proven"]
    for image in content["pictures"]:
        del image["landmarks_xy"], image["landmark_scheme"]
    joined = join([read_result(write_result(content=content))])
    assert "good" in page.render(joined)
    assert "good" in as_latex(joined)


def test_a_folder_stands_for_the_result_in_it(write_result: Write) -> None:
    path = write_result()
    assert read_result(path.parent).path == path
    assert read_result(path).content.dataset.name == "made-up"


def _changed(content: dict[str, Any], where: str, value: object) -> dict[str, Any]:
    """Set what a path such as "estimators.0.name" leads to."""
    *folders, last = where.split(".")
    at: Any = content
    for step in folders:
        at = at[int(step)] if isinstance(at, list) else at[step]
    at[int(last) if isinstance(at, list) else last] = value
    return content


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        ("estimators.0.name", 3, "estimators[0].name: expected text, got 3"),
        ("pictures.2.true_years", 121, "pictures[2].true_years: expected a number from 0 to 120"),
        ("pictures.2.true_years", True, "pictures[2].true_years"),
        ("pictures.2.predictions.good.years", "7", ".predictions.'good'.years"),
        ("pictures.0.predictions", [], "pictures[0].predictions: expected an object"),
        ("estimators.1.latency.total.samples_ms.3", -1, "samples_ms[3]"),
        ("dataset.label_kind", "guess", "dataset.label_kind: expected one of birth-age"),
        ("dataset.label_kind", ["birth-age"], "dataset.label_kind"),
        ("estimators", {}, "estimators: expected a list"),
        ("analysis.pairs.0.verdict", "<b>", "analysis.pairs[0].verdict"),
        ("analysis.pairs.0.first", "nobody", "an analysis of the listed estimators"),
        ("analysis.settings.level", "<b>", "settings.level: expected a number from 0 to 1"),
        ("analysis.settings.level", 7, "settings.level: expected a number from 0 to 1"),
        ("analysis.settings.level", None, "settings.level: expected a number from 0 to 1"),
        ("analysis.settings.replicates", -1, "settings.replicates: expected a whole number"),
        ("analysis.settings.permutations", "<b>", "settings.permutations: expected a whole"),
        ("analysis.settings.minimum_n", 2.5, "settings.minimum_n: expected a whole number"),
        ("analysis.settings", [], "analysis.settings: expected an object"),
        ("pictures.1.picture", "p000.png", "pictures with different names"),
        ("estimators.1.name", "good", "estimators with different names"),
        ("environment.memory_bytes", 10**400, "an enormous number"),
        ("schema_version", 5, "schema_version 5, expected one of 1, 2, 3, 4"),
        ("timing.comparisons.0.first", "nobody", "times of the listed estimators"),
        ("estimators.0.spec", None, "estimators[0].spec: expected an object"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    write_result: Write, make_result: Make, where: str, value: object, told: str
) -> None:
    path = write_result(content=_changed(make_result(), where, value))
    with pytest.raises(AgebenchError) as caught:
        read_result(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not valid JSON"),
        ("[1, 2]", "the top level: expected an object, got a list of 2"),
        ('{"a\\u001b[31m": 1}', r"got an object with a\x1b[31m"),
        ('{"info": {}, "licenses": []}', "expected an object with the field 'schema_version'"),
        ('{"schema_version": 1, "x": NaN}', "it contains NaN"),
        ('{"x": -Infinity}', "-Infinity"),
        ('{"x": 1e999}', "is too large"),
        ('{"x": ' + "9" * 5000 + "}", "not valid JSON"),
        ("[" * 200_000, "nested too deeply"),
        ('{"schema_version": 1', "not valid JSON"),
        ("\x1b[31m", "not valid JSON"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AgebenchError, match="is not a result of 'agebench compare'") as caught:
        read_result(path)
    assert told in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AgebenchError, match="not UTF-8"):
        read_result(path)


def test_what_is_not_there_or_no_file_is_wrong_usage(tmp_path: Path) -> None:
    for wrong in (tmp_path / "gone.json", tmp_path, tmp_path / "a\0b", Path("x" * 5000)):
        with pytest.raises(UsageError):
            read_result(wrong)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="not a regular file"):
        read_result(tmp_path / "pipe")


def test_a_file_that_would_not_fit_is_not_read(
    write_result: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_result()
    monkeypatch.setattr(reading, "MAX_BYTES", 1000)
    with pytest.raises(AgebenchError, match="more than the limit of 1,000"):
        read_result(path)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("estimators.0.errors.mae_years", 0.5),
        ("estimators.0.errors.mae_years", None),
        ("estimators.0.errors.rmse_years", 0.5),
        ("estimators.0.errors.median_years", 0.5),
        ("estimators.0.errors.bias_years", -0.5),
        ("estimators.0.errors.bias_years", None),
        ("estimators.0.errors.n", 59),
        ("pictures.3.predictions.good.years", 90.0),
    ],
)
def test_figures_that_are_not_those_of_the_predictions_are_refused(
    write_result: Write, make_result: Make, where: str, value: object
) -> None:
    path = write_result(content=_changed(make_result(), where, value))
    with pytest.raises(AgebenchError, match="was altered"):
        join([read_result(path)])


def test_a_result_beside_the_predictions_of_another_run_is_refused(
    write_result: Write, make_result: Make
) -> None:
    table = b"image,estimator\n"
    content = make_result()
    content["predictions_sha256"] = hashlib.sha256(table).hexdigest()
    path = write_result(content=content)
    read_result(path)  # without a table, as it may be passed on
    beside = path.with_name("predictions.csv")
    beside.write_bytes(table)
    read_result(path)
    beside.write_bytes(table + b"a.jpg,x\n")
    with pytest.raises(AgebenchError, match=r"predictions\.csv.*result\.json"):
        read_result(path)
    read_result(path.rename(path.with_name("other.json")))


def test_more_estimators_than_a_page_can_show_are_a_sentence(
    write_result: Write, make_result: Make
) -> None:
    content = make_result()
    content["estimators"] = [None] * 201
    with pytest.raises(AgebenchError, match=r"estimators.*at most 200"):
        read_result(write_result(content=content))
    content = make_result()
    some = next(iter(content["analysis"]["estimators"].values()))
    some["age_thresholds"] = [None] * 1001
    with pytest.raises(AgebenchError, match="age_thresholds: expected a list of at most 1,000"):
        read_result(write_result(content=content))
