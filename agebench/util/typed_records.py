"""Converts parsed JSON and TOML to frozen dataclasses, and checks them against the annotations.

Errors are one sentence with the place: "estimators[0].name: expected text, got 3".  Fields with a
default may be missing.

`read_record` is for results, whose annotations give ranges.  It ignores unknown fields, which a
later version may have added, and does not convert values: an int remains an int in a field for any
number.  `read_dataclass` is for files written by people and for the specs of models: it refuses
unknown keys and converts int to float where the field is a float.
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
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

from agebench.errors import inert, suggestion
from agebench.util.record_fields import (
    KEY,
    AtMost,
    Between,
    By,
    Decode,
    StructureError,
    anything,
    bare_number,
    bare_whole,
    choice,
    filled_text,
    flag,
    number_within,
    one_of,
    read_by,
    shown,
    text,
    whole_within,
)

_Record = TypeVar("_Record")


def read_record(value: Any, kind: type[_Record]) -> _Record:
    """Turn parsed JSON into the dataclass `kind`.

    Fields may be str, bool, Any, Literal, tuple, mappings from names, dataclasses, each of these
    or None, and types annotated with `Between`, `Filled`, `AtMost` or `By`, as int and float must
    be.  A TypedDict is checked and not converted, which is faster if there are very many.

    Raises:
        StructureError: it is not such a record; says where, what was expected and what was got.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Face:
    ...     name: str
    ...     ages: tuple[Annotated[float, Between(0, 120)], ...] = ()
    >>> read_record({"name": "a", "ages": [3, 4.5]}, Face)
    Face(name='a', ages=(3, 4.5))
    >>> read_record({"name": "a", "ages": [3, -4.5]}, Face)
    Traceback (most recent call last):
        ...
    agebench.util.record_fields.StructureError: ages[1]: expected a number from 0 to 120, got -4.5
    """
    record: _Record = decoder(cast("Any", kind))(value)
    return record


def read_dataclass(values: Mapping[str, Any], table: type[_Record]) -> _Record:
    """Turn parsed TOML or JSON into the dataclass `table`; unknown keys are refused.

    Fields are as for `read_record`, or plain int and float, or unions of several types.  A field
    that is None is left out of the file.

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
    agebench.util.record_fields.StructureError: siz: unknown key: did you mean 'size'?
    """
    record: _Record = decoder(cast("Any", table), strict=True)(values)
    return record


def require(condition: object, message: str) -> None:
    """Refuse a table with inconsistent values; `read_dataclass` adds which table it is.

    Raises:
        ValueError: the condition does not hold.
    """
    if not condition:
        raise ValueError(message)


@cache
def decoder(hint: Any, *, strict: bool = False) -> Decode:
    """Return the function that reads values of a type; `strict` as in `read_dataclass`.

    Raises:
        TypeError: values of this type can't be read.
    """
    if dataclasses.is_dataclass(hint):
        return _record(cast("type[Any]", hint), strict)
    if typing.is_typeddict(hint):
        return _typed_dict(hint)
    origin, parts = get_origin(hint), get_args(hint)
    origin = Union if origin is UnionType else origin
    makers: Mapping[Any, Callable[[], Decode]] = {
        Union: lambda: _union(hint) if strict else _optional(decoder(_not_none(hint))),
        Annotated: lambda: _annotated(parts[0], parts[1]),
        Literal: lambda: choice(parts) if strict else one_of(parts),
        tuple: lambda: _tuple(hint, None, strict),
        Mapping: lambda: _mapping(decoder(parts[1], strict=strict), strict),
    }
    if origin in makers:
        return makers[origin]()
    if strict and hint in (int, float):
        return bare_whole if hint is int else bare_number
    if hint not in _PLAIN:
        raise TypeError(f"values of {hint} can't be read: annotate it with their range")
    return _PLAIN[hint]


def _not_none(hint: Any) -> Any:
    """The type other than None in a union; `hint` itself if it is not a union."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    (inner,) = (part for part in get_args(hint) if part is not NoneType)
    return inner


def _annotated(kind: Any, rule: Any) -> Decode:
    if isinstance(rule, By):
        return read_by(rule.decode)
    if isinstance(rule, Between):
        return whole_within(rule) if kind is int else number_within(rule)
    if isinstance(rule, AtMost):
        return _tuple(kind, rule.items)
    return filled_text


def keyed(names: Mapping[Any, str], hint: Any) -> Decode:
    """Return the function that reads an object's fields, all of one type, as a mapping.

    Args:
        names: of the fields, by the key of each in the mapping.
        hint: their type.
    """
    inner, nullable = decoder(_not_none(hint)), hint != _not_none(hint)
    parts = [(key, name, inner, nullable) for key, name in names.items()]
    return _fields(parts, list(names.values()))


