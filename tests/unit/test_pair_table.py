"""The table of pairs puts the better one first and turns its interval with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from agebench.harness.reading import read_result
from agebench.report.joining import join
from agebench.report.terminal_grids import full_grids, grid_table

Shown = Callable[..., str]


@pytest.fixture
def shown(make_result: Callable[..., dict[str, Any]], write_result: Callable[..., Path]) -> Shown:
    """Draw the pairs of a result whose only test says what is given."""
    ages = np.arange(1.0, 61.0)

    def show(**pair: Any) -> str:
        content = make_result({"one": ages + 1, "two[b]": ages + 2})
        content["analysis"]["pairs"] = [
            {
                "first": "one",
                "second": "two[b]",
                "n": 9,
                "interval": None,
                "p_value": None,
                "p_adjusted": None,
                "verdict": "no difference shown",
                **pair,
            }
        ]
        pairs = next(full_grids(join([read_result(write_result(content=content))])))
        console = Console(width=120)
        with console.capture() as capture:
            console.print(grid_table(pairs))
        return " ".join(capture.get().split())

    return show


def test_the_second_one_better(shown: Shown) -> None:
    text = shown(
        difference_years=1.5, interval=[0.5, 2.5], p_adjusted=0.0123, verdict="second better"
    )
    assert "Holm for 1)" in text
    assert "two[b] better than one │ -1.50 [-2.50, -0.50] │ 0.0123" in text


def test_the_first_one_better(shown: Shown) -> None:
    text = shown(
        difference_years=-1.5, interval=[-2.5, -0.5], p_adjusted=0.0123, verdict="first better"
    )
    assert "one better than two[b] │ -1.50 [-2.50, -0.50] │ 0.0123" in text


def test_nothingshown(shown: Shown) -> None:
    text = shown(difference_years=0.25)
    assert "Holm for 0)" in text
    assert "two[b] not shown to differ from one │ -0.25 │ -" in text
