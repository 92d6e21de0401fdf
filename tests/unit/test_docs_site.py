"""The documents as a site, and the code in them."""

from __future__ import annotations

import ast
import configparser
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

import agebench
from agebench import load_estimator
from agebench.modelfiles.manifest import bundled_dir
from agebench.registry.plugins import DETECTORS, ESTIMATORS, list_plugins
from agebench.types import CropSpec, FaceFrame, Image, ViewSpec, plain
from agebench.vision.crops import cut_crops
from agebench.vision.frames import TEMPLATE_5, frame_from_points, frame_to_image
from agebench.vision.regions import REGIONS
from tests.unit.scripts import load_script

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SHOWN = ("h1", "h2", "h3", "li", "ol", "pre", "table", "tr", "ul")


def _hooks() -> ModuleType:
    return load_script("docs.site_hooks")


def _blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def _pages() -> list[Path]:
    outside = [path for name in _hooks().OUTSIDE for path in ROOT.glob(name)]
    return sorted(path for path in [*DOCS.glob("*.md"), *outside] if path.suffix == ".md")


@pytest.mark.extra
@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_site_shows_what_commonmark_does(page: Path) -> None:
    """Python-Markdown reads lists otherwise than every place where people read these pages."""
    markdown = pytest.importorskip("markdown", reason="needs the extra 'docs'")
    text = page.read_text(encoding="utf-8")
    extensions = ["fenced_code", "tables", "toc"]
    ours = markdown.markdown(_hooks().as_mkdocs_reads_it(text), extensions=extensions)
    theirs = MarkdownIt("commonmark").enable("table").render(text)

    def shown(html: str) -> dict[str, int]:
        return {tag: len(re.findall(rf"<{tag}[ >]", html)) for tag in SHOWN}

    assert shown(ours) == shown(theirs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n- b\n- c", "a:\n\n- b\n- c"),
        ("- b\n  c\n\nd", "- b\n    c\n\nd"),
        ("- b:\n\n      code\n\nd", "- b:\n\n        code\n\nd"),
        ("10. b\n\n    c", "10. b\n\n    c"),
        ("```\na\n- b\n```", "```\na\n- b\n```"),
        ("a - b\n-c", "a - b\n-c"),
    ],
)
def test_lists_are_set_apart(text: str, expected: str) -> None:
    assert _hooks().as_mkdocs_reads_it(text) == expected


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("benchmarks/README.md", "../docs/splits.md#protocols", "../splits.md#protocols"),
        ("benchmarks/results/zoo.md", "../../docs/models.md", "../../models.md"),
        ("benchmarks/README.md", "results/zoo.md", "results/zoo.md"),
        ("splits.md", "../pretrained/README.md", "pretrained/README.md"),
    ],
)
def test_links_lead_to_where_pages_lie_on_the_site(page: str, link: str, expected: str) -> None:
    """There docs/ is the root, and pages from outside of it lie below."""
    found = _hooks().on_page_markdown(
        f"[a]({link})", SimpleNamespace(file=SimpleNamespace(src_uri=page))
    )
    assert found == f"[a]({expected})"


@pytest.mark.extra
def test_every_page_is_in_the_menu() -> None:
    yaml = pytest.importorskip("yaml", reason="needs the extra 'docs'")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def leaves(part: Any) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        else:
            values = part.values() if isinstance(part, dict) else part
            for item in values:
                yield from leaves(item)

    listed = list(leaves(settings["nav"]))
    assert len(listed) == len(set(listed))
    assert {path.name for path in DOCS.glob("*.md")} <= set(listed)
    made = {path.with_suffix(".md").name for path in DOCS.glob("*.ipynb")}
    assert all(
        name in made or (DOCS / name).is_file() or (ROOT / name).is_file() for name in listed
    )


def test_a_notebook_becomes_a_page_with_what_its_cells_showed() -> None:
    page = _hooks().notebook_page((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))
    assert page.startswith("# Comparing in a notebook")
    assert "```python\nfrom agebench import" in page
    assert page.count('src="data:image/png;base64,') == 3
    for block in re.findall(r'<div class="shown">.*?\n</div>', page, re.DOTALL):
        assert "\n\n" not in block


def test_the_api_page_has_every_public_name() -> None:
    shown = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    public = {f"agebench.{name}" for name in dir(agebench) if not name.endswith("Error")}
    assert public <= set(shown)  # the errors are listed as a whole
    assert "agebench.errors" in shown
    assert {"agebench.testing.check_estimator", "agebench.testing.check_detector"} <= set(shown)


# elsewhere.md


def _elsewhere(names: dict[str, Any], *blocks: int) -> dict[str, Any]:
    code = _blocks("elsewhere.md", "python")
    model = str(bundled_dir() / "multicrop-resnet.onnx")
    for block in blocks:
        exec(code[block].replace('"model.onnx"', repr(model)), names)  # noqa: S102 - our own page
    return names


def _composite() -> tuple[Image, FaceFrame, np.ndarray]:
    """A composite of the sample, and where a face leaning a little would lie in it."""
    from PIL import Image as PillowImage

    with PillowImage.open(bundled_dir() / "sample" / "composite_male_45_4.jpg") as file:
        picture = np.ascontiguousarray(np.asarray(file.convert("RGB"))[:, :, ::-1])
    leaning = FaceFrame((99.1, 79.3), 221.6, 0.06)
    frame = frame_from_points(np.array(frame_to_image(leaning, TEMPLATE_5)))
    assert frame is not None
    points = np.array(frame.points_xy)
    return picture, frame, points[:, 0] + 1j * points[:, 1]


