"""How an estimator or detector is named: ``NAME[:PATH][@RUNTIME[:DEVICE]] [key=value ...]``.

>>> parse_reference("caffe-age-net:my/net.caffemodel@onnxruntime:cuda crops=10").options
mappingproxy({'crops': '10'})
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from agebench.errors import UsageError, suggestion
from agebench.types import frozen_mapping

RUNTIMES = ("cv2dnn", "onnxruntime", "torch")
DEVICES = ("cpu", "cuda", "tensorrt", "opencl")

_OPTION = re.compile(r"^([a-z][a-z0-9_]*)=(.*)$", re.DOTALL)
# The last option of a reference: quoted if its value contains spaces, or unquoted.
_LAST_OPTIONS = (
    re.compile(r"""^(.*?\S)\s+([a-z][a-z0-9_]*)=("[^"]*"|'[^']*')$""", re.DOTALL),
    re.compile(r"^(.*\S)\s+([a-z][a-z0-9_]*)=(\S*)$", re.DOTALL),
)
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
# Text after the last "@" is a runtime only if it looks like one; otherwise it is part of the path.
_RUNTIME = re.compile(r"^(?P<rest>.*)@(?P<runtime>[A-Za-z0-9]+)(?::(?P<device>[A-Za-z0-9]+))?$")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference; `text` is as the user wrote it."""

    text: str
    name: str
    path: Path | None = None
    runtime: str | None = None
    device: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", frozen_mapping(self.options))


def called(reference: str) -> str:
    """Return the name of a reference in results: its text with single spaces.

    >>> called(" caffe-age-net   crops=10")
    'caffe-age-net crops=10'
    """
    return " ".join(reference.split())


def user_path(text: str | Path) -> Path:
    """Return the path that a user wrote, with ``~`` resolved.

    Raises:
        UsageError: it begins with ``~name`` and there is no such user, or it is not a path at all.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"the path {str(text)!r} names a user without a home folder: put './' before a file of "
            "that name"
        ) from error
    except ValueError as error:  # a null byte
        raise UsageError(f"{str(text)!r} is not a path: {error}") from error
    except TypeError as error:
        raise UsageError(f"expected a path, got {text!r}: give it as text") from error


def _one_of(kind: str, value: str | None, known: Iterable[str], text: str) -> None:
    if value is not None and value not in known:
        hint = suggestion(value, known)
        if kind == "runtime" and value in DEVICES:
            hint += f"; a device follows its runtime, as in '@RUNTIME:{value}'"
        if value == "gpu":  # which is near "cpu"
            hint = "a GPU is called 'cuda', 'tensorrt' or 'opencl'"
        raise UsageError(f"unknown {kind} {value!r} in {text!r}: {hint}")


def parse_reference(text: str) -> Reference:
    """Parse one reference.

    A Windows drive letter is part of the path: ``onnx:C:/nets/a.onnx@cv2dnn``.  Options come
    last, separated by white space; paths and quoted values may contain spaces:
    ``csv images="My pictures"``.

    Raises:
        UsageError: no text, no name, an unknown runtime or device, or an option given twice.
    """
    if not isinstance(cast("object", text), str):
        raise UsageError(
            f"expected a name, NAME[:PATH][@RUNTIME[:DEVICE]] [key=value ...], got {text!r}: write "
            "it as text ('agebench ls' lists the names)"
        )
    head = text.strip()
    options: dict[str, str] = {}
    while match := _LAST_OPTIONS[0].match(head) or _LAST_OPTIONS[1].match(head):
        head, key, value = match.groups()
        if key in options:
            raise UsageError(f"option {key!r} is given twice in {text!r}: give it once")
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        options[key] = value[1:-1] if quoted else value
    runtime = device = None
    if match := _RUNTIME.match(head):
        looks_like_path = ":" in match["rest"] and match["runtime"] not in RUNTIMES
        if not looks_like_path:
            head, runtime, device = match["rest"], match["runtime"], match["device"]
    name, colon, path = head.partition(":")
    if not _NAME.match(name) or (colon and not path):
        wrong = "is not a name with options" if len(name.split()) > 1 else "has no name"
        if _NAME.match(name):
            wrong = "has no path after ':'"
        hint = f": a spec file is written as 'spec:{head}'" if head.endswith(".toml") else ""
        raise UsageError(
            f"{text!r} {wrong}: expected NAME[:PATH][@RUNTIME[:DEVICE]] [key=value ...]{hint}"
        )
    _one_of("runtime", runtime, RUNTIMES, text)
    _one_of("device", device, DEVICES, text)
    return Reference(
        text=text.strip(),
        name=name,
        path=user_path(path) if path else None,
        runtime=runtime,
        device=device,
        options=dict(reversed(options.items())),
    )


def _quoted(option: re.Match[str]) -> str:
    """Return ``key=value`` in the syntax of a reference: a value with spaces is quoted."""
    value = option[2]
    if not re.search(r"\s", value):
        return option[0]
    mark = "'" if '"' in value else '"'
    return f"{option[1]}={mark}{value}{mark}"


def join_options(arguments: Iterable[str]) -> list[str]:
    """Attach ``key=value`` arguments to the name before them, as typed unquoted in a shell.

    >>> join_options(["caffe-age-net", "crops=10", "constant"])
    ['caffe-age-net crops=10', 'constant']
    >>> join_options(["csv", "images=My pictures"])
    ['csv images="My pictures"']
    """
    joined: list[str] = []
    for argument in arguments:
        if match := _OPTION.match(argument):
            if not joined:
                raise UsageError(
                    f"option {argument!r} comes before any name: write it after a name"
                )
            joined[-1] = f"{joined[-1]} {_quoted(match)}"
        else:
            joined.append(argument)
    return joined
