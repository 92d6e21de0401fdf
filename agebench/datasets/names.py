"""Labels in file and folder names: pure functions from a name to its labels.

Parsers never raise.  They return the result, or a `Problem` with the reason why the name gives no
reliable age.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agebench.types import MAX_AGE_YEARS, Problem

UTKFACE_OLDEST_YEARS = 116
"""Highest age among the labels of UTKFace."""

FGNET_OLDEST_YEARS = 69
"""Highest age among the labels of FG-NET."""

OPEN_RANGE_TOP_YEARS = 116
"""Assumed end of a range without an upper end, such as "60+"."""

GENDERS = ("male", "female")
"""UTKFace's codes 0 and 1."""

RACES = ("White", "Black", "Asian", "Indian", "Other")
"""UTKFace's codes 0 to 4."""

# These endings are removed repeatedly: "…357jpg.chip.jpg", "…272.pg.chip.jpg".
_UTK_SUFFIX = re.compile(r"(?:\.chip|\.?(?:jpe?g|png|pg))\Z", re.IGNORECASE)
_LONGEST_UTK_SUFFIX = len(".chip")
# Normally 17 digits, also 16 and 18; then what file managers append to copies: " (1)".
_UTK_STAMP = re.compile(r"[0-9]{14,20}(?:[ (-].*)?", re.DOTALL)
_YEARS = re.compile(r"[0-9]{1,3}")
# Nearly all names, in which `_parse_unusual_utk` reads the same.
_USUAL_UTK = re.compile(r"([0-9]{1,3})_([01])_([0-4])_[0-9]{14,20}\.jpg(\.chip\.jpg)?")
_FGNET = re.compile(
    r"(?P<subject>[0-9]{3})a(?P<age>[0-9]{2})[a-z]? ?\.[a-z]{3,4}", re.IGNORECASE | re.ASCII
)
_NUMBER = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,20})?")
_RANGE = re.compile(r"\(? ?([0-9]{1,3}) ?[-\u2013,] ?([0-9]{1,3}) ?\)?")
_OPEN_RANGE = re.compile(r"([0-9]{1,3}) ?\+")
_MONTHS = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DATE = re.compile(rf"(?:[0-9]+[-. ]{_MONTHS}|{_MONTHS}[-. ][0-9]+)", re.IGNORECASE)

_PLACE = re.compile(r"#[-+.\de]+(,[-+.\de]+){3}\Z")


def without_place(name: str) -> str:
    """Return a picture's name without the labelled box that data set `csv` adds to it.

    >>> without_place("a.jpg#1,2,30,4.5"), without_place("a#1.jpg")
    ('a.jpg', 'a#1.jpg')
    """
    return _PLACE.sub("", name)


@dataclass(frozen=True, slots=True)
class UtkName:
    """The content of a UTKFace file name.

    Attributes:
        age_years: 0 to 116.
        gender: a word of `GENDERS`, or "" if missing.
        race: a word of `RACES`, or "" if missing.
        chip: it is named as an aligned chip (``.chip.jpg``).
        note: which label is missing and why; "" if the name is complete.
    """

    age_years: int
    gender: str
    race: str
    chip: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class FgnetName:
    """The content of an FG-NET file name: the subject's three digits, and the age, 0 to 69."""

    subject: str
    age_years: int


@dataclass(frozen=True, slots=True)
class AgeLabel:
    """An age from a folder's name or a table's cell: either a number or a range.

    Attributes:
        age_years: 0 to `MAX_AGE_YEARS`; None if the label is a range.
        age_range: first and last completed year; None if the label is a single age.
    """

    age_years: float | None = None
    age_range: tuple[int, int] | None = None


def shown(text: str) -> str:
    """Return `text` quoted for a message, shortened if it is long.

    >>> shown("a" * 100)[-5:]
    "aaa…'"
    """
    return repr(text if len(text) <= 80 else text[:79] + "…")


def parse_utkface(file_name: str) -> UtkName | Problem:
    """Read ``[age]_[gender]_[race]_[date and time].jpg`` or ``….jpg.chip.jpg``.

    Source of the format: https://susanqq.github.io/UTKFace/.  A dozen of the set's own names are
    malformed.  The age is first, so it is reliable unless it may be another field that moved to its
    place: a name with a missing field whose first number could be a gender (or, with two missing, a
    race) is a problem.  A gender or race that is missing or meaningless is left empty and noted; in
    a name with three fields the second is the gender.

    >>> parse_utkface("26_1_2_20170117175041574.jpg.chip.jpg")
    UtkName(age_years=26, gender='female', race='Asian', chip=True, note='')
    >>> parse_utkface("26_1_2.jpg").reason
    "expected a date and time of 14 to 20 digits as last field, got '2'"
    """
    if (usual := _USUAL_UTK.fullmatch(file_name)) and int(usual[1]) <= UTKFACE_OLDEST_YEARS:
        gender, race = GENDERS[int(usual[2])], RACES[int(usual[3])]
        return UtkName(int(usual[1]), gender, race, usual[4] is not None)
    return _parse_unusual_utk(file_name)


