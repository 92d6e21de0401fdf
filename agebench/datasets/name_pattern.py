"""Patterns of file names, such as ``{age}_{identity}_{:d}``: from a name to its fields.

A pattern is matched against the whole name.  Text in braces is a field; everything else must match
exactly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from agebench.datasets.names import shown
from agebench.errors import UsageError, suggestion
from agebench.types import Problem

KINDS: Mapping[str, str] = {
    "": r".+{lazy}",
    "d": r"[0-9]+{lazy}",
    "a": r"[^\W\d_]+{lazy}",
    "year": r"[0-9]{{4}}",
    "date": r"[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}}",
}
"""Kinds of fields: any text, digits, letters, a year, and a date as year-month-day."""

MAX_TEXT_FIELDS = 6
"""Largest number of fields of any text."""

MAX_TRIED = 1_000_000
"""Ways to divide a name that an expression may try."""

_FIELD = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Field:
    """One field of a pattern: its name, "" for one that is ignored, and its kind."""

    name: str
    kind: str


@dataclass(frozen=True)
class NamePattern:
    """A parsed pattern; see `parse_pattern`.

    Attributes:
        text: as written.
        parts: literal texts and fields in order.
    """

    text: str
    parts: tuple[str | Field, ...]

    @property
    def fields(self) -> Mapping[str, str]:
        """Kinds of the named fields."""
        named = (part for part in self.parts if isinstance(part, Field))
        return {field.name: field.kind for field in named if field.name}

    @cached_property
    def _expressions(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        return self._expression("?"), self._expression("")

    def _expression(self, lazy: str) -> re.Pattern[str]:
        written = []
        for part in self.parts:
            if isinstance(part, str):
                written.append(re.escape(part))
            else:
                group = f"?P<{part.name}>" if part.name else "?:"
                written.append(f"({group}{KINDS[part.kind].format(lazy=lazy)})")
        return re.compile("".join(written), re.DOTALL)

    def _divided(self, name: str, longest: int) -> dict[str, str] | None:
        """Return the fields, each as short (0) or as long (1) as possible from the left."""
        fields = sum(isinstance(part, Field) for part in self.parts)
        if math.comb(len(name) + fields, fields) <= MAX_TRIED:
            match = self._expressions[longest].fullmatch(name)
            return None if match is None else match.groupdict()
        found: dict[str, str] = {}
        tried: set[tuple[int, int]] = set()

        def fits(index: int, start: int) -> bool:
            if index == len(self.parts):
                return start == len(name)
            if (index, start) in tried:
                return False
            tried.add((index, start))
            part = self.parts[index]
            if isinstance(part, str):
                return name.startswith(part, start) and fits(index + 1, start + len(part))
            kind = re.compile(KINDS[part.kind].format(lazy=""), re.DOTALL)
            ends = range(start + 1, len(name) + 1)
            for end in ends if not longest and "{lazy}" in KINDS[part.kind] else reversed(ends):
                if kind.fullmatch(name, start, end) and fits(index + 1, end):
                    found[part.name] = name[start:end]
                    return True
            return False

        return {name: found[name] for name in self.fields} if fits(0, 0) else None

    def read(self, name: str) -> dict[str, str] | Problem:
        """Return the named fields of `name`, or the reason why it can't be read.

        A name that matches in two ways with different fields is a problem: a guess might mistake
        one person's name, or age, for another.

        >>> parse_pattern("{age:d}_{identity}_{:d}").read("53_Robin_Williams_0001")
        {'age': '53', 'identity': 'Robin_Williams'}
        """
        fields, others = self._divided(name, 0), self._divided(name, 1)
        if fields is None or others is None:
            return Problem(name, f"not named as {self.text}")
        for field, value in fields.items():
            if value != others[field]:
                return Problem(
                    name,
                    f"{self.text} reads {field} as {shown(value)} or as {shown(others[field])}: "
                    "say what a field is made of, {:d} for digits, {:a} for letters",
                )
        return fields


def parse_pattern(text: str, numbers: Collection[str] = ()) -> NamePattern:
    """Parse a pattern.

    ``{identity}`` is a field of that name with any text; ``{}`` is ignored.  ``{:d}`` and
    ``{age:d}`` consist of digits, ``{gender:a}`` of letters, ``{photo:year}`` is a year of four
    digits and ``{birth:date}`` a date such as 1955-1-6.

    Args:
        text: the pattern, of the name without its suffix.
        numbers: fields that are used as numbers: they consist of digits by default.

    Raises:
        UsageError: it has no field, a field twice, an unknown kind, or braces that don't match.
    """
    parts: list[str | Field] = []
    end = 0
    for match in _FIELD.finditer(text):
        parts += [text[end : match.start()], _field(text, match[1], match[2], numbers)]
        end = match.end()
    parts.append(text[end:])
    literal = "".join(part for part in parts if isinstance(part, str))
    fields = [part for part in parts if isinstance(part, Field)]
    names = [field.name for field in fields if field.name]
    if "{" in literal or "}" in literal or not names:
        raise _malformed(text, "fields in braces, at least one with a name")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _malformed(text, f"each field once, got {{{twice[0]}}} more than once")
    if sum(not field.kind for field in fields) > MAX_TEXT_FIELDS:
        raise _malformed(text, f"at most {MAX_TEXT_FIELDS} fields of any text: give some a kind")
    return NamePattern(text, tuple(part for part in parts if part))


def _field(text: str, name: str, kind: str | None, numbers: Collection[str]) -> Field:
    if name and not _FIELD_NAME.fullmatch(name):
        raise _malformed(text, f"fields named in lower-case letters, digits, _, got {{{name}}}")
    if kind is not None and kind not in KINDS:
        raise _malformed(
            text, f"known kinds of fields, got {kind!r}: {suggestion(kind, filter(None, KINDS))}"
        )
    return Field(name, kind or ("d" if name in numbers else ""))


def _malformed(text: str, expected: str) -> UsageError:
    return UsageError(
        f"pattern {text!r} is not valid: expected {expected}; for AgeDB's 0_MariaCallas_35_f.jpg "
        "write pattern={}_{identity}_{age}_{gender}"
    )
