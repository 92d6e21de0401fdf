"""Figures of the report with title and caption, and the selection of estimators for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from markupsafe import Markup

from agebench.report.cautions import looks_at_faces
from agebench.report.direct_labels import MANY, short_names
from agebench.report.drawn_names import NAME_EM
from agebench.report.joining import Entry, Joined
from agebench.report.svg import BASELINE_LOOK, Look, key, look

MAX_DRAWN = 10
"""Maximum number of estimators in figures, as more can't be told apart.  Tables have all."""

Legend: TypeAlias = Sequence[tuple[Markup, str]]
"""Key and name of each estimator."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure.

    Attributes:
        drawing: its SVG.
        title: shown above it; "" if the section's title is enough.
        caption: shown below it.
    """

    drawing: Markup
    title: str = ""
    caption: str = ""


def drawn(joined: Joined) -> Sequence[tuple[Entry, Look]]:
    """Return the best estimators, each with its style, which is the same in every figure.

    The baseline that predicts the same age for everybody is grey, and uses up no colour.
    """
    shown = joined.scored[:MAX_DRAWN]
    looks = map(look, range(len(shown)))
    return [(entry, next(looks) if looks_at_faces(entry) else BASELINE_LOOK) for entry in shown]


def direct_names(labels: Iterable[str]) -> dict[str, str]:
    """Return the names to write next to lines and marks, by full name.

    Empty for few estimators, which colours, dashes and marks are enough to tell apart.
    """
    full = list(labels)
    if len(full) < MANY:
        return {}
    return dict(zip(full, short_names(full, NAME_EM), strict=True))


def names_of(joined: Joined) -> dict[str, str]:
    """Return `direct_names` of the estimators drawn in a report."""
    return direct_names(entry.label for entry, _ in drawn(joined))


def legend(joined: Joined) -> Legend:
    """Return the keys and names of the drawn estimators."""
    return [(key(style), entry.label) for entry, style in drawn(joined)]


def why_untimed(joined: Joined) -> str:
    """Return why no times are drawn."""
    if not any(len(entry.samples_ms("total")) for entry in joined.entries):
        return "nothing was timed"
    return _why_undrawn(joined, "was timed")


def why_uncalibrated(joined: Joined) -> str:
    """Return why no calibration is drawn."""
    if joined.scored and not any(
        entry.analysis is not None and entry.analysis.calibration for entry in joined.entries
    ):
        return "no estimator gives a distribution over ages"
    return _why_undrawn(joined, "gives a distribution over ages")


def _why_undrawn(joined: Joined, lacks: str) -> str:
    return f"none of those drawn {lacks}" if joined.scored else "no picture has a known age"