def _parse_unusual_utk(file_name: str) -> UtkName | Problem:
    stem, chip = _without_utk_suffixes(file_name)
    if stem == file_name:
        return Problem(file_name, "not named as a picture: expected .jpg or .jpg.chip.jpg")
    *labels, stamp = [field.strip() for field in stem.split("_")]
    if not _UTK_STAMP.fullmatch(stamp):
        reason = f"expected a date and time of 14 to 20 digits as last field, got {shown(stamp)}"
        return Problem(file_name, reason)
    if not 1 <= len(labels) <= 3:
        reason = f"expected age, gender and race before the date, got {len(labels)} fields"
        return Problem(file_name, reason)
    years = labels[0]
    if not _YEARS.fullmatch(years) or int(years) > UTKFACE_OLDEST_YEARS:
        reason = f"age {shown(years)} is not a whole number from 0 to {UTKFACE_OLDEST_YEARS}"
        return Problem(file_name, reason)
    if int(years) <= {1: len(RACES) - 1, 2: len(GENDERS) - 1, 3: -1}[len(labels)]:
        reason = f"a field is missing and {years} may be the gender or race instead of the age"
        return Problem(file_name, reason)
    gender, gender_note = _utk_code("gender", labels[1:2], GENDERS)
    race, race_note = _utk_code("race", labels[2:3], RACES)
    note = "; ".join(filter(None, (gender_note, race_note)))
    return UtkName(int(years), gender, race, chip, note)


def _without_utk_suffixes(file_name: str) -> tuple[str, bool]:
    stem, chip = file_name, False
    while match := _UTK_SUFFIX.search(stem, max(0, len(stem) - _LONGEST_UTK_SUFFIX)):
        chip = chip or match[0].lower() == ".chip"
        stem = stem[: match.start()].rstrip()
    return stem, chip


def _utk_code(label: str, fields: list[str], labels: tuple[str, ...]) -> tuple[str, str]:
    """Return the word for a code of one digit, or "" and a note."""
    field = fields[0] if fields else ""
    if not field:
        return "", f"the name gives no {label}"
    if re.fullmatch("[0-9]", field) and int(field) < len(labels):
        return labels[int(field)], ""
    return "", f"{label} {shown(field)} is none of 0 to {len(labels) - 1}"


def parse_fgnet(file_name: str) -> FgnetName | Problem:
    """Read ``001A02.JPG``: subject 001 at 2 years; a letter may follow, and case does not matter.

    >>> parse_fgnet("009a22b.jpg")
    FgnetName(subject='009', age_years=22)
    """
    match = _FGNET.fullmatch(file_name)
    if not match:
        reason = "expected a name such as 001A02.JPG (subject 001 at 2 years) or 001A43a.JPG"
        return Problem(file_name, reason)
    if int(match["age"]) > FGNET_OLDEST_YEARS:
        reason = f"age {match['age']} is above FG-NET's highest, {FGNET_OLDEST_YEARS}"
        return Problem(file_name, reason)
    return FgnetName(match["subject"], int(match["age"]))


def parse_age_label(text: str) -> AgeLabel | Problem:
    """Read an age such as "7", "007" or "7.5", or a range: "20-29", "(25, 32)" or "60+".

    A comma without brackets is refused: it may be a decimal comma or that of a range.  Both ends of
    a range are included; a range of one year, "7-7", is the age 7.  An open-ended range ends at
    `OPEN_RANGE_TOP_YEARS`.

    >>> parse_age_label("(25, 32)")
    AgeLabel(age_years=None, age_range=(25, 32))
    >>> parse_age_label("03-Sep").reason
    "'03-Sep' is a date: a spreadsheet may have changed a range of ages into it"
    """
    trimmed = " ".join(text.split())
    if _NUMBER.fullmatch(trimmed):
        return _single_age(text, float(trimmed))
    if match := _RANGE.fullmatch(trimmed):
        # A single bracket is the rest of a cell that was split at its comma.
        if "," in trimmed and not trimmed.startswith("("):
            reason = f"may be {match[1]}.{match[2]} years or {match[1]}-{match[2]}: write which"
            return Problem(text, f"{shown(text)} {reason}")
        if trimmed.startswith("(") == trimmed.endswith(")"):
            return _age_range(text, int(match[1]), int(match[2]))
    elif match := _OPEN_RANGE.fullmatch(trimmed):
        return _age_range(text, int(match[1]), OPEN_RANGE_TOP_YEARS)
    if _DATE.fullmatch(trimmed):
        reason = "is a date: a spreadsheet may have changed a range of ages into it"
        return Problem(text, f"{shown(text)} {reason}")
    reason = "is not an age: expected years such as 7, or a range such as 20-29, (25, 32) or 60+"
    return Problem(text, f"{shown(text)} {reason}")


def _single_age(text: str, years: float) -> AgeLabel | Problem:
    if years > MAX_AGE_YEARS:
        return Problem(text, f"age {shown(text)} is above {MAX_AGE_YEARS:g} years")
    return AgeLabel(age_years=years)


def _age_range(text: str, low: int, high: int) -> AgeLabel | Problem:
    if low > high:
        return Problem(text, f"age range {shown(text)} ends before it begins")
    if high > MAX_AGE_YEARS:
        return Problem(text, f"age range {shown(text)} reaches above {MAX_AGE_YEARS:g} years")
    if low == high:
        return AgeLabel(age_years=float(low))
    return AgeLabel(age_range=(low, high))
