"""The ranking as lines that fit the terminal, with cautions below the row that they apply to."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from agebench.errors import inert
from agebench.metrics.age_errors import METRICS, Metric
from agebench.metrics.number_format import (
    MINUS,
    NONE,
    bounds,
    counted,
    figure,
    milliseconds,
    number,
    of_people,
    percent,
    signed,
)
from agebench.report.cautions import cautions
from agebench.report.grid import Note
from agebench.report.joining import Entry, Joined
from agebench.report.rows_ranking import pair_with_best

DEFAULT_WIDTH = 80
MIN_NAME_WIDTH = 16
_GAP = 2


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of figures.

    Attributes:
        title: its heading.
        cells: one for each row.
        priority: columns with the lowest are left out first if the terminal is narrow.
    """

    title: str
    cells: Sequence[str]
    priority: int

    @property
    def width(self) -> int:
        return max(map(cell_len, (self.title, *self.cells)))


def ranking_lines(joined: Joined, width: int = DEFAULT_WIDTH) -> Iterator[Text]:
    """Yield the ranking, best first, no line wider than `width` (from 40) terminal cells.

    Columns that don't fit are named in a last line.
    """
    entries = joined.entries
    pictures = of_people(counted(int(joined.rows.sum()), "picture"), joined.number_of_people)
    yield Text(f"Error in years on {pictures}", "bold")
    columns = _columns(joined)
    names = [inert(entry.label) for entry in entries]
    longest = max(map(cell_len, ("estimator", *names)))
    kept = _fitting(columns, width - min(longest, MIN_NAME_WIDTH))
    room = min(longest, width - sum(column.width + _GAP for column in kept))
    head = [column.title.rjust(column.width) for column in kept]
    yield Text((" " * _GAP).join([set_cell_size("estimator", room), *head]).rstrip(), "underline")
    short = told_apart(names, room)
    for row, entry in enumerate(entries):
        cells = [column.cells[row].rjust(column.width) for column in kept]
        name = set_cell_size(short[row], room)
        yield Text((" " * _GAP).join([name, *cells]).rstrip())
        yield from _cautions(joined, entry, width)
    omitted = "; ".join(column.title for column in columns if column not in kept)
    if omitted:
        hint = f"Too narrow for {omitted}. A wider terminal shows these columns."
        yield from map(Text, textwrap.wrap(hint, width))


def told_apart(names: Sequence[str], room: int) -> list[str]:
    """Return names as `without_middle`; those that would look alike lose the end that they share.

    >>> told_apart(["torch:RUN1/best.safetensors", "torch:RUN2/best.safetensors"], 20)
    ['torch:RUN1..', 'torch:RUN2..']
    """
    short = [without_middle(name, room) for name in names]
    for look in {text for text in short if short.count(text) > 1}:
        alike = [row for row, text in enumerate(short) if text == look]
        ends = zip(*(names[row][:0:-1] for row in alike), strict=False)
        shared = len(list(takewhile(lambda letters: len(set(letters)) == 1, ends)))
        for row in alike:
            kept = names[row][: len(names[row]) - shared]
            short[row] = f"{without_middle(kept, room - 2)}.."
    return short


def without_middle(name: str, room: int) -> str:
    """Return a name that takes at most `room` cells; if it is longer, its middle is left out.

    >>> without_middle("onnx:/models/night/tiny.onnx@cv2dnn", 20)
    'onnx:/mod..nx@cv2dnn'
    """
    if cell_len(name) <= room:
        return name
    left = max(0, room - 2) // 2
    right = max(0, room - 2) - left
    head, tail = name, name
    while cell_len(head) > left:
        head = head[:-1]
    while cell_len(tail) > right:
        tail = tail[1:]
    return f"{head}..{tail}"


def _fitting(columns: Sequence[_Column], room: int) -> list[_Column]:
    """Return the columns of the highest priorities that fit, in their original order."""
    kept: list[_Column] = []
    for column in sorted(columns, key=lambda column: -column.priority):
        if sum(other.width + _GAP for other in (*kept, column)) > room:
            break
        kept.append(column)
    return [column for column in columns if column in kept]


def _columns(joined: Joined) -> list[_Column]:
    rows = joined.entries
    first, *others = (metric for metric in METRICS if metric.in_terminal)
    found = [
        _Column(
            first.title, [in_ascii(number(entry.mae_years)) for entry in rows], first.in_terminal
        ),
        _Column("[95 %]", [_interval(entry) for entry in rows], 8),
        _Column("vs. best", [_against_best(joined, entry) for entry in rows], 7),
        *(
            _Column(metric.title, [_figure(entry, metric) for entry in rows], metric.in_terminal)
            for metric in others
        ),
        _Column("<=5 y, %", [_within_five(entry) for entry in rows], 4),
    ]
    if any(len(entry.samples_ms("total")) for entry in rows):
        found.append(_Column("ms", [_median_ms(entry) for entry in rows], 5))
    return found


def in_ascii(text: str) -> str:
    """Return figures formatted by number_format.py in characters that every terminal has."""
    return text.replace(MINUS, "-").replace(NONE, "-")


def _interval(entry: Entry) -> str:
    return "" if entry.errors is None else in_ascii(bounds(entry.errors.mae_interval))


def _figure(entry: Entry, metric: Metric) -> str:
    return "" if entry.errors is None else in_ascii(figure(entry.errors, metric))


def _within_five(entry: Entry) -> str:
    return "" if entry.errors is None else in_ascii(percent(entry.errors.cs[5]))


def _median_ms(entry: Entry) -> str:
    times = entry.samples_ms("total")
    return in_ascii(milliseconds(float(np.median(times)) if len(times) else None))


def _against_best(joined: Joined, entry: Entry) -> str:
    best = joined.best
    if entry.mae_years is None:
        return "" if entry.content.available else "not available"
    if entry is best:
        return "only one" if joined.judged_alone else "best"
    pair = None if entry.contamination else pair_with_best(joined, entry)
    if pair is None or pair.verdict == "no verdict" or pair.difference_years is None:
        return "no verdict"
    if pair.verdict == "no difference shown":
        return "not shown"
    sign = -1 if best is not None and pair.first == best.label else 1
    difference = sign * float(pair.difference_years)
    return f"{in_ascii(signed(difference))} {'worse' if difference > 0 else 'better'}"


def _cautions(joined: Joined, entry: Entry, width: int) -> Iterator[Text]:
    notes = cautions(joined, entry)
    if not entry.content.available:
        notes = [Note(entry.content.unavailable_reason)]
    for note in notes:
        mark, style = ("!", "bold red") if note.severe else ("-", "dim")
        shown = inert(in_ascii(note.text), lines=True)
        for line in textwrap.wrap(f"{shown}.".replace("..", "."), max(20, width - 4)):
            yield Text(f"  {mark} {line}", style)
            mark = " "
