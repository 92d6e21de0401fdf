"""Numbers in texts."""

from __future__ import annotations

import math


def number_in(text: str | None) -> float:
    """Return the number that a text states, or NaN: no comparison holds for that.

    >>> number_in(" 2.5"), number_in("two"), number_in(None)
    (2.5, nan, nan)
    """
    try:
        return float(text or "")
    except ValueError:
        return math.nan
