"""Numbers in texts, and the checks that settings share."""

from __future__ import annotations

import math
from collections.abc import Iterable

from agebench.errors import UsageError, suggestion


def number_in(text: str | None) -> float:
    """Return the number that a text states, or NaN: no comparison holds for that.

    >>> number_in(" 2.5"), number_in("two"), number_in(None)
    (2.5, nan, nan)
    """
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def is_whole(value: object, least: int) -> bool:
    """Return whether `value` is a whole number from `least`; True and False are none.

    >>> is_whole(3, 1), is_whole(3.0, 1), is_whole(True, 0)
    (True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def require(condition: bool, section: str, message: str) -> None:
    """Raise a UsageError "section: message" unless `condition`."""
    if not condition:
        raise UsageError(f"{section}: {message}")


def require_known(value: object, known: Iterable[str], section: str, key: str) -> None:
    """Raise a UsageError that offers what is near unless `value` is one of `known`.

    >>> require_known("rmsprop", ["adamw", "sgd"], "optimiser", "name")
    Traceback (most recent call last):
    agebench.errors.UsageError: optimiser: there is no name 'rmsprop': known: adamw, sgd
    """
    names = tuple(known)
    if value not in names:
        hint = suggestion(str(value), names)
        raise UsageError(f"{section}: there is no {key} {value!r}: {hint}")
