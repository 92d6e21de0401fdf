"""Results of earlier versions: read by the names of today, and giving the same figures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agebench.errors import AgebenchError
from agebench.harness.fail_if import read_checks
from agebench.harness.former_names import with_present_names
from agebench.harness.reading import ResultFile, read_result
from agebench.harness.settings import CompareSettings
from agebench.report import page
from agebench.report.card import card
from agebench.report.joining import join
from agebench.report.tables import as_csv
from agebench.report.writing import as_json
from agebench.suite.compact import Measured, compact_cell, compact_set

STORED = Path(__file__).parent / "results" / "version-2.json"
"""What version 2 wrote of two models on twelve pictures of the sample."""

MODEL = "multicrop-resnet-small"
KNOWN = {
    "what": "two sets",
    "count": 2,
    "images": ["composite_female_01_5.jpg", "composite_female_04_3.jpg"],
    "near_copies": {
        "count": 1,
        "images": ["composite_female_20_2.jpg"],
        "compared_by_pixels": 1,
    },
}


def _old() -> dict[str, Any]:
    """The stored file, in which one of the models has seen three of the pictures."""
    content: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    content["estimators"][0]["seen_in_training"] = KNOWN
    return content


def _third(old: dict[str, Any]) -> dict[str, Any]:
    """The same file with the names of version 3, replaced in its text."""
    text = json.dumps(old).replace('"pictures": {"total"', '"counts": {"total"')
    for former, present in (
        ("images", "pictures"),
        ("image", "picture"),
        ("latency_images", "latency_pictures"),
    ):
        text = re.sub(f'"{former}":', f'"{present}":', text)
    content: dict[str, Any] = json.loads(text)
    return {**content, "schema_version": 3}


def _new(old: dict[str, Any]) -> dict[str, Any]:
    """The same file with the names of version 4, key by key."""
    content = _third(old)
    settings, analysis = content["settings"], content["analysis"]
    _rename(settings, "workers", "decode_threads")
    _rename(content["timing"]["control"], "floor", "noise_floor")
    _rename(analysis["settings"], "floor", "baseline")
    for item in analysis["estimators"].values():
        _rename(item, "apart", "unranked_reason")
        _rename(item, "gates", "age_thresholds")
        for level in (item["calibration"] or {"coverage": []})["coverage"]:
            _rename(level, "share", "fraction")
    return {**content, "schema_version": 4}


def _rename(record: dict[str, Any], former: str, present: str) -> None:
    """Rename a key, which has to be there, in its place."""
    assert former in record
    items = [(present if name == former else name, value) for name, value in record.items()]
    record.clear()
    record.update(items)


@pytest.fixture(params=[_old, lambda: _third(_old())], ids=["version-2", "version-3"])
def both(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """An old file and the new one, each called result.json."""
    files = (tmp_path / "old" / "result.json", tmp_path / "new" / "result.json")
    for file, content in zip(files, (request.param(), _new(_old())), strict=True):
        file.parent.mkdir()
        file.write_text(json.dumps(content), encoding="utf-8")
    return files


def test_the_stored_file_has_the_former_names() -> None:
    old, third, new = _old(), _third(_old()), _new(_old())
    assert old["schema_version"] == 2
    assert {"image", "images", "latency_images"} <= set(re.findall(r'"(\w+)":', json.dumps(old)))
    assert third["schema_version"] == 3
    former = {"image", "images", "latency_images", "workers", "floor", "share", "apart", "gates"}
    assert not former & set(re.findall(r'"(\w+)":', json.dumps(new)))
    assert with_present_names(third) == {**new, "schema_version": 3}
    assert list(with_present_names(third)["analysis"]) == list(new["analysis"])
    assert with_present_names(old) == {**new, "schema_version": 2}
    assert list(with_present_names(old)) == list(new)
    assert old == _old()


def test_a_file_of_today_is_left_as_it_is() -> None:
    new = _new(_old())
    assert with_present_names(new) is new


@pytest.mark.parametrize(
    "show",
    [
        lambda found: page.render(join([found])),
        lambda found: as_csv(join([found])),
        lambda found: as_json(join([found])),
        lambda found: card([found], MODEL),
        lambda found: compact_cell(Measured("sample", "", found, MODEL)),
        lambda found: compact_set("sample", "", "", ["gender"], found, changed=False),
    ],
    ids=["page", "csv", "json", "card", "cell", "set"],
)
def test_what_is_shown_of_both_is_equal(
    both: tuple[Path, Path], show: Callable[[ResultFile], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    for file in both:
        monkeypatch.chdir(file.parent)
        shown.append(show(read_result("result.json")))
    assert shown[0] == shown[1]


def test_gates_say_the_same_of_both(both: tuple[Path, Path]) -> None:
    found = [read_result(file).content for file in both]
    said = [read_checks(["mae>1", f"{MODEL}:p50_total_ms>0"]).failures(one) for one in found]
    assert said[0] == said[1] != ()
    for worse, baseline in ((found[0], both[1]), (found[1], both[0])):
        assert read_checks([], baseline).failures(worse) == ()
    stricter = json.loads(both[0].read_text(encoding="utf-8"))
    for item in stricter["estimators"]:
        item["own_errors"]["mae_years"] = 0.5
    both[0].write_text(json.dumps(stricter), encoding="utf-8")
    assert len(read_checks([], both[0]).failures(found[1])) == 2


def test_an_old_file_joins_a_new_one(both: tuple[Path, Path]) -> None:
    for file, kept in zip(both, (0, 1), strict=True):
        content = json.loads(file.read_text(encoding="utf-8"))
        name = content["estimators"][kept]["name"]
        content["estimators"] = [content["estimators"][kept]]
        for one in content["images" if "images" in content else "pictures"]:
            one["predictions"] = {name: one["predictions"][name]}
        del content["analysis"], content["timing"]["comparisons"][:]
        file.write_text(json.dumps(content), encoding="utf-8")
    joined = join([read_result(file) for file in both])
    assert {entry.label for entry in joined.scored} == {MODEL, "constant years=40"}
    assert int(joined.common.sum()) == 12


def test_version_1_is_read_by_the_same_names(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps({**_old(), "schema_version": 1}), encoding="utf-8")
    found = read_result(file)
    assert found.content.schema_version == 1
    assert found.content.counts.total == len(found.pictures) == 12
    seen = found.content.estimators[0].seen_in_training
    assert seen is not None
    assert list(seen.pictures) == KNOWN["images"]
    assert found.content.settings["latency_pictures"] == 2  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"images": None}, "pictures: expected a list"),
        ({"images": [3]}, r"pictures\[0\]: expected an object"),
        ({"images": [{"picture": "a"}]}, r"pictures\[0\]"),
        ({"pictures": []}, "counts: expected an object"),
        ({"settings": 3}, "settings: expected an object"),
        ({"estimators": [None]}, r"estimators\[0\]: expected an object"),
        ({"estimators": {}}, "estimators: expected a list"),
    ],
)
def test_a_damaged_old_file_is_refused_in_a_sentence(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps({**_old(), **change}), encoding="utf-8")
    with pytest.raises(AgebenchError, match=told):
        read_result(file)


@pytest.mark.parametrize("version", [3, 4])
def test_names_from_before_its_version_are_refused(tmp_path: Path, version: int) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps({**_old(), "schema_version": version}), encoding="utf-8")
    with pytest.raises(AgebenchError, match="is not a result of 'agebench compare'"):
        read_result(file)


def test_version_3_names_in_a_file_of_today_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps({**_third(_old()), "schema_version": 4}), encoding="utf-8")
    with pytest.raises(AgebenchError, match="is not a result of 'agebench compare'"):
        read_result(file)


def test_the_former_name_of_a_setting_is_taken() -> None:
    former = CompareSettings(limit=3, workers=0)
    assert former == CompareSettings(limit=3, decode_threads=0)
    assert replace(former, sample=None) == former
