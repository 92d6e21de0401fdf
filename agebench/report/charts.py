"""The report's figures, drawn by matplotlib for papers, slides and notebooks.

They show what the page shows, from the same numbers and with the same colours, dashes and marks.
pyplot is not used, so there are no windows and no global state.  matplotlib is an optional
dependency and is only imported when needed.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from agebench.errors import AgebenchError, MissingDependencyError, UsageError, suggestion
from agebench.report import charts_errors, charts_more
from agebench.report.chart_parts import WIDTHS_INCHES, Columns
from agebench.report.figures import why_uncalibrated, why_untimed
from agebench.report.joining import Joined

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from agebench.report.chart_figure import ShownFigure

ChartKind: TypeAlias = Literal["svg", "pdf", "png"]
KINDS: tuple[ChartKind, ...] = get_args(ChartKind)
PNG_DPI = 300

_Draw: TypeAlias = Callable[["ShownFigure", Joined], float | None]
"""Draws on a figure and returns its height as a fraction of its width; None if it has no data."""

CHARTS: Mapping[str, _Draw] = {
    "ranking": charts_errors.draw_ranking,
    "error-against-latency": charts_errors.draw_front,
    "error-by-age": charts_errors.draw_by_age,
    "cumulative-scores": charts_errors.draw_scores,
    "predicted-against-true": charts_errors.draw_density,
    "bias-by-group": charts_more.draw_bias,
    "calibration": charts_more.draw_calibration,
    "age-thresholds": charts_more.draw_age_thresholds,
    "latency": charts_more.draw_latency,
}
"""All figures, by file name."""

_WHY_NOT = {
    "age-thresholds": "no threshold has enough people on both sides",
    "bias-by-group": "no group has enough pictures",
    "error-by-age": "no age range has enough pictures for a mean",
}
_WHY = {
    "error-against-latency": why_untimed,
    "latency": why_untimed,
    "calibration": why_uncalibrated,
}


def chart(joined: Joined, name: str, columns: Columns = 2) -> Figure:
    """Return one figure, drawn by matplotlib.

    Args:
        joined: the results.
        name: one of `CHARTS`.
        columns: its width in columns of a printed page: 1 (89 mm) or 2 (183 mm).

    Raises:
        UsageError: the name is unknown.
        AgebenchError: the results have no data for it.
        MissingDependencyError: matplotlib is not installed.
    """
    if name not in CHARTS:
        raise UsageError(f"unknown figure {name!r}: {suggestion(name, CHARTS)}")
    with _style():
        figure = _figure(joined, name, columns)
    if figure is None:
        none = "no picture has both a known age and an age from an estimator"
        why = _WHY[name](joined) if name in _WHY else _WHY_NOT.get(name, none)
        raise AgebenchError(f"figure {name!r} can't be drawn for this result: {why}")
    return figure


def charts(joined: Joined, columns: Columns) -> Iterator[tuple[str, Figure]]:
    """Yield every figure that the results have data for, by name.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    for name in CHARTS:
        with _style():
            figure = _figure(joined, name, columns)
        if figure is not None:
            yield name, figure


def encoded(figure: Figure, kind: ChartKind, dpi: int = PNG_DPI) -> bytes:
    """Return a figure as a file's bytes; equal figures give equal bytes.

    Text in an SVG is drawn as shapes, so that it looks the same everywhere; a PDF embeds its fonts.
    """
    data = io.BytesIO()
    with _style(), warnings.catch_warnings():
        # Letters that are not in the font are drawn as boxes; the tables have the name.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": None}
        figure.savefig(data, format=kind, dpi=dpi, metadata=dates[kind])
    return data.getvalue()


def _figure(joined: Joined, name: str, columns: Columns) -> Figure | None:
    from agebench.report.chart_figure import ShownFigure

    width = WIDTHS_INCHES[columns]
    figure = ShownFigure(figsize=(width, width), layout="constrained")
    aspect = CHARTS[name](figure, joined)
    if aspect is None:
        return None
    figure.set_size_inches(width, width * aspect)
    figure.finish()
    return figure


@contextmanager
def _style() -> Iterator[None]:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingDependencyError(
            f"figures need matplotlib ({error}): pip install 'agebench[notebook]'"
        ) from error
    settings: Any = {  # matplotlib's type lists every setting
        "svg.hashsalt": "agebench",
        "pdf.fonttype": 42,
        "text.parse_math": False,  # names may contain $
        "font.size": 8.0,
        "axes.titlesize": 8.0,
        "legend.fontsize": 7.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e4e4e4",
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.3,
        "legend.frameon": False,
    }
    with mpl.rc_context(settings):
        yield
