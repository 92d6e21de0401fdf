"""File and folder names: the published form, the malformed ones, and anything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agebench.datasets import names
from agebench.datasets.names import (
    AgeLabel,
    FgnetName,
    UtkName,
    parse_age_label,
    parse_fgnet,
    parse_utkface,
    shown,
)
from agebench.types import Problem, Sample

STAMP = "20170116174525125"
_ANY = Path("a.jpg")


def _reason(result: object) -> str:
    assert isinstance(result, Problem)
    return result.reason


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"26_1_2_{STAMP}.jpg.chip.jpg", (26, "female", "Asian", True)),
        (f"100_0_4_{STAMP}.jpg", (100, "male", "Other", False)),
        (f"1_0_0_{STAMP}.jpg", (1, "male", "White", False)),
        (f"0_1_1_{STAMP}.jpg", (0, "female", "Black", False)),
        (f"116_1_3_{STAMP}.JPG.CHIP.JPG", (116, "female", "Indian", True)),
        # The set's own malformed names that lose no label.
        ("55_0_0_20170116232725357jpg.chip.jpg", (55, "male", "White", True)),
        ("55_0_0_20170116232725357jpg", (55, "male", "White", False)),
        ("44_1_4_20170116235150272.pg", (44, "female", "Other", False)),
        ("44_1_4_20170116235150272.pg.chip.jpg", (44, "female", "Other", True)),
        ("24_0_1_20170116220224657 .jpg.chip.jpg", (24, "male", "Black", True)),
        ("24_0_1_20170116220224657 .jpg", (24, "male", "Black", False)),
        ("28_1_2_201701161846515488.jpg.chip.jpg", (28, "female", "Asian", True)),
        ("14_0_0_2017011022340900.jpg.chip.jpg", (14, "male", "White", True)),
        (f"26_1_2_{STAMP} (1).jpg", (26, "female", "Asian", False)),
    ],
)
def test_utkface_name_is_read_whole(name: str, expected: tuple[int, str, str, bool]) -> None:
    assert parse_utkface(name) == UtkName(*expected, note="")


@pytest.mark.parametrize(
    ("name", "expected", "noted"),
    [
        ("39_1_20170116174525125.jpg.chip.jpg", (39, "female", "", True), "race"),
        ("61_1_20170109142408075.jpg.chip.jpg", (61, "female", "", True), "race"),
        ("61_1_20170109150557335.jpg", (61, "female", "", False), "race"),
        ("53__0_20170116184028385.jpg", (53, "", "White", False), "gender"),
        ("61_3_20170109150557335.jpg", (61, "", "", False), "gender '3'"),
        (f"61_3_2_{STAMP}.jpg", (61, "", "Asian", False), "gender '3'"),
        (f"61_1_5_{STAMP}.jpg", (61, "female", "", False), "race '5'"),
        (f"61_1_01_{STAMP}.jpg", (61, "female", "", False), "race '01'"),
        (f"61_1__{STAMP}.jpg", (61, "female", "", False), "race"),
        (f"61_{STAMP}.jpg", (61, "", "", False), "gender"),
        (f"2_1_{STAMP}.jpg", (2, "female", "", False), "race"),
    ],
)
def test_utkface_name_keeps_its_age_and_notes_the_lost_label(
    name: str, expected: tuple[int, str, str, bool], noted: str
) -> None:
    result = parse_utkface(name)
    assert isinstance(result, UtkName)
    assert (result.age_years, result.gender, result.race, result.chip) == expected
    assert noted in result.note


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"117_0_0_{STAMP}.jpg", "116"),
        (f"-5_0_0_{STAMP}.jpg", "'-5'"),
        (f"x_0_0_{STAMP}.jpg", "'x'"),
        (f"_1_0_{STAMP}.jpg", "age ''"),
        (f"25.5_1_0_{STAMP}.jpg", "'25.5'"),
        (f"\u0662\u0665_1_0_{STAMP}.jpg", "age"),  # Arabic digits, which int() would take
        (f"{'9' * 5000}_1_0_{STAMP}.jpg", "age"),  # int() refuses as many digits
        # What looks like an age may be the gender or race that follows a missing age.
        (f"1_0_{STAMP}.jpg", "may be the gender"),
        (f"0_4_{STAMP}.jpg", "may be the gender"),
        (f"4_{STAMP}.jpg", "may be the gender or race"),
        (f"7_25_0_1_{STAMP}.jpg", "4 fields"),
        (f"{STAMP}.jpg", "0 fields"),
        ("8_163.jpg", "date"),
        ("26_1_2.jpg", "date"),
        ("26_1_2_.jpg", "date"),
        ("26_1_2_2017.jpg", "date"),
        (f"26_1_2_{STAMP}", "picture"),
        ("", "picture"),
        (".jpg", "date"),
    ],
)
def test_utkface_name_without_a_trustworthy_age_is_a_problem(name: str, said: str) -> None:
    result = parse_utkface(name)
    assert said in _reason(result)
    assert isinstance(result, Problem)
    assert result.name == name
    assert len(result.reason) < 300


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    for name in (text, f"{text}_1_0_{STAMP}.jpg", f"30_{text}_{STAMP}.jpg", f"30_1_0_{text}.jpg"):
        utk = parse_utkface(name)
        assert isinstance(utk, UtkName | Problem)
        if isinstance(utk, UtkName):
            assert 0 <= utk.age_years <= 116
    assert isinstance(parse_fgnet(text), FgnetName | Problem)
    label = parse_age_label(text)
    if isinstance(label, AgeLabel):
        # A sample validates both, so this raises where a label is out of range.
        Sample(path=_ANY, name="a", age_years=label.age_years, age_range=label.age_range)
        assert (label.age_years is None) != (label.age_range is None)


@given(st.text(alphabet="0123456789-+.,()\u2013 eE_naif", max_size=12))
def test_no_near_miss_breaks_the_age_labels(text: str) -> None:
    label = parse_age_label(text)
    if isinstance(label, AgeLabel):
        Sample(path=_ANY, name="a", age_years=label.age_years, age_range=label.age_range)


@given(
    age=st.integers(0, 116),
    gender=st.integers(0, 1),
    race=st.integers(0, 4),
    digits=st.integers(14, 20),
    tail=st.sampled_from([".jpg", ".jpg.chip.jpg", "jpg.chip.jpg", " .jpg", " .jpg.chip.jpg"]),
)
def test_every_wellformed_utkface_name_comes_back(
    age: int, gender: int, race: int, digits: int, tail: str
) -> None:
    name = f"{age}_{gender}_{race}_{'2' * digits}{tail}"
    result = parse_utkface(name)
    words = (("male", "female")[gender], ("White", "Black", "Asian", "Indian", "Other")[race])
    assert result == UtkName(age, *words, chip="chip" in tail)
    assert result == names._parse_unusual_utk(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("001A02.JPG", ("001", 2)),
        ("082A69.JPG", ("082", 69)),
        ("001A43a.JPG", ("001", 43)),
        ("001a43b.jpg", ("001", 43)),
        ("010A00.jpeg", ("010", 0)),
        ("010A07B .JPG", ("010", 7)),
    ],
)
def test_fgnet_name(name: str, expected: tuple[str, int]) -> None:
    assert parse_fgnet(name) == FgnetName(*expected)


@pytest.mark.parametrize(
    "name", ["", "01A02.JPG", "001A2.JPG", "001B02.JPG", "001A02", "001A02ab.JPG", "x001A02.JPG"]
)
def test_fgnet_name_of_another_form_is_a_problem(name: str) -> None:
    assert "001A02.JPG" in _reason(parse_fgnet(name))


def test_fgnet_age_above_the_sets_highest_is_a_problem() -> None:
    assert "69" in _reason(parse_fgnet("001A70.JPG"))


@pytest.mark.parametrize(
    ("text", "years"),
    [("7", 7.0), ("007", 7.0), (" 25 ", 25.0), ("7.5", 7.5), ("0", 0.0), ("120", 120.0)],
)
def test_single_age(text: str, years: float) -> None:
    assert parse_age_label(text) == AgeLabel(age_years=years)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("20-29", (20, 29)),
        ("(25, 32)", (25, 32)),
        ("(25,32)", (25, 32)),
        ("3\u20139", (3, 9)),
        ("20 - 29", (20, 29)),
        ("60+", (60, 116)),
        ("70 +", (70, 116)),
        ("0-2", (0, 2)),
        ("60-100", (60, 100)),
    ],
)
def test_age_range(text: str, ends: tuple[int, int]) -> None:
    assert parse_age_label(text) == AgeLabel(age_range=ends)


def test_a_range_of_one_year_is_that_age() -> None:
    assert parse_age_label("(35, 35)") == AgeLabel(age_years=35.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not an age"),
        ("None", "not an age"),
        ("nan", "not an age"),
        ("inf", "not an age"),
        ("-3", "not an age"),
        ("1e1", "not an age"),
        ("1_0", "not an age"),
        ("\u0663", "not an age"),
        ("(25, 32", "not an age"),
        ("25-32-40", "not an age"),
        ("32,75", "may be 32.75 years or 32-75"),
        ("60,5", "may be 60.5 years or 60-5"),
        ("121", "above 120"),
        ("120.5", "above 120"),
        ("60-130", "above 120"),
        ("(25, 23)", "ends before"),
        ("117+", "ends before"),
        ("03-Sep", "spreadsheet"),
        ("Oct-19", "spreadsheet"),
        ("9" * 5000, "not an age"),
    ],
)
def test_what_is_no_age_says_why(text: str, said: str) -> None:
    assert said in _reason(parse_age_label(text))
    assert len(_reason(parse_age_label(text))) < 300


def test_long_text_is_shortened_for_messages() -> None:
    assert shown("abc") == "'abc'"
    assert len(shown("x" * 10_000)) == 82
