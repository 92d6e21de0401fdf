"""From TOML to frozen dataclasses; unknown or missing keys and wrong types give a sentence."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from agebench.errors import UsageError
from agebench.modelfiles.downloads import HEAD_BYTES, stub_reason
from agebench.util.regular_files import open_regular
from agebench.util.typed_records import read_dataclass

MAX_FILE_BYTES = 64 * 1024
"""Longer files are refused."""

MAX_LINE_DOTS = 200
"""Lines with more dots are refused: parsing ``a.a.a...=1`` takes quadratic time."""

_Table = TypeVar("_Table")


def read_toml(
    path: Path, table: type[_Table], present: Callable[[Any], Any] | None = None
) -> _Table:
    """Read a TOML file as the dataclass `table`; nested dataclasses are nested tables.

    Field types may be str, bool, int, float, Literal, tuple, a dataclass, or one of these or None.

    Args:
        path: of the file.
        table: the dataclass.
        present: renames keys with former names.

    Raises:
        UsageError: the file can't be read, is not valid TOML, or does not match; names file and
            key.
    """
    try:
        if not path.is_file():
            found = "got a folder" if path.is_dir() else "found no file"
            raise UsageError(f"{path}: expected a TOML file, {found}")
        with open_regular(path) as file:
            content = file.read(MAX_FILE_BYTES + 1)
        require_toml(path, content)
        values = tomllib.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: expected a TOML file in UTF-8, got another kind of file or encoding: name "
            "a TOML file, or save it as UTF-8"
        ) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: expected a TOML file in UTF-8: {error}") from error
    except ValueError as error:  # a NUL in the path, a number with too many digits for Python
        raise UsageError(f"{path}: can't be read: {error}") from error
    try:
        return read_dataclass(values if present is None else present(values), table)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def require_toml(path: Path, content: bytes, most_dots: int = MAX_LINE_DOTS) -> None:
    """Refuse files that are not worth parsing, by their first `MAX_FILE_BYTES` + 1 bytes.

    Raises:
        UsageError: it is too long, is a web page or pointer, or would take too long.
    """
    size = f"{path.stat().st_size:,} bytes"
    if content and (stub := stub_reason(content[:HEAD_BYTES], size, "a TOML file")):
        raise UsageError(f"{path} is {stub}: download the file itself")
    if len(content) > MAX_FILE_BYTES:
        raise UsageError(f"{path}: longer than {MAX_FILE_BYTES} bytes, expected a TOML file")
    if max(line.count(b".") for line in content.split(b"\n")) > most_dots:
        raise UsageError(f"{path}: a line has more than {most_dots} dots: split it")
