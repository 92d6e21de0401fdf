"""Parsed JSON and TOML to frozen dataclasses, whose annotations say what each field must be.

What does not fit is one sentence with its place: "estimators[0].name: expected text, got 3".  A
field with a default may be missing.

`read_record` is for results, whose fields say what range they are of.  It leaves fields alone that
the dataclass does not have, as a later version may have added them, and keeps values as they are: a
whole number stays one where any number would do.  `read_dataclass` is for what people write and for
the specs of models: it refuses unknown keys, and a number of a field that is a float becomes one.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
    cast,
    get_args,
    get_origin,
)

from agebench.errors import inert, suggestion
from agebench.types import MAX_AGE_YEARS

_Record = TypeVar("_Record")

Decode: TypeAlias = Callable[[Any], Any]
"""From parsed JSON to a value; raises `StructureError` for what does not fit."""

KEY = "key"
"""Metadata of a field that is called otherwise in files."""

_LONGEST_SHOWN = 40


class StructureError(ValueError):
    """A value is not what was expected.

    Attributes:
        expected: what it should have been, in words.
        got: the value.
        place: where in the file, innermost first.
        told: what stands behind the place, where that is another sentence.
    """

    def __init__(self, expected: str, got: object, told: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.got = got
        self.place: list[str] = []
        self.told = told

    def __str__(self) -> str:
        where = "".join(reversed(self.place)).lstrip(".")
        if self.told:
            return f"{where}{self.told}" if where else self.told.removeprefix(": ")
        return f"{where or 'the whole'}: expected {self.expected}, got {_shown(self.got)}"


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


def read_dataclass(values: Mapping[str, Any], table: type[_Record]) -> _Record:
    """Turn parsed TOML or JSON into the dataclass `table`, of which every key is known.

    Fields are as in `read_record`, and may be plain int and float, and unions of several types.
    None is never written, it is left out.

    Raises:
        StructureError: a key is unknown or missing, or a value does not fit; names the key path.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Table:
    ...     size: int | tuple[int, int] = 3
    >>> read_dataclass({"size": [3, 4]}, Table)
    Table(size=(3, 4))
    >>> read_dataclass({"siz": 3}, Table)
    Traceback (most recent call last):
        ...
    agebench.util.typed_records.StructureError: siz: unknown key: did you mean 'size'?
    """
    record: _Record = _made(cast("Any", table), strict=True)(values)
    return record


def require(condition: object, message: str) -> None:
    """Refuse a table whose values do not go together; `read_dataclass` says which table it is.

    Raises:
        ValueError: the condition does not hold.
    """
    if not condition:
        raise ValueError(message)


def decoder(hint: Any) -> Decode:
    """Return what reads values of a type; made once for each.

    Raises:
        TypeError: no such values are read.
    """
    return _made(hint)


@cache
def _made(hint: Any, *, strict: bool = False) -> Decode:
    """What reads values of a type; `strict` as `read_dataclass` does."""
    if dataclasses.is_dataclass(hint):
        return _record(cast("type[Any]", hint), strict)
    if typing.is_typeddict(hint):
        return _left_as_it_is(hint)
    origin, parts = get_origin(hint), get_args(hint)
    made: Mapping[Any, Callable[[], Decode]] = {
        Union: lambda: _either(hint) if strict else _maybe(_made(_not_none(hint))),
        UnionType: lambda: _either(hint) if strict else _maybe(_made(_not_none(hint))),
        Annotated: lambda: _annotated(parts[0], parts[1]),
        Literal: lambda: _choice(parts) if strict else one_of(parts),
        tuple: lambda: _listed(hint, None, strict),
        Mapping: lambda: _mapping(_made(parts[1], strict=strict), strict),
    }
    if origin in made:
        return made[origin]()
    if strict and hint in (int, float):
        return _bare_whole if hint is int else _bare_number
    if hint not in _PLAIN:
        raise TypeError(f"no values of {hint} are read: annotate it with what it must be")
    return _PLAIN[hint]


def _not_none(hint: Any) -> Any:
    """The one type that stands beside None in a union; a type that is not a union as it is."""
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


def _bare_whole(value: Any) -> int:
    if type(value) is not int:  # not isinstance: true is not a whole number
        raise StructureError("a whole number", value)
    return value


def _bare_number(value: Any) -> float:
    if type(value) in (int, float):
        with suppress(OverflowError):
            if math.isfinite(number := float(value)):
                return number
    raise StructureError("a finite number", value)


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
    kinds = set(map(type, values))

    def read(value: Any) -> Any:
        # 1 and 1.0 are true in Python, but not in a file.
        same = not isinstance(value, (dict, list)) and value in values
        if not (same and type(value) in kinds):
            raise StructureError(f"one of {', '.join(map(str, values))}", value)
        return value

    return read


def _choice(values: Sequence[object]) -> Decode:
    read_one = one_of(values)

    def read(value: Any) -> Any:
        try:
            return read_one(value)
        except StructureError as error:
            if isinstance(value, str):
                hint = suggestion(value, list(map(str, values)))
                error.told = f": unknown value: got {value!r:.40}, {hint}"
            raise

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


def _either(hint: Any) -> Decode:
    """Of several types; the value's own is tried first: a whole number stays one beside a float."""
    kinds = [part for part in get_args(hint) if part is not NoneType]
    inner = {kind: _made(kind, strict=True) for kind in kinds}

    def read(value: Any) -> Any:
        expected: list[str] = []
        for kind in sorted(kinds, key=lambda kind: kind is not type(value)):
            try:
                return inner[kind](value)
            except StructureError as error:
                if error.place or error.told:
                    raise
                expected.append(error.expected)
        raise StructureError(" or ".join(dict.fromkeys(expected)), value)

    return read


