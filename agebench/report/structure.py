"""Whether JSON has the structure that is read from it: small checks that are put together.

The JSON Schema beside the harness is stricter and belongs to the tests; this is what a reader
needs in order not to stumble over a file that somebody else wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from agebench.errors import inert

Check: TypeAlias = Callable[[Any], None]
"""Raises `StructureError` for a value that is not as it has to be."""

_LONGEST_SHOWN = 40


class StructureError(ValueError):
    """A value is not what was expected.

    Attributes:
        expected: what it should have been, in words.
        got: the value.
        place: where in the file, innermost first.
    """

    def __init__(self, expected: str, got: object) -> None:
        super().__init__(expected)
        self.expected = expected
        self.got = got
        self.place: list[str] = []

    def __str__(self) -> str:
        where = "".join(reversed(self.place)).lstrip(".") or "the whole"
        return f"{where}: expected {self.expected}, got {_shown(self.got)}"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        fields = inert(", ".join(map(str, list(value)[:4])))
        return f"an object with {fields[:_LONGEST_SHOWN]}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**_LONGEST_SHOWN:
        return "an enormous number"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def text(value: Any) -> None:
    """Accept text."""
    if not isinstance(value, str):
        raise StructureError("text", value)


def filled(value: Any) -> None:
    """Accept text that is not empty."""
    if not isinstance(value, str) or not value:
        raise StructureError("text", value)


def flag(value: Any) -> None:
    """Accept true and false."""
    if not isinstance(value, bool):
        raise StructureError("true or false", value)


def anything(_value: Any) -> None:
    """Accept everything: it is shown, if at all, as it is."""


def number(low: float = -1e12, high: float = 1e12) -> Check:
    """Accept finite numbers from `low` to `high`."""

    def check(value: Any) -> None:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        # A whole number may be too large to become a float: it is compared, not converted.
        if not (good and low <= value <= high):
            expected = f"a number from {low:g} to {high:g}"
            raise StructureError(expected, value)

    return check


def whole(low: int = 0, high: int = 10**12) -> Check:
    """Accept whole numbers from `low` to `high`."""

    def check(value: Any) -> None:
        good = isinstance(value, int) and not isinstance(value, bool)
        if not (good and low <= value <= high):
            raise StructureError(f"a whole number from {low} to {high:g}", value)

    return check


def one_of(values: Collection[object]) -> Check:
    """Accept what equals one of `values`."""

    def check(value: Any) -> None:
        if isinstance(value, (dict, list)) or value not in values:
            raise StructureError(f"one of {', '.join(map(str, values))}", value)

    return check


def maybe(inner: Check) -> Check:
    """Accept null and what `inner` accepts."""

    def check(value: Any) -> None:
        if value is not None:
            inner(value)

    return check


def listed(inner: Check, length: int | None = None, most: int | None = None) -> Check:
    """Accept lists of what `inner` accepts: of any length, of exactly `length`, or up to `most`."""
    what = "a list" if length is None else f"a list of {length}"
    what += "" if most is None else f" of at most {most:,}"

    def check(value: Any) -> None:
        wrong = not isinstance(value, list) or (length is not None and len(value) != length)
        if wrong or (most is not None and len(value) > most):
            raise StructureError(what, value)
        at = -1
        try:
            for at, item in enumerate(value):  # noqa: B007 - the place is used below
                inner(item)
        except StructureError as error:
            error.place.append(f"[{at}]")
            raise

    return check


def mapping(inner: Check) -> Check:
    """Accept objects whose values `inner` accepts, whatever their names."""

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise StructureError("an object", value)
        for key, item in value.items():
            try:
                inner(item)
            except StructureError as error:
                error.place.append(f".{_shown(key)}")
                raise

    return check


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Accept objects with these fields; fields that are not named are left alone."""
    checks = {**required, **(optional or {})}

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise StructureError("an object", value)
        for name in required:
            if name not in value:
                raise StructureError(f"an object with the field {name!r}", value)
        for name, inner in checks.items():
            if name in value:
                try:
                    inner(value[name])
                except StructureError as error:
                    error.place.append(f".{name}")
                    raise

    return check
