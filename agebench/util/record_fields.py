"""The fields of typed records: ranges and units in annotations, and readers of values.

`agebench.util.typed_records` combines these into readers of records.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any, TypeAlias

from agebench.errors import inert, suggestion
from agebench.types import MAX_AGE_YEARS

Decode: TypeAlias = Callable[[Any], Any]
"""From parsed JSON to a value; raises `StructureError` for invalid ones."""

KEY = "key"
"""Metadata of a field that has another name in files."""

_LONGEST_SHOWN = 40


class StructureError(ValueError):
    """A value is not what was expected.

    Attributes:
        expected: description of the expected value.
        got: the value.
        place: in the file, innermost first.
        message: replaces the rest of the sentence after the place.
    """

    def __init__(self, expected: str, got: object, message: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.got = got
        self.place: list[str] = []
        self.message = message

    def __str__(self) -> str:
        where = "".join(reversed(self.place)).lstrip(".")
        if self.message:
            return f"{where}{self.message}" if where else self.message.removeprefix(": ")
        return f"{where or 'the top level'}: expected {self.expected}, got {shown(self.got)}"


def shown(value: object) -> str:
    """Return a value for use in a sentence: short, and without control characters."""
    if isinstance(value, dict):
        fields = inert(", ".join(map(str, list(value)[:4])))
        return f"an object with {fields[:_LONGEST_SHOWN]}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**_LONGEST_SHOWN:
        return "an enormous number"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


@dataclasses.dataclass(frozen=True, slots=True)
class Between:
    """The range of a number, ends included."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True, slots=True)
class Filled:
    """Text that is not empty."""


@dataclasses.dataclass(frozen=True, slots=True)
class AtMost:
    """Maximum length of a list: a file with more is meant to fill the reader's memory."""

    items: int


@dataclasses.dataclass(frozen=True, slots=True)
class By:
    """Read by this function, which raises `StructureError` or `ValueError`."""

    decode: Decode


Text: TypeAlias = Annotated[str, Filled()]
Count: TypeAlias = Annotated[int, Between(0, 10**12)]
FromOne: TypeAlias = Annotated[int, Between(1, 10**12)]
Number: TypeAlias = Annotated[float, Between(-1e12, 1e12)]
Positive: TypeAlias = Annotated[float, Between(0, 1e12)]
Milliseconds: TypeAlias = Positive
Years: TypeAlias = Annotated[float, Between(0, MAX_AGE_YEARS)]
SignedYears: TypeAlias = Annotated[float, Between(-MAX_AGE_YEARS, MAX_AGE_YEARS)]
Fraction: TypeAlias = Annotated[float, Between(0, 1)]


def anything(value: Any) -> Any:
    """Read any value."""
    return value


def text(value: Any) -> str:
    """Read a text."""
    if not isinstance(value, str):
        raise StructureError("text", value)
    return value


def filled_text(value: Any) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise StructureError("text", value)
    return value


def flag(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise StructureError("true or false", value)
    return value


def read_by(decode: Decode) -> Decode:
    """Return a reader that calls `decode`, whose ValueErrors say what was expected."""

    def read(value: Any) -> Any:
        try:
            return decode(value)
        except StructureError:
            raise
        except ValueError as error:
            raise StructureError(str(error), value) from error

    return read


def bare_whole(value: Any) -> int:
    """Read any whole number."""
    if type(value) is not int:  # not isinstance: true is not a whole number
        raise StructureError("a whole number", value)
    return value


def bare_number(value: Any) -> float:
    """Read any finite number; a whole one becomes a float."""
    if type(value) in (int, float):
        with suppress(OverflowError):
            if math.isfinite(number := float(value)):
                return number
    raise StructureError("a finite number", value)


def number_within(rule: Between) -> Decode:
    """Return a reader of numbers in a range."""
    low, high = rule.low, rule.high

    def read(value: Any) -> Any:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        # A whole number may be too large to become a float: it is compared, not converted.
        if not (good and low <= value <= high):
            raise StructureError(f"a number from {low:g} to {high:g}", value)
        return value

    return read


def whole_within(rule: Between) -> Decode:
    """Return a reader of whole numbers in a range."""
    low, high = rule.low, rule.high

    def read(value: Any) -> Any:
        good = isinstance(value, int) and not isinstance(value, bool)
        if not (good and low <= value <= high):
            raise StructureError(f"a whole number from {low} to {high:g}", value)
        return value

    return read


def one_of(values: Sequence[object]) -> Decode:
    """Return a reader of one of a few values."""
    kinds = set(map(type, values))

    def read(value: Any) -> Any:
        # 1 and 1.0 are true in Python, but not in a file.
        same = not isinstance(value, (dict, list)) and value in values
        if not (same and type(value) in kinds):
            raise StructureError(f"one of {', '.join(map(str, values))}", value)
        return value

    return read


def choice(values: Sequence[object]) -> Decode:
    """Return a reader of one of a few values, whose error suggests the nearest."""
    read_one = one_of(values)

    def read(value: Any) -> Any:
        try:
            return read_one(value)
        except StructureError as error:
            if isinstance(value, str):
                hint = suggestion(value, list(map(str, values)))
                error.message = f": unknown value: got {value!r:.40}, {hint}"
            raise

    return read
