"""Parsed JSON to frozen dataclasses, whose annotations say what each field must be.

What does not fit is one sentence with its place: "estimators[0].name: expected text, got 3".  A
field with a default may be missing: files of before it was added do not have it.  Fields that the
dataclass does not have are left alone.

The values themselves are kept as they are: a whole number stays one where any number would do.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from agebench.errors import inert
from agebench.types import MAX_AGE_YEARS

_Record = TypeVar("_Record")

Decode: TypeAlias = Callable[[Any], Any]
"""From parsed JSON to a value; raises `StructureError` for what does not fit."""

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


@dataclasses.dataclass(frozen=True, slots=True)
class Between:
    """What a number must lie between, ends included."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True, slots=True)
class Filled:
    """Text that is not empty."""


@dataclasses.dataclass(frozen=True, slots=True)
class AtMost:
    """How many items a list may have: a file with more is made to fill a reader's memory."""

    items: int


@dataclasses.dataclass(frozen=True, slots=True)
class By:
    """Is read by a function of its own, which raises `StructureError` or `ValueError`."""

    decode: Decode


Text: TypeAlias = Annotated[str, Filled()]
Count: TypeAlias = Annotated[int, Between(0, 10**12)]
FromOne: TypeAlias = Annotated[int, Between(1, 10**12)]
Number: TypeAlias = Annotated[float, Between(-1e12, 1e12)]
Positive: TypeAlias = Annotated[float, Between(0, 1e12)]
Milliseconds: TypeAlias = Positive
Years: TypeAlias = Annotated[float, Between(0, MAX_AGE_YEARS)]
SignedYears: TypeAlias = Annotated[float, Between(-MAX_AGE_YEARS, MAX_AGE_YEARS)]
Share: TypeAlias = Annotated[float, Between(0, 1)]


def read_record(value: Any, kind: type[_Record]) -> _Record:
    """Turn parsed JSON into the dataclass `kind`.

    Fields may be str, bool, int, float, Any, Literal, tuple, mappings from names, dataclasses, one
    of these or None, and any of them annotated with `Between`, `Filled`, `AtMost` or `By`.  A
    TypedDict is checked and left as it is: for records of which there are very many.

    Raises:
        StructureError: it is not such a record; says where, what was expected and what was got.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Face:
    ...     name: Text
    ...     ages: tuple[Years, ...] = ()
    >>> read_record({"name": "a", "ages": [3, 4.5]}, Face)
    Face(name='a', ages=(3, 4.5))
    >>> read_record({"name": "a", "ages": [3, -4.5]}, Face)
    Traceback (most recent call last):
        ...
    agebench.util.typed_records.StructureError: ages[1]: expected a number from 0 to 120, got -4.5
    """
    record: _Record = decoder(kind)(value)
    return record


def decoder(hint: Any) -> Decode:
    """Return what reads values of a type; made once for each.

    Raises:
        TypeError: no such values are read.
    """
    return _made(hint)


@cache
def _made(hint: Any) -> Decode:
    if dataclasses.is_dataclass(hint):
        return _record(typing.cast("type[Any]", hint))
    if typing.is_typeddict(hint):
        return _left_as_it_is(hint)
    origin, parts = get_origin(hint), get_args(hint)
    made: Mapping[Any, Callable[[], Decode]] = {
        Union: lambda: _maybe(_made(_not_none(hint))),
        UnionType: lambda: _maybe(_made(_not_none(hint))),
        Annotated: lambda: _annotated(parts[0], parts[1]),
        Literal: lambda: one_of(parts),
        tuple: lambda: _listed(hint, None),
        Mapping: lambda: _mapping(_made(parts[1])),
    }
    if origin in made:
        return made[origin]()
    if hint not in _PLAIN:
        raise TypeError(f"no values of {hint} are read: annotate it with what it must be")
    return _PLAIN[hint]


