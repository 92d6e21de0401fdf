"""Figures of errors and of latency."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup

from agebench.metrics.number_format import counted, milliseconds, number, percent, shortened
from agebench.report.drawn_names import Named, line_end, name_lines, name_marks, right_margin
from agebench.report.figures import Figure, drawn, names_of
from agebench.report.joining import Entry, Joined
from agebench.report.measures import Density, age_curve, density, front, score_curve
from agebench.report.svg import Drawing, Look, linear_axis, log_axis, mark, percent_axis, tag
from agebench.types import Floats

MIN_MS = 1e-3
"""Shorter times are drawn as this one, as a logarithmic axis has no 0."""

SHADES = ("#e3eef9", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08458a")
MARKED_SCORES = (1, 3, 5, 10)

MAX_DOTS = 150
"""Maximum number of times drawn as dots, evenly selected; box and lines are of all times."""

_ROW, _ROW_TOP = 52, 26
"""Height of a row of the latency figure, and position of the first one, in units of the drawing."""


def on_common(joined: Joined, entry: Entry) -> tuple[Floats, Floats]:
    """Return true and predicted ages over the common pictures, both of shape (n,)."""
    rows = joined.rows
    return joined.true_years[rows], entry.years[rows]


def timed_totals(joined: Joined) -> list[tuple[Entry, Look, Floats]]:
    """Return the drawn estimators that were timed, with style and milliseconds of all stages."""
    return [
        (entry, style, np.maximum(entry.samples_ms("total"), MIN_MS))
        for entry, style in drawn(joined)
        if len(entry.samples_ms("total"))
    ]


def front_figure(joined: Joined) -> Figure | None:
    """Return the mean error against the median of the total time; None if nothing was timed."""
    timed = timed_totals(joined)
    if not timed:
        return None
    untimed = len(drawn(joined)) - len(timed)
    spans = [np.percentile(times, (50, 10, 90)) for _, _, times in timed]
    errors = [entry.mae_years or 0.0 for entry, _, _ in timed]
    tops = [
        entry.errors.mae_interval.high
        for entry, _, _ in timed
        if entry.errors is not None and entry.errors.mae_interval is not None
    ]
    low, high = min(span[1] for span in spans), max(span[2] for span in spans)
    drawing = Drawing(
        log_axis("milliseconds per picture, all stages", low, high),
        linear_axis("mean absolute error, years", 0, max([*errors, *tops])),
    )
    medians = [float(span[0]) for span in spans]
    kept = front(medians, errors)
    drawing.steps([medians[at] for at in kept], [errors[at] for at in kept])
    for (entry, style, _), span, error in zip(timed, spans, errors, strict=True):
        _cross(drawing, entry, style, span, error)
    names = names_of(joined)
    if names:
        name_marks(
            drawing,
            [
                Named(names[entry.label], style, median, error)
                for (entry, style, _), median, error in zip(timed, medians, errors, strict=True)
            ],
        )
    description = "; ".join(
        f"{entry.label}: {milliseconds(median)} ms, {number(error)} years"
        for (entry, _, _), median, error in zip(timed, medians, errors, strict=True)
    )
    return Figure(
        drawing.svg(f"Error against latency. {description}."),
        title="Error against latency",
        caption=(
            "Bottom left is best. Marks: median time and mean error; horizontal lines: the middle "
            "80 % of the times; vertical lines: 95 % interval of the error. The grey steps connect "
            "the estimators that no other beats in both."
            + (" Hollow: no verdict." if any(entry.contamination for entry, _, _ in timed) else "")
            + (f" Not timed, so not drawn: {untimed}." if untimed else "")
        ),
    )


def _cross(drawing: Drawing, entry: Entry, style: Look, span: Floats, error: float) -> None:
    drawing.spread(span[1], span[2], error, style)
    interval = None if entry.errors is None else entry.errors.mae_interval
    if interval is not None:
        drawing.whiskers([span[0]], [interval.low], [interval.high], style)
    x, y = float(drawing.x([span[0]])[0]), float(drawing.y([error])[0])
    drawing.add(mark(style, x, y, hollow=bool(entry.contamination)))


def age_figure(joined: Joined) -> Figure | None:
    """Return the mean error by true age, with bands; None if no age has enough pictures."""
    people = joined.people(joined.rows)
    curves = [
        (entry, style, age_curve(*on_common(joined, entry), people))
        for entry, style in drawn(joined)
    ]
    good = [part for part in curves if np.isfinite(part[2].mae_years).any()]
    if not good:
        return None
    tops = [np.nanmax(np.fmax(curve.high_years, curve.mae_years)) for _, _, curve in good]
    ages = [curve.ages_years[np.isfinite(curve.mae_years)] for _, _, curve in good]
    names = names_of(joined)
    drawing = Drawing(
        linear_axis(
            "true age, years", max(0.0, float(ages[0].min()) - 2.5), float(ages[0].max()) + 2.5, 7
        ),
        linear_axis("mean absolute error, years", 0, float(max(tops))),
        right=right_margin(names),
    )
    for _, style, curve in good:
        drawing.band(curve.ages_years, curve.low_years, curve.high_years, style)
    for _, style, curve in good:
        drawing.line(curve.ages_years, curve.mae_years, style)
        drawing.marks(curve.ages_years, curve.mae_years, style)
    if names:
        name_lines(
            drawing,
            [
                line_end(names[entry.label], style, curve.ages_years, curve.mae_years)
                for entry, style, curve in good
            ],
        )
    descriptions = []
    for entry, _, curve in good:
        low, high = int(np.nanargmin(curve.mae_years)), int(np.nanargmax(curve.mae_years))
        descriptions.append(
            f"{entry.label}: lowest at {curve.ages_years[low]:g} "
            f"({number(curve.mae_years[low])}), "
            f"highest at {curve.ages_years[high]:g} ({number(curve.mae_years[high])})"
        )
    return Figure(
        drawing.svg(f"Mean absolute error by true age. {'; '.join(descriptions)}."),
        title="Error by age",
        caption=(
            "Steps of 5 years; bands: 95 % intervals. Steps with fewer than 20 pictures "
            "are left out."
        ),
    )


def score_figure(joined: Joined) -> Figure | None:
    """Return the cumulative score curves; None if no true age is known."""
    if not joined.rows.any():
        return None
    names = names_of(joined)
    drawing = Drawing(
        linear_axis("error of at most, years", 0, 20, 4),
        percent_axis("fraction of pictures, %"),
        right=right_margin(names),
    )
    descriptions, ends = [], []
    for entry, style in drawn(joined):
        years, fractions = score_curve(*on_common(joined, entry))
        drawing.line(years, fractions, style)
        marked = np.isin(years, MARKED_SCORES)
        drawing.marks(years[marked], fractions[marked], style)
        at_five = float(fractions[years == 5][0])
        descriptions.append(f"{entry.label}: {percent(at_five)} % within 5 years")
        ends += [line_end(names[entry.label], style, years, fractions)] if names else []
    name_lines(drawing, ends)
    return Figure(
        drawing.svg(f"Cumulative score curves. {'; '.join(descriptions)}."),
        title="Cumulative scores",
        caption="Higher is better. Marks at 1, 3, 5 and 10 years.",
    )


def density_figures(joined: Joined) -> list[Figure]:
    """Return how often each age was predicted for each true age, one figure per estimator."""
    if not joined.rows.any():
        return []
    tables = [(entry, density(*on_common(joined, entry))) for entry, _ in drawn(joined)]
    end = max(table.end_years for _, table in tables)
    return [_density_figure(entry, table, end) for entry, table in tables]


def _density_figure(entry: Entry, table: Density, end: float) -> Figure:
    drawing = Drawing(
        linear_axis("true age, years", 0, end),
        linear_axis("predicted age, years", 0, end),
        height=370,
        grid=False,
    )
    most = int(table.counts.max())
    levels = np.zeros(table.counts.shape, np.intp)
    occupied = table.counts > 0
    if most > 1:
        depth = np.log(table.counts[occupied]) / math.log(most)
        levels[occupied] = np.minimum((depth * len(SHADES)).astype(np.intp), len(SHADES) - 1)
    width, height = _cell(drawing, table.step_years)
    for level, colour in enumerate(SHADES):
        true, predicted = np.nonzero(occupied & (levels == level))
        left = drawing.x(true * table.step_years).tolist()
        top = drawing.y((predicted + 1) * table.step_years).tolist()
        cells = "".join(
            f"M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h-{width:.1f}z"
            for x, y in zip(left, top, strict=True)
        )
        if cells:
            drawing.add(tag("path", d=cells, fill=colour))
    corner = (drawing.x([0, end]).tolist(), drawing.y([0, end]).tolist())
    diagonal = f"M{corner[0][0]:.1f} {corner[1][0]:.1f}L{corner[0][1]:.1f} {corner[1][1]:.1f}"
    drawing.add(tag("path", d=diagonal, class_="ideal"))
    pictures = counted(int(table.counts.sum()), "picture")
    alternative = (
        f"Predicted against true age of {entry.label}: {pictures} in cells of "
        f"{table.step_years:g} years, at most {most} in one; on the dashed line, both are equal."
    )
    caption = (
        f"Cells of {table.step_years:g} years; darkest: {counted(most, 'picture')}, "
        "lightest: 1 picture; logarithmic scale. Dashed: predicted = true."
    )
    return Figure(drawing.svg(alternative), title=entry.label, caption=caption)


def _cell(drawing: Drawing, step: float) -> tuple[float, float]:
    x, y = drawing.x([0, step]), drawing.y([0, step])
    return float(x[1] - x[0]), float(y[0] - y[1])


def latency_figure(joined: Joined) -> Figure | None:
    """Return the distribution of each estimator's total time; None if nothing was timed."""
    rows = timed_totals(joined)
    if not rows:
        return None
    low = min(float(times.min()) for _, _, times in rows)
    high = max(float(times.max()) for _, _, times in rows)
    axis = log_axis("milliseconds per picture, all stages", low, high)
    drawing = Drawing(axis, None, height=_ROW * len(rows) + 66)
    for at, (entry, style, times) in enumerate(rows):
        _row(drawing, entry, style, times, _ROW_TOP + _ROW * at)
    description = "; ".join(
        f"{entry.label}: median {milliseconds(float(np.median(times)))} ms, "
        f"99 % below {milliseconds(float(np.percentile(times, 99)))} ms"
        for entry, _, times in rows
    )
    return Figure(
        drawing.svg(f"Latency distributions. {description}."),
        caption=(
            "Dots: single pictures; box: the middle half, with the median; line: from the 1st to "
            "the 99th percentile, with a tick at the 90th."
        ),
    )


def _row(drawing: Drawing, entry: Entry, style: Look, times: Floats, top: int) -> None:
    drawing.add(mark(style, 20, top - 4, 4))
    drawing.write(30, top, shortened(entry.label, 48), kind="name")
    middle = top + 18
    percentiles = np.percentile(times, (1, 25, 50, 75, 90, 99))
    low, first, median, third, ninth, last = drawing.x(percentiles).tolist()
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
