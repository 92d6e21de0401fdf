"""Ages from file names by a pattern: patterns, sums of fields, and the data set `names`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agebench.datasets import by_name, name_pattern
from agebench.datasets.age_rules import AgeRule, parse_sum
from agebench.datasets.name_pattern import parse_pattern
from agebench.datasets.names import AgeLabel
from agebench.errors import DatasetError, UsageError
from agebench.registry.plugins import load_dataset
from agebench.types import Problem


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


# Names as the sets have them: AgeDB, CACD, MORPH, All-Age-Faces, LongevityNet.
PUBLISHED = [
    (
        "{}_{identity}_{age}_{gender}",
        "0_MariaCallas_35_f.jpg",
        {"identity": "MariaCallas", "age": "35", "gender": "f"},
    ),
    (
        "{age}_{identity}_{:d}",
        "53_Robin_Williams_0001.jpg",
        {"age": "53", "identity": "Robin_Williams"},
    ),
    (
        "{identity:d}_{:d}{gender:a}{age}",
        "009055_1M54.JPG",
        {"identity": "009055", "gender": "M", "age": "54"},
    ),
    ("{:d}A{age}", "00000A02.jpg", {"age": "02"}),
    (
        "{identity}_birth:{birth}_death:{}_data:{photo}_pman_{}",
        "Ann Lee_birth:1969_death:2013_data:2010_pman_1p0_pwoman_0p9.jpg",
        {"identity": "Ann Lee", "birth": "1969", "photo": "2010"},
    ),
]


@pytest.mark.parametrize(("pattern", "name", "fields"), PUBLISHED)
def test_published_names_are_read(pattern: str, name: str, fields: dict[str, str]) -> None:
    stem = name.rpartition(".")[0]
    assert parse_pattern(pattern, ("age", "birth", "photo")).read(stem) == fields


def test_a_name_that_can_be_read_in_two_ways_is_a_problem() -> None:
    read = parse_pattern("{age:d}_{identity}_{}").read("53_Robin_Williams_0001")
    assert isinstance(read, Problem)
    assert "identity as 'Robin' or as 'Robin_Williams'" in read.reason
    read = parse_pattern("{:d}{age:d}").read("1234")
    assert isinstance(read, Problem)


@pytest.mark.timeout(120)
def test_no_name_takes_long() -> None:
    for pattern, name in (("{}_{}_{}_{}_{a}_{b:d}", "_" * 240), ("{:d}" * 7 + "{a:d}", "1" * 239)):
        assert isinstance(parse_pattern(pattern).read(name + "x"), Problem)


def test_long_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = ("{a}_{b}", "{a:d}{b:d}{:a}", "_{a:year}{b:d}", "{a:date}{b:d}", "{a:a}_{b:d}1")
    names = ("1_1_x", "_19991", "1955-1-123", "123x", "1_1", "x_11")
    cases = [(parse_pattern(pattern), name) for pattern in patterns for name in names]
    read = [pattern.read(name) for pattern, name in cases]
    monkeypatch.setattr(name_pattern, "MAX_TRIED", 0)
    assert read == [pattern.read(name) for pattern, name in cases]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("age", "fields in braces"),
        ("{}", "at least one with a name"),
        ("{age", "fields in braces"),
        ("{age}_{age}", "each field once"),
        ("{Age}", "lower-case letters"),
        ("{age:x}", "known kinds of fields, got 'x'"),
        ("{a}{b}{c}{d}{e}{f}{g}", "at most 6"),
    ],
)
def test_patterns_that_are_not_valid_say_why(pattern: str, said: str) -> None:
    with pytest.raises(UsageError, match="is not valid") as error:
        parse_pattern(pattern)
    assert said in str(error.value)


@given(st.text(max_size=40), st.text(max_size=60))
def test_no_pattern_and_no_name_breaks_the_reader(pattern: str, name: str) -> None:
    try:
        read = parse_pattern("{age:d}" + pattern).read(name)
    except UsageError:
        return
    assert isinstance(read, (dict, Problem))


@pytest.mark.parametrize(
    ("text", "years"),
    [("a-b", 41.0), ("a - b + 1", 42.0), ("-(b-a)/2", 20.5), ("(a-b)*2", 82.0), ("a-1969", 41.0)],
)
def test_sums_of_fields(text: str, years: float) -> None:
    assert parse_sum(text, ("a", "b"), "age").value({"a": "2010", "b": "1969"}, {}) == years


@pytest.mark.parametrize(
    "text", ["", "1", "a**b", "a.b", "a(1)", "a-", "a if b else a", "'a'", "a" + "-b" * 200, "a\0"]
)
def test_other_expressions_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a field, or a sum"):
        parse_sum(text, ("a", "b"), "age")


@given(st.text(alphabet="ab1+-*/() .\n", max_size=30))
def test_no_expression_breaks_the_reader(text: str) -> None:
    try:
        value = parse_sum(text, ("a", "b"), "age").value({"a": "3", "b": "0"}, {})
    except (UsageError, ValueError):
        return
    assert value == value  # noqa: PLR0124 - not NaN


def test_an_unknown_field_is_named_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="no 'brith': did you mean 'birth'"):
        parse_sum("photo-brith", ("photo", "birth"), "age")


def test_a_date_of_birth_and_a_year_give_completed_years_as_imdb_wiki_counts_them() -> None:
    # Rothe et al.: the photograph is of the first of July of its year.
    rule = AgeRule.of({"birth", "photo"}, age="photo-birth")
    kinds = {"birth": "date", "photo": "year"}
    ages = [
        rule.label({"birth": birth, "photo": "1968"}, kinds)
        for birth in ("1899-5-10", "1899-6-30", "1899-8-01", "1899-12-31", "1968-1-1")
    ]
    assert ages == [AgeLabel(years) for years in (69.0, 69.0, 68.0, 68.0, 0.0)]
    assert isinstance(rule.label({"birth": "1899-2-30", "photo": "1968"}, kinds), Problem)
    assert isinstance(rule.label({"birth": "1969-1-1", "photo": "1968"}, kinds), Problem)


def test_ranges_and_bounds() -> None:
    known = ("birth", "photo")
    fields = {"birth": "1969", "photo": "2010"}
    rule = AgeRule.of(known, low="photo-birth-1", high="photo-birth")
    assert rule.label(fields) == AgeLabel(age_range=(40, 41))
    assert AgeRule.of(known, high="photo-birth").label(fields) == AgeLabel(age_range=(0, 41))
    assert AgeRule.of(known, low="photo-birth").label(fields) == AgeLabel(age_range=(41, 116))
    assert isinstance(AgeRule.of(known, low="birth").label(fields), Problem)
    assert AgeRule.of(("low", "high")).label({"low": "25", "high": "32"}).age_range == (25, 32)  # type: ignore[union-attr]  # no problem
    assert AgeRule.of(("age",)).label({"age": "60+"}) == AgeLabel(age_range=(60, 116))
    with pytest.raises(UsageError, match="an age or a range"):
        AgeRule.of(known, age="photo-birth", low="photo")
    with pytest.raises(UsageError, match="age can't be located"):
        AgeRule.of(known)


def test_names_lists_pictures_at_any_depth(tmp_path: Path) -> None:
    root = make(
        tmp_path, "0_Ann_35_f.jpg", "sub/1_Bob_7_m.PNG", "2_Eve_999_f.jpg", "holiday.jpg", "x.txt"
    )
    dataset = load_dataset(
        "names pattern={}_{identity}_{age}_{gender}.jpg label_kind=birth-age", root
    )
    assert [
        (item.name, item.age_years, item.identity, dict(item.attributes))
        for item in dataset.samples
    ] == [
        ("0_Ann_35_f.jpg", 35.0, "Ann", {"gender": "f"}),
        ("sub/1_Bob_7_m.PNG", 7.0, "Bob", {"gender": "m"}),
    ]
    reasons = {problem.name: problem.reason for problem in dataset.problems}
    assert reasons.keys() == {"2_Eve_999_f.jpg", "holiday.jpg"}
    assert "not named as" in reasons["holiday.jpg"]
    assert "120" in reasons["2_Eve_999_f.jpg"]
    assert dataset.spec.label_kind == "birth-age"
    assert dataset.spec.notes == ("file names read as {}_{identity}_{age}_{gender}, age = age",)


def test_names_by_folder_too_and_sums(tmp_path: Path) -> None:
    root = make(tmp_path, "set/p1/1969/2010.jpg", "p2/1990/1980.jpg")
    dataset = by_name.load(root, "{identity}/{birth}/{photo}", age="photo-birth")
    assert [(item.age_years, item.identity) for item in dataset.samples] == [(41.0, "p1")]
    assert [problem.reason for problem in dataset.problems] == [
        "photo-birth gives -10 years: expected 0 to 120"
    ]
    bounds = by_name.load(
        root, "{identity}/{birth}/{photo}", low="photo-birth-1", high="photo-birth"
    )
    assert bounds.samples[0].age_range == (40, 41)


def test_names_needs_a_pattern_and_pictures(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'names' needs pattern=\.\.\."):
        load_dataset("names", tmp_path)
    with pytest.raises(DatasetError, match="no usable picture"):
        load_dataset("names pattern={age}", tmp_path)
