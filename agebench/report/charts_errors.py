"""Matplotlib figures of the errors, as `plots_errors` draws them for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agebench.report.chart_names import name_lines, name_marks
from agebench.report.chart_parts import (
    aspect_with_legend,
    line_style,
    log_milliseconds,
    mark_style,
    name_of,
    panels,
)
from agebench.report.drawn_names import Named, line_end
from agebench.report.figures import drawn, names_of
from agebench.report.joining import Entry, Joined
from agebench.report.measures import age_curve, density, front, score_curve
from agebench.report.plots_errors import MARKED_SCORES, on_common, timed_totals
from agebench.report.svg import Look
from agebench.types import Floats

if TYPE_CHECKING:
    from agebench.report.chart_figure import ShownFigure


def draw_ranking(figure: ShownFigure, joined: Joined) -> float | None:
    """Draw the mean absolute error of each estimator with its 95 % interval, best on top."""
    shown = drawn(joined)
    if not shown:
        return None
    axes = figure.subplots()
    for row, (entry, look) in enumerate(shown):
        mean = entry.mae_years or 0.0
        interval = None if entry.errors is None else entry.errors.mae_interval
        if interval is not None:
            axes.plot([interval.low, interval.high], [row, row], color=look.colour)
        style = mark_style(look, hollow=bool(entry.contamination))
        axes.plot([mean], [row], linestyle="none", **style)
    axes.set_yticks(range(len(shown)), [name_of(entry.label) for entry, _ in shown])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(left=0)
    axes.set_xlabel("mean absolute error, years")
    return (0.55 + 0.24 * len(shown)) / figure.get_figwidth()


def draw_front(figure: ShownFigure, joined: Joined) -> float | None:
    """Draw the mean error against the median of the total time."""
    timed = timed_totals(joined)
    if not timed:
        return None
    axes = figure.subplots()
    medians = [_cross(figure, *part) for part in timed]
    errors = [entry.mae_years or 0.0 for entry, _, _ in timed]
    kept = front(medians, errors)
    axes.plot(
        [medians[at] for at in kept],
        [errors[at] for at in kept],
        drawstyle="steps-post",
        color="#8a8a8a",
        linewidth=0.9,
        zorder=1,
    )
    log_milliseconds(axes)
    axes.set_ylim(bottom=0)
    if names := names_of(joined):
        marks = [
            Named(names[entry.label], look, median, error)
            for (entry, look, _), median, error in zip(timed, medians, errors, strict=True)
        ]
        name_marks(figure, axes, marks)
    axes.set_xlabel("milliseconds per picture, all stages")
    axes.set_ylabel("mean absolute error, years")
    return aspect_with_legend(figure, axes, 0.62)


def _cross(figure: ShownFigure, entry: Entry, look: Look, times: Floats) -> float:
    """Draw one estimator's mark with its intervals; return its median time."""
    (axes,) = figure.axes
    median, left, right = np.percentile(times, (50, 10, 90)).tolist()
    error = entry.mae_years or 0.0
    interval = None if entry.errors is None else entry.errors.mae_interval
    up = None if interval is None else [[error - interval.low], [interval.high - error]]
    axes.errorbar(
        [median],
        [error],
        xerr=[[median - left], [right - median]],
        yerr=up,
        label=name_of(entry.label),
        linestyle="none",
        ecolor=look.colour,
        elinewidth=0.9,
        capsize=2,
        **mark_style(look, hollow=bool(entry.contamination)),
    )
    return float(median)


def draw_by_age(figure: ShownFigure, joined: Joined) -> float | None:
    """Draw the mean error by true age, with bands for its 95 % interval."""
    people = joined.people(joined.rows)
    curves = [
        (entry, look, age_curve(*on_common(joined, entry), people)) for entry, look in drawn(joined)
    ]
    good = [part for part in curves if np.isfinite(part[2].mae_years).any()]
    if not good:
        return None
    axes = figure.subplots()
    for entry, look, curve in good:
        axes.fill_between(
            curve.ages_years,
            curve.low_years,
            curve.high_years,
            color=look.colour,
            alpha=0.13,
            linewidth=0,
        )
        axes.plot(
            curve.ages_years,
            curve.mae_years,
            label=name_of(entry.label),
            **line_style(look),
            **mark_style(look, hollow=bool(entry.contamination)) | {"markersize": 3.0},
        )
    if names := names_of(joined):
        ends = [
            line_end(names[entry.label], look, curve.ages_years, curve.mae_years)
            for entry, look, curve in good
        ]
        name_lines(figure, axes, ends)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("true age, years")
    axes.set_ylabel("mean absolute error, years")
    return aspect_with_legend(figure, axes, 0.62)


def draw_scores(figure: ShownFigure, joined: Joined) -> float | None:
    """Draw the fraction of pictures with an error of at most k years."""
    if not joined.rows.any():
        return None
    axes = figure.subplots()
    names, ends = names_of(joined), []
    for entry, look in drawn(joined):
        years, fractions = score_curve(*on_common(joined, entry))
        marked = np.flatnonzero(np.isin(years, MARKED_SCORES)).tolist()
        style = line_style(look) | mark_style(look, hollow=bool(entry.contamination))
        axes.plot(years, 100 * fractions, label=name_of(entry.label), markevery=marked, **style)
        if names:
            ends.append(line_end(names[entry.label], look, years, 100 * fractions))
    name_lines(figure, axes, ends)
    axes.set_xlim(0, 20)
    axes.set_ylim(0, 100)
    axes.set_xlabel("error of at most, years")
    axes.set_ylabel("fraction of pictures, %")
    return aspect_with_legend(figure, axes, 0.62)


def draw_density(figure: ShownFigure, joined: Joined) -> float | None:
    """Draw how often each age was predicted for each true age, one panel per estimator."""
    if not joined.rows.any():
        return None
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator

    tables = [(entry, density(*on_common(joined, entry))) for entry, _ in drawn(joined)]
    most = max(int(table.counts.max()) for _, table in tables)
    end = max(table.end_years for _, table in tables)
    across = 2 if figure.get_figwidth() < 4 else 4
    image = None
    all_axes = panels(figure, len(tables), across)
    for axes, (entry, table) in zip(all_axes, tables, strict=True):
        edges = np.arange(len(table.counts) + 1) * table.step_years
        shown = np.ma.masked_equal(table.counts.T, 0)
        image = axes.pcolormesh(
            edges, edges, shown, cmap="Blues", norm=LogNorm(0.5, max(most, 2)), rasterized=True
        )
        axes.plot([0, end], [0, end], color="#333333", linestyle=(0, (5, 4)), linewidth=0.8)
        axes.set_title(name_of(entry.label, 22), fontsize=6.5)
        axes.set_xlim(0, end)
        axes.set_ylim(0, end)
        axes.set_aspect("equal")
        axes.grid(visible=False)
    figure.supxlabel("true age, years", fontsize=8)
    figure.supylabel("predicted age, years", fontsize=8)
    if image is not None:
        bar = figure.colorbar(image, ax=all_axes, label="pictures", fraction=0.05)
        bar.ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.minorticks_off()
    rows = -(-len(tables) // min(across, len(tables)))
    return rows / min(across, len(tables)) * 0.95 + 0.12
