"""benchmarks/congress_list.py: bounds on ages from terms of office."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from agebench.registry.plugins import load_dataset
from tests.unit.scripts import load_script

PEOPLE = """\
- id: {icpsr: 101}
  bio: {birthday: '1950-06-15'}
  terms:
  - {start: '2003-01-07', end: '2005-01-03'}
  - {start: '1997-01-07', end: '1999-01-03'}
- id: {icpsr: 102}
  bio: {birthday: '1960-01-02'}
  terms: [{start: '2023-01-03', end: '2029-01-03'}]
- id: {icpsr: 103}
  bio: {birthday: '1930-01-01'}
  terms: [{start: '1970-01-03', end: '2013-01-03'}]
- id: {govtrack: 4}
  bio: {birthday: '1930-01-01'}
  terms: [{start: '2011-01-03', end: '2013-01-03'}]
"""
MEMBERS = """\
"name","icpsr","image"
"A","000101","images/000101.jpg"
"B","000102","images/000102.jpg"
"C","000103","images/000103.jpg"
"D","000104","images/000104.jpg"
"""


@pytest.fixture
def script() -> ModuleType:
    pytest.importorskip("yaml", reason="needs the extra 'docs'")
    return load_script("benchmarks.congress_list")


@pytest.mark.extra
def test_bounds_are_from_before_the_first_term_to_the_end_of_the_last(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "photos" / "images"
    images.mkdir(parents=True)
    for number in (101, 102, 103, 104):
        (images / f"{number:06}.jpg").touch()
    (tmp_path / "photos" / "members.csv").write_text(MEMBERS, encoding="utf-8")
    (tmp_path / "people.yaml").write_text(PEOPLE, encoding="utf-8")
    out = tmp_path / "lists" / "congress"
    arguments = ["congress_list", *map(str, (tmp_path / "photos", tmp_path / "people.yaml"))]
    monkeypatch.setattr("sys.argv", [*arguments, "-o", str(out)])
    script.main()

    found = load_dataset("csv low=low high=high identity=identity", out / "list.csv").samples
    assert [(item.identity, item.age_range) for item in found] == [
        # 46 on 1997-01-07, less a year; 54 on 2005-01-03.
        ("101", (45, 54)),
        # 63 on 2023-01-03, less a year; the term goes on: 65 when the photographs were collected.
        ("102", (62, 65)),
        # 103 served for 43 years, which says too little; of 104 nothing is known.
    ]
    assert all(item.path.is_file() for item in found)
