"""The report's page: a self-contained HTML file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agebench import __version__
from agebench.benchmark.tables import busy_lines
from agebench.metrics.intervals import MINIMUM_PICTURES
from agebench.metrics.number_format import counted
from agebench.report import context
from agebench.report.changes import Change, changes
from agebench.report.figures import (
    Figure,
    Legend,
    drawn,
    legend,
    why_uncalibrated,
    why_untimed,
)
from agebench.report.gallery import GalleryTile, gallery, why_no_thumbnails
from agebench.report.grid import Grid
from agebench.report.joining import Joined, letter
from agebench.report.opening import answer, false_adult_grid
from agebench.report.plots_analysis import calibrated, calibration_figures, threshold_figures
from agebench.report.plots_errors import (
    age_figure,
    density_figures,
    front_figure,
    latency_figure,
    score_figure,
)
from agebench.report.reading import SweepFile
from agebench.report.rows_analysis import (
    calibration_grid,
    change_grid,
    changed_pictures_grid,
    circumstance_grid,
    faster_grid,
    latency_grid,
    threshold_grids,
    thresholds_without_rate,
)
from agebench.report.rows_errors import (
    HEAT_END_YEARS,
    class_grid,
    group_grids,
    own_class_grid,
    pair_grid,
    range_grid,
    small_groups,
)
from agebench.report.rows_ranking import ranking
from agebench.report.svg import key
from agebench.report.sweeps import looks, sweep_figures, sweep_grids
from agebench.report.templating import whole_page

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page; empty parts are left out.

    Attributes:
        name: its anchor.
        title: its heading.
        paragraphs: its text.
        figures: its figures.
        kind: "small" for many small figures.
        legend: of the figures, shown above them.
        grids: tables.
        galleries: a title and tiles each.
        details: a title and pairs of name and value each.
        commands: command lines and other text to copy.
        items: of a list.
    """

    name: str
    title: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    kind: str = ""
    legend: Legend = ()
    grids: Sequence[Grid] = ()
    galleries: Sequence[tuple[str, Sequence[GalleryTile]]] = ()
    details: Sequence[tuple[str, context.Details]] = ()
    commands: Sequence[str] = ()
    items: Sequence[str] = ()


def title(joined: Joined) -> str:
    """Return the page's title."""
    return f"Age estimators on {joined.dataset.name}"


def render(joined: Joined, thumbnails: Path | None = None, sweeps: Sequence[SweepFile] = ()) -> str:
    """Return the page.

    Args:
        joined: the results.
        thumbnails: folder of the pictures; None for no thumbnails.  They are left out, and the page
            says so, if the terms of the data set don't allow pictures to be passed on.
        sweeps: files of `agebench bench` to include.
    """
    return whole_page(
        "report.html",
        ("plot.css", "report.css"),
        ("report.js",),
        title=title(joined),
        lead=context.lead(joined),
        sources=" and ".join(
            str(path)
            for path in [*(file.path for file in joined.results), *(file.path for file in sweeps)]
        ),
        answer=answer(joined),
        opening=_not_none(front_figure(joined)),
        keys=legend(joined),
        rates=_not_none(false_adult_grid(joined)),
        sections=[
            *_ranking(joined),
            *_changes(joined),
            *_errors(joined),
            *_analysis(joined),
            *_latency(joined),
            *(_sweep(sweep, joined, number) for number, sweep in enumerate(sweeps, start=1)),
            *_worst(joined, thumbnails),
            *_sources(joined),
        ],
    )


def _not_none(*items: _Item | None) -> list[_Item]:
    return [item for item in items if item is not None]


def _ranking(joined: Joined) -> Iterator[Section]:
    pairs = pair_grid(joined)
    paragraphs = []
    if not joined.scored:
        paragraphs.append("No estimator gave an age for a picture whose true age is known.")
    if pairs is None and len(joined.scored) > 1:
        paragraphs.append("The estimators were not tested against each other.")
    grids = _not_none(ranking(joined), range_grid(joined), pairs)
    yield Section("ranking", "Ranking", paragraphs, grids=grids)
    yield Section("notes", "Notes on these figures", items=context.remarks(joined))


def _changes(joined: Joined) -> Iterator[Section]:
    if len(joined.results) < 2:
        return
    files = context.files(joined)
    found: Sequence[Change] = changes(joined)
    paragraphs = []
    if len(joined.results) == 2 and not found:
        paragraphs.append("No estimator is in both results.")
    grids = _not_none(change_grid(found), changed_pictures_grid(found), circumstance_grid(joined))
    yield Section("changes", "What changed", paragraphs, details=[("Results", files)], grids=grids)


