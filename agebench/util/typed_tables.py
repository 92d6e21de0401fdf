"""From parsed TOML or JSON to frozen dataclasses: what does not fit gives a sentence.

Nothing is converted silently: an unknown key, a missing one and a wrong type are all errors.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from agebench.errors import inert, suggestion

_Table = TypeVar("_Table")

_NAMES: Mapping[Any, str] = {str: "a text", bool: "true or false", int: "a whole number"}


def require(condition: object, message: str) -> None:
    """Refuse a table whose values do not go together; `read_dataclass` says which table it is.

    Raises:
        ValueError: the condition does not hold.
    """
    if not condition:
        raise ValueError(message)


def read_dataclass(values: Mapping[str, Any], table: type[_Table], where: str = "") -> _Table:
    """Turn parsed TOML or JSON into the dataclass `table`.

    Field types may be str, bool, int, float, Literal, tuple, a dataclass, a mapping from names to
    one of these, and unions of these; None is never written, it is left out.

    Args:
        values: the parsed table.
        table: the dataclass; its own ValueErrors are passed on.
        where: the key path of `values`, for errors.

    Raises:
        ValueError: a key is unknown or missing, or a value does not fit; names the key path.
    """
    hints = typing.get_type_hints(table)
    fields = {field.name: field for field in dataclasses.fields(typing.cast("Any", table))}
    for key in values:
        if key not in fields:
            raise ValueError(f"unknown key {_join(where, key)}: {suggestion(key, fields)}")
    keywords = {}
    for name, field in fields.items():
        if name in values:
            keywords[name] = _convert(values[name], hints[name], _join(where, name))
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{_join(where, name)} is missing: expected {_expected(hints[name])}")
    try:
        return table(**keywords)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


def _join(where: str, key: str) -> str:
    # A key is whatever stands in a stranger's file.
    shown = inert(key)
    return f"{where}.{shown}" if where else shown


def _alternatives(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, UnionType):
        return [part for part in get_args(hint) if part is not NoneType]
    return [hint]


def _convert(value: Any, hint: Any, where: str) -> Any:
    # A whole number stays one where both int and float would do.
    kinds = sorted(_alternatives(hint), key=lambda kind: kind is not type(value))
    for kind in kinds[:-1]:
        try:
            return _convert_one(value, kind, hint, where)
        except ValueError:
            continue
    return _convert_one(value, kinds[-1], hint, where)


def _convert_one(value: Any, kind: Any, hint: Any, where: str) -> Any:
    if get_origin(kind) is Mapping and isinstance(value, dict):
        part = get_args(kind)[1]
        return {name: _convert(item, part, _join(where, name)) for name, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return read_dataclass(value, typing.cast("type[Any]", kind), where)
    if get_origin(kind) is tuple and isinstance(value, list):
        return _convert_list(value, kind, where)
    if get_origin(kind) is Literal and type(value) is type(get_args(kind)[0]):
        known = get_args(kind)
        if value not in known:
            hinted = suggestion(str(value), [str(item) for item in known])
            raise ValueError(f"unknown value of {where}: got {value!r:.40}, {hinted}")
        return value
    if kind is float and type(value) in (int, float) and _finite(value):
        return float(value)
    if kind in _NAMES and type(value) is kind:  # not isinstance: true is not a whole number
        return value
    raise ValueError(f"{where} must be {_expected(hint)}, got {value!r:.80}")


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _convert_list(values: list[Any], kind: Any, where: str) -> tuple[Any, ...]:
    parts = get_args(kind)
    if parts[-1] is Ellipsis:
        parts = (parts[0],) * len(values)
    if len(parts) != len(values):
        raise ValueError(f"{where} must be {_expected(kind)}, got {len(values)} values")
    return tuple(
        _convert(value, part, f"{where}[{index}]")
        for index, (value, part) in enumerate(zip(values, parts, strict=True))
    )


def _expected(hint: Any) -> str:
    return " or ".join(dict.fromkeys(_expected_one(kind) for kind in _alternatives(hint)))


def _expected_one(kind: Any) -> str:
    if dataclasses.is_dataclass(kind) or get_origin(kind) is Mapping:
        return "a table"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(value) for value in get_args(kind))
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if parts[-1] is Ellipsis:
            return f"a list, each {_expected(parts[0])}"
        return f"a list of {len(parts)}, each {_expected(parts[0])}"
    return _NAMES.get(kind, "a finite number")
