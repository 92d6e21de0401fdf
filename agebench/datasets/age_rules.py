"""Expressions for the age from fields of a file name or a table's row.

>>> AgeRule.of({"birth", "photo"}, age="photo-birth").label({"birth": "1969", "photo": "2010"})
AgeLabel(age_years=41.0, age_range=None)
"""

from __future__ import annotations

import ast
import datetime as dt
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from agebench.datasets.names import OPEN_RANGE_TOP_YEARS, AgeLabel, parse_age_label, shown
from agebench.errors import UsageError, suggestion
from agebench.types import MAX_AGE_YEARS, Problem

MID_YEAR = 0.5
"""A year without a day is replaced by its middle, as in the age of IMDB-WIKI's authors (Rothe et
al. 2018), who assume that photographs were taken on the first of July."""

_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_MAX_LETTERS = 200
_DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
_PLAIN = re.compile(r"[+-]?[0-9]{1,9}(?:\.[0-9]{1,20})?")


@dataclass(frozen=True)
class Sum:
    """An expression of fields and numbers with ``+ - * /`` and brackets.

    Attributes:
        text: as written.
        fields: the fields that it needs.
    """

    text: str
    fields: frozenset[str]
    tree: ast.expr

    def value(self, fields: Mapping[str, str], kinds: Mapping[str, str]) -> float:
        """Return its value; in completed years if dates or years are involved.

        Raises:
            ValueError: a field is missing or is not a number; the message names it.
        """
        numbers = {name: _number(name, fields.get(name), kinds.get(name)) for name in self.fields}
        try:
            value = _evaluate(self.tree, numbers)
        except (ZeroDivisionError, OverflowError):
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{self.text} gives no number")
        dated = any(kinds.get(name) in ("date", "year") for name in self.fields)
        return float(math.floor(value)) if dated else value


def parse_sum(text: str, known: Collection[str], option: str) -> Sum:
    """Parse an expression such as ``photo-birth``.

    Args:
        text: the expression.
        known: names of the existing fields.
        option: its name, for errors.

    Raises:
        UsageError: it is invalid, or contains an unknown field.
    """
    expected = f"option {option}={text!r}: expected a field, or a sum such as photo-birth"
    if text and text in known:  # a header such as "real-age" is not an expression
        return Sum(text, frozenset({text}), ast.Name(text, ast.Load()))
    try:
        tree = ast.parse(text.strip()[: _MAX_LETTERS + 1], mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(expected) from error
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif not _is_allowed(node):
            raise UsageError(expected)
    if len(text.strip()) > _MAX_LETTERS or not names:
        raise UsageError(expected)
    unknown = sorted(names - set(known))
    if unknown:
        hint = suggestion(unknown[0], (name for name in known if name))
        raise UsageError(f"option {option}={text!r}: no {unknown[0]!r}: {hint}")
    return Sum(text, frozenset(names), tree)


def _is_allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return type(node.op) in _OPERATORS
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub)
    return isinstance(node, (*_OPERATORS, ast.USub, ast.Load))


def _evaluate(node: ast.expr, numbers: Mapping[str, float]) -> float:
    if isinstance(node, ast.Name):
        return numbers[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return float(node.value)
    if isinstance(node, ast.UnaryOp):
        return -_evaluate(node.operand, numbers)
    if isinstance(node, ast.BinOp):
        first, second = _evaluate(node.left, numbers), _evaluate(node.right, numbers)
        return _OPERATORS[type(node.op)](first, second)
    raise AssertionError(f"parse_sum let {node} through")


def _number(name: str, text: str | None, kind: str | None) -> float:
    if text is None:
        raise ValueError(f"no {name}")
    if kind == "date":
        return date_in_years(name, text)
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"{name} {shown(text)} is not a number")
    return float(text) + (MID_YEAR if kind == "year" else 0.0)


def date_in_years(name: str, text: str) -> float:
    """Return a date such as 1955-1-6 as a year and the fraction of it that had passed.

    Raises:
        ValueError: the day does not exist.
    """
    match = _DATE.fullmatch(text)
    try:
        day = dt.date(*map(int, match.groups())) if match else None
    except ValueError:
        day = None
    if day is None:
        raise ValueError(f"{name} {shown(text)} is not a date such as 1955-01-06")
    return year_of(day)


