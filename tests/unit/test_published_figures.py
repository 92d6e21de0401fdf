"""Figures in documents: each is the one that a result file holds, and says how it was had."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from agebench.metrics.paired_tests import holm
from agebench.types import plain
from tests.unit.scripts import load_script

ROOT = Path(__file__).parents[2]
RUNTIME = re.compile(
    r"in python on|onnxruntime|ONNX Runtime|cv2\.?dnn|\btorch\b|PyTorch", re.IGNORECASE
)
MILLISECONDS = re.compile(r"\d ?ms\b|\| [^|]*\bms\b[^|]*\||\bms,")
PAGES = [
    path
    for folder in ("", "docs", "pretrained", "benchmarks", "benchmarks/results")
    for path in sorted((ROOT / folder).glob("*.md"))
    # The schema gives units, not measurements; the changelog says what changed; the times of the
    # search for near copies are of no network.
    if path.name not in {"result-schema.md", "CHANGELOG.md", "splits.md"}
]


def blocks(text: str) -> Iterator[str]:
    """Yield paragraphs, each list item by itself and a table with all its rows."""
    for paragraph in re.split(r"\n\s*\n", text):
        yield from re.split(r"\n(?=\s*(?:- |\d+\. ))", paragraph)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_where_milliseconds_stand_their_runtime_does(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    silent = [
        each for each in blocks(text) if MILLISECONDS.search(each) and not RUNTIME.search(each)
    ]
    assert not silent, "\n\n".join(silent)


@pytest.fixture(scope="module")
def published() -> ModuleType:
    return load_script("benchmarks.published_age_net")


@pytest.fixture(scope="module")
def held() -> dict[str, dict[str, dict[str, Any]]]:
    path = ROOT / "benchmarks" / "results" / "published_age_net.json"
    sets: dict[str, dict[str, dict[str, Any]]] = json.loads(path.read_text("utf-8"))["sets"]
    return sets


def test_the_table_of_four_sets_is_that_of_its_results(
    published: ModuleType, held: dict[str, Any], habits: dict[str, Any]
) -> None:
    page = ROOT / "benchmarks" / "results" / "published_age_net.md"
    assert page.read_text(encoding="utf-8") == published.markdown(held, habits)
    for key, figures in published.sampled(habits).items():
        assert held["utkface"][key] == plain(figures)


def test_readme_has_the_same_figures(published: ModuleType, held: dict[str, Any]) -> None:
    rows = {}
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith(("| `", "| the same")):
            title, *cells = line.strip("| ").split(" | ")
            rows[title] = cells[: len(held)]
    wanted = {
        **{title: (name, None) for name, title in published.MODELS.items()},
        "`caffe-age-net`, the published file": ("caffe-age-net", None),
        "the same, `recipe=tutorial`": (published.TUTORIAL, "opencv-ssd"),
        "`constant` 30": ("constant", None),
    }
    for title, (estimator, detector) in wanted.items():
        keys = [detector or published.USUAL.get(name, "yolov8-face") for name in held]
        figures = [
            held[name].get(published.key(estimator, each))
            for name, each in zip(held, keys, strict=True)
        ]
        assert rows[title] == [published.cell(each, short=True) for each in figures], title


CARDS = {
    "multicrop-resnet": "pretrained/multicrop-resnet.md",
    "multicrop-resnet-small": "pretrained/multicrop-resnet-small.md",
    "multicrop-resnet-open": "pretrained/multicrop-resnet-open.md",
    "caffe-age-net-utkface": "pretrained/caffe-age-net-utkface.md",
    "caffe-age-net": "docs/models.md",
}
PLACES = {"test": "utkface", "fgnet": "fgnet-1-20", "fgnet-21-82": "fgnet-21-82"}


@pytest.mark.parametrize("model", CARDS)
def test_cards_have_the_same_figures(
    model: str, published: ModuleType, held: dict[str, Any]
) -> None:
    text = (ROOT / CARDS[model]).read_text(encoding="utf-8")
    found = re.findall(
        r"<!-- figures (\S+) -->\n\n([\d,]+) pictures.*?MAE \*\*([\d.]+)\*\* years \((.*?)\).*?"
        r"bias (\S+)\.\n",
        text,
    )
    assert {place for place, *_ in found} >= {"test", "fgnet"}
    for place, *figures in found:
        if place in PLACES:  # no other results are kept of the validation part
            name = PLACES[place]
            detector = published.USUAL.get(name, "yolov8-face")
            each = held[name][published.key(model, detector)]
            interval = f"{each['low']:.2f} to {each['high']:.2f}"
            whole = [f"{each['n']:,}", f"{each['mae_years']:.2f}", interval]
            assert figures == [*whole, f"{each['bias_years']:+.2f}"], place


@pytest.fixture(scope="module")
def tutorial_page() -> ModuleType:
    return load_script("benchmarks.tutorial_page")


@pytest.fixture(scope="module")
def habits() -> dict[str, Any]:
    path = ROOT / "benchmarks" / "results" / "tutorial_mistakes.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_the_tutorials_page_has_the_figures_of_its_results(
    tutorial_page: ModuleType, habits: dict[str, Any]
) -> None:
    text = (ROOT / "docs" / "tutorial-mistakes.md").read_text(encoding="utf-8")
    assert tutorial_page.page(text, habits) == text
    table = ROOT / "benchmarks" / "results" / "tutorial_mistakes.md"
    assert table.read_text(encoding="utf-8") == tutorial_page.markdown(habits)


def test_what_is_shown_of_habits_is_corrected_for_their_number(habits: dict[str, Any]) -> None:
    rows = [
        row
        for found in habits["sets"].values()
        for name, row in found["rows"].items()
        if name != "base"
    ]
    adjusted = holm([row["p_value"] for row in rows])
    assert [row["p_adjusted"] for row in rows] == pytest.approx(adjusted)
    for row in rows:
        mean, low, high = row["difference_years"]
        if row["shown"]:
            assert row["p_adjusted"] < 0.05
            assert row["shown"] == ("worse" if mean > 0 else "better")
            assert low > 0.05 or high < -0.05
    alone = sum(row["difference_years"][1] > 0.05 for row in rows)
    assert sum(row["shown"] == "worse" for row in rows) < alone


def test_two_ways_to_measure_agree(habits: dict[str, Any], held: dict[str, Any]) -> None:
    """`agebench compare`, under cv2.dnn, and the script, under onnxruntime."""
    rows = habits["sets"]["fgnet-1-20"]["rows"]
    for name, key in {
        "base": "caffe-age-net / yolov8-face",
        "frame of opencv-ssd": "caffe-age-net / opencv-ssd",
        "the tutorial, exactly": "caffe-age-net recipe=tutorial / opencv-ssd",
    }.items():
        theirs, ours = held["fgnet-1-20"][key], rows[name]
        assert ours["n"] == theirs["n"]
        figures = [theirs["mae_years"], theirs["low"], theirs["high"]]
        assert ours["mae_years"] == pytest.approx(figures, abs=1e-3)
        assert ours["bias_years"] == pytest.approx(theirs["bias_years"], abs=1e-3)
        assert ours["exact"] == pytest.approx(theirs["exact"])
        assert ours["one_off"] == pytest.approx(theirs["one_off"])


def test_what_the_tutorials_page_concludes_is_what_was_found(
    tutorial_page: ModuleType, habits: dict[str, Any]
) -> None:
    fgnet, utkface = (habits["sets"][name]["rows"] for name in ("fgnet-1-20", "utkface"))
    better = [set(tutorial_page.better(rows)) for rows in (fgnet, utkface)]
    assert not better[0] & better[1]
    fitted = "fitted years, expectation"
    assert fitted in better[1]
    assert fgnet[fitted]["difference_years"][1] > 0
    assert abs(utkface[fitted]["bias_years"]) < 2 < abs(fgnet[fitted]["bias_years"])
    assert fgnet["ten crops, mean image"]["difference_years"][2] > 0
    assert utkface["ten crops, mean image"]["shown"] == "worse"
    assert not fgnet["ten crops, mean image"]["shown"]
    for rows in (fgnet, utkface):
        for worse in ("the tutorial, exactly", "no mean", "RGB", "scaled by 1/255"):
            assert rows[worse]["difference_years"][1] > 0, worse
        assert rows["the Caffe file by cv2.dnn"]["difference_years"] == pytest.approx(
            [0, 0, 0], abs=1e-4
        )
        likeliest = np.argmax(rows["scaled by 1/255"]["given"])
        assert rows["scaled by 1/255"]["given"][likeliest] == rows["scaled by 1/255"]["n"]
