"""Progress bars: on stderr if it is a terminal, in a notebook, and nowhere else."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from agebench.protocols import ProgressStep

_REDRAWN_S = 0.2
"""Shortest time between updates of a notebook's bars."""


class _Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function of (stage, done, total) that draws one bar per stage on a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    # The current stream itself: while `foreign_code` has replaced the streams, a console would find
    # its replacement in sys.stderr, which writes to these very bars.
    console = Console(file=sys.stderr, stderr=True)
    bars = Progress(*columns, console=console, disable=not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def step(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done)

    with bars:
        yield step


@contextmanager
def shown_progress(progress: ProgressStep | None) -> Iterator[ProgressStep]:
    """Yield `given`; without one, bars if there is a notebook or terminal."""
    if progress is not None:
        yield progress
    elif in_notebook():
        with _notebook_bars() as step:
            yield step
    else:
        with progress_bars() as step:
            yield step


def in_notebook() -> bool:
    """Return whether this runs in a kernel whose front end can show HTML."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def _notebook_bars() -> Iterator[ProgressStep]:
    """Bars as HTML that is replaced in place; rich's need ipywidgets, which few have installed.

    They are removed at the end, so that a saved or printed notebook only shows the result.
    """
    from IPython.display import HTML, display  # available, since this is its kernel

    stages: dict[str, tuple[int, int]] = {}
    handle: Any = display(HTML(""), display_id=True)
    drawn_s = 0.0

    def step(stage: str, done: int, total: int) -> None:
        nonlocal drawn_s
        stages[stage] = done, total
        if done >= total or time.monotonic() - drawn_s >= _REDRAWN_S:
            drawn_s = time.monotonic()
            handle.update(HTML(_bars_html(stages)))

    try:
        yield step
    finally:
        handle.update(HTML(""))


def _bars_html(stages: dict[str, tuple[int, int]]) -> str:
    lines = (
        f"<div>{html.escape(stage)} <progress value='{done}' max='{total}'></progress> "
        f"{done:,}/{total:,}</div>"
        for stage, (done, total) in stages.items()
    )
    return "".join(lines)
