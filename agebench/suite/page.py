"""The leaderboard's page: a self-contained HTML file, and Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from agebench.harness.comparability import LABEL_SOURCES
from agebench.metrics.number_format import counted, number
from agebench.report.escaping import markdown
from agebench.report.figures import Figure
from agebench.report.grid import Grid
from agebench.report.page import Section
from agebench.report.tables import markdown_table
from agebench.report.templating import whole_page
from agebench.suite.board import Board
from agebench.suite.drawings import MOST_WHISKERS, chart_figure, front_figure, keys
from agebench.suite.robustness import charts
from agebench.suite.standing import SetStanding, standings
from agebench.suite.tables import (
    cost_grid,
    fairness_grids,
    label_text,
    model_grid,
    overview,
    remembered,
    set_grid,
)
from agebench.suite.times import in_usual_runtime, usual_runtime

HOW = (
    "A rank is 1 and how many models have been shown to be better on the same pictures (paired "
    "tests over people where they are known, Holm's correction): models that share a rank can't "
    "be told apart. Ranks hold within one set: sets differ in their pictures, in what their "
    "labels are and in how hard they are, and nothing is averaged over them.",
    "A model memorises the pictures that it was trained on: its error on them is shown, in "
    "brackets, and it has no rank. One that lists its training pictures is judged by that list, "
    "near copies included, and is ranked if it learned only from other pictures of the set; "
    "any other is judged by the sets that its makers name.",
    "Errors are over the pictures that every ranked model gave an age for. A model that gave an "
    "age for fewer than half of them is not ranked, and has its own pictures.",
)

DOUBT = (
    "A question mark: the maintainers of this leaderboard suspect that the model was trained on "
    "that set, for the reason given at the figure. This is not confirmed; there is no rank."
)


def as_html(board: Board, reports: Sequence[tuple[str, str]] = ()) -> str:
    """Return the page.

    Args:
        board: to show.
        reports: titles and addresses of the full reports next to it.
    """
    found = standings(board)
    return whole_page(
        "leaderboard.html",
        ("plot.css", "report.css", "leaderboard.css"),
        ("report.js", "leaderboard.js"),
        title=board.title,
        lead=lead(board),
        answer=answers(board, found),
        overview=overview(board, found),
        kinds=[(at + 1, label_text(one.pictures)) for at, one in enumerate(found)],
        how=_how(found),
        sections=list(_sections(board, found)),
        reports=reports,
    )


def lead(board: Board) -> str:
    """Return one line below the title."""
    days = sorted(
        {cell.content.created[:10] for model in board.models for cell in model.cells.values()}
    )
    when = "" if not days else f"; measured {days[0]}" + (f" to {days[-1]}" if days[1:] else "")
    return (
        f"{counted(len(board.models), 'model')} on {counted(len(board.sets), 'set')}, the same "
        f"pictures for all{when}"
    )


def answers(board: Board, found: Sequence[SetStanding]) -> list[str]:
    """Return the conclusion for each set, in a sentence."""
    titles = {model.name: model.title for model in board.models}
    lines = []
    for one in found:
        best = one.best
        if not best:
            lines.append(f"{one.pictures.title}: no model can be ranked.")
            continue
        errors = [one.models[name].error_years for name in best]
        names = ", ".join(titles[name] for name in sorted(best, key=_error_on(one)))
        shared = "" if len(best) == 1 else ", which can't be told apart"
        ends = " to ".join(dict.fromkeys((number(min(errors)), number(max(errors)))))
        of = "" if len(one.models) == len(titles) else f", of {len(one.models)} models measured"
        doubted = _doubted(one, titles)
        lines.append(f"{one.pictures.title}{of}: {names}, {ends} years{shared}.{doubted}")
    return lines


def _doubted(one: SetStanding, titles: Mapping[str, str]) -> str:
    """Return the models that have no rank only on suspicion, and could be first."""
    told = [
        f"{titles[name]} ({number(standing.error_years)})"
        for name, standing in one.models.items()
        if standing.suspected
    ]
    return f" Not ranked, on suspicion: {', '.join(told)}." if told else ""


def _how(found: Sequence[SetStanding]) -> Sequence[str]:
    doubts = any(standing.suspected for one in found for standing in one.models.values())
    return (*HOW, DOUBT) if doubts else HOW


def _error_on(one: SetStanding) -> Callable[[str], float]:
    return lambda name: one.models[name].error_years


def _sections(board: Board, found: Sequence[SetStanding]) -> Iterator[Section]:
    yield from _times(board, found)
    for one in found:
        yield Section(
            f"set-{one.pictures.key}", one.pictures.title, _about(one), grids=[set_grid(board, one)]
        )
    yield from _robustness(board, found)
    grids = fairness_grids(board, found)
    if grids:
        yield Section(
            "fairness",
            "Errors by group",
            [
                "The gap is the error of the worst group less that of the best, each over the "
                "pictures that the model gave an age for. In bold: the worst group.",
                "Minors pass if they are estimated at 18 or more, without a buffer.",
            ],
            grids=grids,
        )
    yield Section("models", "Models", grids=[model_grid(board)])
    empty = _empty(board)
    if empty:
        yield Section("empty", "Empty cells", ["What is missing, and why."], items=empty)


def _times(board: Board, found: Sequence[SetStanding]) -> Iterator[Section]:
    if board.times is None:
        yield Section(
            "front",
            "Error against milliseconds",
            ["Nothing was timed: milliseconds come from one run in which all models take turns."],
        )
        return
    drawn = (front_figure(board, one) for one in found)
    figures: list[Figure] = [figure for figure in drawn if figure is not None]
    machine = board.times.environment
    words = [
        "Medians of crop and network for one face at batch 1, in turns, on "
        f"{machine.processor}, measured {board.times.created[:10]}; drawn are those in "
        f"{usual_runtime(board)}. Left and low is good. Lines across: the middle 80 % of the "
        "times; lines up: 95 % interval of the error. The grey steps connect the models that no "
        "other beats in both.",
    ]
    if board.times.too_busy:
        busy = board.times.too_busy
        words.append(f"These times are too long: {busy}. Their order is only approximate.")
    others, guests = [], []
    for model in board.models:
        if model.name in board.times.models:
            others += [] if in_usual_runtime(board, model.name) else [model.title]
            guests += [model.title] if model.spec is not None and model.spec.detector else []
    if guests:
        words.append(
            f"Faces were found by {board.times.detector} for all, though these are defined with "
            f"another detector: {', '.join(guests)}."
        )
    if others:
        words.append(f"Not drawn, since not run in {usual_runtime(board)}: {', '.join(others)}.")
    yield Section(
        "front", "Error against milliseconds", words, figures, "small", legend=keys(board)
    )


def _about(one: SetStanding) -> list[str]:
    dataset = one.pictures.dataset
    labels = (
        "Labels are ranges of ages that people guessed; an error is the distance to the range, 0 "
        "inside."
        if one.pictures.of_ranges
        else f"True ages come from {LABEL_SOURCES[dataset.label_kind]}."
    )
    words = [f"{dataset.name}, {dataset.protocol}. {labels}"]
    if one.pictures.content.note:
        words.append(one.pictures.content.note)
    if len(set(one.detectors.values())) > 1:
        words.append("Not all models had their faces from the same detector.")
    terms = f" Terms of the pictures: {dataset.licence}." if dataset.licence else ""
    words.append(f"Data: sha256 {dataset.content_sha256[:16]}.{terms}")
    return words


def _robustness(board: Board, standing: Sequence[SetStanding]) -> Iterator[Section]:
    found = [chart for chart in charts(board) if chart.lines]
    if not found:
        return
    titles = {model.name: model.title for model in board.models}
    words = [
        "The face is detected in the unchanged picture; then the picture is changed, so that the "
        "figures describe the models and not the detector. Lines up: 95 % intervals; not drawn "
        f"for more than {MOST_WHISKERS} models. The tables say how much larger the error becomes "
        "on the same pictures, with its 95 % interval: if the interval contains 0, no loss "
        "is shown."
    ]
    asked = {(chart.pictures.key, line.model) for chart in found for line in chart.lines}
    for one in standing:
        known = [titles[name] for name in remembered(one) if (one.pictures.key, name) in asked]
        if known:
            words.append(
                f"Trained on {one.pictures.title}, or suspected of it: {', '.join(known)}. Their "
                "figures show the effect of a change, and not how good they are."
            )
    figures = [chart_figure(board, chart) for chart in found]
    grids = [cost_grid(board, chart) for chart in found]
    yield Section(
        "robustness", "Harder pictures", words, figures, "small", grids=grids, legend=keys(board)
    )


def _empty(board: Board) -> list[str]:
    titles = {pictures.key: pictures.title for pictures in board.sets} | dict(board.empty_sets)
    lines = []
    for model in board.models:
        reasons = Counter(model.missing.values())
        for reason in reasons:
            sets = [titles.get(key, key) for key, why in model.missing.items() if why == reason]
            lines.append(f"{model.title} on {', '.join(sets)}: {reason}")
    return lines


def as_markdown(board: Board) -> str:
    """Return the overview, with remarks, as GitHub's Markdown."""
    found = standings(board)
    grid: Grid = overview(board, found, inline=True)
    parts = [
        f"# {markdown(board.title)}",
        markdown(lead(board)),
        *(markdown(line) for line in answers(board, found)),
        markdown_table(grid),
        *map(markdown, _how(found)),
        *(
            f"**{markdown(one.pictures.title)}.** {markdown(' '.join(_about(one)))}"
            for one in found
        ),
        markdown_table(model_grid(board)),
    ]
    empty = _empty(board)
    if empty:
        parts.append("\n".join(f"- {markdown(line)}" for line in empty))
    return "\n\n".join(parts) + "\n"