def _not_none(hint: Any) -> Any:
    """The one type that stands beside None in a union; a type that is no union as it is."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    (inner,) = (part for part in get_args(hint) if part is not NoneType)
    return inner


def _annotated(kind: Any, rule: Any) -> Decode:
    if isinstance(rule, By):
        return _by(rule.decode)
    if isinstance(rule, Between):
        return _whole(rule) if kind is int else _number(rule)
    if isinstance(rule, AtMost):
        return _listed(kind, rule.items)
    return _filled


def _anything(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise StructureError("text", value)
    return value


def _filled(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise StructureError("text", value)
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise StructureError("true or false", value)
    return value


def _by(decode: Decode) -> Decode:
    def read(value: Any) -> Any:
        try:
            return decode(value)
        except StructureError:
            raise
        except ValueError as error:
            raise StructureError(str(error), value) from error

    return read


def _number(rule: Between) -> Decode:
    low, high = rule.low, rule.high

    def read(value: Any) -> Any:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        # A whole number may be too large to become a float: it is compared, not converted.
        if not (good and low <= value <= high):
            raise StructureError(f"a number from {low:g} to {high:g}", value)
        return value

    return read


def _whole(rule: Between) -> Decode:
    low, high = rule.low, rule.high

    def read(value: Any) -> Any:
        good = isinstance(value, int) and not isinstance(value, bool)
        if not (good and low <= value <= high):
            raise StructureError(f"a whole number from {low} to {high:g}", value)
        return value

    return read


def one_of(values: Sequence[object]) -> Decode:
    """Return what reads one of a few values."""

    def read(value: Any) -> Any:
        if isinstance(value, (dict, list)) or value not in values:
            raise StructureError(f"one of {', '.join(map(str, values))}", value)
        return value

    return read


def keyed(names: Mapping[Any, str], hint: Any) -> Decode:
    """Return what reads an object of certain fields, all of one type, to a mapping.

    Args:
        names: of the fields, by the key that each has in the mapping.
        hint: their type.
    """
    inner, nullable = decoder(_not_none(hint)), hint != _not_none(hint)
    parts = [(key, name, inner, nullable) for key, name in names.items()]
    return _fields(parts, list(names.values()))


def require_fields(
    value: Mapping[str, Any], names: Sequence[str], not_null: Sequence[str] = ()
) -> None:
    """Refuse an object without some fields: for what is needed only where another field says so.

    Args:
        value: the object.
        names: fields that must be there.
        not_null: those of them, objects, that may not be null.

    Raises:
        StructureError: one is not there, or is null.
    """
    for name in names:
        if name not in value:
            raise StructureError(f"an object with the field {name!r}", value)
    for name in not_null:
        if value[name] is None:
            error = StructureError("an object", None)
            error.place.append(f".{name}")
            raise error


def _maybe(inner: Decode) -> Decode:
    return lambda value: None if value is None else inner(value)


def _listed(kind: Any, most: int | None) -> Decode:
    parts = get_args(kind)
    length = len(parts) if get_origin(kind) is tuple and parts[-1] is not Ellipsis else None
    inner = _made(parts[0])
    what = "a list" if length is None else f"a list of {length}"
    what += "" if most is None else f" of at most {most:,}"

    def read(value: Any) -> tuple[Any, ...]:
        wrong = not isinstance(value, list) or (length is not None and len(value) != length)
        if wrong or (most is not None and len(value) > most):
            raise StructureError(what, value)
        found: list[Any] = []
        try:
            for item in value:
                found.append(inner(item))  # noqa: PERF401 - the place is told by what was read
        except StructureError as error:
            error.place.append(f"[{len(found)}]")
            raise
        return tuple(found)

    return read


def _mapping(inner: Decode) -> Decode:
    def read(value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise StructureError("an object", value)
        found = {}
        for name, item in value.items():
            try:
                found[name] = inner(item)
            except StructureError as error:
                error.place.append(f".{_shown(name)}")
                raise
        return found

    return read


def _record(kind: type[Any]) -> Decode:
    hints = typing.get_type_hints(kind, include_extras=True)
    parts, required = [], []
    for field in dataclasses.fields(kind):
        hint = _not_none(hints[field.name])
        parts.append((field.name, field.name, _made(hint), hint != hints[field.name]))
        if field.default is field.default_factory is dataclasses.MISSING:
            required.append(field.name)
    read_fields = _fields(parts, required)

    def read(value: Any) -> Any:
        found = read_fields(value)
        try:
            return kind(**found)
        except ValueError as error:
            raise StructureError(str(error), value) from error

    return read


def _left_as_it_is(kind: Any) -> Decode:
    hints = typing.get_type_hints(kind, include_extras=True)
    may_miss = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    parts = []
    for name, said in hints.items():
        whole = get_args(said)[0] if name in may_miss else said
        hint = _not_none(whole)
        parts.append((name, name, _made(hint), hint != whole))
    check = _fields(parts, [name for name in hints if name not in may_miss])

    def read(value: Any) -> Any:
        check(value)
        return value

    return read


def _fields(
    parts: Sequence[tuple[Any, str, Decode, bool]], required: Sequence[str]
) -> Callable[[Any], dict[Any, Any]]:
    """Return what reads an object's fields.

    Args:
        parts: of each its key in the answer, its name, how it is read, and whether it may be null.
        required: names of those that must be there.
    """

    def read(value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise StructureError("an object", value)
        require_fields(value, required)
        found = {}
        name = ""
        try:
            for key, name, inner, nullable in parts:
                if name in value:
                    item = value[name]
                    found[key] = None if item is None and nullable else inner(item)
        except StructureError as error:
            error.place.append(f".{name}")
            raise
        return found

    return read


_PLAIN: Mapping[Any, Decode] = {Any: _anything, bool: _flag, str: _text}
