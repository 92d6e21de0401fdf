"""The leaderboard as it stands in a browser: three widths, light and dark; sorted and filtered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agebench.suite.page import as_html
from tests.unit.browser import LOOKS, WIDTHS, look_at, printed
from tests.unit.suite_boards import made_model, made_set, write_made

LOOK = """
const shown = (items) => [...items].filter((item) => !item.classList.contains("gone")).length;
async function look(page, window) {
  const table = page.querySelector("#board table"), form = page.querySelector(".filters");
  const looks = {...sideways(page), nameless: nameless(page), overlapping: overlapping(page),
    faint: faint(page, window)};
  const wraps = (cell) => window.getComputedStyle(cell).whiteSpace === "normal";
  looks.unwrapped = [...page.querySelectorAll("td.wrap")].filter((cell) => !wraps(cell)).length;
  const first = () => table.tBodies[0].rows[0].cells[0].textContent.trim();
  const before = first();
  const button = table.tHead.rows[0].cells[2].querySelector("button");
  button.click(); button.click();
  const sorted = first();
  const input = (name, value, kind) => {
    form.elements[name][kind] = value;
    form.dispatchEvent(new window.Event("input"));
  };
  input("models", "number 3", "value");
  const named = shown(table.tBodies[0].rows);
  input("models", "", "value");
  input("ranked", true, "checked");
  const ranked = shown(table.tBodies[0].rows);
  input("ranked", false, "checked");
  input("kind", "estimated ages", "value");
  const columns = shown(table.tHead.rows[0].cells);
  input("kind", "", "value");
  return {...looks, before, sorted, named, ranked, columns, hidden: form.hidden,
    all: shown(table.tHead.rows[0].cells)};
}
"""


@pytest.fixture
def page(tmp_path: Path) -> str:
    rng = np.random.default_rng(4)
    true = rng.integers(5, 70, 60).astype(float)
    kinds = {"one": "birth-age", "two": "apparent", "utkface": "dex-estimated"}
    groups = {"gender": ["female", "male"] * 30}
    sets = {
        key: made_set(key, true.tolist(), kind=kind, groups=groups) for key, kind in kinds.items()
    }
    sets["one.changed"] = made_set("one", true.tolist(), changed=True)
    models = []
    for at in range(12):
        pixels = [f"face-px={height}" for height in (24, 32, 48, 64, 96)]
        variants = ("untouched", *pixels, "gray", "roll=-15", "roll=15")
        places = [(key, "") for key in kinds] + [("one", text) for text in variants]
        ages: dict[tuple[str, str], list[float | None]] = {
            place: np.clip(true + rng.normal(at / 4, 3 + at, 60), 0, 110).tolist()
            for place in places
        }
        name = f"number {at}" if at else f"number 0 of a very long name in {'x' * 60}"
        trained = ["utkface", "one", "two"] if at == 5 else ["utkface"] if at == 2 else []
        models.append(made_model(name, ages, sets, trained))
    # `contamination` of a set goes by the name of its data set, which is the key here.
    why = "its errors there are a fraction of those on every other set; the rank is not to be had"
    doubts = {"number 7": {"one": why, "two": why, "utkface": why}}
    board = write_made(tmp_path / "board", list(sets.values()), models, suspected=doubts)
    return as_html(board)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_it_is_good_at_every_width_and_can_be_sorted_and_filtered(
    page: str, tmp_path: Path, dark: bool
) -> None:
    cells = re.findall(r"<td[^>]*>\[", page)  # intervals, which are not sorted as text
    assert cells
    assert all("data-value" in cell for cell in cells)
    seen: list[dict[str, Any]] = look_at([page], LOOKS + LOOK, tmp_path / "browser", dark=dark)
    assert [one["width"] for one in seen] == list(WIDTHS)
    for drawing in page.split('<svg class="plot"')[1:]:  # of ten and more each line has its name
        names = re.findall(r'class="end">(.*?)<', drawing.partition("</svg>")[0])
        assert len(names) == len(set(names)) == drawing.count('class="leader"') >= 10
    for one in seen:
        assert one["scroll"] <= one["inner"]
        assert one["wide"] == one["nameless"] == one["overlapping"] == one["faint"] == []
        assert one["before"].startswith("The model number")
        assert one["sorted"] != one["before"]
        assert (one["named"], one["ranked"]) == (1, 10)
        assert (one["columns"], one["all"]) == (3, 5)
        assert one["unwrapped"] == 0  # a reason is a sentence
        assert not one["hidden"]


@pytest.mark.slow
def test_on_paper_no_column_is_cut_off(page: str, tmp_path: Path) -> None:
    """The models' table has nine columns, most of them of sentences."""
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    words = " ".join(printed(path, tmp_path / "browser"))
    for last in (" ms\n", " notes\n", " remark\n"):
        assert last in words
