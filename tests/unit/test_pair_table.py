"""The table of pairs puts the better one first and turns its interval with it."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from agebench.harness.contents_statistics import Analysis, AnalysisFacts, Pair
from agebench.harness.results import CompareResult, PictureCounts
from agebench.report.terminal_tables import pair_table
from agebench.util.typed_records import read_record


def _shown(**pair: Any) -> str:
    given = {
        "first": "one",
        "second": "two[b]",
        "n": 9,
        "interval": None,
        "p_value": None,
        "p_adjusted": None,
        "verdict": "no difference shown",
        **pair,
    }
    pairs = (read_record(given, Pair),)
    analysis = Analysis(settings=AnalysisFacts(), pairs=pairs, estimators={})
    result = CompareResult((), [], PictureCounts(9, 9, 0), None, {}, analysis)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(pair_table(result))
    return " ".join(capture.get().split())


def test_the_second_one_better() -> None:
    text = _shown(
        difference_years=1.5, interval=[0.5, 2.5], p_adjusted=0.0123, verdict="second better"
    )
    assert "two[b] better than one │ -1.50 [-2.50, -0.50] │ 0.0123" in text


def test_the_first_one_better() -> None:
    text = _shown(
        difference_years=-1.5, interval=[-2.5, -0.5], p_adjusted=0.0123, verdict="first better"
    )
    assert "one better than two[b] │ -1.50 [-2.50, -0.50] │ 0.0123" in text


def test_nothing_shown() -> None:
    text = _shown(difference_years=0.25)
    assert "two[b] not shown to differ from one │ -0.25 │ -" in text
