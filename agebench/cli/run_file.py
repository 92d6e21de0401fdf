"""Options of a run as a TOML file, read before a command starts and written after it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from agebench.errors import UsageError, error_text, suggestion
from agebench.estimators.toml_reader import MAX_FILE_BYTES, require_toml
from agebench.references import user_path
from agebench.util.files import check_target, write_whole
from agebench.util.private_paths import without_home
from agebench.util.regular_files import open_regular

RUN_FILE = "run.toml"

NOT_OF_THE_RUN = ("config", "out", "as_json", "full")
"""Options about input, output and display, which do not affect what is measured."""

_HEAD = """\
# Repeats this run: agebench compare --config {name} --out FOLDER
# Paths are relative to the current folder; options on the command line take precedence.
"""


def config_option() -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command ``--config FILE``, for options that are not on the command line."""
    return click.option(
        "--config",
        is_eager=True,
        expose_value=False,
        metavar="FILE",
        callback=_read_into,
        help="Read options from a TOML file, such as run.toml.",
    )


def _read_into(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is None or context.resilient_parsing:
        return
    values = read_run_file(user_path(value), context.command)
    context.default_map = {**(context.default_map or {}), **values}


def read_run_file(path: str | Path, command: click.Command) -> dict[str, Any]:
    """Read the options of a command from a TOML file.

    Returns:
        Values by parameter name, as for click's ``default_map``.

    Raises:
        UsageError: there is no such file, it is not TOML, or has an unknown option or a value of
            the wrong type.
    """
    try:
        with open_regular(path) as file:
            text = file.read(MAX_FILE_BYTES + 1)
        require_toml(Path(path), text, most_dots=1000)  # a line may list all estimators
        content = tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise UsageError(
            f"--config {path} can't be read: {error.strerror or error}: check the path"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"--config {path} is not valid TOML: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--config {path} can't be read: {error_text(error)}") from error
    known = {_key(item): item for item in _params(command)}
    found: dict[str, Any] = {}
    for key, value in content.items():
        if key not in known:
            raise UsageError(f"{path}: unknown option {key!r}: {suggestion(key, known)}")
        expected = _expected(known[key])
        if not _fits(expected, value):
            raise UsageError(f"{path}: {key} must be {expected}, got {value!r}")
        if value == [] and isinstance(known[key], click.Argument):
            raise UsageError(f"{path}: {key} is an empty list: name at least one, or omit {key}")
        found[str(known[key].name)] = value
    return found


def write_run_file(context: click.Context, folder: Path, **settled: object) -> Path:
    """Write the options of a command, from the command line and a file, next to its result.

    Args:
        context: of the command.
        folder: of the result.
        settled: values used for parameters that were not given, by name.

    Raises:
        AgebenchError: it can't be written.
    """
    lines = [_HEAD.format(name=RUN_FILE)]
    for item in _params(context.command):
        value = settled.get(str(item.name), context.params.get(str(item.name)))
        if value is not None and value != ():
            lines.append(f"{_key(item)} = {_toml(value)}\n")
    target = folder / RUN_FILE
    check_target(target)
    write_whole(target, "".join(lines).encode("utf-8", "backslashreplace"))
    return target


def _params(command: click.Command) -> Iterator[click.Parameter]:
    for item in command.params:
        if item.expose_value and item.name not in NOT_OF_THE_RUN:
            yield item


def _key(item: click.Parameter) -> str:
    """Return the name of a parameter in the file, as on the command line."""
    if isinstance(item, click.Argument):
        return str(item.name)
    longest = max((name for name in item.opts if name.startswith("--")), key=len)
    return longest.removeprefix("--")


def _expected(item: click.Parameter) -> str:
    if item.nargs == -1 or item.multiple:
        return "a list of strings"
    if isinstance(item, click.Option) and item.is_flag:
        return "true or false"
    if isinstance(item.type, click.types.IntParamType):
        return "a whole number"
    if isinstance(item.type, click.types.FloatParamType):
        return "a number"
    return "a string"


def _fits(expected: str, value: object) -> bool:
    if isinstance(value, bool):
        return expected == "true or false"
    if expected == "a list of strings":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    kinds: Mapping[str, type | tuple[type, ...]] = {
        "a whole number": int,
        "a number": (int, float),
        "a string": str,
        "true or false": bool,
    }
    return isinstance(value, kinds[expected])


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # JSON strings are valid TOML except for DEL, which TOML wants escaped.
    text = json.dumps(without_home(str(value)), ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")
