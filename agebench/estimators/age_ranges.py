"""Parses ranges of ages such as "25-32", "(25, 32)", "70+" or "more than 70"."""

from __future__ import annotations

import re
from itertools import pairwise

from agebench.types import MAX_AGE_YEARS, AgeBins

_CLOSED = re.compile(r"\(? ?([0-9]{1,3}) ?(?:-|\u2013|,|to) ?([0-9]{1,3}) ?\)?")
_SINGLE = re.compile(r"[0-9]{1,3}")
_FROM = re.compile(
    r"([0-9]{1,3}) ?(?:\+|(?:and|or) (?:over|older|above|more|up))|(?:from|>=|\u2265) ?([0-9]{1,3})"
)
_ABOVE = re.compile(r"(?:more than|over|above|older than|>) ?([0-9]{1,3})")
_BELOW = re.compile(r"(?:less than|under|below|younger than|<) ?([0-9]{1,3})")
_FILLER_WORDS = re.compile(r"(?:years?|yrs?|y/?o|aged?|old)\b\.?")

Pair = tuple[int, int | None]
"""First and last completed year; None for an open end."""


def parse_range(text: str) -> Pair:
    """Return the first and last year of a range.

    "more than 70" means 70 and older if the previous range of the list ends at 69, as FairFace's
    does; `age_bins` handles that.

    Raises:
        ValueError: it is not a range; the message says what was expected.

    >>> parse_range("(25, 32)"), parse_range("70+"), parse_range("more than 70"), parse_range("<3")
    ((25, 32), (70, None), (71, None), (0, 2))
    """
    plain = " ".join(_FILLER_WORDS.sub(" ", text.lower()).split())
    found: Pair | None = None
    if match := _CLOSED.fullmatch(plain):
        found = (int(match[1]), int(match[2]))
    elif _SINGLE.fullmatch(plain):
        found = (int(plain), int(plain))
    elif match := _FROM.fullmatch(plain):
        found = (int(match[1] or match[2]), None)
    elif match := _ABOVE.fullmatch(plain):
        found = (int(match[1]) + 1, None)
    elif (match := _BELOW.fullmatch(plain)) and int(match[1]) > 0:
        found = (0, int(match[1]) - 1)
    if found is None or not found[0] <= (found[0] if found[1] is None else found[1]):
        raise ValueError(_wrong(text))
    if max(found[0], found[1] or 0) > MAX_AGE_YEARS:
        raise ValueError(_wrong(text))
    return found


def _wrong(text: str) -> str:
    return (
        f"expected ranges such as '25-32', '7', '70+' or 'more than 70' up to "
        f"{MAX_AGE_YEARS:g} years, got {text!r:.60}"
    )


def age_bins(ranges: tuple[str, ...]) -> tuple[AgeBins, tuple[float, ...]]:
    """Return the bins of ranges, and the age that represents each, in years.

    A closed range is represented by its midpoint.  An open one has none: its age is as far above
    its first year as in the range before it (70+ after 60-69: 74.5), and as a class it extends to
    the highest age in use.

    Raises:
        ValueError: a range can't be parsed, or they overlap or are not ascending.
    """
    pairs = [parse_range(text) for text in ranges]
    last = len(pairs) - 1
    for index, (low, high) in enumerate(pairs):
        if high is None and index < last:
            raise ValueError(f"only the last range may be open-ended, got {ranges[index]!r}")
        before = pairs[index - 1][1] if index else None
        if high is None and before is not None and low == before + 2:
            pairs[index] = (low - 1, None)  # "more than 70" after 60-69: there is no gap
    closed = [(low, int(MAX_AGE_YEARS) if high is None else high) for low, high in pairs]
    if not all(one[1] < two[0] for one, two in pairwise(closed)):
        raise ValueError("ranges must be ascending and must not overlap")
    middles = [(low + high) / 2 for low, high in closed]
    if pairs[last][1] is None:
        above = middles[last - 1] - closed[last - 1][0] if last else 0.0
        middles[last] = min(closed[last][0] + above, MAX_AGE_YEARS)
    lows, highs = zip(*closed, strict=True)
    return AgeBins(lows, highs), tuple(middles)
