"""Figures of the analysis: calibration and age thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from agebench.harness.contents_statistics import Calibration
from agebench.metrics.age_thresholds import ThresholdRates
from agebench.metrics.number_format import counted, number, percent
from agebench.report.direct_labels import Box
from agebench.report.drawn_names import Named, name_lines, name_marks, right_margin
from agebench.report.figures import Figure, drawn, names_of
from agebench.report.joining import Entry, Joined
from agebench.report.svg import WIDTH, Drawing, Look, linear_axis, percent_axis, tag

_DODGE = 0.014
"""Offset between the points of two estimators, as a fraction of the axis, to show both."""

_NEAR = 22
"""Distance below which the ends of a sweep share a label, in units of the drawing."""

_LETTER = 7.5
"""Width of a digit of a label, in units of the drawing."""


def calibrated(joined: Joined) -> list[tuple[Entry, Look, Calibration]]:
    """Return the drawn estimators that give distributions, with their calibration."""
    return [
        (entry, style, found)
        for entry, style in drawn(joined)
        if entry.analysis is not None and (found := entry.analysis.calibration) is not None
    ]


def calibration_figures(joined: Joined) -> list[Figure]:
    """Return the coverage of the predicted intervals, and each estimator's PIT; empty if none."""
    parts = calibrated(joined)
    if not parts:
        return []
    return [_coverage_figure(parts, names_of(joined)), *(_pit_figure(*part) for part in parts)]


def _coverage_figure(
    parts: Sequence[tuple[Entry, Look, Calibration]], names: Mapping[str, str]
) -> Figure:
    drawing = Drawing(
        percent_axis("nominal coverage, %"),
        percent_axis("observed coverage, %"),
        right=right_margin(names),
    )
    ends_named = []
    xs, ys = drawing.x([0, 1]).tolist(), drawing.y([0, 1]).tolist()
    drawing.add(tag("path", d=f"M{xs[0]:.1f} {ys[0]:.1f}L{xs[1]:.1f} {ys[1]:.1f}", class_="ideal"))
    descriptions = []
    for at, (entry, style, calibration) in enumerate(parts):
        shift = _DODGE * (at - (len(parts) - 1) / 2)
        points = calibration.coverage
        levels = np.asarray([point.level for point in points], np.float64)
        fractions = np.asarray([point.fraction for point in points], np.float64)
        ends = [point.interval.ends if point.interval else (np.nan, np.nan) for point in points]
        low, high = np.asarray(ends, np.float64).reshape(-1, 2).T
        drawing.whiskers(levels + shift, low, high, style)
        drawing.line(levels + shift, fractions, style)
        drawing.marks(levels + shift, fractions, style)
        if names:
            last = float((levels + shift)[-1]), float(fractions[-1])
            ends_named.append(Named(names[entry.label], style, *last))
        percents = ", ".join(
            f"{percent(fraction, 0)} % in the {percent(level, 0)} % interval"
            for level, fraction in zip(levels.tolist(), fractions.tolist(), strict=True)
        )
        descriptions.append(f"{entry.label}: {percents}")
    name_lines(drawing, ends_named)
    return Figure(
        drawing.svg(f"Coverage of the predicted intervals. {'; '.join(descriptions)}."),
        title="Coverage",
        caption=(
            "On the dashed line, coverage is as stated; below it, the estimator is overconfident. "
            "Marks of several estimators are placed side by side."
        ),
    )


def _pit_figure(entry: Entry, style: Look, calibration: Calibration) -> Figure:
    counts = np.asarray(calibration.pit_counts, np.float64)
    fractions = counts / max(counts.sum(), 1)
    drawing = Drawing(
        linear_axis("where the true age lies in the distribution", 0, 1),
        percent_axis("fraction of pictures, %", max(float(fractions.max()), 0.12)),
        height=260,
    )
    left = drawing.x(np.arange(len(fractions)) / len(fractions)).tolist()
    top, bottom = drawing.y(fractions).tolist(), float(drawing.y([0])[0])
    width = (drawing.x([1])[0] - drawing.x([0])[0]) / len(fractions) - 2
    bars = "".join(
        f"M{x + 1:.1f} {y:.1f}h{width:.1f}V{bottom:.1f}h-{width:.1f}z"
        for x, y in zip(left, top, strict=True)
    )
    drawing.add(tag("path", d=bars, fill=style.colour, class_="bar"))
    even = float(drawing.y([1 / len(fractions)])[0])
    start, end = drawing.x([0, 1]).tolist()
    drawing.add(tag("path", d=f"M{start:.1f} {even:.1f}H{end:.1f}", class_="ideal"))
    percents = ", ".join(percent(fraction, 0) for fraction in fractions.tolist())
    caption = (
        f"{counted(calibration.n, 'picture')}. Even bars are good. High bars on the left: people "
        "are younger than predicted; on the right: older; at both ends: it is overconfident."
    )
    return Figure(
        drawing.svg(f"PIT histogram of {entry.label}, per cent by tenth: {percents}."),
        title=f"PIT of {entry.label}",
        caption=caption,
    )


def threshold_ages(joined: Joined) -> list[float]:
    """Return all age thresholds, ascending."""
    found = {
        rates.threshold_years
        for entry in joined.entries
        if entry.analysis is not None
        for rates in entry.analysis.age_thresholds
    }
    return sorted(found)


