"""The page: what it says, that names in it are only names, and how it stands in a browser."""

from __future__ import annotations

import hashlib
import html
import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image as PillowImage

from agebench.errors import AgebenchError, UsageError
from agebench.harness.reading import read_result
from agebench.metrics.age_classes import ADIENCE_CLASSES
from agebench.report import page
from agebench.report.gallery import gallery
from agebench.report.joining import Joined, join
from agebench.report.plots_analysis import threshold_figures
from agebench.report.reading import read_files
from agebench.report.rows_analysis import threshold_grids
from agebench.report.rows_errors import group_grids
from agebench.report.rows_ranking import ranking
from agebench.report.tables import as_markdown
from agebench.report.writing import write_report
from agebench.types import plain

Write = Callable[..., Path]
Make = Callable[..., dict[str, Any]]
AGES = np.arange(1.0, 61.0)

HOSTILE = (
    "<script>window.pwned=1</script>",
    "\"><img src=x onerror='window.pwned=1'>",
    "</style></title></svg><script>window.pwned=1</script>",
    "{{ 7*7 }}{% raw %}",
    "\x1b[31mred\x1b]0;title\x07\u202eevil\ud800",
    "=HYPERLINK('http://x.invalid')",
    "a|b\n# head",
    "\\input{/etc/passwd}&%$",
)


def _joined(path: Path) -> Joined:
    return join([read_result(path)])


@pytest.fixture
def hostile(write_result: Write) -> Path:
    """A result in which everything that is text is hostile."""
    predicted = {name: AGES + place for place, name in enumerate(HOSTILE)}
    images = [f"{row:02d}{HOSTILE[row % len(HOSTILE)]}" for row in range(len(AGES))]
    terms = {"licence": HOSTILE[0], "citation": HOSTILE[2], "source": "javascript:alert(1)"}
    return write_result(
        predicted=predicted,
        images=images,
        attributes={HOSTILE[0]: HOSTILE[1]},
        notes=[*HOSTILE],
        **terms,
    )