def _errors(joined: Joined) -> Iterator[Section]:
    by_age, scores = age_figure(joined), score_figure(joined)
    paragraphs = []
    if front_figure(joined) is None:
        paragraphs.append(f"No error against latency: {why_untimed(joined)}.")
    if by_age is None:
        paragraphs.append("No error by age: no age range has enough pictures for a mean.")
    if scores is None:
        paragraphs.append("No cumulative scores: no picture has a known age.")
    figures = _not_none(by_age, scores)
    keys = legend(joined) if figures else ()
    yield Section("errors", "Errors", paragraphs, figures, legend=keys)
    groups = group_grids(joined)
    paragraphs = [
        "Blue: people of the group are estimated too young; orange: too old. "
        f"Full colours: by {HEAT_END_YEARS:g} years or more. A dash: too few pictures."
        if groups
        else "No group has enough pictures for figures."
    ]
    small = small_groups(joined)
    if small:
        have = "has" if len(small) == 1 else "have"
        paragraphs.append(
            f"{counted(len(small), 'group')} {have} fewer than {_minimum_n(joined)} pictures, and "
            f"no figures: {', '.join(small)}."
        )
    yield Section("groups", "Bias by group", paragraphs, grids=groups)
    densities = density_figures(joined)
    paragraphs = [] if densities else ["No picture has a known age."]
    yield Section("density", "Predicted against true age", paragraphs, densities, kind="small")


def _minimum_n(joined: Joined) -> int:
    return joined.analysis.settings.minimum_n or MINIMUM_PICTURES


def _analysis(joined: Joined) -> Iterator[Section]:
    figures = calibration_figures(joined)
    yield Section(
        "calibration",
        "Calibration",
        [] if figures else [f"{why_uncalibrated(joined).capitalize()}."],
        figures,
        "small",
        legend=[(key(style), entry.label) for entry, style, _ in calibrated(joined)],
        grids=_not_none(calibration_grid(joined)),
    )
    figures = threshold_figures(joined)
    paragraphs = [
        "Everyone estimated below the threshold plus the buffer is stopped."
        if figures
        else "No threshold has enough people on both sides."
    ]
    if few := thresholds_without_rate(joined):
        paragraphs.append(
            f"Fewer than {_minimum_n(joined)} pictures, and no rate: {', '.join(few)}."
        )
    yield Section(
        "gates",
        "Age thresholds",
        paragraphs,
        figures,
        "small",
        legend=legend(joined) if figures else (),
        grids=threshold_grids(joined),
    )
    classes = _not_none(class_grid(joined), own_class_grid(joined))
    if classes:
        paragraphs = ["Adience's: 0-2, 4-6, 8-12, 15-20, 25-32, 38-43, 48-53 and 60-100 years."]
        yield Section("classes", "Age classes", paragraphs, grids=classes)


def _latency(joined: Joined) -> Iterator[Section]:
    figures = _not_none(latency_figure(joined))
    grids = _not_none(faster_grid(joined), latency_grid(joined))
    why = f"Not drawn: {why_untimed(joined)}." if grids else "Nothing was timed."
    paragraphs = [] if figures else [why]
    yield Section("latency", "Latency", paragraphs, figures, grids=grids)


def _sweep(sweep: SweepFile, joined: Joined, number: int) -> Section:
    content = sweep.content
    machine = content.environment
    devices = ", ".join(filter(None, content.machine.devices)) or "CPU"
    paragraphs = [
        f"Measured {content.created[:10]} on {devices} of {machine.processor}, "
        f"{counted(content.machine.threads, 'thread')}; faces: {content.faces.origin}."
    ]
    if content.machine.too_busy:
        paragraphs += busy_lines(content.machine)
    keys = [(key(style), name) for name, style in looks(sweep, joined).items()]
    figures, grids = sweep_figures(sweep, joined), sweep_grids(sweep, joined)
    title = f"Batch sweep, {devices}"
    return Section(f"sweep-{number}", title, paragraphs, figures, legend=keys, grids=grids)


def _worst(joined: Joined, thumbnails: Path | None) -> Iterator[Section]:
    why = why_no_thumbnails(joined.dataset.name, joined.dataset.licence)
    paragraphs = [f"{why}."] if why else []
    if not why and thumbnails is None:
        paragraphs = ["The pictures themselves are not shown; --thumbnails FOLDER includes them."]
    galleries = [
        (entry.label, tiles)
        for entry, _ in drawn(joined)
        if (tiles := gallery(joined, entry, None if why else thumbnails))
    ]
    if galleries:
        yield Section("worst", "Worst errors", paragraphs, galleries=galleries)


def _sources(joined: Joined) -> Iterator[Section]:
    several = len(joined.results) > 1
    machines = [
        (f"Result {letter(at)}" if several else "", context.environment(result))
        for at, result in enumerate(joined.results)
    ]
    yield Section("methods", "Methods and environment", context.methods(joined), details=machines)
    yield Section(
        "cite",
        "How to cite",
        [
            f"agebench {__version__}, with the hash of the data from \u201cHow to repeat\u201d, "
            "and the makers of the data and of each model:"
        ],
        details=[("", context.citations(joined))],
        commands=[context.bibtex(joined)],
    )
    yield Section(
        "repeat",
        "How to repeat",
        ["The same command on the same data and model files gives the same ages."],
        details=[("", context.hashes(joined))],
        commands=[context.command(result) for result in joined.results],
    )