def test_the_python_of_elsewhere_gives_our_ages(capsys: pytest.CaptureFixture[str]) -> None:
    picture, frame, points = _composite()
    names = _elsewhere({"picture_bgr": picture, "points": points}, 0, 1)
    estimator = load_estimator("multicrop-resnet")
    ours = estimator.predict(cut_crops(picture, [frame], estimator.spec.crop))[0]
    assert float(names["age"][0, 0]) == pytest.approx(ours.years, abs=1.0)
    assert names["probabilities"].shape == (1, 117)
    assert capsys.readouterr().out == f"{names['age'][0, 0]:.1f} years\n"
    first = float(names["age"][0, 0])
    _elsewhere(names, 2)  # the same crops under cv2.dnn
    assert float(names["age"][0, 0]) == pytest.approx(first, abs=0.01)


def test_the_python_of_elsewhere_needs_numpy_and_a_runtime_alone() -> None:
    code = "\n".join(_blocks("elsewhere.md", "python")[:2])
    imported = {
        name.name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    assert imported == {"json", "numpy", "onnxruntime"}


def test_the_regions_of_elsewhere_are_ours() -> None:
    _, frame, points = _composite()
    names = _elsewhere({}, 0)
    assert set(names["REGIONS"]) == set(REGIONS) - {
        "aligned",
        "arcface-112",
        "box",
        "original",
        "square",
    }
    centre, turn = names["frame"](points)
    assert abs(turn) == pytest.approx(frame.height)
    for name, (around, down, width, height) in names["REGIONS"].items():
        ours = REGIONS[name](frame, (200, 200))
        place = (centre if around is None else points[around].mean()) + turn * 1j * down
        assert (place.real, place.imag) == pytest.approx(ours.center_xy)
        assert (width * abs(turn), height * abs(turn)) == pytest.approx((ours.width, ours.height))


def test_elsewhere_refuses_views_that_it_does_not_cut() -> None:
    picture, _, points = _composite()
    cut = _elsewhere({}, 0)["cut"]
    view = {"region": "face", "size_hw": [8, 6], "margin": 0.0, "margin_px": 0.0, "align": True}
    assert cut(picture, points, view).shape == (3, 8, 6)
    with pytest.raises(ValueError, match="without margins in pixels"):
        cut(picture, points, view | {"margin_px": 2.0})


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("region", ["face", "mouth"])
def test_elsewhere_cuts_as_we_do(region: str, margin: float, align: bool) -> None:
    picture, frame, points = _composite()
    view = ViewSpec(region, (64, 48), margin=margin, align=align)
    ours = cut_crops(picture, [frame], CropSpec({"view": view})).views["view"][0]
    theirs = _elsewhere({}, 0)["cut"](picture, points, plain(view))
    assert np.abs(ours.transpose(2, 0, 1) - theirs).mean() < 2.0


def test_the_other_languages_know_the_views_of_the_bundled_model() -> None:
    crop = load_estimator("multicrop-resnet").spec.crop
    (script,) = _blocks("elsewhere.md", "js")
    (cpp,) = _blocks("elsewhere.md", "cpp")
    for name, view in crop.views.items():
        height, width = view.size_hw
        assert f"{name}: [1, 3, {height}, {width}]" in script
        assert f"tensor({name}, {{1, 3, {height}, {width}}})" in cpp
    assert isinstance(next(iter(crop.views.values())), ViewSpec)
    assert f"[1, {len(crop.views)}, 1, 1]" in script


# extending.md, quickstart.md, CITATION.cff


def test_the_python_of_extending_runs(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    for code in _blocks("extending.md", "python"):
        exec(code, names)  # noqa: S102 - our own page
    (tmp_path / "031_a.jpg").write_bytes(b"")
    (sample,) = names["load"](tmp_path).samples
    assert (sample.name, sample.age_years) == ("031_a.jpg", 31.0)


def test_extending_shows_the_example_as_it_is() -> None:
    (shown,) = _blocks("extending.md", "ini")
    written = configparser.ConfigParser()
    written.read(ROOT / "tests" / "example_plugin" / "setup.cfg", encoding="utf-8")
    page = configparser.ConfigParser()
    page.read_string(shown)
    section = "options.entry_points"
    assert dict(page[section]) == dict(written[section])


def test_the_settings_of_the_quick_start_are_settings(tmp_path: Path) -> None:
    from agebench.train.settings import read_settings

    (text,) = _blocks("quickstart.md", "toml")
    (tmp_path / "tiny.toml").write_text(text, encoding="utf-8")
    settings = read_settings(tmp_path / "tiny.toml")
    assert list(settings.model.views) == ["face"]
    assert settings.epochs == tomllib.loads(text)["epochs"]


@pytest.mark.extra
def test_the_citation_is_of_this_version() -> None:
    yaml = pytest.importorskip("yaml", reason="needs the extra 'docs'")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "version"} <= set(cited)
    assert cited["version"] == agebench.__version__
    assert cited["authors"] == [{"name": "The agebench developers"}]


@pytest.mark.parametrize("group", [ESTIMATORS, DETECTORS])
def test_every_option_of_a_model_is_documented(group: str) -> None:
    page = (DOCS / "models.md").read_text(encoding="utf-8")
    for plugin in list_plugins(group):
        if plugin.package != "agebench":
            continue
        assert f"`{plugin.name}" in page, plugin.name
        for option in inspect.signature(resolve_name(plugin.target)).parameters:
            named = f"`{option}" in page or f" {option}=" in page
            assert named or option in {"path", "runtime", "device"}, f"{plugin.name}: {option}"
