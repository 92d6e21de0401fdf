"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agebench import __version__
from agebench.benchmark.tables import busy_lines
from agebench.metrics.intervals import MINIMUM_PICTURES
from agebench.metrics.number_format import counted
from agebench.report import context
from agebench.report.changes import Change, changes
from agebench.report.figures import Figure, Legend, drawn, legend
from agebench.report.gallery import GalleryTile, gallery, why_no_thumbnails
from agebench.report.grid import Grid
from agebench.report.joining import Joined, letter
from agebench.report.opening import answer, false_adult_grid
from agebench.report.plots_analysis import calibration_figures, is_calibrated, threshold_figures
from agebench.report.plots_errors import age_figure, density_figures, front_figure, score_figure
from agebench.report.plots_latency import latency_figure
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
    pair_grid,
    range_grid,
    small_groups,
)
from agebench.report.rows_ranking import ranking
from agebench.report.svg import key
from agebench.report.sweeps import looks, sweep_figures, sweep_grids
from agebench.report.templating import whole_page


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page; what it does not have is left out.

    Attributes:
        name: where links lead to.
        title: its heading.
        words: paragraphs.
        items: sentences of a list.
        figures: pictures; `kind` is "small" for many.
        legend: who is who, above the pictures: key and name.
        grids: tables.
        galleries: title and tiles.
        details: title and pairs of name and value.
        commands: to be typed.
    """

    name: str
    title: str
    words: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    kind: str = ""
    legend: Legend = ()
    grids: Sequence[Grid] = ()
    galleries: Sequence[tuple[str, Sequence[GalleryTile]]] = ()
    details: Sequence[tuple[str, context.Details]] = ()
    commands: Sequence[str] = field(default=())
    items: Sequence[str] = ()


def title(joined: Joined) -> str:
    """Return the page's title."""
    return f"Age estimators on {joined.dataset.name}"


def render(joined: Joined, thumbnails: Path | None = None, sweeps: Sequence[SweepFile] = ()) -> str:
    """Return the page.

    Args:
        joined: what it is about.
        sweeps: files of `agebench bench` to be shown with it.
        thumbnails: folder of the pictures; None for none.  Under terms that do not let pictures
            be passed on they are left out, and the page says so.
    """
    return whole_page(
        "report.html",
        ("plot.css", "report.css"),
        ("report.js",),
        title=title(joined),
        lead=context.lead(joined),
        sources=" and ".join(str(path) for path in _paths(joined, sweeps)),
        answer=answer(joined),
        opening=[figure for figure in [front_figure(joined)] if figure is not None],
        keys=legend(joined),
        rates=_some(false_adult_grid(joined)),
        sections=[part for make in _SECTIONS for part in make(joined)]
        + [part for at, sweep in enumerate(sweeps) for part in _sweep(sweep, joined, at)]
        + list(_worst(joined, thumbnails))
        + list(_sources(joined)),
    )


def _paths(joined: Joined, sweeps: Sequence[SweepFile]) -> list[Path]:
    return [*(result.path for result in joined.results), *(sweep.path for sweep in sweeps)]


def _some(*items: Grid | None) -> list[Grid]:
    return [item for item in items if item is not None]


def _ranking(joined: Joined) -> Iterator[Section]:
    pairs = pair_grid(joined)
    words = []
    if not joined.scored:
        words.append("No estimator gave an age for a picture whose true age is known.")
    if pairs is None and len(joined.scored) > 1:
        words.append("The estimators were not tested against each other.")
    ranges = range_grid(joined)
    yield Section("ranking", "Ranking", words, grids=_some(ranking(joined), ranges, pairs))
    yield Section("notes", "What to know of these figures", items=context.remarks(joined))


def _changes(joined: Joined) -> Iterator[Section]:
    if len(joined.results) < 2:
        return
    files = [
        (letter(at), f"{result.path}, {result.content.created}")
        for at, result in enumerate(joined.results)
    ]
    found: Sequence[Change] = changes(joined)
    words = []
    if len(joined.results) == 2 and not found:
        words.append("No estimator is in both results.")
    grids = _some(change_grid(found), changed_pictures_grid(found), circumstance_grid(joined))
    yield Section("changes", "What changed", words, details=[("Results", files)], grids=grids)