class _Elements(HTMLParser):
    """All elements with their attributes, and whether every one is closed."""

    VOID = frozenset({"meta", "img", "br", "wbr", "input", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _elements(text: str) -> _Elements:
    parser = _Elements()
    parser.feed(text)
    assert parser.open == []
    return parser


def test_the_page_needs_nothing_else(write_result: Write) -> None:
    text = page.render(_joined(write_result()))
    for tag, attributes in _elements(text).found:
        for name in ("src", "href", "data", "action", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert "url(" not in text
    assert "@import" not in text
    assert 'name="viewport"' in text


def test_every_section_is_there_with_its_figures(write_result: Write) -> None:
    text = page.render(_joined(write_result(attributes={"gender": "f"})))
    named = re.findall(r'<section id="([^"]+)"', text)
    assert named == [
        "ranking",
        "notes",
        "errors",
        "groups",
        "density",
        "calibration",
        "gates",
        "classes",
        "latency",
        "worst",
        "methods",
        "cite",
        "repeat",
    ]
    assert re.findall(r'href="#([^"]+)"', text) == named
    # MAE of "good" and of saying 30 to ages 1 to 60, by hand: (29*30/2 + 30*31/2) / 60.
    assert ">1.00</td>" in text
    assert ">15.00</td>" in text
    assert "gender: f" in text
    assert "A. Body, 2020" in text
    assert "agebench compare good poor --root &#39;a b&#39;" in text


def test_every_picture_has_words_and_is_sound_xml(write_result: Write) -> None:
    ages = np.repeat(AGES, 4)  # twenty in every step of five years
    predicted = {"good": ages + 1, "poor": 0 * ages + 30}
    text = page.render(_joined(write_result(predicted=predicted, true=ages)))
    drawings = re.findall(r'<svg class="plot".*?</svg>', text)
    # three of errors, two densities, coverage and one PIT, five gates, latency
    assert len(drawings) == 3 + 2 + 2 + 5 + 1
    for drawing in drawings:
        root = ET.fromstring(drawing)  # noqa: S314 - made here
        assert root.attrib["role"] == "img"
        assert len(root.attrib["aria-label"]) > 20
        assert "nan" not in drawing.lower()
        words = [item.text for item in root.iter("text")]
        assert len(words) >= 4
        for item in root.iter("text"):
            if "x" in item.attrib:
                assert 0 <= float(item.attrib["x"]) <= 400


def test_names_are_only_names(hostile: Path) -> None:
    text = page.render(_joined(hostile))
    elements = _elements(text).found
    assert [tag for tag, _ in elements if tag == "script"] == ["script"]
    assert not any(
        tag in ("img", "iframe", "a") and "onerror" in str(found) for tag, found in elements
    )
    assert not any(name.startswith("on") for _, found in elements for name in found)
    assert not any("javascript:" in (found.get("href") or "") for _, found in elements)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "{{ 7*7 }}" in html.unescape(text)
    text.encode("utf-8")


def test_tables_for_papers_hold_only_text(hostile: Path, tmp_path: Path) -> None:
    md, tex, table = write_report(_joined(hostile), tmp_path / "out", ("md", "tex", "csv"))
    markdown = md.read_text("utf-8")
    assert "<script" not in markdown
    assert "\n# head" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert rows
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in rows}
    assert len(widths) <= len(re.findall("^## ", markdown, re.MULTILINE))
    latex = tex.read_text("utf-8")
    assert r"\input" not in latex
    assert r"\textbackslash{}input\{/etc/passwd\}\&\%\$" in latex
    assert "\x1b" not in markdown + latex
    cells = table.read_text("utf-8").splitlines()
    assert any(line.startswith("'=HYPERLINK") for line in cells)
    assert not any(line.startswith(("=", "@", "+", "\t")) for line in cells)


def test_what_is_null_is_said_and_not_drawn(write_result: Write, make_result: Make) -> None:
    content = make_result({"only": AGES + 1, "failed": AGES})
    for image in content["pictures"]:
        del image["predictions"]["failed"]
    failed = content["estimators"][1]
    failed["errors"] = {
        **dict.fromkeys(("mae_years", "mae_interval", "rmse_years", "median_years", "bias_years")),
        "n": 0,
        "cs": dict.fromkeys(("1", "3", "5", "10")),
        "by_decade": [],
    }
    failed |= {"scored": 0, "failed": 60, "latency": {}}
    content["estimators"][0]["latency"] = {}
    content["shared_latency"] = {}
    for image in content["pictures"]:
        image["predictions"]["only"] |= {"nll": None, "pit": None}
    del content["analysis"]
    text = page.render(_joined(write_result(content=content)))
    for sentence in (
        "nothing was timed",
        "Nothing was timed",
        "No estimator gives a distribution",
    ):
        assert sentence in text
    _elements(text)


def test_ranges_alone_still_make_a_page(write_result: Write, make_result: Make) -> None:
    content = make_result()
    for image in content["pictures"]:
        image["true_years"], image["true_range"] = None, [20, 29]
    empty = dict.fromkeys(("mae_years", "mae_interval", "rmse_years", "median_years", "bias_years"))
    for item in content["estimators"]:
        scores = dict.fromkeys(("1", "3", "5", "10"))
        item["errors"] = {**empty, "n": 0, "cs": scores, "by_decade": []}
        item["ranges"] = {"n": 60, "hit_rate": 0.5, "distance_years": 3.25}
        classes = {"n": 60, "n_in_gap": 0, "n_unclassified": 1, "exact": 0.4375, "one_off": 0.75}
        item["classes"], item["spec"]["classes"] = classes, plain(ADIENCE_CLASSES)
    seen = [image["picture"] for image in content["pictures"][:3]]
    content["estimators"][0]["seen_in_training"] = {"what": "x", "count": 3, "pictures": seen}
    content["estimators"][0]["spec"] = {**content["estimators"][0]["spec"], "notes": ["made up"]}
    del content["analysis"]
    joined = _joined(write_result(content=content))
    text = page.render(joined)
    assert "Against age ranges" in text
    assert ">3.25</td>" in text
    assert "The eight Adience classes" in text
    assert ">43.8</td>" in text
    assert "No picture has a known age" in text
    assert re.search(
        r'>good(<wbr>)?<small class="note severe">trained on 3 of its 60 pictures', text
    )
    assert "there is no common picture of known age it was not trained on" in text
    assert "good: made up" in text
    assert ">Not drawn: no picture has a known age.</p>" in text
    assert "No error against latency: no picture has a known age." in text
    assert "hing was timed" not in text
    assert "gives a distribution" not in text


def test_an_estimator_that_was_not_available_is_named(
    write_result: Write, make_result: Make
) -> None:
    content = make_result()
    content["estimators"].append(
        {
            "name": "gone",
            "available": False,
            "unavailable_reason": "its file\nis nowhere",
            "mae_years": None,
            "spec": None,
            "latency": {},
        }
    )
    text = page.render(_joined(write_result(content=content)))
    assert "gone was not available: its file is nowhere" in text
    assert "not available</td>" in text


def test_better_is_said_only_where_the_test_says_so(write_result: Write) -> None:
    noise = np.resize([0.9, -1.0], 60)
    predicted = {"one": AGES + noise, "two": AGES - noise + 0.01, "far": AGES + 25}
    text = page.render(_joined(write_result(predicted=predicted)))
    ranking = text.split('<section id="ranking"')[1].split("</table>")[0]
    rows = re.findall(r"<tr>(<td.*?)</tr>", ranking)
    told = {re.sub("<[^>]+>", " ", row).split()[0]: row for row in rows}
    assert "lowest error" in rows[0]
    assert "no difference shown" in rows[1]
    assert "worse by" in told["far"]


def test_the_interval_beside_worse_keeps_its_signs(write_result: Write, make_result: Make) -> None:
    content = make_result()
    (pair,) = content["analysis"]["pairs"]
    assert (pair["first"], pair["verdict"]) == ("good", "first better")
    pair["interval"] = [-0.9, 0.02]  # the corrected test may show what the interval does not
    pair["difference_years"] = -0.4
    text = page.render(_joined(write_result(content=content)))
    assert "worse by 0.40 [\u22120.02, 0.90]" in text


def test_what_was_trained_on_is_warned_of(write_result: Write, make_result: Make) -> None:
    content = make_result()
    content["estimators"][0]["seen_in_training"] = {"what": "x", "count": 3, "pictures": []}
    text = page.render(_joined(write_result(content=content)))
    ranked = text.split('<section id="ranking"')[1].split("</table>")[0]
    assert re.search(
        r'good(<wbr>)?<small class="note severe">trained on 3 of its 60 pictures: no', ranked
    )
    assert "only one judged" in ranked.split("poor")[1]
    assert "lowest error" not in ranked


def test_many_estimators_are_all_listed_and_ten_are_drawn(write_result: Write) -> None:
    predicted = {f"e{place:02d}": AGES + 0.5 * place for place in range(13)}
    text = page.render(_joined(write_result(predicted=predicted)))
    assert "The figures show the best 10 of 13 estimators." in text
    assert text.count("Predicted against true age of") == 10
    assert "e12" in text


def test_what_is_not_timed_or_not_drawn_is_said(write_result: Write, make_result: Make) -> None:
    content = make_result({f"e{place:02d}": AGES + 0.5 * place for place in range(11)})
    for item in content["estimators"][:9]:
        item["latency"] = {}
    text = page.render(_joined(write_result(content=content)))
    assert "Not timed, so not drawn: 9." in text
    content["estimators"][9]["latency"] = {}
    text = page.render(_joined(write_result(content=content)))
    assert "No error against latency: none of those drawn was timed." in text
    assert ">Not drawn: none of those drawn was timed.</p>" in text


def test_two_results_say_what_changed(write_result: Write) -> None:
    files = [
        read_result(write_result("a", predicted={"x": AGES + 5})),
        read_result(write_result("b", predicted={"x": AGES + 1})),
    ]
    text = page.render(join(files))
    section = text.split('<section id="changes">')[1].split("</section>")[0]
    assert "\u22124.00" in section
    assert ">better</td>" in section
    assert ">60</td>" in section


def test_a_labelled_face_has_a_thumbnail_too(
    write_result: Write, make_result: Make, tmp_path: Path
) -> None:
    PillowImage.new("RGB", (300, 200), (200, 10, 10)).save(tmp_path / "a#1.png")
    names = ["a#1.png#-1.5,2,1e+06,40", "a#1.png#1,2,30,40", "a#1.png"]
    content = make_result({"x": [10.0, 20.0, 30.0]}, [0.0, 0.0, 0.0], names)
    for image in content["pictures"]:
        image["sha256"] = hashlib.sha256((tmp_path / "a#1.png").read_bytes()).hexdigest()
    joined = _joined(write_result(content=content))
    assert all(tile.thumbnail for tile in gallery(joined, joined.scored[0], tmp_path))


def test_thumbnails_come_from_the_very_file_and_no_other_place(
    write_result: Write, make_result: Make, tmp_path: Path
) -> None:
    root = tmp_path / "pictures"
    root.mkdir()
    names = ["a.png", "b.png", "../secret.png", "gone.png"]
    for name in names[:3]:
        PillowImage.new("RGB", (300, 200), (200, 10, 10)).save(root / name)
    content = make_result({"x": [10.0, 20.0, 30.0, 40.0]}, [0.0, 0.0, 0.0, 0.0], names)
    for image in content["pictures"]:
        path = root / image["picture"]
        image["box_xyxy"] = [100.0, 50.0, 200.0, 150.0]
        if path.exists() and image["picture"] != "b.png":
            image["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    joined = _joined(write_result(content=content))
    tiles = {tile.image: tile for tile in gallery(joined, joined.scored[0], root)}
    assert [tile.predicted_years for tile in tiles.values()] == [40.0, 30.0, 20.0, 10.0]
    assert tiles["a.png"].thumbnail.startswith("data:image/jpeg;base64,")
    assert "not the one that was scored" in tiles["b.png"].missing
    assert "leads out of the folder" in tiles["../secret.png"].missing
    assert tiles["gone.png"].missing
    assert sum(bool(tile.thumbnail) for tile in tiles.values()) == 1
    text = page.render(joined, root)
    assert 'src="data:image/jpeg;base64,' in text
    assert "--thumbnails" not in text
    assert 'src="data:image' not in page.render(joined)


@pytest.mark.parametrize("licence", ["research only", "non-commercial research only", "unverified"])
def test_under_research_terms_no_picture_is_shown(
    write_result: Write, tmp_path: Path, licence: str
) -> None:
    text = page.render(_joined(write_result(licence=licence)), tmp_path)
    assert "Pictures are left out" in text
    assert 'src="data:image' not in text


def _sweep(environment: object) -> dict[str, Any]:
    """Return what a file of version 1 holds, from before it said how busy the machine was."""
    return {
        "schema_version": 1,
        "created": "2026-01-02",
        "command": [],
        "environment": environment,
        "machine": {"devices": ["a <GPU>"], "threads": 2},
        "faces": {"origin": "generated"},
        "estimators": [
            {
                "name": "good",
                "resources": {"parameters": 1, "macs_per_face": None, "file_bytes": 0},
                "batch_sweep": [
                    {
                        "batch": batch,
                        "n": 3,
                        "faces_per_s": 100.0 * batch,
                        "samples_ms": [9.0, 10.0, 11.0],
                        "floor_ms": None,
                    }
                    for batch in (1, 16, 256)
                ],
            }
        ],
        "comparisons": [],
    }


def test_a_batch_sweep_is_shown_beside_a_result(
    write_result: Write, make_result: Make, tmp_path: Path
) -> None:
    sweep = _sweep(make_result()["environment"])
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(sweep), encoding="utf-8")
    results, sweeps = read_files([write_result(), path])
    assert len(results) == len(sweeps) == 1
    text = page.render(join(results), None, sweeps)
    assert str(path) in text.split("Made by agebench")[1]
    with pytest.raises(UsageError, match="given twice"):
        read_files([path, path])
    (folder := tmp_path / "alone").mkdir()
    (folder / "bench.json").write_text(json.dumps(sweep), encoding="utf-8")
    assert read_files([folder])[1][0].path == folder / "bench.json"
    del sweep["schema_version"]
    path.write_text(json.dumps(sweep), encoding="utf-8")
    with pytest.raises(AgebenchError, match="field 'schema_version'"):
        read_files([path])
    section = text.split('<section id="sweep-1">')[1].split("</section>")[0]
    assert "Batch sweep, a &lt;GPU&gt;" in section
    assert section.count('<svg class="plot"') == 2
    assert ">256</td>" in section


@pytest.mark.parametrize(("version", "key"), [(1, "floor_ms"), (3, "roofline_ms")])
def test_the_roofline_is_read_under_its_earlier_name_too(
    make_result: Make, tmp_path: Path, version: int, key: str
) -> None:
    sweep = _sweep(make_result()["environment"])
    if version > 1:
        sweep["machine"]["too_busy"] = ""
        sweep["machine"] |= dict.fromkeys(
            ("load_average_before", "load_average_after", "others_processors")
        )
    sweep["schema_version"] = version
    for at, batch in enumerate(sweep["estimators"][0]["batch_sweep"]):
        del batch["floor_ms"]
        batch[key] = 4.5 + at
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(sweep), encoding="utf-8")
    (read,) = read_files([path])[1]
    found = [batch.roofline_ms for batch in read.content.estimators[0].batch_sweep]
    assert found == [4.5, 5.5, 6.5]


def test_gates_of_adults_alone_have_a_table_and_no_figure(write_result: Write) -> None:
    adults = np.linspace(30, 89, 60)
    joined = _joined(write_result(predicted={"a": adults - 12}, true=adults.tolist()))
    assert threshold_figures(joined) == []
    (stopped,) = threshold_grids(joined)
    assert "Of the age or older and stopped" in stopped.caption
    at_25 = [row for row in stopped.rows if row[0].value == 25 and row[1].value == 0]
    expected = float(np.mean(adults - 12 < 25))
    assert [row[3].value for row in at_25] == [pytest.approx(expected)]


def test_labels_of_gates_do_not_cover_each_other(write_result: Write) -> None:
    predicted = {"a": AGES + 2, "b": AGES + 3, "c": AGES - 1}
    figures = threshold_figures(_joined(write_result(predicted=predicted)))
    assert figures
    for figure in figures:
        found = re.findall(r'<text x="([^"]+)" y="([^"]+)"[^>]* class="note">', figure.drawing)
        places = [(float(x), float(y)) for x, y in found]
        assert len(places) >= len(predicted)
        for (x, y), (other_x, other_y) in itertools.combinations(places, 2):
            assert abs(x - other_x) >= 7 or abs(y - other_y) >= 10


def test_gates_of_one_age_may_lack_a_rate(make_result: Make, write_result: Write) -> None:
    """In our own files they do not: whoever wrote this one is answered all the same."""
    content = make_result()
    for entry in content["analysis"]["estimators"].values():
        for gate in entry["age_thresholds"][1:]:
            gate["false_pass_rate"] = None
    assert page.render(_joined(write_result(content=content)))


def test_how_many_people_there_are_stands_beside_every_number_of_pictures(
    write_result: Write, make_result: Make
) -> None:
    ages = np.resize(np.arange(1.0, 31.0), 120)
    people = [f"p{row % 12}" for row in range(120)]
    content = make_result({"good": ages + 1, "poor": ages + 9}, ages.tolist(), people=people)
    joined = _joined(write_result(content=content))
    text = page.render(joined)
    assert "1.00 years [1.00, 1.00] on 120 pictures of 12 people; the next" in text
    assert "Error in years on 120 common pictures of 12 people" in text
    assert "25 (of 96; 12 people)" in text
    passed, stopped = threshold_grids(joined)
    assert [row[2].text for row in passed.rows][-1] == "96 pictures of 12 people"
    assert [row[2].text for row in stopped.rows][-1] == "24 pictures of 12 people"
    for grid in group_grids(joined):
        assert [column.title for column in grid.columns[:3]] == ["group", "pictures", "people"]
        assert [cell.text for cell in grid.rows[0][:3]] == [
            "decade: 0-9",
            "36",
            "12",
        ]


def test_a_sweep_of_a_busy_machine_says_so(
    write_result: Write, make_result: Make, tmp_path: Path
) -> None:
    sweep = _sweep(make_result()["environment"])
    sweep["schema_version"] = 2
    path = tmp_path / "bench.json"
    for others, too_busy in ((0.01, ""), (1.5, "the machine was too busy")):
        sweep["machine"] |= {
            "load_average_before": None,
            "load_average_after": None,
            "others_processors": others,
            "too_busy": too_busy,
        }
        path.write_text(json.dumps(sweep), encoding="utf-8")
        results, sweeps = read_files([write_result(), path])
        text = page.render(join(results), None, sweeps).split('<section id="sweep-1">')[1]
        assert ("other processes used 1.50 processors." in text) is bool(too_busy)
        assert ("kept the machine BUSY" in text) is bool(too_busy)
    sweep["machine"]["too_busy"] = 3
    path.write_text(json.dumps(sweep), encoding="utf-8")
    with pytest.raises(AgebenchError, match=r"machine\.too_busy"):
        read_files([path])


def test_a_busy_machine_is_told_of_on_the_page_and_in_markdown(
    write_result: Write, make_result: Make
) -> None:
    content = make_result()
    assert "BUSY" not in page.render(_joined(write_result(content=content)))
    content["timing"] |= {
        "load_average_before": [5.0, 4.0, 3.0],
        "load_average_after": [6.0, 4.0, 3.0],
        "others_processors": 1.5,
        "too_busy": "the machine was too busy: other processes used 1.5 of its 2 processors",
    }
    joined = _joined(write_result("busy", content))
    told = "load average (1 min) before 5.00, after 6.00; other processes used 1.50 processors."
    for text in (page.render(joined), as_markdown(joined).replace("\\", "")):
        assert told in text
        assert "Other processes kept the machine BUSY" in text
    assert "good against itself 1.00" in page.render(joined)
    # The best figure is in bold, but no time is: no estimator is called faster.
    rows = ranking(joined).rows
    assert [bool(row[1].kind) for row in rows] == [True, False]
    assert not any(row[at].kind for row in rows for at in (4, 11))