def require_fields(
    value: Mapping[str, Any], names: Sequence[str], not_null: Sequence[str] = ()
) -> None:
    """Refuse an object without certain fields; for fields that another field makes necessary.

    Args:
        value: the object.
        names: the required fields.
        not_null: those of them, with objects, that must not be null.

    Raises:
        StructureError: one is missing or null.
    """
    for name in names:
        if name not in value:
            raise StructureError(f"an object with the field {name!r}", value)
    for name in not_null:
        if value[name] is None:
            error = StructureError("an object", None)
            error.place.append(f".{name}")
            raise error


def _optional(inner: Decode) -> Decode:
    return lambda value: None if value is None else inner(value)


def _union(hint: Any) -> Decode:
    """Read one of several types; the value's own is tried first, so that int is not made float."""
    kinds = [part for part in get_args(hint) if part is not NoneType]
    inner = {kind: decoder(kind, strict=True) for kind in kinds}

    def read(value: Any) -> Any:
        expected: list[str] = []
        for kind in sorted(kinds, key=lambda kind: kind is not type(value)):
            try:
                return inner[kind](value)
            except StructureError as error:
                if error.place or error.message:
                    raise
                expected.append(error.expected)
        raise StructureError(" or ".join(dict.fromkeys(expected)), value)

    return read


def _tuple(kind: Any, most: int | None, strict: bool = False) -> Decode:
    parts = get_args(kind)
    length = len(parts) if get_origin(kind) is tuple and parts[-1] is not Ellipsis else None
    inner = decoder(parts[0], strict=strict)
    what = "a list" if length is None else f"a list of {length}"
    what += "" if most is None else f" of at most {most:,}"
    what += f", each {_expected_by(inner)}" if strict else ""

    def read(value: Any) -> tuple[Any, ...]:
        wrong = not isinstance(value, list) or (length is not None and len(value) != length)
        if wrong or (most is not None and len(value) > most):
            raise StructureError(what, value)
        found: list[Any] = []
        try:
            for item in value:
                found.append(inner(item))  # noqa: PERF401 - an error needs the number of items read
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
                error.place.append(f".{inert(name) if strict else shown(name)}")
                raise
        return found

    return read


def _record(kind: type[Any], strict: bool) -> Decode:
    hints = typing.get_type_hints(kind, include_extras=True)
    parts, required = [], []
    for field in dataclasses.fields(kind):
        whole, key = hints[field.name], field.metadata.get(KEY, field.name)
        inner = decoder(whole if strict else _not_none(whole), strict=strict)
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
            raise StructureError(str(error), value, f": {error}") from error

    return read


def _expected_by(decode: Decode) -> str:
    """The description of the expected values, from the error for a value that never fits."""
    try:
        decode(object())
    except StructureError as error:
        return error.expected
    return "any value"


def _require_keys(value: Any, known: Mapping[str, Decode], required: Sequence[str]) -> None:
    """Refuse a table with an unknown key, or without a required one."""
    if not isinstance(value, dict):
        raise StructureError("a table", value)
    for key in value:
        if key not in known:
            unknown = StructureError("", value, f": unknown key: {suggestion(key, known)}")
            unknown.place.append(f".{inert(key)}")
            raise unknown
    for name in required:
        if name not in value:
            missing = StructureError(
                "", value, f" is missing: expected {_expected_by(known[name])}"
            )
            missing.place.append(f".{name}")
            raise missing


def _typed_dict(kind: Any) -> Decode:
    """Check only, without conversion, as it runs for every picture and prediction."""
    hints = typing.get_type_hints(kind, include_extras=True)
    not_required = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    required = [name for name in hints if name not in not_required]
    needed = frozenset(required)
    parts = []
    for name, declared in hints.items():
        whole = get_args(declared)[0] if name in not_required else declared
        hint = _not_none(whole)
        parts.append((name, decoder(hint), hint != whole))

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise StructureError("an object", value)
        if not value.keys() >= needed:
            require_fields(value, required)
        name = ""
        try:
            for name, inner, nullable in parts:
                item = value.get(name)
                if item is not None:
                    inner(item)
                elif not nullable and name in value:
                    inner(None)
        except StructureError as error:
            error.place.append(f".{name}")
            raise
        return value

    return read


def _fields(
    parts: Sequence[tuple[Any, str, Decode, bool]], required: Sequence[str]
) -> Callable[[Any], dict[Any, Any]]:
    """Return the function that reads an object's fields.

    Args:
        parts: for each field its key in the result, its name, its reader and whether it may be
            null.
        required: names of those that must not be missing.
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


_PLAIN: Mapping[Any, Decode] = {Any: anything, bool: flag, str: text}