def _errors(joined: Joined) -> Iterator[Section]:
    parts = (
        (age_figure, "No error by age: no age has enough pictures for a mean."),
        (score_figure, "No cumulative scores: no picture has a known age."),
    )
    made = [(make(joined), otherwise) for make, otherwise in parts]
    figures = [figure for figure, _ in made if figure is not None]
    words = [otherwise for figure, otherwise in made if figure is None]
    if front_figure(joined) is None:
        words.insert(0, "No error against latency: nothing was timed.")
    keys = legend(joined) if figures else ()
    yield Section("errors", "Errors", words, figures, legend=keys)
    groups = group_grids(joined)
    words = [
        "Blue: people of the group are taken for younger than they are; orange: for older. "
        f"The full colours: by {HEAT_END_YEARS:g} years or more. A dash: too few pictures."
        if groups
        else "No group has a figure."
    ]
    small = small_groups(joined)
    if small:
        least = joined.analysis.settings.minimum_n or MINIMUM_PICTURES
        have = "has" if len(small) == 1 else "have"
        words.append(
            f"{counted(len(small), 'group')} {have} fewer than {least} pictures, and no figure: "
            f"{', '.join(small)}."
        )
    yield Section("groups", "Bias by group", words, grids=groups)
    densities = density_figures(joined)
    words = [] if densities else ["No picture has a known age."]
    yield Section("density", "Predicted against true age", words, densities, kind="small")


def _analysis(joined: Joined) -> Iterator[Section]:
    figures, grid = calibration_figures(joined), calibration_grid(joined)
    words = [] if figures else ["No estimator gives a distribution over ages."]
    keys = legend(joined, is_calibrated) if figures else ()
    yield Section(
        "calibration", "Calibration", words, figures, "small", legend=keys, grids=_some(grid)
    )
    figures = threshold_figures(joined)
    words = [
        "Everyone estimated below the threshold plus the buffer is stopped."
        if figures
        else "No threshold has enough people on both sides among the pictures."
    ]
    if few := thresholds_without_rate(joined):
        least = joined.analysis.settings.minimum_n or MINIMUM_PICTURES
        words.append(f"Fewer than {least} pictures, and no rate: {', '.join(few)}.")
    grids = threshold_grids(joined)
    yield Section(
        "gates",
        "Age thresholds",
        words,
        figures,
        "small",
        legend=legend(joined) if figures else (),
        grids=grids,
    )
    classes = class_grid(joined)
    if classes is not None:
        words = ["0-2, 4-6, 8-12, 15-20, 25-32, 38-43, 48-53 and 60 years or more."]
        yield Section("classes", "Age classes", words, grids=[classes])


def _latency(joined: Joined) -> Iterator[Section]:
    figure = latency_figure(joined)
    words = ["Nothing was timed."] if figure is None else []
    grids = _some(faster_grid(joined), latency_grid(joined))
    yield Section("latency", "Latency", words, [] if figure is None else [figure], grids=grids)


def _sweep(sweep: SweepFile, joined: Joined, position: int) -> Iterator[Section]:
    content = sweep.content
    machine = content.environment
    devices = ", ".join(filter(None, content.machine.devices)) or "CPU"
    words = [
        f"Measured {content.created[:10]} on {devices} of {machine.processor}, "
        f"{counted(content.machine.threads, 'thread')}; faces: {content.faces.origin}."
    ]
    if content.machine.too_busy:
        words += busy_lines(content.machine)
    keys = [(key(style), name) for name, style in looks(sweep, joined).items()]
    figures, grids = sweep_figures(sweep, joined), sweep_grids(sweep, joined)
    name = f"sweep-{position + 1}"
    yield Section(name, f"Batch sweep, {devices}", words, figures, legend=keys, grids=grids)


def _worst(joined: Joined, thumbnails: Path | None) -> Iterator[Section]:
    why = why_no_thumbnails(joined.dataset.name, joined.dataset.licence)
    root = None if why else thumbnails
    words = [f"{why}."] if why else []
    if not why and thumbnails is None:
        words = ["The pictures themselves are not shown; --thumbnails FOLDER puts them in."]
    galleries = [
        (entry.label, tiles)
        for entry, _ in drawn(joined)
        if (tiles := gallery(joined, entry, root))
    ]
    if galleries:
        yield Section("worst", "Worst errors", words, galleries=galleries)


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
        _CITE,
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


_CITE = [
    f"agebench {__version__}, with the hash of the data from \u201cHow to repeat\u201d, and the "
    "makers of the data and of each model:"
]

_SECTIONS: Sequence[Callable[[Joined], Iterator[Section]]] = (
    _ranking,
    _changes,
    _errors,
    _analysis,
    _latency,
)
