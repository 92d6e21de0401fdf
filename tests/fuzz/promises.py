"""What every reader of foreign bytes promises, and a count of how often it was put to the test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from agebench.errors import AgebenchError, inert

FIGURES: dict[str, Counter[str]] = {}
"""By family: "tried", "read", "refused", and what was wrong."""


def counted(family: str, outcome: str) -> None:
    """Note one input."""
    count = FIGURES.setdefault(family, Counter())
    count["tried"] += 1
    count[outcome] += 1


def figures() -> Iterator[str]:
    """Yield one line per family."""
    for family, count in sorted(FIGURES.items()):
        others = ", ".join(f"{n:,} {what}" for what, n in sorted(count.items()) if what != "tried")
        yield f"{family}: {count['tried']:,} inputs tried, {others}"


def why_no_sentence(error: AgebenchError) -> str:
    """Say what is wrong with a message; "" for one line of plain text."""
    message = str(error)
    if not message.strip():
        return "an empty message"
    # Cn and Co are harmless; Cc, Cf, Cs, Zl and Zp are what a terminal acts on.
    if inert(message) != message:
        return f"control characters in {message!r:.600}"
    return ""


def keeps_promise(family: str, read: Callable[[], object], folder: Path | None = None) -> object:
    """Call a reader: it gives a value, or an AgebenchError of one plain line; no other exception.

    Args:
        family: what is counted together.
        read: the reader.
        folder: nothing may appear or go away there.

    Returns:
        The value; None where the input was refused.
    """
    before = None if folder is None else sorted(item.name for item in folder.rglob("*"))
    value: object = None
    try:
        value = read()
    except AgebenchError as error:
        wrong = why_no_sentence(error)
        counted(family, "wrong messages" if wrong else "refused")
        assert not wrong, wrong
    except BaseException:
        counted(family, "other exceptions")
        raise
    else:
        counted(family, "read")
    if folder is not None:
        assert sorted(item.name for item in folder.rglob("*")) == before
    return value
