"""The result as Python users have it: its short form, tables, figures, files and progress."""

from __future__ import annotations

import copy
import io
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from agebench import CompareResult, CompareSettings, compare, no_progress
from agebench.errors import AgebenchError, MissingDependencyError, UsageError
from agebench.harness.contents_statistics import Group
from agebench.harness.reading import read_result
from agebench.report import charts, charts_more
from agebench.report.joining import join
from agebench.report.snippet import MAX_ROWS, render_snippet
from agebench.util.progress import shown_progress
from tests.unit.scripts import load_script

mpl_figure = pytest.importorskip("matplotlib.figure", reason="needs the extra 'notebook'")
pd = pytest.importorskip("pandas", reason="needs the extra 'notebook'")

pytestmark = pytest.mark.extra

ROOT = Path(__file__).parents[2]
AGES = np.arange(1.0, 61.0)


@pytest.fixture(scope="module")
def result() -> CompareResult:
    """Two baselines on thirty composites, timed on four."""
    settings = CompareSettings(limit=30, latency_pictures=4, decode_threads=0)
    names = ["constant years=40", "constant"]
    return compare(names, "sample", settings=settings, progress=no_progress)


def _mae(result: CompareResult, name: str) -> float:
    (item,) = (item for item in result.estimators if item.name == name)
    assert item.mae_years is not None
    return item.mae_years


def test_pickling_is_refused_in_a_sentence(result: CompareResult) -> None:
    for way in (pickle.dumps, copy.deepcopy):
        with pytest.raises(UsageError, match="can't be pickled or copied"):
            way(result)
    assert copy.copy(result) is result


def test_the_short_form_names_data_and_errors(result: CompareResult) -> None:
    first, second = (f"{_mae(result, item.name):.2f}" for item in result.estimators)
    shown = repr(result)
    assert shown.startswith("<CompareResult: sample, 30 pictures; MAE in years: ")
    assert first in shown
    assert second in shown
    assert len(shown) < 200
    assert "analysis" not in shown


def test_names_in_the_short_form_do_not_control_a_terminal(result: CompareResult) -> None:
    first = result.estimators[0]
    evil = replace(first, contender=replace(first.contender, name="e\x1b[31mvil"))
    assert r"e\x1b[31mvil" in repr(replace(result, estimators=(evil,)))


def test_a_notebook_shows_answer_figure_and_ranking(result: CompareResult) -> None:
    shown = result._repr_html_()
    assert len(shown.encode()) < 200_000
    for item in result.estimators:
        assert shown.count(f"{_mae(result, item.name):.2f}") >= 1
    assert '<svg class="plot"' in shown
    # Its style holds inside of it alone: every rule stands in one of its own class.
    style = re.findall(r"<style>(.*?)</style>", shown, re.DOTALL)
    assert [text.strip()[:10] for text in style] == [".agebench "]
    assert style[0].count("{") == style[0].count("}")
    assert "<script" not in shown


