"""JSON to typed records: what fits is read, what does not is told with its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from agebench.errors import AgebenchError
from agebench.harness.reading import read_result
from agebench.metrics.intervals import Interval, YearsInterval
from agebench.util.record_fields import AtMost, By, Count, Fraction, StructureError, Text, Years
from agebench.util.typed_records import decoder, keyed, read_record


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    name: Text
    share: Fraction | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    title: str
    n: Count
    parts: Annotated[tuple[Part, ...], AtMost(3)]
    by_name: Mapping[str, Years]
    kind: Literal["a", "b"]
    scores: Annotated[Mapping[int, float | None], By(keyed({1: "1", 5: "5"}, Fraction | None))]
    interval: YearsInterval | None
    size: tuple[Count, Count]
    anything: Any = None
    rest: bool = True


GOOD: dict[str, Any] = {
    "title": "",
    "n": 3,
    "parts": [{"name": "x", "share": 0.5}, {"name": "y", "share": None}],
    "by_name": {"ann": 30},
    "kind": "b",
    "scores": {"1": 0.25, "5": None, "10": "not looked at"},
    "interval": [8.0, 6.5],
    "size": [1, 2],
    "of a later version": {},
}


def test_what_fits_is_read() -> None:
    found = read_record(GOOD, Whole)
    assert found.parts == (Part(name="x", share=0.5), Part(name="y", share=None))
    assert found.by_name == {"ann": 30}
    assert isinstance(found.by_name["ann"], int)  # as it was written
    assert found.scores == {1: 0.25, 5: None}
    assert found.interval == Interval(6.5, 8.0)
    assert (found.size, found.rest, found.anything) == ((1, 2), True, None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"title": None}, "title: expected text, got None"),
        ({"n": True}, "n: expected a whole number from 0 to 1e+12, got True"),
        ({"n": 10**400}, "n: expected a whole number from 0 to 1e+12, got an enormous number"),
        ({"n": 2.0}, "n: expected a whole number from 0 to 1e+12, got 2.0"),
        ({"parts": [{}] * 4}, "parts: expected a list of at most 3, got a list of 4"),
        ({"parts": {}}, "parts: expected a list of at most 3, got an empty object"),
        ({"parts": [{"name": "x"}]}, "parts[0]: expected an object with the field 'share'"),
        ({"parts": [{"name": "", "share": 0}]}, "parts[0].name: expected text, got ''"),
        ({"by_name": {"ann": -1}}, "by_name.'ann': expected a number from 0 to 120, got -1"),
        ({"by_name": []}, "by_name: expected an object, got a list of 0"),
        ({"kind": ["a"]}, "kind: expected one of a, b, got a list of 1"),
        ({"scores": {"1": 0.5}}, "scores: expected an object with the field '5'"),
        ({"scores": {"1": 2, "5": 0}}, "scores.1: expected a number from 0 to 1, got 2"),
        ({"interval": [1]}, "interval: expected a list of 2, got a list of 1"),
        ({"interval": [1, float("inf")]}, "interval[1]: expected a number from 0 to 120, got inf"),
        ({"interval": [1, float("nan")]}, "interval[1]: expected a number from 0 to 120, got nan"),
        ({"size": [1, 2, 3]}, "size: expected a list of 2, got a list of 3"),
        ({"rest": 1}, "rest: expected true or false, got 1"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(change: dict[str, Any], told: str) -> None:
    with pytest.raises(StructureError) as caught:
        read_record({**GOOD, **change}, Whole)
    assert str(caught.value).startswith(told)


class Checked(TypedDict):
    name: Text
    by_name: Mapping[str, Years]
    share: NotRequired[Fraction | None]


def test_a_typed_dict_is_checked_and_left_as_it_is() -> None:
    given = {"name": "x", "by_name": {"ann": 3}, "share": None, "later": 1}
    assert decoder(tuple[Checked, ...])([given])[0] is given
    assert decoder(Checked)({"name": "x", "by_name": {}}) == {"name": "x", "by_name": {}}
    for change, told in (
        ({"share": 2}, "share: expected a number from 0 to 1, got 2"),
        ({"by_name": {"ann": "x"}}, "by_name.'ann': expected a number from 0 to 120, got 'x'"),
        ({"name": None}, "name: expected text, got None"),
    ):
        with pytest.raises(StructureError) as caught:
            decoder(Checked)({**given, **change})
        assert str(caught.value) == told
    with pytest.raises(StructureError, match="expected an object with the field 'by_name'"):
        decoder(Checked)({"name": "x"})


def test_a_type_that_says_nothing_of_its_values_is_not_read() -> None:
    with pytest.raises(TypeError, match="annotate it"):
        decoder(float)


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        (
            ("estimators", 0, "seen_in_training"),
            {"what": "x", "count": 1, "pictures": None},
            "pictures",
        ),
        (("estimators", 0, "own_errors", "mae_years"), "x", "own_errors.mae_years: expected a num"),
        (
            ("pictures", 0, "predictions", "good", "outside"),
            None,
            "'good'.outside: expected",
        ),
        (
            ("pictures", 0, "predictions", "good", "class_index"),
            1e9,
            "'good'.class_index: expected",
        ),
        (
            ("pictures", 0, "predictions", "good", "interval_80"),
            [1],
            "interval_80: expected a list of",
        ),
        (("analysis", "pairs", 0, "all_swaps"), "x", "pairs[0].all_swaps: expected true or false"),
        (
            ("analysis", "estimators", "good", "unranked_reason"),
            [],
            "'good'.unranked_reason: expected text",
        ),
    ],
)
def test_every_field_that_is_read_is_checked(
    make_result: Callable[..., dict[str, Any]],
    tmp_path: Path,
    where: tuple[str | int, ...],
    value: object,
    told: str,
) -> None:
    content = json.loads(json.dumps(make_result()))
    at: Any = content
    for step in where[:-1]:
        at = at[step]
    at[where[-1]] = value
    path = tmp_path / "result.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(AgebenchError) as caught:
        read_result(path)
    assert told in str(caught.value)
