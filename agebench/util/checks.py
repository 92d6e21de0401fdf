"""Numbers in texts, and checks of settings."""

from __future__ import annotations

import math
from collections.abc import Iterable

from agebench.errors import UsageError, suggestion


def number_in(text: str | None) -> float:
    """Return the number that a text contains, or NaN, for which every comparison is false.

    >>> number_in(" 2.5"), number_in("two"), number_in(None)
    (2.5, nan, nan)
    """
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def is_whole(value: object, least: int) -> bool:
    """Return whether `value` is an integer of at least `least`; booleans don't count.

    >>> is_whole(3, 1), is_whole(3.0, 1), is_whole(True, 0)
    (True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def require_whole(name: str, value: int | None, least: int, most: int | None = None) -> None:
    """Raise a UsageError unless `value` is None or a whole number from `least` to `most`.

    >>> require_whole("limit", 0, 1)
    Traceback (most recent call last):
    agebench.errors.UsageError: limit must be at least 1, got 0
    """
    if value is None:
        return
    if not hasattr(value, "__index__"):  # numpy's integers have it
        raise UsageError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise UsageError(f"{name} must be at least {least}, got {value}")
    if most is not None and value > most:
        raise UsageError(f"{name} must be at most {most}, got {value}")


def require(condition: bool, section: str, message: str) -> None:
    """Raise a UsageError "section: message" unless `condition`."""
    if not condition:
        raise UsageError(f"{section}: {message}")


def require_range(
    settings: object, names: Iterable[str], low: int, high: int, *, above: bool = False
) -> None:
    """Raise a ValueError unless every named attribute is from `low` to `high`.

    Args:
        settings: has the attributes.
        names: of the attributes.
        low: smallest value allowed.
        high: largest value allowed.
        above: `low` itself is not allowed.
    """
    for name in names:
        value = getattr(settings, name)
        if not low <= value <= high or (above and value == low):
            allowed = f"above {low} and at most" if above else f"from {low} to"
            raise ValueError(f"{name} must be {allowed} {high:,}, got {value}")


def require_known(value: object, known: Iterable[str], section: str, key: str) -> None:
    """Raise a UsageError that suggests similar names unless `value` is one of `known`.

    >>> require_known("rmsprop", ["adamw", "sgd"], "optimiser", "name")
    Traceback (most recent call last):
    agebench.errors.UsageError: optimiser: there is no name 'rmsprop': known: adamw, sgd
    """
    names = tuple(known)
    if value not in names:
        hint = suggestion(str(value), names)
        raise UsageError(f"{section}: there is no {key} {value!r}: {hint}")
