"""Damaged files: strategies that change the bytes, the values or the parts of a whole one."""

from __future__ import annotations

import json
import struct
from functools import cache
from typing import Any

from hypothesis import strategies as st

TOKENS = (
    b"",
    b"\0",
    b'"',
    b"'",
    b"\n",
    b"\r",
    b",",
    b";",
    b"\t",
    b"=",
    b".",
    b"[",
    b"{",
    b"}",
    b"]",
    b"-",
    b"NaN",
    b"Infinity",
    b"inf",
    b"1e999",
    b"-1",
    b"99999999999999999999",
    b"9" * 5000,
    b"[" * 3000,
    b'{"a":' * 2000,
    b"a." * 500,
    b"../../etc/passwd",
    b"/dev/zero",
    b"\x1b[31m",
    b"\x1b]0;title\x07",
    "\u202e".encode(),
    "\u2028".encode(),
    "\u0661\u00b2".encode(),
    b"\xed\xa0\x80",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"x" * 140_000,
    b"<script>",
    b"=1+1",
    b"true",
    b"null",
)
"""What parsers trip over."""

# A cut leaves little to go wrong behind it, so it comes seldom.
KINDS = (
    "flip",
    "flip",
    "flip",
    "insert",
    "token",
    "token",
    "repeat",
    "size",
    "size",
    "drop",
    "cut",
)
_SIZES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_KIND = st.sampled_from(KINDS)


@cache  # each new strategy is examined first
def mutated(
    seed: bytes, tokens: tuple[bytes, ...] = TOKENS, most: int = 5
) -> st.SearchStrategy[bytes]:
    """Change a file in up to `most` places: flips, cuts, insertions, repeats, lengths, swaps."""
    return _mutated(seed, tokens, most)


@st.composite
def _mutated(draw: st.DrawFn, seed: bytes, tokens: tuple[bytes, ...], most: int) -> bytes:
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, most))):
        kind = draw(_KIND)
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 40))
        if kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "token":
            data[at : at + draw(st.sampled_from((0, 1, length)))] = draw(st.sampled_from(tokens))
        elif kind == "repeat":
            data[at:at] = data[at : at + length] * draw(st.sampled_from((1, 2, 50)))
        elif kind == "size":
            order = draw(st.sampled_from(("<I", ">I", "<H", ">H")))
            value = draw(st.sampled_from(_SIZES)) & (0xFFFF if order[1] == "H" else 0xFFFFFFFF)
            packed = struct.pack(order, value)
            data[at : at + len(packed)] = packed
        else:
            del data[at : at + length]
    return bytes(data)


_ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**400,
    -0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\x1b[31m",
    "\u202e\u2028",
    "\ud800",
    "../../x",
    "=1+1",
    "9" * 5000,
    "nan",
    [],
    {},
    [[]],
    [None],
    ["a", "a"],
    {"a": 1},
    {"": None},
    {"\x1b[31m": 1},
)


@cache
def odd_values() -> st.SearchStrategy[Any]:
    """Return values that a JSON or TOML reader may meet where it expects others."""
    return st.sampled_from(_ODD) | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6)


def _descend(draw: st.DrawFn, value: Any) -> tuple[Any, ...]:
    """Return where something stands; a level down is as likely as staying, whatever its size."""
    path: list[Any] = []
    while isinstance(value, (dict, list)) and value:
        if path and draw(st.integers(0, 4)) == 0:
            break
        keys = sorted(value) if isinstance(value, dict) else range(len(value))
        path.append(draw(st.sampled_from(list(keys))))
        value = value[path[-1]]
    return tuple(path)


@st.composite
def changed(draw: st.DrawFn, seed: Any, most: int = 3) -> Any:
    """Change up to `most` values of a nest as JSON gives it: replace, remove, add or repeat one."""
    value = json.loads(json.dumps(seed))
    for _ in range(draw(st.integers(1, most))):
        path = _descend(draw, value)
        if not path or draw(st.integers(0, 60)) == 60:
            return draw(odd_values())
        inner = value
        for key in path[:-1]:
            inner = inner[key]
        kind = draw(st.sampled_from(("replace", "replace", "replace", "remove", "add", "repeat")))
        if kind == "replace":
            inner[path[-1]] = json.loads(json.dumps(draw(odd_values())))
        elif kind == "remove":
            del inner[path[-1]]
        elif kind == "repeat" and isinstance(inner, list):
            inner.append(inner[path[-1]])
        elif isinstance(inner, dict):
            inner[draw(st.sampled_from(("", "odd", "\x1b[31m", "\u202e")))] = draw(odd_values())
    return value


def as_json(value: Any) -> bytes:
    """Return a nest as a file of JSON; NaN and lone surrogates come through."""
    return json.dumps(value).encode()
