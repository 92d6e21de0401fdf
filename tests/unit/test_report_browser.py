"""The report as it stands in a browser: at three widths, light and dark; its figures saved."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from agebench.harness.reading import read_result
from agebench.report import page
from agebench.report.joining import Joined, join
from tests.unit.browser import LOOKS, WIDTHS, look_at
from tests.unit.test_report_page import HOSTILE

Write = Callable[..., Path]
AGES = np.arange(1.0, 61.0)
LONG = "an-estimator-with-a-very-long-name:/and/a/path/of/its/file.caffemodel crops=10"


def _joined(path: Path) -> Joined:
    return join([read_result(path)])


@pytest.fixture(scope="module")
def pages(make_result: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three estimators; thirteen near each other; hostile names."""
    three = {LONG: AGES + 9, "x" * 120: AGES + 2, "y": AGES * 0 + 30}
    rng = np.random.default_rng(1)
    many = {f"estimator-{at:02d}": AGES + rng.normal(0.3 * at, 4, 60) for at in range(13)}
    many = {name: np.clip(years, 0, 120) for name, years in many.items()}
    hostile = {name: AGES + place for place, name in enumerate(HOSTILE)}
    people = [f"p{row // 2}" for row in range(60)]
    groups = {"gender": "f", "what a very long label": "an even longer value of that label"}
    contents = [
        make_result(three),
        make_result(many, people=people, attributes=groups),
        make_result(hostile, attributes={HOSTILE[0]: HOSTILE[1]}),
    ]
    folders = [tmp_path_factory.mktemp(name) for name in ("three", "many", "hostile")]
    for folder, content in zip(folders, contents, strict=True):
        (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    return [page.render(_joined(folder)) for folder in folders]


SEEN = """
const column = (table) => [...table.tBodies[0].rows].map((row) => row.cells[1].textContent);
async function look(page, window) {
  const table = page.querySelector("table.sortable"), head = table.tHead.rows[0].cells[1];
  const before = column(table);
  head.querySelector("button").click();
  const up = column(table);
  head.querySelector("button").click();
  return {...sideways(page), nameless: nameless(page), overlapping: overlapping(page),
    faint: faint(page, window), before, up, down: column(table), sorted: head.ariaSort,
    pwned: window.pwned === 1, dark: window.matchMedia("(prefers-color-scheme: dark)").matches,
    styled: window.getComputedStyle(page.body).maxWidth,
    small: [...page.querySelectorAll("svg.plot text")]
      .filter((item) => box(item).height < 8).length,
    rows: page.querySelectorAll(".scroll tbody tr").length,
  };
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_is_readable_at_every_width(dark: bool, pages: list[str], tmp_path: Path) -> None:
    seen = look_at(pages, LOOKS + SEEN, tmp_path / "browser", dark=dark)
    assert len(seen) == len(pages) * len(WIDTHS)
    for one in seen:
        where = f"page {one['page']} at {one['width']}"
        assert one["dark"] is dark, where
        assert one["inner"] in (one["width"], one["width"] - 15), where  # a scroll bar takes 15
        assert one["scroll"] <= one["inner"], where
        assert one["wide"] == [], where
        assert one["rows"] > 5, where
        assert one["nameless"] == [], where
        assert one["overlapping"] == [], where
        assert one["faint"] == [], where
        assert one["small"] == 0, where
        assert one["pwned"] is False, where
        assert one["styled"] == "1344px", where
        assert one["up"] == one["before"], where
        assert one["down"] == one["before"][::-1], where
        assert one["sorted"] == "descending", where
    assert seen[0]["before"] == ["2.00", "9.00", "15.00"]


SAVED = """
async function look(page, window) {
  const saved = [], names = [];
  window.URL.createObjectURL = (blob) => { saved.push(blob); return "#"; };
  window.HTMLAnchorElement.prototype.click = function () { names.push(this.download); };
  window.print = () => names.push(page.querySelectorAll(".sheet > svg").length);
  const figures = [...page.querySelectorAll("figure")];
  for (const figure of figures) figure.querySelector(".keep button").click();
  const buttons = [...figures[0].querySelectorAll(".keep button")];
  buttons[1].click();
  while (saved.length < figures.length + 1) await new Promise((done) => setTimeout(done, 20));
  buttons[2].click();
  const bytes = new Uint8Array(await saved.at(-1).arrayBuffer());
  return {count: figures.length, names, labels: buttons.map((button) => button.ariaLabel),
    svg: await Promise.all(saved.slice(0, -1).map((blob) => blob.text())),
    png: btoa(String.fromCharCode(...bytes.slice(0, 24)))};
}
"""


@pytest.mark.slow
def test_every_figure_can_be_saved(pages: list[str], tmp_path: Path) -> None:
    (seen,) = look_at(pages[1:2], SAVED, tmp_path / "browser", dark=True, widths=[1400])
    drawings = [ET.fromstring(text) for text in seen["svg"]]  # noqa: S314 - our own page's
    assert len(drawings) == seen["count"] > 10
    svg = "{http://www.w3.org/2000/svg}"
    assert all(drawing.tag == f"{svg}svg" for drawing in drawings)
    assert all(drawing.get("width") == "183mm" for drawing in drawings)
    first = drawings[0]
    words = ["".join(text.itertext()) for text in first.iter(f"{svg}text")]
    assert "mean absolute error, years" in words
    named = Counter(word for word in words if word.startswith("estimator-"))
    assert list(named.values()) == [2] * 10  # beside its mark, and in the list of who is who
    # Each part has its own ink, and the light one, whatever the reader's setting.
    inks = {text.get("fill") for text in first.iter(f"{svg}text")} - {"#1b1b1b"}
    assert inks <= {"rgb(27, 27, 27)", "rgb(51, 51, 51)"}
    assert not any("var(" in str(value) for part in first.iter() for value in part.attrib.values())
    png = base64.b64decode(seen["png"])
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(png[16:20], "big") == 2161
    assert seen["names"][0] == "error-against-latency.svg"
    assert seen["names"][-2:] == ["error-against-latency.png", 1]
    assert seen["labels"][0] == "Save “Error against latency” as SVG"


def test_every_figure_is_in_files_too(write_result: Write, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'notebook'")
    from agebench.report.charts import CHARTS
    from agebench.report.figure_files import write_figures

    seen: list[Any] = []
    true = np.repeat([10.0, 22.0, 40.0], 20)
    both = {"good": true + 2, "poor": true * 0 + 30}
    joined = _joined(write_result(predicted=both, true=true.tolist(), attributes={"sex": "f"}))
    files = write_figures(joined, tmp_path / "new" / "figures", lambda *step: seen.append(step))
    assert files == sorted((tmp_path / "new" / "figures").iterdir())
    stems = {file.name.partition("-1col")[0] for file in files if "-1col" in file.name}
    assert stems == set(CHARTS)  # a result that has everything
    assert len(files) == len(CHARTS) * 2 * 3
    heads = {".svg": b"<?xml", ".pdf": b"%PDF", ".png": b"\x89PNG"}
    for file in files:
        assert file.read_bytes().startswith(heads[file.suffix])
    assert seen[-1] == ("figures", 2 * len(CHARTS), 2 * len(CHARTS))


WRONG = """<!DOCTYPE html><body style="margin:0"><main><p style="width:2000px">wide</p></main>
<p style="color:#999">faint</p><p style="color:#1b1b1b">not faint</p>
<svg class="plot" width="90" height="40"><text x="1" y="20">one</text><text x="9" y="20">two</text>
<text x="1" y="39">apart</text></svg>
<div class="scroll" style="width:100px;overflow:auto"><table style="width:900px"><tbody>
<tr><td>name</td><td>1</td></tr></tbody></table></div>"""

TOLD = """
async function look(page, window) {
  return {...sideways(page), nameless: nameless(page), overlapping: overlapping(page),
    faint: faint(page, window)};
}
"""


@pytest.mark.slow
def test_the_checks_see_what_is_wrong(tmp_path: Path) -> None:
    (seen,) = look_at([WRONG], LOOKS + TOLD, tmp_path / "browser", widths=[390])
    assert seen["scroll"] > seen["inner"]
    assert len(seen["wide"]) == 1
    assert seen["overlapping"] == ["two | one"]
    assert len(seen["nameless"]) == 1
    assert [text[:4] for text in seen["faint"]] == ["2.85"]  # white and #999: WCAG's own figure
