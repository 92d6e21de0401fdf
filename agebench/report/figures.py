"""A picture of the report with its words, and which estimators are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from markupsafe import Markup

from agebench.report.cautions import looks_at_faces
from agebench.report.direct_labels import MANY, short_names
from agebench.report.drawn_names import NAME_EM
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


def direct_names(labels: Iterable[str]) -> dict[str, str]:
    """Return the names that stand beside the lines and marks of those drawn, by whole name.

    Empty where there are so few that colours, dashes and marks tell them apart.
    """
    whole = list(labels)
    if len(whole) < MANY:
        return {}
    return dict(zip(whole, short_names(whole, NAME_EM), strict=True))


def names_of(joined: Joined) -> dict[str, str]:
    """Return `direct_names` of those drawn in a report."""
    return direct_names(entry.label for entry, _ in drawn(joined))


def legend(joined: Joined, which: Callable[[Entry], bool] = lambda _: True) -> Legend:
    """Return the keys and names of those estimators that are drawn and `which` is true of."""
    return [(key(style), entry.label) for entry, style in drawn(joined) if which(entry)]
