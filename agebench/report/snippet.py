"""A result as a notebook displays it: the conclusion, error against latency, the ranking."""

from __future__ import annotations

from dataclasses import replace

from markupsafe import Markup

from agebench.metrics.number_format import counted
from agebench.report.figures import legend
from agebench.report.joining import Joined
from agebench.report.opening import answer
from agebench.report.plots_errors import front_figure
from agebench.report.rows_ranking import ranking
from agebench.report.templating import template, template_text

MAX_ROWS = 40
"""Maximum number of listed estimators, to keep a notebook cell readable."""


def render_snippet(joined: Joined) -> str:
    """Return an HTML fragment for use in other pages; its style applies to nothing else."""
    grid = ranking(joined)
    more = len(grid.rows) - MAX_ROWS
    style = template_text("plot.css") + template_text("snippet.css")
    front = front_figure(joined)
    return template(
        "snippet.html"
    ).render(
        style=Markup(style),  # noqa: S704 - the package's own file
        answer=answer(joined),
        opening=[] if front is None else [front],
        keys=legend(joined),
        grid=replace(grid, rows=grid.rows[:MAX_ROWS], sortable=False),
        left_out=f"{counted(more, 'more estimator')}: see the report." if more > 0 else "",
    )