def test_groups_whose_names_are_alike_when_shortened_have_a_row_each(
    result: CompareResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [("place", f"{'north' * 8} {middle} {'south' * 8}") for middle in ("one", "two")]
    figures = Group(
        attribute="place", value="", n=30, mae_years=4.0, mae_interval=None, bias_years=1.0
    )
    labels = [entry.label for entry in result._joined.entries]
    groups = {name: dict.fromkeys(labels, figures) for name in names}
    monkeypatch.setattr(charts_more, "groups_by_label", lambda _joined: groups)
    ticks = result.plot_bias_by_group().axes[0].get_yticklabels()
    assert len(ticks) == len(names)


def test_a_notebook_shows_names_as_names(write_result: Callable[..., Path]) -> None:
    names = ["<script>alert(1)</script>", "</style><b>x", *(f"e{row}" for row in range(MAX_ROWS))]
    predicted = {name: AGES + 0.5 * at for at, name in enumerate(names)}
    joined = join([read_result(write_result(predicted=predicted))])
    shown = render_snippet(joined)
    assert "<script" not in shown
    assert shown.count("</style>") == 1
    assert "2 more estimators" in shown
    assert len(shown.encode()) < 200_000


def test_tables_hold_the_unrounded_figures(result: CompareResult) -> None:
    table = result.to_dataframe().set_index("estimator")
    for item in result.estimators:
        assert table.loc[item.name, "mae_years"] == _mae(result, item.name)
    ages = result.to_dataframe("predictions")
    assert len(ages) == 30 * 2
    for name, rows in ages.groupby("estimator"):
        errors = (rows["predicted_years"] - rows["true_years"]).abs()
        assert errors.mean() == pytest.approx(_mae(result, str(name)), abs=1e-9)
    assert list(ages["picture"][:2]) == [result.records[0].sample.name] * 2
    with pytest.raises(UsageError, match="expected rows="):
        result.to_dataframe("rows")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("library", "call"),
    [
        ("pandas", lambda result: result.to_dataframe()),
        ("matplotlib", lambda result: result.plot_ranking()),
    ],
)
def test_without_an_extra_the_sentence_says_which(
    library: str,
    call: Callable[[CompareResult], object],
    result: CompareResult,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'agebench\[notebook\]'"):
        call(result)


def test_every_figure_has_a_method_of_its_name(result: CompareResult) -> None:
    for name in charts.CHARTS:
        assert callable(getattr(result, f"plot_{name.replace('-', '_')}"))


def test_figures_show_the_figures(result: CompareResult) -> None:
    figure = result.plot_ranking()
    assert isinstance(figure, mpl_figure.Figure)
    (axes,) = figure.axes
    places = [np.asarray(line.get_xdata()) for line in axes.lines]
    assert [place[0] for place in places if len(place) == 1] == sorted(
        _mae(result, item.name) for item in result.estimators
    )
    (axes,) = result.plot_cumulative_scores().axes
    table = result.to_dataframe().set_index("estimator")
    for line in axes.lines:
        at_five = np.asarray(line.get_ydata())[np.asarray(line.get_xdata()) == 5]
        assert at_five == pytest.approx(100 * table["cs5"][str(line.get_label())])
    (axes,) = result.plot_error_against_latency(columns=1).axes
    (item,) = (item for item in result.estimators if item.name == "constant")
    median = float(np.median(item.latency["total"].samples_ms))
    points = [np.asarray(line.get_xydata()).tolist() for line in axes.lines]
    assert [[median, _mae(result, "constant")]] in points


@pytest.mark.parametrize("columns", [1, 2])
def test_figures_are_as_wide_as_columns(result: CompareResult, columns: Any) -> None:
    width = {1: 89, 2: 183}[columns]
    for name, figure in charts.charts(result._joined, columns):
        assert figure.get_figwidth() * 25.4 == pytest.approx(width), name
        assert 0.1 < figure.get_figheight() < 12, name


def test_a_figure_that_the_result_has_not_is_refused_in_a_sentence(result: CompareResult) -> None:
    with pytest.raises(AgebenchError, match="no estimator gives a distribution"):
        result.plot_calibration()
    with pytest.raises(UsageError, match="columns=1 or 2"):
        result.plot_ranking(columns=3)  # type: ignore[arg-type]


def test_names_in_figures_are_no_formulas(write_result: Callable[..., Path]) -> None:
    hostile = {r"$\frac{1$": AGES + 1, "\x1b[31m$x$": AGES + 2, "a_b^c": AGES + 3}
    joined = join([read_result(write_result(predicted=hostile))])
    for columns in (1, 2):
        for name, figure in charts.charts(joined, columns):
            text = charts.encoded(figure, "svg")
            ET.fromstring(text)  # noqa: S314 - our own
            assert b"<path" in text, name  # drawn, not only laid out
            assert b"\x1b" not in text, name


def test_the_same_figure_gives_the_same_bytes(result: CompareResult) -> None:
    for kind in charts.KINDS:
        first, second = (charts.encoded(result.plot_ranking(), kind, 50) for _ in range(2))
        assert first == second, kind


def test_saving_makes_its_folder(result: CompareResult, tmp_path: Path) -> None:
    path = result.save(tmp_path / "new" / "folder")
    assert json.loads(path.read_text(encoding="utf-8"))["counts"]["total"] == 30
    assert read_result(path).path == path
    (tmp_path / "file").write_text("")
    with pytest.raises(AgebenchError, match="can't be written to"):
        result.save(tmp_path / "file" / "below")


def test_the_report_goes_where_it_is_sent(result: CompareResult, tmp_path: Path) -> None:
    assert result.report(tmp_path / "a" / "b.html") == tmp_path / "a" / "b.html"
    assert result.report(tmp_path / "c") == tmp_path / "c" / "report.html"
    assert "<!DOCTYPE html>" in (tmp_path / "a" / "b.html").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match=r"ends in \.html"):
        result.report(tmp_path / "b.pdf")


def test_progress_is_drawn_where_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown_progress(no_progress) as step:
        assert step is no_progress
    silent = io.StringIO()
    monkeypatch.setattr(sys, "stderr", silent)
    with shown_progress(None) as step:
        step("accuracy", 1, 2)
    assert silent.getvalue() == ""


def test_a_notebook_has_bars_that_go_when_all_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    handle = SimpleNamespace(update=shown.append)
    shell = SimpleNamespace(kernel=object())
    display = SimpleNamespace(HTML=str, display=lambda *_, **__: handle)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    with shown_progress(None) as step:
        step("a<b", 1, 4)
        step("a<b", 4, 4)
    assert "a&lt;b <progress value='4' max='4'>" in shown[-2]
    assert shown[-1] == ""


def test_nothing_heavy_comes_with_the_name() -> None:
    """`import agebench` alone loads neither matplotlib nor pandas; nor does a comparison."""
    code = (
        "import sys; from agebench import compare, CompareResult; "
        "print(sorted({'matplotlib', 'pandas', 'IPython', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_shows(tmp_path: Path) -> None:
    """The example as a reader finds it, of fewer pictures: every cell, the same kinds of output."""
    pytest.importorskip("nbclient", reason="needs the extra 'dev'")
    pytest.importorskip("ipykernel", reason="needs the extra 'dev'")
    path = ROOT / "docs" / "notebook.ipynb"
    text = path.read_text(encoding="utf-8")
    stored, many, few = json.loads(text), "(latency_pictures=40)", "(latency_pictures=1, limit=20)"
    assert text.count(many) == 1
    (tmp_path / path.name).write_text(text.replace(many, few), encoding="utf-8")
    again = load_script("docs.run_notebook").run(tmp_path / path.name)
    for before, after in zip(stored["cells"], again.cells, strict=True):
        if before["cell_type"] == "code":
            assert before["outputs"], before["source"]
            kinds = [sorted(output["data"]) for output in before["outputs"]]
            assert [sorted(output["data"]) for output in after.outputs] == kinds


def test_a_cache_that_cannot_be_used_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AGEBENCH_DETECTIONS", str(tmp_path / "file" / "x"))
    quick = CompareSettings(limit=2, latency_pictures=0, decode_threads=0)
    with pytest.warns(UserWarning, match="faces are detected again") as warned:
        compare(["constant"], "sample", settings=quick, progress=no_progress)
    assert warned[0].filename == __file__
    compare(["constant"], "sample", settings=quick, progress=no_progress, fresh_detections=True)
