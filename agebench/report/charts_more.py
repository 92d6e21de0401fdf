"""Matplotlib figures of bias, calibration, age thresholds and latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agebench.metrics.number_format import number, signed
from agebench.report.chart_names import name_lines, name_marks
from agebench.report.chart_parts import (
    aspect_with_legend,
    line_style,
    log_milliseconds,
    mark_style,
    name_of,
    panels,
)
from agebench.report.drawn_names import Named
from agebench.report.figures import drawn, names_of
from agebench.report.joining import Joined
from agebench.report.plots_analysis import calibrated, swept_buffers, threshold_ages
from agebench.report.plots_errors import timed_totals
from agebench.report.rows_errors import HEAT_END_YEARS, groups_by_label

if TYPE_CHECKING:
    from agebench.report.chart_figure import ShownFigure

_DARK = 0.55
"""Fraction of the full colour above which the numbers in a cell are white."""


def draw_bias(figure: ShownFigure, joined: Joined) -> float | None:
    """Draw the signed bias of every group and estimator as a heat map."""
    shown = [entry for entry, _ in drawn(joined)]
    groups = [  # not a mapping: long names may be equal once they are shortened
        (name_of(f"{attribute}: {value}"), by_label)
        for (attribute, value), by_label in groups_by_label(joined).items()
        if any(group.bias_years is not None for group in by_label.values())
    ]
    if not groups or not shown:
        return None
    table = np.full((len(groups), len(shown)), np.nan)
    for row, (_, by_label) in enumerate(groups):
        for column, entry in enumerate(shown):
            group = by_label.get(entry.label)
            if group is not None and group.bias_years is not None:
                table[row, column] = group.bias_years
    axes = figure.subplots()
    image = axes.pcolormesh(table, cmap="PuOr_r", vmin=-HEAT_END_YEARS, vmax=HEAT_END_YEARS)
    for row, column in zip(*np.nonzero(np.isfinite(table)), strict=True):
        bias = float(table[row, column])
        colour = "white" if abs(bias) > _DARK * HEAT_END_YEARS else "#1b1b1b"
        place = column + 0.5, row + 0.5
        axes.text(*place, signed(bias, 1), ha="center", va="center", fontsize=6.5, color=colour)
    axes.set_xticks(np.arange(len(shown)) + 0.5, [name_of(entry.label) for entry in shown])
    axes.tick_params(axis="x", rotation=40, labelsize=7)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right")
    axes.set_yticks(np.arange(len(groups)) + 0.5, [name for name, _ in groups])
    axes.invert_yaxis()
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="bias, years", extend="both", fraction=0.06)
    return (1.3 + 0.19 * len(groups)) / figure.get_figwidth()


def draw_calibration(figure: ShownFigure, joined: Joined) -> float | None:
    """Draw the fraction of true ages inside the predicted intervals."""
    parts = calibrated(joined)
    if not parts:
        return None
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color="#333333", linestyle=(0, (5, 4)), linewidth=0.8)
    names, named = names_of(joined), []
    for entry, look, calibration in parts:
        points = calibration.coverage
        levels = [100 * at.level for at in points]
        percents = [100 * at.fraction for at in points]
        ends = [at.interval.ends if at.interval else (at.fraction, at.fraction) for at in points]
        lows = [percent - 100 * low for percent, (low, _) in zip(percents, ends, strict=True)]
        highs = [100 * high - percent for percent, (_, high) in zip(percents, ends, strict=True)]
        axes.errorbar(
            levels,
            percents,
            yerr=[lows, highs],
            label=name_of(entry.label),
            capsize=2,
            **line_style(look),
            **mark_style(look, hollow=bool(entry.contamination)),
        )
        if names and points:
            named.append(Named(names[entry.label], look, levels[-1], percents[-1]))
    name_lines(figure, axes, named)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 102)
    axes.set_xlabel("nominal coverage, %")
    axes.set_ylabel("observed coverage, %")
    return aspect_with_legend(figure, axes, 0.62)


def draw_age_thresholds(figure: ShownFigure, joined: Joined) -> float | None:
    """Draw people wrongly passed against people wrongly stopped, one panel per age threshold."""
    found = [(age, swept_buffers(joined, age)) for age in threshold_ages(joined)]
    ages = [(age, swept) for age, swept in found if swept]
    if not ages:
        return None
    across = 2 if figure.get_figwidth() < 4 else 3
    all_axes = panels(figure, len(ages), across)
    names = names_of(joined)
    for axes, (age, swept) in zip(all_axes, ages, strict=True):
        named = []
        for entry, look, sweep in swept:
            stops = [100 * (rates.false_stop_rate or 0.0) for rates in sweep]  # none is None
            passes = [100 * (rates.false_pass_rate or 0.0) for rates in sweep]
            marks = mark_style(look, hollow=bool(entry.contamination)) | {"markersize": 3.5}
            style = line_style(look) | marks
            axes.plot(stops, passes, label=name_of(entry.label), markevery=[0, -1], **style)
            if names:
                named.append(Named(names[entry.label], look, stops[0], passes[0]))
        name_marks(figure, axes, named)
        axes.set_title(f"threshold {number(age, 0)} years")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("older and stopped, %")
        axes.set_ylabel("younger and passed, %")
    columns = min(across, len(ages))
    rows = -(-len(ages) // columns)
    return aspect_with_legend(figure, all_axes[0], 0.62 if len(ages) == 1 else rows / columns)


def draw_latency(figure: ShownFigure, joined: Joined) -> float | None:
    """Draw the distribution of each estimator's total time."""
    timed = timed_totals(joined)
    if not timed:
        return None
    axes = figure.subplots()
    drawn_boxes = axes.boxplot(
        [times for _, _, times in timed],
        orientation="horizontal",
        whis=(1, 99),
        showfliers=False,
        widths=0.55,
        medianprops={"linewidth": 2.0},
    )
    for row, (_, look, _) in enumerate(timed):
        parts = [drawn_boxes["boxes"][row], drawn_boxes["medians"][row]]
        parts += drawn_boxes["whiskers"][2 * row : 2 * row + 2]
        parts += drawn_boxes["caps"][2 * row : 2 * row + 2]
        for part in parts:
            part.set_color(look.colour)
    names = [name_of(entry.label) for entry, _, _ in timed]
    axes.set_yticks(range(1, len(timed) + 1), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    log_milliseconds(axes)
    axes.set_xlabel("milliseconds per picture, all stages")
    return (0.6 + 0.28 * len(timed)) / figure.get_figwidth()
