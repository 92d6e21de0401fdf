"""Names beside lines and marks: where they go, and that they cover nothing in what is drawn."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, minimize

from agebench.harness.reading import read_result
from agebench.report import page
from agebench.report.chart_parts import Columns
from agebench.report.direct_labels import MANY, Box, place_label, short_names, spread_out, width_em
from agebench.report.joining import join
from agebench.types import Floats

Write = Callable[..., Path]

AGES = np.repeat(np.arange(3.0, 63.0, 2.5), 10)
LONG = [
    "multicrop-resnet@cv2dnn",
    "multicrop-resnet@onnxruntime",
    "onnx:/a/path/of/W.onnx crops=10",
]


def predicted(count: int) -> dict[str, list[float]]:
    """Ages of so many estimators, the better ones alike; some of them have long names."""
    rng = np.random.default_rng(3)
    names = [*LONG, *(f"estimator-{at:02d}" for at in range(count - len(LONG)))]
    return {
        name: np.clip(AGES + rng.normal(0, 2 + max(0, at - 6), len(AGES)), 0, 120).tolist()
        for at, name in enumerate(names)
    }


@pytest.mark.parametrize("seed", range(4))
def test_places_are_moved_as_little_as_a_solver_finds(seed: int) -> None:
    wanted = np.random.default_rng(seed).uniform(0, 60, 7)
    found = np.array(spread_out(wanted.tolist(), 10, 0, 80))
    order = np.argsort(wanted)
    steps = np.eye(7)[order[1:]] - np.eye(7)[order[:-1]]

    def moves(places: Floats) -> float:
        return float(((places - wanted) ** 2).sum())

    by_solver = minimize(
        moves,
        np.asarray(np.argsort(order) * 10.0, np.float64),
        bounds=Bounds(0.0, 80.0),
        constraints=[LinearConstraint(steps, 10.0, np.inf)],
        method="SLSQP",
    )
    assert by_solver.success
    np.testing.assert_allclose(found, by_solver.x, atol=1e-3)


def test_lines_that_end_alike_keep_their_order() -> None:
    assert spread_out([100.0] * 4, 10, 0, 100) == [70.0, 80.0, 90.0, 100.0]
    assert spread_out([], 10, 0, 100) == []


def test_short_names_fit_and_differ() -> None:
    labels = [*LONG, "a" * 50, "a" * 51, "a" * 52, "\u5e74" * 20, "W\u202e\x1b" * 9, "x"]
    names = short_names(labels, 9)
    assert len(set(names)) == len(labels)
    assert all(width_em(name) <= 9 for name in names)
    assert names[-1] == "x"
    assert not any("\x1b" in name or "\u202e" in name for name in names)


def test_labels_beside_marks_cover_nothing_or_are_left_out() -> None:
    frame = Box(100, 100, 100, 100)
    marks = [
        Box(float(x), float(y), 4, 4) for x, y in np.random.default_rng(5).uniform(5, 195, (60, 2))
    ]
    taken = list(marks)
    for mark in marks:
        label = place_label((mark.x, mark.y), (22, 6), frame, taken)
        if label is not None:
            taken.append(label)
    labels = taken[len(marks) :]
    assert 10 < len(labels) < len(marks)  # more than there is room for
    assert all(label.within(frame) for label in labels)
    for label in labels:
        assert not any(label.overlaps(other) for other in taken if other is not label)


def test_the_page_names_lines_and_marks_of_many_estimators(write_result: Write) -> None:
    """What covers what is seen in a browser by test_report_browser.py."""
    for count in (MANY - 1, MANY):
        path = write_result(str(count), predicted=predicted(count), true=AGES.tolist())
        text = page.render(join([read_result(path)]))
        figures = {
            title: text.split(f">{title}</h")[1].split("</figure>")[0]
            for title in ("Error against latency", "Error by age", "Cumulative scores")
        }
        for title, figure in figures.items():
            named = figure.count('class="end"')
            assert named == (MANY if count == MANY else 0), title
            assert ("multicr\u2026@cv2dnn" in figure) is (count == MANY), title


@pytest.mark.parametrize("columns", get_args(Columns))
def test_names_in_files_cover_neither_names_nor_the_end_of_the_picture(
    write_result: Write, columns: Columns
) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'notebook'")
    from matplotlib.text import Annotation, Text

    from agebench.report.charts import chart

    joined = join([read_result(write_result(predicted=predicted(MANY), true=AGES.tolist()))])
    for kind in ("error-against-latency", "error-by-age", "cumulative-scores"):
        figure = chart(joined, kind, columns)
        figure.draw_without_rendering()
        names = [item for item in figure.axes[0].texts if isinstance(item, Annotation)]
        assert len(names) == MANY, kind
        boxes = [Text.get_window_extent(name) for name in names]
        for box in boxes:
            assert 0 <= box.x0 < box.x1 <= figure.bbox.x1, kind
        for a, b in itertools.combinations([box.padded(-0.5) for box in boxes], 2):
            assert not a.overlaps(b), kind
