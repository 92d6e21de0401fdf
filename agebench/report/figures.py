"""A picture of the report with its words, and which estimators are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from markupsafe import Markup

from agebench.report.cautions import looks_at_faces
from agebench.report.joining import Entry, Joined
from agebench.report.svg import BASELINE_LOOK, Look, key, look

MAX_DRAWN = 10
"""Estimators that are drawn: more lines than that can't be told apart.  Tables have all."""

Legend: TypeAlias = Sequence[tuple[Markup, str]]
"""Who is who: key and name."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One picture.

    Attributes:
        drawing: the picture itself.
        title: what stands above it; "" where the section's title says it.
        caption: what stands below it.
    """

    drawing: Markup
    title: str = ""
    caption: str = ""


def drawn(joined: Joined) -> Sequence[tuple[Entry, Look]]:
    """Return the best estimators, each with the look that it has in every picture.

    The baseline that says one age of everybody is grey, and takes no colour from the others.
    """
    shown = joined.scored[:MAX_DRAWN]
    looks = map(look, range(len(shown)))
    return [(entry, next(looks) if looks_at_faces(entry) else BASELINE_LOOK) for entry in shown]


def legend(joined: Joined, which: Callable[[Entry], bool] = lambda _: True) -> Legend:
    """Return the keys and names of those estimators that are drawn and `which` is true of."""
    return [(key(style), entry.label) for entry, style in drawn(joined) if which(entry)]
