"""The documents as a site, as they stand in a browser: widths, colours, search from the disk."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.unit.browser import BROWSER, LOOKS, look_at

ROOT = Path(__file__).parents[2]
PAGES = ("index.html", "api.html", "notebook.html", "models.html", "result-schema.html")

SEEN = """
async function look(page, window) {
  const scheme = page.documentElement.dataset.bsTheme;
  return {...sideways(page), faint: faint(page, window), scheme,
    coloured: page.querySelectorAll(".codehilite span[class]").length};
}
"""

SEARCH = """
async function look(page, window) {
  const input = page.getElementById("mkdocs-search-query");
  input.value = "kept detections";
  input.dispatchEvent(new window.Event("keyup"));
  const list = page.getElementById("mkdocs-search-results");
  for (let at = 0; at < 200 && !list.querySelector("article"); at++) {
    await new Promise((done) => setTimeout(done, 50));
  }
  return {links: [...list.querySelectorAll("a")].map((item) => item.getAttribute("href"))};
}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once."""
    if BROWSER is None:
        pytest.skip("needs Chromium, which is not installed")
    pytest.importorskip("mkdocs", reason="needs the extra 'docs'")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    logging.getLogger("mkdocs").setLevel(logging.ERROR)
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    return folder


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_fit_and_can_be_read(dark: bool, site: Path, tmp_path: Path) -> None:
    pages = [site / name for name in PAGES]
    seen = look_at(pages, LOOKS + SEEN, tmp_path, dark=dark, widths=(390, 820))
    for one in seen:
        where = f"{PAGES[int(one['page'])]} at {one['width']}"
        assert one["scheme"] == ("dark" if dark else "light"), where
        assert one["scroll"] <= one["inner"], where
        assert one["wide"] == [], where
        assert one["faint"] == [], where
    assert sum(one["coloured"] for one in seen) > 50


@pytest.mark.extra
@pytest.mark.slow
def test_search_works_from_the_disk(site: Path, tmp_path: Path) -> None:
    (seen,) = look_at([site / "api.html"], SEARCH, tmp_path, widths=[820])
    assert any("measuring.html" in link for link in seen["links"])