def year_of(day: dt.date) -> float:
    """Return a day as its year and the fraction of it that had passed.

    >>> year_of(dt.date(2001, 1, 1)), round(year_of(dt.date(2001, 7, 2)), 3)
    (2001.0, 2001.499)
    """
    first = dt.date(day.year, 1, 1)
    return day.year + (day - first).days / ((dt.date(day.year, 12, 31) - first).days + 1)


@dataclass(frozen=True)
class AgeRule:
    """The expressions of the age: one number, or a range from `low` to `high`, inclusive.

    One end of a range may be missing: it then starts at 0, or ends at
    `names.OPEN_RANGE_TOP_YEARS`.
    """

    age: Sum | None = None
    low: Sum | None = None
    high: Sum | None = None

    @staticmethod
    def of(
        known: Collection[str],
        *,
        age: str | None = None,
        low: str | None = None,
        high: str | None = None,
    ) -> AgeRule:
        """Parse the options `age`, `low` and `high`; without any, fields with those names are used.

        Raises:
            UsageError: an expression is invalid, both an age and an end of a range are given, or
                neither is and there are no such fields.
        """
        texts = {"age": age, "low": low, "high": high}
        if all(text is None for text in texts.values()):
            names: tuple[Literal["age", "low", "high"], ...] = ("age", "low", "high")
            texts |= {name: name for name in names if name in known}
            if texts["age"] is not None:
                texts |= {"low": None, "high": None}
        if all(text is None for text in texts.values()):
            fields = ", ".join(sorted(filter(None, known))) or "none"
            raise UsageError(
                f"the age can't be located: expected a field 'age' or the option age=..., "
                f"such as age=photo-birth; fields: {fields}"
            )
        if texts["age"] is not None and (low is not None or high is not None):
            raise UsageError("age=... excludes low=... and high=...: give an age or a range")
        sums = {
            option: None if text is None else parse_sum(text, known, option)
            for option, text in texts.items()
        }
        return AgeRule(**sums)

    @property
    def fields(self) -> frozenset[str]:
        """All required fields."""
        sums = (self.age, self.low, self.high)
        return frozenset().union(*(each.fields for each in sums if each is not None))

    def label(
        self, fields: Mapping[str, str], kinds: Mapping[str, str] | None = None
    ) -> AgeLabel | Problem:
        """Return the age from `fields`, or the reason why there is none.

        Args:
            fields: the texts by name.
            kinds: which of them are dates ("date") or years ("year").
        """
        kinds = kinds or {}
        try:
            if self.age is not None:
                return self._single(self.age, fields, kinds)
            low = 0.0 if self.low is None else self.low.value(fields, kinds)
            top = float(OPEN_RANGE_TOP_YEARS)
            high = top if self.high is None else self.high.value(fields, kinds)
        except ValueError as error:
            return Problem("", str(error))
        return _range(low, high)

    def _single(
        self, age: Sum, fields: Mapping[str, str], kinds: Mapping[str, str]
    ) -> AgeLabel | Problem:
        if isinstance(age.tree, ast.Name) and age.tree.id not in kinds:
            # A field alone may be a range, too: "20-29", "60+".
            return parse_age_label(fields.get(age.tree.id, ""))
        years = age.value(fields, kinds)
        if not 0.0 <= years <= MAX_AGE_YEARS:
            return Problem("", f"{age.text} gives {years:g} years: expected 0 to {MAX_AGE_YEARS:g}")
        return AgeLabel(age_years=years)


def _range(low: float, high: float) -> AgeLabel | Problem:
    ends = math.floor(low), math.floor(high)
    if not 0 <= ends[0] <= ends[1] <= MAX_AGE_YEARS:
        expected = f"expected ascending ends from 0 to {MAX_AGE_YEARS:g}"
        return Problem("", f"an age range from {low:g} to {high:g}: {expected}")
    if ends[0] == ends[1]:
        return AgeLabel(age_years=float(ends[0]))
    return AgeLabel(age_range=ends)
