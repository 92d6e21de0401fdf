"""The leaderboard's page: a self-contained HTML file, and Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from agebench.harness.comparability import LABEL_SOURCES
from agebench.metrics.number_format import counted, number
from agebench.report.escaping import markdown
from agebench.report.figures import Figure
from agebench.report.grid import Grid
from agebench.report.page import Section
from agebench.report.tables import markdown_table
from agebench.report.templating import whole_page
from agebench.suite.board import Board
from agebench.suite.drawings import MAX_WHISKERS, chart_figure, front_figure, keys
from agebench.suite.robustness import charts
from agebench.suite.standing import SetStanding, standings
from agebench.suite.tables import (
    contamination_notes,
    cost_grid,
    fairness_grids,
    label_text,
    model_grid,
    overview,
    set_grid,
)
from agebench.suite.times import in_usual_runtime, usual_runtime

HOW = (
    "A model's rank is 1 plus the number of models shown to be better on the same pictures, by "
    "paired tests (over people if known) with Holm's correction: between models of rank 1, no "
    "difference was shown. Ranks apply to one set: sets differ in their pictures, labels and "
    "difficulty, and nothing is averaged over them.",
    "A model memorises the pictures that it was trained on: its error on them is shown in "
    "brackets, and it has no rank. A model that lists its training pictures is judged by that "
    "list, including near copies, and is ranked if it was trained only on other pictures of the "
    "set; any other model is judged by the sets that its makers name.",
    "Errors are over the pictures that every ranked model gave an age for. A model with an age for "
    "fewer than half of them is not ranked, and its error is over its own pictures.",
)

DOUBT = (
    "A question mark means that the maintainers of this leaderboard suspect that the model was "
    "trained on that set, for the reason given with the figure. This is not confirmed; there is no "
    "rank."
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
        kinds=[(at + 1, label_text(standing.pictures)) for at, standing in enumerate(found)],
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
    for standing in found:
        best = standing.best
        if not best:
            lines.append(f"{standing.pictures.title}: no model can be ranked.")
            continue
        errors = {name: standing.models[name].error_years for name in best}
        names = ", ".join(titles[name] for name in sorted(best, key=errors.__getitem__))
        shared = "" if len(best) == 1 else ", with no difference shown"
        ends = " to ".join(dict.fromkeys(number(end(errors.values())) for end in (min, max)))
        count = len(standing.models)
        measured = "" if count == len(titles) else f", of {count} models measured"
        doubted = _doubted(standing, titles)
        lines.append(
            f"{standing.pictures.title}{measured}: {names}, {ends} years{shared}.{doubted}"
        )
    return lines


def _doubted(standing: SetStanding, titles: Mapping[str, str]) -> str:
    """Return the models that are not ranked because of a suspicion, and could be first."""
    names = [
        f"{titles[name]} ({number(entry.error_years)})"
        for name, entry in standing.models.items()
        if entry.suspected
    ]
    return f" Not ranked, on suspicion: {', '.join(names)}." if names else ""


def _how(found: Sequence[SetStanding]) -> Sequence[str]:
    doubts = any(entry.suspected for standing in found for entry in standing.models.values())
    return (*HOW, DOUBT) if doubts else HOW


def _sections(board: Board, found: Sequence[SetStanding]) -> Iterator[Section]:
    yield from _times(board, found)
    for standing in found:
        yield Section(
            f"set-{standing.pictures.key}",
            standing.pictures.title,
            _about(standing),
            grids=[set_grid(board, standing)],
        )
    yield from _robustness(board, found)
    grids = fairness_grids(board, found)
    if grids:
        yield Section(
            "fairness",
            "Errors by group",
            [
                "The gap is the error of the worst group minus that of the best, each over the "
                "pictures that the model gave an age for. In bold: the worst group.",
                "Minors pass if they are estimated at 18 or older, without a buffer.",
            ],
            grids=grids,
        )
    yield Section("models", "Models", grids=[model_grid(board)])
    empty = _empty(board)
    if empty:
        yield Section("empty", "Empty cells", ["Missing results, with reasons."], items=empty)


def _times(board: Board, found: Sequence[SetStanding]) -> Iterator[Section]:
    if board.times is None:
        yield Section(
            "front",
            "Error against milliseconds",
            ["Nothing was timed: milliseconds come from one run in which all models take turns."],
        )
        return
    drawn = (front_figure(board, standing) for standing in found)
    figures: list[Figure] = [figure for figure in drawn if figure is not None]
    machine = board.times.environment
    paragraphs = [
        "Medians of crop and network, added, for one face at batch 1, in turns, on "
        f"{machine.processor}, measured {board.times.created[:10]}; only models in "
        f"{usual_runtime(board)} are drawn. Bottom left is best. Horizontal lines: "
        "10th to 90th percentiles, added alike; vertical lines: 95 % interval of the error. The "
        "grey steps connect the models that no other beats in both.",
    ]
    if board.times.too_busy:
        busy = board.times.too_busy
        paragraphs.append(f"These times are too long: {busy}. Their order is only approximate.")
    not_drawn, guests = [], []
    for model in board.models:
        if model.name in board.times.models:
            not_drawn += [] if in_usual_runtime(board, model.name) else [model.title]
            guests += [model.title] if model.spec is not None and model.spec.detector else []
    if guests:
        paragraphs.append(
            f"Faces were found by {board.times.detector} for all models, although these are "
            f"defined with another detector: {', '.join(guests)}."
        )
    if not_drawn:
        paragraphs.append(
            f"Not drawn, as not run in {usual_runtime(board)}: {', '.join(not_drawn)}."
        )
    yield Section(
        "front", "Error against milliseconds", paragraphs, figures, "small", legend=keys(board)
    )


def _about(standing: SetStanding) -> list[str]:
    dataset = standing.pictures.dataset
    labels = (
        "Labels are ranges of ages guessed by people; an error is the distance to the range, 0 "
        "inside it."
        if standing.pictures.of_ranges
        else f"True ages come from {LABEL_SOURCES[dataset.label_kind]}."
    )
    paragraphs = [f"{dataset.name}, {dataset.protocol}. {labels}"]
    if standing.pictures.content.note:
        paragraphs.append(standing.pictures.content.note)
    if len(set(standing.detectors.values())) > 1:
        paragraphs.append("Not all models used faces from the same detector.")
    terms = f" Terms of the pictures: {dataset.licence}." if dataset.licence else ""
    paragraphs.append(f"Data: sha256 {dataset.content_sha256[:16]}.{terms}")
    return paragraphs


def _robustness(board: Board, all_standings: Sequence[SetStanding]) -> Iterator[Section]:
    found = [chart for chart in charts(board) if chart.lines]
    if not found:
        return
    titles = {model.name: model.title for model in board.models}
    paragraphs = [
        "Faces are detected in the unchanged pictures, which are then changed, so that the figures "
        "describe the models and not the detector. Vertical lines: 95 % intervals, not drawn for "
        f"more than {MAX_WHISKERS} models. The tables state how much the error increases on the "
        "same pictures, with its 95 % interval: if this contains 0, no increase is shown."
    ]
    drawn = {(chart.pictures.key, line.model) for chart in found for line in chart.lines}
    for standing in all_standings:
        key, title = standing.pictures.key, standing.pictures.title
        known = [titles[name] for name in contamination_notes(standing) if (key, name) in drawn]
        if known:
            paragraphs.append(
                f"Trained on {title}, or suspected of it: {', '.join(known)}. Their figures show "
                "the effect of a change, but not how good they are."
            )
    figures = [chart_figure(board, chart) for chart in found]
    grids = [cost_grid(board, chart) for chart in found]
    yield Section("robustness", "Harder pictures", paragraphs, figures, "small", keys(board), grids)


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
            f"**{markdown(standing.pictures.title)}.** {markdown(' '.join(_about(standing)))}"
            for standing in found
        ),
        markdown_table(model_grid(board)),
    ]
    empty = _empty(board)
    if empty:
        parts.append("\n".join(f"- {markdown(line)}" for line in empty))
    return "\n\n".join(parts) + "\n"
