"""The report on paper: what belongs together is on one sheet."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agebench.harness.reading import read_result
from agebench.report import page
from agebench.report.gallery import GalleryTile
from agebench.report.grid import Cell, Column, Grid
from agebench.report.joining import Joined, join
from agebench.report.page import Section
from agebench.report.paper import sheets
from agebench.report.rows_analysis import threshold_grids
from agebench.report.rows_errors import group_grids, pair_grid
from agebench.report.templating import whole_page
from tests.unit.browser import printed

Write = Callable[..., Path]
SECTIONS = 24
NAMES = [
    "multicrop-resnet@cv2dnn",
    "onnx:/a/long/path/of/a/model.onnx",
    *(f"m{at}" for at in range(11)),
]


def _grid(name: str, rows: int) -> Grid:
    columns = (Column("estimator", numeric=False), Column("years"))
    cells = [[Cell(f"{name}.{row}.", kind="name"), Cell("1.00")] for row in range(rows)]
    return Grid(f"caption {name}", columns, cells)


def _section(at: int) -> Section:
    """A heading, two lines of words, and a table or a gallery of another length each time."""
    words = [f"first{at} " + "and what is to be known of it " * 5 + f"last{at}"]
    if at % 2:
        return Section(f"s{at}", f"heading{at}", words, grids=[_grid(f"t{at}", 3 + at % 11)])
    tiles = [GalleryTile(f"tile{at}.{place}.", 30.0, 31.0) for place in range(4 + at % 5)]
    return Section(f"s{at}", f"heading{at}", words, galleries=[(f"of{at}", tiles)])


def _page(path: Path, sections: list[Section]) -> Path:
    text = whole_page(
        "whole.html",
        ("plot.css", "report.css"),
        ("report.js",),
        title="Title",
        lead="",
        sections=sections,
        sources="",
    )
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.slow
def test_no_heading_row_or_tile_is_alone_on_a_sheet(tmp_path: Path) -> None:
    sections = [_section(at) for at in range(SECTIONS)]
    sheets = printed(_page(tmp_path / "page.html", sections), tmp_path / "browser")
    assert len(sheets) > 4
    for section in sections:
        at = section.name.removeprefix("s")
        together = [f"heading{at}\n", f"first{at} ", f"last{at}\n"]
        together += [row[0].text for grid in section.grids for row in grid.rows]
        together += [tile.image for _, tiles in section.galleries for tile in tiles]
        held = [sum(word in sheet for word in together) for sheet in sheets]
        assert max(held) == len(together), (section.name, held)


@pytest.mark.slow
def test_a_long_table_leaves_no_row_alone(tmp_path: Path) -> None:
    lengths = [16 + 7 * at % 50 for at in range(60)]
    sections = [
        Section(f"s{at}", f"heading{at}", grids=[_grid(f"t{at}", length)])
        for at, length in enumerate(lengths)
    ]
    sheets = printed(_page(tmp_path / "page.html", sections), tmp_path / "browser")
    for at, length in enumerate(lengths):
        on = [sum(f"t{at}.{row}." in sheet for row in range(length)) for sheet in sheets]
        assert sum(on) == length
        assert min(count for count in on if count) > 1, (at, on)


@pytest.fixture
def wide(write_result: Write) -> Joined:
    """Thirteen estimators, tested against each other, by group and at gates."""
    true = np.repeat(np.arange(3.0, 63.0, 2.5), 10)
    rng = np.random.default_rng(3)
    predicted = {name: np.abs(true + rng.normal(0, 9, len(true))).tolist() for name in NAMES}
    path = write_result(predicted=predicted, true=true.tolist(), attributes={"gender": "f"})
    return join([read_result(path)])


def test_parts_of_a_wide_table_hold_all_of_it(wide: Joined) -> None:
    grids = [grid for grid in (pair_grid(wide), *group_grids(wide), *threshold_grids(wide)) if grid]
    parted = {grid.caption.split(",")[0]: sheets(grid) for grid in grids}
    assert [len(parts) > 1 for parts in parted.values()] == [True, False, True, True, True]
    for grid, parts in zip(grids, parted.values(), strict=True):
        if not parts:  # thirteen short figures, side by side
            continue
        assert parts[0].caption == f"{grid.caption} (1 of {len(parts)})"
        heads = grid.columns[: grid.heads]
        assert all(part.columns[: grid.heads] == heads for part in parts)
        others = [column for part in parts for column in part.columns[grid.heads :]]
        assert others == grid.columns[grid.heads :]
        for at, row in enumerate(grid.rows):
            cells = [cell for part in parts for cell in part.rows[at][grid.heads :]]
            assert cells == list(row[grid.heads :])
            assert all(part.rows[at][: grid.heads] == row[: grid.heads] for part in parts)
    few = replace(grids[0], columns=grids[0].columns[:3], rows=[row[:3] for row in grids[0].rows])
    assert sheets(few) == ()


@pytest.mark.slow
def test_nothing_is_cut_off_at_the_edge_of_a_sheet(wide: Joined, tmp_path: Path) -> None:
    path = tmp_path / "wide.html"
    path.write_text(page.render(wide), encoding="utf-8")
    text = "".join(printed(path, tmp_path / "browser"))
    for number, name in enumerate(NAMES[2:], start=2):
        # As a column of pairs, of two tables by group and of two of gates.
        assert len(re.findall(rf"\bthan {name}\b", text)) >= 1, name
        assert len(re.findall(rf"\b{name}\b", text)) > 8, (number, name)
    pairs = len(NAMES) * (len(NAMES) - 1)
    assert len(re.findall(r"\b(?:better|worse)\b|not shown", text)) >= pairs