def threshold_figures(joined: Joined) -> list[Figure]:
    """Return people wrongly passed against people wrongly stopped, a figure per age threshold."""
    figures = (_threshold_figure(joined, threshold) for threshold in threshold_ages(joined))
    return [figure for figure in figures if figure is not None]


def rates_at(entry: Entry, threshold: float) -> list[ThresholdRates]:
    """Return an estimator's rates at one threshold, by buffer."""
    thresholds = [] if entry.analysis is None else entry.analysis.age_thresholds
    found = [rates for rates in thresholds if rates.threshold_years == threshold]
    return sorted(found, key=lambda rates: float(rates.buffer_years))


def swept_buffers(
    joined: Joined, threshold: float
) -> list[tuple[Entry, Look, list[ThresholdRates]]]:
    """Return the drawn estimators with their rates by buffer, if both rates are known."""
    swept = [(entry, style, rates_at(entry, threshold)) for entry, style in drawn(joined)]
    # All buffers of a threshold have the same people on both sides, except in edited files.
    return [part for part in swept if part[2] and all(map(_has_both_rates, part[2]))]


def _threshold_figure(joined: Joined, threshold: float) -> Figure | None:
    swept = swept_buffers(joined, threshold)
    if not swept:
        return None
    tops = [rates.false_pass_rate or 0.0 for _, _, buffers in swept for rates in buffers]
    drawing = Drawing(
        percent_axis("of the age or older and stopped, %"),
        percent_axis("below the age and passed, %", max(tops)),
        height=290,
    )
    names = names_of(joined)
    descriptions, named = [], []
    ends: list[list[tuple[float, float]]] = []
    for entry, style, buffers in swept:
        stops = np.asarray([rates.false_stop_rate for rates in buffers], np.float64)
        passes = np.asarray([rates.false_pass_rate for rates in buffers], np.float64)
        drawing.line(stops, passes, style)
        at = _ends(buffers)
        drawing.marks(stops[at], passes[at], style)
        across, up = drawing.x(stops[at]).tolist(), drawing.y(passes[at]).tolist()
        ends.append(list(zip(across, up, strict=True)))
        if names:
            named.append(Named(names[entry.label], style, float(stops[0]), float(passes[0])))
        descriptions.append(
            f"{entry.label} without a buffer passes {percent(float(passes[0]))} % of those below "
            f"the age and stops {percent(float(stops[0]))} % of the others"
        )
    taken = [Box(x, y, 5, 5) for both in ends for x, y in both]
    taken = name_marks(drawing, named, taken)
    for (_, _, buffers), both in zip(swept, ends, strict=True):
        _label_ends(drawing, buffers, both, taken)
    first = swept[0][2][0]
    caption = (
        f"{first.minors:,} below the age, {first.adults:,} of it or older. Bottom left is best. "
        "Numbers at the ends: the buffer in years, if there is room."
    )
    age = number(threshold, 0)
    return Figure(
        drawing.svg(f"Age threshold {age} years. {'; '.join(descriptions)}."),
        title=f"Age threshold {age} years",
        caption=caption,
    )


def _has_both_rates(rates: ThresholdRates) -> bool:
    return rates.false_pass_rate is not None and rates.false_stop_rate is not None


def _ends(buffers: Sequence[ThresholdRates]) -> list[int]:
    """Return the indices of the first and the last buffer of a sweep."""
    return [0, len(buffers) - 1] if len(buffers) > 1 else [0]


def _label_ends(
    drawing: Drawing,
    swept: Sequence[ThresholdRates],
    ends: Sequence[tuple[float, float]],
    taken: list[Box],
) -> None:
    """Write the buffers next to both ends of a sweep; as one label if these are close."""
    buffers = [f"{swept[end].buffer_years:g}" for end in _ends(swept)]
    if len(ends) > 1 and math.dist(*ends) < _NEAR:
        ends, buffers = ends[:1], ["\u2013".join(buffers)]
    axes = float(drawing.x([0])[0]), float(drawing.y([0])[0])
    for (x, y), text in zip(ends, buffers, strict=True):
        label = _free_place(x, y, len(text) * _LETTER / 2, axes, taken)
        if label is not None:
            drawing.write(label.x, label.y + 4, text, anchor="middle")
            taken.append(label)


def _free_place(
    x: float, y: float, half_width: float, axes: tuple[float, float], taken: Sequence[Box]
) -> Box | None:
    """Return a position for a label next to a mark that covers no other marks and labels.

    None if there is none, as an illegible label is better left out.
    """
    left, bottom = axes
    beside, above = half_width + 7, 11
    steps = [(beside, -above), (beside, above), (-beside, above), (-beside, -above)]
    steps += [(beside + 2, 0), (0, above + 5), (0, -above - 5), (-beside - 2, 0)]
    steps += [(beside + 20, above - 3), (-beside - 20, above - 3)]
    places = [Box(x + right, y + down, half_width, 7) for right, down in steps]
    # Labels may extend to the right of the axes.
    room = Box((left + WIDTH) / 2, bottom / 2, (WIDTH - left) / 2, bottom / 2 + 2)
    inside = (place for place in places if place.within(room))
    return next((place for place in inside if not any(map(place.overlaps, taken))), None)