def _listed(kind: Any, most: int | None, strict: bool = False) -> Decode:
    parts = get_args(kind)
    length = len(parts) if get_origin(kind) is tuple and parts[-1] is not Ellipsis else None
    inner = _made(parts[0], strict=strict)
    what = "a list" if length is None else f"a list of {length}"
    what += "" if most is None else f" of at most {most:,}"
    what += f", each {_words(inner)}" if strict else ""

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


def _mapping(inner: Decode, strict: bool) -> Decode:
    def read(value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise StructureError("an object", value)
        found = {}
        for name, item in value.items():
            try:
                found[name] = inner(item)
            except StructureError as error:
                error.place.append(f".{inert(name) if strict else _shown(name)}")
                raise
        return found

    return read


def _record(kind: type[Any], strict: bool) -> Decode:
    hints = typing.get_type_hints(kind, include_extras=True)
    parts, required = [], []
    for field in dataclasses.fields(kind):
        whole, key = hints[field.name], field.metadata.get(KEY, field.name)
        inner = _made(whole if strict else _not_none(whole), strict=strict)
        parts.append((field.name, key, inner, not strict and _not_none(whole) != whole))
        if field.default is field.default_factory is dataclasses.MISSING:
            required.append(key)
    read_fields = _fields(parts, [] if strict else required)
    readers = {key: inner for _, key, inner, _ in parts}

    def read(value: Any) -> Any:
        if strict:
            _require_keys(value, readers, required)
        found = read_fields(value)
        try:
            return kind(**found)
        except ValueError as error:
            told = f": {error}" if strict else ""
            raise StructureError(str(error), value, told) from error

    return read


def _words(decode: Decode) -> str:
    """What values of a type are called, which is told by what refuses all."""
    try:
        decode(object())
    except StructureError as error:
        return error.expected
    return "any value"


def _require_keys(value: Any, known: Mapping[str, Decode], required: Sequence[str]) -> None:
    """Refuse a table with a key that is not known, or without one that must be there."""
    if not isinstance(value, dict):
        raise StructureError("a table", value)
    for key in value:
        if key not in known:
            # A key is whatever stands in a stranger's file.
            unknown = StructureError("", value, f": unknown key: {suggestion(key, known)}")
            unknown.place.append(f".{inert(key)}")
            raise unknown
    for name in required:
        if name not in value:
            missing = StructureError("", value, f" is missing: expected {_words(known[name])}")
            missing.place.append(f".{name}")
            raise missing


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
