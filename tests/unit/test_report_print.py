"""The report on paper: what belongs together is on one sheet."""

from __future__ import annotations

from pathlib import Path

import pytest

from agebench.report.gallery import Tile
from agebench.report.grid import Cell, Column, Grid
from agebench.report.page import Section
from agebench.report.templating import whole_page
from tests.unit.browser import printed

SECTIONS = 24


def _grid(name: str, rows: int) -> Grid:
    columns = (Column("estimator", numeric=False), Column("years"))
    cells = [[Cell(f"{name}.{row}.", kind="name"), Cell("1.00")] for row in range(rows)]
    return Grid(f"caption {name}", columns, cells)


def _section(at: int) -> Section:
    """A heading, two lines of words, and a table or a gallery of another length each time."""
    words = [f"first{at} " + "and what is to be known of it " * 5 + f"last{at}"]
    if at % 2:
        return Section(f"s{at}", f"heading{at}", words, grids=[_grid(f"t{at}", 3 + at % 11)])
    tiles = [Tile(f"tile{at}.{place}.", 30.0, 31.0) for place in range(4 + at % 5)]
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
