"""From TOML to frozen dataclasses: unknown keys, missing keys and wrong types give a sentence."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from agebench.errors import UsageError, suggestion

MAX_FILE_BYTES = 64 * 1024
"""A longer file is no spec."""

MAX_LINE_DOTS = 200
"""More dots in a line are refused: the time to read ``a.a.a...=1`` grows with their square."""

_Table = TypeVar("_Table")

_NAMES: Mapping[Any, str] = {str: "a text", bool: "true or false", int: "a whole number"}


def read_toml(path: Path, table: type[_Table]) -> _Table:
    """Read a TOML file as the dataclass `table`; nested dataclasses are nested tables.

    Field types may be str, bool, int, float, Literal, tuple, a dataclass, or one of these or None.

    Raises:
        UsageError: the file can't be read, is no TOML, or does not fit; names file and key.
    """
    try:
        if not path.is_file():
            raise UsageError(f"{path}: expected a TOML file, found no file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise UsageError(f"{path}: longer than {MAX_FILE_BYTES} bytes, expected a TOML file")
        if max(line.count(b".") for line in content.split(b"\n")) > MAX_LINE_DOTS:
            raise UsageError(f"{path}: a line has more than {MAX_LINE_DOTS} dots: divide it")
        values = tomllib.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: expected a TOML file in UTF-8: {error}") from error
    except ValueError as error:  # a NUL in the path, a number of more digits than Python reads
        raise UsageError(f"{path}: can't be read: {error}") from error
    try:
        return read_table(values, table)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def read_table(values: Mapping[str, Any], table: type[_Table], where: str = "") -> _Table:
    """Turn parsed TOML into the dataclass `table`; `where` is the key path of `values`.

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
        elif field.default is dataclasses.MISSING:
            raise ValueError(f"{_join(where, name)} is missing: expected {_expected(hints[name])}")
    try:
        return table(**keywords)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _alternatives(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, UnionType):
        return [part for part in get_args(hint) if part is not NoneType]
    return [hint]


def _convert(value: Any, hint: Any, where: str) -> Any:
    (kind,) = _alternatives(hint)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return read_table(value, typing.cast("type[Any]", kind), where)
    if get_origin(kind) is tuple and isinstance(value, list):
        return _convert_list(value, kind, where)
    if get_origin(kind) is Literal and isinstance(value, str):
        if value not in get_args(kind):
            raise ValueError(f"unknown value of {where}: {suggestion(value, get_args(kind))}")
        return value
    if kind is float and type(value) in (int, float) and _finite(value):
        return float(value)
    if kind in _NAMES and type(value) is kind:  # not isinstance: true is no whole number
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
    (kind,) = _alternatives(hint)
    if dataclasses.is_dataclass(kind):
        return "a table"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(value) for value in get_args(kind))
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if parts[-1] is Ellipsis:
            return f"a list, each {_expected(parts[0])}"
        return f"a list of {len(parts)}, each {_expected(parts[0])}"
    return _NAMES.get(kind, "a finite number")
