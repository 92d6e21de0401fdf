"""Pictures of how long it takes."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from agebench.metrics.number_format import milliseconds, shortened
from agebench.report.figures import Figure
from agebench.report.joining import Entry, Joined
from agebench.report.plots_errors import timed_totals
from agebench.report.svg import Drawing, Look, log_axis, mark, tag
from agebench.types import Floats

MAX_DOTS = 150
"""Times that are drawn as dots, evenly chosen; box and lines are of all."""

_ROW = 52
_TOP = 26
_PERCENTILES = (1, 25, 50, 75, 90, 99)


def latency_figure(joined: Joined) -> Figure | None:
    """Distribution of each estimator's total time; None where nothing was timed."""
    rows = timed_totals(joined)
    if not rows:
        return None
    low = min(float(times.min()) for _, _, times in rows)
    high = max(float(times.max()) for _, _, times in rows)
    axis = log_axis("milliseconds per picture, all stages", low, high)
    drawing = Drawing(axis, None, height=_ROW * len(rows) + 66)
    for at, (entry, style, times) in enumerate(rows):
        _row(drawing, entry, style, times, _TOP + _ROW * at)
    words = "; ".join(
        f"{entry.label}: median {milliseconds(float(np.median(times)))} ms, "
        f"99 % below {milliseconds(float(np.percentile(times, 99)))} ms"
        for entry, _, times in rows
    )
    return Figure(
        drawing.svg(f"Latency distributions. {words}."),
        caption=(
            "Dots: single pictures; box: the middle half, with the median; line: from 1 % to "
            "99 %, with a tick at 90 %."
        ),
    )


def _row(drawing: Drawing, entry: Entry, style: Look, times: Floats, top: int) -> None:
    drawing.add(mark(style, 20, top - 4, 4))
    drawing.write(30, top, shortened(entry.label, 48), kind="name")
    middle = top + 18
    ends = drawing.x(np.percentile(times, _PERCENTILES)).tolist()
    low, first, median, third, ninth, last = ends
    dots = times[np.linspace(0, len(times) - 1, min(len(times), MAX_DOTS)).astype(np.intp)]
    path = "".join(
        f"M{x:.1f} {middle + 7 * (at % 3 - 1)}h0" for at, x in enumerate(drawing.x(dots).tolist())
    )
    parts = [
        tag("path", d=path, stroke=style.colour, class_="dots"),
        tag(
            "path",
            d=f"M{low:.1f} {middle}H{last:.1f}M{ninth:.1f} {middle - 6}v12",
            stroke=style.colour,
            class_="whisker",
        ),
        tag(
            "rect",
            x=first,
            y=middle - 8,
            width=max(third - first, 1.0),
            height=16,
            stroke=style.colour,
            class_="box",
        ),
        tag("path", d=f"M{median:.1f} {middle - 8}v16", stroke=style.colour, class_="median"),
    ]
    drawing.add(Markup("").join(parts))
