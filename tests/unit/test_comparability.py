"""Which results may stand in one ranking."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agebench.harness.comparability import Scored, comparable

BASE = Scored("utkface", "utkface-full", "test", "dex-estimated", "", "ab" * 32)


def test_equal_ones_may() -> None:
    assert comparable(BASE, replace(BASE)) == ""
    assert comparable(BASE, replace(BASE, content_sha256="")) == ""


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dataset": "fgnet"}, "fgnet"),
        ({"label_kind": "birth-age"}, "dates of birth"),
        ({"protocol": "utkface-21-60"}, "utkface-21-60/test"),
        ({"part": "val"}, "utkface-full/val"),
        ({"pictures": "random 100, seed 0"}, "random 100"),
        ({"content_sha256": "cd" * 32}, "copies of the data set differ"),
    ],
)
def test_others_may_not_and_the_reason_is_told(change: dict[str, Any], word: str) -> None:
    other = replace(BASE, **change)
    assert word in comparable(BASE, other)
    assert comparable(other, BASE)
