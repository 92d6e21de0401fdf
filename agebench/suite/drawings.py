"""The leaderboard's figures: error against milliseconds, and error against strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from agebench.metrics.number_format import milliseconds, number
from agebench.report.drawn_names import Named, figure_height, name_lines, name_marks, right_margin
from agebench.report.figures import Figure, direct_names
from agebench.report.measures import front
from agebench.report.plots_errors import MIN_MS
from agebench.report.svg import BASELINE_LOOK, Axis, Drawing, Look, key, linear_axis, log_axis, look
from agebench.suite.board import Board
from agebench.suite.robustness import Chart
from agebench.suite.standing import SetStanding
from agebench.suite.times import in_usual_runtime, median_ms, span_ms
from agebench.vision.variants import KINDS, parse_variant

DODGE = 0.035
"""Offset between the marks of two models, in steps of strength."""

MAX_WHISKERS = 8
"""Maximum number of models with drawn intervals; more would overlap, so these are in the tables."""

CHART_TITLES = {
    "face-px": "small faces",
    "blur": "blur",
    "jpeg": "JPEG",
    "light": "dark pictures",
    "roll": "turned pictures",
    "shift": "shifted box",
    "covered": "no colour, eyes or mouth covered",
}


def model_looks(board: Board) -> Mapping[str, Look]:
    """Return the style of each model in all figures, by name; the baseline is always grey."""
    positions = iter(range(len(board.models)))
    return {
        model.name: BASELINE_LOOK if model.is_constant else look(next(positions))
        for model in board.models
    }


def front_figure(board: Board, standing: SetStanding) -> Figure | None:
    """Return error against milliseconds on one set; None if nothing was timed.

    Only models of the most frequent runtime are drawn, since times also depend on the runtime.
    """
    shown = [
        (entry, ms)
        for entry in standing.models.values()
        if entry.rank is not None
        and in_usual_runtime(board, entry.model)
        and (ms := median_ms(board, entry.model)) is not None
    ]
    if not shown:
        return None
    spans = [span_ms(board, entry.model) or (ms, ms) for entry, ms in shown]
    tops = [entry.interval.high if entry.interval else entry.error_years for entry, _ in shown]
    low = max(MIN_MS, min(span[0] for span in spans))
    drawing = Drawing(
        log_axis("milliseconds per face, crop and network", low, max(span[1] for span in spans)),
        linear_axis("mean absolute error, years", 0, max(tops)),
    )
    costs, errors = [max(MIN_MS, ms) for _, ms in shown], [entry.error_years for entry, _ in shown]
    kept = front(costs, errors)
    drawing.steps([costs[at] for at in kept], [errors[at] for at in kept])
    looks = model_looks(board)
    for (entry, ms), span in zip(shown, spans, strict=True):
        style, (left, right) = looks[entry.model], np.maximum(span, MIN_MS).tolist()
        drawing.spread(left, right, entry.error_years, style)
        if entry.interval is not None:
            drawing.whiskers([ms], [entry.interval.low], [entry.interval.high], style)
        drawing.marks([max(MIN_MS, ms)], [entry.error_years], style)
    names = _names(board, [entry.model for entry, _ in shown])
    if names:
        marks = [
            Named(names[entry.model], looks[entry.model], max(MIN_MS, ms), entry.error_years)
            for entry, ms in shown
        ]
        name_marks(drawing, marks)
    description = "; ".join(
        f"{entry.model}: {milliseconds(ms)} ms, {number(entry.error_years)} years"
        for entry, ms in shown
    )
    return Figure(
        drawing.svg(f"Error against milliseconds on {standing.pictures.title}. {description}."),
        title=standing.pictures.title,
    )


def chart_figure(board: Board, chart: Chart) -> Figure:
    """Return error against strength, one line for each model."""
    places, across = _across(chart.kind, chart.variants)
    crowded = len(chart.lines) > MAX_WHISKERS
    tops = [
        step.interval.high if step.interval and not crowded else step.error_years
        for line in chart.lines
        for step in line.steps
    ]
    names = _names(board, [line.model for line in chart.lines])
    drawing = Drawing(
        across,
        linear_axis("mean absolute error, years", 0, max(tops)),
        height=figure_height(names, 300),
        right=right_margin(names),
    )
    looks, ends = model_looks(board), []
    for position, line in enumerate(chart.lines):
        style = looks[line.model]
        # Side by side, so that intervals do not overlap.
        aside = DODGE * (position - (len(chart.lines) - 1) / 2)
        xs = [places[step.variant] + aside for step in line.steps]
        errors = [step.error_years for step in line.steps]
        untouched = (places[""] + aside, line.untouched_years)
        points = sorted([*zip(xs, errors, strict=True), untouched])
        bands = [step.interval for step in line.steps]
        if not crowded:
            drawing.whiskers(
                xs,
                [np.nan if ends is None else ends.low for ends in bands],
                [np.nan if ends is None else ends.high for ends in bands],
                style,
            )
        if chart.kind != "covered":
            drawing.line([x for x, _ in points], [y for _, y in points], style)
        drawing.marks([x for x, _ in points], [y for _, y in points], style)
        if names:
            ends.append(Named(names[line.model], style, *points[-1]))
    name_lines(drawing, ends)
    description = "; ".join(
        f"{line.model}: "
        + ", ".join(f"{step.variant} {number(step.error_years)}" for step in line.steps)
        for line in chart.lines
    )
    n = max(line.n for line in chart.lines)
    return Figure(
        drawing.svg(f"Error against strength, {CHART_TITLES[chart.kind]}. {description}."),
        title=f"{chart.pictures.title}: {CHART_TITLES[chart.kind]}",
        caption=f"{_caption(chart.kind)} {n:,} pictures.",
    )


def _caption(kind: str) -> str:
    if kind == "covered":
        return "Pictures without colour, and with eyes or mouth behind a gray bar."
    summary = KINDS[kind].summary
    return f"{summary[0].upper()}{summary[1:]}."


def _across(kind: str, texts: Sequence[str]) -> tuple[dict[str, float], Axis]:
    """Return the position of each strength ("" is the unchanged picture), and the axis."""
    if kind == "covered":
        names = {"gray": "gray", "cover-eyes": "eyes", "cover-mouth": "mouth"}
        order = ["", *texts]
        places = {text: float(at) for at, text in enumerate(order)}
        ticks = tuple((places[text], names.get(text, "as is")) for text in order)
        return places, Axis("what is changed", -0.4, len(order) - 0.6, ticks)
    order = [*texts, ""] if kind in ("face-px", "jpeg", "light") else ["", *texts]
    if kind == "roll":
        order = sorted([*texts, ""], key=lambda text: parse_variant(text).strength if text else 0)
    # Evenly spaced, so that all steps can be distinguished; the unchanged picture has no strength.
    places = {text: float(at) for at, text in enumerate(order)}
    ticks = tuple(
        (places[text], f"{parse_variant(text).strength:g}" if text else "as is") for text in order
    )
    unit = {"face-px": "height of the face, pixels", "jpeg": "quality", "roll": "degrees"}
    label = unit.get(kind, "per cent")
    return places, Axis(label, -0.3, len(order) - 0.7, ticks)


def keys(board: Board) -> list[tuple[Markup, str]]:
    """Return the legend of all figures."""
    return [(key(style), _title(board, name)) for name, style in model_looks(board).items()]


def _names(board: Board, models: Sequence[str]) -> dict[str, str]:
    """Return labels of lines and marks by model, from its title; empty for few models."""
    titles = {name: _title(board, name) for name in models}
    shown = direct_names(titles.values())
    return {name: shown[title] for name, title in titles.items()} if shown else {}


def _title(board: Board, name: str) -> str:
    return next(model.title for model in board.models if model.name == name)
